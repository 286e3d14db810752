//! Who has erased what.

use std::collections::{BTreeMap, BTreeSet};

use larder_log::act::Act;
use larder_log::erasure::Erasure as ActName;
use larder_log::kind;
use larder_store::space::erasures::{self, Erasure, State as Stage};
use larder_store::space::logs::{self, LogId};
use larder_store::space::{control, sections};
use larder_types::{DeviceId, ObjectId, Timestamp};
use rusqlite::Connection;
use serde::Serialize;

use crate::Result;
use crate::model::as_text;
use crate::read::snapshot;
use crate::space::Space;

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
    /// Acts of erasure: one, and one for each lot of sections that was met later.
    pub acts: u64,
    /// The devices that may read, by id.
    pub devices: Vec<ErasedBy>,
}

impl ErasureInfo {
    /// Whether every device has said that it has nothing of the object any more.
    pub fn is_done(&self) -> bool {
        self.devices.iter().all(|device| device.stage == ErasureStage::Done)
    }
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
    /// It has said that nothing of the object is on its disk any more.
    Done,
    /// It has acknowledged the act, and not said so yet.
    Heard,
    /// It is not known to have heard of it.
    NotHeard,
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
                    stage: heard.stage_of(id, &acts),
                })
                .collect();
            let at = about.map_or(Timestamp(0), |about| about.clock.wall);
            infos.push(ErasureInfo { object, by, at, acts: acts.len() as u64, devices });
        }
        Ok(infos)
    }
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
