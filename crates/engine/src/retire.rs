//! A device gives way to another one of the same member, which has all that it has.

use std::collections::HashSet;

use larder_log::Receipt;
use larder_log::roster::Device;
use larder_store::space::{control, kept, logs};
use larder_types::{DeviceId, Hash, TransportId};
use rusqlite::Connection;

use crate::carry;
use crate::model::Kept;
use crate::space::Space;
use crate::state::State;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// The device that is to take this one's place, and the chunks of files that it said to have: its
/// word, which is asked for in each session until the space is closed.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    to: Option<DeviceId>,
    has: HashSet<Hash>,
}

impl Leaving {
    fn begin(&mut self, to: DeviceId) {
        if self.to != Some(to) {
            *self = Self { to: Some(to), has: HashSet::new() };
        }
    }

    pub(crate) fn note(&mut self, chunks: &[Hash]) {
        self.has.extend(chunks);
    }

    pub(crate) fn has(&self, chunk: &Hash) -> bool {
        self.has.contains(chunk)
    }
}

impl Space {
    /// Whether a peer is the device that is to take this one's place. Of one whose log has two
    /// histories nobody knows which of both it will be.
    pub(crate) fn leaves_to(&self, peer: &TransportId) -> Result<bool> {
        let Some(to) = self.shared.leaving().to else { return Ok(false) };
        let peer = self.reading_peer(peer, &[])?;
        Ok(peer.is_some_and(|(peer, _)| peer.is(&to) && !peer.is_forked()))
    }
}

impl SpaceWriter {
    /// Shuts this device out of the space, by itself and for good, once another device of the same
    /// member has signed that it holds every entry that is here, and may do and read as much as
    /// this one: for who moves to a new phone. Unless it `leaves_files`, that one has also said
    /// that it has all that is here of files: it is asked in each session from the first call on.
    /// Nothing that is on this device goes. The others hear of it when they sync next; `to` has to.
    ///
    /// # Errors
    /// [`Error::NotFound`] if `to` does not belong to the space; [`Error::Invalid`] if it may do or
    /// read less, is another member's, or has not signed for everything or said to have all files
    /// yet: sync with it, and call this again; if this device keeps what is above its clearance and
    /// nobody else is known to have; if an old copy of this device may have what is nowhere else
    /// ([`SpaceWriter::leave_behind`]). Nothing is written then. The storage's errors.
    pub fn retire(&mut self, to: DeviceId, leaves_files: bool) -> Result<Receipt> {
        self.transact(|tx, state| {
            state.shared.leaving().begin(to);
            state.check_succeeds(tx, &to)?;
            if !leaves_files {
                state.check_has_files(tx, &to)?;
            }
            let me = state.device();
            state.revoke(tx, &[me], Vec::new())
        })
    }
}

impl State {
    /// Whether another device may take this one's place, and has all that is here.
    fn check_succeeds(&self, db: &Connection, to: &DeviceId) -> Result<()> {
        let me = self.device();
        let own = self.roster.device(&me).ok_or(Error::ShutOut)?;
        let other =
            self.roster.device(to).filter(|_| *to != me).ok_or_else(|| {
                Error::NotFound(format!("no other device {to} belongs to the space"))
            })?;
        let label = &other.label;
        let refuse = |why: String| Err(Error::Invalid(why));
        if other.member != own.member {
            return refuse(format!(
                "{label} is another member's: it is not this device's successor"
            ));
        }
        if other.role > own.role || Device::always_cleared(other) < own.clearance {
            return refuse(format!(
                "{label} is {} and has been cleared up to {:?} ever since it came, this device is \
                 {} and reads up to {:?}: what is above that only this device might have",
                other.role,
                other.always_cleared(),
                own.role,
                own.clearance
            ));
        }
        if carry::is_going_on(db)? {
            return refuse(
                "what only an old copy of this device has is not carried over yet: sync with a \
                 device that has the space's history first"
                    .into(),
            );
        }
        if let Some((_, what)) = carry::left_text(db)? {
            return refuse(what);
        }
        let kept = crate::kept::count(db)?;
        if kept != Kept::default() {
            return refuse(format!(
                "this device keeps {} documents, {} edits and {} parts of files above its \
                 clearance that no other device is known to have: sync with one that is cleared \
                 for them first",
                kept.documents, kept.sections, kept.chunks
            ));
        }
        if self.lacks() || !is_whole(db, to)? {
            return refuse(format!(
                "{label} has not signed yet that it holds all that is here: sync the two first"
            ));
        }
        Ok(())
    }
}

impl State {
    /// Whether another device said that it has what is here of files.
    fn check_has_files(&self, db: &Connection, to: &DeviceId) -> Result<()> {
        let (mut lacking, mut after) = (0_u64, 0);
        loop {
            let page = kept::page_of_blobs(db, after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let leaving = self.shared.leaving();
            lacking += page.iter().filter(|(_, chunk)| !leaving.has(chunk)).count() as u64;
        }
        if lacking == 0 {
            return Ok(());
        }
        let label = self.roster.device(to).map_or("it", |device| &device.label);
        Err(Error::Invalid(format!(
            "{label} has not said yet that it has the files that are here: {lacking} parts of them \
             may be nowhere else. Let it fetch them, and sync the two once more"
        )))
    }
}

/// Rows that are in memory at once.
const PAGE: u32 = 256;

/// Whether a device signed that it holds all entries that are here, but its own.
fn is_whole(db: &Connection, holder: &DeviceId) -> Result<bool> {
    let acks = control::acks(db)?;
    let signed = |log: &DeviceId| {
        let ack = acks.iter().find(|ack| ack.acker == *holder && ack.device == *log);
        ack.map_or(0, |ack| ack.size)
    };
    let every = logs::every(db)?;
    let mut others = every.iter().filter(|log| log.device != *holder);
    Ok(others.all(|log| signed(&log.device) >= log.frontier.size()))
}

#[cfg(test)]
mod tests {
    use larder_log::Band;

    use crate::prune::tests::Device;
    use crate::{Error, Role, Terms, Whose};

    fn acks(from: &Device, to: &mut Device) {
        let me = from.profile.transport_id();
        let request = larder_protocol::Request::ReadFrontiers;
        let crate::Answer::Reply(larder_protocol::Reply::Frontiers { acks, .. }) =
            from.space.answer(&me, request)
        else {
            panic!()
        };
        to.writer.store_acks(&acks).unwrap();
    }

    /// Somebody moved to a new phone, shut the old one out when the new one had said hello, and the
    /// photos' captions of that day were on the old one alone. A device goes only once the one in
    /// its place has signed for everything, and whatever is cut leaves both in the space.
    #[test]
    fn a_device_gives_way_only_to_one_that_has_all_it_has() {
        let mut old = Device::found(1);
        old.put(1, &serde_json::json!({"n": 1}));
        let terms = |of, role, clearance| Terms { of, role, clearance };
        let own = terms(Whose::Own, Role::Owner, Band::Red);
        let mut new = old.invite_on(crate::prune::tests::profile(2), own);
        let stranger = old
            .invite_on(crate::prune::tests::profile(3), terms(Whose::New, Role::Owner, Band::Red));
        let less = old.invite_on(
            crate::prune::tests::profile(4),
            terms(Whose::Own, Role::Owner, Band::Green),
        );
        old.put(2, &serde_json::json!({"n": 2}));
        let ids = [&new, &stranger, &less].map(|device| device.space.device());
        for (id, why) in
            ids.into_iter().zip(["not signed yet", "another member's", "cleared up to"])
        {
            let refused = old.writer.retire(id, false).unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
        let me = old.space.device();
        assert!(matches!(old.writer.retire(me, false), Err(Error::NotFound(_))));
        new.pull(&old);
        assert!(old.writer.retire(ids[0], false).is_err(), "it has it, and has not said so here");
        acks(&new, &mut old);
        old.put(3, &serde_json::json!({"n": 3}));
        assert!(old.writer.retire(ids[0], false).is_err(), "one more");
        new.pull(&old);
        acks(&new, &mut old);
        old.writer.retire(ids[0], false).unwrap();
        assert!(matches!(old.writer.check_may_write(), Err(Error::ShutOut)));
        assert!(old.space.document(&larder_types::ObjectId::new([3; 16])).unwrap().is_some());
        new.pull(&old);
        let left: Vec<_> = new.space.devices().unwrap().iter().map(|one| one.device).collect();
        assert!(!left.contains(&me) && left.contains(&ids[0]));
        new.put(3, &serde_json::json!({"n": "goes on"}));
    }
}
