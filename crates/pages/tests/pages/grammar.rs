//! Scripts of SQL from a seed: the same seed is the same script for ever.
//!
//! Nothing in a script depends on a clock, on randomness or on a path.

use std::fmt::Write;

/// Connections that a script uses.
pub(crate) const CONNECTIONS: usize = 2;

/// One thing that a connection does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Sql(usize, String),
    /// Reads from a blob through a handle, or writes this byte all over it.
    Blob {
        connection: usize,
        row: i64,
        offset: usize,
        write: Option<u8>,
    },
    Reopen(usize),
    /// All connections close without a checkpoint, so that the WAL is recovered.
    Leave,
    /// All pages as SQLite sees them, by `sqlite3_serialize`.
    Pages(usize),
}

/// `SplitMix64`, which is all that a test needs.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// The statements that set a database up, run on the first connection, and what follows.
pub(crate) fn script(seed: u64) -> (Vec<String>, Vec<Step>) {
    let mut rng = Rng::new(seed);
    let setup = schema(&mut rng);
    let length = 20 + rng.below(60);
    let mut steps = vec![Step::Sql(0, insert_items(&mut rng))];
    for _ in 0..length {
        steps.push(step(&mut rng));
    }
    for connection in 0..CONNECTIONS {
        steps.push(Step::Sql(connection, "COMMIT".to_owned()));
    }
    steps.push(Step::Sql(0, "PRAGMA integrity_check; PRAGMA foreign_key_check".to_owned()));
    steps.extend([Step::Pages(0), Step::Reopen(0), Step::Pages(0), Step::Leave, Step::Pages(1)]);
    (setup, steps)
}

fn schema(rng: &mut Rng) -> Vec<String> {
    let mut out = vec![
        format!(
            "PRAGMA auto_vacuum={}; VACUUM; PRAGMA recursive_triggers={}",
            rng.pick(&["NONE", "FULL", "INCREMENTAL"]),
            rng.pick(&["ON", "OFF"])
        ),
        format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY{}, a INT, b TEXT COLLATE {}, c REAL, d BLOB,
               size INT GENERATED ALWAYS AS (length(d)) {}, up TEXT AS (upper(b)),
               CHECK (a IS NULL OR a < 5000))",
            rng.pick(&["", " AUTOINCREMENT"]),
            rng.pick(&["BINARY", "NOCASE", "RTRIM"]),
            rng.pick(&["VIRTUAL", "STORED"])
        ),
        "CREATE TABLE pair (k TEXT, n INT, v, PRIMARY KEY (k, n DESC)) WITHOUT ROWID".to_owned(),
        format!(
            "CREATE TABLE child (id INTEGER PRIMARY KEY,
               item INT REFERENCES item ON DELETE {} ON UPDATE {} {}, note TEXT UNIQUE)",
            rng.pick(&["CASCADE", "SET NULL", "RESTRICT", "NO ACTION"]),
            rng.pick(&["CASCADE", "SET NULL", "NO ACTION"]),
            rng.pick(&["", "DEFERRABLE INITIALLY DEFERRED"])
        ),
        "CREATE TABLE log (what TEXT, old, new)".to_owned(),
        "CREATE TABLE firm (i INT PRIMARY KEY, t TEXT NOT NULL, x ANY) STRICT".to_owned(),
        format!(
            "CREATE TRIGGER guard BEFORE INSERT ON item WHEN new.a = 777
             BEGIN SELECT RAISE({}); END",
            rng.pick(&["ABORT, 'no'", "FAIL, 'no'", "ROLLBACK, 'no'", "IGNORE"])
        ),
        "CREATE VIEW v AS SELECT item.id, a, b, note FROM item LEFT JOIN child ON item = item.id"
            .to_owned(),
        "CREATE TRIGGER through INSTEAD OF INSERT ON v BEGIN
           INSERT INTO item (id, a, b) VALUES (new.id, new.a, new.b);
           INSERT INTO child (item, note) VALUES (new.id, new.note); END"
            .to_owned(),
        format!(
            "CREATE VIRTUAL TABLE words USING fts5(title, body{})",
            rng.pick(&["", ", content=''", ", prefix='2 3'", ", detail=none", ", columnsize=0"])
        ),
        "CREATE VIRTUAL TABLE place USING rtree(id, x0, x1, y0, y1)".to_owned(),
        "CREATE TABLE b.far (id INTEGER PRIMARY KEY, a UNIQUE, d)".to_owned(),
    ];
    for event in ["INSERT", "UPDATE", "DELETE"] {
        if rng.below(2) == 0 {
            let (old, new) = match event {
                "INSERT" => ("NULL", "new.b"),
                "UPDATE" => ("old.a", "new.a"),
                _ => ("old.b", "NULL"),
            };
            out.push(format!(
                "CREATE TRIGGER log_{event} AFTER {event} ON item
                 BEGIN INSERT INTO log VALUES ('{event}', {old}, {new}); END"
            ));
        }
    }
    out
}

fn step(rng: &mut Rng) -> Step {
    let connection = usize::from(rng.below(5) == 0);
    match rng.below(100) {
        0..=2 => Step::Reopen(connection),
        3..=4 => Step::Leave,
        5 => Step::Pages(connection),
        6..=11 => Step::Blob {
            connection,
            row: i64::try_from(rng.below(60)).unwrap(),
            offset: usize::try_from(rng.below(12_000)).unwrap(),
            write: (rng.below(2) == 0).then_some(7),
        },
        12..=25 => Step::Sql(connection, transaction(rng)),
        26..=34 => Step::Sql(connection, upkeep(rng)),
        35..=42 => Step::Sql(connection, definition(rng)),
        43..=62 => Step::Sql(connection, query(rng)),
        _ => Step::Sql(connection, change(rng)),
    }
}

fn transaction(rng: &mut Rng) -> String {
    rng.pick(&[
        "BEGIN",
        "BEGIN IMMEDIATE",
        "BEGIN EXCLUSIVE",
        "COMMIT",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "SAVEPOINT r",
        "RELEASE s",
        "RELEASE r",
        "ROLLBACK TO s",
        "ROLLBACK TO r",
    ])
    .to_owned()
}

fn upkeep(rng: &mut Rng) -> String {
    match rng.below(17) {
        0..=4 => format!(
            "PRAGMA {}wal_checkpoint({})",
            rng.pick(&["", "main.", "b."]),
            rng.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
        ),
        16 => "VACUUM b".to_owned(),
        5 => "VACUUM".to_owned(),
        6 => format!("PRAGMA auto_vacuum={}; VACUUM", rng.pick(&["NONE", "FULL", "INCREMENTAL"])),
        7..=8 => format!("PRAGMA incremental_vacuum({})", rng.below(30)),
        9 => "ANALYZE".to_owned(),
        10 => "REINDEX".to_owned(),
        11 => "PRAGMA optimize".to_owned(),
        12 => format!("PRAGMA cache_size={}", rng.pick(&[1, 5, 20, -2000])),
        13 => format!("PRAGMA cache_spill={}", rng.pick(&["OFF", "ON", "1", "20"])),
        14 => format!(
            "PRAGMA secure_delete={}; PRAGMA user_version={}",
            rng.pick(&["OFF", "ON", "FAST"]),
            rng.below(9)
        ),
        _ => format!(
            "INSERT INTO words(words{}",
            rng.pick(&[
                ") VALUES ('optimize')",
                ") VALUES ('rebuild')",
                ") VALUES ('integrity-check')",
                ") VALUES ('delete-all')",
                ", rank) VALUES ('merge', -16)",
                ", rank) VALUES ('secure-delete', 1)",
                ", rank) VALUES ('pgsz', 200)",
            ])
        ),
    }
}

fn definition(rng: &mut Rng) -> String {
    let statements = [
        "CREATE INDEX IF NOT EXISTS i1 ON item (a, b)",
        "CREATE INDEX IF NOT EXISTS i2 ON item (b) WHERE a > 300",
        "CREATE INDEX IF NOT EXISTS i3 ON item (length(b), a DESC)",
        "CREATE INDEX IF NOT EXISTS i4 ON item (d)",
        "CREATE UNIQUE INDEX IF NOT EXISTS i5 ON pair (v)",
        "CREATE INDEX IF NOT EXISTS i6 ON child (item)",
        "DROP INDEX IF EXISTS i1",
        "DROP INDEX IF EXISTS i2",
        "DROP INDEX IF EXISTS i3",
        "DROP INDEX IF EXISTS i4",
        "DROP INDEX IF EXISTS i5",
        "CREATE TABLE IF NOT EXISTS made AS SELECT a, b, d FROM item",
        "CREATE TABLE made AS WITH x AS MATERIALIZED (SELECT * FROM item) SELECT * FROM x, x AS y
           WHERE x.id = y.id + 1",
        "DROP TABLE IF EXISTS made",
        "ALTER TABLE made ADD COLUMN extra DEFAULT 'later'",
        "ALTER TABLE made DROP COLUMN b",
        "ALTER TABLE made RENAME COLUMN a TO z",
        "ALTER TABLE log RENAME TO log2; ALTER TABLE log2 RENAME TO log",
        "CREATE TEMP TABLE IF NOT EXISTS aside AS SELECT * FROM item ORDER BY d",
        "CREATE INDEX IF NOT EXISTS temp.t1 ON aside (b, a)",
        "CREATE TEMP TRIGGER IF NOT EXISTS tt AFTER DELETE ON main.item
           BEGIN INSERT INTO log VALUES ('temp', old.id, NULL); END",
        "DROP TABLE IF EXISTS temp.aside",
        "DROP TABLE pair",
        "CREATE TABLE IF NOT EXISTS pair (k TEXT, n INT, v, PRIMARY KEY (k, n)) WITHOUT ROWID",
        "DROP TABLE log; CREATE TABLE log (what TEXT, old, new)",
    ];
    rng.pick(&statements).to_owned()
}

fn query(rng: &mut Rng) -> String {
    let n = rng.below(1000);
    match rng.below(17) {
        16 => "SELECT far.id, far.a, length(far.d), item.b FROM b.far LEFT JOIN item USING (id)"
            .to_owned(),
        0 => "SELECT id, a, b, c, length(d), size, up FROM item ORDER BY b DESC, id".to_owned(),
        1 => format!("SELECT * FROM item WHERE a BETWEEN {n} AND {n} + 50"),
        2 => "SELECT b, count(*), sum(a), avg(c), max(d), group_concat(a) FROM item GROUP BY 1"
            .to_owned(),
        3 => "SELECT * FROM v ORDER BY note NULLS LAST, id LIMIT 40".to_owned(),
        4 => "SELECT x.id, y.id FROM item x JOIN item y ON x.b = y.b AND x.id < y.id LIMIT 99"
            .to_owned(),
        5 => "SELECT a, row_number() OVER w, sum(a) OVER (w ROWS 2 PRECEDING), lag(b, 2) OVER w
              FROM item WINDOW w AS (PARTITION BY a % 3 ORDER BY c, id)"
            .to_owned(),
        6 => "WITH RECURSIVE c(i, t) AS (SELECT 1, 'x' UNION ALL SELECT i + 1, t || i FROM c
                WHERE i < 60) SELECT i, length(t) FROM c ORDER BY t DESC"
            .to_owned(),
        7 => format!("SELECT * FROM pair WHERE k >= 'k{n}' ORDER BY v, k LIMIT 50"),
        8 => format!("SELECT rowid FROM words WHERE words MATCH 'w{}' ORDER BY rank", n % 20),
        9 => format!("SELECT id FROM place WHERE x0 > {n} AND y1 < {} ORDER BY 1", n + 400),
        10 => "SELECT pageno, name, path, pagetype, ncell, payload, unused FROM dbstat".to_owned(),
        11 => "PRAGMA page_count; PRAGMA freelist_count; PRAGMA data_version".to_owned(),
        12 => "SELECT * FROM log UNION SELECT b, a, c FROM item EXCEPT SELECT k, n, v FROM pair"
            .to_owned(),
        13 => {
            "SELECT hex(substr(d, 4000, 40)), typeof(c), json_array(a, b, c) FROM item".to_owned()
        }
        14 => "SELECT * FROM temp.aside ORDER BY 3, 1".to_owned(),
        _ => "PRAGMA quick_check".to_owned(),
    }
}

fn change(rng: &mut Rng) -> String {
    let or = rng.pick(&["", "", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT", "OR ROLLBACK"]);
    let (n, m) = (rng.below(1000), rng.below(60));
    match rng.below(23) {
        0..=4 => insert_items(rng),
        20 => format!("INSERT {or} INTO b.far SELECT id + {m}, a, d FROM item WHERE id % 3 = 0"),
        21 => format!("DELETE FROM b.far WHERE id % 4 = {}; UPDATE b.far SET d = d || 'x'", m % 4),
        22 => format!(
            "BEGIN; UPDATE b.far SET a = a + {n}; DELETE FROM item WHERE id IN
               (SELECT id FROM b.far WHERE id % 5 = {}); COMMIT",
            m % 5
        ),
        5 => format!("UPDATE {or} item SET a = a + 10, b = b || '{n}' WHERE a > {n}"),
        6 => format!("UPDATE {or} item SET id = id + {m} WHERE id % 3 = 0"),
        7 => format!("UPDATE item SET d = zeroblob({n} * 20) WHERE id % 7 = {}", m % 7),
        8 => format!("UPDATE item SET d = d || d WHERE size < 9000 AND id % 5 = {}", m % 5),
        9 => format!("DELETE FROM item WHERE id % 4 = {} RETURNING id, up", m % 4),
        10 => format!("DELETE FROM item WHERE a > {n} AND id IN (SELECT item FROM child)"),
        11 => format!(
            "INSERT {or} INTO pair WITH RECURSIVE n(i) AS (SELECT {n} UNION ALL SELECT i + 1
               FROM n WHERE i < {n} + {m}) SELECT 'k' || i % 77, i * 7, i || 'v' FROM n"
        ),
        12 => format!(
            "INSERT INTO pair VALUES ('k{m}', {n}, 1), ('k{n}', {m}, {n}) ON CONFLICT (k, n)
             DO UPDATE SET v = v || excluded.v WHERE v IS NOT NULL RETURNING *"
        ),
        13 => format!("DELETE FROM pair WHERE n % 5 = {}", m % 5),
        14 => format!(
            "INSERT {or} INTO child (item, note) SELECT id, 'n' || id % {} FROM item
             WHERE id > {n} % 50",
            m + 20
        ),
        15 => format!("INSERT INTO v VALUES ({n}, {m}, 'through', 'note {n}')"),
        16 => format!("INSERT {or} INTO firm VALUES ({m}, 't{n}', x'00ff'), ({n}, {m}, NULL)"),
        17 => format!(
            "INSERT INTO words (rowid, title, body) WITH RECURSIVE n(i) AS
               (SELECT {n} UNION ALL SELECT i + 1 FROM n WHERE i < {n} + {m})
             SELECT i, 't' || i, 'w' || i % 20 || ' w' || i % 13 || ' of ' || i FROM n"
        ),
        18 => format!("DELETE FROM words WHERE rowid % 3 = {}", m % 3),
        _ => format!(
            "INSERT {or} INTO place WITH RECURSIVE n(i) AS (SELECT {m} UNION ALL SELECT i + 1
               FROM n WHERE i < {m} + 30) SELECT i, i * 7 % 500, i * 7 % 500 + 9, i, i + {n} FROM n"
        ),
    }
}

/// Rows with anything from nothing to a chain of overflow pages.
fn insert_items(rng: &mut Rng) -> String {
    let or = rng.pick(&["", "", "", "OR IGNORE", "OR REPLACE", "OR FAIL", "OR ABORT"]);
    let (rows, size) = rng.pick(&[(1, 90_000), (3, 30_000), (12, 5000), (30, 900), (80, 60)]);
    let from = rng.below(400);
    let mut sql = format!(
        "INSERT {or} INTO item (a, b, c, d) WITH RECURSIVE n(i) AS
           (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {from} + {rows})
         SELECT i * 7919 % 1000, 'B' || i % 17, i / 7.0,
           CAST(substr(replace(hex(zeroblob({size})), '00', 'x' || i), 1, {size} - i) AS BLOB)
         FROM n"
    );
    if rng.below(6) == 0 {
        // Fails midway, after rows that are to be taken back.
        write!(sql, " UNION ALL SELECT 9999, 'too much', 0, x''").unwrap();
    }
    sql
}
