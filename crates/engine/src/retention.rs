//! How long documents are kept, and what becomes of them then: into the trash, and out of it for
//! ever.
//!
//! Invariant: nothing goes by one clock. Of a document that goes by itself this device has known
//! for so long by the lower of its own clock and that of another device, counted from when it knew
//! it by the higher of both; what authors claim is no matter. A device that hears of no other clock
//! asks a person.

use std::collections::BTreeSet;

use larder_log::act::{Act, Role};
use larder_log::retention::{Retention, RetentionAct, Retentions};
use larder_log::{Band, Header, Receipt, VERSION, kind};
use larder_store::space::documents::Which;
use larder_store::space::retention::{self as table, Until};
use larder_store::space::{control, entries};
use larder_types::limits::{CLOCK_AHEAD_MS_MAX, RETENTION_MARK_MS, RETENTION_STEP_DOCUMENTS};
use larder_types::{CollectionName, ObjectId, Timestamp};
use rusqlite::Connection;
use serde::Serialize;

use crate::model::as_text;
use crate::read::snapshot;
use crate::space::{Published, Space};
use crate::unit::parse_collection;
use crate::writer::SpaceWriter;
use crate::{Error, Result, UnitOfWork};

/// What the time of some documents being over did to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Retained {
    /// Documents that went into the trash.
    pub trashed: u64,
    /// Documents that were deleted for ever.
    pub deleted: u64,
    /// Documents that could not be dealt with, and stay.
    pub failed: u64,
}

/// Documents whose time is over by what clocks claim, and why they are still here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetentionDue {
    /// What this device's own clock shows.
    #[serde(serialize_with = "as_text")]
    pub clock: Timestamp,
    /// They would go into the trash.
    pub to_trash: u64,
    /// They would be deleted for ever.
    pub to_delete: u64,
    /// No other device's clock bears this one's out: nothing goes before a person says so.
    pub asks: bool,
    /// Collections of which nothing goes because there are too many: who changed some document of
    /// theirs has a clock that is ahead.
    pub clock_ahead: Vec<String>,
}

impl RetentionDue {
    /// How many documents.
    pub const fn total(&self) -> u64 {
        self.to_trash + self.to_delete
    }
}

/// What two clocks agree on.
#[derive(Debug, Clone, Copy)]
struct Witnessed {
    low: Timestamp,
    high: Timestamp,
}

/// By what it is told how old something is.
#[derive(Debug, Clone, Copy)]
enum Basis {
    /// By two clocks, and later the more devices there are before this one that may do it.
    Witnessed(Witnessed, u64),
    /// By this device's own, which a person vouches for, and by what authors claim.
    Person(Timestamp),
}

impl Basis {
    const fn now(self) -> Timestamp {
        match self {
            Self::Witnessed(Witnessed { low, .. }, _) => low,
            Self::Person(now) => now,
        }
    }

    /// What is as old as this; none: nothing is.
    fn until(self, db: &Connection, age_ms: u64) -> Result<Option<Until>> {
        let before = |now: Timestamp, ms| now.0.checked_sub(ms).map(Timestamp);
        Ok(match self {
            Self::Witnessed(Witnessed { low, .. }, later_ms) => {
                match before(low, age_ms.saturating_add(later_ms)) {
                    Some(time) => table::position_at(db, time)?.map(Until::Position),
                    None => None,
                }
            }
            Self::Person(now) => before(now, age_ms).map(Until::Claimed),
        })
    }
}

/// What goes next.
#[derive(Debug, Default)]
struct Due {
    to_trash: BTreeSet<ObjectId>,
    to_delete: BTreeSet<ObjectId>,
    clock_ahead: Vec<String>,
}

impl Space {
    /// How long documents are kept: what is set for single collections or bands, and what counts
    /// for all others.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn retention(&self) -> Result<Retentions> {
        let published = self.shared.published()?;
        retentions(&*self.shared.pool.reader()?, &published)
    }

    /// Which documents are over their time by what clocks claim; with `new`, as if that were set
    /// for this collection and band, or for all others.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name; the storage's errors.
    pub fn retention_due(
        &self,
        new: Option<(Option<&str>, Option<Band>, Retention)>,
    ) -> Result<RetentionDue> {
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let mut all = retentions(&db, &published)?;
        if let Some((collection, band, retention)) = new {
            let band = self.shared.kept_by(band);
            let collection = collection.map(parse_collection).transpose()?;
            let revision = all.next_revision(collection.as_ref(), band);
            all.take(&RetentionAct { v: VERSION, revision, collection, retention, band });
        }
        let now = self.shared.env.now();
        let due = due(&db, &all, Basis::Person(now), usize::MAX)?;
        Ok(RetentionDue {
            clock: now,
            to_trash: due.to_trash.len() as u64,
            to_delete: due.to_delete.len() as u64,
            asks: witnessed(&db, &published, self, now)?.is_none(),
            clock_ahead: due.clock_ahead,
        })
    }
}

impl Space {
    /// The same, where a person is asked for it. None: another device's clock says when it goes.
    pub(crate) fn retention_asked(&self) -> Result<Option<RetentionDue>> {
        let published = self.shared.published()?;
        let is_witnessed = {
            let db = self.shared.pool.reader()?;
            witnessed(&db, &published, self, self.shared.env.now())?.is_some()
        };
        if is_witnessed { Ok(None) } else { self.retention_due(None).map(Some) }
    }
}

impl SpaceWriter {
    /// Sets how long documents of a collection, of a band, or of a band in a collection are kept;
    /// without either, of all that nothing is set for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name, for what makes no sense, and if this device is
    /// neither an owner's nor an admin's; the storage's errors.
    pub fn set_retention(
        &mut self,
        collection: Option<&str>,
        band: Option<Band>,
        retention: Retention,
    ) -> Result<Receipt> {
        let collection = collection.map(parse_collection).transpose()?;
        let band = self.shared.kept_by(band);
        if band.is_some() {
            self.shared.check_leaves("set it for a collection, or for all that is in it")?;
        }
        if band == Some(Band::Black) {
            return Err(Error::Invalid(
                "this cannot be set here: what is BLACK is in a space of its own".into(),
            ));
        }
        if let Some(why) = retention.wrong() {
            return Err(Error::Invalid(format!("this cannot be set: {why}")));
        }
        let published = self.shared.published()?;
        self.transact(|tx, state| {
            state.check_may_write()?;
            let own = state.roster.device(&state.device()).map(|device| device.role);
            if !matches!(own, Some(Role::Owner | Role::Admin)) {
                let message = "only an owner or an admin sets how long documents are kept";
                return Err(Error::Invalid(message.into()));
            }
            let revision = retentions(tx, &published)?.next_revision(collection.as_ref(), band);
            let act = RetentionAct { v: VERSION, revision, collection, retention, band };
            state.append_act(tx, &Act::Retention(act))?;
            state.sign(tx)?;
            state.receipt(tx, state.frontier.size())
        })
    }

    /// Notes what is here by now, and removes what is over its time by two clocks; once a day,
    /// however often it is called. The façade calls it whenever a space is opened, and now and
    /// then.
    ///
    /// # Errors
    /// The storage's errors; what was done before stands.
    pub fn tend_retention(&mut self) -> Result<Retained> {
        let published = self.shared.published()?;
        let space = self.space();
        let now = self.shared.env.now();
        let me = space.device();
        let may = |role: Role| role.may_write();
        let own = published.roster.device(&me).map(|device| device.role);
        if !self.shared.may_append() || !own.is_some_and(may) {
            return Ok(Retained::default());
        }
        let seen = {
            let db = self.shared.pool.reader()?;
            witnessed(&db, &published, &space, now)?
        };
        let Some(seen) = seen else { return Ok(Retained::default()) };
        // Once a day: what follows goes over whole collections.
        let is_noted = self.record(|tx, _| Ok(table::mark(tx, seen.high, RETENTION_MARK_MS)?))?;
        if !is_noted {
            return Ok(Retained::default());
        }
        // One after the other, a day apart: else each device writes the same once more.
        let writers = published.roster.devices().filter(|(_, device)| may(device.role));
        let before = writers.take_while(|(id, _)| **id != me).count() as u64;
        let later_ms = before.min(LATER_DAYS_MAX).saturating_mul(RETENTION_MARK_MS);
        self.retain(Basis::Witnessed(seen, later_ms))
    }

    /// Removes, now, what is over its time by this device's own clock and by those of who changed
    /// it last: because a person says that the time has come.
    ///
    /// # Errors
    /// As [`SpaceWriter::tend_retention`]; [`Error::MayNotWrite`].
    pub fn apply_retention(&mut self) -> Result<Retained> {
        let now = self.shared.env.now();
        self.retain(Basis::Person(now))
    }

    fn retain(&mut self, basis: Basis) -> Result<Retained> {
        let mut retained = Retained::default();
        let mut failed: BTreeSet<ObjectId> = BTreeSet::new();
        loop {
            let published = self.shared.published()?;
            let found = {
                let db = self.shared.pool.reader()?;
                let db = snapshot(&db)?;
                let all = retentions(&db, &published)?;
                due(&db, &all, basis, RETENTION_STEP_DOCUMENTS + failed.len())?
            };
            let of = |objects: BTreeSet<ObjectId>, is_deletion: bool| {
                objects.into_iter().map(move |object| (object, is_deletion))
            };
            let mut next: Vec<(ObjectId, bool)> =
                of(found.to_delete, true).chain(of(found.to_trash, false)).collect();
            next.retain(|(object, _)| !failed.contains(object));
            next.truncate(RETENTION_STEP_DOCUMENTS);
            if next.is_empty() {
                return Ok(retained);
            }
            let mut done = self.remove(&next).is_ok();
            let (mut deleted, mut trashed) = (0, 0);
            for one in &next {
                // If together they did not go, each by itself.
                if done || self.remove(std::slice::from_ref(one)).is_ok() {
                    if one.1 { deleted += 1 } else { trashed += 1 }
                } else {
                    failed.insert(one.0);
                }
            }
            retained.deleted += deleted;
            retained.trashed += trashed;
            retained.failed = failed.len() as u64;
            done |= deleted + trashed > 0;
            if !done {
                return Ok(retained);
            }
        }
    }

    fn remove(&mut self, objects: &[(ObjectId, bool)]) -> Result<Receipt> {
        let mut unit = UnitOfWork::new();
        unit.actor(ACTOR);
        unit.confirm_removals();
        for (object, is_deletion) in objects {
            if *is_deletion { unit.delete(*object) } else { unit.trash(*object) }
        }
        let done = self.commit(&mut std::iter::once(unit)).pop();
        done.unwrap_or_else(|| Err(Error::Internal("a unit has no outcome".into())))
    }
}

/// The acts that count, taken together.
fn retentions(db: &Connection, published: &Published) -> Result<Retentions> {
    let mut all = Retentions::with_usual(published.policy.kept);
    for stored in control::acts_of_kind(db, kind::RETENTION)? {
        let header = entries::find(db, stored.place.log, stored.place.seq)?
            .and_then(|entry| Header::decode(&entry.header).ok())
            .ok_or_else(|| Error::Corrupt("an act's entry is missing".into()))?;
        if let Ok(Some(Act::Retention(act))) = Act::from_body(stored.kind, &stored.body)
            && published.roster.administers_at(&header)
        {
            all.take(&act);
        }
    }
    Ok(all)
}

/// The own clock, and the highest of other devices. None: there is no other, or one has told a time
/// that lies further ahead of the own clock than an honest one would. Then either may be wrong, and
/// what a third device told months ago is no witness.
fn witnessed(
    db: &Connection,
    published: &Published,
    space: &Space,
    own: Timestamp,
) -> Result<Option<Witnessed>> {
    let me = space.device();
    let is_other = |ack: &control::Ack| {
        ack.acker != me && published.roster.device(&ack.acker).is_some_and(|d| d.role.may_read())
    };
    let acks = control::acks(db)?.into_iter().filter(is_other);
    let other = acks.map(|ack| Timestamp(ack.time_s.saturating_mul(1000))).max();
    let ahead = own.0.saturating_add(CLOCK_AHEAD_MS_MAX);
    Ok(other
        .filter(|other| other.0 <= ahead)
        .map(|other| Witnessed { low: own.min(other), high: own.max(other) }))
}

/// What goes by now; of each kind, collection and band up to `limit`.
fn due(db: &Connection, all: &Retentions, basis: Basis, limit: usize) -> Result<Due> {
    let mut found = Due::default();
    for collection in table::collections(db, Which::Trashed)? {
        for band in Band::SHARED {
            let trash_ms = all.of(Some(&collection), Some(band)).trash_ms;
            if let Some(until) = basis.until(db, trash_ms)? {
                let of = (&collection, band);
                found.to_delete.extend(table::old(db, Which::Trashed, of, until, limit)?);
            }
        }
    }
    let keeps_all = |retention: Retention| retention.age_ms.is_none() && retention.count.is_none();
    if keeps_all(all.of_others()) && all.set().all(|(.., retention)| keeps_all(retention)) {
        return Ok(found);
    }
    for collection in table::collections(db, Which::Shown)? {
        for band in Band::SHARED {
            let retention = all.of(Some(&collection), Some(band));
            due_of(db, (&collection, band), retention, (basis, limit), &mut found)?;
        }
    }
    Ok(found)
}

fn due_of(
    db: &Connection,
    of: (&CollectionName, Band),
    retention: Retention,
    (basis, limit): (Basis, usize),
    found: &mut Due,
) -> Result<()> {
    if let Some(age_ms) = retention.age_ms
        && let Some(until) = basis.until(db, age_ms)?
    {
        let old = table::old(db, Which::Shown, of, until, limit)?;
        let into = if retention.trash_ms == 0 { &mut found.to_delete } else { &mut found.to_trash };
        into.extend(old);
    }
    let Some(count) = retention.count else { return Ok(()) };
    let ahead = Timestamp(basis.now().0.saturating_add(CLOCK_AHEAD_MS_MAX));
    if table::is_ahead(db, of, ahead)? {
        let name = of.0.to_string();
        if !found.clock_ahead.contains(&name) {
            found.clock_ahead.push(name);
        }
        return Ok(());
    }
    // What came just now may be followed by what is to push it out.
    let grace_ms = if let Basis::Witnessed(..) = basis { RETENTION_MARK_MS } else { 0 };
    if let Some(until) = basis.until(db, grace_ms)? {
        found.to_trash.extend(table::beyond(db, of, count, until, limit)?);
    }
    Ok(())
}

/// Who did it, in the log.
const ACTOR: &str = "retention";
/// However many devices there are.
const LATER_DAYS_MAX: u64 = 7;
