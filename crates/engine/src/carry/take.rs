//! What is lacking here and is in the old file, taken over as from a peer; and where the old log
//! parts from the one that is here.

use larder_log::Payload;
use larder_protocol::{Fill, Supply};
use larder_store::space::logs::Log;
use larder_store::space::sections::{self, Section};
use larder_store::space::{entries, logs, units};
use rusqlite::Connection;

use super::old::Old;
use super::redo::{NO_KEYS, keep_key};
use super::{Carry, Source};
use crate::trouble::is_damage;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

impl SpaceWriter {
    /// Entries of other devices; of the old log, as many as another device signed that it holds;
    /// and bytes. All that can be read.
    pub(super) fn take_from(&mut self, old: &Old, source: &Source) -> Result<()> {
        let bound = if source.is_alone { u64::MAX } else { self.may_take(old, source)? };
        let of_others = self.take_over_up_to(&old.db, Some((source.device, bound)))?;
        self.take_bytes(old)?;
        self.show()?;
        self.transact(|tx, _| {
            let mut carry = Carry::load(tx)?;
            carry.carried.of_others += of_others;
            carry.save(tx)
        })?;
        if let Some(carrying) = self.shared.carrying().as_mut() {
            carrying.has_taken = true;
            carrying.untaken = carrying.untaken.saturating_sub(1);
        }
        Ok(())
    }

    /// Up to which entry the old log is to be as it is in the old file: somebody has it like that.
    /// None of it if the one that is here is another, or is known to have two histories.
    fn may_take(&self, old: &Old, source: &Source) -> Result<u64> {
        let db = self.shared.pool.reader()?;
        let here = logs::find(&db, &source.device)?;
        let is_stopped = self.state().stopped.contains(&source.device);
        let is_like = match &here {
            Some(here) => {
                old.first_unlike(&db, here)? > here.frontier.size().min(old.log.frontier.size())
            }
            None => true,
        };
        Ok(if is_like && !is_stopped { source.signed } else { 0 })
    }

    /// Bytes that are missing here, or are sealed and could not be opened.
    fn take_bytes(&mut self, old: &Old) -> Result<()> {
        let mut after = 0;
        loop {
            let page = sections::lacking(&*self.shared.pool.reader()?, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.section;
            let mut of_entry: Option<&Section> = None;
            for section in &page {
                let is_next = of_entry.is_none_or(|before| {
                    (before.place.log, before.place.seq) != (section.place.log, section.place.seq)
                });
                if !is_next {
                    continue;
                }
                of_entry = Some(section);
                let fill = {
                    let db = self.shared.pool.reader()?;
                    fill_of(&db, old, section)
                };
                let fill = match fill {
                    Err(error) if is_damage(&error) => None,
                    fill => fill?,
                };
                let Some(fill) = fill else { continue };
                let supply = Supply { sections: vec![fill], ..Supply::default() };
                match self.take_supply(&supply) {
                    // Not what was committed to: it is damaged there.
                    Ok(_) | Err(Error::Refused { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Where the old log parts from the one that is here, and what stands before that: under which
    /// idempotency keys it was written.
    pub(super) fn compare(&mut self, old: &Old) -> Result<()> {
        let unlike = {
            let db = self.shared.pool.reader()?;
            let here = logs::find(&db, &old.log.device)?;
            here.map_or(Ok(1), |here| old.first_unlike(&db, &here))?
        };
        self.transact(|tx, state| {
            let mut carry = Carry::load(tx)?;
            let next = state.first_void(&old.log.device).min(unlike);
            if let Some(source) = carry.sources.first_mut() {
                (source.unlike, source.next) = (unlike, Some(next));
            }
            if !keep_keys(tx, old, next)? {
                carry.leave_of_first(0, NO_KEYS.to_owned());
            }
            for (log, from) in lacking_of_others(tx, old)? {
                let (device, size) = (log.device, log.frontier.size());
                let what = format!("entries {from} to {size} of device {device} are not here");
                carry.leave_of_first(0, what);
            }
            carry.save(tx)
        })
    }
}

/// Notes under which idempotency keys entries were written that stand here: those of the old
/// log before `next`, and those of logs before it. Whether all could be read.
fn keep_keys(db: &Connection, old: &Old, next: u64) -> Result<bool> {
    let mut after = None;
    loop {
        let page = match units::page(&old.db, after.as_ref(), PAGE).map_err(Error::from) {
            Err(error) if is_damage(&error) => return Ok(false),
            page => page?,
        };
        let Some((last, _)) = page.last() else { return Ok(true) };
        after = Some(*last);
        for (key, unit) in page {
            let theirs = match unit.log {
                None if unit.seq >= next => continue,
                None => Some(old.log.clone()),
                Some(number) => logs::every(&old.db)?.into_iter().find(|log| log.log == number),
            };
            let Some(theirs) = theirs else { continue };
            let here = logs::find(db, &theirs.device)?;
            let here = here.filter(|here| unit.seq <= here.frontier.size());
            if let Some(here) = here {
                keep_key(db, &key, units::Unit { log: Some(here.log), ..unit })?;
            }
        }
    }
}

/// What the old file has of an entry of which a section is lacking here.
fn fill_of(db: &Connection, old: &Old, lacking: &Section) -> Result<Option<Fill>> {
    let place = lacking.place;
    let device = logs::by_number(db, place.log)?.device;
    let Some(log) = logs::find(&old.db, &device)? else { return Ok(None) };
    let Some(entry) = entries::hash(&old.db, log.log, place.seq)? else { return Ok(None) };
    let mut payloads = Vec::new();
    for section in sections::of_entry(&old.db, log.log, place.seq)? {
        let payload = sections::payload(&old.db, section.place).map_err(Error::from);
        payloads.push(match payload {
            Err(error) if is_damage(&error) => Payload::Missing,
            payload => payload?,
        });
    }
    let has_any = payloads.iter().any(|payload| *payload != Payload::Missing);
    Ok(has_any.then_some(Fill { device, seq: place.seq, entry, payloads }))
}

/// Logs of other devices of which the old file has more, each with the first entry that is not
/// here: it could not be read, or was refused.
fn lacking_of_others(db: &Connection, old: &Old) -> Result<Vec<(Log, u64)>> {
    let mut lacking = Vec::new();
    let every = match logs::every(&old.db).map_err(Error::from) {
        Err(error) if is_damage(&error) => Vec::new(),
        every => every?,
    };
    for log in every.into_iter().filter(|log| log.device != old.log.device) {
        let here = logs::find(db, &log.device)?.map_or(0, |here| here.frontier.size());
        if here < log.frontier.size() {
            lacking.push((log, here + 1));
        }
    }
    Ok(lacking)
}

const PAGE: u32 = 256;
