DELETE FROM piece_names;
DELETE FROM pieces;
DROP TABLE fetched;
CREATE TABLE fetched (
    fetched    INTEGER PRIMARY KEY,
    snapshot   INTEGER NOT NULL REFERENCES snapshots (snapshot),
    object     BLOB NOT NULL CHECK (length(object) = 16),
    generation BLOB NOT NULL CHECK (length(generation) = 32),
    pieces     INTEGER NOT NULL,
    UNIQUE (snapshot, object, generation)
) STRICT;

DROP INDEX leaves_wanted;
ALTER TABLE leaves RENAME TO leaves_before;
CREATE TABLE leaves (
    snapshot   INTEGER NOT NULL REFERENCES snapshots (snapshot),
    object     BLOB NOT NULL CHECK (length(object) = 16),
    generation BLOB NOT NULL CHECK (length(generation) = 32),
    is_held    INTEGER NOT NULL,
    leaf       BLOB NOT NULL,
    PRIMARY KEY (snapshot, object, generation)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO leaves
    SELECT snapshot, object, generation, is_held, leaf FROM leaves_before;
DROP TABLE leaves_before;
CREATE INDEX leaves_wanted ON leaves (snapshot, object, generation) WHERE is_held = 0;

ALTER TABLE tombstones RENAME TO tombstones_before;
CREATE TABLE tombstones (
    object      BLOB PRIMARY KEY CHECK (length(object) = 16),
    collection  TEXT,
    clock_wall  INTEGER NOT NULL,
    clock_count INTEGER NOT NULL,
    device      BLOB NOT NULL CHECK (length(device) = 32),
    seq         INTEGER NOT NULL,
    idx         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO tombstones
    SELECT object, collection, clock_wall, clock_count, device, seq, idx FROM tombstones_before
    ORDER BY band;
DROP TABLE tombstones_before;

ALTER TABLE blobs DROP COLUMN band;
ALTER TABLE documents DROP COLUMN band;
