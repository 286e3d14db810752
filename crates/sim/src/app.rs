//! What apps do: each reads what its device shows, and asks for units of work.
//!
//! Every document has a text, to which each edit adds a line that occurs nowhere else, and a map in
//! which each device counts its own edits: so what must have survived is known without knowing how
//! edits merge.

use larder_engine::{Base, Heads, Object, UnitOfWork};
use larder_log::Band;
use larder_types::limits::WRITE_QUEUE_MAX;
use larder_types::{IdempotencyKey, ObjectId};
use serde_json::{Value, json};

use crate::device::{Job, Slot};
use crate::model::{Fate, Operation, Unit, is_erasure};
use crate::world::{Event, World};

/// Ids that several devices create documents under.
const SHARED_IDS: u64 = 3;
const COLLECTION: &str = "notes";
/// The part of some documents that may be taken out.
pub(crate) const ASIDE: &str = "aside";
/// Whether several devices may create documents under this id.
pub(crate) fn is_shared_id(object: &ObjectId) -> bool {
    let [first, rest @ ..] = object.as_bytes();
    u64::from(*first) <= SHARED_IDS && rest.iter().all(|byte| byte == first)
}

/// A word of every document.
pub(crate) const COMMON: &str = "household";

/// What a device shows of a document.
enum Shown {
    /// Its value, which version that is, and whether it is in the trash.
    Document(Object, Heads, bool),
    Nothing,
}

impl World {
    /// The app on this device does something, and will again.
    pub(crate) fn act(&mut self, slot: Slot) {
        let think_us = self.plan.think_us;
        let again_us = think_us / 2 + self.dice.below(think_us);
        self.later(again_us, Event::App { slot });
        if self.devices[slot].likes.audits {
            return;
        }
        if self.dice.chance(10) {
            self.say(slot);
        }
        for _ in 0..=self.dice.below(self.plan.burst) {
            if self.is_faulty {
                self.tempt();
            }
            self.act_on_blobs(slot);
            self.ask_for_work(slot);
        }
    }

    fn ask_for_work(&mut self, slot: Slot) {
        let device = &self.devices[slot];
        if !device.is_up() || device.jobs.len() >= WRITE_QUEUE_MAX {
            return;
        }
        self.write_something_black(slot);
        if self.dice.chance(8) {
            self.repeat(slot);
        } else {
            self.work(slot);
        }
    }

    /// Asks for a unit again that had an idempotency key.
    fn repeat(&mut self, slot: Slot) {
        let Some(id) = self.devices[slot].id else { return };
        let is_due = |unit: &Unit| {
            unit.author == id && unit.key.is_some() && !matches!(unit.fate, Fate::Waiting)
        };
        let units = self.model.units.iter().enumerate().filter(|(_, unit)| is_due(unit));
        let units: Vec<usize> = units.map(|(index, _)| index).collect();
        if let Some(unit) = self.pick(&units) {
            self.report.count("app: units repeated");
            self.enqueue(slot, Job::Unit(unit));
        }
    }

    pub(crate) fn work(&mut self, slot: Slot) {
        let Some(author) = self.devices[slot].id else { return };
        let mut work = UnitOfWork::new();
        let mut operations: Vec<Operation> = Vec::new();
        for _ in 0..[1, 1, 1, 2, 3][usize::try_from(self.dice.below(5)).unwrap_or(0)] {
            let Some(operation) = self.operation(slot, &mut work, &operations) else { continue };
            let is_alone = matches!(
                operation,
                Operation::Create { is_shared: true, .. }
                    | Operation::Erase { .. }
                    | Operation::Redact { .. }
            );
            operations.push(operation);
            if is_alone {
                break;
            }
        }
        if operations.is_empty() || !self.devices[slot].is_up() {
            return;
        }
        let has_key = !is_erasure(&operations) && self.dice.chance(40);
        let key = has_key.then(|| IdempotencyKey::random(&mut self.dice));
        if let Some(key) = key {
            work.idempotency_key(key);
        }
        self.report.count("app: units");
        let unit =
            Unit { slot, author, work, operations, key, fate: Fate::Waiting, is_twice: false };
        self.note(|| {
            let shown = unit.operations.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("{slot} wants unit {}: {}", self.model.units.len(), shown.join(", "))
        });
        let job = if is_erasure(&unit.operations) { Job::Erase } else { Job::Unit };
        let unit = self.model.add(unit);
        self.enqueue(slot, job(unit));
    }

    /// Adds one operation to a unit, if there is anything to do on this device.
    fn operation(
        &mut self,
        slot: Slot,
        work: &mut UnitOfWork,
        before: &[Operation],
    ) -> Option<Operation> {
        let choice = self.dice.below(100);
        if choice < 30 {
            let object = ObjectId::random(&mut self.dice);
            return Some(self.create(slot, work, object, false));
        }
        let known: Vec<ObjectId> = self.model.documents.keys().copied().collect();
        let object = if choice < 36 {
            ObjectId::new([u8::try_from(1 + self.dice.below(SHARED_IDS)).unwrap_or(1); 16])
        } else {
            self.pick(&known)?
        };
        if before.iter().any(|operation| operation.object() == object) {
            return None;
        }
        let shown = self.read(slot, object)?;
        let is_trashing = self.dice.chance(self.plan.trashed_percent);
        let Shown::Document(value, base, is_trashed) = shown else {
            // Alone, so that its entry tells whether another creation was there first.
            let may_create =
                choice < 36 && before.is_empty() && !self.devices[slot].buried.contains(&object);
            return may_create.then(|| self.create(slot, work, object, true));
        };
        if is_trashing && !self.plan.has_blobs {
            return Some(self.trash(work, object, !is_trashed));
        }
        let may_redact = value.contains_key(ASIDE) && before.is_empty();
        if may_redact && choice >= 80 && self.dice.chance(self.plan.redacted_percent) {
            return Some(Operation::Redact { object });
        }
        if choice >= 94 && before.is_empty() && self.dice.chance(self.plan.erased_percent) {
            return Some(Operation::Erase { object });
        }
        if choice >= 94 {
            work.delete(object);
            self.report.count("app: deletions");
            return Some(Operation::Delete { object });
        }
        let token = self.model.token();
        let edited = self.edited(slot, &value, &token);
        self.keep_band(work, object);
        let (base, operation) = match choice {
            86..88 => (Base::Latest, Operation::Overwrite { object }),
            88..94 => {
                let edit = Operation::Edit { object, token, before: value, value: edited.clone() };
                (Base::Exactly(base), edit)
            }
            _ => {
                let edit = Operation::Edit { object, token, before: value, value: edited.clone() };
                (Base::Merge(base), edit)
            }
        };
        work.put_at(COLLECTION, object, &edited, base).expect("an object");
        Some(operation)
    }

    fn create(
        &mut self,
        slot: Slot,
        work: &mut UnitOfWork,
        object: ObjectId,
        is_shared: bool,
    ) -> Operation {
        let token = self.model.token();
        self.choose_band(slot, work, object, is_shared);
        let value = json!({
            "title": format!("{COMMON} {token}"),
            "text": format!("The first line.\n{token}\nThe last line.\n"),
            "edits": { slot.to_string(): 0 },
        });
        let Value::Object(mut value) = value else { unreachable!("an object") };
        value.extend(self.photo(slot));
        let aside = (!is_shared && self.dice.chance(self.plan.redacted_percent)).then(|| {
            let token = self.model.token();
            value.insert(ASIDE.into(), json!(token));
            token
        });
        work.put(COLLECTION, object, &value).expect("an object");
        Operation::Create { object, token, value, is_shared, aside }
    }

    fn trash(&mut self, work: &mut UnitOfWork, object: ObjectId, is_in: bool) -> Operation {
        if is_in {
            work.trash(object);
            self.report.count("app: documents put into the trash");
        } else {
            work.undo_trash(object);
            self.report.count("app: documents taken out of the trash");
        }
        Operation::Trash { object, is_in }
    }

    /// Of which band a document is to be. Those of which each device may make one are for all.
    fn choose_band(
        &mut self,
        slot: Slot,
        work: &mut UnitOfWork,
        object: ObjectId,
        is_shared: bool,
    ) {
        let band = if self.plan.has_bands && !is_shared {
            let up_to = self.clearance(slot);
            Band::SHARED[self.below(3)].min(up_to)
        } else {
            Band::Green
        };
        self.report.count(match band {
            Band::Green => "app: documents for all",
            _ => "app: documents for some",
        });
        self.model.documents.entry(object).or_default().band = Some(band);
        self.keep_band(work, object);
    }

    fn keep_band(&self, work: &mut UnitOfWork, object: ObjectId) {
        let known = self.model.documents.get(&object).and_then(|known| known.band);
        if let Some(band) = known.filter(|_| self.plan.has_bands) {
            work.band(band);
        }
    }

    /// The value with one line more, and one more edit counted.
    fn edited(&mut self, slot: Slot, value: &Object, token: &str) -> Object {
        let mut value = value.clone();
        if let Some(Value::String(text)) = value.get_mut("text") {
            let mut lines: Vec<&str> = text.lines().collect();
            let at = usize::try_from(self.dice.below(lines.len() as u64 + 1)).unwrap_or(0);
            lines.insert(at, token);
            *text = lines.join("\n") + "\n";
        }
        if let Some(Value::Object(edits)) = value.get_mut("edits") {
            let name = slot.to_string();
            let count = edits.get(&name).and_then(Value::as_u64).unwrap_or(0);
            edits.insert(name, json!(count + 1));
        }
        if self.plan.has_blobs && self.dice.chance(20) {
            value.remove("photo");
            value.extend(self.photo(slot));
        }
        value
    }

    /// What the device shows of a document; none if its storage failed.
    fn read(&mut self, slot: Slot, object: ObjectId) -> Option<Shown> {
        let space = self.devices[slot].space()?.clone();
        let read = space.document(&object).and_then(|document| {
            let is_deleted = document.is_none() && space.is_deleted(&object)?;
            Ok((document, is_deleted))
        });
        if self.notice_power(slot) {
            return None;
        }
        match read {
            Ok((document, is_deleted)) => {
                self.check_deleted(slot, object, document.is_some(), is_deleted);
                Some(document.map_or(Shown::Nothing, |document| {
                    Shown::Document(document.value, document.heads, document.trashed.is_some())
                }))
            }
            Err(error) => {
                self.storage_failed(slot, &error.to_string());
                None
            }
        }
    }
}
