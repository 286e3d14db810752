-- One space: its logs, what was opened of them, and the secrets to open more.

CREATE TABLE space (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The devices' logs. `log` is a short local name for a device, never sent.
CREATE TABLE logs (
    log      INTEGER PRIMARY KEY,
    device   BLOB NOT NULL UNIQUE CHECK (length(device) = 32),
    size     INTEGER NOT NULL CHECK (size >= 0),
    frontier BLOB NOT NULL,
    stopped  BLOB
) STRICT;

CREATE TABLE entries (
    log    INTEGER NOT NULL REFERENCES logs (log),
    seq    INTEGER NOT NULL CHECK (seq > 0),
    hash   BLOB NOT NULL CHECK (length(hash) = 32),
    header BLOB NOT NULL,
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
    opened      BLOB,
    UNIQUE (log, seq, idx)
) STRICT;

CREATE INDEX sections_object ON sections (object, section) WHERE object IS NOT NULL;
CREATE INDEX sections_pending ON sections (state, section) WHERE state IN (0, 1);

-- Inner nodes of the logs' Merkle trees: perfect subtrees only. Level 0 is entries.hash.
CREATE TABLE nodes (
    log   INTEGER NOT NULL,
    level INTEGER NOT NULL CHECK (level > 0),
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (log, level, idx)
) STRICT, WITHOUT ROWID;

-- The order in which transactions were applied here, which is a causal order. Rows are never
-- deleted, so that `position` ascends without AUTOINCREMENT and the write that this costs.
CREATE TABLE transactions (
    position  INTEGER PRIMARY KEY,
    log       INTEGER NOT NULL REFERENCES logs (log),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq  INTEGER NOT NULL CHECK (last_seq >= first_seq),
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    UNIQUE (log, last_seq)
) STRICT;

-- Live documents only. `automerge` comes last and is not read to read `json`.
CREATE TABLE documents (
    document      INTEGER PRIMARY KEY,
    object        BLOB NOT NULL UNIQUE CHECK (length(object) = 16),
    collection    TEXT NOT NULL,
    generation    BLOB NOT NULL CHECK (length(generation) = 32),
    created_log   INTEGER NOT NULL,
    created_seq   INTEGER NOT NULL,
    created_wall  INTEGER NOT NULL,
    created_count INTEGER NOT NULL,
    updated_log   INTEGER NOT NULL,
    updated_seq   INTEGER NOT NULL,
    updated_wall  INTEGER NOT NULL,
    updated_count INTEGER NOT NULL,
    heads         BLOB NOT NULL,
    json          TEXT NOT NULL,
    automerge     BLOB,
    path          TEXT AS (
        CASE json_type(json, '$.path') WHEN 'text' THEN json_extract(json, '$.path') END
    ) VIRTUAL
) STRICT;

CREATE INDEX documents_collection ON documents (collection, document);
CREATE INDEX documents_path ON documents (collection, path) WHERE path IS NOT NULL;

-- Deleted objects. Of concurrent deletions every device keeps the same one: the first by
-- (clock, device, seq).
CREATE TABLE tombstones (
    object      BLOB PRIMARY KEY CHECK (length(object) = 16),
    collection  TEXT,
    clock_wall  INTEGER NOT NULL,
    clock_count INTEGER NOT NULL,
    device      BLOB NOT NULL CHECK (length(device) = 32),
    seq         INTEGER NOT NULL,
    idx         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Units of work of this device that had an idempotency key.
CREATE TABLE units (
    key    BLOB PRIMARY KEY CHECK (length(key) = 16),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    seq    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The largest tree that each device says it holds of each log.
CREATE TABLE acks (
    acker     BLOB NOT NULL CHECK (length(acker) = 32),
    device    BLOB NOT NULL CHECK (length(device) = 32),
    size      INTEGER NOT NULL,
    root      BLOB NOT NULL CHECK (length(root) = 32),
    time_s    INTEGER NOT NULL,
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (acker, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE epochs (
    epoch   BLOB PRIMARY KEY CHECK (length(epoch) = 32),
    opener  BLOB NOT NULL CHECK (length(opener) = 32),
    act     BLOB NOT NULL,
    wrapped BLOB
) STRICT;

-- Opened CONTROL sections in the order in which they were applied: what the roster is made from.
CREATE TABLE acts (
    act  INTEGER PRIMARY KEY,
    log  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    idx  INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (log, seq, idx)
) STRICT;

-- Own keys and the control secret, wrapped under a key that is not in this file.
CREATE TABLE secrets (
    name    TEXT PRIMARY KEY,
    wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;
