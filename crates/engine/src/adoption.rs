//! Edits that build on what became void: this device adopts that, so that the edits stay.
//!
//! Who is shut out may have written what a device took in, and built on, before it heard of that.
//! By the revocation those sections are void; an edit that a receipt was given for is not, and
//! would wait for them for ever. Nor is an erasure that names what is left of a document, and that
//! would be lost with it. Its author adopts them, or everybody who can if the author cannot.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use larder_document::{Link, body};
use larder_log::act::Act;
use larder_log::adoption::{Adopted, AdoptionAct};
use larder_log::snapshot::SnapshotAct;
use larder_log::stability::Named;
use larder_log::{Band, Header, Opened, VERSION, kind};
use larder_store::space::erasures::{self, State as Stage};
use larder_store::space::sections::{self, Place, Section, State as SectionState};
use larder_store::space::{control, logs};
use larder_types::limits::{ADOPTED_SECTIONS_MAX, RETRIES_MAX};
use larder_types::{DeviceId, EntryHash, ObjectId};
use rusqlite::Connection;

use crate::Result;
use crate::aside::set_aside;
use crate::copies::Creation;
use crate::effects::about;
use crate::erase::read_act;
use crate::keyring::Opening;
use crate::named::named_up_to;
use crate::rows::Origin;
use crate::state::{Rejudged, State};
use crate::tally::VoidCause;

mod back;

/// What was adopted: by place, and for each by whom.
#[derive(Debug)]
pub(crate) struct AllAdopted {
    all: BTreeMap<(DeviceId, u64, u32), BTreeSet<By>>,
    /// Whether edits may lack something that this device has not adopted yet.
    pub(crate) is_open: bool,
    /// What counts again behind a snapshot that was computed when it did not: to be adopted, so
    /// that all know that the snapshot says nothing of it.
    back: BTreeSet<Adopted>,
}

/// Who adopted which entry's section, in which entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct By {
    entry: EntryHash,
    device: DeviceId,
    seq: u64,
}

impl AllAdopted {
    pub(crate) fn load(db: &Connection) -> Result<Self> {
        let mut all = Self { all: BTreeMap::new(), is_open: true, back: BTreeSet::new() };
        for stored in control::acts_of_kind(db, kind::ADOPTION)? {
            if let Ok(Some(Act::Adoption(act))) = Act::from_body(stored.kind, &stored.body) {
                let device = logs::by_number(db, stored.place.log)?.device;
                all.add(device, stored.place.seq, &act);
            }
        }
        Ok(all)
    }

    fn add(&mut self, device: DeviceId, seq: u64, act: &AdoptionAct) {
        for adopted in &act.adopted {
            let place = (adopted.device, adopted.seq, adopted.index);
            let by = By { entry: adopted.entry, device, seq };
            let all = self.all.entry(place).or_default();
            all.insert(by);
        }
    }

    /// Who adopted the section.
    fn of<'a>(&'a self, origin: &'a Origin) -> impl Iterator<Item = &'a By> {
        let all = self.all.get(&(origin.device, origin.seq, origin.index));
        all.into_iter().flatten().filter(|by| by.entry == origin.entry)
    }

    /// Where the sections stand that this device adopted in these entries of its log.
    pub(crate) fn by(&self, device: &DeviceId, from: u64, to: u64) -> Vec<(DeviceId, u64)> {
        let is_one = |by: &By| by.device == *device && (from..=to).contains(&by.seq);
        let places = self.all.iter().filter(|(_, all)| all.iter().any(is_one));
        places.map(|((device, seq, _), _)| (*device, *seq)).collect()
    }
}

impl State {
    /// Whether a document's section counts: its author might write that there, or it was adopted by
    /// who might.
    pub(crate) fn counts_at(&self, origin: &Origin) -> bool {
        self.why_not(origin).is_none()
    }

    /// Why it does not.
    pub(crate) fn why_not(&self, origin: &Origin) -> Option<VoidCause> {
        let Origin { device, seq, band, .. } = origin;
        let own = self.writes_up_to(device, *seq);
        if own >= Some(*band) {
            return None;
        }
        let may = |by: &By| self.writes_up_to(&by.device, by.seq) >= Some(*band);
        match own {
            _ if self.adopted.of(origin).any(may) => None,
            None => Some(VoidCause::Role),
            Some(_) => Some(VoidCause::Band),
        }
    }

    /// The same of a section of some kind. A manifest counts whoever wrote it: documents name it by
    /// its hash, and who names it has vouched for it.
    pub(crate) fn why_not_of(&self, origin: &Origin, of: u16) -> Option<VoidCause> {
        if of == kind::BLOB { None } else { self.why_not(origin) }
    }

    /// Whether a device of the space has adopted it that might.
    pub(crate) fn is_adopted_here(&self, origin: &Origin) -> bool {
        let may = |by: &By| {
            self.roster.device(&by.device).is_some()
                && self.writes_up_to(&by.device, by.seq) >= Some(origin.band)
        };
        self.adopted.of(origin).any(may)
    }

    /// Whether a section counts by an adoption that a snapshot does not cover, and by none that it
    /// covers: of that the snapshot says nothing.
    pub(crate) fn is_later(
        &self,
        act: &SnapshotAct,
        place: (DeviceId, u64, u32),
        band: Band,
    ) -> bool {
        let (device, seq, _) = place;
        let Some(all) = self.adopted.all.get(&place).filter(|_| seq <= act.size_of(&device)) else {
            return false;
        };
        let counts = |by: &&By| self.writes_up_to(&by.device, by.seq) >= Some(band);
        let mut all = all.iter().filter(counts).peekable();
        all.peek().is_some() && all.all(|by| by.seq > act.size_of(&by.device))
    }

    /// The sections that count so, in order.
    pub(crate) fn all_later(
        &self,
        db: &Connection,
        act: &SnapshotAct,
    ) -> Result<Vec<(DeviceId, u64, u32)>> {
        let mut later = Vec::new();
        for (device, seq, index) in self.adopted.all.keys() {
            let Some(log) = logs::find(db, device)? else { continue };
            let place = Place { log: log.log, seq: *seq, index: *index };
            let Some(section) = sections::find(db, place)? else { continue };
            let band = self.keyring.band(&section.commitment);
            let place = (*device, *seq, *index);
            if band.is_some_and(|band| self.is_later(act, place, band)) {
                later.push(place);
            }
        }
        Ok(later)
    }

    /// Whether this device has adopted it, whatever that came to.
    fn has_adopted(&self, origin: &Origin) -> bool {
        self.adopted.of(origin).any(|by| by.device == self.device())
    }

    pub(crate) fn take_adoption(
        &mut self,
        db: &Connection,
        header: &Header,
        act: &AdoptionAct,
    ) -> Result<()> {
        self.adopted.add(header.device, header.seq, act);
        // Else it is looked at when its author may write there after all.
        if self.may_write_at(&header.device, header.seq) {
            for adopted in &act.adopted {
                self.note_rejudged_entry(db, &adopted.device, adopted.seq)?;
            }
        }
        Ok(())
    }

    /// An entry has to be looked at again, if it is here.
    pub(crate) fn note_rejudged_entry(
        &mut self,
        db: &Connection,
        device: &DeviceId,
        seq: u64,
    ) -> Result<()> {
        let log = logs::find(db, device)?.filter(|log| seq <= log.frontier.size());
        self.rejudged.extend(log.map(|log| Rejudged { log: log.log, from_seq: seq, to_seq: seq }));
        Ok(())
    }

    /// Adopts what own edits and erasures rest on that does not count by itself any more, and what
    /// those of devices rest on that cannot. If this device cannot append now, it is done when it
    /// can.
    pub(crate) fn adopt(&mut self, db: &Connection) -> Result<()> {
        let aside = set_aside(db, &self.roster)?;
        let objects = self.waiting_objects(db, &aside)?;
        let mut adopted = self.left_by_erasures(db, &aside)?;
        adopted.extend(&self.adopted.back);
        for object in objects {
            adopted.extend(self.beneath(db, object, &aside)?);
        }
        self.adopted.is_open = !adopted.is_empty() && !self.may_adopt();
        if self.adopted.is_open || adopted.is_empty() {
            return Ok(());
        }
        self.adopted.back.clear();
        let adopted: Vec<Adopted> = adopted.into_iter().collect();
        for lot in adopted.chunks(ADOPTED_SECTIONS_MAX) {
            let act = AdoptionAct { v: VERSION, adopted: lot.to_vec() };
            self.append_act(db, &Act::Adoption(act))?;
        }
        self.sign(db)
    }

    /// An edit of another device came to wait: what it rests on may be to be adopted here.
    pub(crate) fn note_waits(
        &mut self,
        db: &Connection,
        author: &DeviceId,
        band: Band,
    ) -> Result<()> {
        if !self.adopted.is_open && *author != self.device() {
            let aside = set_aside(db, &self.roster)?;
            self.adopted.is_open = self.speaks_for(&aside, author, band);
        }
        Ok(())
    }

    /// Whether an act of this device's would count now.
    pub(crate) fn may_adopt(&self) -> bool {
        self.shared.may_append() && self.may_write_at(&self.device(), self.frontier.size() + 1)
    }

    /// Whether this device adopts what something of this band rests on that the author wrote: it is
    /// this one itself, or cannot do it.
    fn speaks_for(&self, aside: &BTreeSet<DeviceId>, author: &DeviceId, band: Band) -> bool {
        let me = self.device();
        let own = || self.roster.device(&me).filter(|own| own.role.may_write());
        let may = || own().is_some_and(|own| own.clearance >= band);
        *author == me || (self.is_unable(aside, author, band) && may())
    }

    /// Who was shut out may not adopt it, and of who was set aside nobody knows whether it ever
    /// will. Who was cleared for less meanwhile may not have it any more, and is not given what is
    /// void.
    fn is_unable(&self, aside: &BTreeSet<DeviceId>, author: &DeviceId, band: Band) -> bool {
        let now = self.roster.device(author).filter(|now| now.role.may_write());
        aside.contains(author) || now.is_none_or(|now| now.lowest < band)
    }

    /// Objects of which sections wait that were applied once, or opened at least.
    fn waiting_objects(
        &self,
        db: &Connection,
        aside: &BTreeSet<DeviceId>,
    ) -> Result<BTreeSet<ObjectId>> {
        let (mut objects, mut after) = (BTreeSet::new(), 0);
        let limit = u32::try_from(RETRIES_MAX).unwrap_or(u32::MAX);
        loop {
            let page = sections::waiting(db, after, limit)?;
            let Some(last) = page.last() else { return Ok(objects) };
            after = *last;
            for number in page {
                let Some(section) = sections::numbered(db, number)? else { continue };
                let Some(object) = section.about.and_then(|about| about.object) else { continue };
                let author = logs::by_number(db, section.place.log)?.device;
                if self.speaks_for(aside, &author, self.band_of(&section)?) {
                    objects.insert(object);
                }
            }
        }
    }

    /// Creations that do not count by themselves, of what is left of documents that were erased as
    /// another device had redacted them.
    fn left_by_erasures(
        &self,
        db: &Connection,
        aside: &BTreeSet<DeviceId>,
    ) -> Result<BTreeSet<Adopted>> {
        let mut left = BTreeSet::new();
        for log in logs::every(db)? {
            let is_own = log.log == self.log;
            if !is_own && !self.is_unable(aside, &log.device, Band::Red) {
                continue;
            }
            for erasure in erasures::of_entries(db, log.log, 1, log.frontier.size())? {
                let is_void = erasure.stage == Stage::Void;
                let act = if is_void { None } else { read_act(db, &erasure)? };
                let Some(instead) = act.and_then(|act| act.instead) else { continue };
                let mut edits = Edits::read(db, self, &instead)?.all;
                edits.retain(|edit| {
                    let counts = self.counts_at(&edit.origin) || self.has_adopted(&edit.origin);
                    let is_it = self.speaks_for(aside, &log.device, edit.origin.band);
                    is_it && edit.creates.is_some() && !counts
                });
                if !edits.is_empty() {
                    let taken = self.taken_by(db, erasure.place)?;
                    left.extend(edits.iter().filter(|edit| taken.has(edit)).map(adopted));
                }
            }
        }
        Ok(left)
    }

    /// What edits of a document that wait rest on, directly or through others, and that does not
    /// count by itself.
    fn beneath(
        &self,
        db: &Connection,
        object: ObjectId,
        aside: &BTreeSet<DeviceId>,
    ) -> Result<Vec<Adopted>> {
        let edits = Edits::read(db, self, &object)?;
        let waits = |edit: &&Edit| {
            let Origin { device, band, .. } = &edit.origin;
            edit.state == SectionState::Waiting
                && self.counts_at(&edit.origin)
                && self.speaks_for(aside, device, *band)
        };
        let mut found = Vec::new();
        for waiting in edits.all.iter().filter(waits) {
            let mut taken = None;
            let (mut open, mut met) = (edits.beneath(waiting), BTreeSet::new());
            while let Some(at) = open.pop() {
                let Some(edit) = edits.all.get(at).filter(|_| met.insert(at)) else { continue };
                let counts = self.counts_at(&edit.origin) || self.has_adopted(&edit.origin);
                if !counts {
                    // Mostly all count, and nobody asks what was taken in.
                    let taken = match &taken {
                        Some(taken) => taken,
                        None => &*taken.insert(self.taken_by(db, waiting.origin.place())?),
                    };
                    if !taken.has(edit) {
                        continue;
                    }
                    found.push(adopted(edit));
                }
                open.extend(edits.beneath(edit));
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn taken_by(&self, db: &Connection, of: Place) -> Result<Taken> {
        if of.log == self.log {
            return Ok(Taken::All);
        }
        let log = logs::by_number(db, of.log)?;
        let named = named_up_to(db, log.log, of.seq)?;
        Ok(Taken::By { device: log.device, seq: of.seq, named })
    }
}

/// The changes of a section that changes a document.
fn links(opened: &Opened) -> Vec<Link> {
    let change = body::Change::decode(&opened.body).ok();
    let all = change.as_ref().and_then(|change| change.changes().ok());
    all.into_iter().flatten().filter_map(|bytes| Link::of(bytes).ok()).collect()
}

fn adopted(edit: &Edit) -> Adopted {
    let Origin { device, seq, index, entry, .. } = edit.origin;
    Adopted { device, seq, index, entry }
}

/// What the author of an entry had taken in by then, as its log says. Else who was shut out could
/// write now what an entry from before that names.
enum Taken {
    /// It is an entry of this device.
    All,
    By {
        device: DeviceId,
        seq: u64,
        named: Named,
    },
}

impl Taken {
    fn has(&self, edit: &Edit) -> bool {
        let Origin { device: author, seq: of, .. } = &edit.origin;
        match self {
            Self::All => true,
            Self::By { device, seq, .. } if author == device => of < seq,
            Self::By { named, .. } => *of <= named.of(author),
        }
    }
}

/// A section that creates or changes a document.
pub(crate) struct Edit {
    pub(crate) origin: Origin,
    pub(crate) state: SectionState,
    /// The creation of what it changes.
    pub(crate) creation: Option<Creation>,
    /// As what, if it is a creation.
    pub(crate) creates: Option<Creation>,
    /// Its changes' hashes.
    pub(crate) changes: Vec<[u8; 32]>,
    deps: Vec<[u8; 32]>,
}

/// What a document is made of, and what of it rests on what.
#[derive(Default)]
pub(crate) struct Edits {
    pub(crate) all: Vec<Edit>,
    creations: HashMap<Creation, usize>,
    /// Whoever repeats a change elsewhere, to no effect, stands beside it here.
    changes: HashMap<[u8; 32], Vec<usize>>,
}

impl Edits {
    /// What an edit rests on directly.
    fn beneath(&self, edit: &Edit) -> Vec<usize> {
        let of_creation = edit.creation.and_then(|creation| self.creations.get(&creation));
        let of_deps = edit.deps.iter().filter_map(|dep| self.changes.get(dep)).flatten();
        of_creation.into_iter().chain(of_deps).copied().collect()
    }

    pub(crate) fn read(db: &Connection, state: &State, object: &ObjectId) -> Result<Self> {
        let mut edits = Self::default();
        for section in sections::of_object(db, object)? {
            if let Some((entry, Opening::Opened(opened))) = state.open_stored(db, &section)? {
                let band = state.band_of(&section)?;
                edits.add(db, &section, (band, entry), &opened)?;
            }
        }
        Ok(edits)
    }

    fn add(
        &mut self,
        db: &Connection,
        section: &Section,
        (band, entry): Creation,
        opened: &Opened,
    ) -> Result<()> {
        let at = self.all.len();
        let (mut creation, mut creates) = (None, None);
        let (mut changes, mut deps) = (Vec::new(), Vec::new());
        match opened.metadata.kind {
            kind::DOCUMENT_CREATE => {
                self.creations.entry((band, entry)).or_insert(at);
                creates = Some((band, entry));
            }
            kind::DOCUMENT_CHANGE => {
                creation = opened.metadata.generation.map(|generation| (band, generation));
                for link in links(opened) {
                    self.changes.entry(link.hash).or_default().push(at);
                    changes.push(link.hash);
                    deps.extend(link.deps);
                }
            }
            _ => return Ok(()),
        }
        let origin = Origin::of_stored(db, section.place, entry, (about(opened).clock, band))?;
        let state = section.state;
        self.all.push(Edit { origin, state, creation, creates, changes, deps });
        Ok(())
    }
}
