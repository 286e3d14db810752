-- How far the first entries of a log name the others, for some of them: what lies between two is
-- read from the headers. It follows from the entries, and is kept anew as more come.
DROP TABLE named;

CREATE TABLE named (
    log   INTEGER NOT NULL REFERENCES logs (log),
    size  INTEGER NOT NULL,
    named BLOB NOT NULL,
    PRIMARY KEY (log, size)
) STRICT, WITHOUT ROWID;
