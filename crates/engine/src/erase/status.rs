//! Who has erased what.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::erasure::Erasure as ActName;
use larder_log::{Band, kind};
use larder_store::space::erasures::{self, Erasure, State as Stage};
use larder_store::space::logs::{self, LogId};
use larder_store::space::sections::Place;
use larder_store::space::{control, sections, snapshots};
use larder_types::{DeviceId, ObjectId, Timestamp};
use rusqlite::Connection;
use serde::Serialize;

use super::UNKNOWN_KIND;
use crate::Result;
use crate::aside::set_aside;
use crate::clearance::writes_up_to;
use crate::model::{as_band, as_text, as_texts};
use crate::read::snapshot;
use crate::redact::{Redacts, of_redactions};
use crate::space::{Published, Space};

/// An object that was erased, and which devices have done it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasureInfo {
    /// What was erased.
    #[serde(serialize_with = "as_text")]
    pub object: ObjectId,
    /// Who asked for it first.
    #[serde(serialize_with = "as_text")]
    pub by: DeviceId,
    /// When, as that device's clock claims.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// Up to which band it reaches: the highest that somebody who asked for it was cleared for.
    /// What others wrote above that under the same id is another document, and stays.
    #[serde(serialize_with = "as_band")]
    pub up_to: Band,
    /// Acts of erasure: one, and one for each lot of sections that was met later.
    pub acts: u64,
    /// Where what is left of it is, if it was redacted: several if devices did so that did not know
    /// of each other.
    #[serde(serialize_with = "as_texts")]
    pub redacted_as: Vec<ObjectId>,
    /// Edits up to that band, and creations under its id, that whoever redacted it did not know, as
    /// far as this device is cleared for them. Who made them
    /// makes them again in what is left as soon as it hears of that, as far as they fit there and
    /// are of no list that something was taken out of; from a device that never hears they are
    /// lost.
    pub late: Vec<LateEdits>,
    /// The devices that may read, by id.
    pub devices: Vec<ErasedBy>,
}

impl ErasureInfo {
    /// Whether every device has said that it has nothing of the object any more, up to the band
    /// that the erasure reaches; one that is set aside has not.
    pub fn is_done(&self) -> bool {
        self.devices.iter().all(|device| device.stage == ErasureStage::Done)
    }
}

/// Edits made in a document while another device redacted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LateEdits {
    /// Whose.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// What its owner calls it; none if it is not known any more.
    pub label: Option<String>,
    /// How many.
    pub edits: u64,
}

/// How far a device is with an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasedBy {
    /// The device.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// What its owner calls it.
    pub label: String,
    /// How far it is.
    pub stage: ErasureStage,
}

/// How far a device is with an erasure, as far as this one has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErasureStage {
    /// It has said that nothing of the object, up to the band that the erasure reaches, is on its
    /// disk any more.
    Done,
    /// It has acknowledged the act, and not said so yet.
    Heard,
    /// It is not known to have heard of it.
    NotHeard,
    /// It was set aside, as it stays away, and has not said that it has done it.
    SetAside,
}

impl Space {
    /// What was erased in this space, in the order in which this device heard of it, and which
    /// devices have done it, as far as it has heard.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn erasures(&self) -> Result<Vec<ErasureInfo>> {
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let published = self.shared.published()?;
        let heard = Heard::read(&db, self.device())?;
        let aside = set_aside(&db, &published.roster)?;
        let (order, mut acts) = valid(&db)?;
        let mut infos = Vec::with_capacity(order.len());
        for object in order {
            let acts = acts.remove(&object).unwrap_or_default();
            let Some(first) = acts.first() else { continue };
            let Some(by) = heard.devices.get(&first.place.log).copied() else { continue };
            let about = sections::find(&db, first.place)?.and_then(|section| section.about);
            let reading = published.roster.devices().filter(|(_, device)| device.role.may_read());
            let devices = reading
                .map(|(id, device)| ErasedBy {
                    device: *id,
                    label: device.label.clone(),
                    stage: match heard.stage_of(id, &acts) {
                        ErasureStage::Done => ErasureStage::Done,
                        _ if aside.contains(id) => ErasureStage::SetAside,
                        stage => stage,
                    },
                })
                .collect();
            let at = about.map_or(Timestamp(0), |about| about.clock.wall);
            let reach = acts.iter().filter_map(|act| {
                let author = heard.devices.get(&act.place.log)?;
                writes_up_to(&published.roster, author, act.place.seq)
            });
            let up_to = reach.max().unwrap_or(Band::Green);
            let (redacted_as, late) = redaction(&db, &published, &object, &acts, up_to)?;
            let (acts, up_to) = (acts.len() as u64, self.shared.shown(up_to));
            infos.push(ErasureInfo { object, by, at, up_to, acts, redacted_as, late, devices });
        }
        Ok(infos)
    }
}

/// What a redacted object became, and what was edited beside that.
fn redaction(
    db: &Connection,
    published: &Published,
    object: &ObjectId,
    acts: &[Erasure],
    up_to: Band,
) -> Result<(Vec<ObjectId>, Vec<LateEdits>)> {
    let (mut redacted_as, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for Redacts { act, .. } in of_redactions(db, acts)? {
        redacted_as.extend(act.instead);
        listed.extend(act.listed.iter().map(|one| (one.device, one.seq, one.index)));
    }
    if redacted_as.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // What all had agreed on before was known, and could not be listed if its bytes were gone.
    let held = snapshots::in_state(db, snapshots::State::Held)?;
    let mut late: BTreeMap<DeviceId, u64> = BTreeMap::new();
    for section in sections::of_object(db, object)? {
        let Place { log, seq, index } = section.place;
        let device = logs::by_number(db, log)?.device;
        let is_known = listed.contains(&(device, seq, index))
            || held.as_ref().is_some_and(|held| seq <= held.act.size_of(&device));
        // What was gone before it came is of no kind that is known here.
        let is_edit =
            |kind| matches!(kind, kind::DOCUMENT_CREATE | kind::DOCUMENT_CHANGE | UNKNOWN_KIND);
        let is_edit = section.about.is_some_and(|about| is_edit(about.kind));
        // What is above it is of another document, which nobody redacted.
        let band = published.keyring.band(&section.commitment);
        let is_reached = band.is_none_or(|band| band <= up_to);
        if is_edit && is_reached && !is_known {
            *late.entry(device).or_default() += 1;
        }
    }
    let late = late.into_iter().map(|(device, edits)| {
        let label = published.roster.known(&device).map(|known| known.label.clone());
        LateEdits { device, label, edits }
    });
    Ok((redacted_as.into_iter().collect(), late.collect()))
}

type ActsByObject = BTreeMap<ObjectId, Vec<Erasure>>;

/// The acts of erasure that count, by object, and the objects in the order in which they came.
fn valid(db: &Connection) -> Result<(Vec<ObjectId>, ActsByObject)> {
    let mut order = Vec::new();
    let mut acts = ActsByObject::new();
    let mut after = 0;
    loop {
        let page = erasures::page(db, after, PAGE)?;
        let Some(last) = page.last() else { return Ok((order, acts)) };
        after = last.erasure;
        for act in page.into_iter().filter(|act| act.stage != Stage::Void) {
            let of_object = acts.entry(act.object).or_default();
            if of_object.is_empty() {
                order.push(act.object);
            }
            of_object.push(act);
        }
    }
}

/// What was heard of the devices.
struct Heard {
    me: DeviceId,
    devices: BTreeMap<LogId, DeviceId>,
    reports: BTreeSet<(DeviceId, ActName)>,
    /// By who holds how much of whose log.
    held: BTreeMap<(DeviceId, DeviceId), u64>,
}

impl Heard {
    fn read(db: &Connection, me: DeviceId) -> Result<Self> {
        let logs = logs::every(db)?.into_iter();
        let devices: BTreeMap<_, _> = logs.map(|log| (log.log, log.device)).collect();
        let mut reports = BTreeSet::new();
        for stored in control::acts_of_kind(db, kind::ERASED)? {
            let author = devices.get(&stored.place.log).copied();
            let act = Act::from_body(stored.kind, &stored.body);
            if let (Some(author), Ok(Some(Act::Erased(act)))) = (author, act) {
                reports.extend(act.done.into_iter().map(|done| (author, done)));
            }
        }
        let acks = control::acks(db)?.into_iter();
        let held = acks.map(|ack| ((ack.acker, ack.device), ack.size)).collect();
        Ok(Self { me, devices, reports, held })
    }

    fn stage_of(&self, device: &DeviceId, acts: &[Erasure]) -> ErasureStage {
        let is_done = |act: &Erasure| {
            let name = ActName { entry: act.entry, index: act.place.index };
            // Of this device itself it is known if something came after its report.
            let is_open = *device == self.me && act.stage == Stage::Open;
            self.reports.contains(&(*device, name)) && !is_open
        };
        let has_heard = |act: &Erasure| {
            let Some(author) = self.devices.get(&act.place.log) else { return false };
            let held = self.held.get(&(*device, *author)).copied().unwrap_or(0);
            *device == self.me || device == author || held >= act.place.seq
        };
        if acts.iter().all(is_done) {
            ErasureStage::Done
        } else if acts.iter().all(has_heard) {
            ErasureStage::Heard
        } else {
            ErasureStage::NotHeard
        }
    }
}

const PAGE: u32 = 1024;
