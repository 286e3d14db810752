-- Acts that erase an object, in the order in which they came: `state` says whether one counts, and
-- whether nothing of what it erases is on this device's disk any more.
CREATE TABLE erasures (
    erasure INTEGER PRIMARY KEY,
    log     INTEGER NOT NULL REFERENCES logs (log),
    seq     INTEGER NOT NULL CHECK (seq > 0),
    idx     INTEGER NOT NULL CHECK (idx >= 0),
    entry   BLOB NOT NULL CHECK (length(entry) = 32),
    object  BLOB NOT NULL CHECK (length(object) = 16),
    state   INTEGER NOT NULL,
    UNIQUE (log, seq, idx)
) STRICT;

CREATE INDEX erasures_object ON erasures (object, erasure);
CREATE INDEX erasures_open ON erasures (erasure) WHERE state = 1;
