//! One writer and a few readers, opened when first needed.
//!
//! Invariants: there is never more than one writer; a connection that comes back inside a
//! transaction is closed, not lent again; no query is spent on asking whether a connection lives.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_types::limits::{READER_CACHE_BYTES, READER_WAIT_MS, READERS_MAX, WRITER_CACHE_BYTES};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::{Part, StoreError};

/// How many readers a pool lends, and for how long one is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readers {
    /// At most so many at once; at least one.
    pub count: usize,
    /// How long a reader is waited for while all are lent.
    pub wait: Duration,
}

impl Default for Readers {
    /// [`READERS_MAX`] and [`READER_WAIT_MS`].
    fn default() -> Self {
        Self { count: READERS_MAX, wait: Duration::from_millis(READER_WAIT_MS) }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing.
    Write,
    /// Reading only.
    Read,
}

/// Opens a connection for a pool; calls [`configure`] on it, or does better.
pub type Opener = Box<dyn Fn(Access) -> Result<Connection, StoreError> + Send + Sync>;

/// Statements kept prepared per connection; above the number of different ones in this crate and
/// in `search` together.
const STATEMENTS_CACHED: usize = 192;

/// Sets on a freshly opened connection what this crate relies on: full durability, foreign keys,
/// room for its prepared statements and one plan for each, no functions with side effects in the
/// schema, no writing on a reader, and zeros where something was deleted (else a removed document's
/// words would stay in freed pages, for whoever has the key).
///
/// # Errors
/// [`StoreError::Read`] naming the connection.
pub fn configure(conn: &Connection, access: Access) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Plans do not depend on what is bound. Else SQLite prepares a statement anew whenever a value
    // is bound that might have led to another plan; there are no statistics from which it could.
    let stable_plans = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
    conn.set_db_config(stable_plans, true).reading("connection")?;
    conn.execute_batch(match access {
        Access::Write => {
            "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
             PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
             PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON"
        }
        Access::Read => {
            "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;
             PRAGMA temp_store = MEMORY"
        }
    })
    .and_then(|()| {
        let cache_bytes = match access {
            Access::Write => WRITER_CACHE_BYTES,
            Access::Read => READER_CACHE_BYTES,
        };
        // SQLite counts kibibytes where the number is negative.
        let kibibytes = i64::try_from(cache_bytes >> 10).unwrap_or(i64::MAX);
        conn.pragma_update(None, "cache_size", -kibibytes)
    })
    .reading("connection")
}

/// One database's connections. Clones share them.
///
/// Memory: each connection holds its own page cache (SQLite's default: 2 MB) once it was used.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    allowed: Readers,
    state: Mutex<State>,
    returned: Condvar,
}

/// Readers come before the writer, so that the writer is closed last and checkpoints the WAL.
struct State {
    /// Dropped with the last connection that it opened, once another took its place.
    open: Arc<Opener>,
    closed: bool,
    readers: Vec<Connection>,
    readers_lent: usize,
    writer: Option<Connection>,
    writer_lent: bool,
}

impl Pool {
    /// A pool that lends as many readers as usual. Nothing is opened yet.
    pub fn new(open: Opener) -> Self {
        Self::with_readers(Readers::default(), open)
    }

    /// A pool that lends at most so many readers. Nothing is opened yet.
    pub fn with_readers(readers: Readers, open: Opener) -> Self {
        Self {
            shared: Arc::new(Shared {
                allowed: Readers { count: readers.count.max(1), ..readers },
                state: Mutex::new(State {
                    open: Arc::new(open),
                    closed: false,
                    readers: Vec::new(),
                    readers_lent: 0,
                    writer: None,
                    writer_lent: false,
                }),
                returned: Condvar::new(),
            }),
        }
    }

    /// The writer, once nobody else holds it.
    ///
    /// # Errors
    /// [`StoreError::Closed`]; whatever the opener returns.
    pub fn writer(&self) -> Result<Lent, StoreError> {
        self.lend(Access::Write)
    }

    /// A reader, once one is free. Queries in one transaction of it see one snapshot. The writer
    /// is never waited for.
    ///
    /// # Errors
    /// [`StoreError::Closed`]; [`StoreError::NoReader`] if none was free in time; whatever the
    /// opener returns.
    pub fn reader(&self) -> Result<Lent, StoreError> {
        self.lend(Access::Read)
    }

    /// Waits until every lent connection is back, then closes all of them; for a host that is
    /// about to be suspended. Do not call it while holding one: it would wait for itself.
    ///
    /// # Errors
    /// [`StoreError::Write`] if SQLite could not close one. They are gone all the same.
    pub fn close(&self) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.returned.notify_all();
        while state.writer_lent || state.readers_lent > 0 {
            state = self.shared.wait(state);
        }
        let mut result = Ok(());
        let readers = std::mem::take(&mut state.readers);
        for conn in readers.into_iter().chain(state.writer.take()) {
            if let Err((_, source)) = conn.close() {
                result = result.and(Err(StoreError::Write { part: "connection", source }));
            }
        }
        result
    }

    /// Lends connections again after [`Pool::close`].
    pub fn reopen(&self) {
        self.shared.lock().closed = false;
    }

    /// Opens all further connections by `open`, to another copy of the same database. Those that
    /// are lent stay as they are and are closed when they come back; the earlier opener is dropped
    /// after the last of them.
    pub fn switch(&self, open: Opener) {
        let mut state = self.shared.lock();
        let earlier = std::mem::replace(&mut state.open, Arc::new(open));
        let (readers, writer) = (std::mem::take(&mut state.readers), state.writer.take());
        drop(state);
        drop((readers, writer));
        drop(earlier);
    }

    fn lend(&self, access: Access) -> Result<Lent, StoreError> {
        let Readers { count, wait } = self.shared.allowed;
        let is_taken = |state: &mut State| match access {
            _ if state.closed => false,
            Access::Write => state.writer_lent,
            Access::Read => state.readers_lent >= count,
        };
        let (shared, state) = (&*self.shared, self.shared.lock());
        let mut state = match access {
            Access::Write => {
                let waited = shared.returned.wait_while(state, is_taken);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
            Access::Read => {
                let waited = shared.returned.wait_timeout_while(state, wait, is_taken);
                let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                if waited.timed_out() {
                    return Err(StoreError::NoReader { wait });
                }
                state
            }
        };
        if state.closed {
            return Err(StoreError::Closed);
        }
        let idle = match access {
            Access::Write => {
                state.writer_lent = true;
                state.writer.take()
            }
            Access::Read => {
                state.readers_lent += 1;
                state.readers.pop()
            }
        };
        let open = Arc::clone(&state.open);
        drop(state);
        // From here on `lent` gives the place back, whatever happens.
        let mut lent = Lent { conn: idle, access, open, shared: Arc::clone(&self.shared) };
        if lent.conn.is_none() {
            lent.conn = Some((lent.open)(access)?);
        }
        Ok(lent)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Pool")
            .field("closed", &state.closed)
            .field("readers_lent", &state.readers_lent)
            .field("writer_lent", &state.writer_lent)
            .finish_non_exhaustive()
    }
}

impl Shared {
    // A panic while the lock is held leaves only counters and connections, which stay valid.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.returned.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on loan; dropping it gives it back.
pub struct Lent {
    /// `None` only before it is lent and after it is given back or discarded.
    conn: Option<Connection>,
    access: Access,
    /// Dropped after the connection that it opened.
    open: Arc<Opener>,
    shared: Arc<Shared>,
}

impl Lent {
    /// Closes the connection instead of giving it back, for example after a COMMIT that failed:
    /// the next one to ask gets a new one.
    pub fn discard(mut self) {
        self.conn = None;
    }
}

impl Deref for Lent {
    type Target = Connection;

    #[expect(clippy::expect_used, reason = "a Lent that its user holds has a connection")]
    fn deref(&self) -> &Connection {
        self.conn.as_ref().expect("lent")
    }
}

impl DerefMut for Lent {
    #[expect(clippy::expect_used, reason = "a Lent that its user holds has a connection")]
    fn deref_mut(&mut self) -> &mut Connection {
        self.conn.as_mut().expect("lent")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut conn = self.conn.take().filter(Connection::is_autocommit);
        let mut state = self.shared.lock();
        let is_current = Arc::ptr_eq(&self.open, &state.open);
        let kept = conn.take_if(|_| is_current);
        match self.access {
            Access::Write => {
                state.writer_lent = false;
                state.writer = kept;
            }
            Access::Read => {
                state.readers_lent = state.readers_lent.saturating_sub(1);
                state.readers.extend(kept);
            }
        }
        drop(state);
        drop(conn);
        self.shared.returned.notify_all();
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("access", &self.access).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn pool(dir: &tempfile::TempDir, opened: &Arc<AtomicUsize>) -> Pool {
        Pool::with_readers(Readers { count: 2, ..Readers::default() }, opener(dir, opened))
    }

    fn opener(dir: &tempfile::TempDir, opened: &Arc<AtomicUsize>) -> Opener {
        let path = dir.path().join("pool.db");
        let opened = Arc::clone(opened);
        Box::new(move |access| {
            opened.fetch_add(1, Ordering::Relaxed);
            let conn = Connection::open(&path).map_err(StoreError::open)?;
            configure(&conn, access)?;
            Ok(conn)
        })
    }

    #[test]
    fn connections_are_opened_lazily_and_lent_again() {
        let (dir, opened) = (tempfile::tempdir().unwrap(), Arc::default());
        let pool = pool(&dir, &opened);
        assert_eq!(opened.load(Ordering::Relaxed), 0);
        for _ in 0..3 {
            let writer = pool.writer().unwrap();
            writer.execute_batch("CREATE TABLE IF NOT EXISTS t (x)").unwrap();
            let _reader = pool.reader().unwrap();
        }
        assert_eq!(opened.load(Ordering::Relaxed), 2);
        let reader = pool.reader().unwrap();
        assert!(reader.execute_batch("INSERT INTO t VALUES (1)").is_err());
    }

    #[test]
    fn a_writer_puts_zeros_where_it_deletes() {
        let (dir, opened) = (tempfile::tempdir().unwrap(), Arc::default());
        let writer = pool(&dir, &opened).writer().unwrap();
        let set: i64 = writer.pragma_query_value(None, "secure_delete", |row| row.get(0)).unwrap();
        assert_eq!(set, 1);
    }

    #[test]
    fn a_second_writer_and_a_third_reader_wait_for_their_turn() {
        let (dir, opened) = (tempfile::tempdir().unwrap(), Arc::default());
        let pool = pool(&dir, &opened);
        for access in [Access::Write, Access::Read] {
            let mut held = vec![pool.lend(access).unwrap()];
            if access == Access::Read {
                held.push(pool.lend(access).unwrap());
            }
            let (sender, receiver) = mpsc::channel();
            let other = pool.clone();
            let waiter = std::thread::spawn(move || {
                let lent = other.lend(access).unwrap();
                sender.send(()).unwrap();
                drop(lent);
            });
            assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Empty));
            drop(held);
            receiver.recv().unwrap();
            waiter.join().unwrap();
        }
        assert_eq!(opened.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_reader_is_waited_for_no_longer_than_told_and_never_for_the_writer() {
        let (dir, opened) = (tempfile::tempdir().unwrap(), Arc::default());
        let wait = std::time::Duration::from_millis(20);
        let pool = Pool::with_readers(Readers { count: 2, wait }, opener(&dir, &opened));
        let _writing = pool.writer().unwrap();
        let lent = [pool.reader().unwrap(), pool.reader().unwrap()];
        let failed = pool.reader().unwrap_err();
        assert!(matches!(failed, StoreError::NoReader { wait: waited } if waited == wait));
        assert_eq!(failed.kind(), crate::ErrorKind::Busy);
        drop(lent);
        pool.reader().unwrap();
    }

    #[test]
    fn close_waits_refuses_and_reopens() {
        let (dir, opened) = (tempfile::tempdir().unwrap(), Arc::default());
        let pool = pool(&dir, &opened);
        let writer = pool.writer().unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        let other = pool.clone();
        let closer = std::thread::spawn(move || other.close());
        // The closer may not have begun yet; then this reader is lent and it waits for it too.
        drop(pool.reader());
        drop(writer);
        closer.join().unwrap().unwrap();
        assert!(matches!(pool.writer(), Err(StoreError::Closed)));
        assert!(matches!(pool.reader(), Err(StoreError::Closed)));
        pool.reopen();
        pool.reader().unwrap().execute_batch("SELECT * FROM t").unwrap();
    }

    #[test]
    fn a_connection_inside_a_transaction_or_discarded_is_not_lent_again() {
        let (dir, opened) = (tempfile::tempdir().unwrap(), Arc::default());
        let pool = pool(&dir, &opened);
        pool.writer().unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        pool.writer().unwrap().execute_batch("BEGIN; INSERT INTO t VALUES (1)").unwrap();
        let writer = pool.writer().unwrap();
        assert!(writer.is_autocommit());
        let rows: i64 = writer.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
        assert_eq!(rows, 0);
        writer.discard();
        pool.writer().unwrap();
        assert_eq!(opened.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn after_a_switch_all_further_connections_are_new_and_the_earlier_opener_goes_last() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Arc::default();
        let pool = pool(&dir, &opened);
        let (other_dir, other_opened) = (tempfile::tempdir().unwrap(), Arc::default());
        let other = opener(&other_dir, &other_opened);
        pool.writer().unwrap().execute_batch("CREATE TABLE old (x)").unwrap();
        let reader = pool.reader().unwrap();
        drop(pool.reader().unwrap());
        pool.switch(other);
        // The count is shared with the opener alone.
        assert_eq!(Arc::strong_count(&opened), 2);
        pool.writer().unwrap().execute_batch("CREATE TABLE new (x)").unwrap();
        pool.reader().unwrap().execute_batch("SELECT * FROM new").unwrap();
        reader.execute_batch("SELECT * FROM old").unwrap();
        drop(reader);
        assert_eq!(Arc::strong_count(&opened), 1);
        pool.reader().unwrap().execute_batch("SELECT * FROM new").unwrap();
        assert_eq!((opened.load(Ordering::Relaxed), other_opened.load(Ordering::Relaxed)), (3, 2));
    }

    #[test]
    fn an_opener_that_fails_leaves_its_place_free() {
        let one = Readers { count: 1, ..Readers::default() };
        let pool = Pool::with_readers(one, Box::new(|_| Err(StoreError::open("no such disk"))));
        for _ in 0..3 {
            assert!(matches!(pool.reader(), Err(StoreError::Open { .. })));
            assert!(matches!(pool.writer(), Err(StoreError::Open { .. })));
        }
        pool.close().unwrap();
    }
}
