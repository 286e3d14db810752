//! Which secrets this device seals under, and when it lets go of those that nobody seals under any
//! more: steps, epochs, and its own sealing keys.
//!
//! Invariants: a secret goes only once no entry that is sealed under it can still turn up, and what
//! is sealed under it here is kept opened before, in the same transaction at the latest; a sealing
//! key is durable before it is announced, and the one before it goes only once every device is
//! known to seal to the new one.

use std::collections::BTreeMap;

use larder_crypto::{SUITE, SealingKey, SealingPublic, Secret};
use larder_log::act::{Act, EpochAct, SealingKeyAct};
use larder_log::epoch::{BandSecret, EpochSecrets, receive_epoch};
use larder_log::roster::Epoch;
use larder_log::{Band, Class, Header, Payload, kind};
use larder_store::space::sections::{self, Section};
use larder_store::space::{control, entries};
use larder_types::limits::{EPOCH_STEPS, STEP_ENTRIES, STEP_MAX, STEP_MS_MAX, STEPS_NOTED_MAX};
use larder_types::{DeviceId, EpochId, Timestamp};
use minicbor::{Decode, Encode};
use rusqlite::Connection;

use crate::state::State;
use crate::vault::Vault;
use crate::{Error, Result};

/// How far the devices that write to an epoch are, as far as is known here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Steps {
    /// The highest step of an entry.
    #[n(0)]
    last: u32,
    /// Own entries at it.
    #[n(1)]
    entries: u32,
    /// Since when this device knows of it, by its own clock.
    #[n(2)]
    since: Option<Timestamp>,
    /// The first entry that was seen of a step, for some of those whose predecessors are not
    /// forgotten yet.
    #[n(3)]
    begun: Vec<(u32, DeviceId, u64)>,
}

impl Steps {
    fn note(&mut self, header: &Header, is_own: bool, now: Timestamp) {
        let _ = self.since.get_or_insert(now);
        if header.step > self.last {
            (self.last, self.entries, self.since) = (header.step, 0, Some(now));
            self.begun.push((header.step, header.device, header.seq));
            if self.begun.len() > STEPS_NOTED_MAX {
                let mut at = 0..;
                self.begun.retain(|_| at.next().is_none_or(|at: usize| at.is_multiple_of(2)));
            }
        }
        self.entries = self.entries.saturating_add(u32::from(is_own));
    }

    /// The step of the next entry.
    fn next(&self, now: Timestamp) -> u32 {
        let since = self.since.unwrap_or(now);
        let is_old = now.0.saturating_sub(since.0) >= STEP_MS_MAX && self.entries > 0;
        let is_over = is_old || self.entries >= STEP_ENTRIES;
        (self.last + u32::from(is_over)).min(STEP_MAX)
    }

    /// Whether a step above this one was seen.
    fn is_beyond(&self, first: u32) -> bool {
        self.begun.iter().any(|(step, ..)| *step > first)
    }

    /// Before which step secrets can go: once an entry of a step is stable, whoever still writes
    /// does so at that step or later.
    fn forgettable(&self, stable: &BTreeMap<DeviceId, u64>) -> u32 {
        let is_stable = |(_, device, seq): &&(u32, DeviceId, u64)| {
            stable.get(device).is_some_and(|end| seq <= end)
        };
        self.begun.iter().filter(is_stable).map(|(step, ..)| *step).max().unwrap_or(0)
    }
}

/// What of an epoch's secrets goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    Before(u32),
    All,
}

impl Forgotten {
    fn covers(self, step: u32) -> bool {
        match self {
            Self::Before(first) => step < first,
            Self::All => true,
        }
    }
}

/// What can be forgotten: secrets, and the sealing key before the last.
#[derive(Debug, Default)]
struct Forgettable {
    secrets: BTreeMap<EpochId, Forgotten>,
    key: bool,
}

/// Forgetting under way.
#[derive(Debug, Default)]
pub(crate) struct Forgetting {
    goal: BTreeMap<EpochId, Forgotten>,
    /// The last section that was looked at.
    looked_at: i64,
    /// The first that has to be looked at the next time.
    next_time: Option<i64>,
}

impl State {
    /// The epoch and the step of the next entry.
    pub(crate) fn next_seal(&mut self) -> (EpochId, u32) {
        let Some(epoch) = self.epoch else { return (EpochId::new([0; 32]), 0) };
        let steps = self.steps.get(&epoch);
        // Who is alone has sent nothing that could have been recorded.
        let is_alone = self.roster.epoch(&epoch).is_none_or(|epoch| epoch.recipients.len() < 2);
        let step = match steps {
            Some(steps) if is_alone => steps.last,
            Some(steps) => steps.next(self.shared.env.now()),
            None => 0,
        };
        // A file that was made anew has the secrets without what was known of the steps.
        let first = self.keyring.secrets(&epoch).map_or(0, EpochSecrets::first_step);
        let step = step.max(first);
        self.keyring.remember(&epoch, step);
        (epoch, step)
    }

    /// An entry is here.
    pub(crate) fn note_step(&mut self, header: &Header) {
        let may = self.may_write_at(&header.device, header.seq);
        if !may || !self.keyring.holds(&header.epoch) {
            return;
        }
        let (is_own, now) = (header.device == self.device(), self.shared.env.now());
        let steps = self.steps.entry(header.epoch).or_default();
        let before = steps.begun.len();
        steps.note(header, is_own, now);
        if steps.begun.len() != before {
            self.news.secrets.is_new = true;
            self.keyring.remember(&header.epoch, header.step);
            self.unpublish();
        }
    }

    /// Whether the epoch that is written to has lasted long enough, or another was opened beside it
    /// for other devices, by who did not know yet who is cleared for what: nobody writes to that,
    /// and as long as nothing supersedes it its secrets stay.
    pub(crate) fn is_epoch_over(&self) -> bool {
        let steps = self.epoch.and_then(|epoch| self.steps.get(&epoch));
        self.epoch_beside.is_some() || steps.is_some_and(|steps| steps.last >= EPOCH_STEPS)
    }

    /// The key that secrets are sealed to for a device.
    pub(crate) fn sealing_key(&self, device: &DeviceId) -> Option<SealingPublic> {
        let announced = self.announced.get(device).map(|announced| announced.key.clone());
        announced.or_else(|| Some(self.roster.device(device)?.keys.sealing.clone()))
    }

    pub(crate) fn take_announced(&mut self, header: &Header, act: &SealingKeyAct) {
        let Header { device, seq, epoch, .. } = *header;
        let is_later = self.announced.get(&device).is_none_or(|before| before.seq < seq);
        if is_later {
            self.announced.insert(device, Announced { key: act.sealing.clone(), seq, epoch });
            self.news.secrets.is_new = true;
        }
    }

    pub(crate) fn take_epoch(
        &mut self,
        db: &Connection,
        header: &Header,
        act: &EpochAct,
    ) -> Result<()> {
        let epoch = EpochId::from(header.hash());
        if control::epoch(db, &epoch)?.is_some() {
            return Ok(());
        }
        let (me, opener) = (self.device(), header.device);
        // An envelope that does not open gives no secret; its sections wait for another way.
        let secrets = self.shared.keys.sealing.with(|keys| {
            let received = |key| receive_epoch(&header.space, opener, act, me, key).ok().flatten();
            keys.iter().rev().find_map(received)
        });
        let wrapped = secrets.as_ref().and_then(|secrets| self.wrap(&epoch, secrets));
        let act = Act::Epoch(act.clone()).to_body();
        control::add_epoch(db, &control::Epoch { epoch, opener, act, wrapped })?;
        if let Some(secrets) = secrets {
            self.gain(epoch, secrets);
        }
        Ok(())
    }

    fn gain(&mut self, epoch: EpochId, secrets: EpochSecrets) {
        self.keyring.insert(epoch, secrets);
        self.news.secrets.is_new = true;
        // What came sealed before opens now, and is to be kept opened one day.
        if self.unread {
            self.opened_to = None;
            self.forgetting = None;
        }
    }

    /// Lets go of secrets above the clearance: who opens an epoch may not have heard yet that it
    /// was lowered. Only once it is settled, as what raises it may come with the epoch.
    pub(crate) fn forget_above(&mut self, db: &Connection) -> Result<()> {
        for epoch in self.keyring.forget_above(self.clearance) {
            self.shared.left.note();
            let secrets = self.keyring.secrets(&epoch);
            let wrapped = secrets.and_then(|secrets| self.wrap(&epoch, secrets));
            control::set_epoch_secrets(db, &epoch, wrapped.as_deref())?;
            self.unpublish();
        }
        Ok(())
    }

    /// Takes an epoch's secrets over from a file of the space that was set aside.
    pub(crate) fn salvage_secrets(
        &mut self,
        db: &Connection,
        epoch: &control::Epoch,
        vault: &Vault,
    ) -> Result<()> {
        let name = epoch.epoch;
        let Some(wrapped) = epoch.wrapped.as_ref().filter(|_| !self.keyring.holds(&name)) else {
            return Ok(());
        };
        let Ok(secrets) = unwrap(vault, &name, wrapped) else { return Ok(()) };
        let wrapped = self.wrap(&name, &secrets);
        if control::epoch(db, &name)?.is_some() {
            control::set_epoch_secrets(db, &name, wrapped.as_deref())?;
        } else {
            control::add_epoch(db, &control::Epoch { wrapped, ..epoch.clone() })?;
        }
        self.gain(name, secrets);
        self.pending.retries = true;
        self.choose_epoch();
        self.unpublish();
        Ok(())
    }

    /// The secrets of the first step that is held, sealed; the later ones derive from them.
    pub(crate) fn wrap(&self, epoch: &EpochId, secrets: &EpochSecrets) -> Option<Vec<u8>> {
        let step = secrets.first_step();
        let highest = secrets.bands().iter().map(BandSecret::band).max()?;
        let mut plain = zeroize::Zeroizing::new([0; WRAPPED_BYTES]);
        let (head, rest) = plain.split_first_chunk_mut::<5>()?;
        let [band, of_step @ ..] = head;
        (*band, *of_step) = (highest as u8, step.to_be_bytes());
        for (band, place) in Band::SHARED.into_iter().zip(rest.chunks_exact_mut(32)) {
            if let Some(secret) = secrets.at(band, step) {
                place.copy_from_slice(secret.secret().expose());
            }
        }
        let mut entropy = self.shared.env.entropy();
        Some(self.shared.home().vault.seal(&mut *entropy, &epoch_purpose(epoch), &*plain))
    }
}

/// A band, a step, and that step's secrets of the bands up to that one, the lowest first.
const WRAPPED_BYTES: usize = 1 + 4 + 3 * 32;

pub(crate) fn epoch_purpose(epoch: &EpochId) -> String {
    format!("epoch/{epoch}")
}

/// Opens what [`State::wrap`] sealed.
pub(crate) fn unwrap(vault: &Vault, epoch: &EpochId, wrapped: &[u8]) -> Result<EpochSecrets> {
    let corrupt = || Error::Corrupt("an epoch's secret has another form".into());
    let plain = vault.open::<WRAPPED_BYTES>(&epoch_purpose(epoch), wrapped)?;
    let (head, rest) = plain.expose().split_first_chunk::<5>().ok_or_else(corrupt)?;
    let [band, step @ ..] = *head;
    let highest = Band::from_u8(band).ok_or_else(corrupt)?;
    let step = u32::from_be_bytes(step);
    let all = Band::SHARED.into_iter().zip(rest.chunks_exact(32));
    let bands = all.filter(|(band, _)| *band <= highest).map(|(band, secret)| {
        Ok(BandSecret::new(band, step, Secret::from_slice(secret).ok_or_else(corrupt)?))
    });
    Ok(EpochSecrets::new(bands.collect::<Result<_>>()?))
}

/// A sealing key that a device announced.
#[derive(Debug, Clone)]
pub(crate) struct Announced {
    key: SealingPublic,
    /// The entry that says so, and the epoch that this was sealed in.
    seq: u64,
    epoch: EpochId,
}

/// The last sealing key that each device has announced.
pub(crate) fn load_announced(db: &Connection) -> Result<BTreeMap<DeviceId, Announced>> {
    let mut announced = BTreeMap::new();
    for stored in control::acts_of_kind(db, kind::SEALING_KEY)? {
        let act = Act::from_body_unchecked(stored.kind, &stored.body);
        let Ok(Some(Act::SealingKey(act))) = act else { continue };
        let seq = stored.place.seq;
        let header = entries::find(db, stored.place.log, seq)?
            .and_then(|entry| Header::decode(&entry.header).ok())
            .ok_or_else(|| Error::Corrupt("an act's entry is missing".into()))?;
        let is_later =
            announced.get(&header.device).is_none_or(|before: &Announced| before.seq < seq);
        if is_later {
            let found = Announced { key: act.sealing, seq, epoch: header.epoch };
            announced.insert(header.device, found);
        }
    }
    Ok(announced)
}

impl State {
    /// Whether this device has a sealing key to announce: one for each epoch, since who comes by a
    /// key opens with it every epoch that was sealed to it.
    fn must_announce(&self) -> bool {
        let me = self.device();
        let is_shared = |epoch: &EpochId| {
            self.roster.epoch(epoch).is_some_and(|epoch| epoch.recipients.len() > 1)
        };
        let Some(epoch) = self.epoch.filter(is_shared) else { return false };
        self.roster.device(&me).is_some()
            && self.shared.may_append()
            && self.announced.get(&me).is_none_or(|own| own.epoch != epoch)
            // One after the other: what goes before it has to be forgotten first.
            && self.shared.keys.sealing.with(|keys| self.is_unannounced(keys))
    }

    fn is_unannounced(&self, keys: &[SealingKey]) -> bool {
        let announced = self.announced.get(&self.device()).map(|own| &own.key);
        keys.len() == 1 || keys.last().map(SealingKey::public).as_ref() != announced
    }

    /// Appends what forgetting waits for: another sealing key of this device's, or that it has
    /// nothing to say. Whether it did.
    pub(crate) fn say_for_forgetting(&mut self, db: &Connection) -> Result<bool> {
        if !self.must_announce() {
            let is_awaited = self.is_awaited();
            if is_awaited {
                self.append_nothing(db)?;
            }
            return Ok(is_awaited);
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let sealing = shared.profile.next_sealing(&shared.id, &shared.keys.sealing)?;
        let v = larder_log::VERSION;
        self.append_act(db, &Act::SealingKey(SealingKeyAct { v, suite: SUITE, sealing }))?;
        self.sign(db)?;
        Ok(true)
    }

    /// Whether others wait for this device's log to name something before they forget secrets.
    pub(crate) fn is_awaited(&self) -> bool {
        let me = self.device();
        let may_write = self.roster.device(&me).is_some_and(|own| own.role.may_write());
        if !may_write || !self.shared.may_append() || !self.has_unnamed() {
            return false;
        }
        let begun = self.steps.values().flat_map(|steps| steps.begun.iter());
        let begun = begun.map(|(_, device, seq)| (*device, *seq));
        let announced = self.announced.iter().map(|(device, own)| (*device, own.seq));
        let superseding = self.superseded().into_values().flatten();
        let is_unnamed = |(device, seq): (DeviceId, u64)| {
            device != me && self.roster.device(&device).is_some() && !self.has_named(&device, seq)
        };
        begun.chain(announced).chain(superseding).any(is_unnamed)
    }

    /// Whether something may be forgotten once it is stable.
    pub(crate) fn may_forget(&self) -> bool {
        let superseded = self.superseded();
        let is_due = |(epoch, first): (EpochId, u32)| {
            let steps = self.steps.get(&epoch);
            superseded.contains_key(&epoch)
                || steps.is_some_and(|steps| steps.begun.iter().any(|(step, ..)| *step > first))
        };
        self.must_announce() || self.has_old_key() || self.keyring.first_steps().any(is_due)
    }

    fn has_old_key(&self) -> bool {
        self.shared.keys.sealing.with(|keys| keys.len() > 1 && !self.is_unannounced(keys))
    }

    /// Epochs that others replace, with the acts that did.
    fn superseded(&self) -> BTreeMap<EpochId, Vec<(DeviceId, u64)>> {
        let mut superseded: BTreeMap<EpochId, Vec<_>> = BTreeMap::new();
        for (_, epoch) in self.roster.epochs() {
            let by = (epoch.opened_by.device, epoch.opened_by.seq);
            for old in epoch.supersedes.iter().filter(|old| Some(**old) != self.epoch) {
                superseded.entry(*old).or_default().push(by);
            }
        }
        // Of two that were opened beside each other, for the same devices, nobody writes to the one
        // that was not chosen, once all know of the other.
        let chosen = self.epoch.and_then(|epoch| Some((epoch, self.roster.epoch(&epoch)?)));
        if let Some((chosen, of_chosen)) = chosen {
            let by = (of_chosen.opened_by.device, of_chosen.opened_by.seq);
            let is_beside = |(id, epoch): &(&EpochId, &Epoch)| {
                **id != chosen && epoch.recipients == of_chosen.recipients
            };
            for (id, _) in self.roster.epochs().filter(is_beside) {
                superseded.entry(*id).or_default().push(by);
            }
        }
        superseded
    }

    /// What can be forgotten by now.
    fn forgettable(&mut self, db: &Connection) -> Result<Forgettable> {
        let mut found = Forgettable::default();
        if !self.may_forget() {
            return Ok(found);
        }
        let superseded = self.superseded();
        let own = self.announced.get(&self.device()).map(|own| own.seq);
        let own = own.filter(|_| self.has_old_key());
        let may_go = |(epoch, first): (EpochId, u32)| {
            let steps = self.steps.get(&epoch);
            superseded.contains_key(&epoch) || steps.is_some_and(|steps| steps.is_beyond(first))
        };
        if own.is_none() && !self.keyring.first_steps().any(may_go) {
            return Ok(found);
        }
        let stable = self.stable_ends(db)?;
        let is_stable =
            |(device, seq): &(DeviceId, u64)| stable.get(device).is_some_and(|end| seq <= end);
        for (epoch, first) in self.keyring.first_steps() {
            if superseded.get(&epoch).is_some_and(|by| by.iter().any(is_stable)) {
                found.secrets.insert(epoch, Forgotten::All);
            } else if let Some(steps) = self.steps.get(&epoch) {
                let before = steps.forgettable(&stable);
                if before > first {
                    found.secrets.insert(epoch, Forgotten::Before(before));
                }
            }
        }
        found.key = own.is_some_and(|own| is_stable(&(self.device(), own)));
        Ok(found)
    }

    /// Whether there is something to forget by now, or to say that it waits for.
    pub(crate) fn wants_forgetting(&mut self, db: &Connection) -> Result<bool> {
        if self.must_announce() || self.is_awaited() {
            return Ok(true);
        }
        let found = self.forgettable(db)?;
        Ok(found.key || !found.secrets.is_empty())
    }

    fn begin_forgetting(&mut self, db: &Connection) -> Result<Forgetting> {
        let found = self.forgettable(db)?;
        if found.key {
            self.shared.profile.drop_old_sealing(&self.shared.id, &self.shared.keys.sealing)?;
        }
        let looked_at = self.opened_to.unwrap_or(0);
        Ok(Forgetting { goal: found.secrets, looked_at, next_time: None })
    }

    /// Goes on with what is to be forgotten: keeps opened what is sealed here, some `limit`
    /// sections at a time, then lets go of the secrets. Whether nothing is left to do.
    pub(crate) fn forget_some(&mut self, db: &Connection, limit: u32) -> Result<bool> {
        let Some(mut forgetting) = self.forgetting.take() else {
            self.forgetting = Some(self.begin_forgetting(db)?);
            return Ok(false);
        };
        if forgetting.goal.is_empty() {
            return Ok(true);
        }
        let page = sections::page(db, forgetting.looked_at, limit)?;
        let mut bytes = 0;
        for section in &page {
            match self.keep_opened(db, section, &forgetting.goal)? {
                Some(kept) => bytes += kept,
                None => {
                    let _ = forgetting.next_time.get_or_insert(section.section - 1);
                }
            }
            forgetting.looked_at = section.section;
            if bytes >= OPENED_BYTES_TARGET {
                break;
            }
        }
        if !page.is_empty() {
            self.forgetting = Some(forgetting);
            return Ok(false);
        }
        // What replaced it may have become void meanwhile.
        let goal = forgetting.goal.into_iter();
        let is_kept = |epoch: EpochId, goal| Some(epoch) == self.epoch && goal == Forgotten::All;
        let goal: Vec<_> = goal.filter(|(epoch, goal)| !is_kept(*epoch, *goal)).collect();
        for (epoch, forgotten) in goal {
            self.shared.left.note();
            match forgotten {
                Forgotten::All => {
                    self.keyring.remove(&epoch);
                    self.steps.remove(&epoch);
                    control::set_epoch_secrets(db, &epoch, None)?;
                }
                Forgotten::Before(step) => {
                    self.keyring.forget_before(&epoch, step);
                    if let Some(steps) = self.steps.get_mut(&epoch) {
                        steps.begun.retain(|(begun, ..)| *begun > step);
                    }
                    let secrets = self.keyring.secrets(&epoch);
                    let wrapped = secrets.and_then(|secrets| self.wrap(&epoch, secrets));
                    control::set_epoch_secrets(db, &epoch, wrapped.as_deref())?;
                }
            }
        }
        self.opened_to = Some(forgetting.next_time.unwrap_or(forgetting.looked_at));
        self.choose_epoch();
        self.unpublish();
        Ok(true)
    }

    /// Bytes of a section have come that may have been looked at.
    pub(crate) fn note_filled(&mut self, section: &Section) {
        self.opened_to = self.opened_to.map(|to| to.min(section.section - 1));
        self.forgetting = None;
    }

    /// Puts the opened form of a section in the place of the sealed one, if the secret that it is
    /// sealed under goes. Returns how many bytes that were; none if one that stays seals it.
    fn keep_opened(
        &self,
        db: &Connection,
        section: &Section,
        goal: &BTreeMap<EpochId, Forgotten>,
    ) -> Result<Option<usize>> {
        let place = section.place;
        if section.commitment.class == Class::Control as u8 {
            return Ok(Some(0));
        }
        let header = entries::find(db, place.log, place.seq)?
            .and_then(|entry| Header::decode(&entry.header).ok())
            .ok_or_else(|| Error::Corrupt(format!("entry {} has no header", place.seq)))?;
        if !goal.get(&header.epoch).is_some_and(|goal| goal.covers(header.step)) {
            return Ok((!self.keyring.holds(&header.epoch)).then_some(0));
        }
        let Payload::Sealed(sealed) = sections::payload(db, place)? else { return Ok(Some(0)) };
        // What opens for nobody stays as it is: it is void.
        let carried = self.keyring.carry(&header, place.index, &section.commitment, &sealed);
        let Some(carried) = carried else { return Ok(Some(0)) };
        let bytes = carried.len();
        sections::set_payload(db, place, &Payload::Opened(carried))?;
        Ok(Some(bytes))
    }
}

/// Bytes kept opened in one transaction, but for one larger section.
const OPENED_BYTES_TARGET: usize = 4 << 20;

pub(crate) mod disk;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod stolen;
#[cfg(test)]
mod tests;
