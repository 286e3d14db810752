//! What was pruned comes to a device that lacks it as a snapshot; bytes that were withheld come
//! from whoever has them.
//!
//! Invariants: nothing of a snapshot is taken in that all devices did not agree on, each part being
//! held against the agreed root, and each document against its leaf; what is missing is neither
//! acknowledged nor forgotten until it is here or excused.

use larder_document::Heads;
use larder_log::ack::Ack;
use larder_log::blob::Manifest;
use larder_log::checkpoint::Checkpoint;
use larder_log::merkle;
use larder_log::snapshot::{Content, DocumentLeaf, Item, Leaf, Part, SnapshotAct, leaf_hash};
use larder_log::{Band, Header, Opened, Payload, kind};
use larder_protocol::{Fill, Run, Supply, Want};
use larder_store::space::logs::{self, Tree};
use larder_store::space::pieces as fetched;
use larder_store::space::sections::Section;
use larder_store::space::snapshots::{self, Snapshot};
use larder_store::space::{blobs, control, entries, sections, transactions};
use larder_types::limits::{BATCH_BYTES_TARGET, WANTED_MAX};
use larder_types::{BlobId, CloseCode, EpochId, Hash, TransportId};
use rusqlite::Connection;

use crate::clearance::{widen, widened};
use crate::copies::{Found, locate};
use crate::erase::is_unread;
use crate::keyring::{Opening, Resealed};
use crate::prune::accepted;
use crate::show::DOCUMENT_KINDS;
use crate::space::Space;
use crate::state::State as WriterState;
use crate::sync::Peer;
use crate::unreadable::Thing;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

mod parts;
mod pieces;
mod wants;

pub(crate) use parts::Handing;
pub use parts::PartBytes;
pub(crate) use parts::pieces_of;
use pieces::Took;
pub use wants::Wanted;
pub(crate) use wants::{Uncomputed, VoidTold};

#[cfg(test)]
mod tests;

impl Space {
    /// What this device can supply of what a peer wants, as it is now.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn supply(&self, peer: &TransportId, want: &Want, epochs: &[EpochId]) -> Result<Supply> {
        let Some((peer, clearance)) = self.reading_peer(peer, epochs)? else {
            return Ok(Supply::default());
        };
        let peer = peer.lacking();
        let db = self.shared.pool.reader()?;
        let db = db.unchecked_transaction().map_err(|source| {
            Error::from(larder_store::StoreError::Read { part: "transaction", source })
        })?;
        let snapshot = match &want.snapshot {
            Some(wanted) => self.part(&db, wanted, clearance)?,
            None => None,
        };
        let bytes = snapshot.as_ref().map_or(0, Vec::len);
        let (sections, void) = fills(&db, &peer, want, bytes)?;
        Ok(Supply { snapshot, sections, void, uncomputed: None })
    }

    /// Whether a peer wants leaves that this device could write down: of a snapshot that all
    /// devices agree on, where it holds none or a narrower one.
    pub(crate) fn could_write_down(&self, peer: &TransportId, want: &Want) -> Result<bool> {
        let Some(wanted) = &want.snapshot else { return Ok(false) };
        if !self.may_read(peer)? {
            return Ok(false);
        }
        let db = self.shared.pool.reader()?;
        let held = snapshots::in_state(&db, snapshots::State::Held)?;
        if held.is_some_and(|held| held.id == wanted.id) {
            return Ok(false);
        }
        let published = self.shared.published()?;
        let accepted = accepted(&db, &published.roster, published.clearance)?;
        let accepted = wider(&db, accepted)?;
        Ok(accepted.iter().any(|act| act.id() == wanted.id))
    }
}

/// Leaves read at once.
const LEAVES_PAGE: u32 = 256;

fn limit(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// What a payload takes, at least what it takes in memory.
fn payload_bytes(payload: &Payload) -> usize {
    size_of::<Payload>()
        + match payload {
            Payload::Missing => 0,
            Payload::Sealed(bytes) | Payload::Opened(bytes) => bytes.len(),
        }
}

/// Whether a leaf is of entries that its snapshot covers, and that did what it says.
fn is_within(db: &Connection, act: &SnapshotAct, leaf: &Leaf) -> Result<bool> {
    let (stamp, generation) = match leaf {
        Leaf::Tombstone(leaf) => (&leaf.deleted, None),
        Leaf::Document(leaf) => {
            if leaf.updated.seq > act.size_of(&leaf.updated.device) {
                return Ok(false);
            }
            (&leaf.created, Some(leaf.generation))
        }
    };
    let Some(log) = logs::find(db, &stamp.device)? else { return Ok(false) };
    let hash = entries::hash(db, log.log, stamp.seq)?;
    Ok(stamp.seq <= act.size_of(&stamp.device)
        && hash.is_some_and(|hash| generation.is_none_or(|generation| generation == hash)))
}

fn heads_of(leaf: &DocumentLeaf) -> Heads {
    Heads::from_hashes(leaf.heads.iter().map(|head| *head.as_bytes()))
}

/// Of accepted snapshots those that include the one that is held here, and more, or are of more
/// bands: another would not stand for all that was dropped.
fn wider(db: &Connection, accepted: Vec<SnapshotAct>) -> Result<Vec<SnapshotAct>> {
    let Some(held) = snapshots::in_state(db, snapshots::State::Held)? else { return Ok(accepted) };
    let is_wider = |act: &SnapshotAct| {
        act.includes(&held.act) && (act.id() != held.id || act.bands.len() > held.act.bands.len())
    };
    Ok(accepted.into_iter().filter(is_wider).collect())
}

/// Documents of a snapshot that nobody has handed over, once all else of it is here.
pub(crate) fn documents_lacking(db: &Connection) -> Result<u64> {
    match snapshots::in_state(db, snapshots::State::Receiving)?.filter(is_whole) {
        Some(half) => Ok(snapshots::count_wanted(db, half.snapshot)?),
        None => Ok(depleted(db)?.map_or(0, |(_, wanted)| wanted)),
    }
}

/// The held snapshot, if documents that it stands for went by an erasure that counts no more, and
/// how many.
pub(crate) fn depleted(db: &Connection) -> Result<Option<(Snapshot, u64)>> {
    let Some(held) = snapshots::in_state(db, snapshots::State::Held)? else { return Ok(None) };
    let wanted = snapshots::count_wanted(db, held.snapshot)?;
    Ok((wanted > 0).then_some((held, wanted)))
}

/// Whether something is to be asked for though no bytes are missing.
pub(crate) fn any_unread(db: &Connection) -> Result<bool> {
    Ok(sections::any_unread(db)? || depleted(db)?.is_some())
}

pub(crate) fn is_whole(half: &Snapshot) -> bool {
    half.act.whole().is_none_or(|tree| half.received.size() >= tree.leaves)
}

/// Bytes of what is wanted, as far as they fit into a frame beside `bytes` of others, and entries
/// of which sections open for nobody.
fn fills(
    db: &Connection,
    peer: &Peer<'_>,
    want: &Want,
    mut bytes: usize,
) -> Result<(Vec<Fill>, Vec<Run>)> {
    let missing = want.sections.iter().map(|run| (*run, false));
    let sealed = want.sealed.iter().map(|run| (*run, true));
    let manifests = manifests(db, &want.blobs)?.into_iter().map(|run| (run, false));
    let mut left = ENTRIES_MAX;
    let (mut fills, mut void) = (Vec::new(), Vec::new());
    for (Run { device, first, last }, opened) in missing.chain(sealed).chain(manifests) {
        let Some(log) = logs::find(db, &device)? else { continue };
        let mut from = first;
        while from <= last && left > 0 {
            let Some(transaction) = transactions::covering(db, log.log, from)? else { break };
            // Of a large transaction no more is read than is asked for.
            let part = transactions::Transaction {
                last_seq: last.min(transaction.last_seq),
                ..transaction
            };
            let mut batch = transactions::batch(db, &part, from)?;
            peer.open_for(&mut batch)?;
            for (entry, seq) in batch.entries.into_iter().zip(from..=last) {
                left = left.saturating_sub(1);
                if opened && peer.is_void(db, log.log, seq, &entry)? {
                    void.push(Run { device, first: seq, last: seq });
                }
                let is_asked_for = |payload: &Payload| match payload {
                    Payload::Missing => false,
                    Payload::Sealed(_) => !opened,
                    Payload::Opened(_) => true,
                };
                if !entry.payloads.iter().any(is_asked_for) {
                    continue;
                }
                let more = entry.payloads.iter().map(payload_bytes).sum::<usize>();
                if bytes > 0 && bytes + more > BATCH_BYTES_TARGET {
                    return Ok((fills, void));
                }
                bytes += more;
                let hash = larder_log::entry_hash(&entry.header);
                fills.push(Fill { device, seq, entry: hash, payloads: entry.payloads });
            }
            from = transaction.last_seq.saturating_add(1);
        }
    }
    Ok((fills, void))
}

/// Entries that one want has looked for. As it stands in one page, there are no more in it.
const ENTRIES_MAX: usize = 3 * WANTED_MAX;

/// The entries that brought these blobs' manifests.
fn manifests(db: &Connection, blobs: &[BlobId]) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for id in blobs {
        let Some(blob) = larder_store::space::blobs::find(db, id)? else { continue };
        let device = logs::by_number(db, blob.log)?.device;
        runs.push(Run { device, first: blob.seq, last: blob.seq });
    }
    Ok(runs)
}

/// What became of what a peer supplied.
#[derive(Debug, Clone, Default)]
pub struct Supplied {
    /// Whether anything of it was new here.
    pub progress: bool,
    /// This device's acknowledgements of what it holds by it.
    pub acks: Vec<Ack>,
}

impl SpaceWriter {
    /// Takes in what a peer supplied: documents of the agreed snapshot, and bytes that were
    /// missing.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not what was agreed on or committed to; nothing of it is kept
    /// then. The storage's errors.
    pub fn take_supply(&mut self, supply: &Supply) -> Result<Supplied> {
        loop {
            match self.transact(|tx, state| state.take_supply(tx, supply)) {
                Err(error) if self.passes_over(&error) => {}
                supplied => return supplied,
            }
        }
    }
}

impl WriterState {
    fn take_supply(&mut self, db: &Connection, supply: &Supply) -> Result<Supplied> {
        let mut took = Took::Nothing;
        if let Some(packed) = &supply.snapshot {
            let part = Part::unpack(packed)
                .map_err(|e| Error::refused(CloseCode::Malformed, e.to_string()))?;
            took = self.take_part(db, part)?;
        }
        let mut found = Vec::new();
        for fill in &supply.sections {
            found.extend(self.fill(db, fill)?);
        }
        let is_more = self.complete(db)? || !found.is_empty();
        let mut acks = Vec::new();
        // Nothing waits for a piece of a document.
        if is_more || took == Took::All {
            self.retry_all(db)?;
            self.load_missing(db)?;
            acks = self.acknowledge(db)?;
            // It may have waited for this to say that it is back.
            self.news.lacks = true;
        }
        self.note_found(db, &found)?;
        Ok(Supplied { progress: is_more || took != Took::Nothing, acks })
    }

    /// The snapshot that comes in, with leaves up to a band, if it is one that all devices agreed
    /// on: the one that has begun to, one that includes it, or the first that stands for something
    /// missing.
    pub(crate) fn receiving(
        &mut self,
        db: &Connection,
        id: &Hash,
        up_to: Option<Band>,
    ) -> Result<Option<Snapshot>> {
        self.refit(db)?;
        let half = snapshots::in_state(db, snapshots::State::Receiving)?;
        if half.as_ref().is_some_and(|half| half.id == *id) {
            return Ok(half);
        }
        let depleted = depleted(db)?.map(|(held, _)| held);
        if depleted.as_ref().is_some_and(|held| held.id == *id) {
            return Ok(depleted);
        }
        let accepted = wider(db, accepted(db, &self.roster, self.clearance)?)?;
        let Some(act) = accepted.iter().find(|act| act.id() == *id) else { return Ok(None) };
        let is_better = if let Some(half) = &half {
            half.received.size() == 0 || act.includes(&half.act) || !accepted.contains(&half.act)
        } else {
            let mut stands_for_missing = depleted.is_some();
            for (log, seq) in &self.missing {
                let device = logs::by_number(db, *log)?.device;
                stands_for_missing |= *seq <= act.size_of(&device);
            }
            stands_for_missing
        };
        if !is_better {
            return Ok(None);
        }
        let widened = widened(db, &self.roster, self.clearance)?.filter(|of| of.id == *id);
        let held = snapshots::in_state(db, snapshots::State::Held)?
            .and_then(|held| held.act.whole().copied());
        // What is held is stated from until somebody has more of it.
        if widened.is_some() && up_to <= held.map(|tree| tree.band) {
            return Ok(None);
        }
        if let Some(half) = half {
            snapshots::remove(db, &half)?;
        }
        match widened {
            Some(of) => widen(db, &of)?,
            None => drop(snapshots::add(db, snapshots::State::Receiving, act)?),
        }
        Ok(snapshots::in_state(db, snapshots::State::Receiving)?)
    }

    fn take_part(&mut self, db: &Connection, part: Part) -> Result<Took> {
        let bands =
            part.items.iter().filter_map(|item| Some(Leaf::decode(&item.leaf).ok()?.key().0));
        let up_to = bands.max();
        let Some(half) = self.receiving(db, &part.snapshot, up_to)? else {
            return Ok(Took::Nothing);
        };
        let refused = |why: &str| {
            let message = format!("a part of the snapshot {}: {why}", part.snapshot);
            Err(Error::refused(CloseCode::BadBatch, message))
        };
        // Its sender may know of a statement that is not here.
        let of_band = |item: &Item| {
            Leaf::decode(&item.leaf).is_ok_and(|leaf| half.act.tree(leaf.key().0).is_none())
        };
        if part.items.iter().any(of_band) {
            return Ok(Took::Nothing);
        }
        let mut tree = half.received.clone();
        let mut last = snapshots::last_key(db, half.snapshot)?;
        let mut took = Took::Nothing;
        for item in part.items {
            let Ok(leaf) = Leaf::decode(&item.leaf) else { return refused("no leaf") };
            if !is_within(db, &half.act, &leaf)? {
                return refused("a leaf of another entry than those that it covers");
            }
            let key = leaf.key();
            let known = snapshots::leaf(db, &half, &key)?;
            match known {
                Some(known) if known.leaf != item.leaf => {
                    return refused("another leaf than the agreed one");
                }
                Some(_) => {}
                None if last.as_ref().is_some_and(|last| *last >= key) => {
                    return refused("leaves out of order");
                }
                None => {
                    tree.append(leaf_hash(&item.leaf), &mut |_| {});
                    last = Some(key);
                    took = took.max(Took::Some);
                }
            }
            let is_here = match half.state {
                snapshots::State::Receiving => snapshots::holds(db, half.snapshot, &key)?,
                _ => !snapshots::wants(db, half.snapshot, &key)?,
            };
            if is_here {
                continue;
            }
            let taken = self.take_leaf(db, half.snapshot, (&leaf, &item.leaf), item.content)?;
            let Some(of_item) = taken else {
                let message = format!("document {} is not what was agreed on", key.1);
                return refused(&message);
            };
            took = took.max(of_item);
        }
        let grown = tree.size() > half.received.size();
        // Who handed them over may have no more than these bands.
        let agreed = last.and_then(|last| half.act.tree(last.0)).or(half.act.whole());
        let Some(agreed) = agreed else { return refused("no such band") };
        let (size, root) = (tree.size(), tree.root());
        if grown
            && merkle::verify_consistency(size, &root, agreed.leaves, &agreed.root, &part.proof)
                .is_err()
        {
            return refused("its leaves are not those that were agreed on");
        }
        snapshots::set(db, half.snapshot, half.state, &half.act, &tree)?;
        Ok(took)
    }

    /// Takes in a leaf with what it stands for, as far as it came. None if the content is another.
    pub(crate) fn take_leaf(
        &mut self,
        db: &Connection,
        snapshot: i64,
        (leaf, bytes): (&Leaf, &[u8]),
        content: Content,
    ) -> Result<Option<Took>> {
        let key = leaf.key();
        let taken = self.carefully(|state| {
            state.apart(db, |state| state.take_item(db, snapshot, leaf, content))
        })?;
        let taken = taken.unwrap_or_else(|error| {
            self.set_aside(Some(key.1), &error);
            Some(Took::Nothing)
        });
        if let Some(took) = taken {
            snapshots::put_leaf(db, snapshot, &key, bytes, took == Took::All)?;
        }
        Ok(taken)
    }

    /// Fills in bytes that were missing: of which sections.
    fn fill(&mut self, db: &Connection, fill: &Fill) -> Result<Vec<Section>> {
        let Some(log) = logs::find(db, &fill.device)? else { return Ok(Vec::new()) };
        let Some(entry) = entries::find(db, log.log, fill.seq)? else { return Ok(Vec::new()) };
        // An honest peer may hold the log's other history.
        if entry.hash != fill.entry {
            return Ok(Vec::new());
        }
        let header = Header::decode(&entry.header)
            .map_err(|e| Error::Corrupt(format!("the header of entry {}: {e}", fill.seq)))?;
        let mut filled = Vec::new();
        let all = sections::of_entry(db, log.log, fill.seq)?;
        for (section, payload) in all.into_iter().zip(&fill.payloads) {
            let place = section.place;
            let Some(payload) = self.checked(&header, &section, payload)? else { continue };
            let is_wanted = match section.state {
                sections::State::Missing => true,
                // Sealed: to be opened by who can.
                sections::State::Waiting => {
                    is_unread(&section)
                        && matches!(payload, Payload::Opened(_))
                        && matches!(sections::payload(db, place)?, Payload::Sealed(_))
                }
                // A snapshot stands for documents, and for nothing else.
                sections::State::Excused => {
                    section.about.is_none() && self.is_lasting(&header, &section, &payload)
                }
                // What an author might not write there is void, unless it turns out to be such.
                sections::State::Erased | sections::State::Void => {
                    self.is_named_manifest(db, &header, &section, &payload)?
                }
                _ => false,
            };
            if is_wanted {
                sections::set_payload(db, place, &payload)?;
                self.note_filled(&section);
                sections::settle(db, place, sections::State::Waiting, None)?;
                filled.push(section);
            }
        }
        Ok(filled)
    }

    /// Bytes of a section, if they are what its author committed to. None: there are none, or it
    /// is not shown that they are what was sealed.
    fn checked(
        &self,
        header: &Header,
        section: &Section,
        payload: &Payload,
    ) -> Result<Option<Payload>> {
        let (place, commitment) = (section.place, &section.commitment);
        let refused = || {
            let message = format!(
                "section {} of entry {} of {}: not the bytes that its author committed to",
                place.index, header.seq, header.device
            );
            Error::refused(CloseCode::BadBatch, message)
        };
        match payload {
            Payload::Missing => Ok(None),
            Payload::Sealed(sealed) if commitment.is_of(sealed) => Ok(Some(payload.clone())),
            Payload::Sealed(_) => Err(refused()),
            Payload::Opened(bytes) => {
                let opened = larder_log::open_carried(commitment, bytes).map_err(|_| refused())?;
                match self.keyring.reseal(header, place.index, commitment, &opened) {
                    Resealed::Same(sealed) => Ok(Some(Payload::Sealed(sealed))),
                    Resealed::NoSecret => Ok(Some(payload.clone())),
                    Resealed::Other => Ok(None),
                }
            }
        }
    }

    /// Whether a section is of a kind that is never dropped.
    fn is_lasting(&self, header: &Header, section: &Section, payload: &Payload) -> bool {
        let opened = self.opened(header, section, payload);
        opened.is_some_and(|opened| !DOCUMENT_KINDS.contains(&opened.metadata.kind))
    }

    /// Whether a section that was erased, or is void, is the manifest of a blob that a live
    /// document names.
    fn is_named_manifest(
        &self,
        db: &Connection,
        header: &Header,
        section: &Section,
        payload: &Payload,
    ) -> Result<bool> {
        match self.opened(header, section, payload) {
            Some(opened) if opened.metadata.kind == kind::BLOB => {
                Ok(blobs::is_named(db, &Manifest::id(&opened.body))?)
            }
            _ => Ok(false),
        }
    }

    fn opened(&self, header: &Header, section: &Section, payload: &Payload) -> Option<Opened> {
        match payload {
            Payload::Missing => None,
            Payload::Opened(bytes) => larder_log::unpack(bytes).ok(),
            Payload::Sealed(sealed) => {
                let (index, commitment) = (section.place.index, &section.commitment);
                match self.keyring.open(header, index, commitment, sealed) {
                    Opening::Opened(opened) => Some(*opened),
                    Opening::NoSecret | Opening::Void => None,
                }
            }
        }
    }

    /// If all of a snapshot is here: it stands for the entries below it from now on.
    pub(crate) fn complete(&mut self, db: &Connection) -> Result<bool> {
        if let Some((held, _)) = depleted(db)? {
            self.pass_over_buried(db, &held)?;
        }
        self.refit(db)?;
        let half = snapshots::in_state(db, snapshots::State::Receiving)?;
        let Some(half) = half.filter(is_whole) else { return Ok(false) };
        self.pass_over_buried(db, &half)?;
        if snapshots::count_wanted(db, half.snapshot)? > 0 {
            return Ok(false);
        }
        if let Some(held) = snapshots::in_state(db, snapshots::State::Held)? {
            snapshots::remove(db, &held)?;
        }
        let held = snapshots::State::Held;
        snapshots::set(db, half.snapshot, held, &half.act, &half.received)?;
        self.excuse(db, &half.act)?;
        self.load_missing(db)?;
        self.keep_no_longer(db)?;
        Ok(true)
    }

    /// Nobody has what was deleted since; here it counts once it is deleted here too.
    pub(crate) fn pass_over_buried(&mut self, db: &Connection, half: &Snapshot) -> Result<()> {
        let mut after = None;
        loop {
            let page = snapshots::wanted(db, half.snapshot, after.as_ref(), LEAVES_PAGE)?;
            let Some(last) = page.last().map(|kept| kept.key) else { break };
            after = Some(last);
            for kept in page {
                let (band, object, generation) = kept.key;
                if self.damage.unreadable.enter(Thing::Document(object)).is_err() {
                    continue;
                }
                if let Found::Buried = locate(db, &object, (band, generation))? {
                    if let Some(fetched) = fetched::find(db, half.snapshot, &kept.key)? {
                        fetched::remove(db, fetched)?;
                    }
                    snapshots::put_leaf(db, half.snapshot, &kept.key, &kept.leaf, true)?;
                }
            }
        }
        self.damage.unreadable.leave();
        Ok(())
    }

    /// Tries what waits until nothing comes of it any more.
    pub(crate) fn retry_all(&mut self, db: &Connection) -> Result<()> {
        let mut before = u64::MAX;
        loop {
            let waiting = sections::count_waiting(db)?;
            if waiting == 0 || waiting >= before {
                return Ok(());
            }
            before = waiting;
            self.retried = 0;
            self.retry(db)?;
        }
    }

    /// Acknowledges the logs of which all is here now, as far as that was not done.
    pub(crate) fn acknowledge(&mut self, db: &Connection) -> Result<Vec<Ack>> {
        let me = self.device();
        let mut new = Vec::new();
        let acks = control::acks(db)?;
        for log in logs::every(db)? {
            let size = log.frontier.size();
            let own = |ack: &&control::Ack| ack.acker == me && ack.device == log.device;
            let said = acks.iter().find(own).map_or(0, |ack| ack.size);
            if log.device == me || said >= size || self.missing.contains_key(&log.log) {
                continue;
            }
            let root = merkle::root_at(&Tree::new(db, log.log), size)?;
            let checkpoint = Checkpoint { space: self.shared.id, device: log.device, size, root };
            let time_s = self.shared.env.now().0 / 1000;
            let ack = Ack::sign(&checkpoint, me, &self.shared.keys.ack, time_s);
            control::put_ack(db, &crate::apply::row_of(&ack))?;
            new.push(ack);
        }
        Ok(new)
    }

    /// Reads anew in which logs something is missing, and whether something came sealed.
    pub(crate) fn load_missing(&mut self, db: &Connection) -> Result<()> {
        self.missing = sections::first_missing(db)?.into_iter().collect();
        self.unread = any_unread(db)?;
        Ok(())
    }
}
