//! What a device has above its clearance that nobody else is known to have: kept until somebody
//! has it.
//!
//! A device that is cleared for less lets go of what is above; but what a lost or unborn copy would
//! have to replace is not to go with it. Sections stay as they are here, sealed or opened; of
//! documents whose entries were pruned their pieces stay, with the snapshot that stands for them;
//! of blobs their sealed chunks, without a key (`blobs/kept.rs`). Nothing of it is a document, is
//! listed or found; it is handed to whoever is cleared and asks.
//!
//! Invariant: as long as leaves are kept no other snapshot takes their place, here or elsewhere,
//! since this device states none: whoever comes would not ask for what was agreed on before.

use std::collections::BTreeMap;

use larder_log::merkle::Frontier;
use larder_log::roster::Device;
use larder_log::snapshot::{Content, Leaf, SnapshotAct, leaf_hash};
use larder_log::{Band, Header, Payload, SectionCommitment};
use larder_store::space::sections::{self, Place, Section};
use larder_store::space::snapshots::{self, Key, Snapshot, State as Stage};
use larder_store::space::{control, entries, kept as table, logs, pieces};
use larder_types::{Clock, DeviceId};
use rusqlite::Connection;

use crate::aside::set_aside;
use crate::clearance::{stands_for, whole};
use crate::copies::{Found, locate};
use crate::model::Kept;
use crate::prune::statements;
use crate::rows::Origin;
use crate::state::State;
use crate::supply::pieces_of;
use crate::{Error, Result};

/// Up to which entry somebody else has what is of a band, by log.
#[derive(Default)]
pub(crate) struct Elsewhere(BTreeMap<(DeviceId, Band), u64>);

impl Elsewhere {
    fn note(&mut self, log: DeviceId, up_to: Band, size: u64) {
        for band in Band::SHARED.into_iter().filter(|band| *band <= up_to) {
            let known = self.0.entry((log, band)).or_insert(0);
            *known = size.max(*known);
        }
    }

    fn has(&self, log: DeviceId, band: Band, seq: u64) -> bool {
        self.0.get(&(log, band)).is_some_and(|size| *size >= seq)
    }

    /// Whether others have what a snapshot's leaves of a band came of.
    fn has_all(&self, act: &SnapshotAct, band: Band) -> bool {
        act.frontier.iter().all(|end| self.has(end.device, band, end.size))
    }
}

impl State {
    /// How far other devices that belong to the space and may have what is of a band are known to
    /// have it, of each log. A device whose log has two histories is two devices, of which nobody
    /// knows which said something.
    pub(crate) fn elsewhere(&self, db: &Connection) -> Result<Elsewhere> {
        let mut all = Elsewhere::default();
        let me = self.device();
        // Nobody knows what one that stays away has by now.
        let aside = set_aside(db, &self.roster)?;
        let counts = |id: &DeviceId| *id != me && !self.stopped.contains(id) && !aside.contains(id);
        let reads = |id: &DeviceId| {
            self.roster.device(id).filter(|device| counts(id) && device.role.may_read())
        };
        for (id, device) in self.roster.devices().filter(|(id, _)| counts(id)) {
            // Whoever wrote a log holds it.
            all.note(*id, device.always_cleared(), u64::MAX);
        }
        for ack in control::acks(db)? {
            if let Some(acker) = reads(&ack.acker) {
                all.note(ack.device, acker.always_cleared(), ack.size);
            }
        }
        // Who was cleared for more meanwhile says by a snapshot what it has by now.
        for statement in statements(db, &self.roster)? {
            let author = reads(&statement.author).filter(|author| statement.seq >= since(author));
            if let (Some(_), Some(tree)) = (author, statement.act.whole()) {
                for end in &statement.act.frontier {
                    all.note(end.device, tree.band, end.size);
                }
            }
        }
        Ok(all)
    }

    /// Whether nobody else is known to have a section's bytes that may have them. Of what is void
    /// now nobody is: who acknowledges it need not have them, and another act may make it count.
    pub(crate) fn is_alone(
        &self,
        db: &Connection,
        section: &Section,
        elsewhere: &Elsewhere,
    ) -> Result<bool> {
        let Place { log, seq, .. } = section.place;
        let device = logs::by_number(db, log)?.device;
        let Some(band) = self.keyring.band(&section.commitment) else { return Ok(false) };
        if !elsewhere.has(device, band, seq) {
            return Ok(true);
        }
        let entry = entries::hash(db, log, seq)?;
        let entry = entry.ok_or_else(|| Error::Corrupt("a section's entry is missing".into()))?;
        let of = Origin::of_stored(db, section.place, entry, (Clock::ZERO, band))?;
        Ok(!self.counts_at(&of))
    }

    /// What is kept of a section that nobody else is known to have: what was sealed, if somebody
    /// else can open it. The secret goes.
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
        let band = self.keyring.band(&section.commitment);
        let opens = |(id, up_to): (&DeviceId, &Band)| {
            let device = self.roster.device(id).filter(|device| device.role.may_read());
            let has = device.is_some_and(|device| Some(device.clearance) >= band);
            has && *id != self.device() && !self.stopped.contains(id) && Some(*up_to) >= band
        };
        let epoch = self.roster.epoch(&header.epoch);
        if epoch.is_some_and(|epoch| epoch.recipients.iter().any(opens)) {
            return Ok(payload);
        }
        let opened = self.keyring.carry(&header, index, &section.commitment, sealed);
        Ok(opened.map_or(payload, Payload::Opened))
    }

    /// Keeps the documents above the clearance that stand for pruned entries and that nobody else
    /// is known to have, piece by piece as they are handed over. They are here as documents still.
    pub(crate) fn keep_documents(&self, db: &Connection, elsewhere: &Elsewhere) -> Result<()> {
        let Some(held) = whole(db, Stage::Held)? else { return Ok(()) };
        if !self.is_any_alone(&held.act, elsewhere) {
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
            for of in page.iter().filter(|of| of.key.0 > self.clearance) {
                let Leaf::Document(leaf) = of.read()? else { continue };
                let at = locate(db, &leaf.object, (leaf.band, leaf.generation))?;
                let Found::At(row) = at else { continue };
                if let Some(all) = pieces_of(db, &row, &leaf)? {
                    pieces::keep_all(db, kept, &of.key, &all)?;
                }
            }
        }
    }

    /// Whether leaves of a band above the clearance are only here.
    fn is_any_alone(&self, act: &SnapshotAct, elsewhere: &Elsewhere) -> bool {
        let mut below = 0;
        act.bands.iter().any(|tree| {
            let has_leaves = tree.leaves > std::mem::replace(&mut below, tree.leaves);
            has_leaves && tree.band > self.clearance && !elsewhere.has_all(act, tree.band)
        })
    }

    /// Drops what was kept above the clearance, once somebody else has it.
    pub(crate) fn release(&mut self, db: &Connection) -> Result<()> {
        let kept = snapshots::kept_for_others(db)?;
        let mut page = table::hidden_with_bytes(db, 0, PAGE)?;
        if kept.is_empty() && page.is_empty() {
            return Ok(());
        }
        let elsewhere = self.elsewhere(db)?;
        for kept in kept {
            if !self.is_any_alone(&kept.act, &elsewhere) {
                snapshots::remove(db, &kept)?;
                // Now this device may state others.
                self.news.statement = true;
            }
        }
        while let Some(last) = page.last() {
            let after = last.section;
            for section in &page {
                if !self.is_alone(db, section, &elsewhere)? {
                    sections::hide(db, section, &Payload::Missing)?;
                }
            }
            page = table::hidden_with_bytes(db, after, PAGE)?;
        }
        Ok(())
    }

    /// Cleared for more again: takes the documents that it kept, as they would come from a peer.
    pub(crate) fn take_back(&mut self, db: &Connection) -> Result<()> {
        let all = snapshots::kept_for_others(db)?;
        if all.is_empty() {
            return Ok(());
        }
        for kept in &all {
            let Some(half) = self.receiving(db, &kept.id)? else { continue };
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
            if (tree.size(), tree.root()) != (agreed.leaves, agreed.root) {
                return Err(Error::Corrupt("leaves that were kept for others".into()));
            }
            snapshots::set(db, half.snapshot, half.state, &half.act, &tree)?;
        }
        self.complete(db)?;
        // And what was written behind them.
        self.retry_all(db)?;
        let held = snapshots::in_state(db, Stage::Held)?.filter(|held| !self.is_narrow(&held.act));
        for kept in all {
            let is_here = held.as_ref().is_some_and(|held| held.act.includes(&kept.act));
            let is_below = kept.act.whole().is_none_or(|tree| tree.band <= self.clearance);
            if is_here && is_below {
                snapshots::remove(db, &kept)?;
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

/// From which of its entries on a device says what it has by its clearance of now: it was cleared
/// for more once, or never. Of one that was cleared for less in between nobody knows what it kept.
fn since(device: &Device) -> u64 {
    let last = device.standings.last().filter(|_| device.changes <= 1);
    last.map_or(u64::MAX, |(from_seq, _)| *from_seq)
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
