//! Small change between Rust and SQLite: unsigned integers, rows, lists.

use larder_log::Band;
use larder_types::canonical;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Params, Row, ToSql};

use crate::error::{Part, StoreError};

/// A band as its column has it; of none, what lies below all.
pub(crate) fn number_of(band: Option<Band>) -> i8 {
    band.map_or(-1, |band| band as i8)
}

/// An unsigned integer in a column that holds signed ones. More than `i64::MAX` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uint(pub(crate) u64);

impl ToSql for Uint {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let signed = i64::try_from(self.0)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        Ok(ToSqlOutput::Owned(Value::Integer(signed)))
    }
}

impl FromSql for Uint {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let signed = value.as_i64()?;
        u64::try_from(signed).map(Self).map_err(|_| FromSqlError::OutOfRange(signed))
    }
}

/// A statement from the connection's cache.
pub(crate) fn cached<'c>(
    conn: &'c Connection,
    part: &'static str,
    sql: &str,
) -> Result<CachedStatement<'c>, StoreError> {
    conn.prepare_cached(sql).reading(part)
}

/// Runs a statement that writes; returns how many rows it changed.
pub(crate) fn execute(
    conn: &Connection,
    part: &'static str,
    sql: &str,
    params: impl Params,
) -> Result<usize, StoreError> {
    conn.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).writing(part)
}

/// The first row, if there is one.
pub(crate) fn first<T>(
    conn: &Connection,
    part: &'static str,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    let mut statement = cached(conn, part, sql)?;
    let mut rows = statement.query(params).reading(part)?;
    rows.next().and_then(|row| row.map(read).transpose()).reading(part)
}

/// The one row of a query that always has one.
pub(crate) fn one<T>(
    conn: &Connection,
    part: &'static str,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    first(conn, part, sql, params, read)?
        .ok_or(StoreError::Read { part, source: rusqlite::Error::QueryReturnedNoRows })
}

/// All rows.
pub(crate) fn all<T>(
    conn: &Connection,
    part: &'static str,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = cached(conn, part, sql)?;
    let rows = statement.query_map(params, read).reading(part)?;
    rows.collect::<rusqlite::Result<_>>().reading(part)
}

/// A column's value turned into something stricter; an error of its own kind if it cannot be.
pub(crate) fn parsed<V: FromSql, T>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(V) -> Option<T>,
) -> rusqlite::Result<T> {
    let refused = |e: FromSqlError| {
        let kind = row.get_ref(column).map_or(rusqlite::types::Type::Null, |v| v.data_type());
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(e))
    };
    parse(row.get(column)?).ok_or(FromSqlError::InvalidType).map_err(refused)
}

/// A column with a canonically encoded value.
pub(crate) fn decoded<T>(row: &Row<'_>, column: usize, bytes_max: usize) -> rusqlite::Result<T>
where
    T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    let bytes = row.get_ref(column)?.as_blob()?;
    canonical::decode(bytes, bytes_max).map_err(|e| {
        let kind = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(e))
    })
}
