//! From units of work to durable entries: seal, append, sign, and write it all in one transaction.

use std::collections::BTreeMap;

use larder_document::{Actor, DocumentError, body};
use larder_log::act::Act;
use larder_log::{Band, Class, Metadata, Opened, Receipt, kind};
use larder_store::space::logs::LogId;
use larder_store::space::sections::{self, Section};
use larder_store::space::units::{self, Unit};
use larder_store::space::{blobs, copies};
use larder_types::limits::{
    ACT_BYTES_MAX, ENTRY_OPENED_BYTES_MAX, NAME_BYTES_MAX, REMOVALS_UNASKED_MAX, SECTIONS_MAX,
    TRANSACTION_BYTES_TARGET, TRANSACTION_UNITS_MAX,
};
use larder_types::{
    Clock, CollectionName, CorrelationId, Entropy, EntryHash, Hash, IdempotencyKey, ObjectId,
};
use rusqlite::{Connection, Transaction};

use crate::contract;
use crate::rows::Origin;
use crate::state::State as WriterState;
use crate::tally::VoidCause;
use crate::touched::{Filed, Part, State, Touched};
use crate::unit::Operation;
use crate::unreadable::Thing;
use crate::writer::SpaceWriter;
use crate::{Base, Error, Result, UnitOfWork};

/// One section before it is sealed.
pub(crate) struct Draft {
    pub(crate) kind: u16,
    pub(crate) class: Class,
    pub(crate) collection: Option<CollectionName>,
    pub(crate) object: Option<ObjectId>,
    pub(crate) generation: Option<EntryHash>,
    pub(crate) body: Vec<u8>,
    pub(crate) band: Band,
    /// What kinds of personal data are in it, as [`Metadata::personal`] has it.
    pub(crate) personal: Option<u8>,
}

/// An entry at the end of the own log, in a transaction that is still open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    pub(crate) seq: u64,
    pub(crate) hash: EntryHash,
    pub(crate) sealed_bytes: usize,
}

/// A unit's outcome within the open transaction.
enum Done {
    Appended(Appended),
    /// It was committed before, as this entry.
    Before(Before),
}

/// What became of the units of one transaction so far.
#[derive(Default)]
struct Group {
    results: Vec<Result<Done>>,
    sealed_bytes: usize,
}

impl Group {
    fn has_room(&self) -> bool {
        self.results.len() < TRANSACTION_UNITS_MAX && self.sealed_bytes < TRANSACTION_BYTES_TARGET
    }

    fn add(&mut self, result: Result<Done>) {
        if let Ok(Done::Appended(appended)) = &result {
            self.sealed_bytes += appended.sealed_bytes;
        }
        self.results.push(result);
    }
}

impl SpaceWriter {
    /// Commits units in one transaction: as many of `units` as share it well (one at least), each
    /// all or nothing and with a receipt of its own. The results are those of the units taken, in
    /// their order.
    ///
    /// Returns once everything is durable. A unit that fails leaves nothing, and the others stand;
    /// if the transaction itself fails, none of them does.
    pub fn commit(&mut self, units: &mut dyn Iterator<Item = UnitOfWork>) -> Vec<Result<Receipt>> {
        let mut taken: Vec<UnitOfWork> = Vec::new();
        let outcome = loop {
            let done = self.transact(|tx, state| {
                state.noticed.clear();
                state.ensure_epoch(tx)?;
                let at_once =
                    if taken.is_empty() { state.group(tx, units, &mut taken)? } else { None };
                let results = match at_once {
                    Some(results) => results,
                    None => state.group_in_parts(tx, units, &mut taken)?,
                };
                state.sign(tx)?;
                let receipt = |done| match done {
                    Done::Appended(Appended { seq, .. }) | Done::Before((None, seq)) => {
                        state.receipt(tx, seq)
                    }
                    Done::Before((Some(log), seq)) => state.receipt_in(tx, log, seq),
                };
                Ok(results.into_iter().map(|done| done.and_then(receipt)).collect::<Vec<_>>())
            });
            match done {
                Err(error) if self.passes_over(&error) => {}
                done => break done,
            }
        };
        let outcome = outcome.unwrap_or_else(|e| {
            let others = taken.len().max(1) - 1;
            let also: Vec<_> =
                (0..others).map(|_| Err(Error::Transaction(e.to_string()))).collect();
            std::iter::once(Err(e)).chain(also).collect()
        });
        let is_refused = |done: &&Result<Receipt>| {
            matches!(done, Err(Error::MayNotWrite(_) | Error::Auditor | Error::ShutOut))
        };
        let refused = outcome.iter().filter(is_refused).count() as u64;
        if refused > 0 {
            let (me, cause) = (self.shared.keys.device(), VoidCause::Role);
            self.shared.note_refused(BTreeMap::from([((me, cause), refused)]));
        }
        outcome
    }
}

impl WriterState {
    /// Does the units of a transaction that has changed nothing yet, without a part of its own for
    /// each: hardly any fails, and of those that do most have changed nothing by then. `None` if
    /// one had: then nothing is done, and what was `taken` is to be done in parts.
    fn group(
        &mut self,
        tx: &mut Transaction<'_>,
        units: &mut dyn Iterator<Item = UnitOfWork>,
        taken: &mut Vec<UnitOfWork>,
    ) -> Result<Option<Vec<Result<Done>>>> {
        if self.has_changed(tx) {
            return Ok(None);
        }
        let begun = self.mark();
        let mut group = Group::default();
        while group.has_room() {
            let Some(unit) = units.next() else { break };
            let (before, changes) = (self.mark(), tx.total_changes());
            let result = self.unit(tx, &unit);
            taken.push(unit);
            if result.is_err() {
                if tx.is_autocommit() {
                    // The error undid the whole transaction, not only this unit.
                    return result.map(|_| None);
                }
                if tx.total_changes() != changes {
                    larder_store::begin_anew(tx)?;
                    self.return_to(begun);
                    return Ok(None);
                }
                self.return_to(before);
            }
            group.add(result);
        }
        Ok(Some(group.results))
    }

    /// The same, each in a part of the transaction: those that were taken already, and as many more
    /// as there is room for.
    fn group_in_parts(
        &mut self,
        tx: &mut Transaction<'_>,
        units: &mut dyn Iterator<Item = UnitOfWork>,
        taken: &mut Vec<UnitOfWork>,
    ) -> Result<Vec<Result<Done>>> {
        let mut group = Group::default();
        self.noticed.clear();
        loop {
            let at = group.results.len();
            if at == taken.len() {
                let next = if group.has_room() { units.next() } else { None };
                taken.extend(next);
            }
            let Some(unit) = taken.get(at) else { break };
            let before = self.mark();
            let result = larder_store::savepoint(tx, |db| self.unit(db, unit));
            if result.is_err() {
                if tx.is_autocommit() {
                    return result.map(|_| Vec::new());
                }
                self.return_to(before);
            }
            group.add(result);
        }
        Ok(group.results)
    }

    fn unit(&mut self, db: &Connection, unit: &UnitOfWork) -> Result<Done> {
        check(unit)?;
        unit.sight.check(&self.shared)?;
        let key = match unit.idempotency_key {
            None => None,
            Some(key) => match done_before(db, unit, &key)? {
                Ok(at) if self.is_seen_whole(db, unit, at)? => return Ok(Done::Before(at)),
                Ok(_) => return Err(Error::IdempotencyKeyReused),
                Err(digest) => Some((key, digest)),
            },
        };
        self.check_may_write()?;
        let mut touched = Touched::seeing(unit.sight);
        touched.contracts.clone_from(&unit.contracts);
        for operation in &unit.operations {
            self.damage.unreadable.enter(Thing::Document(operation.object()))?;
            self.operation(db, &mut touched, operation)?;
        }
        self.damage.unreadable.leave();
        let noticed = std::mem::take(&mut touched.noticed);
        let appended = self.finish(db, touched, unit.actor.as_deref(), unit.correlation)?;
        if let Some((key, digest)) = key {
            let unit = Unit { digest, log: None, seq: appended.seq };
            units::add(db, &key, &unit)?;
        }
        self.noticed.extend(noticed);
        Ok(Done::Appended(appended))
    }

    /// Whether who commits a unit sees all that was written with an own entry.
    fn is_seen_whole(
        &self,
        db: &Connection,
        unit: &UnitOfWork,
        (log, seq): Before,
    ) -> Result<bool> {
        let all = sections::of_entry(db, log.unwrap_or(self.log), seq)?;
        let band = |section: &Section| self.keyring.band(&section.commitment);
        Ok(unit.sight.is_whole()
            || all.iter().all(|section| band(section).is_some_and(|it| unit.sight.sees(it))))
    }

    /// Appends the entry that these parts come to, and writes them.
    pub(crate) fn finish(
        &mut self,
        db: &Connection,
        touched: Touched,
        actor: Option<&str>,
        correlation: Option<CorrelationId>,
    ) -> Result<Appended> {
        let parts = touched.into_parts();
        let drafts: Vec<Option<Draft>> =
            parts.iter().map(|(object, part)| draft(*object, part)).collect::<Result<_>>()?;
        let sections: Vec<&Draft> = drafts.iter().flatten().collect();
        let bytes: usize = sections.iter().map(|draft| draft.body.len()).sum();
        if bytes > ENTRY_OPENED_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the unit's content is {bytes} bytes long, and may have {ENTRY_OPENED_BYTES_MAX}: \
                 split it"
            )));
        }
        let appended = self.append(db, &sections, actor, correlation)?;
        self.write(db, &appended, parts, &drafts)?;
        Ok(appended)
    }

    fn operation(
        &mut self,
        db: &Connection,
        touched: &mut Touched,
        operation: &Operation,
    ) -> Result<()> {
        let (device, now) = (self.device(), self.shared.env.now());
        match operation {
            Operation::Put { collection, object, value, base, band } => {
                check_base(db, object, base)?;
                let most = touched.sight.up_to();
                let cleared = self.reads_up_to()?;
                let clearance = cleared.min(most);
                let usual = self.policy.band.min(cleared).min(most);
                let contracts = &self.shared.profile.contracts;
                let of_space = touched.contracts.as_deref().unwrap_or(&self.contracts);
                let found = contracts.apply(of_space, (*object, collection), value);
                let found = found.map(|found| self.shared.raised(found));
                let part = touched.part(db, &mut self.cache, *object)?;
                // What is there already is not written.
                let may_be = !matches!(found, Ok(None)) && !matches!(base, Base::Merge(_));
                let is_new = !(may_be && part.is(value)?);
                let noticed = if is_new { found? } else { None };
                let value = noticed.as_ref().and_then(|(_, new)| new.as_ref()).unwrap_or(value);
                let actor = |root: &ObjectId, of: &EntryHash| Actor::of(&device, root, of);
                let asked = self.shared.written(*band)?;
                let found = noticed.as_ref().map(|(noticed, _)| noticed);
                let filed = Filed { collection, asked, usual, clearance, noticed: found };
                part.put(*object, &filed, value, base, actor, now)?;
                if let Some((noticed, _)) = noticed {
                    part.personal |= contract::bits(&noticed.kinds);
                    touched.noticed.push(noticed);
                }
                Ok(())
            }
            Operation::Restore { collection, object, value, from } => {
                let band = self.band_of_restored(db, from)?;
                if !touched.sight.sees(band) {
                    return Err(Self::nothing_to_restore(from));
                }
                let part = touched.part(db, &mut self.cache, *object)?;
                part.restore(*object, (collection, band), value, *from)
            }
            Operation::Trash { object, is_in } => {
                let actor = |root: &ObjectId, of: &EntryHash| Actor::of(&device, root, of);
                touched.part(db, &mut self.cache, *object)?.trash(*object, *is_in, actor, now)
            }
            Operation::Delete { object } => {
                touched.part(db, &mut self.cache, *object)?.delete(*object)
            }
            Operation::Vector { object, vector } => {
                let part = touched.part(db, &mut self.cache, *object)?;
                match part.state {
                    State::New { .. } | State::Stored(_) => {
                        part.vector = Some(vector.clone());
                        Ok(())
                    }
                    State::Absent | State::Deleted | State::Removed { .. } => {
                        Err(Error::NotFound(format!("there is no document {object} for a vector")))
                    }
                }
            }
        }
    }

    fn write(
        &mut self,
        db: &Connection,
        appended: &Appended,
        parts: Vec<(ObjectId, Part)>,
        drafts: &[Option<Draft>],
    ) -> Result<()> {
        let mut index = 0;
        for ((object, part), draft) in parts.into_iter().zip(drafts) {
            let origin = Origin {
                log: self.log,
                device: self.device(),
                seq: appended.seq,
                index,
                entry: appended.hash,
                clock: self.clock,
                band: part.band().unwrap_or(Band::Green),
            };
            self.damage.unreadable.enter(Thing::Document(object))?;
            let names_blobs = part.names_blobs();
            self.write_part(db, &origin, object, part)?;
            if names_blobs && let Some((id, of)) = blobs::of_other_band(db, &object)? {
                let band = origin.band;
                return Err(Error::Invalid(format!(
                    "document {object} is {band} and would name blob {id}, which is {of}: add the \
                     file as {band} too"
                )));
            }
            index += u32::from(draft.is_some());
        }
        self.damage.unreadable.leave();
        Ok(())
    }

    /// Appends and signs an entry without sections, which names what was not named yet.
    pub(crate) fn append_nothing(&mut self, db: &Connection) -> Result<()> {
        self.append(db, &[], None, None)?;
        self.sign(db)
    }

    /// Seals `drafts` into an entry and appends it to the own log. No checkpoint covers it yet.
    pub(crate) fn append(
        &mut self,
        db: &Connection,
        drafts: &[&Draft],
        actor: Option<&str>,
        correlation: Option<CorrelationId>,
    ) -> Result<Appended> {
        self.check_recovered()?;
        let mut builder = self.begin_entry();
        let mut entropy = self.shared.env.entropy();
        for draft in drafts {
            let opened = draft.opened(&mut *entropy, actor, correlation, self.clock);
            let of = (draft.class, draft.band);
            self.keyring.seal(&mut *entropy, &mut builder, of, &opened)?;
        }
        let entry = builder.finish().map_err(|e| Error::Invalid(format!("{e}: split the unit")))?;
        self.insert_own(db, entry, drafts)
    }
}

impl Draft {
    /// The section that holds an act.
    ///
    /// # Errors
    /// [`Error::Invalid`], if nobody would read an act of that size.
    pub(crate) fn of_act(act: &Act) -> Result<Self> {
        let body = act.to_body();
        if body.len() > ACT_BYTES_MAX {
            let len = body.len();
            let message = match act {
                Act::Epoch(act) => format!(
                    "the secrets would be sealed to {} devices, which takes {len} bytes where the \
                     other devices read {ACT_BYTES_MAX}: shut out the devices that are not used \
                     any more (larder device list names them), all of them at once",
                    act.envelopes.len()
                ),
                _ => format!(
                    "this takes {len} bytes at once where the other devices read {ACT_BYTES_MAX}: \
                     do it in several parts"
                ),
            };
            return Err(Error::Invalid(message));
        }
        Ok(Self {
            kind: act.kind(),
            class: Class::Control,
            collection: None,
            object: None,
            generation: None,
            body,
            band: Band::Green,
            personal: None,
        })
    }

    /// The section as it is sealed.
    pub(crate) fn opened(
        &self,
        entropy: &mut dyn Entropy,
        actor: Option<&str>,
        correlation: Option<CorrelationId>,
        clock: Clock,
    ) -> Opened {
        let mut meta_salt = [0; 16];
        entropy.fill(&mut meta_salt);
        let metadata = Metadata {
            kind: self.kind,
            collection: self.collection.clone(),
            object: self.object,
            generation: self.generation,
            actor: actor.map(str::to_owned),
            correlation,
            clock,
            personal: self.personal,
        };
        Opened { meta_salt, metadata, body: self.body.clone() }
    }
}

/// An entry of this log, or of the own one if none is named.
type Before = (Option<LogId>, u64);

/// The entry in which a unit with this key was committed, or the unit's digest if it was not.
fn done_before(
    db: &Connection,
    unit: &UnitOfWork,
    key: &IdempotencyKey,
) -> Result<std::result::Result<Before, Hash>> {
    let digest = unit.digest()?;
    match units::find(db, key)? {
        None => Ok(Err(digest)),
        // Of one whose content was erased no more than the key is left.
        Some(known) if known.digest == digest || known.digest == Hash::new([0; 32]) => {
            Ok(Ok((known.log, known.seq)))
        }
        Some(_) => Err(Error::IdempotencyKeyReused),
    }
}

fn check(unit: &UnitOfWork) -> Result<()> {
    if unit.operations.is_empty() {
        return Err(Error::Invalid("the unit of work is empty: add an operation first".into()));
    }
    if unit.operations.len() > SECTIONS_MAX {
        return Err(Error::Invalid(format!(
            "the unit has {} operations, and one unit may have {SECTIONS_MAX}: split it",
            unit.operations.len()
        )));
    }
    let removed = unit.operations.iter().filter(|operation| operation.removes()).count();
    if removed > REMOVALS_UNASKED_MAX && !unit.may_remove_many {
        return Err(Error::RemovesMany { removed });
    }
    match &unit.actor {
        Some(actor) if actor.len() > NAME_BYTES_MAX => Err(Error::Invalid(format!(
            "the actor's name is {} bytes long, and may have {NAME_BYTES_MAX}",
            actor.len()
        ))),
        _ => Ok(()),
    }
}

/// The section that logs what a unit did to one document; none if it came to nothing.
fn draft(object: ObjectId, part: &Part) -> Result<Option<Draft>> {
    let (kind, object, collection, generation, body) = match &part.state {
        State::New { collection, value, from, redacted, .. } => {
            let (from, redacted) = (*from, redacted.as_deref().cloned());
            let body = body::Create { from, redacted, ..body::Create::new(value)? }.encode();
            (kind::DOCUMENT_CREATE, object, collection, None, body)
        }
        State::Stored(stored) if !stored.changes.is_empty() => {
            let body = body::Change::new(stored.changes.clone()).encode();
            let row = &stored.row;
            (kind::DOCUMENT_CHANGE, stored.root, &row.collection, Some(row.generation), body)
        }
        State::Removed { row } => {
            let body = body::Delete::new().encode();
            (kind::DOCUMENT_DELETE, object, &row.collection, Some(row.generation), body)
        }
        State::Stored(_) | State::Absent | State::Deleted => return Ok(None),
    };
    let (class, collection) = (Class::Data, Some(collection.clone()));
    let band = part.band().unwrap_or(Band::Green);
    let (object, personal) = (Some(object), Some(part.personal).filter(|bits| *bits > 0));
    Ok(Some(Draft { kind, class, collection, object, generation, body, band, personal }))
}

/// Of an id that was created more than once `flat` names no version: it may be that of the document
/// which had the id when the app looked, and the edit is none of the one that has it now.
fn check_base(db: &Connection, object: &ObjectId, base: &Base) -> Result<()> {
    match base {
        Base::Merge(heads) | Base::Exactly(heads)
            if heads.is_flat() && copies::is_passed(db, object)? =>
        {
            Err(DocumentError::UnknownHeads { heads: heads.to_string() }.into())
        }
        _ => Ok(()),
    }
}
