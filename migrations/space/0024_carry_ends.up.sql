-- How far the edits of each document of an old copy were made again in this device's log (decision
-- 0047): by the old file, and the document's id, band and creation there. Where it is now (nothing:
-- it is gone), the last change that was made again, and the version that it came to here, in CBOR.
CREATE TABLE carry_ends (
    file       TEXT NOT NULL,
    object     BLOB NOT NULL CHECK (length(object) = 16),
    band       INTEGER NOT NULL,
    generation BLOB NOT NULL CHECK (length(generation) = 32),
    at         BLOB CHECK (length(at) = 16),
    old        BLOB NOT NULL,
    new        BLOB NOT NULL,
    PRIMARY KEY (file, object, band, generation)
) STRICT, WITHOUT ROWID;

-- Of a unit that this device wrote before it got new keys: in which log. The others are in its own.
ALTER TABLE units ADD COLUMN log INTEGER REFERENCES logs (log);
CREATE INDEX units_of_entry ON units (seq);
