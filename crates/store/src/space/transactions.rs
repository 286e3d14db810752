//! Transactions: the runs of entries that one checkpoint covers, in the order in which they were
//! applied here. A peer is sent what it lacks by walking them.

use std::collections::HashMap;

use larder_log::merkle::Frontier;
use larder_log::{Batch, BatchEntry, Payload, SectionCommitment, VerifiedBatch};
use larder_types::DeviceId;
use rusqlite::{Connection, Row, params};

use crate::error::{Part, StoreError};
use crate::space::entries::{self, NewEntry};
use crate::space::logs::{self, LogId};
use crate::space::sections::{self, About, NewSection, Place, State};
use crate::sql::{Uint, cached, execute, first, one};

const PART: &str = "transactions";

/// A transaction of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// Its place in the order in which transactions were applied here; from 1.
    pub position: i64,
    /// The log.
    pub log: LogId,
    /// Its first entry.
    pub first_seq: u64,
    /// Its last entry, and so the checkpoint's size.
    pub last_seq: u64,
    /// The checkpoint's signature.
    pub signature: [u8; 64],
}

/// By an entry of it.
const COLUMNS: &str = "SELECT t.position, t.log, t.first_seq, t.last_seq, t.signature
    FROM entries e CROSS JOIN transactions t ON t.position = e.position";

fn row(row: &Row<'_>) -> rusqlite::Result<Transaction> {
    Ok(Transaction {
        position: row.get(0)?,
        log: row.get(1)?,
        first_seq: row.get::<_, Uint>(2)?.0,
        last_seq: row.get::<_, Uint>(3)?.0,
        signature: row.get(4)?,
    })
}

/// What the next transaction and the next section are numbered. Of use until either is recorded by
/// anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub(crate) position: i64,
    pub(crate) section: i64,
}

/// What comes next. Asked once for all entries of a transaction.
///
/// # Errors
/// [`StoreError::Read`] of `transactions`.
pub fn next(conn: &Connection) -> Result<Next, StoreError> {
    let sql = "SELECT 1 + (SELECT coalesce(max(position), 0) FROM transactions),
                   1 + (SELECT coalesce(max(section), 0) FROM sections)";
    one(conn, PART, sql, [], |row| Ok(Next { position: row.get(0)?, section: row.get(1)? }))
}

/// Records that the entries from `first_seq` on, inserted before, are one transaction, and that the
/// log ends behind them, in `frontier`. Returns the transaction's position.
///
/// # Errors
/// [`StoreError::Misuse`] if it does not follow on the log's last one, or the entries held do not
/// end where the frontier does; [`StoreError::Write`] of `logs` or `transactions`.
pub fn append(
    conn: &Connection,
    log: LogId,
    first_seq: u64,
    frontier: &Frontier,
    signature: &[u8; 64],
) -> Result<i64, StoreError> {
    let sql = "SELECT
                   coalesce((SELECT t.last_seq
                       FROM entries e CROSS JOIN transactions t ON t.position = e.position
                       WHERE e.log = ?1 AND e.seq = ?2 - 1), 0),
                   (SELECT position FROM entries WHERE log = ?1 AND seq = ?2)
                       > (SELECT coalesce(max(position), 0) FROM transactions),
                   (SELECT coalesce(max(seq), 0) FROM entries WHERE log = ?1)";
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (before, is_next, last): (Uint, Option<bool>, Uint) =
        one(conn, PART, sql, params![log, Uint(first_seq)], row)?;
    if before.0.checked_add(1) != Some(first_seq) {
        let what = format!("entry {first_seq} does not follow on entry {}", before.0);
        return Err(StoreError::Misuse { part: PART, what });
    }
    if is_next != Some(true) {
        let what = format!("entry {first_seq} was inserted before another transaction ended");
        return Err(StoreError::Misuse { part: PART, what });
    }
    if last.0 != frontier.size() {
        let what = format!("a frontier of {} entries, where {} are", frontier.size(), last.0);
        return Err(StoreError::Misuse { part: PART, what });
    }
    logs::set_frontier(conn, log, frontier)?;
    let sql = "INSERT INTO transactions (log, first_seq, last_seq, signature)
               VALUES (?1, ?2, ?3, ?4)";
    let params = params![log, Uint(first_seq), last, signature];
    // Not RETURNING: a row comes before the statement's end, where foreign keys are checked.
    conn.prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map(|_| conn.last_insert_rowid())
        .writing(PART)
}

/// Writes a verified batch whole: its entries with their sections and nodes, the log's new end, and
/// the transaction. Returns the transaction's position.
///
/// `settled` says what became of each section so far, and what opening it told; without an opinion
/// use [`State::unopened`].
///
/// # Errors
/// [`StoreError::Write`] of `entries`, `sections`, `logs` or `transactions`;
/// [`StoreError::Misuse`] if the batch does not follow on the log's end.
pub fn store(
    conn: &Connection,
    log: LogId,
    batch: &Batch,
    verified: &VerifiedBatch,
    mut settled: impl FnMut(Place, &Payload) -> (State, Option<About>),
) -> Result<i64, StoreError> {
    let mut next = next(conn)?;
    for (((entry, verified), nodes), seq) in batch
        .entries
        .iter()
        .zip(&verified.entries)
        .zip(verified.nodes_by_entry())
        .zip(batch.first_seq..)
    {
        let mut sections = Vec::with_capacity(entry.payloads.len());
        for ((commitment, payload), index) in entry.commitments.iter().zip(&entry.payloads).zip(0..)
        {
            let (state, about) = settled(Place { log, seq, index }, payload);
            sections.push(NewSection { commitment, payload, state, about });
        }
        let (hash, header) = (&verified.hash, entry.header.as_slice());
        let new = NewEntry { seq, hash, header, nodes, sections: &sections };
        entries::insert(conn, log, &mut next, &new)?;
    }
    append(conn, log, batch.first_seq, &verified.after, &batch.signature)
}

/// The transaction whose checkpoint is the first to cover an entry.
///
/// # Errors
/// [`StoreError::Read`] of `transactions`.
pub fn covering(
    conn: &Connection,
    log: LogId,
    seq: u64,
) -> Result<Option<Transaction>, StoreError> {
    let sql = format!("{COLUMNS} WHERE e.log = ?1 AND e.seq = ?2");
    first(conn, PART, &sql, params![log, Uint(seq)], row)
}

/// The position of the transaction that an entry belongs to.
///
/// # Errors
/// [`StoreError::Read`] of `transactions`.
pub fn position_of(conn: &Connection, log: LogId, seq: u64) -> Result<Option<i64>, StoreError> {
    covering(conn, log, seq).map(|found| found.map(|transaction| transaction.position))
}

/// The transaction at the end of a log; `None` if the log has none, or its last entry is lost.
///
/// # Errors
/// [`StoreError::Read`] of `transactions`.
pub fn last_of(conn: &Connection, log: LogId) -> Result<Option<Transaction>, StoreError> {
    let sql =
        format!("{COLUMNS} WHERE e.log = ?1 AND e.seq = (SELECT size FROM logs WHERE log = ?1)");
    first(conn, PART, &sql, [log], row)
}

/// The last transaction that is recorded of a log, whatever else is there of it. Takes time in
/// proportion to the transactions of all logs.
///
/// # Errors
/// [`StoreError::Read`] of `transactions`.
pub fn last_recorded(conn: &Connection, log: LogId) -> Result<Option<Transaction>, StoreError> {
    let sql = "SELECT position, log, first_seq, last_seq, signature FROM transactions
               WHERE log = ?1 ORDER BY position DESC LIMIT 1";
    first(conn, PART, sql, [log], row)
}

/// How many entries of a log do not name the transaction that they are of, or the sections that are
/// theirs.
///
/// # Errors
/// [`StoreError::Read`] of `entries`.
pub fn misplaced(conn: &Connection, log: LogId) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM transactions t
                   CROSS JOIN entries e ON e.log = t.log
                       AND e.seq BETWEEN t.first_seq AND t.last_seq
               WHERE t.log = ?1 AND (e.position <> t.position OR e.sections <> (
                   SELECT count(*) FROM sections s
                   WHERE s.section BETWEEN e.section AND e.section + e.sections
                       AND s.section - s.idx = e.section AND s.log = e.log AND s.seq = e.seq))";
    one(conn, "entries", sql, [log], |row| row.get::<_, Uint>(0)).map(|count| count.0)
}

/// Lets all entries of a log name them.
///
/// # Errors
/// [`StoreError::Write`] of `entries`.
pub fn place(conn: &Connection, log: LogId) -> Result<(), StoreError> {
    let sql = "UPDATE entries SET position = found.position
               FROM (SELECT e.seq, t.position FROM transactions t
                   CROSS JOIN entries e ON e.log = t.log
                       AND e.seq BETWEEN t.first_seq AND t.last_seq
                   WHERE t.log = ?1 AND e.position <> t.position) found
               WHERE entries.log = ?1 AND entries.seq = found.seq";
    execute(conn, "entries", sql, [log])?;
    let sql = "UPDATE entries SET section = s.first, sections = s.count
               FROM (SELECT seq, min(section) AS first, count(*) AS count FROM sections
                   WHERE log = ?1 GROUP BY seq) s
               WHERE entries.log = ?1 AND entries.seq = s.seq";
    execute(conn, "entries", sql, [log]).map(drop)
}

/// The position of the last transaction applied here, 0 if there is none.
///
/// # Errors
/// [`StoreError::Read`] of `transactions`.
pub fn end(conn: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce(max(position), 0) FROM transactions";
    one(conn, PART, sql, [], |row| row.get(0))
}

/// A transaction as it travels, from entry `from_seq` of it on (its first, or a later one if the
/// peer holds those before).
///
/// Memory: the transaction's sealed bytes, at most `limits::ENTRY_BYTES_MAX` or one group of units.
///
/// # Errors
/// [`StoreError::Read`]; [`StoreError::Damaged`] if entries are missing.
pub fn batch(
    conn: &Connection,
    transaction: &Transaction,
    from_seq: u64,
) -> Result<Batch, StoreError> {
    let first_seq = from_seq.max(transaction.first_seq);
    let carried = sections::carried(conn, transaction.log, first_seq, transaction.last_seq)?;
    assemble(conn, transaction, first_seq, carried)
}

/// The same of a damaged file: content that cannot be read in it is missing.
///
/// # Errors
/// [`StoreError::Read`] if more than that cannot be read; [`StoreError::Damaged`] if entries are
/// missing.
pub fn readable_batch(
    conn: &Connection,
    transaction: &Transaction,
    from_seq: u64,
) -> Result<Batch, StoreError> {
    let first_seq = from_seq.max(transaction.first_seq);
    let (log, last) = (transaction.log, transaction.last_seq);
    let carried = sections::carried_readable(conn, log, first_seq, last)?;
    assemble(conn, transaction, first_seq, carried)
}

fn assemble(
    conn: &Connection,
    transaction: &Transaction,
    first_seq: u64,
    carried: Vec<(u64, u32, SectionCommitment, Payload)>,
) -> Result<Batch, StoreError> {
    let (log, last) = (transaction.log, transaction.last_seq);
    let device = logs::by_number(conn, log)?.device;
    let mut travelling = Vec::new();
    let mut carried = carried.into_iter().peekable();
    for (entry, seq) in entries::range(conn, log, first_seq, last)?.into_iter().zip(first_seq..) {
        if entry.seq != seq {
            break;
        }
        let mut commitments = Vec::new();
        let mut payloads = Vec::new();
        while let Some((_, _, commitment, payload)) = carried.next_if(|next| next.0 == seq) {
            commitments.push(commitment);
            payloads.push(payload);
        }
        travelling.push(BatchEntry { header: entry.header, commitments, payloads });
    }
    let held = first_seq.saturating_add(travelling.len() as u64);
    if held != last.saturating_add(1) {
        let what = format!("log {} has no entry {held}", log.get());
        return Err(StoreError::damaged("entries", what));
    }
    Ok(Batch { device, first_seq, entries: travelling, signature: transaction.signature })
}

/// A walk over the transactions that a peer lacks, in causal order.
///
/// It goes on where it stopped, so that what is committed meanwhile is found by the next call.
#[derive(Debug, Clone)]
pub struct Walk {
    after: i64,
    /// By device, since the peer may hold logs that are not known here yet.
    covered: HashMap<DeviceId, u64>,
}

impl Walk {
    /// A walk for a peer that holds of each log the entries up to `frontier`'s size, and nothing of
    /// logs that are not named.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn new(
        conn: &Connection,
        frontier: impl IntoIterator<Item = (DeviceId, u64)>,
    ) -> Result<Self, StoreError> {
        let mut walk = Self { after: end(conn)?, covered: frontier.into_iter().collect() };
        for log in logs::every(conn)? {
            let size = walk.covered.get(&log.device).copied().unwrap_or(0);
            // A peer may be said to hold a log without end, and then it lacks nothing of it.
            if size >= log.frontier.size() {
                continue;
            }
            // Nothing before the first transaction that is missing of any log needs a look.
            if let Some(first) = position_of(conn, log.log, size + 1)? {
                walk.after = walk.after.min(first - 1);
            }
        }
        Ok(walk)
    }

    /// The next transaction that the peer lacks, and the first entry of it that it lacks. It counts
    /// as covered from then on.
    ///
    /// # Errors
    /// [`StoreError::Read`] of `transactions`.
    pub fn next(&mut self, conn: &Connection) -> Result<Option<(Transaction, u64)>, StoreError> {
        let sql = "SELECT position, log, first_seq, last_seq, signature, device
                   FROM transactions JOIN logs USING (log) WHERE position > ?1 ORDER BY position";
        let mut statement = cached(conn, PART, sql)?;
        let mut rows = statement.query([self.after]).reading(PART)?;
        while let Some(next) = rows.next().reading(PART)? {
            let device = next.get(5).map(DeviceId::new).reading(PART)?;
            let next = row(next).reading(PART)?;
            self.after = next.position;
            let covered = self.covered.entry(device).or_default();
            if *covered < next.last_seq {
                let from_seq = next.first_seq.max(*covered + 1);
                *covered = next.last_seq;
                return Ok(Some((next, from_seq)));
            }
        }
        Ok(None)
    }

    /// Goes on behind this position: what comes before it was sent, or is not to be.
    pub fn skip_to(&mut self, position: i64) {
        self.after = self.after.max(position);
    }

    /// The peer holds a device's log up to `size`, from here or from elsewhere: that is skipped
    /// from now on.
    pub fn cover(&mut self, device: &DeviceId, size: u64) {
        let covered = self.covered.entry(*device).or_default();
        *covered = size.max(*covered);
    }
}
