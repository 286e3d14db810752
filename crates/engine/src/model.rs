//! What reading a space returns.

use larder_document::{Heads, Object};
use larder_log::Band;
use larder_log::act::Role;
use larder_types::{
    Clock, CollectionName, CorrelationId, DeviceId, EntryHash, MemberId, ObjectId, SpaceId,
    SpaceName, Timestamp, TransportId,
};
use serde::{Serialize, Serializer};

use crate::blobs::BlobsStatus;
use crate::retention::RetentionDue;
use crate::status::{DeviceProgress, SpaceState};

pub(crate) fn as_text<T: ToString, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
pub(crate) fn as_optional_text<T: ToString, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

pub(crate) fn as_rfc3339<S: Serializer>(clock: &Clock, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clock.wall.to_string())
}

/// A document as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// Its id.
    #[serde(serialize_with = "as_text")]
    pub object: ObjectId,
    /// Its collection.
    #[serde(serialize_with = "as_text")]
    pub collection: CollectionName,
    /// Its value.
    pub value: Object,
    /// What names this version of it; see [`crate::Base`].
    #[serde(serialize_with = "as_text")]
    pub heads: Heads,
    /// When its last change was made, as its author's clock claims.
    #[serde(serialize_with = "as_rfc3339")]
    pub updated: Clock,
    /// Who made that change.
    #[serde(serialize_with = "as_text")]
    pub by: DeviceId,
    /// Since when it is in the trash, as the clock of who put it there claims; none if it is not.
    #[serde(serialize_with = "as_optional_text")]
    pub trashed: Option<Timestamp>,
    /// How sensitive it is.
    #[serde(serialize_with = "as_band")]
    pub band: Band,
}

/// Where a listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(crate) i64);

impl Cursor {
    /// Before the first document.
    pub const START: Self = Self(0);

    /// The same place in the listing of another space that is shown behind this one: what is BLACK
    /// of it.
    #[must_use]
    pub const fn behind(self) -> Self {
        Self(-1 - self.0)
    }

    /// The place in that space, if it is one there.
    pub const fn is_behind(self) -> Option<Self> {
        if self.0 < 0 { Some(self.behind()) } else { None }
    }
}

/// A part of a listing, in the order in which this device came to know the documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The documents, as many as were asked for at most.
    pub documents: Vec<Document>,
    /// Where the next page starts, if there is more.
    pub next: Option<Cursor>,
}

/// What to search for.
#[derive(Debug, Clone)]
pub struct Query {
    pub(crate) text: Option<String>,
    pub(crate) similar: Option<String>,
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) collection: Option<String>,
    pub(crate) limit: usize,
}

impl Query {
    const fn empty() -> Self {
        Self { text: None, similar: None, vector: None, collection: None, limit: 10 }
    }

    /// Documents with these words; the last one may be the start of a word.
    pub fn text(words: impl Into<String>) -> Self {
        Self { text: Some(words.into()), ..Self::empty() }
    }

    /// Documents near this text, as the space's embedder sees it.
    pub fn similar(text: impl Into<String>) -> Self {
        Self { similar: Some(text.into()), ..Self::empty() }
    }

    /// Documents near this vector, of those that the app gave vectors itself.
    pub fn vector(vector: Vec<f32>) -> Self {
        Self { vector: Some(vector), ..Self::empty() }
    }

    /// Both by words and by nearness, the two rankings fused (reciprocal rank fusion, Cormack,
    /// Clarke and Büttcher, SIGIR 2009).
    pub fn both(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text: Some(text.clone()), similar: Some(text), ..Self::empty() }
    }

    /// Only documents of this collection.
    #[must_use]
    pub fn collection(mut self, collection: impl Into<String>) -> Self {
        self.collection = Some(collection.into());
        self
    }

    /// At most this many results; 10 unless told,
    /// [`SEARCH_RESULTS_MAX`](larder_types::limits::SEARCH_RESULTS_MAX) at most.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// One result of a search, best first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The document.
    pub document: Document,
    /// Larger is better; comparable within one search only.
    pub score: f64,
    /// Some of its text, around a word that was searched for if there is one.
    pub snippet: String,
}

/// Which version of a document is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The present one.
    Now,
    /// The one with these heads.
    Heads(Heads),
    /// All that was made until then, as its authors' clocks claim.
    Time(Timestamp),
}

/// What a document was, to be made again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restorable {
    /// Its collection.
    #[serde(serialize_with = "as_text")]
    pub collection: CollectionName,
    /// Its value.
    pub value: Object,
}

/// One thing that happened to a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryItem {
    /// Which device did it. With `seq` it names the receipt.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// What the device's owner calls it; none if it is not known here.
    pub label: Option<String>,
    /// Whose device it is; none if that is not known here.
    #[serde(serialize_with = "as_optional_text")]
    pub member: Option<MemberId>,
    /// In which entry of its log.
    pub seq: u64,
    /// When, as that device's clock claims.
    #[serde(serialize_with = "as_rfc3339")]
    pub clock: Clock,
    /// Whether that claim lies further in the future than an honest clock would.
    pub clock_ahead: bool,
    /// `create`, `restore`, `redact`, `change`, `trash`, `untrash` or `delete`.
    pub kind: &'static str,
    /// Who did it within the app, if it said.
    pub actor: Option<String>,
    /// What ties it to others, if it said: what became of a document that was moved here, say.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CorrelationId>,
    /// What the document was for its author then; none for a deletion, and if the entry's content
    /// is no longer here.
    #[serde(serialize_with = "as_optional_text")]
    pub version: Option<Heads>,
    /// The document that it was restored from, or is a redaction of.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<ObjectId>,
    /// Whether its content was pruned, and who did it within the app with that.
    pub pruned: bool,
}

/// One entry of the log, in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceiptInfo {
    /// Whose log.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// The entry's number in it.
    pub seq: u64,
    /// The entry's hash.
    #[serde(serialize_with = "as_text")]
    pub entry: EntryHash,
    /// How many objects it touched.
    pub sections: u32,
    /// When, as the device's clock claims, if the entry can be opened here.
    #[serde(serialize_with = "as_optional_rfc3339")]
    pub clock: Option<Clock>,
    /// What it did, in a word each: `create`, `change`, `delete`, `genesis`, `enrolment`, `epoch`,
    /// `snapshot`.
    pub kinds: Vec<&'static str>,
    /// Why some of it counts for nothing, as far as that is seen here and known by now: `role` or
    /// `band` (its device might not write there, or not in that band), `act` (the roster does not
    /// allow it), `content` (it cannot be opened, read or applied).
    pub void: Vec<&'static str>,
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn as_optional_rfc3339<S: Serializer>(
    clock: &Option<Clock>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match clock {
        Some(clock) => as_rfc3339(clock, serializer),
        None => serializer.serialize_none(),
    }
}

/// What an export of receipts wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// How many logs.
    pub logs: u64,
    /// How many entries, each with its receipt.
    pub entries: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// A device of a space.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// Its id in this space.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// What its owner calls it.
    pub label: String,
    /// What it may do.
    #[serde(serialize_with = "as_role")]
    pub role: Role,
    /// The highest band it may read, if its role lets it read.
    #[serde(serialize_with = "as_band")]
    pub clearance: Band,
    /// Whose device it is.
    #[serde(serialize_with = "as_text")]
    pub member: MemberId,
    /// Its profile's transport key.
    #[serde(serialize_with = "as_text")]
    pub transport: TransportId,
    /// Whether it is this one.
    pub me: bool,
}

impl DeviceInfo {
    pub(crate) fn of(id: &DeviceId, device: &larder_log::roster::Device, me: &DeviceId) -> Self {
        Self {
            device: *id,
            label: device.label.clone(),
            role: device.role,
            clearance: device.clearance,
            member: device.member,
            transport: device.keys.transport,
            me: id == me,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(crate) fn as_band<S: Serializer>(band: &Band, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{band:?}").to_lowercase())
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
pub(crate) fn as_optional_band<S: Serializer>(
    band: &Option<Band>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match band {
        Some(band) => as_band(band, serializer),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn as_role<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(role)
}

/// How far one log has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogStatus {
    /// Whose log.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// What its owner calls the device.
    pub label: String,
    /// How many of its entries are held here.
    pub size: u64,
    /// Which devices say that they hold how many.
    pub acknowledged: Vec<(String, u64)>,
    /// Whether it was stopped because it contradicts itself.
    pub forked: bool,
}

/// What there is to the renewal of a space's at-rest key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RekeyStatus {
    /// None is wished for.
    None,
    /// One is wished for and not under way: it begins when the space is opened next.
    Wished,
    /// Under way.
    Copying {
        /// Pages of 4 KiB in the new file.
        pages: u64,
        /// Pages that there are now.
        pages_total: u64,
    },
}

/// What is above a device's clearance and here until another device has it: nobody can read it on
/// this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Sections of entries.
    pub sections: u64,
    /// Documents whose entries were pruned.
    pub documents: u64,
    /// Chunks of blobs.
    pub chunks: u64,
}

/// What there is in a space.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpaceStatus {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub name: SpaceName,
    /// Its id.
    #[serde(serialize_with = "as_text")]
    pub id: SpaceId,
    /// This device's id in it.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// Whether it can be read and written, and why not.
    pub state: SpaceState,
    /// Documents that are not deleted.
    pub documents: u64,
    /// Those of them that are in the trash.
    pub trashed: u64,
    /// What is over its time, where a person is asked about it: no other device's clock is known.
    pub retention: Option<RetentionDue>,
    /// Documents that were.
    pub tombstones: u64,
    /// Whether nothing of it ever leaves this device: what is in it is lost with that.
    pub stays_here: bool,
    /// Entries of all logs.
    pub entries: u64,
    /// Entries that some device signed for and that are not here.
    pub lacking: u64,
    /// Sections that cannot be opened here yet.
    pub waiting: u64,
    /// Sections that are durable here and that cannot be read yet, for a moment: bytes and secrets
    /// are there.
    pub pending: u64,
    /// Documents, live or deleted, that the search indexes are behind with.
    pub unindexed: u64,
    /// Blobs: how many there are, and how many are waited for.
    pub blobs: BlobsStatus,
    /// Sections whose bytes were pruned.
    pub pruned: u64,
    /// Sections whose bytes nobody in the space has any more: all have said so who might, and they
    /// are waited for no more.
    pub lost: u64,
    /// What is above this device's clearance and kept until another device has it.
    pub kept: Kept,
    /// Bytes of the space's file and its WAL.
    pub file_bytes: u64,
    /// About how many of them the index of words takes.
    pub words_bytes: u64,
    /// About how many of them vectors take.
    pub vectors_bytes: u64,
    /// When its at-rest key was drawn, as this device's clock had it.
    #[serde(serialize_with = "as_text")]
    pub key_created: Timestamp,
    /// What there is to the renewal of that key.
    pub rekey: RekeyStatus,
    /// The logs.
    pub logs: Vec<LogStatus>,
    /// The devices.
    pub devices: Vec<DeviceInfo>,
    /// How far each of them is known to be.
    pub progress: Vec<DeviceProgress>,
}

/// What pruning came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Snapshots that this device stated by it.
    pub stated: u64,
    /// Sections whose bytes were dropped.
    pub sections: u64,
    /// Those bytes.
    pub bytes: u64,
    /// Bytes of the space's file before, as they are once its WAL is written back.
    pub file_bytes_before: u64,
    /// The same after it. The file gets shorter only where much of it is free.
    pub file_bytes_after: u64,
}

/// How far a space could be pruned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneStatus {
    /// Entries that the snapshot covers on which all devices agreed.
    pub covered: u64,
    /// Entries that every device has, and every writer's log names.
    pub stable: u64,
    /// Sections of documents whose bytes are here.
    pub sections: u64,
    /// Those bytes.
    pub bytes: u64,
    /// Devices that have not stated yet what this one stated last, unless what is agreed on by now
    /// includes it.
    #[serde(serialize_with = "as_texts")]
    pub waits_for: Vec<DeviceId>,
}

pub(crate) fn as_texts<T: ToString, S: Serializer>(
    values: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
