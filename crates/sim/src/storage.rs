//! Each device's writer: what waits for it is done in order, and units that wait together share a
//! transaction, as the façade's writer thread does it.

use larder_engine::{Error, Pruning, Receipt, Rekey, Result, StoreErrorKind, Task, entry_hash};
use larder_log::snapshot::{Content, Item, Part};
use larder_log::{Dep, Header};
use larder_protocol::Reply;
use larder_types::DeviceId;
use larder_types::limits::{
    ENTRY_OPENED_BYTES_MAX, GATHERED_BYTES_MAX, INDEX_DOCUMENTS_MAX, INDEX_IDLE_MS, SHOW_IDLE_MS,
};

use crate::device::{Job, Slot};
use crate::joining::Admission;
use crate::model::{Fate, Operation};
use crate::world::{Event, World};

impl World {
    /// Something waits for the device's writer.
    pub(crate) fn enqueue(&mut self, slot: Slot, job: Job) {
        let after_us = self.dice.below(self.plan.storage_us);
        let device = &mut self.devices[slot];
        device.jobs.push_back(job);
        if !std::mem::replace(&mut device.is_writing, true) {
            let life = device.life;
            self.later(after_us, Event::Write { slot, life });
        }
    }

    /// The writer's turn: one job, and the units behind it that can share its transaction.
    pub(crate) fn write(&mut self, slot: Slot, life: u64) {
        let device = &mut self.devices[slot];
        if device.life != life || device.writer().is_none() {
            return;
        }
        let Some(job) = device.jobs.pop_front() else {
            device.is_writing = false;
            let is_down = self.finish_erasing(slot) || self.finish_forgetting(slot);
            if !is_down && !self.prune_itself(slot) {
                self.index_later(slot);
            }
            return;
        };
        match job {
            Job::Unit(unit) => self.commit(slot, unit),
            Job::Erase(unit) => self.erase(slot, unit),
            Job::Black => self.write_black(slot),
            Job::Session(end, task) => {
                let (deps, pieces) = (deps(&task), pieces(&task));
                self.report.add("session: later pieces of documents", pieces);
                let writer = self.devices[slot].writer().expect("it is open");
                let answered = writer.answer(task);
                if self.notice_power(slot) {
                    return;
                }
                self.check_gathered(slot);
                self.check_acks(slot, &answered.reply);
                self.check_acks_taken(slot, &answered.reply);
                if self.notice_power(slot) {
                    return;
                }
                if let Reply::Applied { device, size, .. } = &answered.reply {
                    // Of what was here already the answer says nothing: it may be forged.
                    let own = self.devices[slot].id == Some(*device);
                    let before = self.devices[slot].held.insert(*device, *size).unwrap_or(0);
                    let before = if own { *size } else { before };
                    self.check_deps(slot, before..*size, &deps);
                }
                if answered.entries > 0 {
                    self.committed(slot);
                }
                self.reply_later(end, answered.reply);
            }
            Job::Admit(admission) => self.admit(slot, *admission),
            Job::Prune(proposes) => self.prune(slot, proposes),
            Job::PruneStep => self.prune_step(slot),
            Job::Rekey => self.rekey(slot),
            Job::Revoke(id) => self.revoke(slot, id),
            Job::SetAside(id) => self.set_aside(slot, id),
            Job::Clear(id, role, band) => self.clear(slot, id, role, band),
            Job::Suspend => self.suspend(slot),
            Job::StageBlob(part, adding) => self.stage_blob(slot, &part, adding),
            Job::CommitBlob(adding) => self.commit_blob(slot, &adding),
            Job::StoreChunk(end, chunk) => self.store_chunk(slot, end, *chunk),
            Job::WantBlob(id) => self.want_blob(slot, &id),
            Job::BlobPolicy => self.set_blob_policy(slot),
            Job::CollectBlobs(by_hand) => self.collect_blobs(slot, by_hand),
        }
        if self.devices[slot].life == life {
            let after_us = self.dice.below(self.plan.storage_us);
            self.later(after_us, Event::Write { slot, life });
        }
    }

    /// What is durable and not readable takes no more memory than it may.
    fn check_gathered(&mut self, slot: Slot) {
        let held = self.devices[slot].writer().expect("it is open").bytes_gathered();
        let most = GATHERED_BYTES_MAX + ENTRY_OPENED_BYTES_MAX;
        assert!(held <= most, "{slot} has gathered {held} bytes, and may keep {most}");
        self.report.count("check: memory of what is gathered");
    }

    /// There is nothing to write: what is only durable is made readable, and the indexes are
    /// brought up to date, if that stays so.
    pub(crate) fn index_later(&mut self, slot: Slot) {
        let device = &mut self.devices[slot];
        let Some(writer) = device.writer() else { return };
        let idle_ms = if writer.is_shown() { INDEX_IDLE_MS } else { SHOW_IDLE_MS };
        let waits = writer.unindexed() + writer.unembedded() > 0 || !writer.is_shown();
        if waits && !std::mem::replace(&mut device.is_indexing, true) {
            let life = device.life;
            self.later(idle_ms * 1000, Event::Index { slot, life });
        }
    }

    pub(crate) fn index(&mut self, slot: Slot, life: u64) {
        let device = &mut self.devices[slot];
        if device.life != life || device.writer().is_none() {
            return;
        }
        device.is_indexing = false;
        if device.is_writing {
            return;
        }
        let shown = device.writer().expect("it is open").show();
        if self.notice_power(slot) {
            return;
        }
        match shown {
            Ok(false) => {}
            Ok(true) => {
                self.report.add("app: stored batches made readable", 1);
                return self.index_later(slot);
            }
            Err(error) => return self.storage_failed(slot, &error.to_string()),
        }
        let most = 1 + self.dice.below(INDEX_DOCUMENTS_MAX as u64);
        let most = usize::try_from(most).unwrap_or(1);
        let indexed = self.devices[slot].index(most);
        if self.notice_power(slot) {
            return;
        }
        match indexed {
            Ok(documents) => {
                self.report.add("app: documents indexed", documents as u64);
                self.index_later(slot);
            }
            Err(error) => self.storage_failed(slot, &error.to_string()),
        }
    }

    fn commit(&mut self, slot: Slot, first: usize) {
        let device = &mut self.devices[slot];
        let mut taken = vec![first];
        let mut queue = std::mem::take(&mut device.jobs);
        let mut next = Some(first);
        let units = &self.model.units;
        let mut group = std::iter::from_fn(|| {
            let waits = matches!(queue.front(), Some(Job::Unit(_)));
            let unit = match next.take() {
                None if waits => match queue.pop_front() {
                    Some(Job::Unit(unit)) => {
                        taken.push(unit);
                        unit
                    }
                    _ => return None,
                },
                first => first?,
            };
            Some(units[unit].work.clone())
        });
        let results = device.writer().expect("it is open").commit(&mut group);
        device.jobs = queue;
        let power_failed = self.devices[slot].fused.is_blown();
        if results.iter().any(Result::is_ok) {
            self.report.count("app: transactions");
        }
        let anything = results.iter().any(Result::is_ok);
        for (unit, result) in taken.into_iter().zip(results) {
            self.told(slot, unit, result, power_failed);
        }
        if self.notice_power(slot) {
            return;
        }
        if anything {
            self.committed(slot);
        }
    }

    fn erase(&mut self, slot: Slot, unit: usize) {
        if let [Operation::Redact { object }] = self.model.units[unit].operations[..] {
            return self.redact(slot, unit, object);
        }
        let [Operation::Erase { object }] = self.model.units[unit].operations[..] else { return };
        let result = self.devices[slot].writer().expect("it is open").erase(object);
        let (is_ok, power_failed) = (result.is_ok(), self.devices[slot].fused.is_blown());
        self.report.count("app: documents erased");
        self.told(slot, unit, result, power_failed);
        if !self.notice_power(slot) && is_ok {
            self.committed(slot);
        }
    }

    /// While nothing else waits a device sees to its disk, if that may still have something of what
    /// was erased. Whether its power failed, or its storage.
    pub(crate) fn finish_erasing(&mut self, slot: Slot) -> bool {
        let Some(writer) = self.devices[slot].writer().filter(|writer| writer.wants_erasing())
        else {
            return false;
        };
        let finished = writer.finish_erasures();
        if self.notice_power(slot) {
            return true;
        }
        match finished {
            Ok(true) => {
                self.report.count("app: erasures finished");
                self.committed(slot);
            }
            Ok(false) => {
                self.report.count("app: erasures put off");
                // One that a restart cut goes on by itself, and this waits for it.
                if self.devices[slot].writer().is_some_and(|writer| writer.wants_rekey()) {
                    self.enqueue(slot, Job::Rekey);
                }
            }
            Err(error) => {
                self.note(|| format!("{slot} does not finish an erasure: {error}"));
                let _ = self.fate(slot, &error, false);
                return true;
            }
        }
        false
    }

    /// The same for secrets that it let go of.
    fn finish_forgetting(&mut self, slot: Slot) -> bool {
        let Some(writer) = self.devices[slot].writer().filter(|writer| writer.leaves_secrets())
        else {
            return false;
        };
        let finished = writer.finish_forgetting();
        if self.notice_power(slot) {
            return true;
        }
        match finished {
            Ok(true) => self.report.count("app: disks seen to after secrets went"),
            Ok(false) => self.report.count("app: disks to be seen to later"),
            Err(error) => {
                self.note(|| format!("{slot} does not see to its disk: {error}"));
                let _ = self.fate(slot, &error, false);
                return true;
            }
        }
        false
    }

    /// The app hears what became of its unit.
    pub(crate) fn told(
        &mut self,
        slot: Slot,
        unit: usize,
        result: Result<Receipt>,
        power_failed: bool,
    ) {
        match result {
            Ok(receipt) => {
                receipt.verify().expect("a receipt that verifies");
                self.report.count("app: units committed");
                self.note(|| format!("{slot} commits unit {unit} as entry {}", receipt.index + 1));
                self.trace.hash(&receipt.header);
                let entry = entry_hash(&receipt.header);
                // Each of two copies takes what the other has taken for new.
                let is_copied = !self.devices[slot].is_honest();
                self.model.committed(unit, receipt, entry, is_copied);
            }
            Err(error) => {
                self.note(|| format!("{slot}: unit {unit} fails: {error}"));
                self.report.count("app: units failed");
                let was_committed = matches!(self.model.units[unit].fate, Fate::Committed(_));
                let has_given_way = matches!(
                    error,
                    Error::Document(larder_document::DocumentError::UnknownHeads { .. })
                ) && (self.is_of_shared(unit)
                    || self.devices[slot].was_copied
                    // What it was to be an edit of counts for nothing by now.
                    || !self.model.shut_out.is_empty());
                let fate = if has_given_way {
                    Fate::Refused
                } else {
                    self.fate(slot, &error, power_failed)
                };
                match fate {
                    // A repetition that failed says nothing of the first time.
                    _ if was_committed => {}
                    Fate::Refused if !matches!(self.model.units[unit].fate, Fate::Unknown) => {
                        self.model.units[unit].fate = Fate::Refused;
                    }
                    _ => self.model.lost_sight_of(unit),
                }
            }
        }
    }

    /// Whether another document may stand under an id of the unit's by now than its app has seen. A
    /// copy has not seen what the other was asked for.
    fn is_of_shared(&self, unit: usize) -> bool {
        let mut operations = self.model.units[unit].operations.iter();
        operations.any(|operation| {
            let id = operation.object();
            id.as_bytes().iter().all(|byte| byte == &id.as_bytes()[0])
        })
    }

    /// What an error says of a unit, if it is one that the device had reason to give.
    pub(crate) fn fate(&mut self, slot: Slot, error: &Error, power_failed: bool) -> Fate {
        match error {
            Error::Conflict { .. }
            | Error::Deleted(_)
            | Error::Trashed(_)
            | Error::NotFound(_)
            | Error::NotYetEnrolled => Fate::Refused,
            // It may not have known of its own enrolment when its app chose a band.
            Error::NotCleared { .. } if self.plan.has_bands => Fate::Refused,
            Error::ShutOut => {
                let id = self.devices[slot].id.expect("it has written");
                assert!(self.model.shut_out.contains(&id), "nobody has shut {slot} out");
                Fate::Refused
            }
            // One of several that were created under an id.
            Error::Invalid(message)
                if message.contains("erase that one") || message.contains("erase this one") =>
            {
                Fate::Refused
            }
            Error::RolledBack { .. } | Error::OtherHistory => {
                assert!(
                    !self.devices[slot].is_honest(),
                    "{slot} was neither copied nor restored: {error}"
                );
                Fate::Refused
            }
            _ if power_failed => Fate::Unknown,
            error => {
                self.storage_failed(slot, &error.to_string());
                let is_full = matches!(error, Error::Store(e) if e.kind() == StoreErrorKind::Full);
                if is_full { Fate::Refused } else { Fate::Unknown }
            }
        }
    }

    fn revoke(&mut self, slot: Slot, id: DeviceId) {
        let Some(heads) = self.frontier_now(slot) else { return };
        let keeps = heads.get(&id).map_or(0, |head| head.size);
        self.keep_keys_of(id);
        let writer = self.devices[slot].writer().expect("it is open");
        let revoked = writer.revoke(&[id]);
        // Of what failed nobody knows.
        if !matches!(revoked, Err(Error::NotFound(_) | Error::Invalid(_))) {
            self.model.shut_out.insert(id);
        }
        if self.notice_power(slot) {
            return;
        }
        match revoked {
            Ok(receipt) => {
                self.note(|| format!("{slot} shuts out {id}"));
                self.model.revoked_at.insert(id, receipt.index + 1);
                self.report.count("fault: devices shut out");
                self.model.keeps.insert(id, keeps);
                self.committed(slot);
            }
            Err(error) => {
                self.note(|| format!("{slot} does not shut out {id}: {error}"));
                let _ = self.fate(slot, &error, false);
            }
        }
    }

    fn set_aside(&mut self, slot: Slot, id: DeviceId) {
        let aside = self.devices[slot].writer().expect("it is open").quarantine(id);
        if self.notice_power(slot) {
            return;
        }
        match aside {
            Ok(_) => {
                self.note(|| format!("{slot} sets {id} aside"));
                self.report.count("app: devices set aside");
                self.committed(slot);
            }
            // It is set aside already, was shut out meanwhile, or this device has not the right.
            Err(Error::Invalid(_) | Error::NotFound(_)) => {}
            Err(error) => {
                self.note(|| format!("{slot} does not set {id} aside: {error}"));
                let _ = self.fate(slot, &error, false);
            }
        }
    }

    fn admit(&mut self, slot: Slot, admission: Admission) {
        let writer = self.devices[slot].writer().expect("it is open");
        let admitted = writer.admit(admission.admitted.enrolment.clone());
        if self.notice_power(slot) {
            return;
        }
        match admitted {
            Ok(_) => {
                self.committed(slot);
                self.admitted(slot, admission);
            }
            Err(error) => {
                self.note(|| format!("{slot} admits nobody: {error}"));
                let _ = self.fate(slot, &error, false);
            }
        }
    }

    /// The device says that it has nothing more to say of what is here, and begins to go as far as
    /// it can with pruning. What it was about is let go of.
    fn prune(&mut self, slot: Slot, proposes: bool) {
        let said = self.devices[slot].writer().expect("it is open").heartbeat();
        if self.notice_power(slot) {
            return;
        }
        match said {
            Ok(_) => {
                self.committed(slot);
                let pruning = Pruning::new(proposes);
                self.begin_pruning(slot, pruning);
            }
            Err(error) => self.does_not_prune(slot, &error),
        }
    }

    /// While nothing else waits a device may find that it is time to prune. Whether it goes about
    /// it.
    fn prune_itself(&mut self, slot: Slot) -> bool {
        let device = &mut self.devices[slot];
        let is_pruning = device.pruning.is_some();
        let Some(writer) = device.writer().filter(|writer| writer.may_want_pruning()) else {
            return false;
        };
        if is_pruning {
            return false;
        }
        let wants = writer.wants_pruning();
        if self.notice_power(slot) {
            return true;
        }
        match wants {
            Ok(None) => return false,
            Ok(Some(pruning)) => {
                self.report.count("app: prunings that nobody asked for");
                // At the end, what it states would have to be told everybody again, and be stated
                // by them. What all have stated by then it writes down for who asks for it.
                let is_end = !self.is_faulty && !self.secrets.are_going;
                let pruning = if is_end { Pruning::writing_down() } else { pruning };
                self.begin_pruning(slot, pruning);
            }
            Err(error) => self.does_not_prune(slot, &error),
        }
        true
    }

    fn begin_pruning(&mut self, slot: Slot, pruning: Pruning) {
        let sections = 1 << self.dice.below(10);
        self.go_on_pruning(slot, pruning.in_steps_of(sections));
    }

    fn go_on_pruning(&mut self, slot: Slot, pruning: Pruning) {
        let begun = self.devices[slot].pruning.replace(pruning);
        if begun.is_none() {
            self.enqueue(slot, Job::PruneStep);
        }
    }

    /// A step of the pruning under way; what else waits comes between two of them.
    fn prune_step(&mut self, slot: Slot) {
        let device = &mut self.devices[slot];
        let Some(mut pruning) = device.pruning.take() else { return };
        let (appended, before) = (pruning.appended(), *pruning.pruned());
        let stepped = device.writer().expect("it is open").prune_step(&mut pruning);
        if self.notice_power(slot) {
            return;
        }
        let (pruned, has_appended) = (*pruning.pruned(), pruning.appended() > appended);
        self.report.count("app: steps of prunings");
        self.report.add("app: snapshots stated", pruned.stated - before.stated);
        self.report.add("app: sections pruned", pruned.sections - before.sections);
        match stepped {
            Ok(true) => self.note(|| format!("{slot} has pruned: {pruned:?}")),
            Ok(false) => self.go_on_pruning(slot, pruning),
            Err(error) => return self.does_not_prune(slot, &error),
        }
        if pruned.sections > before.sections {
            self.check_dropped(slot);
        }
        if has_appended {
            self.committed(slot);
        }
    }

    fn does_not_prune(&mut self, slot: Slot, error: &Error) {
        self.note(|| format!("{slot} does not prune: {error}"));
        let _ = self.fate(slot, error, false);
    }

    /// A step of the renewal of the space's key; what else waits comes between two of them.
    fn rekey(&mut self, slot: Slot) {
        let writer = self.devices[slot].writer().expect("it is open");
        let step = if writer.wants_rekey() {
            writer.rekey_step()
        } else {
            writer.wish_rekey().map(|()| Rekey::Idle)
        };
        if self.notice_power(slot) {
            return;
        }
        match step {
            Ok(Rekey::Done { .. }) => {
                self.note(|| format!("{slot} has another key"));
                self.report.count("app: keys renewed");
            }
            Ok(_) => self.enqueue(slot, Job::Rekey),
            Err(error) => {
                self.note(|| format!("the key of {slot} is not renewed: {error}"));
                let _ = self.fate(slot, &error, false);
            }
        }
    }

    /// A call failed for want of a working disk: there must be a reason.
    pub(crate) fn storage_failed(&mut self, slot: Slot, message: &str) {
        let device = &self.devices[slot];
        // A copy that has noticed says so, whatever it is asked for.
        let is_copy = device.was_copied && message.contains("copied");
        let is_excused = device.is_full || device.is_rotten || is_copy;
        self.report.count("storage: failures");
        assert!(is_excused, "storage of {slot} failed, and nothing was wrong with it: {message}");
        if device.is_rotten && is_damage(message) {
            self.report.count("fault: rot noticed");
            self.retire(slot);
        }
    }
}

/// Whether an error says that bytes are not what was written.
pub(crate) fn is_damage(message: &str) -> bool {
    ["damaged", "malformed", "authentic", "corrupt", "not a database", "I/O"]
        .iter()
        .any(|word| message.contains(word))
}

/// What the entries of a batch say to build on, each with its own number.
fn deps(task: &Task) -> Vec<(u64, Dep)> {
    let (Task::Apply(batch) | Task::Store(batch)) = task else { return Vec::new() };
    let headers = batch.entries.iter().filter_map(|entry| Header::decode(&entry.header).ok());
    headers.flat_map(|header| header.deps.into_iter().map(move |dep| (header.seq, dep))).collect()
}

/// How many documents a supply goes on with that had begun to come.
fn pieces(task: &Task) -> u64 {
    let Task::TakeSupply(supply) = task else { return 0 };
    let part = supply.snapshot.as_ref().and_then(|packed| Part::unpack(packed).ok());
    let is_later = |item: &&Item| matches!(item.content, Content::Document { at: 1.., .. });
    part.map_or(0, |part| part.items.iter().filter(is_later).count() as u64)
}
