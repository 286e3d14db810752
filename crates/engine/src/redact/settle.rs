//! What a device does when it hears that a document was redacted, before the old one goes there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::slice;

use larder_document::{Actor, Link, leads_to_list};
use larder_log::erasure::EraseAct;
use larder_log::roster::Roster;
use larder_log::snapshot::SnapshotAct;
use larder_log::{Band, kind};
use larder_store::space::documents::{self, Document as Row};
use larder_store::space::erasures::{self, Erasure, State as Stage};
use larder_store::space::logs::{self, LogId};
use larder_store::space::sections::{self, About, Place, Section, State as Standing};
use larder_store::space::{copies, entries};
use larder_types::limits::{CHANGE_BYTES_MAX, ERASE_SECTIONS_MAX, REDACTED_PATHS_MAX};
use larder_types::{DeviceId, Hash, ObjectId};
use rusqlite::Connection;

use super::{ACTOR, Left, follow};
use crate::adoption::{Edit, Edits};
use crate::aside::{Exempt, asked_for};
use crate::copies::is_deleted;
use crate::erase::{read_act, valid_acts};
use crate::keyring::Opening;
use crate::named::named_up_to;
use crate::prune::{Statement, statements};
use crate::show::is_bad;
use crate::state::State as WriterState;
use crate::touched::{State, Touched, load};
use crate::unreadable::Thing;
use crate::{Error, Result};

/// An act of who redacted an object.
pub(crate) struct Redacts {
    /// Of the acts that count the one that stands for it.
    pub(crate) by: Erasure,
    /// Where it stands itself.
    place: Place,
    pub(crate) act: EraseAct,
}

/// What redactions of an object consist of. Who lists more sections later, or erases what it knows
/// to be redacted, names what is left too, and may stand for who redacted it and was shut out
/// since. What that one listed is what it knew, whether it counts or not.
pub(crate) fn of_redactions(db: &Connection, acts: &[Erasure]) -> Result<Vec<Redacts>> {
    let mut standing: BTreeMap<ObjectId, Erasure> = BTreeMap::new();
    for erasure in acts {
        let instead = read_act(db, erasure)?.and_then(|act| act.instead);
        if let Some(instead) = instead {
            standing.entry(instead).or_insert(*erasure);
        }
    }
    let mut found = Vec::new();
    for (instead, by) in standing {
        let mut named = Vec::new();
        for erasure in erasures::of_object(db, &by.object)? {
            let act = read_act(db, &erasure)?.filter(|act| act.instead == Some(instead));
            named.extend(act.map(|act| (erasure.place, act)));
        }
        let is_create = |about: About| about.kind == kind::DOCUMENT_CREATE;
        let created = sections::of_object(db, &instead)?;
        let created = created.iter().filter(|section| section.about.is_some_and(is_create));
        let mut created: BTreeSet<LogId> = created.map(|section| section.place.log).collect();
        // What a snapshot stands for says itself who created it.
        let row = documents::find(db, &instead)?;
        created.extend(row.filter(|_| created.is_empty()).map(|row| row.created.log));
        let redactor = named.iter().map(|(place, _)| place.log).find(|log| created.contains(log));
        let redactor = redactor.unwrap_or(by.place.log);
        for (place, act) in named.into_iter().filter(|(place, _)| place.log == redactor) {
            let has_more = act.listed.len() >= ERASE_SECTIONS_MAX;
            found.push(Redacts { by, place, act });
            if !has_more {
                break;
            }
        }
    }
    Ok(found)
}

/// As a writer begins: erased objects of which something may be kept, or what is left is not here.
pub(crate) fn awaited(db: &Connection) -> Result<BTreeMap<ObjectId, bool>> {
    let mut awaited = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = erasures::page(db, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(awaited) };
        after = last.erasure;
        for erasure in page.into_iter().filter(|act| act.stage != Stage::Void) {
            let has_row = documents::find(db, &erasure.object)?.is_some();
            let is_kept = has_row && erasure.stage == Stage::Open;
            let instead = read_act(db, &erasure)?.and_then(|act| act.instead);
            let lacks = instead.map(|instead| is_lacking(db, &instead)).transpose()?;
            if is_kept || lacks == Some(true) {
                awaited.insert(erasure.object, is_kept);
            }
        }
    }
}

/// Whether what is left of a redacted object is not here yet.
fn is_lacking(db: &Connection, instead: &ObjectId) -> Result<bool> {
    let at = follow(db, instead)?;
    Ok(documents::find(db, &at)?.is_none() && !is_deleted(db, &at)?)
}

impl WriterState {
    /// Whether what is left of a redacted object is awaited, and whether the old one has to be kept
    /// until then. An act comes whole; the content may come later.
    pub(crate) fn awaits_rest(
        &self,
        db: &Connection,
        object: &ObjectId,
        acts: &[Erasure],
    ) -> Result<Option<bool>> {
        let redactions = of_redactions(db, acts)?;
        let mut lacks = false;
        for Redacts { act, .. } in &redactions {
            if let Some(instead) = act.instead {
                lacks |= is_lacking(db, &instead)?;
            }
        }
        if !lacks {
            return Ok(None);
        }
        let is_kept = self.may_settle()
            && (self.holds_rest(db, &redactions)?
                || !self.late(db, object, &redactions)?.is_empty());
        // Who is not cleared for it waits for nothing.
        Ok((is_kept || self.lacks()).then_some(is_kept))
    }

    /// Whether something is here of what this device left when it redacted. Of what went with a
    /// clearance nothing is to be taken out.
    fn holds_rest(&self, db: &Connection, redactions: &[Redacts]) -> Result<bool> {
        let own = redactions.iter().filter(|redacts| redacts.by.place.log == self.log);
        for instead in own.filter_map(|redacts| redacts.act.instead) {
            if documents::find(db, &follow(db, &instead)?)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn may_settle(&self) -> bool {
        self.shared.may_append()
            && self.check_may_write().is_ok()
            && !self.stopped.contains(&self.device())
    }

    /// Creations and edits of an object that who redacted it did not know, in the bands that the
    /// redactions reach.
    fn late(
        &self,
        db: &Connection,
        object: &ObjectId,
        redactions: &[Redacts],
    ) -> Result<Vec<Section>> {
        let known = Known::of(db, &self.roster, redactions)?;
        let acts: Vec<Erasure> = redactions.iter().map(|redacts| redacts.by).collect();
        let up_to = self.erased_by(db, &acts)?;
        let mut late = Vec::new();
        for section in sections::of_object(db, object)? {
            let Place { log, seq, index } = section.place;
            let place = (logs::by_number(db, log)?.device, seq, index);
            let band = self.keyring.band(&section.commitment).filter(|band| Some(*band) <= up_to);
            let is_known = match (band, section.about.map(|about| about.kind)) {
                (Some(band), Some(kind::DOCUMENT_CREATE)) => known.may_have(self, &place, band),
                (Some(band), Some(kind::DOCUMENT_CHANGE)) => known.has(self, &place, band),
                _ => continue,
            };
            if is_known || (log != self.log && section.state == Standing::Void) {
                continue;
            }
            if let Some((_, Opening::Opened(_))) = self.open_stored(db, &section)? {
                late.push(section);
            }
        }
        Ok(late)
    }

    /// Before an object goes: edits that whoever redacted it did not know are made again in what is
    /// left of it. Who redacted it too takes out of its own what the other has. False: a
    /// document is damaged, and the old one stays until that is mended.
    pub(crate) fn settle_redactions(
        &mut self,
        db: &Connection,
        object: ObjectId,
        acts: &[Erasure],
    ) -> Result<bool> {
        let redactions = of_redactions(db, acts)?;
        if redactions.is_empty() || !self.may_settle() {
            return Ok(true);
        }
        match self.read_all(db, &object, &redactions) {
            Err(error) if is_bad(&error) && !db.is_autocommit() => {
                self.damage.unreadable.leave();
                self.set_aside(Some(object), &error);
                return Ok(false);
            }
            read => read?,
        }
        self.damage.unreadable.leave();
        self.settle_sound(db, object, acts, &redactions)?;
        Ok(true)
    }

    /// Reads all documents that it may come to: damage to one holds up no other.
    fn read_all(
        &mut self,
        db: &Connection,
        object: &ObjectId,
        redactions: &[Redacts],
    ) -> Result<()> {
        let mut objects = BTreeSet::from([*object]);
        objects.extend(copies::through(db, object)?);
        for Redacts { by, act, .. } in redactions {
            let Some(instead) = act.instead else { continue };
            objects.insert(follow(db, &instead)?);
            if by.place.log != self.log {
                for own in self.own_beside(db, &BTreeSet::new(), &instead)? {
                    objects.insert(follow(db, &own)?);
                }
            }
        }
        for object in objects {
            self.damage.unreadable.enter(Thing::Document(object))?;
            if let Some(row) = documents::find(db, &object)? {
                load(db, &row)?;
            }
        }
        Ok(())
    }

    fn settle_sound(
        &mut self,
        db: &Connection,
        object: ObjectId,
        acts: &[Erasure],
        redactions: &[Redacts],
    ) -> Result<()> {
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for Redacts { by, act, .. } in redactions {
            let into = if by.place.log == self.log { &mut own } else { &mut others };
            into.extend(act.instead);
        }
        if self.end_rest(db, &object, acts, (&own, &others))? {
            return Ok(());
        }
        if let Some(first) = others.first() {
            let new = follow(db, first)?;
            let late = self.late(db, &object, redactions)?;
            let mut rows: Vec<Row> = documents::find(db, &object)?.into_iter().collect();
            for copy in copies::through(db, &object)? {
                rows.extend(documents::find(db, &copy)?);
            }
            for row in rows {
                match creation_of(db, &row, &late)? {
                    Some(log) if log == self.log => self.write_anew(db, &row)?,
                    Some(_) => {}
                    None => self.make_again(db, (object, &row), new, redactions)?,
                }
            }
        }
        for other in &others {
            for own in self.own_beside(db, &own, other)? {
                self.take_out_others(db, &own, other)?;
            }
        }
        Ok(())
    }

    /// What this device left of objects that another stands for.
    fn own_beside(
        &self,
        db: &Connection,
        own: &BTreeSet<ObjectId>,
        other: &ObjectId,
    ) -> Result<BTreeSet<ObjectId>> {
        let mut beside = own.clone();
        let left = self.left(db, &follow(db, other)?)?;
        for stood in left.into_iter().flat_map(|left| left.stands_for.of) {
            for Redacts { by, act, .. } in of_redactions(db, &valid_acts(db, &stood.object)?)? {
                if by.place.log == self.log {
                    beside.extend(act.instead);
                }
            }
        }
        beside.remove(other);
        Ok(beside)
    }

    /// Somebody erased or deleted an object that another redacted, and they did not know of each
    /// other: nothing of it is wanted. Each of the two does the same to what is left. Whether it is
    /// so.
    fn end_rest(
        &mut self,
        db: &Connection,
        object: &ObjectId,
        acts: &[Erasure],
        (own, others): (&BTreeSet<ObjectId>, &BTreeSet<ObjectId>),
    ) -> Result<bool> {
        let mut is_ended = false;
        for instead in own.iter().chain(others) {
            let new = follow(db, instead)?;
            let Some(row) = documents::find(db, &new)? else { continue };
            let erased = self.erased_whole_by(db, acts, row.band)?;
            let deleted = self.deleted_by(db, object, row.band)?;
            is_ended |= !erased.is_empty() || !deleted.is_empty();
            let is_mine = |by: &[LogId]| by.contains(&self.log) || own.contains(instead);
            if !erased.is_empty() && is_mine(&erased) {
                self.ensure_epoch(db)?;
                let listed = self.to_list(db, &new, self.reads_up_to()?)?;
                self.append_erasure(db, new, listed, None)?;
            } else if erased.is_empty() && !deleted.is_empty() && is_mine(&deleted) {
                self.ensure_epoch(db)?;
                let mut touched = Touched::default();
                touched.part(db, &mut self.cache, new)?.delete(new)?;
                self.finish(db, touched, Some(ACTOR), None)?;
                self.sign(db)?;
            }
        }
        Ok(is_ended)
    }

    /// Who erased an object and did not know of a redaction.
    fn erased_whole_by(&self, db: &Connection, acts: &[Erasure], band: Band) -> Result<Vec<LogId>> {
        let mut by = Vec::new();
        for act in acts {
            let is_whole = read_act(db, act)?.is_some_and(|act| act.instead.is_none());
            if is_whole && self.erased_by(db, slice::from_ref(act))? >= Some(band) {
                by.push(act.place.log);
            }
        }
        Ok(by)
    }

    fn deleted_by(&self, db: &Connection, object: &ObjectId, band: Band) -> Result<Vec<LogId>> {
        let mut by = Vec::new();
        for section in sections::of_object(db, object)? {
            let is_delete = section.about.is_some_and(|about| about.kind == kind::DOCUMENT_DELETE);
            let is_of = self.keyring.band(&section.commitment) == Some(band);
            if is_delete && is_of && section.state != Standing::Void {
                by.push(section.place.log);
            }
        }
        Ok(by)
    }

    /// Another document was created under the same id and redacted, and this one would go with it.
    fn write_anew(&mut self, db: &Connection, row: &Row) -> Result<()> {
        let document = load(db, row)?;
        let object = ObjectId::random(&mut *self.shared.env.entropy());
        self.ensure_epoch(db)?;
        let mut touched = Touched::default();
        touched.part(db, &mut self.cache, object)?.state = State::New {
            collection: row.collection.clone(),
            value: document.value()?,
            from: Some(row.object),
            redacted: None,
            band: row.band,
        };
        self.finish(db, touched, Some(ACTOR), None)?;
        if document.trashed()?.is_some() {
            self.put_in_trash(db, object)?;
        }
        self.sign(db)
    }

    fn put_in_trash(&mut self, db: &Connection, object: ObjectId) -> Result<()> {
        let (me, now) = (self.device(), self.shared.env.now());
        let mut touched = Touched::default();
        let actor = |root: &ObjectId, generation: &_| Actor::of(&me, root, generation);
        touched.part(db, &mut self.cache, object)?.trash(object, true, actor, now)?;
        self.finish(db, touched, Some(ACTOR), None)?;
        Ok(())
    }

    /// Makes what `object` has and who redacted it did not know again in `new`, by changes that are
    /// the same on each device that does so.
    fn make_again(
        &mut self,
        db: &Connection,
        (object, old): (ObjectId, &Row),
        new: ObjectId,
        redactions: &[Redacts],
    ) -> Result<()> {
        let Some(row) = documents::find(db, &new)?.filter(|row| row.band == old.band) else {
            return Ok(());
        };
        let Some(Left { value, stands_for }) = self.left(db, &new)? else { return Ok(()) };
        let stood = stands_for.of.iter().find(|stood| stood.object == object);
        let Some(stood) = stood else { return Ok(()) };
        let document = load(db, old)?;
        let mut and = HashSet::new();
        if !stood.heads.iter().all(|head| document.has_change(head)) {
            let known = Known::of(db, &self.roster, redactions)?;
            let mut edits = Edits::read(db, self, &object)?.all;
            edits.retain(|Edit { origin, .. }| {
                known.has(self, &(origin.device, origin.seq, origin.index), origin.band)
            });
            and.extend(edits.into_iter().flat_map(|edit| edit.changes));
        }
        let all = document.made_again(&stood.heads, &and, &value, &stands_for.paths)?;
        let theirs = load(db, &row)?;
        let is_new =
            |change: &Vec<u8>| Link::of(change).is_ok_and(|link| !theirs.has_change(&link.hash));
        let all: Vec<Vec<u8>> = all.into_iter().filter(is_new).collect();
        if all.is_empty() {
            return Ok(());
        }
        self.ensure_epoch(db)?;
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |change: &&Vec<u8>| {
                let is_first = bytes == 0;
                bytes += change.len();
                is_first || bytes <= CHANGE_BYTES_MAX
            };
            let (lot, more) = rest.split_at(rest.iter().take_while(fits).count());
            let mut touched = Touched::default();
            touched.part(db, &mut self.cache, new)?.make_again(new, lot)?;
            self.finish(db, touched, Some(ACTOR), None)?;
            rest = more;
        }
        self.sign(db)
    }

    /// Two devices have redacted one document without knowing of each other: out of what this one
    /// left goes what the other took out too. Where the other took out of a list, the list stays as
    /// it is: which of its elements that was is not known here, and others may be of this one only.
    fn take_out_others(&mut self, db: &Connection, own: &ObjectId, other: &ObjectId) -> Result<()> {
        let (own, other) = (follow(db, own)?, follow(db, other)?);
        let Some(row) = documents::find(db, &own)? else { return Ok(()) };
        if own == other || !copies::through(db, &own)?.is_empty() {
            return Ok(());
        }
        let (mine, theirs) = (self.left(db, &own)?, self.left(db, &other)?);
        let (Some(mine), Some(theirs)) = (mine, theirs) else { return Ok(()) };
        let mine = mine.stands_for.paths;
        let mut paths = theirs.stands_for.paths;
        paths.retain(|path| !mine.contains(path) && !leads_to_list(&theirs.value, path));
        if paths.is_empty() {
            return Ok(());
        }
        let document = load(db, &row)?;
        self.ensure_epoch(db)?;
        let redacted = self.redacted(db, &row, &document, &paths, REDACTED_PATHS_MAX);
        let done = redacted.and_then(|all| self.redact_now(db, &row, &document, &paths, all));
        match done {
            Ok((new, ..)) if document.trashed()?.is_some() => {
                self.put_in_trash(db, new)?;
                self.sign(db)
            }
            Ok(_) | Err(Error::Invalid(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// In whose log the one of these sections is that created a document.
fn creation_of(db: &Connection, row: &Row, late: &[Section]) -> Result<Option<LogId>> {
    for section in late {
        if section.about.is_some_and(|about| about.kind == kind::DOCUMENT_CREATE)
            && entries::hash(db, section.place.log, section.place.seq)? == Some(row.generation)
        {
            return Ok(Some(section.place.log));
        }
    }
    Ok(None)
}

/// What whoever redacted an object knew of it.
struct Known {
    /// What went for a snapshot could not be listed, and was known. Of those that were stated by
    /// then these are agreed on, and the others may stand for what was not there or not opened.
    pruned: Vec<(SnapshotAct, bool)>,
    listed: BTreeSet<(DeviceId, u64, u32)>,
}

impl Known {
    fn of(db: &Connection, roster: &Roster, redactions: &[Redacts]) -> Result<Self> {
        let (stated, exempt) = (statements(db, roster)?, Exempt::read(db, roster)?);
        let mut pruned = Vec::new();
        for Redacts { place, .. } in redactions {
            let log = logs::by_number(db, place.log)?;
            let named = named_up_to(db, log.log, place.seq)?;
            let mut by_id: BTreeMap<Hash, Vec<&Statement>> = BTreeMap::new();
            for statement in &stated {
                let is_own = statement.author == log.device;
                if statement.seq <= if is_own { place.seq } else { named.of(&statement.author) } {
                    by_id.entry(statement.act.id()).or_default().push(statement);
                }
            }
            for alike in by_id.into_values() {
                let Some(first) = alike.first() else { continue };
                let asked = asked_for(db, roster, &exempt, &first.act)?;
                let authors = alike.iter().map(|statement| statement.author).collect();
                let is_agreed = !asked.is_empty() && asked.is_subset(&authors);
                // Who states something has all of it.
                let is_it = |by: &Statement| is_agreed || by.author == log.device;
                pruned.extend(alike.into_iter().map(|by| (by.act.clone(), is_it(by))));
            }
        }
        let listed = redactions.iter().flat_map(|redacts| &redacts.act.listed);
        let listed = listed.map(|listed| (listed.device, listed.seq, listed.index)).collect();
        Ok(Self { pruned, listed })
    }

    /// Whether an edit was known there.
    fn has(&self, state: &WriterState, place: &(DeviceId, u64, u32), band: Band) -> bool {
        self.listed.contains(place) || self.was_pruned(state, place, band, |is_agreed| is_agreed)
    }

    /// Whether a creation may have been: what was known is not to be written anew.
    fn may_have(&self, state: &WriterState, place: &(DeviceId, u64, u32), band: Band) -> bool {
        self.listed.contains(place) || self.was_pruned(state, place, band, |_| true)
    }

    fn was_pruned(
        &self,
        state: &WriterState,
        place: &(DeviceId, u64, u32),
        band: Band,
        is_it: impl Fn(bool) -> bool,
    ) -> bool {
        let (device, seq, _) = place;
        self.pruned.iter().any(|(act, is_agreed)| {
            is_it(*is_agreed)
                && *seq <= act.size_of(device)
                && act.tree(band).is_some()
                && !state.is_later(act, *place, band)
        })
    }
}

const PAGE: u32 = 1024;
