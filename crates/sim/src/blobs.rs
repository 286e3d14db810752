//! What apps do with blobs: they add some, name them in documents, fetch those that their device
//! does not fetch by itself, and have room made.
//!
//! What a blob is to be is known by the content that was given; whatever is said to be whole, on
//! any device, is read and compared with that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use larder_crypto::hash::sha256;
use larder_engine::{
    BlobAt, BlobPolicy, ChunkBytes, Error, NewBlob, NewChunk, NewManifest, Space, StoreErrorKind,
};
use larder_types::{BlobId, Entropy, Hash};
use serde_json::{Value, json};

use crate::device::{Job, Slot};
use crate::world::World;

/// Chunks as they are cut here: small, so that a blob has several.
pub(crate) const CUT: ChunkBytes = ChunkBytes { min: 256, mean: 768, max: 2048 };
const BLOB_BYTES_MAX: u64 = 6000;
/// Contents that are added again, as they were or a little changed.
const CONTENTS_KEPT_MAX: usize = 8;
/// The member of a document's value that names one.
const MEMBER: &str = "photo";

/// What apps know of blobs.
#[derive(Default)]
pub(crate) struct Blobs {
    /// What each is to be, of those of which an app was told.
    known: BTreeMap<BlobId, Hash>,
    /// What any may be: of some nobody knows whether they were added.
    contents: BTreeSet<Hash>,
    kept: Vec<Vec<u8>>,
    /// Of all chunks that were ever cut.
    digests: Vec<Hash>,
    /// Added on a device, and not named yet.
    unnamed: BTreeMap<Slot, Vec<BlobId>>,
}

/// A blob that is being added.
pub(crate) struct Adding {
    manifest: NewManifest,
    content: Hash,
}

impl Blobs {
    /// Some chunks that a space holds.
    pub(crate) fn digests_held(&self, space: &Space, most: usize) -> Vec<Hash> {
        let mut held = space.held_chunks(&self.digests).unwrap_or_default();
        held.truncate(most);
        held
    }
}

/// What apps do.
impl World {
    /// Now and then an app does something with blobs.
    pub(crate) fn act_on_blobs(&mut self, slot: Slot) {
        if !self.plan.has_blobs || !self.devices[slot].is_up() {
            return;
        }
        match self.dice.below(100) {
            0..8 => self.add_blob(slot),
            8..14 => self.enqueue_for_blob(slot),
            14..18 => {
                let by_hand = self.dice.chance(50);
                self.enqueue(slot, Job::CollectBlobs(by_hand));
            }
            _ => {}
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let at = self.below(self.blobs.kept.len() as u64);
        let mut content = vec![0; self.below(BLOB_BYTES_MAX)];
        self.dice.fill(&mut content);
        if self.dice.chance(30)
            && let Some(kept) = self.blobs.kept.get(at)
        {
            content = kept.clone();
            let place = self.below(content.len() as u64 + 1);
            if self.dice.chance(60) {
                content.insert(place, 7);
            }
        }
        if self.blobs.kept.len() < CONTENTS_KEPT_MAX {
            self.blobs.kept.push(content.clone());
        }
        content
    }

    fn add_blob(&mut self, slot: Slot) {
        let Some(space) = self.devices[slot].space().cloned() else { return };
        let bytes = self.content();
        let content = sha256(&[&bytes]);
        self.blobs.contents.insert(content);
        let about = NewBlob { media_type: "image/png".into(), name: None, band: None };
        // All of it is one part.
        let read = space.add_blob(Cursor::new(bytes), about).and_then(|mut adding| {
            let part = adding.part()?;
            Ok((part, adding.finish()?))
        });
        if self.notice_power(slot) {
            return;
        }
        match read {
            Ok((part, manifest)) => {
                self.blobs.digests.extend(part.iter().map(|chunk| chunk.digest));
                self.enqueue(slot, Job::StageBlob(part, Box::new(Adding { manifest, content })));
            }
            Err(error) => self.storage_failed(slot, &error.to_string()),
        }
    }

    /// Its chunks are durable, and then it is added; anything may happen in between.
    pub(crate) fn stage_blob(&mut self, slot: Slot, part: &[NewChunk], adding: Box<Adding>) {
        let staged = self.devices[slot].writer().expect("it is open").stage(part);
        if self.notice_power(slot) {
            return;
        }
        match staged {
            Ok(()) => self.enqueue(slot, Job::CommitBlob(adding)),
            Err(error) => self.does_not_add(slot, &error),
        }
    }

    pub(crate) fn commit_blob(&mut self, slot: Slot, adding: &Adding) {
        let added = self.devices[slot].writer().expect("it is open").commit_blob(&adding.manifest);
        if self.notice_power(slot) {
            return;
        }
        match added {
            Ok(info) => {
                self.note(|| format!("{slot} adds blob {} as entry {}", info.id, info.seq));
                self.report.count("blobs: added");
                self.blobs.known.insert(info.id, adding.content);
                self.blobs.unnamed.entry(slot).or_default().push(info.id);
                self.committed(slot);
                self.parcels_changed(slot);
            }
            // What it shared with another was removed meanwhile.
            Err(Error::Invalid(_)) => self.report.count("blobs: not added after all"),
            Err(error) => self.does_not_add(slot, &error),
        }
    }

    fn does_not_add(&mut self, slot: Slot, error: &Error) {
        let is_full = matches!(error, Error::Store(e) if e.kind() == StoreErrorKind::Full);
        self.note(|| format!("{slot} adds no blob: {error}"));
        if !is_full || !self.devices[slot].is_full {
            let _ = self.fate(slot, error, false);
        }
    }

    /// What a new document names.
    pub(crate) fn photo(&mut self, slot: Slot) -> Option<(String, Value)> {
        let own = self.blobs.unnamed.get_mut(&slot).and_then(Vec::pop);
        let any: Vec<BlobId> = self.blobs.known.keys().copied().collect();
        let id = match own {
            Some(id) => id,
            None if self.plan.has_blobs && self.dice.chance(10) => self.pick(&any)?,
            None => return None,
        };
        Some((MEMBER.to_owned(), json!({ "$blob": id.to_string() })))
    }

    /// Somebody wants to look at a blob that is not on this device.
    fn enqueue_for_blob(&mut self, slot: Slot) {
        let known: Vec<BlobId> = self.blobs.known.keys().copied().collect();
        if let Some(id) = self.pick(&known) {
            self.enqueue(slot, Job::WantBlob(id));
        }
    }

    pub(crate) fn want_blob(&mut self, slot: Slot, id: &BlobId) {
        let wanted = self.devices[slot].writer().expect("it is open").want_blob(id);
        if self.notice_power(slot) {
            return;
        }
        match wanted {
            Ok(()) => {
                self.report.count("blobs: asked for by hand");
                self.parcels_changed(slot);
            }
            Err(Error::NotFound(_)) => {}
            Err(error) => {
                let _ = self.fate(slot, &error, false);
            }
        }
    }

    pub(crate) fn set_blob_policy(&mut self, slot: Slot) {
        let eager_bytes_max = self.devices[slot].likes.blob_bytes_max;
        let policy = BlobPolicy { eager_bytes_max };
        let set = self.devices[slot].writer().expect("it is open").set_blob_policy(policy);
        if !self.notice_power(slot)
            && let Err(error) = set
        {
            let _ = self.fate(slot, &error, false);
        }
    }

    /// Room is made: what no document names may go, and nothing else.
    pub(crate) fn collect_blobs(&mut self, slot: Slot, by_hand: bool) {
        let Some(before) = self.named_and_whole(slot) else { return };
        let writer = self.devices[slot].writer().expect("it is open");
        let collected = if by_hand { writer.collect_blobs() } else { writer.tend_blobs() };
        if self.notice_power(slot) {
            return;
        }
        match collected {
            Ok(collected) => {
                self.report.add("blobs: chunks collected", collected.chunks);
                let Some(after) = self.named_and_whole(slot) else { return };
                let gone = before.difference(&after).next();
                assert!(gone.is_none(), "{slot} removed {gone:?}, which a document names");
                self.report.add("check: blobs left alone", before.len() as u64);
            }
            Err(error) => {
                let _ = self.fate(slot, &error, false);
            }
        }
    }
}

/// What must hold.
impl World {
    /// Blobs that documents name on this device, by their values; none if storage does not answer.
    fn blobs_named(&self, slot: Slot) -> Option<BTreeSet<BlobId>> {
        let space = self.devices[slot].space()?;
        let (mut named, mut after) = (BTreeSet::new(), None);
        loop {
            let page = space.list(None, after, 1000).ok()?;
            for document in &page.documents {
                let id = document.value.get(MEMBER).and_then(|photo| photo.get("$blob"));
                named.extend(id.and_then(Value::as_str).and_then(|id| id.parse::<BlobId>().ok()));
            }
            after = page.next;
            if after.is_none() {
                return Some(named);
            }
        }
    }

    fn named_and_whole(&mut self, slot: Slot) -> Option<BTreeSet<BlobId>> {
        let named = self.blobs_named(slot);
        let space = self.devices[slot].space()?.clone();
        let whole = named.map(|mut named| {
            named.retain(|id| matches!(space.blob(id), Ok(Some(info)) if info.missing == 0));
            named
        });
        if self.notice_power(slot) { None } else { whole }
    }

    /// What one of these devices wants, and another one holds.
    pub(crate) fn unfetched(&self, members: &[Slot]) -> Option<String> {
        if !self.plan.has_blobs {
            return None;
        }
        let space = |slot: &Slot| self.devices[*slot].space().expect("it is up");
        for slot in members.iter().filter(|slot| !self.devices[**slot].is_rotten) {
            let wanted = space(slot).wanted_chunks(BlobAt::default(), usize::MAX);
            let wanted: Vec<Hash> =
                wanted.expect("storage that works").into_iter().map(|(_, digest)| digest).collect();
            for other in members.iter().filter(|other| *other != slot) {
                let held = space(other).held_chunks(&wanted).expect("storage that works");
                if !held.is_empty() && !self.devices[*other].is_rotten {
                    let chunks = held.len();
                    return Some(format!("{slot} wants {chunks} chunks that {other} holds"));
                }
            }
        }
        None
    }

    /// What is whole is what was added, and what a document names is whole where it is wanted and
    /// somebody has it.
    pub(crate) fn check_blobs(&mut self, slot: Slot) {
        if !self.plan.has_blobs || self.devices[slot].is_rotten {
            return;
        }
        let space = self.devices[slot].space().expect("it is up").clone();
        let named = self.blobs_named(slot).expect("storage that works");
        let policy = space.blob_policy().expect("storage that works").eager_bytes_max;
        let missing = space.wanted_chunks(BlobAt::default(), usize::MAX).expect("the same").len();
        for info in space.blobs().expect("storage that works") {
            assert!(
                info.named == named.contains(&info.id),
                "{slot} has it that {} is named: {}",
                info.id,
                info.named
            );
            if info.missing > 0 {
                // It lacks what nobody has, or does not want it.
                let is_eager = info.named && info.size <= policy;
                assert!(!is_eager || missing > 0, "{slot} does not ask for {}", info.id);
                self.report.count("check: blobs that are not whole");
                continue;
            }
            let mut bytes = Vec::new();
            let read = space.read_blob(&info.id).expect("a whole blob").read_to_end(&mut bytes);
            assert!(read.is_ok(), "{slot} cannot read blob {}, which is whole: {read:?}", info.id);
            let content = sha256(&[&bytes]);
            let is_right = match self.blobs.known.get(&info.id) {
                Some(known) => *known == content,
                None => self.blobs.contents.contains(&content),
            };
            assert!(is_right, "blob {} of {slot} is not what was added", info.id);
            self.report.count("check: blobs read");
        }
    }
}
