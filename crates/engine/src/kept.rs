//! What a device has above its clearance: kept until another device says that it has it.
//!
//! A device that is cleared for less may have what nobody else has, and no acknowledgement shows
//! otherwise: who gave it may have held the entry without its bytes. So nothing goes with the
//! clearance. Sections stay as they are here, sealed or opened; of documents whose entries were
//! pruned their pieces stay, with the snapshot that stands for them; of blobs their sealed chunks,
//! without a key (`larder_store::space::kept`). Nothing of it is a document, is listed or found; it
//! is handed to whoever is cleared and asks. And whoever is cleared is asked in each session what
//! of it is durable there: that goes.
//!
//! Invariant: who says to hold something may read it, and so keeps it itself until another one says
//! the same. As long as leaves are kept no other snapshot takes their place, here or elsewhere,
//! since this device states none: whoever comes would not ask for what was agreed on before.

use larder_log::act::Act;
use larder_log::adoption::Adopted;
use larder_log::merkle::Frontier;
use larder_log::snapshot::{Content, Leaf, SnapshotAct, leaf_hash};
use larder_log::{Band, Header, Payload, SectionCommitment, kind};
use larder_protocol::{BlobPosition, BlobReply, Keeps};
use larder_store::space::sections::{self, Place, Section, State as Of};
use larder_store::space::snapshots::{self, Key, Snapshot, State as Stage};
use larder_store::space::{control, entries, kept as table, logs, pieces};
use larder_types::{DeviceId, Hash, TransportId};
use rusqlite::Connection;

use crate::clearance::{stands_for, whole};
use crate::copies::{Found, locate};
use crate::erase::is_unread;
use crate::keyring::Opening;
use crate::model::Kept;
use crate::prune::is_here;
use crate::space::{Published, Space};
use crate::state::State;
use crate::supply::{depleted, pieces_of};
use crate::writer::SpaceWriter;
use crate::{Error, Result};

impl State {
    /// What is kept of a section. The secret goes, and whoever else was given it may have forgotten
    /// it by now, or do so while this device is set aside: what can be opened is kept opened.
    pub(crate) fn to_keep(
        &self,
        db: &Connection,
        section: &Section,
        payload: Payload,
    ) -> Result<Payload> {
        let Payload::Sealed(sealed) = &payload else { return Ok(payload) };
        let Place { log, seq, index } = section.place;
        let header = entries::find(db, log, seq)?;
        let header = header.and_then(|entry| Header::decode(&entry.header).ok());
        let header = header.ok_or_else(|| Error::Corrupt("a section's entry is missing".into()))?;
        let opened = self.keyring.carry(&header, index, &section.commitment, sealed);
        Ok(opened.map_or(payload, Payload::Opened))
    }

    /// Keeps the documents above the clearance that stand for pruned entries, piece by piece as
    /// they are handed over. They are here as documents still.
    pub(crate) fn keep_documents(&self, db: &Connection) -> Result<()> {
        let Some(held) = whole(db, Stage::Held)? else { return Ok(()) };
        if highest(&held.act).is_none_or(|band| Some(band) <= self.clearance) {
            return Ok(());
        }
        let known = snapshots::kept_for_others(db)?.into_iter().find(|kept| kept.id == held.id);
        let kept = match known {
            Some(kept) => kept.snapshot,
            None => snapshots::keep_copy(db, &held)?,
        };
        let mut after = None;
        loop {
            let page = snapshots::leaves(db, &held, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key);
            for of in page.iter().filter(|of| Some(of.key.0) > self.clearance) {
                let Leaf::Document(leaf) = of.read()? else { continue };
                let at = locate(db, &leaf.object, (leaf.band, leaf.generation))?;
                let Found::At(row) = at else { continue };
                if let Some(all) = pieces_of(db, &row, &leaf)? {
                    pieces::keep_all(db, kept, &of.key, &all)?;
                }
            }
        }
    }

    /// Cleared for more again: takes the documents that it kept, as they would come from a peer.
    pub(crate) fn take_back(&mut self, db: &Connection) -> Result<()> {
        let all = snapshots::kept_for_others(db)?;
        if all.is_empty() {
            return Ok(());
        }
        for kept in &all {
            let up_to = kept.act.whole().map(|tree| tree.band);
            let Some(half) = self.receiving(db, &kept.id, up_to)? else { continue };
            let Some(agreed) = half.act.whole().copied() else { continue };
            let mut tree: Frontier = half.received.clone();
            let mut after = snapshots::last_key(db, half.snapshot)?;
            loop {
                let mut page = snapshots::leaves(db, kept, after.as_ref(), PAGE)?;
                page.retain(|of| of.key.0 <= agreed.band);
                let Some(last) = page.last() else { break };
                after = Some(last.key);
                for of in page {
                    tree.append(leaf_hash(&of.leaf), &mut |_| {});
                    let leaf = of.read()?;
                    let content = content(db, kept, &of.key)?;
                    self.take_leaf(db, half.snapshot, (&leaf, &of.leaf), content)?;
                }
            }
            // It may be cleared for more than it was when it kept them: the rest comes from others.
            let up_to = kept.act.whole().map_or(agreed.band, |it| it.band.min(agreed.band));
            let said = half.act.tree(up_to).copied().unwrap_or(agreed);
            let is_further = half.received.size() > said.leaves;
            if !is_further && (tree.size(), tree.root()) != (said.leaves, said.root) {
                return Err(Error::Corrupt("leaves that were kept for others".into()));
            }
            snapshots::set(db, half.snapshot, half.state, &half.act, &tree)?;
        }
        self.complete(db)?;
        // And what was written behind them.
        self.retry_all(db)?;
        self.keep_no_longer(db)
    }

    /// Lets go of what it kept, and holds again with all else that it is cleared for by now: nobody
    /// who is asked is cleared for more.
    pub(crate) fn keep_no_longer(&mut self, db: &Connection) -> Result<()> {
        let held = snapshots::in_state(db, Stage::Held)?.filter(|held| !self.is_narrow(&held.act));
        for kept in snapshots::kept_for_others(db)? {
            let is_here = held.as_ref().is_some_and(|held| held.act.includes(&kept.act));
            let is_below = kept.act.whole().is_none_or(|tree| Some(tree.band) <= self.clearance);
            if is_here && is_below {
                snapshots::remove(db, &kept)?;
                // Now this device may state others.
                self.news.statement = true;
            }
        }
        Ok(())
    }

    /// Whether leaves that are kept for others stand for a section.
    pub(crate) fn keeps_leaf_of(
        &self,
        db: &Connection,
        at: (&DeviceId, u64),
        commitment: &SectionCommitment,
    ) -> Result<bool> {
        let kept = snapshots::kept_for_others(db)?;
        Ok(kept.iter().any(|kept| stands_for(&kept.act, &self.keyring, at, commitment)))
    }
}

/// What is kept is gone over in this order.
const CHUNKS: i64 = 0;
const SECTIONS: i64 = 1;
const SNAPSHOTS: i64 = 2;
/// Chunks of blobs, where this device gives way to another.
const FILES: i64 = 3;

impl Space {
    /// What is kept until somebody has it, if this peer may be that one: some of it, from there on.
    pub(crate) fn kept_for(
        &self,
        peer: &TransportId,
        from: BlobPosition,
        limit: usize,
    ) -> Result<BlobReply> {
        let mut keeps = Keeps::default();
        let (up_to, leaves) = (self.may_release_to(peer)?, self.leaves_to(peer)?);
        if up_to.is_none() && !leaves {
            return Ok(BlobReply::Kept { keeps, next: None });
        }
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let most = u32::try_from(limit).unwrap_or(u32::MAX);
        let mut at = Some(from);
        while let Some(BlobPosition(stage, after)) = at.filter(|_| keeps.is_empty()) {
            let last = match (stage, up_to) {
                (CHUNKS, Some(up_to)) => {
                    let page = table::page(&db, up_to, after, most)?;
                    keeps.chunks.extend(page.iter().map(|(_, digest)| *digest));
                    page.last().map(|(chunk, _)| *chunk)
                }
                (SECTIONS, Some(up_to)) => {
                    let page = table::hidden_with_bytes(&db, after, most)?;
                    for section in &page {
                        if published.keyring.band(&section.commitment) <= Some(up_to) {
                            keeps.sections.push(name(&db, section)?);
                        }
                    }
                    page.last().map(|section| section.section)
                }
                (SNAPSHOTS, Some(up_to)) => {
                    let all = snapshots::kept_for_others(&db)?;
                    let all = all.iter().filter_map(|kept| Some((kept.id, highest(&kept.act)?)));
                    keeps.snapshots.extend(all.filter(|(_, band)| *band <= up_to).take(limit));
                    None
                }
                (FILES, _) if leaves => {
                    let page = table::page_of_blobs(&db, after, most)?;
                    let leaving = self.shared.leaving();
                    let chunks = page.iter().map(|(_, digest)| *digest);
                    keeps.chunks.extend(chunks.filter(|digest| !leaving.has(digest)));
                    page.last().map(|(chunk, _)| *chunk)
                }
                _ => None,
            };
            at = match last {
                Some(last) => Some(BlobPosition(stage, last)),
                None => (stage < FILES).then_some(BlobPosition(stage + 1, 0)),
            };
        }
        Ok(BlobReply::Kept { keeps, next: at })
    }

    /// Up to which band a peer may be the other one that has what is kept here, if it may. Of one
    /// whose log has two histories nobody knows which of both it will be.
    fn may_release_to(&self, peer: &TransportId) -> Result<Option<Band>> {
        let published = self.shared.published()?;
        let peer = self.reading_peer(peer, &[])?.filter(|(peer, _)| !peer.is_forked());
        Ok(peer.map(|(_, up_to)| up_to).filter(|up_to| Some(*up_to) > published.clearance))
    }

    /// What of this is durable here, and for this device to read.
    pub(crate) fn holds_of(&self, peer: &TransportId, keeps: &Keeps) -> Result<Keeps> {
        let mut held = Keeps::default();
        if self.reading_peer(peer, &[])?.is_none() {
            return Ok(held);
        }
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let db = db.unchecked_transaction().map_err(|source| {
            Error::from(larder_store::StoreError::Read { part: "transaction", source })
        })?;
        for digest in &keeps.chunks {
            if table::is_of_blob(&db, digest)? {
                held.chunks.push(*digest);
            }
        }
        for of in &keeps.sections {
            if has_section(&db, &published, of)? {
                held.sections.push(*of);
            }
        }
        for (id, up_to) in &keeps.snapshots {
            if Some(*up_to) <= published.clearance && has_all(&db, &published, id, *up_to)? {
                held.snapshots.push((*id, *up_to));
            }
        }
        Ok(held)
    }
}

/// The highest band that a snapshot has leaves of.
fn highest(act: &SnapshotAct) -> Option<Band> {
    let mut below = 0;
    let has_leaves =
        act.bands.iter().filter(|tree| tree.leaves > std::mem::replace(&mut below, tree.leaves));
    has_leaves.last().map(|tree| tree.band)
}

fn name(db: &Connection, section: &Section) -> Result<Adopted> {
    let Place { log, seq, index } = section.place;
    let entry = entries::hash(db, log, seq)?;
    let entry = entry.ok_or_else(|| Error::Corrupt("a section's entry is missing".into()))?;
    Ok(Adopted { device: logs::by_number(db, log)?.device, seq, index, entry })
}

/// Finds a section by its name, if it is in the history that is held here.
fn section_of(db: &Connection, of: &Adopted) -> Result<Option<Section>> {
    let Some(log) = logs::find(db, &of.device)? else { return Ok(None) };
    if entries::hash(db, log.log, of.seq)? != Some(of.entry) {
        return Ok(None);
    }
    Ok(sections::find(db, Place { log: log.log, seq: of.seq, index: of.index })?)
}

/// Whether this device has a section's content for good: the bytes, sealed only if it has opened
/// them or could, or a snapshot's leaf.
fn has_section(db: &Connection, published: &Published, of: &Adopted) -> Result<bool> {
    let Some(section) = section_of(db, of)? else { return Ok(false) };
    let Published { keyring, clearance, .. } = published;
    let commitment = &section.commitment;
    if !keyring.is_for(commitment, *clearance) || section.state == Of::Hidden {
        return Ok(false);
    }
    if section.state == Of::Excused {
        let held = snapshots::in_state(db, Stage::Held)?;
        let at = (&of.device, of.seq);
        let is_said = held.is_some_and(|held| stands_for(&held.act, keyring, at, commitment));
        return Ok(is_said && depleted(db)?.is_none());
    }
    // What is damaged is not held.
    let sealed = match sections::payload(db, section.place) {
        Ok(Payload::Sealed(sealed)) => sealed,
        Ok(Payload::Opened(_)) => return Ok(true),
        Ok(Payload::Missing) | Err(_) => return Ok(false),
    };
    if !is_unread(&section) {
        return Ok(true);
    }
    let entry = entries::find(db, section.place.log, of.seq)?;
    let header = entry.and_then(|entry| Header::decode(&entry.header).ok());
    let opening = header.map(|header| keyring.open(&header, of.index, commitment, &sealed));
    Ok(opening.is_some_and(|opening| !matches!(opening, Opening::NoSecret)))
}

/// Whether this device has all that a snapshot stands for up to a band: it holds one that covers
/// it, or all of the bytes.
fn has_all(db: &Connection, published: &Published, id: &Hash, up_to: Band) -> Result<bool> {
    let acts = control::acts_of_kind(db, kind::SNAPSHOT)?;
    let act = acts.iter().find_map(|stored| match Act::from_body(stored.kind, &stored.body) {
        Ok(Some(Act::Snapshot(act))) if act.id() == *id => Some(act),
        _ => None,
    });
    let Some(act) = act else { return Ok(false) };
    if !is_here(db, &act)? || depleted(db)?.is_some() {
        return Ok(false);
    }
    let held = snapshots::in_state(db, Stage::Held)?.map(|held| held.act);
    let covers = held.as_ref().filter(|held| held.tree(up_to).is_some());
    for end in &act.frontier {
        let Some(log) = logs::find(db, &end.device)? else { return Ok(false) };
        let first = covers.map_or(0, |held| held.size_of(&end.device)) + 1;
        if first > end.size {
            continue;
        }
        if !sections::unsettled(db, log.log, end.size, 0, 1)?.is_empty() {
            return Ok(false);
        }
        let mut after = 0;
        loop {
            let page = table::without_bytes(db, log.log, (first, end.size), after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.section;
            for section in page {
                let (at, of) = ((&end.device, section.place.seq), &section.commitment);
                let stands = |held: &SnapshotAct| stands_for(held, &published.keyring, at, of);
                let is_said = section.state == Of::Excused && held.as_ref().is_some_and(stands);
                if published.keyring.is_for(of, Some(up_to)) && !is_said {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

impl SpaceWriter {
    /// Lets go of what is kept above this device's clearance and a peer says to hold that is
    /// cleared for it; notes what the device has that is to take this one's place.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn release_kept(&mut self, peer: &TransportId, keeps: &Keeps) -> Result<()> {
        if self.space().leaves_to(peer)? {
            self.shared.leaving().note(&keeps.chunks);
        }
        let Some(up_to) = self.space().may_release_to(peer)? else { return Ok(()) };
        self.record(|tx, state| {
            table::release(tx, &keeps.chunks, up_to)?;
            for of in &keeps.sections {
                let hidden = section_of(tx, of)?.filter(|section| section.state == Of::Hidden);
                let Some(section) = hidden else { continue };
                if state.keyring.band(&section.commitment) <= Some(up_to) {
                    sections::hide(tx, &section, &Payload::Missing)?;
                }
            }
            for kept in snapshots::kept_for_others(tx)? {
                let Some(band) = highest(&kept.act).filter(|band| *band <= up_to) else { continue };
                if keeps.snapshots.contains(&(kept.id, band)) {
                    snapshots::remove(tx, &kept)?;
                    // Now this device may state others.
                    state.news.statement = true;
                }
            }
            Ok(())
        })
    }
}

/// How much is kept.
pub(crate) fn count(db: &Connection) -> Result<Kept> {
    let mut kept = Kept {
        sections: table::count_hidden_with_bytes(db)?,
        documents: 0,
        chunks: table::count(db)?,
    };
    for snapshot in snapshots::kept_for_others(db)? {
        kept.documents += pieces::count_of(db, snapshot.snapshot)?;
    }
    Ok(kept)
}

/// What is kept of a leaf's document; gone if nothing is.
fn content(db: &Connection, kept: &Snapshot, key: &Key) -> Result<Content> {
    let Some(all) = pieces_kept(db, kept, key)? else { return Ok(Content::Gone) };
    Ok(Content::Document { at: 0, pieces: all.into_iter().map(Into::into).collect() })
}

/// All pieces of a document that is kept for others.
pub(crate) fn pieces_kept(
    db: &Connection,
    kept: &Snapshot,
    key: &Key,
) -> Result<Option<Vec<Vec<u8>>>> {
    let fetched = pieces::find(db, kept.snapshot, key)?;
    Ok(fetched.map(|fetched| pieces::every(db, fetched)).transpose()?)
}

/// Rows that are in memory at once.
const PAGE: u32 = 256;
