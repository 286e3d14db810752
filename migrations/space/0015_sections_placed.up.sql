-- An entry says which of the sections are its own, which are numbered one behind the other. So a
-- commit writes no index of sections by their place.
ALTER TABLE entries RENAME TO entries_before;
ALTER TABLE sections RENAME TO sections_before;

-- `nodes`: the hashes of the perfect subtrees that end with this entry, from level 1 up. Level 0 is
-- `hash`. Its sections are numbered from `section` on, which is 0 if it has none. The header comes
-- last, so that reading the rest follows no overflow chain.
CREATE TABLE entries (
    log      INTEGER NOT NULL REFERENCES logs (log),
    seq      INTEGER NOT NULL CHECK (seq > 0),
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    position INTEGER NOT NULL,
    section  INTEGER NOT NULL,
    sections INTEGER NOT NULL CHECK (sections >= 0),
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
    opened      BLOB
) STRICT;

INSERT INTO entries SELECT e.log, e.seq, e.hash, e.position,
        coalesce((SELECT section FROM sections_before s
            WHERE s.log = e.log AND s.seq = e.seq AND s.idx = 0), 0),
        (SELECT count(*) FROM sections_before s WHERE s.log = e.log AND s.seq = e.seq),
        e.nodes, e.header
    FROM entries_before e;
INSERT INTO sections SELECT * FROM sections_before;

DROP TABLE entries_before;
DROP TABLE sections_before;

CREATE INDEX sections_object ON sections (object, section) WHERE object IS NOT NULL;
CREATE INDEX sections_pending ON sections (state, section) WHERE state IN (0, 1);
