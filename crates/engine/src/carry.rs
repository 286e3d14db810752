//! What only an old copy of a space has, carried over into this device's own log.
//!
//! The file of a device that had to be given new keys ([`crate::renew`]) holds entries of its old
//! log that nobody else may have. Once this device holds what another one holds, it compares the
//! old log with the one that the others know, and does again, in its own log and in their order,
//! what stands behind the place where they part. Edits are made again as edits of the version that
//! they were made of, so that what others did meanwhile stays.
//!
//! Invariants: each old entry becomes one new entry, with its actor, its correlation and its
//! idempotency keys, in the transaction that notes how far it has come: a cut leaves none out and
//! does none twice. What cannot be done again is named, and its file stays.

use std::collections::BTreeMap;

use larder_document::Heads;
use larder_log::Band;
use larder_log::roster::Standing;
use larder_store::space::{control, entries, logs, set_value, value};
use larder_types::limits::TRANSACTION_BYTES_TARGET;
use larder_types::{DeviceId, EntryHash, ObjectId, TransportId, canonical};
use minicbor::{Decode, Encode};
use rusqlite::Connection;

use self::old::Old;
use crate::files::SET_ASIDE;
use crate::recovery::is_unreadable;
use crate::rekey::step;
use crate::space::{Shared, Space};
use crate::state::State;
use crate::steps::Step;
use crate::trouble::is_damage;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

mod old;
mod redo;

/// By peer: how much of each log it was seen to hold.
pub(crate) type Peers = BTreeMap<TransportId, Vec<(DeviceId, u64)>>;

/// An old file whose content is to be carried over.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Source {
    /// Its name in the profile's directory.
    #[n(0)]
    file: String,
    /// Whose log it is in which this profile wrote there.
    #[n(1)]
    device: DeviceId,
    /// Nobody else has the space: there is nobody to be heard first.
    #[n(2)]
    is_alone: bool,
    /// The first entry of that log that was not looked at. None: it was not begun.
    #[n(3)]
    next: Option<u64>,
    /// Where edits went.
    #[n(4)]
    ends: Vec<End>,
    /// The first entry that the others do not have as it is here. What they have counts for them,
    /// but for what its device might not write and nobody adopted.
    #[n(5)]
    unlike: u64,
    /// How much of that log which others signed that they hold.
    #[n(6)]
    signed: Vec<(DeviceId, u64)>,
}

/// How far the edits of one document were made again.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(array)]
struct End {
    /// The id that it was created under, its band and its creation, as the old file has them.
    #[n(0)]
    object: ObjectId,
    #[n(1)]
    band: Band,
    #[n(2)]
    generation: EntryHash,
    /// Where it is now. None: it is gone.
    #[n(3)]
    at: Option<ObjectId>,
    /// The last change that was made again, and the version that it came to here.
    #[cbor(n(4), with = "minicbor::bytes")]
    old: Vec<u8>,
    #[n(5)]
    new: Heads,
}

/// What was carried over from old copies of a space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(array)]
pub struct Carried {
    /// Entries written into this device's log.
    #[n(0)]
    pub entries: u64,
    /// Documents created in them.
    #[n(1)]
    pub created: u64,
    /// Edits of documents, those that put one into the trash or take it out among them.
    #[n(2)]
    pub edited: u64,
    /// Documents deleted or erased.
    #[n(3)]
    pub deleted: u64,
    /// Files.
    #[n(4)]
    pub blobs: u64,
    /// What was not carried over, because its document was deleted meanwhile.
    #[n(5)]
    pub moot: u64,
    /// Entries of other devices that the old copy had and nobody who was spoken to.
    #[n(6)]
    pub of_others: u64,
    /// What could not be carried over, the first 256 of it: it is in the file that was set aside.
    #[n(7)]
    pub left: Vec<LeftBehind>,
    /// Whether nothing more is to be carried over.
    #[n(8)]
    pub is_done: bool,
}

/// Something that could not be carried over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(array)]
pub struct LeftBehind {
    /// In which file of the profile's directory it is.
    #[n(0)]
    pub file: String,
    /// The entry of the old log.
    #[n(1)]
    pub seq: u64,
    /// What it is, and why it was not carried over.
    #[n(2)]
    pub what: String,
}

#[derive(Debug, Clone, Default, Encode, Decode)]
#[cbor(array)]
struct Carry {
    #[n(0)]
    sources: Vec<Source>,
    #[n(1)]
    carried: Carried,
}

impl Source {
    /// The file that `old` is, in which `device` wrote.
    pub(crate) fn new(
        file: String,
        device: DeviceId,
        is_alone: bool,
        old: &Connection,
    ) -> Result<Self> {
        let acks = control::acks_of(old, &device)?.into_iter();
        let others = acks.filter(|ack| ack.acker != device);
        let signed = others.map(|ack| (ack.acker, ack.size)).collect();
        Ok(Self { file, device, is_alone, next: None, ends: Vec::new(), unlike: 1, signed })
    }

    fn end(&mut self, of: (ObjectId, Band, EntryHash)) -> Option<&mut End> {
        let is_it = |end: &&mut End| (end.object, end.band, end.generation) == of;
        self.ends.iter_mut().find(is_it)
    }

    fn set_end(&mut self, of: (ObjectId, Band, EntryHash), at: Option<ObjectId>) {
        let (object, band, generation) = of;
        let (old, new) = (Vec::new(), Heads::FLAT);
        self.ends.push(End { object, band, generation, at, old, new });
    }
}

impl Carry {
    fn load(db: &Connection) -> Result<Self> {
        let bytes = value(db, NAME)?.filter(|bytes| !bytes.is_empty());
        let stored = bytes.map(|bytes| canonical::decode(&bytes, BYTES_MAX)).transpose()?;
        Ok(stored.unwrap_or_default())
    }

    fn end_first(&mut self) {
        self.sources.drain(..self.sources.len().min(1));
        self.carried.is_done = self.sources.is_empty();
    }

    fn save(&self, db: &Connection) -> Result<()> {
        Ok(set_value(db, NAME, &canonical::encode(self))?)
    }
}

/// The old files of which a space still has something to carry over.
pub(crate) fn unfinished(db: &Connection) -> Result<Vec<Source>> {
    Ok(Carry::load(db)?.sources)
}

/// Whether there is any.
pub(crate) fn is_going_on(db: &Connection) -> Result<bool> {
    Ok(!unfinished(db)?.is_empty())
}

/// What to say, and what to do, where something could not be carried over.
pub(crate) fn left_text(db: &Connection) -> Result<Option<String>> {
    let left = Carry::load(db)?.carried.left;
    let Some(first) = left.first() else { return Ok(None) };
    let LeftBehind { file, seq, what } = first;
    let more = match left.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    Ok(Some(format!(
        "entry {seq} in '{file}' could not be carried over ({what}){more}: only that file has it. \
         Write here what of it is still wanted, then say that the rest may go: larder purge --leave"
    )))
}

/// A new file begins: it carries over what is in the `earlier` one, and then what that had still
/// to. What that could not stays named.
pub(crate) fn begin(db: &Connection, source: Source, earlier: &Connection) -> Result<()> {
    let Carry { sources, carried } = Carry::load(earlier)?;
    let sources = std::iter::once(source).chain(sources).collect();
    let carried = Carried { left: carried.left, ..Carried::default() };
    Carry { sources, carried }.save(db)
}

/// Notes that there is something to carry over, when a space is opened.
pub(crate) fn notice(db: &Connection, shared: &Shared) -> Result<()> {
    if is_going_on(db)? {
        shared.carrying().get_or_insert_default();
    }
    Ok(())
}

impl Space {
    /// What was carried over from old copies so far; none if there was never one.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn carried(&self) -> Result<Option<Carried>> {
        let db = self.shared.pool.reader()?;
        let Carry { sources, carried } = Carry::load(&db)?;
        let was_any = !sources.is_empty() || carried.is_done;
        let is_done = sources.is_empty();
        Ok(was_any.then_some(Carried { is_done, ..carried }))
    }

    /// Whether another device that has something was heard of since the space was opened, all that
    /// it holds is here, and of the old log what devices of the space signed that they hold.
    fn is_caught_up(&self, db: &Connection, source: &Source) -> Result<bool> {
        let published = self.shared.published()?;
        let held = logs::every(db)?;
        let is_here = |(device, size): &(DeviceId, u64)| {
            let log = held.iter().find(|log| log.device == *device);
            let is_stopped = published.stopped.contains(device);
            is_stopped
                || log.is_some_and(|log| log.frontier.size() >= *size)
                || !published.roster.may_have_log(device)
        };
        let is_whole = source.signed.iter().all(|(acker, size)| {
            published.roster.device(acker).is_none() || is_here(&(source.device, *size))
        });
        let peers = self.shared.carrying().clone().unwrap_or_default();
        let mut known = peers.iter().filter(|(peer, heads)| {
            published.roster.by_transport(peer).is_some() && heads.iter().any(|(_, size)| *size > 0)
        });
        Ok(is_whole && known.any(|(_, heads)| heads.iter().all(is_here)))
    }
}

impl SpaceWriter {
    /// Whether there is an old copy of which something is still to be carried over.
    pub fn has_old_copy(&self) -> bool {
        self.shared.carrying().is_some()
    }

    /// Whether [`SpaceWriter::carry_step`] has something to do now: there is an old copy, this
    /// device may write, and it holds all that some other device holds.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn may_carry(&self) -> Result<bool> {
        if self.shared.carrying().is_none() || self.shared.is_frozen() {
            return Ok(false);
        }
        let db = self.shared.pool.reader()?;
        let sources = unfinished(&db)?;
        let Some(source) = sources.first() else { return Ok(false) };
        if source.is_alone && source.next.is_none() {
            // What lets it in is in the old file.
            return Ok(true);
        }
        let state = self.state();
        let may_write = state.check_may_write().is_ok() && !state.lacks() && self.is_shown();
        Ok(may_write && (source.is_alone || self.space().is_caught_up(&db, source)?))
    }

    /// Carries some of what only an old copy has over into this device's log. Whether all is done,
    /// or nothing can be done now.
    ///
    /// # Errors
    /// The storage's errors. What was carried over is durable.
    pub fn carry_step(&mut self) -> Result<bool> {
        if !self.may_carry()? {
            return Ok(true);
        }
        let sources = {
            let db = self.shared.pool.reader()?;
            unfinished(&db)?
        };
        let Some(source) = sources.first() else { return Ok(true) };
        let old = Old::open(&self.shared.profile, &self.shared, source);
        let (mut old, vault) = match old {
            Ok(old) => old,
            Err(error) if self.is_lost_for_good(source, &error)? => {
                return self.cannot_read(source, &error).map(|()| false);
            }
            // It may be another time, and the file has what nobody else has.
            Err(error) => return Err(error),
        };
        let Some(next) = source.next else {
            self.take_secrets(&old.db, &vault)?;
            let but = Some(source.device).filter(|_| !source.is_alone);
            let of_others = self.take_over_but(&old.db, but)?;
            self.show()?;
            let unlike = self.first_unlike(&old)?;
            self.transact(|tx, state| {
                let mut carry = Carry::load(tx)?;
                carry.carried.of_others += of_others;
                if let Some(source) = carry.sources.first_mut() {
                    source.unlike = unlike;
                    source.next = Some(state.first_void(&source.device).min(unlike));
                }
                carry.save(tx)
            })?;
            return Ok(false);
        };
        if next > old.log.frontier.size() {
            self.end_carrying(&old, source.is_alone)?;
            return Ok(false);
        }
        self.transact(|tx, state| {
            state.ensure_epoch(tx)?;
            let mut carry = Carry::load(tx)?;
            let mut bytes = 0;
            while bytes < LOT_BYTES
                && let Some(seq) = carry.sources.first().and_then(|source| source.next)
                && seq <= old.log.frontier.size()
            {
                bytes += state.carry_entry(tx, &mut old, &mut carry, seq)?;
                if let Some(source) = carry.sources.first_mut() {
                    source.next = Some(seq + 1);
                }
            }
            carry.save(tx)?;
            state.sign(tx)?;
            step(Step::Carrying)
        })?;
        step(Step::Carried)?;
        Ok(false)
    }

    /// Carries over all that can be now. What was carried over so far.
    ///
    /// # Errors
    /// As [`SpaceWriter::carry_step`].
    pub fn carry_over(&mut self) -> Result<Option<Carried>> {
        while !self.carry_step()? {}
        self.space().carried()
    }

    /// The first entry of the old log that is not in the one that is known here.
    fn first_unlike(&self, old: &Old) -> Result<u64> {
        let db = self.shared.pool.reader()?;
        let Some(here) = logs::find(&db, &old.log.device)? else { return Ok(1) };
        let (mut like, mut unlike) =
            (0, here.frontier.size().min(old.log.frontier.size()).saturating_add(1));
        // Where two histories have parted no entry of one is in the other.
        while like + 1 < unlike {
            let middle = like + (unlike - like) / 2;
            let same = entries::hash(&db, here.log, middle)?
                == entries::hash(&old.db, old.log.log, middle)?;
            if same { like = middle } else { unlike = middle }
        }
        Ok(like + 1)
    }

    fn end_carrying(&mut self, old: &Old, is_alone: bool) -> Result<()> {
        // Which of them are wanted depends on the documents.
        self.show()?;
        self.take_chunks(&old.db)?;
        let device = old.log.device;
        self.transact(|tx, state| {
            let mut carry = Carry::load(tx)?;
            carry.end_first();
            carry.save(tx)?;
            if is_alone && state.roster.device(&device).is_some() {
                // Nobody has its keys any more.
                state.revoke(tx, &[device], Vec::new())?;
            }
            Ok(())
        })?;
        self.forget_peers()
    }

    /// Whether the old file is damaged, or gone under each of its names.
    fn is_lost_for_good(&self, source: &Source, error: &Error) -> Result<bool> {
        if is_damage(error) {
            return Ok(true);
        }
        let Some(dir) = self.shared.profile.storage.dir() else { return Ok(false) };
        let before = source.file.split_once(SET_ASIDE).map(|(name, _)| name);
        let is_there =
            dir.exists(&source.file)? || before.map_or(Ok(false), |name| dir.exists(name))?;
        Ok(is_unreadable(error) && !is_there)
    }

    /// Notes that nobody wants any more what could not be carried over: it was written by hand.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn leave_behind(&mut self) -> Result<()> {
        self.record(|tx, _| {
            let mut carry = Carry::load(tx)?;
            carry.carried.left.clear();
            carry.save(tx)
        })
    }

    fn cannot_read(&mut self, source: &Source, error: &Error) -> Result<()> {
        let what = format!("the file cannot be read: {error}");
        let left = LeftBehind { file: source.file.clone(), seq: 0, what };
        self.transact(|tx, _| {
            let mut carry = Carry::load(tx)?;
            carry.end_first();
            leave(&mut carry.carried, left);
            carry.save(tx)
        })?;
        self.forget_peers()
    }

    fn forget_peers(&self) -> Result<()> {
        let is_done = unfinished(&*self.shared.pool.reader()?)?.is_empty();
        if is_done {
            *self.shared.carrying() = None;
            self.shared.trouble.changed();
        }
        Ok(())
    }
}

impl State {
    /// The first entry of a device's log in which it might not write, or not in all bands; one that
    /// no log has, if it always might.
    fn first_void(&self, device: &DeviceId) -> u64 {
        let standings = self.roster.known(device).map_or(&[][..], |known| &known.standings);
        let is_void = |standing: &Option<Standing>| {
            standing.and_then(Standing::writes_up_to) < Some(Band::Red)
        };
        let first = standings.iter().find(|(_, standing)| is_void(standing));
        first.map_or(u64::MAX, |(from_seq, _)| *from_seq)
    }
}

fn leave(carried: &mut Carried, left: LeftBehind) {
    if carried.left.len() < LEFT_MAX {
        carried.left.push(left);
    }
}

/// What an entry costs besides its bodies.
const ENTRY_BYTES: usize = 1024;
/// Bytes carried over in one transaction, about; in tests an entry.
const LOT_BYTES: usize = if cfg!(test) { 1 } else { TRANSACTION_BYTES_TARGET };
const LEFT_MAX: usize = 256;
const NAME: &str = "carry";
const BYTES_MAX: usize = 64 << 20;
