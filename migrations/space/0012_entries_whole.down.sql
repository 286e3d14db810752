ALTER TABLE entries RENAME TO entries_after;
ALTER TABLE transactions RENAME TO transactions_after;

CREATE TABLE entries (
    log    INTEGER NOT NULL REFERENCES logs (log),
    seq    INTEGER NOT NULL CHECK (seq > 0),
    hash   BLOB NOT NULL CHECK (length(hash) = 32),
    header BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;

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

INSERT INTO entries SELECT log, seq, hash, header FROM entries_after;
INSERT INTO transactions SELECT * FROM transactions_after;
WITH RECURSIVE levels (level) AS (
    SELECT 1 UNION ALL SELECT level + 1 FROM levels WHERE level < 62
)
INSERT INTO nodes SELECT log, level, (seq >> level) - 1, substr(nodes, level * 32 - 31, 32)
    FROM entries_after JOIN levels ON level * 32 <= length(nodes);

DROP TABLE entries_after;
DROP TABLE transactions_after;
