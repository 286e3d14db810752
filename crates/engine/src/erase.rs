//! Erasure: an object goes from every device, with all that was made of it.
//!
//! Invariants: bytes go only of sections that are shown to be of the object, or of manifests of
//! blobs that no live document here names; headers, commitments and signatures stay. What an act
//! erases goes in the transaction that takes the act in; this device says that it has erased it
//! once its disk has nothing of it any more (`erase/disk.rs`). What comes later of an erased object
//! is never written.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use larder_log::act::Act;
use larder_log::blob::Manifest;
use larder_log::erasure::{EraseAct, Listed, Shown};
use larder_log::{Band, Class, Header, Opened, Receipt, VERSION, VoidReason, kind};
use larder_store::space::erasures::{self, Erasure, State as Stage};
use larder_store::space::logs::{self, LogId};
use larder_store::space::sections::{self, About, Place, Section, State};
use larder_store::space::tombstones::{self, Tombstone};
use larder_store::space::{blobs, changes, control, documents, snapshots, units};
use larder_types::limits::ERASE_SECTIONS_MAX;
use larder_types::{BlobId, Clock, ObjectId};
use rusqlite::Connection;

use crate::copies::root;
use crate::effects::about;
use crate::heal;
use crate::keyring::Opening;
use crate::redact;
use crate::rekey::step;
use crate::rows::Origin;
use crate::state::State as WriterState;
use crate::steps::Step;
use crate::supply::depleted;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

#[cfg(test)]
pub(crate) mod canary_tests;
mod check;
mod disk;
#[cfg(test)]
mod inflated_tests;
mod status;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::check::{check_acts, check_object};
pub use self::status::{ErasedBy, ErasureInfo, ErasureStage, LateEdits};

/// What a writer knows of erasures without asking.
#[derive(Debug, Default)]
pub(crate) struct Erasing {
    /// Whether there was ever an act of erasure.
    any: bool,
    /// Whether the disk may still have something of one.
    pub(crate) is_open: bool,
    /// Objects of which an act has come, or counts no more, in this transaction.
    objects: BTreeSet<ObjectId>,
    /// Sections of erased objects that came in this transaction, and were not kept.
    met: BTreeMap<ObjectId, Vec<Listed>>,
    /// Redacted objects of which what is left is not here yet, and whether this device keeps the
    /// old one until then.
    awaited: BTreeMap<ObjectId, bool>,
}

impl Erasing {
    pub(crate) fn load(db: &Connection) -> Result<Self> {
        let (any, is_open) = (erasures::any(db)?, erasures::any_open(db)?);
        let awaited = if any { redact::awaited(db)? } else { BTreeMap::new() };
        Ok(Self { any, is_open, awaited, ..Self::default() })
    }

    /// Whether what is left of a redacted object is awaited.
    pub(crate) fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Whether something of an erased object is kept, because this device has yet to make its own
    /// edits again in what is left of it.
    pub(crate) fn keeps(&self, object: &ObjectId) -> bool {
        self.awaited.get(object) == Some(&true)
    }
}

impl SpaceWriter {
    /// Erases an object: it is deleted for ever, and the bytes of all that was ever written of it,
    /// and the blobs that only it names, go from this device at once, and from every other when it
    /// hears of it. Receipts stay, and still verify.
    ///
    /// [`SpaceWriter::finish_erasures`] sees to what the disk may still have; it is called by
    /// itself. Erased once more by the same device, it is the first receipt that is returned.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is known of the object; [`Error::Invalid`] for a copy of a
    /// document that was created twice; [`Error::MayNotWrite`]; the storage's errors.
    pub fn erase(&mut self, object: ObjectId) -> Result<Receipt> {
        self.transact(|tx, state| {
            state.check_may_write()?;
            WriterState::check_known(tx, &object)?;
            let own = erasures::of_object(tx, &object)?
                .into_iter()
                .find(|erasure| erasure.place.log == state.log && erasure.stage != Stage::Void);
            if let Some(own) = own {
                return state.receipt(tx, own.place.seq);
            }
            let up_to = state.reads_up_to()?;
            let listed = state.to_list(tx, &object, up_to)?;
            let seq = state.append_erasure(tx, object, listed, None)?;
            state.receipt(tx, seq)
        })
    }
}

impl WriterState {
    pub(crate) fn check_known(db: &Connection, object: &ObjectId) -> Result<()> {
        let root = root(db, object)?;
        if root != *object {
            return Err(Error::Invalid(format!(
                "{object} is one of several documents that were created under the id {root}: \
                 erase that one, and all of them go"
            )));
        }
        let is_known = documents::find(db, object)?.is_some()
            || tombstones::contains(db, object)?
            || !sections::of_object(db, object)?.is_empty();
        if is_known {
            return Ok(());
        }
        Err(Error::NotFound(format!("nothing is known of an object {object}: there is no such id")))
    }

    /// Appends acts that erase an object, as many as it takes to list all of it. The last's entry.
    pub(crate) fn append_erasure(
        &mut self,
        db: &Connection,
        object: ObjectId,
        mut listed: Vec<Listed>,
        instead: Option<ObjectId>,
    ) -> Result<u64> {
        listed.sort_unstable_by_key(|listed| (listed.device, listed.seq, listed.index));
        listed.dedup_by_key(|listed| (listed.device, listed.seq, listed.index));
        // Who names no object did not know that it was redacted: what is left goes too then.
        let instead = match instead {
            None => redact::of_redactions(db, &valid_acts(db, &object)?)?
                .into_iter()
                .find_map(|redacts| redacts.act.instead),
            instead => instead,
        };
        let mut seq = 0;
        let mut rest = listed.as_slice();
        loop {
            let (lot, more) = rest.split_at(rest.len().min(ERASE_SECTIONS_MAX));
            let act = EraseAct { v: VERSION, object, listed: lot.to_vec(), instead };
            seq = self.append_act(db, &Act::Erase(act))?.seq.max(seq);
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        self.sign(db)?;
        Ok(seq)
    }

    /// Takes in an act of erasure, or a report of one. What follows is done at the transaction's
    /// end. The inner error says why it is void.
    pub(crate) fn take_erasure(
        &mut self,
        db: &Connection,
        place: Place,
        header: &Header,
        act: &Act,
    ) -> Result<std::result::Result<(), VoidReason>> {
        let Act::Erase(act) = act else {
            let standing = self.roster.standing_at(header);
            let may = standing.is_some_and(|standing| standing.role.may_read());
            return Ok(if may { Ok(()) } else { Err(VoidReason::Role) });
        };
        let up_to = self.writes_up_to(&header.device, header.seq);
        let stage = if up_to.is_some() { Stage::Open } else { Stage::Void };
        erasures::add(db, place, &header.hash(), &act.object, stage)?;
        self.erasing.any = true;
        let Some(up_to) = up_to else {
            // What it lists of an object that others erase is known by it.
            if !valid_acts(db, &act.object)?.is_empty() {
                self.erasing.objects.insert(act.object);
            }
            return Ok(Err(VoidReason::Role));
        };
        // At once: what comes behind it in this transaction is of an erased object.
        for band in bands_up_to(up_to) {
            let tombstone = Origin {
                log: place.log,
                device: header.device,
                seq: header.seq,
                index: place.index,
                entry: header.hash(),
                clock: Clock::ZERO,
                band,
            };
            tombstones::put(db, &tombstone.tombstone(act.object, None))?;
        }
        self.erasing.objects.insert(act.object);
        Ok(Ok(()))
    }

    /// Whether an object was erased in this band.
    pub(crate) fn is_erased(
        &self,
        db: &Connection,
        object: Option<&ObjectId>,
        band: Band,
    ) -> Result<bool> {
        match object {
            Some(object) if self.erasing.any => {
                Ok(tombstones::erased_up_to(db, object)?.is_some_and(|up_to| band <= up_to))
            }
            _ => Ok(false),
        }
    }

    /// A section of an erased object has come, and is not kept.
    pub(crate) fn meet_erased(
        &mut self,
        db: &Connection,
        place: Place,
        opened: &Opened,
    ) -> Result<()> {
        let device = logs::by_number(db, place.log)?.device;
        let listed = Listed::new(device, place.seq, place.index, opened);
        if let (Some(object), Some(listed)) = (opened.metadata.object, listed) {
            self.erasing.met.entry(object).or_default().push(listed);
        }
        Ok(())
    }

    /// A section whose bytes are here has been opened, and is of an erased object.
    pub(crate) fn erase_opened(
        &mut self,
        db: &Connection,
        section: &Section,
        opened: &Opened,
    ) -> Result<()> {
        self.meet_erased(db, section.place, opened)?;
        let about = about(opened);
        sections::erase(db, &[Section { about: Some(about), ..section.clone() }])?;
        if let Some(object) = about.object {
            // Even if nobody writes a further act: the disk has had it.
            erasures::reopen(db, &object)?;
            self.erasing.is_open = true;
        }
        Ok(())
    }

    /// Looks again at acts of erasure in entries whose author may write in them by now, or may no
    /// longer.
    pub(crate) fn rejudge_erasures(
        &mut self,
        db: &Connection,
        (log, first, last): (LogId, u64, u64),
    ) -> Result<()> {
        if !self.erasing.any {
            return Ok(());
        }
        let device = logs::by_number(db, log)?.device;
        for erasure in erasures::of_entries(db, log, first, last)? {
            let may = self.may_write_at(&device, erasure.place.seq);
            if may == (erasure.stage == Stage::Void) {
                let stage = if may { Stage::Open } else { Stage::Void };
                erasures::set_stage(db, erasure.erasure, stage)?;
            }
            // It may erase more bands by now, or fewer.
            self.erasing.objects.insert(erasure.object);
        }
        Ok(())
    }

    /// Does what acts of erasure that came in this transaction ask for. Whether bytes that were
    /// missing are not wanted any more.
    pub(crate) fn settle_erasures(&mut self, db: &Connection) -> Result<bool> {
        let mut is_settled = false;
        self.look_for_rest(db)?;
        let has_any = !self.erasing.objects.is_empty();
        while !self.erasing.objects.is_empty() || !self.erasing.met.is_empty() {
            is_settled |= self.settle_objects(db)?;
            self.settle_met(db)?;
        }
        if is_settled {
            self.load_missing(db)?;
        }
        if has_any {
            step(Step::Erasing)?;
        }
        Ok(is_settled)
    }

    /// What is left of redacted objects may have come, on which these wait.
    fn look_for_rest(&mut self, db: &Connection) -> Result<()> {
        for (object, was_kept) in std::mem::take(&mut self.erasing.awaited) {
            let acts = valid_acts(db, &object)?;
            match self.awaits_rest(db, &object, &acts)? {
                Some(is_kept) if is_kept == was_kept => {
                    self.erasing.awaited.insert(object, is_kept);
                }
                _ => {
                    self.erasing.objects.insert(object);
                }
            }
        }
        Ok(())
    }

    fn settle_objects(&mut self, db: &Connection) -> Result<bool> {
        let mut is_settled = false;
        while let Some(object) = self.erasing.objects.pop_first() {
            // What is durable and of the object is in the tables first, and in nothing else.
            self.show(db)?;
            let acts = erasures::of_object(db, &object)?;
            let (valid, void): (Vec<_>, Vec<_>) =
                acts.into_iter().partition(|act| act.stage != Stage::Void);
            let all = || valid.iter().chain(&void);
            let up_to = self.erased_by(db, &valid)?;
            if up_to.is_none() || tombstones::erased_up_to(db, &object)? > up_to {
                self.bring_back(db, object, all(), up_to)?;
            }
            if let Some(up_to) = up_to {
                self.erasing.is_open = true;
                if let Some(is_kept) = self.awaits_rest(db, &object, &valid)? {
                    self.erasing.awaited.insert(object, is_kept);
                    if is_kept {
                        // Nothing of it is said to be gone.
                        erasures::reopen(db, &object)?;
                        continue;
                    }
                }
                is_settled |= self.erase_now(db, object, &valid, up_to)?;
            }
        }
        Ok(is_settled)
    }

    /// What came of erased objects is listed, but for those whose acts are settled anyhow.
    fn settle_met(&mut self, db: &Connection) -> Result<()> {
        while let Some((object, met)) = self.erasing.met.pop_first() {
            let acts = valid_acts(db, &object)?;
            // Else it is erased no more.
            if !acts.is_empty() {
                let listed = self.all_listed(db, &object, &acts)?;
                self.list_further(db, object, met, &listed)?;
                // It may have been deleted beside a redaction.
                if !self.erasing.keeps(&object) {
                    self.settle_redactions(db, object, &acts)?;
                }
            }
        }
        Ok(())
    }

    /// Writes a further act, if this device may, of what no act lists that is known.
    fn list_further(
        &mut self,
        db: &Connection,
        object: ObjectId,
        mut unlisted: Vec<Listed>,
        listed: &Going,
    ) -> Result<()> {
        let may = self.shared.may_append()
            && self.check_may_write().is_ok()
            && !self.stopped.contains(&self.device());
        if !may {
            return Ok(());
        }
        let mut logs = BTreeMap::new();
        for Listed { device, .. } in &unlisted {
            logs.insert(*device, logs::find(db, device)?.map(|log| log.log));
        }
        unlisted.retain(|new| {
            let log = logs.get(&new.device).copied().flatten();
            let place = |log| Place { log, seq: new.seq, index: new.index };
            log.is_none_or(|log| !listed.places.contains_key(&place(log)))
        });
        if !unlisted.is_empty() {
            self.append_erasure(db, object, unlisted, None)?;
            // What it lists has gone.
            self.erasing.objects.remove(&object);
            self.erasing.is_open = true;
        }
        Ok(())
    }

    /// Up to which band these acts erase, if they do.
    pub(crate) fn erased_by(&self, db: &Connection, acts: &[Erasure]) -> Result<Option<Band>> {
        let mut most = None;
        for act in acts {
            let device = logs::by_number(db, act.place.log)?.device;
            most = most.max(self.writes_up_to(&device, act.place.seq));
        }
        Ok(most)
    }

    /// What these acts list and may erase.
    fn all_listed(&self, db: &Connection, object: &ObjectId, acts: &[Erasure]) -> Result<Going> {
        let mut going = Going::default();
        for act in acts {
            let Some(up_to) = self.erased_by(db, std::slice::from_ref(act))? else { continue };
            let mut of_act = Going::listed(db, object, std::iter::once(act))?;
            for place in std::mem::take(&mut of_act.places) {
                if self.is_up_to(db, place.0, up_to)? {
                    going.places.extend([place]);
                }
            }
        }
        Ok(going)
    }

    /// What acts show to be of an object that others erase: those that are void, or reach less far,
    /// may have been obeyed before that was known, and nobody has the bytes then.
    fn shown_by_any(&self, db: &Connection, object: &ObjectId, up_to: Band) -> Result<Going> {
        let all = erasures::of_object(db, object)?;
        let mut going = Going::default();
        for (place, shown) in Going::listed(db, object, all.iter())?.places {
            if shown == Shown::Object && self.is_up_to(db, place, up_to)? {
                going.places.insert(place, shown);
            }
        }
        Ok(going)
    }

    fn is_up_to(&self, db: &Connection, place: Place, up_to: Band) -> Result<bool> {
        let section = sections::find(db, place)?;
        let band = section.and_then(|section| self.keyring.band(&section.commitment));
        Ok(band.is_some_and(|band| band <= up_to))
    }

    fn erase_now(
        &mut self,
        db: &Connection,
        object: ObjectId,
        acts: &[Erasure],
        up_to: Band,
    ) -> Result<bool> {
        if !self.settle_redactions(db, object, acts)? {
            self.erasing.awaited.insert(object, true);
            return Ok(false);
        }
        let listed = self.all_listed(db, &object, acts)?;
        let mut going = Going { places: listed.places.clone() };
        let mut unlisted = self.gather(db, &object, &mut going, up_to)?;
        for (place, shown) in self.shown_by_any(db, &object, up_to)?.places {
            going.places.entry(place).or_insert(shown);
        }
        unlisted.extend(self.erasing.met.remove(&object).unwrap_or_default());
        tombstones::forget(db, &object, up_to)?;
        for act in acts {
            let Some(up_to) = self.erased_by(db, std::slice::from_ref(act))? else { continue };
            for band in bands_up_to(up_to) {
                let tombstone = tombstone_of(db, act, band)?;
                self.bury(db, &tombstone)?;
            }
        }
        let is_settled = self.drop_sections(db, &object, going)?;
        if let Some((held, _)) = depleted(db)? {
            self.pass_over_buried(db, &held)?;
        }
        changes::add_late(db, &object, None)?;
        self.shared.handing().let_go();
        self.list_further(db, object, unlisted, &listed)?;
        Ok(is_settled)
    }

    /// Adds what is known here to be of the object, and is not listed. What shows it to others.
    fn gather(
        &mut self,
        db: &Connection,
        object: &ObjectId,
        going: &mut Going,
        up_to: Band,
    ) -> Result<Vec<Listed>> {
        let listed = self.to_list(db, object, up_to)?;
        let mut unlisted = Vec::new();
        for listed in listed {
            let Some(log) = logs::find(db, &listed.device)? else { continue };
            let place = Place { log: log.log, seq: listed.seq, index: listed.index };
            if let Entry::Vacant(vacant) = going.places.entry(place) {
                vacant.insert(listed.shown);
                unlisted.push(listed);
            }
        }
        // Those too that do not open here any more.
        for section in sections::of_object(db, object)? {
            let band = self.keyring.band(&section.commitment);
            if section.commitment.class == Class::Data as u8 && band <= Some(up_to) {
                going.places.insert(section.place, Shown::Object);
            }
        }
        Ok(unlisted)
    }

    /// All that this device can show to be of an object, with the manifests of blobs that only it
    /// names.
    pub(crate) fn to_list(
        &self,
        db: &Connection,
        object: &ObjectId,
        up_to: Band,
    ) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let mut named = BTreeSet::new();
        for section in sections::of_object(db, object)? {
            let band = self.keyring.band(&section.commitment);
            if section.commitment.class != Class::Data as u8 || band > Some(up_to) {
                continue;
            }
            let Some((_, Opening::Opened(opened))) = self.open_stored(db, &section)? else {
                continue;
            };
            named.extend(blobs_in(&opened.body));
            listed.extend(self.listed(db, &section, &opened)?);
        }
        if let Some(row) = documents::find(db, object)?.filter(|row| row.band <= up_to) {
            named.extend(blobs_in(row.json.as_bytes()));
        }
        for id in named {
            let Some(blob) = blobs::find(db, &id)? else { continue };
            if is_named_beside(db, &id, object)? {
                continue;
            }
            for section in sections::of_entry(db, blob.log, blob.seq)? {
                let opened = self.open_stored(db, &section)?;
                if let Some((_, Opening::Opened(opened))) = opened
                    && opened.metadata.kind == kind::BLOB
                    && Manifest::id(&opened.body) == id
                {
                    listed.extend(self.listed(db, &section, &opened)?);
                }
            }
        }
        Ok(listed)
    }

    fn listed(
        &self,
        db: &Connection,
        section: &Section,
        opened: &Opened,
    ) -> Result<Option<Listed>> {
        let Place { log, seq, index } = section.place;
        let device = if log == self.log { self.device() } else { logs::by_number(db, log)?.device };
        Ok(Listed::new(device, seq, index, opened))
    }

    /// Drops the bytes of all that goes. Whether something that was missing is settled by it.
    fn drop_sections(&mut self, db: &Connection, object: &ObjectId, going: Going) -> Result<bool> {
        let (mut dropped, mut is_settled, mut had_bytes) = (Vec::new(), false, false);
        for (place, shown) in going.places {
            let Some(mut section) = sections::find(db, place)? else { continue };
            if section.state == State::Erased {
                continue;
            }
            if shown == Shown::Manifest && !self.drop_blob(db, &section)? {
                continue;
            }
            is_settled |= section.state == State::Missing;
            had_bytes |= section.state != State::Missing;
            if is_unread(&section) {
                let (kind, of) = match shown {
                    Shown::Object => (UNKNOWN_KIND, Some(*object)),
                    Shown::Manifest => (kind::BLOB, None),
                };
                section.about = Some(About { kind, object: of, clock: Clock::ZERO });
            }
            units::forget_content(db, Some(place.log).filter(|log| *log != self.log), place.seq)?;
            dropped.push(section);
        }
        sections::erase(db, &dropped)?;
        if had_bytes {
            erasures::reopen(db, object)?;
        }
        Ok(is_settled)
    }

    /// Drops the blob that a manifest describes. False: a live document here names it, or an app
    /// has added it and is about to name it.
    fn drop_blob(&self, db: &Connection, section: &Section) -> Result<bool> {
        let Some((_, Opening::Opened(opened))) = self.open_stored(db, section)? else {
            return Ok(true);
        };
        let id = Manifest::id(&opened.body);
        if blobs::is_named(db, &id)? || blobs::is_leased(db, &id)? {
            return Ok(false);
        }
        blobs::remove(db, &id)?;
        Ok(true)
    }

    /// No act erases the object any more, above a band if there is one: what was dropped is wanted
    /// again.
    fn bring_back<'a>(
        &mut self,
        db: &Connection,
        object: ObjectId,
        acts: impl Iterator<Item = &'a Erasure>,
        above: Option<Band>,
    ) -> Result<()> {
        tombstones::forget_erased(db, &object, above)?;
        let mut places: BTreeSet<Place> =
            sections::of_object(db, &object)?.into_iter().map(|section| section.place).collect();
        for (place, shown) in Going::listed(db, &object, acts)?.places {
            if shown == Shown::Object || !is_erased_beside(db, &object, place)? {
                places.insert(place);
            }
        }
        let held = snapshots::in_state(db, snapshots::State::Held)?;
        for place in places {
            let section = sections::find(db, place)?;
            let band = section.as_ref().and_then(|section| self.keyring.band(&section.commitment));
            if band <= above {
                continue;
            }
            if let Some(section) = section.filter(|section| section.state == State::Erased) {
                // What is no part of a document was never dropped by anybody else.
                let is_blob = section.about.is_some_and(|about| about.kind == kind::BLOB);
                let state = match self.without_bytes_here(db, &section)? {
                    State::Excused if is_blob => State::Missing,
                    state => state,
                };
                // It is judged again with its author, but for what is only told of.
                let of = (!is_blob).then_some(object);
                let unread = About { kind: UNKNOWN_KIND, object: of, clock: Clock::ZERO };
                let about = (state != State::Excused).then_some(&unread);
                sections::settle(db, place, state, about)?;
            }
        }
        let receiving = snapshots::in_state(db, snapshots::State::Receiving)?;
        for snapshot in held.into_iter().chain(receiving) {
            for band in Band::SHARED.into_iter().filter(|band| Some(*band) > above) {
                snapshots::want_again(db, &snapshot, &object, band)?;
            }
        }
        self.load_missing(db)?;
        changes::add_late(db, &object, None)?;
        heal::mend(db, self, object)?;
        Ok(())
    }
}

/// Whether an act that counts lists a section as a manifest of another object's blob.
fn is_erased_beside(db: &Connection, object: &ObjectId, place: Place) -> Result<bool> {
    let mut after = 0;
    loop {
        let page = erasures::page(db, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(false) };
        after = last.erasure;
        let others = page.iter().filter(|act| act.object != *object && act.stage != Stage::Void);
        for act in others {
            let listed = Going::listed(db, &act.object, std::iter::once(act))?;
            if listed.places.contains_key(&place) {
                return Ok(true);
            }
        }
    }
}

/// Sections that go, by where they stand.
#[derive(Default)]
struct Going {
    places: BTreeMap<Place, Shown>,
}

impl Going {
    /// What these acts list.
    fn listed<'a>(
        db: &Connection,
        object: &ObjectId,
        acts: impl Iterator<Item = &'a Erasure>,
    ) -> Result<Self> {
        let mut going = Self::default();
        for act in acts {
            for listed in read_act(db, act)?.iter().flat_map(|act| &act.listed) {
                going.add_listed(db, object, listed)?;
            }
        }
        Ok(going)
    }

    /// Adds a section that an act lists, if the act shows what it is. What is not here, or of
    /// another history of its log, is not.
    fn add_listed(&mut self, db: &Connection, object: &ObjectId, listed: &Listed) -> Result<()> {
        let Some(log) = logs::find(db, &listed.device)? else { return Ok(()) };
        let place = Place { log: log.log, seq: listed.seq, index: listed.index };
        let section = sections::find(db, place)?;
        if section.is_some_and(|section| listed.is_shown(object, &section.commitment)) {
            self.places.insert(place, listed.shown);
        }
        Ok(())
    }
}

/// The acts that erase an object and are not void, in order.
pub(crate) fn valid_acts(db: &Connection, object: &ObjectId) -> Result<Vec<Erasure>> {
    let mut acts = erasures::of_object(db, object)?;
    acts.retain(|act| act.stage != Stage::Void);
    Ok(acts)
}

pub(crate) fn read_act(db: &Connection, erasure: &Erasure) -> Result<Option<EraseAct>> {
    let stored = control::act(db, erasure.place)?;
    Ok(stored.as_ref().and_then(body_of))
}

/// None: it is recorded otherwise than it is, which a check mends.
fn body_of(stored: &control::Act) -> Option<EraseAct> {
    match Act::from_body(stored.kind, &stored.body) {
        Ok(Some(Act::Erase(act))) => Some(act),
        _ => None,
    }
}

/// The deletion that an act of erasure is.
pub(crate) fn tombstone_of(db: &Connection, erasure: &Erasure, band: Band) -> Result<Tombstone> {
    let Place { log, seq, index } = erasure.place;
    let device = logs::by_number(db, log)?.device;
    let about = sections::find(db, erasure.place)?.and_then(|section| section.about);
    let clock = about.map_or(Clock::ZERO, |about| about.clock);
    Ok(Tombstone { object: erasure.object, collection: None, clock, device, seq, index, band })
}

/// The bands that who is cleared up to one may erase.
fn bands_up_to(up_to: Band) -> impl Iterator<Item = Band> {
    Band::SHARED.into_iter().filter(move |band| *band <= up_to)
}

/// Whether a live document names a blob that is none of this object.
fn is_named_beside(db: &Connection, id: &BlobId, object: &ObjectId) -> Result<bool> {
    for document in blobs::named_by(db, id)? {
        let Some(row) = documents::by_number(db, document)? else { continue };
        if root(db, &row.object)? != *object {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What may be ids of blobs in some text: 64 lower-case hexadecimal digits, whatever is around
/// them.
fn blobs_in(text: &[u8]) -> impl Iterator<Item = BlobId> + '_ {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.split(move |byte| !is_digit(byte))
        .filter(|run| run.len() >= ID_DIGITS)
        .flat_map(|run| run.windows(ID_DIGITS).take(WINDOWS_MAX))
        .filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
}

const PAGE: u32 = 256;
const ID_DIGITS: usize = 64;
/// Of a longer run of digits: what stands before an id in a change is a length or another number.
const WINDOWS_MAX: usize = 64;
/// Of a section that was erased before it could be opened, or is wanted again.
const UNKNOWN_KIND: u16 = 0;

/// Whether a section was never opened here, or is wanted again as if it had not been.
pub(crate) fn is_unread(section: &Section) -> bool {
    section.about.is_none_or(|about| about.kind == UNKNOWN_KIND)
}
