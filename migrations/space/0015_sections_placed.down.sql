ALTER TABLE entries RENAME TO entries_after;
ALTER TABLE sections RENAME TO sections_after;

-- `nodes`: the hashes of the perfect subtrees that end with this entry, from level 1 up. Level 0 is
-- `hash`. The header comes last, so that reading the rest follows no overflow chain.
CREATE TABLE entries (
    log      INTEGER NOT NULL REFERENCES logs (log),
    seq      INTEGER NOT NULL CHECK (seq > 0),
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    position INTEGER NOT NULL,
    nodes    BLOB NOT NULL CHECK (length(nodes) % 32 = 0),
    header   BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;

-- With a rowid, so that large payloads stay off the pages of the index. The payloads come last, so
-- that reading the columns before them follows no overflow chain.
CREATE TABLE sections (
    section     INTEGER PRIMARY KEY,
    log         INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    idx         INTEGER NOT NULL CHECK (idx >= 0),
    state       INTEGER NOT NULL,
    object      BLOB CHECK (length(object) = 16),
    kind        INTEGER,
    clock_wall  INTEGER,
    clock_count INTEGER,
    commitment  BLOB NOT NULL,
    sealed      BLOB,
    opened      BLOB,
    UNIQUE (log, seq, idx)
) STRICT;

INSERT INTO entries SELECT log, seq, hash, position, nodes, header FROM entries_after;
INSERT INTO sections SELECT * FROM sections_after;

DROP TABLE entries_after;
DROP TABLE sections_after;

CREATE INDEX sections_object ON sections (object, section) WHERE object IS NOT NULL;
CREATE INDEX sections_pending ON sections (state, section) WHERE state IN (0, 1);
