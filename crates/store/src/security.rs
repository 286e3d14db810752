//! The security log's tables in the profile's database.

use larder_log::security::{Kind, News, Scope};
use larder_types::{DeviceId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::sql::{Uint, all, execute, first, one, parsed};

/// An event as it is kept: its bytes and the device's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEvent {
    /// The canonical encoding.
    pub event: Vec<u8>,
    /// Over it.
    pub signature: [u8; 64],
}

/// How often something has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// What.
    pub news: News,
    /// How often, over the profile's life.
    pub count: u64,
    /// When it did last.
    pub last_at: Timestamp,
}

fn signed(row: &Row<'_>) -> rusqlite::Result<SignedEvent> {
    Ok(SignedEvent { event: row.get(0)?, signature: row.get(1)? })
}

/// Adds the event with this number to a chain.
///
/// # Errors
/// [`StoreError::Write`] of `security`, of kind constraint if there is one with it.
pub fn add(
    conn: &Connection,
    scope: Scope,
    seq: u64,
    event: &SignedEvent,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO security (scope, seq, event, signature) VALUES (?1, ?2, ?3, ?4)";
    let params = params![scope.to_bytes(), Uint(seq), event.event, event.signature];
    execute(conn, "security", sql, params).map(drop)
}

/// Drops the oldest events of a chain, so that `keeps` are left.
///
/// # Errors
/// [`StoreError::Write`] of `security`.
pub fn trim(conn: &Connection, scope: Scope, keeps: u64) -> Result<(), StoreError> {
    let sql = "DELETE FROM security WHERE scope = ?1
               AND seq <= (SELECT max(seq) FROM security WHERE scope = ?1) - ?2";
    execute(conn, "security", sql, params![scope.to_bytes(), Uint(keeps)]).map(drop)
}

/// The last events of a chain with their numbers, the newest first.
///
/// # Errors
/// [`StoreError::Read`] of `security`.
pub fn newest(
    conn: &Connection,
    scope: Scope,
    limit: u32,
) -> Result<Vec<(u64, SignedEvent)>, StoreError> {
    let sql = "SELECT event, signature, seq FROM security WHERE scope = ?1
               ORDER BY seq DESC LIMIT ?2";
    all(conn, "security", sql, params![scope.to_bytes(), limit], |row| {
        Ok((row.get::<_, Uint>(2)?.0, signed(row)?))
    })
}

/// Drops the event with this number.
///
/// # Errors
/// [`StoreError::Write`] of `security`.
pub fn remove(conn: &Connection, scope: Scope, seq: u64) -> Result<(), StoreError> {
    let sql = "DELETE FROM security WHERE scope = ?1 AND seq = ?2";
    execute(conn, "security", sql, params![scope.to_bytes(), Uint(seq)]).map(drop)
}

/// A whole chain, the oldest event first.
///
/// # Errors
/// [`StoreError::Read`] of `security`.
pub fn events(conn: &Connection, scope: Scope) -> Result<Vec<SignedEvent>, StoreError> {
    let sql = "SELECT event, signature FROM security WHERE scope = ?1 ORDER BY seq";
    all(conn, "security", sql, [scope.to_bytes()], signed)
}

/// How often something has happened, 0 if it never did.
///
/// # Errors
/// [`StoreError::Read`] of `security_counts`.
pub fn count(conn: &Connection, scope: Scope, news: &News) -> Result<u64, StoreError> {
    let sql = "SELECT count FROM security_counts
               WHERE scope = ?1 AND kind = ?2 AND device = ?3 AND detail = ?4";
    let params = params![scope.to_bytes(), news.kind.code(), device_of(news), news.detail];
    let found = first(conn, "security_counts", sql, params, |row| row.get::<_, Uint>(0))?;
    Ok(found.map_or(0, |count| count.0))
}

/// How many things are counted, of all chains.
///
/// # Errors
/// [`StoreError::Read`] of `security_counts`.
pub fn counted(conn: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM security_counts";
    Ok(one(conn, "security_counts", sql, [], |row| row.get::<_, Uint>(0))?.0)
}

/// Keeps how often something has happened.
///
/// # Errors
/// [`StoreError::Write`] of `security_counts`.
pub fn set_count(conn: &Connection, scope: Scope, count: &Count) -> Result<(), StoreError> {
    let sql = "INSERT INTO security_counts (scope, kind, device, detail, count, last_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (scope, kind, device, detail)
               DO UPDATE SET count = excluded.count, last_at = excluded.last_at";
    let Count { news, count, last_at } = count;
    let params = params![
        scope.to_bytes(),
        news.kind.code(),
        device_of(news),
        news.detail,
        Uint(*count),
        Uint(last_at.0)
    ];
    execute(conn, "security_counts", sql, params).map(drop)
}

/// All that is counted of a chain.
///
/// # Errors
/// [`StoreError::Read`] of `security_counts`.
pub fn counts(conn: &Connection, scope: Scope) -> Result<Vec<Count>, StoreError> {
    let sql = "SELECT kind, device, detail, count, last_at FROM security_counts
               WHERE scope = ?1 ORDER BY kind, device, detail";
    all(conn, "security_counts", sql, [scope.to_bytes()], |row| {
        let device: Vec<u8> = row.get(1)?;
        let news = News {
            kind: parsed(row, 0, Kind::from_code)?,
            device: DeviceId::from_slice(&device),
            detail: row.get(2)?,
        };
        let last_at = Timestamp(row.get::<_, Uint>(4)?.0);
        Ok(Count { news, count: row.get::<_, Uint>(3)?.0, last_at })
    })
}

fn device_of(news: &News) -> &[u8] {
    news.device.as_ref().map_or(&[], |device| device.as_bytes().as_slice())
}
