-- The snapshot that stands for the entries below its frontier (docs/format/log.md), and one that is
-- being received.
CREATE TABLE snapshots (
    snapshot INTEGER PRIMARY KEY,
    id       BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    state    INTEGER NOT NULL,
    act      BLOB NOT NULL,
    received BLOB NOT NULL
) STRICT;

-- `is_held` is 0 where the content is still wanted.
CREATE TABLE leaves (
    snapshot   INTEGER NOT NULL REFERENCES snapshots (snapshot),
    object     BLOB NOT NULL CHECK (length(object) = 16),
    generation BLOB NOT NULL CHECK (length(generation) = 32),
    is_held    INTEGER NOT NULL,
    leaf       BLOB NOT NULL,
    PRIMARY KEY (snapshot, object, generation)
) STRICT, WITHOUT ROWID;

CREATE INDEX leaves_wanted ON leaves (snapshot, object, generation) WHERE is_held = 0;

-- How far the first entries of a log name the others.
CREATE TABLE named (
    log   INTEGER PRIMARY KEY REFERENCES logs (log),
    named BLOB NOT NULL
) STRICT;
