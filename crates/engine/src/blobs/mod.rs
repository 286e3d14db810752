//! Blobs: files of any size beside the documents that name them.
//!
//! Invariants: no more of a blob is in memory than a few chunks; a manifest is appended to the log
//! only when all its chunks are durable here; a chunk that is kept has the digest that a manifest
//! gives it; no chunk goes that a live document's blob has.

mod add;
mod read;
mod tend;
mod transfer;

use std::collections::BTreeSet;

use larder_document::Object;
use larder_log::blob::Manifest;
use larder_log::{Band, BlobError, kind};
use larder_store::space::{blobs as table, logs, sections};
use larder_types::{BlobId, DeviceId, Timestamp};
use rusqlite::Connection;
use serde::{Serialize, Serializer};
use serde_json::Value;

pub use self::add::{BlobAdding, ChunkBytes, NewBlob, NewManifest};
pub use self::read::BlobReader;
pub use self::tend::Collected;
pub use self::transfer::BlobAnswer;
use crate::model::as_band;
use crate::rows::Origin;
use crate::space::{Shared, Space};
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// The blobs that a document's value names, each as `{"$blob": "<id>"}`.
pub fn blobs_in(value: &Object) -> BTreeSet<BlobId> {
    let (mut found, mut objects) = (BTreeSet::new(), vec![value]);
    while let Some(members) = objects.pop() {
        let named = members.get("$blob").and_then(Value::as_str);
        found.extend(named.and_then(|id| id.parse::<BlobId>().ok()));
        let mut values: Vec<&Value> = members.values().collect();
        while let Some(value) = values.pop() {
            match value {
                Value::Object(members) => objects.push(members),
                Value::Array(items) => values.extend(items),
                _ => {}
            }
        }
    }
    found
}

/// A blob, as this device knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlobInfo {
    /// Its id: documents name it by `{"$blob": "<id>"}`.
    #[serde(serialize_with = "as_text")]
    pub id: BlobId,
    /// Bytes of content.
    pub size: u64,
    /// What it is, as the app that added it said.
    pub media_type: String,
    /// What it was called there.
    pub name: Option<String>,
    /// When it was added, as that device's clock claims.
    #[serde(serialize_with = "as_text")]
    pub added: Timestamp,
    /// Which device added it.
    #[serde(serialize_with = "as_text")]
    pub by: DeviceId,
    /// In which entry of its log, whose receipt covers the whole content.
    pub seq: u64,
    /// Chunks that are not on this device; 0: it is whole.
    pub missing: u64,
    /// Whether a document names it.
    pub named: bool,
    /// How sensitive it is: only devices that are cleared for it know of it.
    #[serde(serialize_with = "as_band")]
    pub band: Band,
}

/// Which blobs a device fetches by itself. Whatever it says, a blob can be fetched one by one, and
/// what a device adds it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BlobPolicy {
    /// Those that a document names and that have at most as many bytes. [`u64::MAX`]: all of them;
    /// 0: none but empty ones.
    pub eager_bytes_max: u64,
}

impl Default for BlobPolicy {
    /// Every device keeps everything, so that the loss of one loses nothing.
    fn default() -> Self {
        Self { eager_bytes_max: u64::MAX }
    }
}

/// How many blobs there are, and how many are waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BlobsStatus {
    /// Blobs known.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are wanted here and not whole.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Those that are not whole, wanted or not.
    pub partial: u64,
}

impl Space {
    /// A blob. `None`: there is none, or its manifest has not arrived.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn blob(&self, id: &BlobId) -> Result<Option<BlobInfo>> {
        let db = self.shared.pool.reader()?;
        let row = table::find(&db, id)?.filter(|row| self.sight.sees(row.band));
        row.map(|row| info(&self.shared, &db, row)).transpose()
    }

    /// All blobs, in the order in which this device came to know them.
    ///
    /// # Errors
    /// [`Error::Auditor`]; the storage's errors.
    pub fn blobs(&self) -> Result<Vec<BlobInfo>> {
        self.check_reads()?;
        let db = self.shared.pool.reader()?;
        let rows = table::list(&db, 0, u32::MAX)?.into_iter();
        rows.filter(|row| self.sight.sees(row.band))
            .map(|row| info(&self.shared, &db, row))
            .collect()
    }

    /// How many blobs there are, and how many are waited for.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn blobs_status(&self) -> Result<BlobsStatus> {
        let db = self.shared.pool.reader()?;
        let status = table::status(&db, policy(&db)?.eager_bytes_max, self.sight.up_to())?;
        let table::Status { blobs, bytes, waiting, waiting_bytes, partial } = status;
        Ok(BlobsStatus { blobs, bytes, waiting, waiting_bytes, partial })
    }

    /// Which blobs this device fetches by itself.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn blob_policy(&self) -> Result<BlobPolicy> {
        policy(&*self.shared.pool.reader()?)
    }
}

impl SpaceWriter {
    /// Sets which blobs this device fetches by itself. What it holds already, it keeps.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn set_blob_policy(&mut self, policy: BlobPolicy) -> Result<()> {
        let bytes = policy.eager_bytes_max.to_be_bytes();
        self.record(|tx, _| Ok(larder_store::space::set_value(tx, POLICY, &bytes)?))
    }

    /// Asks for a blob's chunks, whatever the policy says, until it is whole.
    ///
    /// # Errors
    /// [`Error::NotFound`]; the storage's errors.
    pub fn want_blob(&mut self, id: &BlobId) -> Result<()> {
        self.record(|tx, _| {
            let row = table::find(tx, id)?.ok_or_else(|| unknown(id))?;
            Ok(table::set_wanted(tx, id, row.missing > 0)?)
        })
    }
}

/// Takes in a manifest from another device's log.
pub(crate) fn take(db: &Connection, origin: &Origin, body: &[u8]) -> Result<sections::State> {
    match Manifest::decode(body) {
        Ok(manifest) => {
            insert(db, origin, &Manifest::id(body), &manifest)?;
            Ok(sections::State::Applied)
        }
        Err(BlobError::Newer { .. }) => Ok(sections::State::Kept),
        Err(_) => Ok(sections::State::Void),
    }
}

fn insert(db: &Connection, origin: &Origin, id: &BlobId, manifest: &Manifest) -> Result<()> {
    let new = table::NewBlob {
        id,
        log: origin.log,
        seq: origin.seq,
        added: origin.clock.wall,
        size: manifest.size,
        media_type: &manifest.media_type,
        name: manifest.name.as_deref(),
        band: origin.band,
    };
    table::insert(db, &new, &manifest.chunks)?;
    Ok(())
}

fn info(shared: &Shared, db: &Connection, row: table::Blob) -> Result<BlobInfo> {
    let by = logs::by_number(db, row.log)?.device;
    let table::Blob { id, size, media_type, name, added, seq, missing, named, band, .. } = row;
    let band = shared.shown(band);
    Ok(BlobInfo { id, size, media_type, name, added, by, seq, missing, named, band })
}

pub(crate) fn policy(db: &Connection) -> Result<BlobPolicy> {
    let Some(bytes) = larder_store::space::value(db, POLICY)? else {
        return Ok(BlobPolicy::default());
    };
    let bytes = bytes.try_into().map_err(|_| Error::Corrupt("the policy for blobs".into()))?;
    Ok(BlobPolicy { eager_bytes_max: u64::from_be_bytes(bytes) })
}

fn unknown(id: &BlobId) -> Error {
    Error::NotFound(format!("there is no blob {id} here"))
}

const POLICY: &str = "blobs";
const _: () = assert!(kind::BLOB > kind::DOCUMENT_DELETE);

fn as_text<T: ToString, S: Serializer>(
    value: &T,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}
