//! What a space holds, how far its devices are known to be, and whether it can be written.
//!
//! Invariant: a device is said to have everything only if it signed that it holds every entry that
//! is held here of every log but its own, and might have the bytes of whatever this one might.

use std::collections::BTreeMap;
use std::fmt;

use larder_log::Band;
use larder_store::space::logs::{self, Log};
use larder_store::space::{self as table, control, sections};
use larder_types::{DeviceId, Timestamp};
use serde::Serialize;

use crate::model::{
    DeviceInfo, Kept, LogStatus, SpaceStatus, as_optional_band, as_optional_text, as_text, as_texts,
};
use crate::read::snapshot;
use crate::recovery::Progress;
use crate::space::{Frozen, Space};
use crate::{Error, Result};

/// What this device knows of another one's copy of the space, by that device's signed word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceProgress {
    /// The device.
    #[serde(serialize_with = "as_text")]
    pub device: DeviceId,
    /// What its owner calls it.
    pub label: String,
    /// How far it is.
    pub standing: Standing,
    /// Whether it was set aside as it stays away, and is not back: nothing waits for it.
    pub set_aside: bool,
    /// Up to which band it is known to hold documents, and not headers alone: it has been cleared
    /// for that one ever since it belongs to the space. None for an auditor's device.
    #[serde(serialize_with = "as_optional_band")]
    pub up_to: Option<Band>,
    /// Entries held here, of all logs, that it is known to hold: it signed so, or wrote them.
    pub holds: u64,
    /// Entries held here that it is not known to hold, and so are still to be sent to it.
    pub pending: u64,
    /// Entries that it is known to hold and that are not here.
    pub ahead: u64,
    /// When it last signed what it holds, as its clock claimed.
    #[serde(serialize_with = "as_optional_text")]
    pub signed: Option<Timestamp>,
    /// When this device last spoke to it, as this device's clock had it.
    #[serde(serialize_with = "as_optional_text")]
    pub last_seen: Option<Timestamp>,
}

/// How far a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is this device.
    Here,
    /// It signed that it holds all that is held here, and may read as much as this device.
    Everything,
    /// It signed the same, and of what is above [`DeviceProgress::up_to`] that means headers: there
    /// it is no copy of what is here.
    UpToABand,
    /// It is an auditor's and signed the same: it holds every receipt, and no content.
    Receipts,
    /// Some of what is held here it has not signed for. It may have it all the same.
    Behind,
    /// It has not signed for anything yet: nothing is known.
    Unknown,
}

/// Whether a space can be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Both, and nothing is amiss.
    Ready,
    /// Both, with something amiss.
    Degraded,
    /// It can be read, and not written.
    ReadOnly,
}

/// Why a space is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
#[non_exhaustive]
pub enum Reason {
    /// The profile was opened for reading.
    OpenedReadOnly,
    /// This copy ends before what this device has signed.
    RolledBack {
        /// The last entry known to have been signed.
        signed: u64,
        /// The last entry here.
        found: u64,
    },
    /// This device has signed another history than this copy holds.
    OtherHistory,
    /// The profile was given new keys, and has to be let in again.
    Renewed,
    /// What only an old copy has is still to be carried over into this device's log: once it has
    /// heard all that another device has.
    Carrying {
        /// Why it could not be at the last try, or cannot be.
        what: Option<String>,
    },
    /// The space's file could not be read; the space is being made anew from what others have.
    Recovering {
        /// Entries known to have been signed by this device.
        signed: u64,
        /// Those that are here.
        found: u64,
        /// Devices that have not told yet what they hold of this device's log.
        #[serde(serialize_with = "as_texts")]
        waits_for: Vec<DeviceId>,
    },
    /// This device has joined, and its enrolment has not arrived yet.
    NotEnrolled,
    /// This device is an auditor's: it holds receipts, and no content.
    Auditor,
    /// The disk was full at the last try to write.
    DiskFull,
    /// The last try to write failed.
    WriteFailed {
        /// What was said.
        what: String,
    },
    /// The write-ahead log could not be written back into the file, and grows.
    NotWrittenBack {
        /// What was said.
        what: String,
        /// How large it is.
        bytes: u64,
    },
    /// Something stored is damaged.
    Damaged {
        /// What was said of it.
        what: String,
    },
    /// Sections cannot be opened yet: the secret of their epoch is not here, or what they build on.
    Waiting {
        /// How many.
        sections: u64,
    },
    /// The bytes of sections are not here, and are wanted from other devices.
    BytesMissing {
        /// How many.
        sections: u64,
    },
    /// Documents of the snapshot that stands for pruned entries are not here: nobody has handed
    /// them over yet, or their history is too large to be.
    DocumentsMissing {
        /// How many.
        documents: u64,
    },
    /// What is BLACK of it, in a space beside it, is not ready.
    Black {
        /// Why not.
        what: String,
    },
    /// Another device's log has two histories and is taken no further.
    LogStopped {
        /// Whose.
        #[serde(serialize_with = "as_text")]
        device: DeviceId,
    },
}

impl Reason {
    fn mode(&self) -> Mode {
        match self {
            Self::OpenedReadOnly
            | Self::RolledBack { .. }
            | Self::OtherHistory
            | Self::Renewed
            | Self::Recovering { .. }
            | Self::NotEnrolled
            | Self::Auditor
            | Self::DiskFull
            | Self::WriteFailed { .. } => Mode::ReadOnly,
            Self::NotWrittenBack { .. }
            | Self::Carrying { .. }
            | Self::Damaged { .. }
            | Self::Waiting { .. }
            | Self::BytesMissing { .. }
            | Self::DocumentsMissing { .. }
            | Self::Black { .. }
            | Self::LogStopped { .. } => Mode::Degraded,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenedReadOnly => f.write_str("the profile was opened for reading only"),
            Self::RolledBack { signed, found } => {
                write!(f, "{}", Error::RolledBack { signed: *signed, found: *found })
            }
            Self::OtherHistory => write!(f, "{}", Error::OtherHistory),
            Self::Renewed => write!(f, "{}", Error::Renewed),
            Self::Carrying { what: None } => f.write_str(
                "what only the old copy has is still to be carried over: sync with another device \
                 of the space that has its history",
            ),
            Self::Carrying { what: Some(what) } => write!(
                f,
                "what only the old copy has could not be carried over yet, and is tried again: \
                 {what}"
            ),
            Self::Recovering { signed, found, waits_for } => {
                write!(f, "{}", Error::Recovering { signed: *signed, found: *found })?;
                let waits_for: Vec<String> = waits_for.iter().map(ToString::to_string).collect();
                match waits_for.as_slice() {
                    [] => Ok(()),
                    _ => write!(f, " ({} have still to be heard)", waits_for.join(", ")),
                }
            }
            Self::NotEnrolled => write!(f, "{}", Error::NotYetEnrolled),
            Self::Auditor => write!(f, "{}", Error::Auditor),
            Self::DiskFull => f.write_str("the disk is full: make room, and writing works again"),
            Self::WriteFailed { what } => write!(f, "the last write failed: {what}"),
            Self::NotWrittenBack { what, bytes } => write!(
                f,
                "the write-ahead log of {bytes} bytes could not be written back ({what}); nothing \
                 is lost, and it is tried again"
            ),
            Self::Damaged { what } => {
                write!(f, "something stored is damaged ({what}): run `larder check --repair`")
            }
            Self::Waiting { sections } => write!(
                f,
                "{sections} sections wait for a secret, or for what they build on: sync with a \
                 device that has it"
            ),
            Self::BytesMissing { sections } => write!(
                f,
                "the bytes of {sections} sections are not here: sync with a device that has them"
            ),
            Self::DocumentsMissing { documents } => write!(
                f,
                "{documents} documents are not here whose entries were pruned: sync with a device \
                 that has them"
            ),
            Self::Black { what } => write!(f, "of what is BLACK: {what}"),
            Self::LogStopped { device } => write!(
                f,
                "the log of {device} contradicts itself and is taken no further: that device was \
                 copied or restored, and has to be renewed there (larder device renew)"
            ),
        }
    }
}

/// Whether a space can be read and written, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpaceState {
    /// What it can do: the worst of the reasons.
    pub mode: Mode,
    /// What is amiss.
    pub reasons: Vec<Reason>,
}

impl SpaceState {
    fn of(reasons: Vec<Reason>) -> Self {
        let mode = reasons.iter().map(Reason::mode).max().unwrap_or(Mode::Ready);
        Self { mode, reasons }
    }

    /// The same of who shows a space together with another one, in which something is amiss.
    #[must_use]
    pub fn with(mut self, reason: Reason) -> Self {
        self.reasons.push(reason);
        Self::of(self.reasons)
    }
}

impl Space {
    /// Whether it can be read and written, and why not. Quick.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn state(&self) -> Result<SpaceState> {
        let mut reasons = self.conditions();
        match self.shared.pool.reader() {
            Ok(db) => {
                let (waiting, missing) = table::sections::pending(&db)?;
                if waiting > 0 {
                    reasons.push(Reason::Waiting { sections: waiting });
                }
                if missing > 0 {
                    reasons.push(Reason::BytesMissing { sections: missing });
                }
                if crate::carry::is_going_on(&db)? {
                    reasons.push(Reason::Carrying { what: self.not_carried() });
                }
                let lacking = crate::supply::documents_lacking(&db)?;
                if lacking > 0 {
                    reasons.push(Reason::DocumentsMissing { documents: lacking });
                }
                let me = self.device();
                if let Some(recovery) = self.shared.recovery().clone() {
                    let found = logs::find(&db, &me)?.map_or(0, |log| log.frontier.size());
                    let roster = &self.shared.published()?.roster;
                    let signed = self.shared.mirror.end().size;
                    if let Some(progress) = recovery.progress(signed, found, roster, &me) {
                        let Progress { signed, found, waits_for } = progress;
                        reasons.push(Reason::Recovering { signed, found, waits_for });
                    }
                }
                let stopped = logs::every(&db)?.into_iter().filter(|log| log.stopped.is_some());
                let others = stopped.filter(|log| log.device != me);
                reasons.extend(others.map(|log| Reason::LogStopped { device: log.device }));
            }
            Err(error) => reasons.push(Reason::Damaged { what: error.to_string() }),
        }
        Ok(SpaceState::of(reasons))
    }

    /// What is known without asking the database.
    fn conditions(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.shared.profile.is_read_only() {
            reasons.push(Reason::OpenedReadOnly);
        }
        match self.shared.frozen.get() {
            Some(Frozen::Behind { signed, found }) => {
                reasons.push(Reason::RolledBack { signed: *signed, found: *found });
            }
            Some(Frozen::OtherHistory) => reasons.push(Reason::OtherHistory),
            Some(Frozen::Renewed) => reasons.push(Reason::Renewed),
            None => {}
        }
        let me = self.device();
        let published = self.shared.published();
        let own = published.as_ref().ok().and_then(|published| published.roster.device(&me));
        match own {
            None => reasons.push(Reason::NotEnrolled),
            Some(own) if !own.role.may_read() => reasons.push(Reason::Auditor),
            Some(_) => {}
        }
        reasons.extend(self.shared.trouble.reasons());
        reasons
    }

    /// Counts, sizes and how far each log and each device has come.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn status(&self) -> Result<SpaceStatus> {
        let state = self.state()?;
        let db = self.shared.pool.reader()?;
        let db = snapshot(&db)?;
        let counts = table::status(&db)?;
        let seen = table::counts_up_to(&db, self.sight.up_to())?;
        let is_whole = self.sight.is_whole();
        let devices = self.devices()?;
        let label = |id: &DeviceId| match devices.iter().find(|device| device.device == *id) {
            Some(device) => device.label.clone(),
            None => id.to_string(),
        };
        let acks = control::acks(&db)?;
        let held = logs::every(&db)?;
        let logs = held.iter().map(|log| LogStatus {
            device: log.device,
            label: label(&log.device),
            size: log.frontier.size(),
            acknowledged: acks
                .iter()
                .filter(|ack| ack.device == log.device)
                .map(|ack| (label(&ack.acker), ack.size))
                .collect(),
            forked: log.stopped.is_some(),
        });
        let logs = logs.collect();
        let file_bytes = self.shared.home().bytes()?.unwrap_or(counts.database_bytes);
        let indexes = larder_search::sizes(&db)?;
        let progress = self.progress(&devices, &held, &acks)?;
        Ok(SpaceStatus {
            name: self.name().clone(),
            id: self.id(),
            device: self.device(),
            state,
            documents: seen.documents,
            trashed: seen.trashed,
            retention: if is_whole { self.retention_asked()? } else { None },
            tombstones: seen.tombstones,
            stays_here: self.shared.stays_here(),
            entries: counts.entries,
            lacking: lacking(&held, &acks).values().sum(),
            waiting: counts.sections_waiting + counts.sections_missing,
            pending: sections::count_after(&db, crate::state::shown(&db, &self.device())?)?,
            unindexed: if is_whole { counts.unindexed } else { 0 },
            blobs: self.blobs_status()?,
            pruned: counts.sections_excused,
            lost: self.lost(&db)?,
            kept: if is_whole { crate::kept::count(&db)? } else { Kept::default() },
            file_bytes,
            words_bytes: indexes.words,
            vectors_bytes: indexes.vectors,
            key_created: self.shared.home().row.key_created_at,
            rekey: self.shared.rekey_status()?,
            logs,
            devices,
            progress,
        })
    }

    fn progress(
        &self,
        devices: &[DeviceInfo],
        held: &[Log],
        acks: &[control::Ack],
    ) -> Result<Vec<DeviceProgress>> {
        let seen = self.shared.profile.last_seen()?;
        let published = self.shared.published()?;
        let aside = self.set_aside()?;
        let progress = |device: &DeviceInfo| {
            let mine: Vec<&control::Ack> =
                acks.iter().filter(|ack| ack.acker == device.device).collect();
            let (mut holds, mut pending) = (0, 0);
            for log in held {
                let size = log.frontier.size();
                let is_own = device.me || log.device == device.device;
                let acked = mine.iter().find(|ack| ack.device == log.device);
                let has = if is_own { size } else { acked.map_or(0, |ack| ack.size.min(size)) };
                holds += has;
                pending += size - has;
            }
            let ahead = lacking(held, mine.iter().copied()).values().sum();
            let known = published.roster.device(&device.device);
            let always = known.map_or(Some(Band::Green), |known| {
                known.role.may_read().then(|| known.always_cleared())
            });
            let up_to = if device.me { published.clearance } else { always };
            let standing = match (device.me, mine.is_empty(), pending) {
                (true, ..) => Standing::Here,
                (_, true, _) => Standing::Unknown,
                (_, _, 0) if up_to.is_none() => Standing::Receipts,
                (_, _, 0) if up_to < published.clearance => Standing::UpToABand,
                (_, _, 0) => Standing::Everything,
                _ => Standing::Behind,
            };
            DeviceProgress {
                device: device.device,
                label: device.label.clone(),
                standing,
                set_aside: aside.contains(&device.device),
                up_to,
                holds,
                pending,
                ahead: if device.me { 0 } else { ahead },
                signed: mine.iter().map(|ack| ack.time_s).max().map(from_seconds),
                last_seen: seen.get(&device.transport).copied().filter(|_| !device.me),
            }
        };
        Ok(devices.iter().map(progress).collect())
    }
}

fn from_seconds(seconds: u64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1000))
}

/// How many entries of each log somebody signed for that are not here.
fn lacking<'a>(
    held: &[Log],
    acks: impl IntoIterator<Item = &'a control::Ack>,
) -> BTreeMap<DeviceId, u64> {
    let mut lacking = BTreeMap::new();
    for ack in acks {
        let here = held.iter().find(|log| log.device == ack.device);
        let beyond = ack.size.saturating_sub(here.map_or(0, |log| log.frontier.size()));
        let most = lacking.entry(ack.device).or_insert(0);
        *most = beyond.max(*most);
    }
    lacking
}
