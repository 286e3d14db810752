//! What a space's database says of its roster and its secrets.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::roster::Roster;
use larder_log::{Header, ProvenAct, kind};
use larder_store::space::logs::{self, LogId};
use larder_store::space::sections::Place;
use larder_store::space::{control, entries, sections};
use larder_types::DeviceId;
use larder_types::limits::ACTS_DEVICE_MAX;
use rusqlite::Connection;

use super::{CONTROL, Kept};
use crate::contract;
use crate::keyring::Keyring;
use crate::policy;
use crate::secrets::unwrap;
use crate::space::Shared;
use crate::vault::Vault;
use crate::{Error, Result};

/// The last section whose effect is in the documents.
pub(crate) fn shown(db: &Connection, own: &DeviceId) -> Result<i64> {
    let Some(own) = logs::find(db, own)? else { return Ok(0) };
    let Some(kept) = Kept::load(db, own.log)? else { return Ok(0) };
    kept.shown.map_or_else(|| Ok(sections::last(db)?), Ok)
}

/// Reads roster and secrets for a space that is opened without a writer.
pub(crate) fn publish(db: &Connection, shared: &Shared) -> Result<()> {
    let every = logs::every(db)?.into_iter();
    let stopped = every.filter(|log| log.stopped.is_some()).map(|log| log.device).collect();
    let (roster, keyring) = (load_roster(db, shared)?, load_keyring(db, &shared.home().vault)?);
    let rules = (policy::of(db, &roster, shared)?, contract::of_space(db, &roster)?);
    shared.publish(&roster, &keyring, &stopped, rules);
    Ok(())
}

pub(super) fn load_roster(db: &Connection, shared: &Shared) -> Result<Roster> {
    let mut acts = Vec::new();
    let past_bound = past_bound(db)?;
    // Those of erasure say nothing of who belongs to the space, and may be many.
    for act in control::acts_but(db, [kind::ERASE, kind::ERASED])? {
        let place = act.place;
        if past_bound.contains(&place) {
            continue;
        }
        let header = entries::find(db, place.log, place.seq)?
            .and_then(|entry| Header::decode(&entry.header).ok())
            .ok_or_else(|| Error::Corrupt("a membership act's entry is missing".into()))?;
        if let Ok(Some(body)) = Act::from_body_unchecked(act.kind, &act.body) {
            acts.push((header, place.index, body));
        }
    }
    for stray in control::stray_acts(db)? {
        let proven = ProvenAct::decode(&stray.proof);
        let header = proven.as_ref().and_then(ProvenAct::header);
        // One that cannot be read counts no more than one that never came, until a check drops it
        // and another device shows it again.
        let (Some(proven), Some(header)) = (proven, header) else { continue };
        for kind in Act::MEMBERSHIP {
            if let Ok(Some(act)) = Act::from_body(kind, &stray.body) {
                acts.push((header.clone(), proven.place().1, act));
            }
        }
    }
    Ok(Roster::of(shared.id, acts.iter().map(|(header, index, act)| (header, *index, act))))
}

pub(crate) fn load_keyring(db: &Connection, vault: &Vault) -> Result<Keyring> {
    let wrapped = control::secret(db, CONTROL)?
        .ok_or_else(|| Error::Corrupt("the space's control secret is missing".into()))?;
    let control = larder_log::epoch::ControlSecret::new(vault.open(CONTROL, &wrapped)?);
    let mut keyring = Keyring::new(control);
    for epoch in control::epochs(db)? {
        let Some(wrapped) = &epoch.wrapped else { continue };
        keyring.insert(epoch.epoch, unwrap(vault, &epoch.epoch, wrapped)?);
    }
    Ok(keyring)
}

/// The acts of membership that stand in a log behind as many as one device may write.
pub(crate) fn past_bound(db: &Connection) -> Result<BTreeSet<Place>> {
    let mut by_log: BTreeMap<LogId, BTreeSet<Place>> = BTreeMap::new();
    for act in control::acts_but(db, [kind::ERASE, kind::ERASED])? {
        if Act::MEMBERSHIP.contains(&act.kind) {
            by_log.entry(act.place.log).or_default().insert(act.place);
        }
    }
    let bound = usize::try_from(ACTS_DEVICE_MAX).unwrap_or(usize::MAX);
    Ok(by_log.into_values().flat_map(|places| places.into_iter().skip(bound)).collect())
}
