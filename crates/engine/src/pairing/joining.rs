//! The joining side of pairing: an invitation is taken up, and the space is in the profile once the
//! inviter has said yes.

use std::net::SocketAddr;

use larder_crypto::{AckKey, DeviceSigningKey, SealingKey, Secret};
use larder_log::act::DeviceKeys;
use larder_log::epoch::ControlSecret;
use larder_protocol::PairingError;
use larder_protocol::pairing::{
    Agreed, Asking, Ends, Guess, Heard, Invitation, PairReply, PairReveal, Refusal, ShortCode,
};
use larder_store::profile::{self as table, Membership};
use larder_types::limits::INVITATION_MS_MAX;
use larder_types::{Hash, SpaceId, Timestamp, TransportId};
use zeroize::Zeroizing;

use super::{Admission, Judgement};
use crate::black::stays_here;
use crate::found::prepare;
use crate::keyring::OwnKeys;
use crate::profile::Profile;
use crate::renew::{alone_id, opened_alone};
use crate::{Error, Result, Space, SpaceWriter};

/// A join under way, whose keys are kept until it is finished.
pub struct Joining {
    invitation: Invitation,
    keys: OwnKeys,
    transport: TransportId,
    label: String,
    /// Which space it is, once the inviter has said so.
    space: Option<SpaceId>,
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joining").field("inviter", &self.invitation.inviter).finish_non_exhaustive()
    }
}

/// What the inviter's answer comes to.
#[derive(Debug)]
pub enum Next {
    /// To be revealed; both ends show the code then.
    Reveal(PairReveal, Agreed),
    /// This device has tried to join that space before, and may be enrolled with the keys of that
    /// time: it takes those, and asks anew.
    AskAnew,
}

impl Profile {
    /// Takes up an invitation. This device's keys for the space are kept until the join is
    /// finished: after a cut, the same invitation goes on with the same keys, and so does another
    /// one to the same space.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it has expired; [`Error::ReadOnly`]; the storage's errors.
    pub fn begin_join(&self, invitation: Invitation) -> Result<Joining> {
        if self.inner.env.now() >= invitation.expires {
            let message =
                format!("this invitation expired at {}: ask for a new one", invitation.expires);
            return Err(Error::Invitation(message));
        }
        let id = invitation.id();
        // Which space it is, the answer tells.
        let keys = self.joining_keys(id, UNKNOWN)?;
        let (transport, label) = (self.transport_id(), self.label().to_owned());
        Ok(Joining { invitation, keys, transport, label, space: None })
    }

    /// The keys that are kept for a join, which are made now if there are none.
    pub(crate) fn joining_keys(&self, id: Hash, space: SpaceId) -> Result<OwnKeys> {
        let kept = self.inner.with_db(|db| Ok(table::joining(db, &id)?))?;
        if let Some(kept) = kept {
            return keys_of(&self.inner.unseal(&joining_purpose(&id), &kept.wrapped)?);
        }
        let keys = OwnKeys::generate(&mut *self.inner.env.entropy());
        self.keep_joining(id, space, &keys)?;
        Ok(keys)
    }

    fn keep_joining(&self, id: Hash, space: SpaceId, keys: &OwnKeys) -> Result<()> {
        let mut plain = Zeroizing::new(Vec::with_capacity(96));
        for secret in [keys.signing.to_secret(), keys.ack.to_secret(), keys.sealing.to_secret()] {
            plain.extend_from_slice(secret.expose());
        }
        let wrapped = self.inner.seal(&joining_purpose(&id), &plain);
        let started_at = self.inner.env.now();
        let joining = table::Joining { id, space, wrapped, started_at };
        self.inner.write_db(|db| Ok(table::put_joining(db, &joining)?))
    }

    /// What to say over a connection with this exporter.
    ///
    /// # Errors
    /// [`Error::Invitation`] if this device's label cannot be sent.
    pub fn ask(&self, joining: &Joining, exporter: &[u8; 32]) -> Result<Asking> {
        let (keys, entropy) = (joining.public(), &mut *self.inner.env.entropy());
        Asking::new(entropy, &joining.invitation.secret, exporter, keys, &joining.label)
            .map_err(|e| Error::Invitation(e.to_string()))
    }

    /// What to say first with a short code, over a connection with this exporter to this device.
    pub fn guess(&self, code: &ShortCode, exporter: &[u8; 32], inviter: &TransportId) -> Guess {
        let own = self.transport_id();
        let ends = Ends { exporter, joiner: &own, inviter };
        Guess::new(&mut *self.inner.env.entropy(), code, &ends)
    }

    /// The invitation that a short code comes to, once the device at `address` has answered.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it refuses.
    pub fn guessed(
        &self,
        guess: Guess,
        exporter: &[u8; 32],
        inviter: TransportId,
        address: SocketAddr,
        frame: &[u8],
    ) -> Result<Invitation> {
        let own = self.transport_id();
        let ends = Ends { exporter, joiner: &own, inviter: &inviter };
        let secret = guess.secret(frame, &ends).map_err(|e| Error::Invitation(e.to_string()))?;
        let expires = Timestamp(self.inner.env.now().0.saturating_add(INVITATION_MS_MAX));
        Ok(Invitation { inviter, addresses: vec![address], secret, expires })
    }

    /// Takes in the inviter's answer.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it is a refusal, or not the inviter's; [`Error::AlreadyExists`] if
    /// this device has the space, or another one of its name: it is not enrolled then.
    pub fn hear(&self, joining: &mut Joining, asking: Asking, frame: &[u8]) -> Result<Next> {
        let heard = asking.hear(frame).map_err(|e| Error::Invitation(e.to_string()))?;
        let (id, space) = (joining.invitation.id(), heard.space);
        let (rows, kept) =
            self.inner.with_db(|db| Ok((table::spaces(db)?, table::joinings(db)?)))?;
        let rows = rows.iter().filter(|row| row.state != Membership::Joining);
        let is_in_the_way = |row: &&table::Space| row.space == space || heard.is_named(&row.name);
        for row in rows.filter(is_in_the_way) {
            // One into which this device has to be let in again is what it asks for.
            if row.space == space && self.inner.is_renewing(&row.space)? {
                continue;
            }
            let message = format!("there is a space '{}' in this profile already", row.name);
            return Err(Error::AlreadyExists(message));
        }
        // Keys for going on alone are known to this device's copy at most.
        let alone = alone_id(&space, &joining.transport);
        let before = kept.iter().find(|row| row.space == space && row.id != alone);
        if let Some(before) = before {
            let purpose = joining_purpose(&before.id);
            let keys = keys_of(&self.inner.unseal(&purpose, &before.wrapped)?)?;
            if keys.signing.device_id() != joining.keys.signing.device_id() {
                self.keep_joining(id, space, &keys)?;
                joining.keys = keys;
                return Ok(Next::AskAnew);
            }
        }
        // Before anything is revealed: from then on this device may be enrolled.
        self.keep_joining(id, space, &joining.keys)?;
        joining.space = Some(space);
        let Heard { agreed, reveal, .. } = heard;
        Ok(Next::Reveal(reveal, agreed))
    }

    /// Finishes a join with the inviter's reply: the space is in the profile then, still empty. One
    /// into which this device had to be let in again ([`Profile::renew`]) must not be open.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it was refused or does not open; [`Error::AlreadyExists`] if there
    /// is a space of this name; the storage's errors.
    pub fn finish_join(
        &self,
        joining: Joining,
        agreed: &Agreed,
        reply: &PairReply,
    ) -> Result<(Space, SpaceWriter)> {
        let id = joining.invitation.id();
        let opened = reply.open(&joining.invitation.secret, agreed, &joining.keys.sealing);
        let welcome = match opened {
            Ok(welcome) => welcome,
            Err(error) => {
                if let PairingError::Refused { refusal: Refusal::Failed, .. } = error {
                    // Perhaps these keys were shut out: others are made the next time.
                    self.forget_joining(&id)?;
                }
                return Err(Error::Invitation(error.to_string()));
            }
        };
        let renewing = self.renewing_row(&welcome.space)?;
        let name = renewing.as_ref().map_or(&welcome.name, |row| &row.name);
        if let Some(name) = [name, &welcome.name].into_iter().find(|name| stays_here(name)) {
            // Its name would say that nothing leaves, while others have it.
            self.forget_joining(&id)?;
            return Err(Error::Invitation(format!(
                "'{name}' is to be joined, and a space of that kind is on one device alone: \
                 whoever invites to it is no honest device, or has another version"
            )));
        }
        if let Some(row) = renewing {
            let control = ControlSecret::new(welcome.control);
            self.renew_space(&row, joining.keys, &control, false)?;
            self.forget_joining(&id)?;
            return opened_alone(self, &row.name);
        }
        self.inner.make_room(&welcome.name)?;
        let row = self.inner.add_space(welcome.space, &welcome.name, &joining.keys)?;
        let shared = self.inner.shared(&row, joining.keys)?;
        let control = ControlSecret::new(welcome.control);
        let writer = prepare(self, &shared, &control)?;
        self.inner.joined(&welcome.space, &control)?;
        self.forget_joining(&id)?;
        Ok((writer.space(), writer))
    }

    /// The space with this id, if this device has to be let in to it again.
    fn renewing_row(&self, id: &SpaceId) -> Result<Option<table::Space>> {
        if !self.inner.is_renewing(id)? {
            return Ok(None);
        }
        self.inner.with_db(|db| Ok(table::space(db, id)?))
    }

    /// Forgets a join, and others to the same space.
    pub(crate) fn forget_joining(&self, id: &Hash) -> Result<()> {
        self.inner.write_db(|db| {
            let Some(done) = table::joining(db, id)? else { return Ok(()) };
            let same = |row: &table::Joining| row.id == *id || row.space == done.space;
            for row in table::joinings(db)?.into_iter().filter(same) {
                table::remove_joining(db, &row.id)?;
            }
            Ok(())
        })
    }

    /// All that two devices say until the welcome, within one process, approved by nobody: for
    /// tests and simulations.
    ///
    /// # Errors
    /// As [`Profile::ask`], [`Profile::hear`], [`Candidate::reveals`] and [`Profile::approve`];
    /// [`Error::Invitation`] if the inviter refuses.
    #[doc(hidden)]
    pub fn ask_within(
        &self,
        joining: &mut Joining,
        inviter: &Self,
        exporter: &[u8; 32],
    ) -> Result<(Agreed, Admission)> {
        loop {
            let asking = self.ask(joining, exporter)?;
            let request = asking.request().clone();
            let candidate = match inviter.judge(request, exporter, &self.transport_id()) {
                Judgement::Answer(candidate) => candidate,
                Judgement::Refuse(reply) => {
                    let refused = asking.hear(&reply.encode()).map(drop);
                    return Err(Error::Invitation(
                        refused.map_or_else(|e| e.to_string(), |()| String::new()),
                    ));
                }
            };
            match self.hear(joining, asking, &candidate.answer().encode())? {
                Next::AskAnew => {}
                Next::Reveal(reveal, agreed) => {
                    let ticket = candidate.reveals(&reveal)?;
                    return Ok((agreed, inviter.approve(&ticket)?));
                }
            }
        }
    }
}

impl Joining {
    /// Where the inviter is, and which key it has.
    pub const fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// The same join, with another invitation: the secret that a short code gives is that of one
    /// connection.
    #[must_use]
    pub fn with(self, invitation: Invitation) -> Self {
        Self { invitation, ..self }
    }

    /// Which space it is, once the inviter has said so.
    pub const fn space(&self) -> Option<SpaceId> {
        self.space
    }

    /// The keys that this device will have in the space.
    pub fn public(&self) -> DeviceKeys {
        self.keys.public(self.transport)
    }
}

/// Of a join, as long as no inviter has said which space it is.
const UNKNOWN: SpaceId = SpaceId::new([0; 32]);

pub(crate) fn joining_purpose(id: &Hash) -> String {
    format!("joining/{id}")
}

fn keys_of(secrets: &Secret<96>) -> Result<OwnKeys> {
    let part = |index: usize| {
        secrets.expose().get(index * 32..(index + 1) * 32).and_then(Secret::from_slice)
    };
    let (Some(signing), Some(ack), Some(sealing)) = (part(0), part(1), part(2)) else {
        return Err(Error::Internal("96 bytes are not three keys".into()));
    };
    Ok(OwnKeys {
        signing: Box::new(DeviceSigningKey::from_secret(&signing)),
        ack: Box::new(AckKey::from_secret(&ack)),
        sealing: SealingKey::from_secret(&sealing),
    })
}

#[cfg(test)]
mod tests {
    use larder_protocol::pairing::Welcome;
    use larder_types::SpaceName;

    use crate::Error;
    use crate::prune::tests::{Device, profile};

    /// An inviting device that lies calls its space `black:diary`: the joiner would write in it
    /// what is to stay on its device, and the other would have it with the next sync.
    #[test]
    fn nobody_is_talked_into_a_space_that_only_seems_to_stay() {
        let mut liar = Device::found(1);
        let joiner = profile(2);
        let invitation = liar.profile.invite(&liar.space, Vec::new()).unwrap();
        let name: SpaceName = "black:diary".parse().unwrap();
        liar.profile.inner.invitations.lock()[0].space = name.clone();
        let mut joining = joiner.begin_join(invitation).unwrap();
        let (agreed, admission) = joiner.ask_within(&mut joining, &liar.profile, &[9; 32]).unwrap();
        liar.writer.admit(admission.enrolment.clone()).unwrap();
        let welcome = Welcome {
            space: liar.space.id(),
            name,
            control: liar.space.shared.published().unwrap().keyring.control().secret().clone(),
            inviter: liar.space.device(),
        };
        let (keys, entropy) = (&admission.enrolment.keys.sealing, liar.profile.env());
        let reply = welcome
            .seal(&mut *entropy.entropy(), &admission.secret, &admission.agreed, keys)
            .unwrap();
        let refused = joiner.finish_join(joining, &agreed, &reply).map(drop);
        assert!(
            matches!(&refused, Err(Error::Invitation(why)) if why.contains("one device alone"))
        );
        assert!(joiner.space_names().unwrap().is_empty());
    }
}
