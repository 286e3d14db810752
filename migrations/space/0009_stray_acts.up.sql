-- Enrolments in the history of a forked log that is not held here, with what shows them
-- (docs/format/log.md). The roster is made of these as well.
CREATE TABLE stray_acts (
    act   INTEGER PRIMARY KEY,
    log   INTEGER NOT NULL REFERENCES logs (log),
    proof BLOB NOT NULL,
    body  BLOB NOT NULL
) STRICT;
