//! How a device is admitted: an invitation, one request and one welcome.

use std::net::SocketAddr;
use std::sync::PoisonError;

use larder_crypto::hash::sha256;
use larder_crypto::{AckKey, DeviceSigningKey, SealingKey, Secret};
use larder_log::act::{DeviceKeys, Enrolment, Role};
use larder_log::epoch::ControlSecret;
use larder_log::{Band, VERSION};
use larder_protocol::pairing::{Invitation, PairReply, PairRequest, Refusal, Welcome};
use larder_store::profile as table;
use larder_types::limits::INVITATION_MS_MAX;
use larder_types::{Hash, MemberId, SpaceId, SpaceName, Timestamp, TransportId};
use zeroize::Zeroizing;

use crate::found::prepare;
use crate::keyring::OwnKeys;
use crate::profile::Profile;
use crate::{Error, Result, Space, SpaceWriter};

/// An invitation of this process: it ends with it.
pub(crate) struct Open {
    secret: Secret<16>,
    space: SpaceName,
    terms: Terms,
    /// Whose device it will be.
    member: MemberId,
    expires: Timestamp,
    used_by: Option<DeviceKeys>,
}

/// As whose device, and as what, somebody is invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whose device it will be.
    pub of: Whose,
    /// What it may do.
    pub role: Role,
    /// The highest band it may read.
    pub clearance: Band,
}

/// Whose device an invitation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of the member who invites.
    Own,
    /// That of somebody who has no device in the space yet.
    New,
    /// That of this member.
    Of(MemberId),
}

impl Default for Terms {
    /// Another device of the member who invites, which may do everything.
    fn default() -> Self {
        Self { of: Whose::Own, role: Role::Owner, clearance: Band::Red }
    }
}

/// What a request to be admitted comes to.
#[derive(Debug)]
pub enum Judgement {
    /// It is to be enrolled; then [`Profile::welcome`] answers it.
    Admit(Box<Ticket>),
    /// It is refused.
    Refuse(PairReply),
}

/// A request that was found good.
#[derive(Debug)]
pub struct Ticket {
    /// The space it asks for.
    pub space: SpaceName,
    /// The act that enrols it, for [`SpaceWriter::admit`].
    pub enrolment: Enrolment,
    request: PairRequest,
    secret: Secret<16>,
}

/// A join under way, whose keys are kept until it is finished.
pub struct Joining {
    invitation: Invitation,
    keys: OwnKeys,
    transport: TransportId,
    label: String,
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joining").field("inviter", &self.invitation.inviter).finish_non_exhaustive()
    }
}

impl Profile {
    /// Makes an invitation to a space on the [`Terms`] that are usual: good once, for ten minutes,
    /// while this process runs. `addresses` is where this device listens.
    ///
    /// # Errors
    /// As [`Profile::invite_on`].
    pub fn invite(&self, space: &Space, addresses: Vec<SocketAddr>) -> Result<Invitation> {
        let role = space.own_role()?;
        self.invite_on(space, addresses, Terms { role, ..Terms::default() })
    }

    /// The same on other terms.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; [`Error::NotYetEnrolled`], [`Error::ShutOut`]; [`Error::Invalid`] if
    /// this device has no right to invite somebody on these terms.
    pub fn invite_on(
        &self,
        space: &Space,
        addresses: Vec<SocketAddr>,
        terms: Terms,
    ) -> Result<Invitation> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let env = &self.inner.env;
        let own = space.own_record()?;
        let member = match terms.of {
            Whose::Own => own.member,
            Whose::New => MemberId::random(&mut *env.entropy()),
            Whose::Of(member) => member,
        };
        let is_own = member == own.member && own.role.may_write() && own.role <= terms.role;
        let may_clear = own.role == Role::Owner || terms.clearance <= own.clearance;
        if !may_clear || !(own.role.rules(terms.role) || is_own) {
            return Err(Error::Invalid(format!(
                "this device is {} in the space, cleared for {:?}, and may not admit somebody as \
                 {} cleared for {:?}: a greater device has to",
                own.role, own.clearance, terms.role, terms.clearance
            )));
        }
        let secret: Secret<16> = Secret::random(&mut *env.entropy());
        let expires = Timestamp(env.now().0.saturating_add(INVITATION_MS_MAX));
        let open = Open {
            secret: secret.clone(),
            space: space.name().clone(),
            terms,
            member,
            expires,
            used_by: None,
        };
        self.inner.invitations.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        Ok(Invitation { inviter: self.transport_id(), addresses, secret, expires })
    }

    /// Whether an unknown device may come to pair now.
    pub fn invitation_open(&self) -> bool {
        let now = self.inner.env.now();
        let open = self.inner.invitations.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().any(|invitation| now < invitation.expires)
    }

    /// Judges a request that came over a connection with this exporter, from this peer. An
    /// invitation is used up by the first device that proves to have it; that one may ask again.
    pub fn judge(
        &self,
        request: PairRequest,
        exporter: &[u8; 32],
        peer: &TransportId,
    ) -> Judgement {
        let now = self.inner.env.now();
        let refuse =
            |refusal: Refusal| Judgement::Refuse(PairReply::refused(refusal, &refusal.to_string()));
        let mut open = self.inner.invitations.lock().unwrap_or_else(PoisonError::into_inner);
        let proven = |open: &&mut Open| request.verify(&open.secret, exporter, peer).is_ok();
        let Some(invitation) = open.iter_mut().find(proven) else {
            return refuse(Refusal::Unknown);
        };
        match &invitation.used_by {
            Some(keys) if keys != request.keys() => return refuse(Refusal::Used),
            Some(_) => {}
            None if now >= invitation.expires => return refuse(Refusal::Expired),
            None => invitation.used_by = Some(request.keys().clone()),
        }
        // Whose device it is, the inviter says.
        let enrolment = Enrolment {
            v: VERSION,
            member: invitation.member,
            label: request.label().to_owned(),
            role: invitation.terms.role,
            clearance: invitation.terms.clearance,
            keys: request.keys().clone(),
        };
        let (space, secret) = (invitation.space.clone(), invitation.secret.clone());
        Judgement::Admit(Box::new(Ticket { space, enrolment, request, secret }))
    }

    /// The answer to a device whose enrolment is durable.
    ///
    /// # Errors
    /// [`Error::Invitation`] if its keys cannot be sealed to.
    pub fn welcome(
        &self,
        ticket: &Ticket,
        space: &Space,
        exporter: &[u8; 32],
    ) -> Result<PairReply> {
        let control = space.shared.published()?.keyring.control().secret().clone();
        let welcome = Welcome {
            space: space.id(),
            name: space.name().clone(),
            control,
            inviter: space.device(),
        };
        let transcript = ticket.request.transcript(exporter);
        let recipient = &ticket.request.keys().sealing;
        welcome
            .seal(&mut *self.inner.env.entropy(), &ticket.secret, &transcript, recipient)
            .map_err(|e| Error::Invitation(e.to_string()))
    }

    /// Takes up an invitation. This device's keys for the space are kept until the join is
    /// finished: after a cut, the same invitation goes on with the same keys.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it has expired; [`Error::ReadOnly`]; the storage's errors.
    pub fn begin_join(&self, invitation: Invitation) -> Result<Joining> {
        if self.inner.env.now() >= invitation.expires {
            let message =
                format!("this invitation expired at {}: ask for a new one", invitation.expires);
            return Err(Error::Invitation(message));
        }
        let id = joining_id(&invitation);
        let purpose = joining_purpose(&id);
        let kept = self.inner.with_db(|db| Ok(table::joining(db, &id)?))?;
        let keys = if let Some(kept) = kept {
            keys_of(&self.inner.unseal(&purpose, &kept.wrapped)?)?
        } else {
            let keys = OwnKeys::generate(&mut *self.inner.env.entropy());
            let mut plain = Zeroizing::new(Vec::with_capacity(96));
            for secret in [keys.signing.to_secret(), keys.ack.to_secret(), keys.sealing.to_secret()]
            {
                plain.extend_from_slice(secret.expose());
            }
            let wrapped = self.inner.seal(&purpose, &plain);
            let started_at = self.inner.env.now();
            // Which space it is, the welcome tells.
            let space = SpaceId::new([0; 32]);
            let joining = table::Joining { id, space, wrapped, started_at };
            self.inner.write_db(|db| Ok(table::put_joining(db, &joining)?))?;
            keys
        };
        let (transport, label) = (self.transport_id(), self.label().to_owned());
        Ok(Joining { invitation, keys, transport, label })
    }

    /// Finishes a join with the inviter's reply: the space is in the profile then, still empty.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it was refused or does not open; [`Error::AlreadyExists`] if there
    /// is a space of this name; the storage's errors.
    pub fn finish_join(
        &self,
        joining: Joining,
        exporter: &[u8; 32],
        reply: &PairReply,
    ) -> Result<(Space, SpaceWriter)> {
        let request = joining.request(exporter)?;
        let transcript = request.transcript(exporter);
        let id = joining_id(&joining.invitation);
        let welcome = reply
            .open(&joining.invitation.secret, &transcript, &joining.keys.sealing)
            .map_err(|e| Error::Invitation(e.to_string()))?;
        self.inner.make_room(&welcome.name)?;
        let row = self.inner.add_space(welcome.space, &welcome.name, &joining.keys)?;
        let shared = self.inner.shared(&row, joining.keys)?;
        let control = ControlSecret::new(welcome.control);
        let writer = prepare(self, &shared, &control)?;
        self.inner.joined(&welcome.space, &control)?;
        self.inner.write_db(|db| Ok(table::remove_joining(db, &id)?))?;
        Ok((writer.space(), writer))
    }
}

impl Joining {
    /// Where the inviter is, and which key it has.
    pub const fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// What to send over a connection with this exporter.
    ///
    /// # Errors
    /// [`Error::Invitation`] if this device's label cannot be sent.
    pub fn request(&self, exporter: &[u8; 32]) -> Result<PairRequest> {
        let keys = self.keys.public(self.transport);
        PairRequest::new(&self.invitation.secret, exporter, keys, &self.label, None)
            .map_err(|e| Error::Invitation(e.to_string()))
    }
}

fn joining_id(invitation: &Invitation) -> Hash {
    sha256(&[b"larder/invitation/v0", invitation.secret.expose()])
}

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
        signing: DeviceSigningKey::from_secret(&signing),
        ack: AckKey::from_secret(&ack),
        sealing: SealingKey::from_secret(&sealing),
    })
}
