-- Up to which transaction this device had come when it was this time, in milliseconds, by the higher
-- of its own clock and another device's: what is older by this is old by both.
CREATE TABLE retention_marks (
    time     INTEGER PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;
