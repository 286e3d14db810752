//! What a member has written: by the logs of its devices, whatever became of it since.

use std::collections::{BTreeMap, BTreeSet};

use larder_document::body;
use larder_log::kind;
use larder_store::space::sections::{self, Section, State};
use larder_store::space::{documents, logs, tombstones};
use larder_types::{CollectionName, DeviceId, MemberId, ObjectId};
use rusqlite::Connection;
use serde::Serialize;

use crate::copies::is_deleted;
use crate::history::leaf;
use crate::model::{as_optional_text, as_text};
use crate::read::{opened, snapshot};
use crate::space::{Published, Space};
use crate::transfer::{COPIED, MOVED};
use crate::{Band, Result};

/// What a member's devices have written in a space, as far as it is known here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WrittenBy {
    /// The documents, in the order of their ids.
    pub documents: Vec<WrittenDocument>,
    /// Sections of theirs that are above this device's clearance, or do not open here: what they
    /// are of is not known.
    pub closed: u64,
}

/// A document that a member has written in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenDocument {
    /// Its id.
    #[serde(serialize_with = "as_text")]
    pub object: ObjectId,
    /// Its collection; none of one that was deleted.
    #[serde(serialize_with = "as_optional_text")]
    pub collection: Option<CollectionName>,
    /// How sensitive it is; none of one that was deleted.
    #[serde(serialize_with = "as_optional_text")]
    pub band: Option<Band>,
    /// Whether it was deleted. Its content is in the log until it is erased.
    pub deleted: bool,
    /// Creations, edits and deletions of the member's.
    pub edits: u64,
    /// How many of those of others, by device.
    #[serde(serialize_with = "as_map")]
    pub others: BTreeMap<DeviceId, u64>,
    /// Whether that is all, for sure. Of what was pruned only the creation and the last change may
    /// be known; and what was restored, redacted, copied or moved may be in others' words, whoever
    /// did that.
    pub all_known: bool,
}

impl WrittenDocument {
    /// Whether nobody else has written in it, for sure.
    pub fn is_alone(&self) -> bool {
        self.others.is_empty() && self.all_known
    }
}

impl Space {
    /// What the devices of a member have written, those that were shut out too. What was erased is
    /// not in it. Goes once over all sections of the space.
    ///
    /// # Errors
    /// [`Error::Auditor`](crate::Error::Auditor); the storage's errors.
    pub fn written_by(&self, member: MemberId) -> Result<WrittenBy> {
        self.check_reads()?;
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let of_member = |device: &DeviceId| {
            published.roster.known(device).is_some_and(|known| known.member == member)
        };
        let devices: BTreeMap<_, _> =
            logs::every(&db)?.into_iter().map(|log| (log.log, log.device)).collect();
        let (mut objects, mut closed, mut after) = (BTreeSet::new(), 0, 0);
        loop {
            let page = sections::page(&db, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.section;
            for section in page {
                if !devices.get(&section.place.log).is_some_and(of_member) {
                    continue;
                }
                match section.about {
                    Some(about) if is_writing(about.kind) => objects.extend(about.object),
                    Some(_) => {}
                    None => closed += u64::from(section.state == State::Hidden),
                }
            }
        }
        let mut documents = Vec::new();
        for object in objects {
            let erased = tombstones::erased_up_to(&db, &object)?;
            let is_above = |row: documents::Document| Some(row.band) > erased;
            if erased.is_none() || documents::find(&db, &object)?.is_some_and(is_above) {
                let found = written(&db, &published, object, &devices, &of_member)?;
                let band = found.band.map(|band| self.shared.shown(band));
                documents.push(WrittenDocument { band, ..found });
            }
        }
        Ok(WrittenBy { documents, closed })
    }
}

fn written(
    db: &Connection,
    published: &Published,
    object: ObjectId,
    devices: &BTreeMap<logs::LogId, DeviceId>,
    of_member: &impl Fn(&DeviceId) -> bool,
) -> Result<WrittenDocument> {
    let (mut edits, mut others) = (0, BTreeMap::new());
    let all = sections::of_object(db, &object)?;
    let (mut known, mut is_created, mut all_known) = (BTreeSet::new(), false, true);
    for section in all.iter().filter(|section| section.state != State::Void) {
        // What waits for something else, or to be mended, was written all the same.
        let Some(about) = section.about.filter(|about| is_writing(about.kind)) else { continue };
        if about.kind == kind::DOCUMENT_CREATE {
            is_created = true;
            all_known &= is_own(db, published, section)?;
        }
        let Some(device) = devices.get(&section.place.log) else { continue };
        known.insert((*device, section.place.seq));
        if of_member(device) {
            edits += 1;
        } else {
            *others.entry(*device).or_insert(0) += 1;
        }
    }
    all_known &= is_created;
    let row = documents::find(db, &object)?;
    if let Some(leaf) = row.as_ref().map(|row| leaf(db, row)).transpose()?.flatten() {
        for stamp in [leaf.created, leaf.updated] {
            if known.insert((stamp.device, stamp.seq)) {
                all_known = false;
                if !of_member(&stamp.device) {
                    *others.entry(stamp.device).or_insert(0) += 1;
                }
            }
        }
    }
    let deleted = row.is_none() && is_deleted(db, &object)?;
    let (collection, band) = row.map(|row| (row.collection, row.band)).unzip();
    Ok(WrittenDocument { object, collection, band, deleted, edits, others, all_known })
}

/// Whether what a document was created with is its author's own, for sure.
fn is_own(db: &Connection, published: &Published, creation: &Section) -> Result<bool> {
    let Some(opened) = opened(db, published, creation)? else { return Ok(false) };
    let is_new = |create: body::Create| create.from.is_none() && create.redacted.is_none();
    let is_new = body::Create::decode(&opened.body).is_ok_and(is_new);
    Ok(is_new && !matches!(opened.metadata.actor.as_deref(), Some(COPIED | MOVED)))
}

const fn is_writing(of: u16) -> bool {
    matches!(of, kind::DOCUMENT_CREATE | kind::DOCUMENT_CHANGE | kind::DOCUMENT_DELETE)
}

fn as_map<S: serde::Serializer>(
    counts: &BTreeMap<DeviceId, u64>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(device, count)| (device.to_string(), count)))
}

const PAGE: u32 = 1024;
