-- How sensitive a document is (docs/format/log.md): 0 GREEN, 1 AMBER, 2 RED. What is of another band
-- is another object, whatever its id.
ALTER TABLE documents ADD COLUMN band INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blobs ADD COLUMN band INTEGER NOT NULL DEFAULT 0;

ALTER TABLE tombstones RENAME TO tombstones_before;
CREATE TABLE tombstones (
    object      BLOB NOT NULL CHECK (length(object) = 16),
    band        INTEGER NOT NULL,
    collection  TEXT,
    clock_wall  INTEGER NOT NULL,
    clock_count INTEGER NOT NULL,
    device      BLOB NOT NULL CHECK (length(device) = 32),
    seq         INTEGER NOT NULL,
    idx         INTEGER NOT NULL,
    PRIMARY KEY (object, band)
) STRICT, WITHOUT ROWID;
INSERT INTO tombstones
    SELECT object, 0, collection, clock_wall, clock_count, device, seq, idx FROM tombstones_before;
DROP TABLE tombstones_before;

DROP INDEX leaves_wanted;
ALTER TABLE leaves RENAME TO leaves_before;
CREATE TABLE leaves (
    snapshot   INTEGER NOT NULL REFERENCES snapshots (snapshot),
    band       INTEGER NOT NULL,
    object     BLOB NOT NULL CHECK (length(object) = 16),
    generation BLOB NOT NULL CHECK (length(generation) = 32),
    is_held    INTEGER NOT NULL,
    leaf       BLOB NOT NULL,
    PRIMARY KEY (snapshot, band, object, generation)
) STRICT, WITHOUT ROWID;
INSERT INTO leaves SELECT snapshot, 0, object, generation, is_held, leaf FROM leaves_before;
DROP TABLE leaves_before;
CREATE INDEX leaves_wanted ON leaves (snapshot, band, object, generation) WHERE is_held = 0;

-- What had begun to come in comes in anew.
DELETE FROM piece_names;
DELETE FROM pieces;
DROP TABLE fetched;
CREATE TABLE fetched (
    fetched    INTEGER PRIMARY KEY,
    snapshot   INTEGER NOT NULL REFERENCES snapshots (snapshot),
    band       INTEGER NOT NULL,
    object     BLOB NOT NULL CHECK (length(object) = 16),
    generation BLOB NOT NULL CHECK (length(generation) = 32),
    pieces     INTEGER NOT NULL,
    UNIQUE (snapshot, band, object, generation)
) STRICT;
