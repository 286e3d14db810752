-- What happened that people ought to know of: a chain for each space on this device, and one of the
-- profile as a whole (scope is zeros). Events count from 1; the oldest go when there are too many.
CREATE TABLE security (
    scope     BLOB NOT NULL CHECK (length(scope) = 32),
    seq       INTEGER NOT NULL,
    event     BLOB NOT NULL,
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (scope, seq)
) STRICT, WITHOUT ROWID;

-- How often something happened that anybody can make happen again and again: an event is written
-- when the count doubles.
CREATE TABLE security_counts (
    scope   BLOB NOT NULL CHECK (length(scope) = 32),
    kind    INTEGER NOT NULL,
    device  BLOB NOT NULL CHECK (length(device) IN (0, 32)),
    detail  TEXT NOT NULL,
    count   INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (scope, kind, device, detail)
) STRICT, WITHOUT ROWID;
