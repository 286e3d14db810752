//! What is lacking here, and asked for page by page.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::snapshot::SnapshotAct;
use larder_protocol::{Lack, Run, Want, WantedSnapshot};
use larder_store::space::logs;
use larder_store::space::snapshots::{self, Kept, Key, Snapshot};
use larder_store::space::{erasures, pieces, sections};
use larder_types::limits::{VOID_RUNS_KEPT_MAX, WANTED_MAX};
use larder_types::{BlobId, Hash, TransportId};
use rusqlite::Connection;

use super::{depleted, is_whole, limit, wider};
use crate::Result;
use crate::clearance::stands_for;
use crate::prune::{accepted, widest};
use crate::space::Space;

/// What is lacking, as far as it is asked for at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `None`: nothing of this page.
    pub want: Option<Want>,
    /// Where the next page begins, if there is one.
    pub next: Option<Lack>,
}

/// By peer: entries of which it holds the secret, and some section opens for nobody. It is the
/// peer's word, and counts for nothing but what that peer is asked for while the space is open.
pub(crate) type VoidTold = BTreeMap<TransportId, Vec<Run>>;

/// By peer: the snapshots that it said not to be able to compute, of those that are agreed on.
pub(crate) type Uncomputed = BTreeMap<TransportId, BTreeSet<Hash>>;

/// What a peer said of what it could supply.
#[derive(Default)]
struct Told {
    void: Vec<Run>,
    uncomputed: BTreeSet<Hash>,
}

impl Space {
    /// Notes what a peer says to open for nobody.
    pub(crate) fn note_void(&self, peer: &TransportId, void: &[Run]) -> Result<()> {
        if void.is_empty() || !self.may_read(peer)? {
            return Ok(());
        }
        let mut told = self.shared.void_told();
        let told = told.entry(*peer).or_default();
        for run in void {
            if !told.contains(run) {
                if told.len() == VOID_RUNS_KEPT_MAX {
                    told.clear();
                }
                told.push(*run);
            }
        }
        Ok(())
    }

    /// How many runs of entries are kept of what this peer said to open for nobody: at most
    /// [`VOID_RUNS_KEPT_MAX`].
    pub fn void_runs_kept(&self, peer: &TransportId) -> usize {
        self.shared.void_told().get(peer).map_or(0, Vec::len)
    }

    /// Notes a snapshot that a peer says not to be able to compute.
    pub(crate) fn note_uncomputed(&self, peer: &TransportId, id: Option<Hash>) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        let (db, published) = (self.shared.pool.reader()?, self.shared.published()?);
        let agreed = accepted(&db, &published.roster, published.clearance)?;
        let agreed: BTreeSet<Hash> = agreed.iter().map(SnapshotAct::id).collect();
        let mut told = self.shared.uncomputed();
        let told = told.entry(*peer).or_default();
        told.insert(id);
        told.retain(|id| agreed.contains(id));
        Ok(())
    }

    /// [`Space::wanted`] without what this peer said to open for nobody; and the bytes that a
    /// snapshot stands for, of one that cannot compute it.
    pub(crate) fn wanted_of(&self, peer: &TransportId, from: Lack) -> Result<Wanted> {
        let void = self.shared.void_told().get(peer).cloned().unwrap_or_default();
        let uncomputed = self.shared.uncomputed().get(peer).cloned().unwrap_or_default();
        self.wanted_but(&Told { void, uncomputed }, from)
    }

    /// What this device lacks and a peer may have, a page of it from `from` on: leaves of the
    /// snapshot that all devices agree on; then bytes of sections that no snapshot stands for, or
    /// sections to be opened by who can; then manifests of blobs that documents name.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn wanted(&self, from: Lack) -> Result<Wanted> {
        self.wanted_but(&Told::default(), from)
    }

    fn wanted_but(&self, told: &Told, mut from: Lack) -> Result<Wanted> {
        let db = self.shared.pool.reader()?;
        loop {
            let page = match from {
                Lack::Leaves(after) => self.wanted_leaves(&db, told, after)?,
                Lack::Sections(after) => self.wanted_sections(&db, told, after)?,
                Lack::Blobs(after) => self.wanted_blobs(&db, after)?,
            };
            match page.next {
                Some(next) if page.want.is_none() => from = next,
                _ => return Ok(page),
            }
        }
    }

    fn wanted_leaves(&self, db: &Connection, told: &Told, after: Option<Key>) -> Result<Wanted> {
        let then = Wanted { want: None, next: Some(Lack::Sections(0)) };
        let receiving = snapshots::in_state(db, snapshots::State::Receiving)?;
        if let (None, Some((held, _))) = (&receiving, depleted(db)?) {
            return lacking_leaves(db, &held, after.as_ref());
        }
        if receiving.is_none() && !sections::any_missing(db)? {
            return Ok(then);
        }
        let Some(act) = self.awaited(db, receiving.as_ref(), told)? else { return Ok(then) };
        if receiving.is_none() && !self.stands_for_missing(db, &act)? {
            return Ok(then);
        }
        let id = act.id();
        let held = snapshots::in_state(db, snapshots::State::Held)?
            .map(|held| Snapshot { act: act.clone(), ..held });
        let half = receiving.or(held).filter(|half| half.id == id);
        let mut wanted = WantedSnapshot { id, received: 0, after: None, lacking: Vec::new() };
        match half {
            None => {}
            Some(half) if is_whole(&half) => {
                return lacking_leaves(db, &half, after.as_ref());
            }
            Some(half) => {
                wanted.received = half.received.size();
                wanted.after = snapshots::last_key(db, half.snapshot)?;
            }
        }
        let want = Some(Want { snapshot: Some(wanted), ..Want::default() });
        Ok(Wanted { want, next: then.next })
    }

    fn wanted_sections(&self, db: &Connection, told: &Told, after: u64) -> Result<Wanted> {
        let receiving = snapshots::in_state(db, snapshots::State::Receiving)?;
        let is_any = sections::any_missing(db)?;
        let act = if is_any { self.awaited(db, receiving.as_ref(), told)? } else { None };
        let Lacking { missing, sealed, is_below, next } =
            self.lacking(db, &told.void, act.as_ref(), after)?;
        let next = match next {
            // What it stands for may be very much, and is not to be gone through.
            Some(next) if !is_below => Lack::Sections(next),
            _ => Lack::Blobs(None),
        };
        let want = Want { sections: missing, sealed, ..Want::default() };
        Ok(Wanted { want: Some(want).filter(|want| !want.is_empty()), next: Some(next) })
    }

    /// What a snapshot stands for was dropped by all who agreed, but for manifests; a manifest may
    /// have been erased before a document came that names its blob; and what is missing of who was
    /// shut out, or cleared for less, is not wanted, though it may be one.
    fn wanted_blobs(&self, db: &Connection, after: Option<BlobId>) -> Result<Wanted> {
        let published = self.shared.published()?;
        let has_changed = published.roster.revoked().next().is_some()
            || published.roster.devices().any(|(_, device)| device.standings.len() > 1);
        if !has_changed
            && snapshots::in_state(db, snapshots::State::Held)?.is_none()
            && !erasures::any(db)?
        {
            return Ok(Wanted::default());
        }
        let blobs = larder_store::space::blobs::unknown(db, after.as_ref(), limit(WANTED_MAX))?;
        let last = blobs.last().filter(|_| blobs.len() == WANTED_MAX);
        let next = last.map(|last| Lack::Blobs(Some(*last)));
        let want = Want { blobs, ..Want::default() };
        Ok(Wanted { want: Some(want).filter(|want| !want.is_empty()), next })
    }

    /// The snapshot that is to come in, if there is one that all devices agree on, but for what the
    /// peer cannot compute.
    fn awaited(
        &self,
        db: &Connection,
        receiving: Option<&Snapshot>,
        told: &Told,
    ) -> Result<Option<SnapshotAct>> {
        let published = self.shared.published()?;
        let mut accepted = wider(db, accepted(db, &published.roster, published.clearance)?)?;
        accepted.retain(|act| !told.uncomputed.contains(&act.id()));
        // What has begun goes on as long as it counts.
        let is_half = |act: &&SnapshotAct| receiving.is_some_and(|half| half.act == **act);
        let begun = accepted.iter().find(is_half).cloned();
        Ok(begun.or_else(|| widest(accepted)))
    }
}

/// Documents of a snapshot whose leaves are all here, by name.
fn lacking_leaves(db: &Connection, of: &Snapshot, after: Option<&Key>) -> Result<Wanted> {
    let mut next = Some(Lack::Sections(0));
    let page = snapshots::wanted(db, of.snapshot, after, limit(WANTED_MAX))?;
    let Some(last) = page.last().map(|kept| kept.key) else {
        return Ok(Wanted { want: None, next });
    };
    let (id, received) = (of.id, of.received.size());
    let mut wanted = WantedSnapshot { id, received, after: None, lacking: Vec::new() };
    for Kept { key, .. } in page {
        let fetched = pieces::find(db, of.snapshot, &key)?;
        let pieces = fetched.map_or(0, |fetched| fetched.pieces);
        wanted.lacking.push((key.0, key.1, key.2, pieces));
    }
    if wanted.lacking.len() == WANTED_MAX {
        next = Some(Lack::Leaves(Some(last)));
    }
    Ok(Wanted { want: Some(Want { snapshot: Some(wanted), ..Want::default() }), next })
}

/// Runs of entries with sections that are lacking.
struct Lacking {
    missing: Vec<Run>,
    sealed: Vec<Run>,
    /// Whether there are others, for which a snapshot stands that is to come in.
    is_below: bool,
    /// Behind which section there may be more.
    next: Option<u64>,
}

impl Space {
    /// Whether there is something missing that a snapshot stands for.
    fn stands_for_missing(&self, db: &Connection, act: &SnapshotAct) -> Result<bool> {
        let mut after = 0;
        loop {
            let Lacking { is_below, next, .. } = self.lacking(db, &[], Some(act), after)?;
            match next {
                Some(next) if !is_below => after = next,
                _ => return Ok(is_below),
            }
        }
    }

    /// A page of what is lacking behind a section, but for what `awaited` stands for.
    fn lacking(
        &self,
        db: &Connection,
        void: &[Run],
        awaited: Option<&SnapshotAct>,
        after: u64,
    ) -> Result<Lacking> {
        let published = self.shared.published()?;
        let (mut missing, mut sealed, mut is_below) = (Vec::new(), Vec::new(), false);
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let page = sections::lacking(db, after, limit(WANTED_MAX))?;
        let last = page.last().filter(|_| page.len() == WANTED_MAX);
        let next = last.and_then(|last| u64::try_from(last.section).ok());
        for section in page {
            let is_missing = section.state == sections::State::Missing;
            let device = logs::by_number(db, section.place.log)?.device;
            let seq = section.place.seq;
            let is_of = |run: &Run| run.device == device && (run.first..=run.last).contains(&seq);
            let stands_for = |act: &SnapshotAct| {
                stands_for(act, &published.keyring, (&device, seq), &section.commitment)
            };
            if is_missing && awaited.is_some_and(stands_for) {
                is_below = true;
                continue;
            }
            if !is_missing && void.iter().any(is_of) {
                continue;
            }
            let runs: &mut Vec<Run> = if is_missing { &mut missing } else { &mut sealed };
            match runs.last_mut() {
                Some(run) if run.device == device && (run.last..=run.last + 1).contains(&seq) => {
                    run.last = seq;
                }
                _ => runs.push(Run { device, first: seq, last: seq }),
            }
        }
        Ok(Lacking { missing, sealed, is_below, next })
    }
}
