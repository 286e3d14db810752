//! What only an old copy of a space has, carried over into this device's own log.
//!
//! The file of a device that had to be given new keys ([`crate::renew`]) holds entries of its old
//! log that nobody else may have. Once this device holds what another one holds, it takes over from
//! the old file, as from a peer, what is lacking: entries of other devices, bytes, and as much of
//! the old log as another device signed that it holds. Then it compares the old log with the one
//! that is here, and does again, in its own log and in their order, what stands behind the place
//! where they part. Edits are made again as edits of the version that they were made of, so that
//! what others did meanwhile stays.
//!
//! Invariants: each old entry becomes one new entry, with its actor, its correlation and its
//! idempotency keys, in the transaction that notes how far it has come: a cut leaves none out and
//! does none twice. What cannot be done again, or not be read, is named, and its file stays.

use std::collections::BTreeMap;

use larder_log::roster::Standing;
use larder_log::{Band, merkle};
use larder_store::space::{carry_ends, control, logs, set_value, value};
use larder_types::limits::TRANSACTION_BYTES_TARGET;
use larder_types::{DeviceId, TransportId, canonical};
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

mod ends;
mod old;
mod redo;
mod take;

/// Of a space that has an old copy, since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Carrying {
    /// By peer: how much of each log it was seen to hold.
    pub(crate) peers: BTreeMap<TransportId, Vec<(DeviceId, u64)>>,
    /// What is lacking was taken over from the first of the old files.
    has_taken: bool,
    /// Old files from which it was not.
    untaken: usize,
    /// Why the last try failed.
    failed: Option<String>,
}

impl Carrying {
    /// Whether there may be bytes in an old file that are lacking here.
    pub(crate) fn may_have_bytes(&self) -> bool {
        self.untaken > 0
    }
}

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
    /// The first entry that the others do not have as it is here. What they have counts for them,
    /// but for what its device might not write and nobody adopted.
    #[n(4)]
    unlike: u64,
    /// How much of that log, as it is in the file, another device signed that it holds.
    #[n(5)]
    signed: u64,
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
        let mut signed = 0;
        if let Some(log) = logs::find(old, &device)? {
            let tree = logs::Tree::new(old, log.log);
            for ack in control::acks_of(old, &device)? {
                let is_here = ack.size > signed && ack.size <= log.frontier.size();
                if is_here && ack.acker != device && merkle::root_at(&tree, ack.size)? == ack.root {
                    signed = ack.size;
                }
            }
        }
        Ok(Self { file, device, is_alone, next: None, unlike: 1, signed })
    }
}

impl Carry {
    fn load(db: &Connection) -> Result<Self> {
        let bytes = value(db, NAME)?.filter(|bytes| !bytes.is_empty());
        let stored = bytes.map(|bytes| canonical::decode(&bytes, BYTES_MAX)).transpose()?;
        Ok(stored.unwrap_or_default())
    }

    fn end_first(&mut self, db: &Connection) -> Result<()> {
        for ended in self.sources.drain(..self.sources.len().min(1)) {
            carry_ends::forget(db, &ended.file)?;
        }
        self.carried.is_done = self.sources.is_empty();
        Ok(())
    }

    fn leave_of_first(&mut self, seq: u64, what: String) {
        let Self { sources, carried } = self;
        if let Some(file) = sources.first().map(|source| source.file.clone()) {
            leave(carried, LeftBehind { file, seq, what });
        }
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

/// Where something is that could not be carried over, what to say of it, and what to do.
pub(crate) fn left_text(db: &Connection) -> Result<Option<(String, String)>> {
    let left = Carry::load(db)?.carried.left;
    let Some(first) = left.first() else { return Ok(None) };
    let LeftBehind { file, seq, what } = first;
    let more = match left.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    let text = format!(
        "entry {seq} in '{file}' could not be carried over ({what}){more}: only that file has it. \
         Write here what of it is still wanted, then say that the rest may go: larder purge --leave"
    );
    Ok(Some((file.clone(), text)))
}

/// A new file begins: it carries over what is in the `earlier` one, and then what that had still
/// to. What that could not stays named.
pub(crate) fn begin(db: &Connection, source: Source, earlier: &Connection) -> Result<()> {
    let Carry { sources, carried } = Carry::load(earlier)?;
    let sources = std::iter::once(source).chain(sources).collect();
    let carried = Carried { left: carried.left, ..Carried::default() };
    Carry { sources, carried }.save(db)
}

/// Notes that a file that was set aside could not be read from an entry on, and nobody else has
/// that.
pub(crate) fn note_unread(db: &Connection, file: &str, seq: u64) -> Result<()> {
    let mut carry = Carry::load(db)?;
    let what = "it, or what stands behind it, could not be read".to_owned();
    let left = LeftBehind { file: file.to_owned(), seq, what };
    if !carry.carried.left.contains(&left) {
        leave(&mut carry.carried, left);
        carry.save(db)?;
    }
    Ok(())
}

/// Notes that there is something to carry over, when a space is opened.
pub(crate) fn notice(db: &Connection, shared: &Shared) -> Result<()> {
    let sources = unfinished(db)?;
    if !sources.is_empty() {
        let mut carrying = shared.carrying();
        let carrying = carrying.get_or_insert_default();
        carrying.untaken = sources.iter().filter(|source| source.next.is_none()).count();
        carrying.has_taken = carrying.untaken < sources.len();
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
        let was_any = !sources.is_empty() || carried.is_done || !carried.left.is_empty();
        let is_done = sources.is_empty();
        Ok(was_any.then_some(Carried { is_done, ..carried }))
    }

    /// Whether another device that has something was heard of since the space was opened, and all
    /// is here that those hold of which that was heard.
    fn is_caught_up(&self, db: &Connection) -> Result<bool> {
        let published = self.shared.published()?;
        let held = logs::every(db)?;
        let is_here = |(device, size): &(DeviceId, u64)| {
            let log = held.iter().find(|log| log.device == *device);
            let is_stopped = published.stopped.contains(device);
            is_stopped
                || log.is_some_and(|log| log.frontier.size() >= *size)
                || !published.roster.may_have_log(device)
        };
        let carrying = self.shared.carrying();
        let peers = carrying.iter().flat_map(|carrying| &carrying.peers);
        let known = peers.filter(|(peer, heads)| {
            published.roster.by_transport(peer).is_some() && heads.iter().any(|(_, size)| *size > 0)
        });
        let known: Vec<_> = known.collect();
        Ok(!known.is_empty() && known.iter().all(|(_, heads)| heads.iter().all(is_here)))
    }

    /// Why what an old copy has is not carried over, beside that it was not heard yet what others
    /// have.
    pub(crate) fn not_carried(&self) -> Option<String> {
        let failed = self.shared.carrying().as_ref().and_then(|carrying| carrying.failed.clone());
        let role = self.own_role().ok().filter(|role| !role.may_write());
        failed.or_else(|| role.map(|role| Error::may_not_write(role).to_string()))
    }
}

impl SpaceWriter {
    /// Whether there is an old copy of which something is still to be carried over.
    pub fn has_old_copy(&self) -> bool {
        self.shared.carrying().is_some()
    }

    /// Whether this space goes on alone, and all that there is of it is in an old copy still.
    pub(crate) fn has_it_all_in_a_copy(&self) -> Result<bool> {
        if !self.has_old_copy() {
            return Ok(false);
        }
        let sources = unfinished(&*self.shared.pool.reader()?)?;
        Ok(sources.first().is_some_and(|source| source.is_alone))
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
        let has_taken = self.has_taken();
        if source.is_alone {
            // What lets it in is in the old file.
            return Ok(!has_taken || self.state().check_may_write().is_ok());
        }
        if !self.space().is_caught_up(&db)? {
            return Ok(false);
        }
        let state = self.state();
        let is_whole = state.check_may_write().is_ok() && !state.lacks() && self.is_shown();
        Ok(!has_taken || is_whole)
    }

    fn has_taken(&self) -> bool {
        self.shared.carrying().as_ref().is_some_and(|carrying| carrying.has_taken)
    }

    /// Carries some of what only an old copy has over into this device's log. Whether all is done,
    /// or nothing can be done now.
    ///
    /// # Errors
    /// The storage's errors. What was carried over is durable.
    pub fn carry_step(&mut self) -> Result<bool> {
        let done = self.carry_some();
        let failed = done.as_ref().err().map(ToString::to_string);
        let carrying = self.shared.carrying().as_mut().map(|carrying| {
            let is_new = carrying.failed != failed;
            carrying.failed = failed;
            is_new
        });
        if carrying == Some(true) {
            self.shared.trouble.changed();
        }
        done
    }

    fn carry_some(&mut self) -> Result<bool> {
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
            if self.has_taken() {
                self.compare(&old)?;
            } else {
                self.take_secrets(&old.db, &vault)?;
                self.take_from(&old, source)?;
            }
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

    fn end_carrying(&mut self, old: &Old, is_alone: bool) -> Result<()> {
        // Which of them are wanted depends on the documents.
        self.show()?;
        let unread = self.take_chunks(&old.db)?;
        let device = old.log.device;
        self.transact(|tx, state| {
            let mut carry = Carry::load(tx)?;
            if unread > 0 {
                carry.leave_of_first(0, format!("{unread} parts of files cannot be read"));
            }
            carry.end_first(tx)?;
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
        if let Some(carrying) = self.shared.carrying().as_mut()
            && source.next.is_none()
            && !carrying.has_taken
        {
            carrying.untaken = carrying.untaken.saturating_sub(1);
        }
        let left = LeftBehind { file: source.file.clone(), seq: 0, what };
        self.transact(|tx, _| {
            let mut carry = Carry::load(tx)?;
            carry.end_first(tx)?;
            leave(&mut carry.carried, left);
            carry.save(tx)
        })?;
        self.forget_peers()
    }

    /// An old file is done with.
    fn forget_peers(&self) -> Result<()> {
        let is_done = unfinished(&*self.shared.pool.reader()?)?.is_empty();
        let mut carrying = self.shared.carrying();
        if is_done {
            *carrying = None;
        } else if let Some(carrying) = carrying.as_mut() {
            carrying.has_taken = false;
        }
        drop(carrying);
        self.shared.trouble.changed();
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
const NAME: &str = "carrying";
const BYTES_MAX: usize = 1 << 20;
