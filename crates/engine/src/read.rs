//! Reading a space: documents, searches, histories, receipts. Every call sees one snapshot.

use larder_crypto::hash::sha256;
use larder_document::Heads;
use larder_log::checkpoint::Checkpoint;
use larder_log::merkle::{self, Frontier};
use larder_log::{Band, Class, Header, Opened, Payload, Receipt, kind};
use larder_search::{Among, Hit};
use larder_store::space::documents::Which;
use larder_store::space::logs::{self, Log, LogId, Tree};
use larder_store::space::sections::{self, Section};
use larder_store::space::{copies, documents, entries, erasures, tombstones, transactions};
use larder_types::limits::SEARCH_RESULTS_MAX;
use larder_types::{DeviceId, Hash, ObjectId, canonical};
use rusqlite::Connection;

use crate::clearance::writes_up_to;
use crate::contract::{self, PersonalKind};
use crate::keyring::Opening;
use crate::model::{Cursor, Document, Found, Page, Query, ReceiptInfo};
use crate::rows::{APP_VECTORS, text_of};
use crate::space::{Published, Space};
use crate::tally::VoidCause;
use crate::touched::parse;
use crate::unit::parse_collection;
use crate::{Error, Result};

const PAGE_MAX: usize = 1000;

impl Space {
    /// Reads the space's whole database and checks that nothing in it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Damaged`](crate::StoreError::Damaged) with what is wrong; the storage's
    /// errors.
    pub fn check(&self) -> Result<()> {
        let checked = match self.shared.pool.reader() {
            Ok(db) => larder_store::check(&db),
            Err(error) => Err(error),
        };
        match checked.map_err(Error::from) {
            Ok(()) => {
                self.shared.trouble.is_whole();
                Ok(())
            }
            Err(error) => {
                self.note_failure(&error);
                Err(error)
            }
        }
    }

    /// A document, unless there is none or it was deleted. It may be in the trash.
    ///
    /// # Errors
    /// [`Error::Auditor`]; the storage's errors.
    pub fn document(&self, object: &ObjectId) -> Result<Option<Document>> {
        self.check_reads()?;
        let db = self.shared.pool.reader()?;
        self.sight.row(&db, object)?.map(|row| self.document_of(&db, row)).transpose()
    }

    /// Whether there is, or was, a document of this id.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn knows(&self, object: &ObjectId) -> Result<bool> {
        Ok(self.document_row(object)?.is_some()
            || self.is_deleted(object)?
            || self.is_erased(object)?)
    }

    fn document_row(&self, object: &ObjectId) -> Result<Option<documents::Document>> {
        self.sight.row(&*self.shared.pool.reader()?, object)
    }

    /// Whether a document was deleted here or elsewhere.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn is_deleted(&self, object: &ObjectId) -> Result<bool> {
        self.sight.is_deleted(&*self.shared.pool.reader()?, object)
    }

    /// Whether a document was erased here or elsewhere, be it because it was redacted.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn is_erased(&self, object: &ObjectId) -> Result<bool> {
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let acts = erasures::of_object(&db, object)?;
        Ok(tombstones::erased_up_to(&db, object)?.is_some()
            || acts.iter().any(|act| act.stage != erasures::State::Void))
    }

    /// The documents of a collection whose top-level field `path` is this text, but those in the
    /// trash.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name; [`Error::Auditor`]; the storage's errors.
    pub fn find(&self, collection: &str, path: &str) -> Result<Vec<Document>> {
        self.check_reads()?;
        let collection = parse_collection(collection)?;
        let db = self.shared.pool.reader()?;
        let rows = documents::by_path(&db, &collection, path)?.into_iter();
        rows.filter(|row| self.sight.sees(row.band)).map(|row| self.document_of(&db, row)).collect()
    }

    /// Up to `limit` documents (1,000 at most) of one collection or all, from `after` on; none of
    /// the trash.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name; [`Error::Auditor`]; the storage's errors.
    pub fn list(
        &self,
        collection: Option<&str>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        self.page(Which::Shown, collection, after, limit)
    }

    /// The same of the documents that are in the trash.
    ///
    /// # Errors
    /// As [`Space::list`].
    pub fn list_trash(
        &self,
        collection: Option<&str>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        self.page(Which::Trashed, collection, after, limit)
    }

    fn page(
        &self,
        which: Which,
        collection: Option<&str>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        self.check_reads()?;
        let collection = collection.map(parse_collection).transpose()?;
        let db = self.shared.pool.reader()?;
        let limit = limit.clamp(1, PAGE_MAX);
        let after = after.map_or(0, |cursor| cursor.0);
        let rows = documents::page(
            &db,
            (which, collection.as_ref(), self.sight.up_to()),
            after,
            limit_of(limit),
        )?;
        let full = rows.len() == limit;
        let next = rows.last().filter(|_| full).map(|row| Cursor(row.document));
        let documents =
            rows.into_iter().map(|row| self.document_of(&db, row)).collect::<Result<Vec<_>>>()?;
        Ok(Page { documents, next })
    }

    /// Searches by words, by nearness, or both; the best first. Nothing of the trash is found.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a vector has another number of dimensions than those it is compared
    /// with, or the embedder fails; [`Error::Auditor`]; the storage's errors.
    pub fn search(&self, query: &Query) -> Result<Vec<Found>> {
        self.check_reads()?;
        let db = self.shared.pool.reader()?;
        let wanted = query.limit.min(SEARCH_RESULTS_MAX);
        // The indexes hold what is in the trash: as much more is looked for.
        let trashed = usize::try_from(documents::count_trashed(&db)?).unwrap_or(usize::MAX);
        let limit = wanted + trashed.min(SEARCH_RESULTS_MAX);
        // Those above a clearance would take the place of others, and that would show.
        let up_to = (!self.sight.is_whole()).then(|| self.sight.up_to());
        let seen = up_to.map(|band| documents::shown_up_to(&db, band)).transpose()?;
        let among = Among { collection: query.collection.as_deref(), documents: seen.as_deref() };
        let mut lists: Vec<Vec<Hit>> = Vec::new();
        if let Some(text) = &query.text {
            lists.push(larder_search::query_text(&db, text, &among, limit)?);
        }
        if let Some(text) = &query.similar {
            let embedder = &self.shared.embedder;
            let vectors = embedder
                .embed_batch(&[text])
                .map_err(|e| Error::Invalid(format!("the embedder failed on this query: {e}")))?;
            if let Some(vector) = vectors.first() {
                let id = embedder.id();
                lists.push(larder_search::query_vector(&db, id, vector, &among, limit)?);
            }
        }
        if let Some(vector) = &query.vector {
            lists.push(larder_search::query_vector(&db, APP_VECTORS, vector, &among, limit)?);
        }
        let hits = match (lists.pop(), lists.is_empty()) {
            // How rare a word is in all documents shows in what it weighs.
            (Some(only), true) if !self.sight.is_whole() => larder_search::fuse(&[only]),
            (Some(only), true) => only,
            (Some(last), false) => {
                lists.push(last);
                larder_search::fuse(&lists)
            }
            (None, _) => Vec::new(),
        };
        let words = query.text.as_deref().or(query.similar.as_deref()).unwrap_or_default();
        let found = hits.into_iter().filter_map(|hit| self.found(&db, &hit, words).transpose());
        found.take(wanted).collect()
    }

    /// A digest over all live documents and all tombstones: the same on devices with the same
    /// content. Takes time in proportion to the space's size.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn digest(&self) -> Result<Hash> {
        self.digest_up_to(Band::Black)
    }

    /// The same up to a band: the same on all devices that are cleared for it.
    ///
    /// # Errors
    /// As [`Space::digest`].
    pub fn digest_up_to(&self, band: Band) -> Result<Hash> {
        let db = self.shared.pool.reader()?;
        let band = band.min(self.sight.up_to());
        // One leaf of 48 bytes for each object, in order of id, so that the order of arrival is no
        // matter.
        let mut leaves: Vec<(ObjectId, Hash)> = Vec::new();
        documents::each(&db, None, |row| {
            if row.band > band {
                return Ok(());
            }
            let fields = (row.object, row.collection.as_str(), row.generation, row.json.as_str());
            let label: &[u8] =
                if row.trashed.is_some() { b"larder/trashed/v0" } else { b"larder/live/v0" };
            leaves.push((row.object, sha256(&[label, &canonical::encode(&fields)])));
            Ok::<_, Error>(())
        })?;
        let mut after = None;
        loop {
            let page = tombstones::page(&db, after, limit_of(PAGE_MAX))?;
            let Some(last) = page.last() else { break };
            after = Some((last.object, last.band));
            for tombstone in page.iter().filter(|tombstone| tombstone.band <= band) {
                let of = [tombstone.band as u8];
                let digest = sha256(&[b"larder/tombstone/v0", tombstone.object.as_bytes(), &of]);
                leaves.push((tombstone.object, digest));
            }
        }
        leaves.sort_unstable();
        let hashes: Vec<Hash> = leaves.into_iter().map(|(_, hash)| hash).collect();
        Ok(larder_log::merkle::root_of(&hashes))
    }

    /// The receipt of one entry, against its log's newest checkpoint here.
    ///
    /// # Errors
    /// [`Error::NotFound`]; the storage's errors.
    pub fn receipt(&self, device: &DeviceId, seq: u64) -> Result<Receipt> {
        let db = self.shared.pool.reader()?;
        let missing =
            || Error::NotFound(format!("there is no entry {seq} of the device {device} here"));
        let log = logs::find(&db, device)?.filter(|log| (1..=log.frontier.size()).contains(&seq));
        let log = log.ok_or_else(missing)?;
        let last = transactions::last_of(&db, log.log)?.ok_or_else(missing)?;
        self.shared.is_shown(&db, &log)?;
        let checkpoint = self.checkpoint(log.device, &log.frontier);
        receipt(&db, &checkpoint, log.log, seq, last.signature)
    }

    /// Up to `limit` entries (1,000 at most) in short, those of each log in order, from behind
    /// `after` on.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn receipts(
        &self,
        after: Option<(DeviceId, u64)>,
        limit: usize,
    ) -> Result<Vec<ReceiptInfo>> {
        let db = self.shared.pool.reader()?;
        let limit = limit.clamp(1, PAGE_MAX);
        let published = self.shared.published()?;
        let mut logs = logs::every(&db)?;
        logs.sort_by_key(|log| log.device);
        let mut receipts = Vec::new();
        for log in logs {
            let first = match after {
                Some((device, _)) if log.device < device => continue,
                Some((device, seq)) if log.device == device => seq + 1,
                _ => 1,
            };
            let wanted = (limit - receipts.len()) as u64;
            let last = log.frontier.size().min((first - 1).saturating_add(wanted));
            for entry in entries::range(&db, log.log, first, last)? {
                receipts.push(self.receipt_info(&db, &published, &log, &entry)?);
            }
            if receipts.len() >= limit {
                break;
            }
        }
        Ok(receipts)
    }

    /// Whether something that this device wrote is here.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn has_log(&self, device: &DeviceId) -> Result<bool> {
        Ok(logs::find(&*self.shared.pool.reader()?, device)?.is_some())
    }

    /// What kinds of personal data the author's app found in what it wrote with this entry, as far
    /// as it looked and the entry can be opened here. Opens all of its sections.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn personal(&self, device: &DeviceId, seq: u64) -> Result<Vec<PersonalKind>> {
        let db = self.shared.pool.reader()?;
        let published = self.shared.published()?;
        let Some(log) = logs::find(&db, device)? else { return Ok(Vec::new()) };
        let mut found = 0;
        for section in sections::of_entry(&db, log.log, seq)? {
            let is_data = section.commitment.class == Class::Data as u8;
            if is_data && self.sight.sees_section(&published, &section) {
                let opened = opened(&db, &published, &section)?;
                found |= opened.and_then(|opened| opened.metadata.personal).unwrap_or(0);
            }
        }
        Ok(contract::kinds(found))
    }

    fn receipt_info(
        &self,
        db: &Connection,
        published: &Published,
        log: &Log,
        entry: &entries::Entry,
    ) -> Result<ReceiptInfo> {
        let mut sections = sections::of_entry(db, log.log, entry.seq)?;
        sections.retain(|section| {
            section.commitment.class == Class::Control as u8
                || self.sight.sees_section(published, section)
        });
        let about = || sections.iter().filter_map(|section| section.about);
        let mut kinds: Vec<&'static str> = about().map(|about| word_of(about.kind)).collect();
        kinds.dedup();
        let void = sections.iter().filter(|section| section.state == sections::State::Void);
        let mut void: Vec<&'static str> =
            void.map(|section| why_void(published, &log.device, section)).collect();
        void.sort_unstable();
        void.dedup();
        let header = Header::decode(&entry.header)
            .map_err(|e| Error::Corrupt(format!("the header of entry {}: {e}", entry.seq)))?;
        Ok(ReceiptInfo {
            device: log.device,
            seq: entry.seq,
            entry: entry.hash,
            sections: header.n,
            clock: about().next().map(|about| about.clock),
            kinds,
            void,
        })
    }

    pub(crate) fn checkpoint(&self, device: DeviceId, frontier: &Frontier) -> Checkpoint {
        let (size, root) = (frontier.size(), frontier.root());
        Checkpoint { space: self.id(), device, size, root }
    }
}

/// Why a section counts for nothing, in a word. By the roster of now: what was void when it came
/// may be so for another reason since.
fn why_void(published: &Published, device: &DeviceId, section: &Section) -> &'static str {
    if section.commitment.class != Class::Data as u8 {
        return VoidCause::Act.name();
    }
    match writes_up_to(&published.roster, device, section.place.seq) {
        None => VoidCause::Role.name(),
        own if own < published.keyring.band(&section.commitment) => VoidCause::Band.name(),
        Some(_) => "content",
    }
}

fn limit_of(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

impl Space {
    fn document_of(&self, db: &Connection, row: documents::Document) -> Result<Document> {
        let value = parse(&row.json)?;
        let mut heads: Heads = canonical::decode(&row.heads, row.heads.len())?;
        if heads.is_flat() && copies::is_passed(db, &row.object)? {
            heads = larder_document::Document::flat(value.clone()).created()?;
        }
        Ok(Document {
            object: row.object,
            collection: row.collection,
            value,
            heads,
            updated: row.updated.clock,
            by: logs::by_number(db, row.updated.log)?.device,
            trashed: row.trashed,
            band: self.shared.shown(row.band),
        })
    }

    fn found(&self, db: &Connection, hit: &Hit, words: &str) -> Result<Option<Found>> {
        let row = documents::by_number(db, hit.document)?.filter(|row| row.trashed.is_none());
        let Some(row) = row else { return Ok(None) };
        let document = self.document_of(db, row)?;
        let snippet = larder_search::snippet(&text_of(&document.value), words);
        Ok(Some(Found { document, score: hit.score, snippet }))
    }
}

/// A stored section opened, if its bytes and its secret are here, and not for others only.
pub(crate) fn opened(
    db: &Connection,
    published: &Published,
    section: &sections::Section,
) -> Result<Option<Opened>> {
    if section.state == sections::State::Hidden {
        return Ok(None);
    }
    match sections::payload(db, section.place)? {
        Payload::Missing => Ok(None),
        Payload::Opened(bytes) => larder_log::unpack(&bytes)
            .map(Some)
            .map_err(|e| Error::Corrupt(format!("a stored section: {e}"))),
        Payload::Sealed(sealed) => {
            let place = section.place;
            let header = entries::find(db, place.log, place.seq)?
                .and_then(|entry| Header::decode(&entry.header).ok())
                .ok_or_else(|| Error::Corrupt("a section's entry is missing".into()))?;
            Ok(match published.keyring.open(&header, place.index, &section.commitment, &sealed) {
                Opening::Opened(opened) => Some(*opened),
                Opening::NoSecret | Opening::Void => None,
            })
        }
    }
}

/// One state of the database for several queries.
pub(crate) fn snapshot(db: &Connection) -> Result<rusqlite::Transaction<'_>> {
    let begun = db.unchecked_transaction();
    begun.map_err(|source| larder_store::StoreError::Read { part: "transaction", source }.into())
}

/// The word for a kind of section.
pub(crate) const fn word_of(kind: u16) -> &'static str {
    match kind {
        kind::DOCUMENT_CREATE => "create",
        kind::DOCUMENT_CHANGE => "change",
        kind::DOCUMENT_DELETE => "delete",
        kind::BLOB => "blob",
        kind::GENESIS => "genesis",
        kind::ENROLMENT => "enrolment",
        kind::CHANGE => "role",
        kind::REVOCATION => "revocation",
        kind::RECOVERY => "recovery",
        kind::EPOCH => "epoch",
        kind::SNAPSHOT => "snapshot",
        kind::ERASE => "erase",
        kind::ERASED => "erased",
        kind::SEALING_KEY => "key",
        kind::ADOPTION => "adoption",
        kind::RETENTION => "retention",
        kind::QUARANTINE => "quarantine",
        kind::LACK => "lack",
        kind::POLICY => "policy",
        kind::CONTRACT => "contract",
        _ => "other",
    }
}

/// The receipt of entry `seq` of a log, against a checkpoint of it.
pub(crate) fn receipt(
    db: &Connection,
    checkpoint: &Checkpoint,
    log: LogId,
    seq: u64,
    signature: [u8; 64],
) -> Result<Receipt> {
    let entry = entries::find(db, log, seq)?.ok_or_else(|| {
        Error::NotFound(format!("there is no entry {seq} in the log of {}", checkpoint.device))
    })?;
    let index = seq - 1;
    let proof = merkle::inclusion_proof(&Tree::new(db, log), index, checkpoint.size)?;
    let header = entry.header;
    Ok(Receipt { header, index, proof, checkpoint: *checkpoint, signature, object: None })
}
