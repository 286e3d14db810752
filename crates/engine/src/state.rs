//! What a space's writer knows of its database without asking it again.
//!
//! Invariant: it is what a fresh [`State::load`] would read. A transaction that fails loads it
//! anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use larder_document::Cache;
use larder_log::act::{Act, EpochReason};
use larder_log::checkpoint::Checkpoint;
use larder_log::contract::SpaceContracts;
use larder_log::epoch::open_epoch_act;
use larder_log::merkle::{self, Frontier, Node, Nodes};
use larder_log::roster::{self, Roster, Writing};
use larder_log::{Band, Dep, Entry, EntryBuilder, Header, Payload, Receipt};
use larder_store::StoreError;
use larder_store::space::logs::{self, LogId, Tree};
use larder_store::space::sections::{About, NewSection, Place};
use larder_store::space::{control, entries, sections, transactions};
use larder_types::limits::{ACT_PARENTS_MAX, ACTS_DEVICE_MAX, DEPS_MAX, DOCUMENT_CACHE_BYTES};
use larder_types::{Clock, DeviceId, EntryHash, EpochId, Hash, canonical};
use minicbor::{Decode, Encode};
use rusqlite::Connection;

use crate::adoption::AllAdopted;
use crate::clearance::writes_up_to;
use crate::commit::{Appended, Draft};
use crate::contract::{self, Noticed};
use crate::erase::Erasing;
use crate::index::Queue;
use crate::keyring::Keyring;
use crate::lost::AllLacked;
use crate::named::LookedAt;
use crate::policy::{self, Policy};
use crate::prune::News;
use crate::read::receipt;
use crate::secrets::{Announced, Forgetting, Steps, load_announced};
use crate::show::Pending;
use crate::space::Shared;
use crate::tally::Tally;
use crate::unreadable::Unreadable;
use crate::{Error, Result};

pub(crate) use load::{load_keyring, past_bound, publish, shown};

use load::load_roster;

mod load;

const STATE_BYTES_MAX: usize = 1 << 20;

/// What is kept from one transaction to the next besides the tables.
#[derive(Debug, Clone, Default, Encode, Decode)]
#[cbor(array)]
struct Kept {
    /// The last clock reading given out or seen.
    #[n(0)]
    clock: Option<Clock>,
    /// How far the own log has named the others in its deps.
    #[n(1)]
    named: BTreeMap<DeviceId, u64>,
    /// The last section whose effect is in the documents.
    #[n(2)]
    shown: Option<i64>,
    /// The embedder of which all documents that are indexed have vectors, or wait for them.
    #[n(3)]
    embedder: Option<String>,
    /// How far the writers of the epochs are whose secrets are here.
    #[n(4)]
    steps: Option<BTreeMap<EpochId, Steps>>,
    /// Up to which section nothing is sealed any more but what may stay so for ever.
    #[n(5)]
    opened_to: Option<i64>,
    /// Up to which band the tables have what there is.
    #[n(6)]
    clearance: Option<Band>,
    /// True if they have nothing of any.
    #[n(7)]
    audits: Option<bool>,
}

impl Kept {
    fn load(db: &Connection, own: LogId) -> Result<Option<Self>> {
        let Some(bytes) = logs::kept(db, own)? else { return Ok(None) };
        Ok(Some(canonical::decode(&bytes, STATE_BYTES_MAX)?))
    }
}

pub(crate) struct State {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: LogId,
    pub(crate) frontier: Frontier,
    pub(crate) clock: Clock,
    pub(crate) roster: Roster,
    pub(crate) keyring: Keyring,
    /// The epoch that this device seals to; none before it has opened or received one.
    pub(crate) epoch: Option<EpochId>,
    /// One that is for other devices and that none supersedes.
    pub(crate) epoch_beside: Option<EpochId>,
    pub(crate) cache: Cache,
    /// Since somebody asked.
    pub(crate) tally: Tally,
    /// What is durable and not yet in the documents.
    pub(crate) pending: Pending,
    pub(crate) damage: Damage,
    /// How far the writers of the epochs are whose secrets are here.
    pub(crate) steps: BTreeMap<EpochId, Steps>,
    /// The last sealing key that each device has announced.
    pub(crate) announced: BTreeMap<DeviceId, Announced>,
    /// Up to which section nothing is sealed any more but what may stay so for ever.
    pub(crate) opened_to: Option<i64>,
    /// What is being forgotten.
    pub(crate) forgetting: Option<Forgetting>,
    /// What is known of how far each log is stable.
    pub(crate) looked_at: LookedAt,
    /// What the logs name that entries came of, up to their last ones.
    pub(crate) naming: LookedAt,
    /// Documents to be indexed.
    pub(crate) queue: Queue,
    /// The embedder of which all documents that are indexed have vectors, or wait for them.
    pub(crate) embedder: Option<String>,
    /// The last waiting section that was tried again; 0 before the first.
    pub(crate) retried: i64,
    /// Logs in which bytes are missing and wanted: the first entry of each.
    pub(crate) missing: BTreeMap<LogId, u64>,
    /// Whether there may be sections that came sealed under secrets that are not here, or documents
    /// of the held snapshot that are lacking.
    pub(crate) unread: bool,
    named: BTreeMap<DeviceId, u64>,
    /// Devices whose logs have two histories.
    pub(crate) stopped: BTreeSet<DeviceId>,
    /// The ends of the other logs.
    others: BTreeMap<DeviceId, (u64, EntryHash)>,
    /// The own log's size under its last checkpoint.
    signed: u64,
    recent: Recent,
    /// Rows that the connection had changed when the transaction began.
    changes_before: u64,
    /// Whether readers know of this roster, keyring and policy.
    pub(crate) is_published: bool,
    pub(crate) policy: Policy,
    pub(crate) contracts: SpaceContracts,
    /// Whether this transaction ends the space's being made anew.
    pub(crate) has_recovered: bool,
    /// What may have made something prunable.
    pub(crate) news: News,
    /// The same when the transaction began.
    news_before: News,
    /// Entries held here whose authors by now may write in them, or may no longer.
    pub(crate) rejudged: Vec<Rejudged>,
    pub(crate) adopted: AllAdopted,
    pub(crate) lacked: AllLacked,
    pub(crate) erasing: Erasing,
    /// Up to which band the tables have what there is.
    pub(crate) clearance: Option<Band>,
    /// What contracts have to tell of the transaction's units.
    pub(crate) noticed: Vec<Noticed>,
}

/// Entries of a log, from the first to the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rejudged {
    pub(crate) log: LogId,
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
}

/// How damage is dealt with that was met.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Document by document, instead of failing on it.
    pub(crate) is_careful: bool,
    /// Sections wait because something was damaged.
    pub(crate) has_set_aside: bool,
    /// The index of words was found damaged and emptied.
    pub(crate) has_reindexed: bool,
    /// What is passed over.
    pub(crate) unreadable: Unreadable,
}

/// What a failed unit is taken back to.
pub(crate) struct Mark {
    frontier: Frontier,
    clock: Clock,
    named: BTreeMap<DeviceId, u64>,
    steps: BTreeMap<EpochId, Steps>,
    completed: usize,
}

impl State {
    /// Reads the state from the space's database.
    pub(crate) fn load(db: &Connection, shared: &Arc<Shared>) -> Result<Self> {
        Self::load_recovery(db, shared)?;
        let me = shared.keys.device();
        let own = logs::find_or_add(db, &me)?;
        let kept = Kept::load(db, own.log)?.unwrap_or_default();
        let (mut others, mut stopped) = (BTreeMap::new(), BTreeSet::new());
        stopped.extend(own.stopped.is_some().then_some(me));
        for log in logs::every(db)?.into_iter().filter(|log| log.device != me) {
            let size = log.frontier.size();
            stopped.extend(log.stopped.is_some().then_some(log.device));
            if let Some(hash) = entries::hash(db, log.log, size)? {
                others.insert(log.device, (size, hash));
            }
        }
        let roster = load_roster(db, shared)?;
        let mut state = Self {
            policy: policy::of(db, &roster, shared)?,
            contracts: contract::of_space(db, &roster)?,
            shared: Arc::clone(shared),
            log: own.log,
            signed: own.frontier.size(),
            recent: Recent::new(&own.frontier),
            changes_before: 0,
            is_published: false,
            has_recovered: false,
            news: News::default(),
            news_before: News::default(),
            frontier: own.frontier,
            clock: kept.clock.unwrap_or(Clock::ZERO),
            roster,
            keyring: load_keyring(db, &shared.home().vault)?,
            epoch: None,
            epoch_beside: None,
            cache: Cache::new(DOCUMENT_CACHE_BYTES),
            tally: Tally::default(),
            rejudged: Vec::new(),
            adopted: AllAdopted::load(db)?,
            lacked: AllLacked::load(db)?,
            erasing: Erasing::load(db)?,
            clearance: match kept.audits {
                Some(true) => None,
                _ => kept.clearance.or(Some(Band::Red)),
            },
            noticed: Vec::new(),
            pending: Pending::load(db, kept.shown)?,
            damage: Damage::default(),
            steps: kept.steps.unwrap_or_default(),
            announced: load_announced(db)?,
            opened_to: kept.opened_to,
            forgetting: None,
            looked_at: LookedAt::new(),
            naming: LookedAt::new(),
            queue: Queue::load(db)?,
            embedder: kept.embedder,
            retried: 0,
            missing: sections::first_missing(db)?.into_iter().collect(),
            unread: crate::supply::any_unread(db)?,
            named: kept.named,
            stopped,
            others,
        };
        state.choose_epoch();
        Ok(state)
    }

    /// Writes what is not in the tables anyway.
    pub(crate) fn save(&mut self, db: &Connection) -> Result<()> {
        if self.frontier.size() != self.signed {
            return Err(Error::Internal("entries were appended and not signed".into()));
        }
        let shown = Some(self.pending.shown(db)?);
        let (clock, named) = (Some(self.clock), self.named.clone());
        let (embedder, steps) = (self.embedder.clone(), Some(self.steps.clone()));
        let (opened_to, clearance) = (self.opened_to, self.clearance);
        let audits = clearance.is_none().then_some(true);
        let kept = Kept { clock, named, shown, embedder, steps, opened_to, clearance, audits };
        Ok(logs::keep(db, self.log, &canonical::encode(&kept))?)
    }

    /// The transaction failed: what came in it has not come.
    pub(crate) fn undone(&mut self) {
        self.news.clone_from(&self.news_before);
    }

    /// Takes over from the state of a transaction that failed what no table has.
    pub(crate) fn go_on_from(&mut self, failed: &mut Self) {
        // Else what failed for good would be tried again at once, as on opening.
        self.news = std::mem::take(&mut failed.news);
        self.pending.retries = failed.pending.retries;
        self.damage.has_set_aside = failed.damage.has_set_aside;
        self.damage.unreadable = std::mem::take(&mut failed.damage.unreadable);
    }

    /// A transaction is tried.
    pub(crate) fn before(&mut self) {
        self.news_before.clone_from(&self.news);
    }

    /// A transaction begins.
    pub(crate) fn begin(&mut self, db: &Connection) {
        self.recent = Recent::new(&self.frontier);
        self.changes_before = db.total_changes();
        self.damage.unreadable.leave();
    }

    /// Whether the open transaction has changed anything yet.
    pub(crate) fn has_changed(&self, db: &Connection) -> bool {
        db.total_changes() != self.changes_before
    }

    /// Roster or keyring are others than readers know.
    pub(crate) fn unpublish(&mut self) {
        self.is_published = false;
    }

    /// Tells readers of the roster and the keyring, if they changed.
    pub(crate) fn publish(&mut self) {
        if !self.is_published {
            let rules = (self.policy, self.contracts.clone());
            self.shared.publish(&self.roster, &self.keyring, &self.stopped, rules);
            self.is_published = true;
        }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.shared.keys.device()
    }

    pub(crate) fn mark(&self) -> Mark {
        let (frontier, clock, named) = (self.frontier.clone(), self.clock, self.named.clone());
        let (steps, completed) = (self.steps.clone(), self.recent.completed.len());
        Mark { frontier, clock, named, steps, completed }
    }

    pub(crate) fn return_to(&mut self, mark: Mark) {
        (self.frontier, self.clock, self.named) = (mark.frontier, mark.clock, mark.named);
        self.steps = mark.steps;
        self.recent.return_to(&self.frontier, mark.completed);
        self.cache.clear();
    }

    /// Other logs' ends that the own log has not named yet, at most as many as a header may name.
    fn take_deps(&mut self) -> Vec<Dep> {
        let mut deps = Vec::new();
        for (device, (seq, entry)) in &self.others {
            if deps.len() == DEPS_MAX {
                break;
            }
            if self.named.get(device).is_none_or(|named| named < seq) {
                self.named.insert(*device, *seq);
                deps.push(Dep { device: *device, seq: *seq, entry: *entry });
            }
        }
        if self.frontier.size() == 0 {
            self.name_enrolment(&mut deps);
        }
        deps
    }

    /// The first entry names the own enrolment, also if that stands in a history that is not held.
    fn name_enrolment(&mut self, deps: &mut Vec<Dep>) {
        let enrolled_by = self.roster.known(&self.device()).map(|own| own.enrolled_by.as_slice());
        let Some([first, ..]) = enrolled_by else { return };
        let is_seen =
            |by: &Dep| deps.iter().any(|dep| dep.device == by.device && dep.seq >= by.seq);
        if enrolled_by.is_some_and(|all| all.iter().any(is_seen)) {
            return;
        }
        deps.retain(|dep| dep.device != first.device);
        if deps.len() == DEPS_MAX
            && let Some(last) = deps.pop()
        {
            self.named.remove(&last.device);
        }
        let at = deps.partition_point(|dep| dep.device < first.device);
        deps.insert(at, *first);
    }

    /// Whether bytes of entries that are here are lacking.
    pub(crate) fn lacks(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Whether there is something to ask other devices for.
    pub(crate) fn wants(&self) -> bool {
        self.lacks() || self.unread
    }

    /// Whether the own log has named this entry of another, or one behind it.
    pub(crate) fn has_named(&self, device: &DeviceId, seq: u64) -> bool {
        self.named.get(device).is_some_and(|named| *named >= seq)
    }

    /// Whether the own log's next entry would name something.
    pub(crate) fn has_unnamed(&self) -> bool {
        let is_new = |(device, (seq, _)): (&DeviceId, &(u64, EntryHash))| {
            self.named.get(device).is_none_or(|named| named < seq)
        };
        self.others.iter().any(is_new)
    }

    /// Another device's log has grown to `size`, ending in `entry`.
    pub(crate) fn grown(&mut self, device: DeviceId, size: u64, entry: EntryHash) {
        self.others.insert(device, (size, entry));
    }

    /// A device's log has two histories.
    pub(crate) fn note_stopped(&mut self, device: DeviceId) {
        self.is_published &= !self.stopped.insert(device);
    }

    /// The own log has come back from elsewhere, up to here: `headers` are those of its entries
    /// that are new here.
    pub(crate) fn resume<'h>(&mut self, end: &Frontier, headers: impl Iterator<Item = &'h Header>) {
        self.frontier = end.clone();
        self.signed = end.size();
        self.recent = Recent::new(&self.frontier);
        for dep in headers.flat_map(|header| &header.deps) {
            let named = self.named.entry(dep.device).or_insert(0);
            *named = dep.seq.max(*named);
        }
    }

    /// Starts the next entry of the own log.
    pub(crate) fn begin_entry(&mut self) -> EntryBuilder {
        let seq = self.frontier.size() + 1;
        let (epoch, step) = self.next_seal();
        self.clock = self.clock.tick(self.shared.env.now());
        EntryBuilder::new(self.shared.id, self.device(), seq, epoch, step).deps(self.take_deps())
    }

    /// Appends a finished entry to the own log.
    pub(crate) fn insert_own(
        &mut self,
        db: &Connection,
        entry: Entry,
        drafts: &[&Draft],
    ) -> Result<Appended> {
        let sealed_bytes: usize = entry.sealed.iter().map(Vec::len).sum();
        let payloads: Vec<Payload> = entry.sealed.into_iter().map(Payload::Sealed).collect();
        let sections: Vec<NewSection<'_>> = entry
            .commitments
            .iter()
            .zip(&payloads)
            .zip(drafts)
            .map(|((commitment, payload), draft)| NewSection {
                commitment,
                payload,
                state: sections::State::Applied,
                about: Some(About { kind: draft.kind, object: draft.object, clock: self.clock }),
            })
            .collect();
        let seq = entry.header.seq;
        let recent = &mut self.recent;
        let before = recent.completed.len();
        self.frontier.append(entry.hash.into(), &mut |node| recent.complete(node));
        let new = entries::NewEntry {
            seq,
            hash: &entry.hash,
            header: &entry.header_bytes,
            nodes: recent.completed.get(before..).unwrap_or_default(),
            sections: &sections,
        };
        let mut next = match recent.next {
            Some(next) => next,
            None => transactions::next(db)?,
        };
        entries::insert(db, self.log, &mut next, &new)?;
        recent.next = Some(next);
        self.note_step(&entry.header);
        self.note_named(db, self.log, &entry.header)?;
        let recent = &mut self.recent;
        recent.headers.insert(seq, entry.header_bytes);
        self.news.grew(1, sealed_bytes as u64);
        Ok(Appended { seq, hash: entry.hash, sealed_bytes })
    }

    /// Moves the own log's end behind all entries that no checkpoint covers yet, and signs one over
    /// them.
    pub(crate) fn sign(&mut self, db: &Connection) -> Result<()> {
        let size = self.frontier.size();
        if size > self.signed {
            self.recent.completed.clear();
            self.recent.next = None;
            let signature = self.checkpoint().sign(&self.shared.keys.signing);
            transactions::append(db, self.log, self.signed + 1, &self.frontier, &signature)?;
            self.signed = size;
            self.recent.signature = Some(signature);
        }
        Ok(())
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let (size, root) = (self.frontier.size(), self.frontier.root());
        Checkpoint { space: self.shared.id, device: self.device(), size, root }
    }

    /// Appends an act of this device's to its log, and takes it in.
    pub(crate) fn append_act(&mut self, db: &Connection, act: &Act) -> Result<Appended> {
        let draft = Draft::of_act(act)?;
        let appended = self.append(db, &[&draft], None, None)?;
        let header = entries::find(db, self.log, appended.seq)?
            .and_then(|entry| Header::decode(&entry.header).ok())
            .ok_or_else(|| Error::Internal("an entry just appended is not there".into()))?;
        self.take_in(db, self.log, &header, 0, act)?.map_err(|reason| {
            Error::Invalid(format!("the roster does not allow this: {reason}"))
        })?;
        Ok(appended)
    }

    /// Takes in an act: into the roster, and an epoch's secrets into the keyring. The inner error
    /// says why it is void.
    pub(crate) fn take_in(
        &mut self,
        db: &Connection,
        log: LogId,
        header: &Header,
        index: u32,
        act: &Act,
    ) -> Result<std::result::Result<(), larder_log::VoidReason>> {
        let place = Place { log, seq: header.seq, index };
        if let Act::Erase(_) | Act::Erased(_) = act {
            control::add_act(db, &control::Act { place, kind: act.kind(), body: act.to_body() })?;
            return self.take_erasure(db, place, header, act);
        }
        let is_membership = Act::MEMBERSHIP.contains(&act.kind());
        // It stands in no roster: else one device could fill everybody's.
        if is_membership
            && control::count_acts(db, log, header.seq, Act::MEMBERSHIP)? >= ACTS_DEVICE_MAX
        {
            control::add_act(db, &control::Act { place, kind: act.kind(), body: act.to_body() })?;
            return Ok(Err(larder_log::VoidReason::TooMany));
        }
        self.is_published = false;
        let is_lack = matches!(act, Act::Lack(_));
        let is_aside = matches!(act, Act::Quarantine(_));
        let is_heard = is_membership || is_lack || is_aside || matches!(act, Act::Snapshot(_));
        self.news.statement |= is_heard;
        self.news.roster |= is_membership || is_aside;
        self.news.lacks |= is_membership || is_lack || is_aside;
        self.news.secrets.is_new |= is_aside;
        self.adopted.is_open |= is_aside;
        self.news.refits |= is_heard;
        let before = self.roster.writing();
        let applied = self.roster.apply(header, index, act);
        self.note_rejudged(db, &before)?;
        // Kept even if void by now: an act may take effect when its author's enrolment arrives.
        control::add_act(db, &control::Act { place, kind: act.kind(), body: act.to_body() })?;
        match act {
            Act::Epoch(epoch) => self.take_epoch(db, header, epoch)?,
            Act::SealingKey(act) => self.take_announced(header, act),
            Act::Adoption(act) => self.take_adoption(db, header, act)?,
            Act::Lack(act) => self.take_lack(db, header, act)?,
            _ if is_membership => self.note_lacked(db)?,
            _ => {}
        }
        self.choose_epoch();
        Ok(applied)
    }

    /// Makes the roster again from the acts that are recorded.
    pub(crate) fn reload_roster(&mut self, db: &Connection) -> Result<()> {
        let before = self.roster.writing();
        self.roster = load_roster(db, &self.shared)?;
        self.announced = load_announced(db)?;
        self.adopted = AllAdopted::load(db)?;
        self.lacked = AllLacked::load(db)?;
        self.note_lacked(db)?;
        self.note_rejudged(db, &before)?;
        self.news.refits = true;
        self.is_published = false;
        self.choose_epoch();
        Ok(())
    }

    /// Takes in an act of membership that stands in no log held here.
    pub(crate) fn take_shown(
        &mut self,
        db: &Connection,
        header: &Header,
        index: u32,
        act: &Act,
    ) -> Result<()> {
        self.is_published = false;
        let before = self.roster.writing();
        // Void now, it may take effect when what it names arrives.
        let _ = self.roster.apply(header, index, act);
        let news = &mut self.news;
        (news.statement, news.roster, news.refits, news.lacks) = (true, true, true, true);
        self.choose_epoch();
        self.note_lacked(db)?;
        self.note_rejudged(db, &before)
    }

    /// Notes of which entries it has changed whether their authors might write in them.
    fn note_rejudged(&mut self, db: &Connection, before: &Writing) -> Result<()> {
        let after = self.roster.writing();
        let devices: BTreeSet<&DeviceId> = before.keys().chain(after.keys()).collect();
        for device in devices {
            let (old, new) = (before.get(device), after.get(device));
            if old == new {
                continue;
            }
            self.adopted.is_open = true;
            for (from_seq, to_seq) in roster::differing(old, new) {
                for (author, seq) in self.adopted.by(device, from_seq, to_seq) {
                    self.note_rejudged_entry(db, &author, seq)?;
                }
            }
            let Some(log) = logs::find(db, device)?.filter(|log| log.frontier.size() > 0) else {
                continue;
            };
            let size = log.frontier.size();
            for (from_seq, to_seq) in roster::differing(old, new) {
                if from_seq <= size {
                    let to_seq = to_seq.min(size);
                    self.rejudged.push(Rejudged { log: log.log, from_seq, to_seq });
                }
            }
        }
        Ok(())
    }

    /// What an act of membership written now names as known.
    pub(crate) fn parents(&self) -> Vec<EntryHash> {
        let mut heads = self.roster.heads();
        // What there is no room for is known by the next act.
        heads.truncate(ACT_PARENTS_MAX);
        heads
    }

    /// Up to which band the device might write content in this entry of its log, if any.
    pub(crate) fn writes_up_to(&self, device: &DeviceId, seq: u64) -> Option<Band> {
        writes_up_to(&self.roster, device, seq)
    }

    /// Whether the device might write content in this entry of its log.
    pub(crate) fn may_write_at(&self, device: &DeviceId, seq: u64) -> bool {
        self.writes_up_to(device, seq).is_some()
    }

    /// Whether this device may write content now.
    ///
    /// # Errors
    /// [`Error::NotYetEnrolled`], [`Error::ShutOut`], [`Error::MayNotWrite`], [`Error::Auditor`].
    pub(crate) fn check_may_write(&self) -> Result<()> {
        let me = self.device();
        match (self.roster.device(&me), self.roster.known(&me)) {
            (Some(own), _) if own.role.may_write() => Ok(()),
            (Some(own), _) => Err(Error::may_not_write(own.role)),
            (None, Some(_)) => Err(Error::ShutOut),
            (None, None) => Err(Error::NotYetEnrolled),
        }
    }

    pub(crate) fn choose_epoch(&mut self) {
        let (keyring, own) = (&self.keyring, self.own_clearance());
        self.epoch = own.and_then(|own| {
            self.roster.epoch_for_writing(own, &|epoch| {
                // Of one that was opened when this device was cleared for less there may be a part.
                keyring.secrets(epoch).is_some_and(|secrets| secrets.highest() >= Some(own))
            })
        });
        let cleared = self.roster.cleared();
        let mut newest = self.roster.newest_epochs();
        let beside = newest.find(|(_, epoch)| epoch.recipients != cleared);
        self.epoch_beside = beside.map(|(id, _)| *id);
    }

    /// Opens an epoch for exactly the devices that are cleared now, if there is none.
    pub(crate) fn ensure_epoch(&mut self, db: &Connection) -> Result<()> {
        if self.epoch.is_some() && !self.is_epoch_over() {
            return Ok(());
        }
        self.check_may_write()?;
        let recipients: Vec<_> = self
            .roster
            .cleared()
            .into_iter()
            .filter_map(|(id, band)| Some((id, self.sealing_key(&id)?, band)))
            .collect();
        let supersedes = self.roster.newest_epochs().map(|(epoch, _)| *epoch).collect();
        let mut entropy = self.shared.env.entropy();
        let (act, _) = open_epoch_act(
            &mut *entropy,
            &self.shared.id,
            self.device(),
            &recipients,
            self.epoch_reason(),
            supersedes,
        )
        .map_err(|e| Error::Internal(format!("an epoch could not be opened: {e}")))?;
        self.append_act(db, &Act::Epoch(act)).map(drop)
    }

    /// Why the epochs there are will not do.
    fn epoch_reason(&self) -> EpochReason {
        let newest = self.roster.newest_epochs();
        let had: BTreeSet<_> = newest.flat_map(|(_, epoch)| epoch.recipients.keys()).collect();
        let cleared = self.roster.cleared();
        if had.iter().any(|device| !cleared.contains_key(device)) {
            EpochReason::Revocation
        } else if cleared.keys().any(|device| !had.contains(device)) {
            EpochReason::Enrolment
        } else if self.epoch.is_some() {
            EpochReason::Age
        } else {
            EpochReason::Clearance
        }
    }

    /// The receipt of an entry of the own log, against its newest checkpoint.
    pub(crate) fn receipt(&self, db: &Connection, seq: u64) -> Result<Receipt> {
        let checkpoint = self.checkpoint();
        let signature = match self.recent.signature {
            Some(signature) => signature,
            None => {
                transactions::last_of(db, self.log)?
                    .ok_or_else(|| Error::Corrupt("the own log has no checkpoint".into()))?
                    .signature
            }
        };
        let Some(header) = self.recent.headers.get(&seq).cloned() else {
            return receipt(db, &checkpoint, self.log, seq, signature);
        };
        let index = seq - 1;
        let nodes = RecentNodes { recent: &self.recent, tree: Tree::new(db, self.log) };
        let proof = merkle::inclusion_proof(&nodes, index, checkpoint.size)?;
        Ok(Receipt { header, index, proof, checkpoint, signature, object: None })
    }
}

impl State {
    /// The same of an entry of another log.
    pub(crate) fn receipt_in(&self, db: &Connection, log: LogId, seq: u64) -> Result<Receipt> {
        let missing = || Error::Corrupt("a log has no checkpoint".into());
        let last = transactions::last_of(db, log)?.ok_or_else(missing)?;
        let of = logs::by_number(db, log)?;
        let (size, root) = (of.frontier.size(), of.frontier.root());
        let checkpoint = Checkpoint { space: self.shared.id, device: of.device, size, root };
        receipt(db, &checkpoint, log, seq, last.signature)
    }
}

/// What a transaction has appended to the own log so far, so that its receipts need not read it
/// again: 256 entries of 500 bytes and twice as many hashes, as a rule.
#[derive(Default)]
struct Recent {
    headers: HashMap<u64, Vec<u8>>,
    /// By level and index: the perfect subtrees at the end of the log before, and those completed
    /// since.
    nodes: HashMap<(u8, u64), Hash>,
    /// Those completed since the last checkpoint.
    completed: Vec<Node>,
    /// Of the newest checkpoint, once there is one over these entries.
    signature: Option<[u8; 64]>,
    /// What the next entry is numbered, once it was asked for the one before it.
    next: Option<transactions::Next>,
}

impl Recent {
    fn new(frontier: &Frontier) -> Self {
        let nodes = frontier.peaks().map(by_place).collect();
        Self { nodes, ..Self::default() }
    }

    fn complete(&mut self, node: Node) {
        self.nodes.extend([by_place(node)]);
        self.completed.push(node);
        self.signature = None;
    }

    /// A unit failed: of its nodes none was completed.
    fn return_to(&mut self, frontier: &Frontier, completed: usize) {
        for node in self.completed.drain(completed.min(self.completed.len())..) {
            self.nodes.remove(&(node.level, node.index));
        }
        self.headers.retain(|seq, _| *seq <= frontier.size());
        self.next = None;
    }
}

fn by_place(node: Node) -> ((u8, u64), Hash) {
    ((node.level, node.index), node.hash)
}

/// The own log's tree, of which the newest nodes are at hand.
struct RecentNodes<'a> {
    recent: &'a Recent,
    tree: Tree<'a>,
}

impl Nodes for RecentNodes<'_> {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> std::result::Result<Hash, StoreError> {
        match self.recent.nodes.get(&(level, index)) {
            Some(hash) => Ok(*hash),
            None => self.tree.node(level, index),
        }
    }
}

pub(crate) const CONTROL: &str = "control";

#[cfg(test)]
mod tests;
