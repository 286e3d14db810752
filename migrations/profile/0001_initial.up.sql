-- One installation: its settings, its transport key, the spaces it belongs to, the peers it knows.

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys of the profile itself, wrapped.
CREATE TABLE keys (
    name    TEXT PRIMARY KEY,
    wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- (mirror_seq, mirror_root) is the own log's end as it was after some late commit: a space file
-- that is behind it was rolled back.
CREATE TABLE spaces (
    space       BLOB PRIMARY KEY CHECK (length(space) = 32),
    name        TEXT NOT NULL UNIQUE,
    file        TEXT NOT NULL UNIQUE,
    wrapped_key BLOB NOT NULL,
    device      BLOB NOT NULL CHECK (length(device) = 32),
    created_at  INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    mirror_seq  INTEGER NOT NULL DEFAULT 0,
    mirror_root BLOB CHECK (length(mirror_root) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE peers (
    transport BLOB PRIMARY KEY CHECK (length(transport) = 32),
    label     TEXT NOT NULL,
    addresses TEXT NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Offers taken up by this device and not finished yet: what it takes to go on after a cut.
CREATE TABLE joining (
    id         BLOB PRIMARY KEY CHECK (length(id) = 32),
    space      BLOB NOT NULL CHECK (length(space) = 32),
    wrapped    BLOB NOT NULL,
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
