-- The inner nodes of the tree stand with the entry that completes them, and each entry says which
-- transaction it is of. So a commit writes neither a table of nodes nor an index of transactions.
ALTER TABLE entries RENAME TO entries_before;
ALTER TABLE transactions RENAME TO transactions_before;

-- `nodes`: the hashes of the perfect subtrees that end with this entry, from level 1 up. Level 0 is
-- `hash`. The header comes last, so that reading the rest follows no overflow chain.
CREATE TABLE entries (
    log      INTEGER NOT NULL REFERENCES logs (log),
    seq      INTEGER NOT NULL CHECK (seq > 0),
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    position INTEGER NOT NULL,
    nodes    BLOB NOT NULL CHECK (length(nodes) % 32 = 0),
    header   BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;

-- The order in which transactions were applied here, which is a causal order. Rows are never
-- deleted, so that `position` ascends without AUTOINCREMENT and the write that this costs.
CREATE TABLE transactions (
    position  INTEGER PRIMARY KEY,
    log       INTEGER NOT NULL REFERENCES logs (log),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq  INTEGER NOT NULL CHECK (last_seq >= first_seq),
    signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;

INSERT INTO transactions SELECT * FROM transactions_before;

-- The nodes that end with an entry, one behind the other, for each level that they reach: a table, so
-- that they are looked up and not gone through for each entry. Text, until it is cast, is the same
-- bytes.
CREATE TABLE columns_of_nodes (
    log   INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    level INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (log, seq, level)
) STRICT, WITHOUT ROWID;

WITH RECURSIVE whole (log, seq, level, bytes) AS (
    SELECT log, (idx + 1) << 1, 1, hash FROM nodes WHERE level = 1
    UNION ALL
    SELECT w.log, w.seq, n.level, CAST(w.bytes || n.hash AS BLOB)
        FROM whole w CROSS JOIN nodes n
            ON n.log = w.log AND n.level = w.level + 1 AND n.idx = (w.seq >> (w.level + 1)) - 1
        WHERE w.seq % (1 << (w.level + 1)) = 0
)
INSERT INTO columns_of_nodes SELECT log, seq, level, bytes FROM whole;

INSERT INTO entries SELECT e.log, e.seq, e.hash,
        (SELECT position FROM transactions_before t
            WHERE t.log = e.log AND t.last_seq >= e.seq ORDER BY t.last_seq LIMIT 1),
        coalesce(
            (SELECT bytes FROM columns_of_nodes c WHERE c.log = e.log AND c.seq = e.seq
                ORDER BY level DESC LIMIT 1),
            x''),
        e.header
    FROM entries_before e;

DROP TABLE columns_of_nodes;
DROP TABLE entries_before;
DROP TABLE transactions_before;
DROP TABLE nodes;
