use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::{Part, StoreError};
use crate::sql::execute;

/// Begins a transaction that writes. Dropped without [`commit`], it is rolled back.
///
/// # Errors
/// [`StoreError::Write`] of the transaction, of kind busy if another connection is writing.
pub fn begin(conn: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    Transaction::new(conn, TransactionBehavior::Immediate).writing("transaction")
}

/// Commits, and returns only once the transaction is durable. After an error roll back by closing
/// the connection, and read the log's end on a new one before signing again: whether a failed
/// commit reached the disk is not known.
///
/// # Errors
/// [`StoreError::Write`] of the transaction; [`StoreError::RolledBack`] if there is none any more.
pub fn commit(tx: Transaction<'_>) -> Result<(), StoreError> {
    still_open(&tx)?;
    tx.commit().writing("transaction")
}

/// Does `work` on a part of a transaction of its own: on an error only that part is undone, and
/// the transaction goes on. SQLite copies each page that changes in one, so that what hardly ever
/// fails is done without, and again from [`begin_anew`] on if it does.
///
/// # Errors
/// What `work` returns; [`StoreError::Write`] of the transaction; [`StoreError::RolledBack`] if an
/// earlier error (a full disk, say) undid the whole transaction.
pub fn savepoint<T, E: From<StoreError>>(
    tx: &mut Transaction<'_>,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    still_open(tx)?;
    // Not rusqlite's own savepoint, which has SQLite parse its two statements for every unit.
    execute(tx, PART, "SAVEPOINT part", [])?;
    match work(tx) {
        Ok(done) => {
            execute(tx, PART, "RELEASE part", [])?;
            Ok(done)
        }
        Err(error) => {
            undo_part(tx);
            Err(error)
        }
    }
}

/// Undoes all that the transaction did so far, and begins it anew.
///
/// # Errors
/// [`StoreError::Write`] of the transaction, and there is none any more then;
/// [`StoreError::RolledBack`] if there was none.
pub fn begin_anew(tx: &mut Transaction<'_>) -> Result<(), StoreError> {
    still_open(tx)?;
    let begun =
        execute(tx, PART, "ROLLBACK", []).and_then(|_| execute(tx, PART, "BEGIN IMMEDIATE", []));
    if begun.is_err() && !tx.is_autocommit() {
        // Who goes on in it finds that there is none any more.
        let _ = tx.execute_batch("ROLLBACK");
    }
    begun.map(drop)
}

/// Undoes what came after the savepoint; all of the transaction, if that cannot be had.
fn undo_part(tx: &Connection) {
    if tx.is_autocommit() {
        return;
    }
    let undone = execute(tx, PART, "ROLLBACK TO part", [])
        .and_then(|_| execute(tx, PART, "RELEASE part", []));
    if undone.is_err() {
        // Who goes on in it finds that there is none any more.
        let _ = tx.execute_batch("ROLLBACK");
    }
}

const PART: &str = "transaction";

/// SQLite answers some errors (disk full, I/O, out of memory) by rolling back the whole
/// transaction; statements after that would each be committed alone.
fn still_open(tx: &Transaction<'_>) -> Result<(), StoreError> {
    if tx.is_autocommit() { Err(StoreError::RolledBack) } else { Ok(()) }
}
