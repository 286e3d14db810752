-- Documents of a snapshot that come in piece by piece (docs/format/wire.md): how many pieces of
-- each are here.
CREATE TABLE fetched (
    fetched    INTEGER PRIMARY KEY,
    snapshot   INTEGER NOT NULL REFERENCES snapshots (snapshot),
    object     BLOB NOT NULL CHECK (length(object) = 16),
    generation BLOB NOT NULL CHECK (length(generation) = 32),
    pieces     INTEGER NOT NULL,
    UNIQUE (snapshot, object, generation)
) STRICT;

CREATE TABLE pieces (
    fetched INTEGER NOT NULL REFERENCES fetched (fetched),
    piece   INTEGER NOT NULL,
    bytes   BLOB NOT NULL,
    PRIMARY KEY (fetched, piece)
) STRICT, WITHOUT ROWID;

-- The changes that its heads and the pieces that are here name. `is_here` is 0 where one is still
-- to come.
CREATE TABLE piece_names (
    fetched INTEGER NOT NULL REFERENCES fetched (fetched),
    hash    BLOB NOT NULL CHECK (length(hash) = 32),
    is_here INTEGER NOT NULL,
    PRIMARY KEY (fetched, hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX piece_names_open ON piece_names (fetched, hash) WHERE is_here = 0;
