//! The security log of this device: what its people ought to know of, in the profile's database,
//! signed, and synced with nobody.
//!
//! Invariants: what another device can make happen again and again is counted, and written only
//! when its count doubles, so that nobody fills the log; nothing fails because it cannot be noted;
//! no event holds content or a name that a person gave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use larder_audit::format::SecurityLine;
use larder_crypto::hash::sha256;
use larder_crypto::{DeviceSigningKey, Secret};
use larder_log::roster::Roster;
pub use larder_log::security::Kind as SecurityKind;
use larder_log::security::{BadEvent, Chain, Event, Link, News, Scope};
use larder_store::migrate::Schema;
use larder_store::profile::{self as profile_table, Membership};
use larder_store::security as table;
use larder_types::limits::{SECURITY_BRANCH_MAX, SECURITY_COUNTS_MAX, SECURITY_EVENTS_MAX};
use larder_types::{DeviceId, SpaceName, Timestamp, TransportId};
use rusqlite::Connection;
use serde::Serialize;

use crate::key_file;
use crate::model::{as_optional_text, as_text};
use crate::profile::{Inner, Profile, SIGNING, key_purpose};
use crate::space::{Published, Shared, Space};
use crate::tally::VoidCause;
use crate::vault::Vault;
use crate::{Error, Result};

/// An event of the security log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecurityEvent {
    /// The space it happened in; none for the profile as a whole.
    #[serde(serialize_with = "as_optional_text")]
    pub space: Option<SpaceName>,
    /// Its number in that space's log, or the profile's.
    pub seq: u64,
    /// When, as this device's clock had it.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// What kind of event.
    #[serde(serialize_with = "as_text")]
    pub kind: SecurityKind,
    /// The device that it is about.
    #[serde(serialize_with = "as_optional_text")]
    pub device: Option<DeviceId>,
    /// A few words that say more.
    pub detail: String,
    /// How often it had happened by then.
    pub count: u64,
}

/// How often something has happened that is written only now and then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecurityCount {
    /// The space it happens in; none for the profile as a whole.
    #[serde(serialize_with = "as_optional_text")]
    pub space: Option<SpaceName>,
    /// What kind of event.
    #[serde(serialize_with = "as_text")]
    pub kind: SecurityKind,
    /// The device that it is about.
    #[serde(serialize_with = "as_optional_text")]
    pub device: Option<DeviceId>,
    /// A few words that say more.
    pub detail: String,
    /// How often.
    pub count: u64,
    /// When last, as this device's clock had it.
    #[serde(serialize_with = "as_text")]
    pub last_at: Timestamp,
}

/// The security log, verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SecurityLog {
    /// The events, the oldest first.
    pub events: Vec<SecurityEvent>,
    /// How often that has happened which is not written each time.
    pub counts: Vec<SecurityCount>,
    /// Events that were dropped because there were too many.
    pub dropped: u64,
}

/// What is new in the security log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SecuritySummary {
    /// Events since somebody looked last ([`Profile::security_seen`]).
    pub new: u64,
    /// The latest events, seen or not, the newest first.
    pub latest: Vec<SecurityEvent>,
    /// What is wrong with the log, if something is.
    pub damaged: Option<String>,
}

/// What has happened since it was last written down.
#[derive(Default)]
pub(crate) struct Counts {
    all: Mutex<BTreeMap<(Scope, News), Counted>>,
    /// Held while some of it is on its way to the disk: who asks for all waits for that too.
    writing: Mutex<()>,
    /// Called when something is added to the log.
    told: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Counted {
    /// How often before, if that was read already.
    before: Option<u64>,
    since: u64,
}

impl Counted {
    fn is_due(&self) -> bool {
        self.since > 0 && self.before.is_none_or(|before| doubles(before, self.since))
    }
}

/// Whether a count reaches the next power of two.
fn doubles(before: u64, more: u64) -> bool {
    before.checked_ilog2() != before.saturating_add(more).checked_ilog2()
}

impl Counts {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(Scope, News), Counted>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something; whether it is time to write that down. Never blocks on the disk.
    fn add(&self, scope: Scope, news: News, times: u64) -> bool {
        let mut all = self.all();
        let key = (scope, news);
        let is_full = all.len() as u64 >= SECURITY_COUNTS_MAX && !all.contains_key(&key);
        let key = if is_full { (Scope::Profile, rest_of(&key.1)) } else { key };
        let counted = all.entry(key).or_default();
        counted.since = counted.since.saturating_add(times);
        counted.is_due()
    }

    fn take(&self, all_of_it: bool) -> Vec<(Scope, News, u64)> {
        let mut all = self.all();
        let due = all
            .iter_mut()
            .filter(|(_, counted)| if all_of_it { counted.since > 0 } else { counted.is_due() });
        due.map(|((scope, news), counted)| {
            (*scope, news.clone(), std::mem::take(&mut counted.since))
        })
        .collect()
    }

    fn written(&self, scope: Scope, news: News, count: u64) {
        self.all().entry((scope, news)).or_default().before = Some(count);
    }
}

/// What stands for everything of a kind that is not told apart.
fn rest_of(news: &News) -> News {
    News::new(news.kind, None, "and others")
}

impl Inner {
    /// Writes an event down. What cannot be written is not: nothing fails because of it.
    pub(crate) fn note(&self, scope: Scope, news: &News) {
        if !self.is_read_only() {
            let now = self.env.now();
            let _ = self.write_db(|db| self.append(db, &self.vault, scope, news, 1, now));
        }
    }

    /// Takes down that a database, which was there before, came to a newer schema.
    pub(crate) fn note_migration(&self, scope: Scope, schema: &Schema, steps: u32) {
        let version = schema.version();
        if steps > 0 && steps < version {
            let detail = format!("{}, from {} to {version}", schema.database, version - steps);
            self.note(scope, &News::new(SecurityKind::Migrated, None, &detail));
        }
    }

    /// Counts what may happen again and again; whether [`Inner::write_counts`] should be called.
    pub(crate) fn count(&self, scope: Scope, news: News, times: u64) -> bool {
        !self.is_read_only() && self.counts.add(scope, news, times)
    }

    /// Writes down what has been counted and is due; all of it before the profile is closed.
    pub(crate) fn write_counts(&self, all_of_it: bool) {
        let _writing = self.counts.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let due = self.counts.take(all_of_it);
        if due.is_empty() {
            return;
        }
        let now = self.env.now();
        let written = self.write_db(|db| {
            let mut written = Vec::new();
            for (scope, news, since) in &due {
                written.push(self.add_count(db, (*scope, news, *since), now)?);
            }
            Ok(written)
        });
        match written {
            Ok(written) => {
                let counted = due.into_iter().zip(written);
                counted.for_each(|((scope, news, _), count)| {
                    self.counts.written(scope, news, count);
                });
            }
            Err(_) => {
                for (scope, news, since) in due {
                    self.counts.add(scope, news, since);
                }
            }
        }
    }

    fn add_count(
        &self,
        db: &Connection,
        (scope, news, since): (Scope, &News, u64),
        now: Timestamp,
    ) -> Result<u64> {
        let (mut scope, mut news, mut before) = (scope, news.clone(), 0);
        for _ in 0..2 {
            before = table::count(db, scope, &news)?;
            if before > 0 || table::counted(db)? < SECURITY_COUNTS_MAX {
                break;
            }
            (scope, news) = (Scope::Profile, rest_of(&news));
        }
        let count = before.saturating_add(since).min(i64::MAX.unsigned_abs());
        if doubles(before, since) {
            self.append(db, &self.vault, scope, &news, count, now)?;
        }
        table::set_count(db, scope, &table::Count { news, count, last_at: now })?;
        Ok(count)
    }

    /// Adds an event to its chain, in the transaction that is under way.
    pub(crate) fn append(
        &self,
        db: &Connection,
        vault: &Vault,
        scope: Scope,
        news: &News,
        count: u64,
        now: Timestamp,
    ) -> Result<()> {
        let key = self.log_key(db, vault, scope)?;
        let mut before = end_of(db, scope, &key)?;
        if before.lost {
            let lost = News::new(SecurityKind::Repaired, None, "the event that was here");
            before.link = Some(add(db, scope, &key, &Event::next(before.link(), &lost, 1, now))?);
        }
        add(db, scope, &key, &Event::next(before.link(), news, count, now))?;
        if let Some(tell) = self.counts.told.get() {
            tell();
        }
        Ok(table::trim(db, scope, SECURITY_EVENTS_MAX)?)
    }

    /// Takes down news of devices, each that is told apart now and whenever its count doubles.
    /// Of what is about the devices of one branch no more is told apart than is left for others.
    fn note_devices(&self, scope: Scope, news: Vec<News>, roster: &Roster) -> Result<()> {
        let known = self.with_db(|db| Ok(table::counts(db, scope)?))?;
        let mut apart: BTreeSet<News> = known.into_iter().map(|count| count.news).collect();
        for news in news {
            let Some(device) = news.device.filter(|_| !apart.contains(&news)) else {
                self.count(scope, news, 1);
                continue;
            };
            let branch = roster.branch_of(&device);
            let is_alike = |other: &&News| {
                let of = other.device.map(|device| roster.branch_of(&device));
                other.kind == news.kind && of == Some(branch)
            };
            let is_full = apart.iter().filter(is_alike).count() >= SECURITY_BRANCH_MAX;
            let news = if is_full {
                News::new(news.kind, Some(branch), "and others that it let in")
            } else {
                news
            };
            self.count(scope, news.clone(), 1);
            apart.insert(news);
        }
        self.write_counts(false);
        Ok(())
    }

    /// The key that signs a chain: this device's in the space, or one for the profile's own.
    fn log_key(&self, db: &Connection, vault: &Vault, scope: Scope) -> Result<DeviceSigningKey> {
        let purpose = match scope {
            Scope::Space(space) => key_purpose(&space, SIGNING),
            Scope::Profile => OWN_KEY.to_owned(),
        };
        let secret = match (profile_table::key(db, &purpose)?, scope) {
            (Some(wrapped), _) => vault.open(&purpose, &wrapped)?,
            (None, Scope::Space(_)) => {
                return Err(Error::Corrupt(format!("the key '{purpose}' is missing")));
            }
            (None, Scope::Profile) => {
                let entropy = &mut *self.env.entropy();
                let secret: Secret<32> = Secret::random(entropy);
                let wrapped = vault.seal(entropy, &purpose, secret.expose());
                profile_table::set_key(db, &purpose, &wrapped)?;
                secret
            }
        };
        Ok(DeviceSigningKey::from_secret(&secret))
    }

    /// A chain, verified.
    fn chain(&self, db: &Connection, scope: Scope) -> Result<Vec<(Event, [u8; 64])>> {
        let events = table::events(db, scope)?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let signer = match scope {
            Scope::Space(id) => profile_table::space(db, &id)?.map(|space| space.device),
            Scope::Profile => None,
        };
        let signer = match signer {
            Some(device) => device,
            None => self.log_key(db, &self.vault, scope)?.device_id(),
        };
        let mut chain = Chain::new(scope, signer);
        let read = |signed: table::SignedEvent| {
            let event = chain.read(&signed.event, &signed.signature).map_err(|e| damaged(&e))?;
            Ok((event, signed.signature))
        };
        events.into_iter().map(read).collect()
    }

    /// The chains that there are, with the spaces' names.
    fn scopes(db: &Connection) -> Result<Vec<(Scope, Option<SpaceName>)>> {
        let spaces = profile_table::spaces(db)?.into_iter();
        let joined = spaces.filter(|space| space.state != Membership::Joining);
        let of_spaces = joined.map(|space| (Scope::Space(space.space), Some(space.name)));
        Ok(std::iter::once((Scope::Profile, None)).chain(of_spaces).collect())
    }

    /// Sees whether the key file is the one that was there the last time, and notes it if not.
    pub(crate) fn compare_key_file(&self) -> Result<()> {
        let Some(dir) = self.storage.dir() else { return Ok(()) };
        let Some(bytes) = key_file::bytes(dir)? else { return Ok(()) };
        let digest = sha256(&[&bytes]);
        let now = self.env.now();
        let known = self.with_db(|db| Ok(profile_table::setting(db, KEY_FILE)?))?;
        if known.as_deref() == Some(digest.as_bytes().as_slice()) {
            return Ok(());
        }
        self.write_db(|db| {
            profile_table::set_setting(db, KEY_FILE, digest.as_bytes())?;
            let Some(_) = known else { return Ok(()) };
            let news = News::new(SecurityKind::UnlockChanged, None, "profile.key is another");
            self.append(db, &self.vault, Scope::Profile, &news, 1, now)
        })
    }
}

impl Profile {
    /// `tell` is called whenever [`Profile::security`] has one event more, on the thread that
    /// writes it down, shortly before that is done: it must not block, and who reads the log then
    /// waits for it. The first call counts.
    pub fn on_security(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.inner.counts.told.set(Box::new(tell));
    }

    /// The security log: what happened to this device in its spaces, and to its profile. It is this
    /// device's own, and no other has it. Each chain is verified as it is read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a chain does not verify; the storage's errors.
    pub fn security(&self) -> Result<SecurityLog> {
        self.inner.write_counts(true);
        let (mut log, mut events) = (SecurityLog::default(), Vec::new());
        self.inner.with_db(|db| {
            for (scope, space) in Inner::scopes(db)? {
                let chain = self.inner.chain(db, scope)?;
                log.dropped += chain.first().map_or(0, |(event, _)| event.seq.saturating_sub(1));
                // A clock that was set back does not change the order within a chain.
                let mut latest = Timestamp(0);
                for (event, _) in &chain {
                    latest = latest.max(Timestamp(event.at_ms));
                    events.extend(shown(event, space.as_ref()).map(|event| (latest, event)));
                }
                log.counts.extend(table::counts(db, scope)?.into_iter().map(|count| {
                    let table::Count { news, count, last_at } = count;
                    let News { kind, device, detail } = news;
                    SecurityCount { space: space.clone(), kind, device, detail, count, last_at }
                }));
            }
            Ok(())
        })?;
        events.sort_by_key(|(at, _)| *at);
        log.events = events.into_iter().map(|(_, event)| event).collect();
        Ok(log)
    }

    /// Somebody has looked at the security log.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; the storage's errors.
    pub fn security_seen(&self) -> Result<()> {
        self.inner.write_db(|db| {
            for (scope, _) in Inner::scopes(db)? {
                let last = self.inner.chain(db, scope)?.last().map_or(0, |(event, _)| event.seq);
                profile_table::set_setting(db, &seen_name(scope), &last.to_be_bytes())?;
            }
            Ok(())
        })
    }

    /// How many events are new, and the `latest` newest.
    ///
    /// # Errors
    /// The storage's errors. A chain that does not verify is told of in the answer.
    pub fn security_summary(&self, latest: usize) -> Result<SecuritySummary> {
        let mut log = match self.security() {
            Err(Error::Corrupt(what)) => {
                return Ok(SecuritySummary { damaged: Some(what), ..SecuritySummary::default() });
            }
            log => log?,
        };
        let seen = self.inner.with_db(|db| {
            let seen = |(scope, space): (Scope, Option<SpaceName>)| {
                let bytes = profile_table::setting(db, &seen_name(scope))?;
                let seq =
                    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
                Ok((space, seq))
            };
            Inner::scopes(db)?.into_iter().map(seen).collect::<Result<BTreeMap<_, _>>>()
        })?;
        let is_new = |event: &&SecurityEvent| seen.get(&event.space).is_none_or(|s| event.seq > *s);
        let new = log.events.iter().filter(is_new).count() as u64;
        log.events.reverse();
        log.events.truncate(latest);
        Ok(SecuritySummary { new, latest: log.events, damaged: None })
    }

    /// A device was turned away that asked to connect: `detail` says why, in words of this
    /// program's. Whether [`Profile::write_security_counts`] should be called; this does not block.
    pub fn count_refusal(&self, detail: &str) -> bool {
        let news = News::new(SecurityKind::SessionRefused, None, detail);
        self.inner.count(Scope::Profile, news, 1)
    }

    /// Writes down what was counted and is due.
    pub fn write_security_counts(&self) {
        self.inner.write_counts(false);
    }
}

impl Space {
    /// A session with this peer was refused, or ended for what it sent. Blocks only when it is time
    /// to write that down.
    pub fn count_refusal(&self, peer: &TransportId, detail: &str) -> bool {
        let Ok(published) = self.shared.published() else { return false };
        let device = published.roster.by_transport(peer).map(|(id, _)| *id);
        let news = News::new(SecurityKind::SessionRefused, device, detail);
        self.shared.profile.count(Scope::Space(self.id()), news, 1)
    }

    /// Whether a device that was shut out has this transport key, and no device of the space.
    pub fn is_shut_out(&self, peer: &TransportId) -> Option<DeviceId> {
        let published = self.shared.published().ok()?;
        if published.roster.by_transport(peer).is_some() {
            return None;
        }
        let mut revoked = published.roster.revoked();
        revoked.find(|(_, device)| device.keys.transport == *peer).map(|(id, _)| *id)
    }

    /// A device that was shut out asked to connect. Whether [`Profile::write_security_counts`]
    /// should be called.
    pub fn count_shut_out(&self, device: DeviceId) -> bool {
        let what = "shut out; its key was shown, which anybody can";
        let news = News::new(SecurityKind::SessionRefused, Some(device), what);
        self.shared.profile.count(Scope::Space(self.id()), news, 1)
    }

    /// Something of the space is about to leave its encrypted files: `what` says what, in a word or
    /// two of the program's.
    pub fn note_export(&self, what: &str) {
        self.shared.note(SecurityKind::Exported, None, what);
    }

    /// This space's events, as an export of receipts has them.
    pub(crate) fn security_lines(&self) -> Result<Vec<SecurityLine>> {
        let (profile, scope) = (&self.shared.profile, Scope::Space(self.id()));
        let chain = profile.with_db(|db| profile.chain(db, scope))?;
        let line = |(event, signature): &(Event, _)| SecurityLine::new(event, signature);
        let lines: Option<Vec<_>> = chain.iter().map(line).collect();
        lines.ok_or_else(|| Error::Corrupt("the security log has events of a newer version".into()))
    }
}

impl Shared {
    pub(crate) fn note(&self, kind: SecurityKind, device: Option<DeviceId>, detail: &str) {
        self.profile.note(Scope::Space(self.id), &News::new(kind, device, detail));
    }

    /// Takes down writings that counted for nothing, by author and cause.
    pub(crate) fn note_refused(&self, refused: BTreeMap<(DeviceId, VoidCause), u64>) {
        let mut is_due = false;
        for ((device, cause), times) in refused {
            let news = News::new(SecurityKind::WriteRefused, Some(device), cause.name());
            is_due |= self.profile.count(Scope::Space(self.id), news, times);
        }
        if is_due {
            self.profile.write_counts(false);
        }
    }

    /// Takes down what is new of the devices and their keys.
    pub(crate) fn note_changes(&self, before: &Published, now: &Published) {
        // All others are new to one that has just joined.
        if before.roster.known(&self.keys.device()).is_none() {
            return;
        }
        let mut news = Vec::new();
        for (id, device) in now.roster.devices() {
            let standing = || format!("{}, {:?}", device.role, device.clearance).to_lowercase();
            match before.roster.device(id) {
                None => news.push(News::new(SecurityKind::Enrolled, Some(*id), &standing())),
                Some(old) if (old.role, old.clearance) != (device.role, device.clearance) => {
                    news.push(News::new(SecurityKind::RoleChanged, Some(*id), &standing()));
                }
                Some(_) => {}
            }
        }
        for (id, _) in before.roster.devices().filter(|(id, _)| now.roster.device(id).is_none()) {
            news.push(News::new(SecurityKind::Revoked, Some(*id), ""));
        }
        for (_, epoch) in now.roster.epochs().filter(|(id, _)| before.roster.epoch(id).is_none()) {
            let opener = Some(epoch.opened_by.device);
            news.push(News::new(SecurityKind::Rotated, opener, "content secrets"));
        }
        for device in now.stopped.difference(&before.stopped) {
            news.push(News::new(SecurityKind::Forked, Some(*device), ""));
        }
        if !news.is_empty() && !self.profile.is_read_only() {
            // Nothing fails because it cannot be noted.
            let _ = self.profile.note_devices(Scope::Space(self.id), news, &now.roster);
        }
    }
}

/// Where a chain ends.
struct End {
    link: Option<Link>,
    /// An event behind that was damaged, and is gone now.
    lost: bool,
}

impl End {
    const fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }
}

/// Where a chain goes on. If its last event is damaged, and the one before it is not, that goes:
/// else nothing could ever be noted again.
fn end_of(db: &Connection, scope: Scope, key: &DeviceSigningKey) -> Result<End> {
    let mut newest = table::newest(db, scope, 2)?.into_iter();
    let read = |(seq, event): (u64, table::SignedEvent)| {
        let mut chain = Chain::new(scope, key.device_id());
        let read = chain.read(&event.event, &event.signature);
        let read =
            read.and_then(|of| if of.seq == seq { Ok(of) } else { Err(BadEvent::NotNext(seq)) });
        read.map(|_| chain.end()).map_err(|e| damaged(&e))
    };
    let Some(last) = newest.next() else { return Ok(End { link: None, lost: false }) };
    let seq = last.0;
    match (read(last), newest.next()) {
        (Ok(link), _) => Ok(End { link, lost: false }),
        (Err(_), Some(before)) => {
            let link = read(before)?;
            table::remove(db, scope, seq)?;
            Ok(End { link, lost: true })
        }
        (Err(error), None) => Err(error),
    }
}

/// Signs an event and adds it to its chain.
fn add(db: &Connection, scope: Scope, key: &DeviceSigningKey, event: &Event) -> Result<Link> {
    let signed = table::SignedEvent { event: event.encode(), signature: event.sign(scope, key) };
    table::add(db, scope, event.seq, &signed)?;
    Ok(event.link(scope))
}

/// As people see it; none for an event of a newer version.
fn shown(event: &Event, space: Option<&SpaceName>) -> Option<SecurityEvent> {
    let Event { seq, at_ms, device, ref detail, count, .. } = *event;
    let (space, at, detail) = (space.cloned(), Timestamp(at_ms), detail.clone());
    Some(SecurityEvent { space, seq, at, kind: event.kind()?, device, detail, count })
}

fn seen_name(scope: Scope) -> String {
    format!("security seen/{}", larder_types::hex(&scope.to_bytes()))
}

fn damaged(error: &BadEvent) -> Error {
    Error::Corrupt(format!("the security log is damaged: {error}"))
}

/// What signs the profile's own chain.
const OWN_KEY: &str = "security";
/// The digest of the key file that was there the last time.
pub(crate) const KEY_FILE: &str = "key file";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use larder_store::migrate::PROFILE;

    use super::*;
    use crate::durability_tests::World;
    use crate::{Access, ProfileOptions, Unlock};

    fn unlock(n: u8) -> Unlock {
        Unlock::Key(Secret::new([n; 32]))
    }

    fn create(dir: &std::path::Path) -> Profile {
        let env = Arc::new(World(AtomicU64::new(1)));
        Profile::create(env, dir, &unlock(7), ProfileOptions::default()).unwrap()
    }

    fn open(dir: &std::path::Path, key: u8) -> Profile {
        let env = Arc::new(World(AtomicU64::new(1 << 40)));
        let access = Access::ReadWrite;
        Profile::open(env, dir, &unlock(key), access, ProfileOptions::default()).unwrap()
    }

    fn kinds(profile: &Profile) -> Vec<(SecurityKind, String)> {
        let events = profile.security().unwrap().events;
        events.into_iter().map(|event| (event.kind, event.detail)).collect()
    }

    #[test]
    fn a_count_is_written_when_it_doubles() {
        let due: Vec<u64> = (0..40).filter(|before| doubles(*before, 1)).collect();
        assert_eq!(due, [0, 1, 3, 7, 15, 31]);
        assert!(doubles(5, 100) && !doubles(64, 63) && !doubles(u64::MAX, 1));
    }

    #[test]
    fn a_log_that_was_changed_beneath_is_told_of() {
        let change = [
            "UPDATE security SET event = x'00' WHERE seq = 2",
            "DELETE FROM security WHERE seq = 2",
            "UPDATE security SET signature = zeroblob(64) WHERE seq = 3",
            "UPDATE security SET event = (SELECT event FROM security WHERE seq = 1) WHERE seq = 3",
        ];
        for change in change {
            let dir = tempfile::tempdir().unwrap();
            let profile = create(dir.path());
            for n in 0..4 {
                let news = News::new(SecurityKind::Exported, None, &n.to_string());
                profile.inner.note(Scope::Profile, &news);
            }
            profile.check().unwrap();
            assert_eq!(profile.security_summary(9).unwrap().new, 4);
            let changed = profile.inner.with_db(|db| Ok(db.execute(change, []).unwrap()));
            assert_eq!(changed.unwrap(), 1, "{change}");
            assert!(matches!(profile.check(), Err(Error::Corrupt(_))), "{change}");
            assert!(matches!(profile.security(), Err(Error::Corrupt(_))), "{change}");
            let summary = profile.security_summary(9).unwrap();
            assert!(summary.damaged.is_some() && summary.latest.is_empty(), "{change}");
        }
    }

    /// One bad byte in the last event, and nothing was noted any more in that chain, by no word of
    /// anybody. What is damaged further back stays as it is, and is told of.
    #[test]
    fn a_damaged_last_event_does_not_keep_others_out() {
        let change = [
            "UPDATE security SET event = x'00' WHERE seq = 3",
            "UPDATE security SET signature = zeroblob(64) WHERE seq = 3",
            "UPDATE security SET event = (SELECT event FROM security WHERE seq = 1),
             signature = (SELECT signature FROM security WHERE seq = 1) WHERE seq = 3",
        ];
        let note = |profile: &Profile, what| {
            profile.inner.note(Scope::Profile, &News::new(SecurityKind::Exported, None, what));
        };
        let damage = |profile: &Profile, change: &str| {
            let changed = profile.inner.with_db(|db| Ok(db.execute(change, []).unwrap()));
            assert_eq!(changed.unwrap(), 1, "{change}");
            assert!(matches!(profile.check(), Err(Error::Corrupt(_))), "{change}");
        };
        for change in change {
            let dir = tempfile::tempdir().unwrap();
            let profile = create(dir.path());
            note(&profile, "1");
            note(&profile, "2");
            note(&profile, "3");
            damage(&profile, change);
            note(&profile, "4");
            profile.check().unwrap();
            let exported = |what: &str| (SecurityKind::Exported, what.to_owned());
            let lost = (SecurityKind::Repaired, "the event that was here".to_owned());
            let expected = [exported("1"), exported("2"), lost, exported("4")];
            assert_eq!(kinds(&profile), expected, "{change}");
        }
        let dir = tempfile::tempdir().unwrap();
        let profile = create(dir.path());
        note(&profile, "1");
        note(&profile, "2");
        note(&profile, "3");
        note(&profile, "4");
        damage(&profile, "UPDATE security SET signature = zeroblob(64) WHERE seq > 3");
        damage(&profile, "UPDATE security SET signature = zeroblob(64) WHERE seq = 3");
        note(&profile, "5");
        assert!(matches!(profile.security(), Err(Error::Corrupt(_))));
    }

    /// The power failed between the change of the key file and its note.
    #[test]
    fn another_key_file_is_noted_at_the_latest_when_it_has_opened_the_profile() {
        let dir = tempfile::tempdir().unwrap();
        let profile = create(dir.path());
        profile.close().unwrap();
        let changed = (SecurityKind::UnlockChanged, "profile.key is another".to_owned());
        let key_file = dir.path().join("profile.key");
        let old = fs::read(&key_file).unwrap();
        let profile = open(dir.path(), 7);
        assert_eq!(kinds(&profile), []);
        profile.change_unlock(&unlock(7), &unlock(8)).unwrap();
        assert_eq!(kinds(&profile), std::slice::from_ref(&changed));
        profile.close().unwrap();
        let profile = open(dir.path(), 8);
        assert_eq!(kinds(&profile), std::slice::from_ref(&changed));
        profile.close().unwrap();
        // Somebody puts the old one back.
        fs::write(&key_file, old).unwrap();
        let profile = open(dir.path(), 7);
        assert_eq!(kinds(&profile), [changed.clone(), changed.clone()]);
        profile.close().unwrap();

        let env = Arc::new(World(AtomicU64::new(2 << 40)));
        Profile::purge(env, dir.path(), &unlock(7), Some(&unlock(9)), &mut |_| {}).unwrap();
        let profile = open(dir.path(), 9);
        let purged = (SecurityKind::Rotated, "purge: every key at rest".to_owned());
        assert_eq!(kinds(&profile), [changed.clone(), changed, purged]);
        profile.close().unwrap();
    }

    #[test]
    fn a_migration_is_noted_and_a_new_profile_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let profile = create(dir.path());
        assert_eq!(kinds(&profile), []);
        let back = |db: &mut Connection| Ok(PROFILE.revert_to(db, 2)?);
        profile.inner.with_db_mut(back).unwrap();
        let _ = profile.close();
        let profile = open(dir.path(), 7);
        let expected = format!("profile, from 2 to {}", PROFILE.version());
        assert_eq!(kinds(&profile), [(SecurityKind::Migrated, expected)]);
    }
}
