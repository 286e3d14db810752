//! How a device is admitted: an invitation, what the two devices say to each other, the approval of
//! a person who has compared the check codes, and one welcome.
//!
//! Nothing is signed or sealed before the approval: only an [`Admission`] has the act.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_crypto::Secret;
use larder_crypto::hash::sha256;
use larder_log::VERSION;
use larder_log::act::{DeviceKeys, Enrolment, Role};
use larder_protocol::PairingError;
use larder_protocol::pairing::{
    Agreed, Answering, CheckCode, CodeAnswer, CodeStart, Ends, Invitation, PairAnswer, PairReply,
    PairRequest, PairReveal, Refusal, ShortCode, Welcome,
};
use larder_types::limits::{INVITATION_MS_MAX, INVITATION_TRIES_MAX};
use larder_types::{Hash, MemberId, SpaceId, SpaceName, Timestamp, TransportId};

use crate::profile::Profile;
use crate::{Error, Result, Space};

pub use joining::{Joining, Next};
pub use terms::{Terms, Whose};

pub(crate) use joining::joining_purpose;

mod joining;
mod terms;

/// The invitations of this process: they end with it.
#[derive(Clone, Default)]
pub(crate) struct Invitations(Arc<Mutex<Vec<Open>>>);

impl Invitations {
    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that are of use: what a person carried is forgotten once it opens nothing any more.
    fn sweep(&self, now: Timestamp) -> MutexGuard<'_, Vec<Open>> {
        let mut all = self.lock();
        all.retain(|open| open.approved.is_some() || open.current.is_some() || now < open.expires);
        all
    }
}

struct Open {
    id: Hash,
    by: By,
    space: SpaceName,
    space_id: SpaceId,
    terms: Terms,
    /// Whose device it will be.
    member: MemberId,
    expires: Timestamp,
    /// How often it was answered.
    tries: u32,
    /// The try that is under way, and whose it is.
    current: Option<(u32, TransportId)>,
    /// Whom a person has let in.
    approved: Option<DeviceKeys>,
}

/// What a device has to know.
enum By {
    Text(Secret<16>),
    Code(ShortCode),
}

impl Open {
    fn secret(&self) -> Option<&Secret<16>> {
        match &self.by {
            By::Text(secret) => Some(secret),
            By::Code(_) => None,
        }
    }

    /// Whether this device may still come with it.
    fn is_open_to(&self, peer: &TransportId, now: Timestamp) -> bool {
        match &self.approved {
            Some(keys) => keys.transport == *peer,
            None => now < self.expires && self.tries < INVITATION_TRIES_MAX,
        }
    }

    /// Begins a try, if there is one left for this device.
    fn begin(
        &mut self,
        now: Timestamp,
        peer: &TransportId,
        open: &Invitations,
    ) -> std::result::Result<Attempt, Refusal> {
        match &self.approved {
            Some(keys) if keys.transport != *peer => return Err(Refusal::Used),
            None if now >= self.expires => return Err(Refusal::Expired),
            None if self.tries >= INVITATION_TRIES_MAX => return Err(Refusal::Burned),
            // Who comes back takes the place of its own connection that was cut.
            None if self.current.is_some_and(|(_, other)| other != *peer) => {
                return Err(Refusal::Busy);
            }
            Some(_) | None => {}
        }
        self.tries = self.tries.saturating_add(1);
        self.current = Some((self.tries, *peer));
        Ok(Attempt { open: open.clone(), invitation: self.id, number: self.tries })
    }
}

/// An invitation by a short code.
#[derive(Debug)]
pub struct CodeInvitation {
    /// As [`Invitation::id`].
    pub id: Hash,
    /// What the person types on the other device.
    pub code: ShortCode,
    /// When the inviter stops honouring it.
    pub expires: Timestamp,
}

/// What the beginning of a short code's exchange comes to.
#[derive(Debug)]
pub enum CodeJudgement {
    /// It gets an answer; the request that follows goes to [`Profile::judge_guess`].
    Answer(Box<CodeGuess>),
    /// It is refused.
    Refuse(PairReply),
}

/// A device that guesses at a short code, and has not shown yet whether it knows it.
#[derive(Debug)]
pub struct CodeGuess {
    answer: CodeAnswer,
    secret: Secret<16>,
    attempt: Attempt,
}

impl CodeGuess {
    /// To be sent.
    pub const fn answer(&self) -> &CodeAnswer {
        &self.answer
    }
}

/// What a request to be admitted comes to.
#[derive(Debug)]
pub enum Judgement {
    /// It gets an answer; what the device reveals then goes to [`Candidate::reveals`].
    Answer(Box<Candidate>),
    /// It is refused.
    Refuse(PairReply),
}

/// A device that was answered. No other is, on the same invitation, until this is dropped.
#[derive(Debug)]
pub struct Candidate {
    answering: Answering,
    secret: Secret<16>,
    attempt: Attempt,
}

/// A device that waits for a person's approval.
#[derive(Debug)]
pub struct Ticket {
    request: PairRequest,
    agreed: Agreed,
    secret: Secret<16>,
    attempt: Attempt,
}

/// A device that a person has approved.
#[derive(Debug)]
pub struct Admission {
    /// The space it asks for.
    pub space: SpaceName,
    /// The act that enrols it, for [`SpaceWriter::admit`](crate::SpaceWriter::admit).
    pub enrolment: Enrolment,
    agreed: Agreed,
    secret: Secret<16>,
}

/// A try at an invitation. It is over when this is dropped.
struct Attempt {
    open: Invitations,
    invitation: Hash,
    number: u32,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut all = self.open.lock();
        let open = all.iter_mut().find(|open| open.id == self.invitation);
        if let Some(open) = open
            && open.current.is_some_and(|(number, _)| number == self.number)
        {
            open.current = None;
        }
    }
}

impl Candidate {
    /// To be sent.
    pub const fn answer(&self) -> &PairAnswer {
        self.answering.answer()
    }

    /// Takes in what the device reveals; then a person is asked.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it is not what the device was committed to.
    pub fn reveals(self, reveal: &PairReveal) -> Result<Box<Ticket>> {
        let agreed =
            self.answering.revealed(reveal).map_err(|e| Error::Invitation(e.to_string()))?;
        let request = self.answering.request().clone();
        let Self { secret, attempt, .. } = self;
        Ok(Box::new(Ticket { request, agreed, secret, attempt }))
    }
}

impl Ticket {
    /// What both ends show.
    pub const fn check_code(&self) -> CheckCode {
        self.agreed.check_code()
    }

    /// What the device calls itself.
    pub fn label(&self) -> &str {
        self.request.label()
    }

    /// The keys that it will have.
    pub fn keys(&self) -> &DeviceKeys {
        self.request.keys()
    }

    /// The invitation's [`Invitation::id`].
    pub const fn invitation(&self) -> Hash {
        self.attempt.invitation
    }

    /// Whether a person has approved these very keys before, and the device did not hear of it.
    pub fn was_approved(&self) -> bool {
        let all = self.attempt.open.lock();
        let open = all.iter().find(|open| open.id == self.attempt.invitation);
        open.is_some_and(|open| open.approved.as_ref() == Some(self.keys()))
    }
}

impl Profile {
    /// Makes an invitation to a space on the [`Terms`] that are usual: good once, for ten minutes,
    /// while this process runs. `addresses` is where this device listens.
    ///
    /// # Errors
    /// As [`Profile::invite_on`].
    pub fn invite(&self, space: &Space, addresses: Vec<SocketAddr>) -> Result<Invitation> {
        self.invite_on(space, addresses, Terms::usual(space)?)
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
        let member = self.member_on(space, terms)?;
        let env = &self.inner.env;
        let secret: Secret<16> = Secret::random(&mut *env.entropy());
        let expires = Timestamp(env.now().0.saturating_add(INVITATION_MS_MAX));
        let invitation =
            Invitation { inviter: self.transport_id(), addresses, secret: secret.clone(), expires };
        self.open_invitation(invitation.id(), By::Text(secret), space, terms, member, expires);
        Ok(invitation)
    }

    /// An invitation by eight digits, for a device in the same network. One is open at a time: an
    /// earlier one is withdrawn.
    ///
    /// # Errors
    /// As [`Profile::invite_on`].
    pub fn invite_by_code(&self, space: &Space, terms: Option<Terms>) -> Result<CodeInvitation> {
        let terms = match terms {
            Some(terms) => terms,
            None => Terms::usual(space)?,
        };
        let member = self.member_on(space, terms)?;
        let env = &self.inner.env;
        let code = ShortCode::random(&mut *env.entropy());
        let id = sha256(&[CODE_ID_LABEL, Secret::<32>::random(&mut *env.entropy()).expose()]);
        let expires = Timestamp(env.now().0.saturating_add(INVITATION_MS_MAX));
        let is_code = |open: &&mut Open| matches!(open.by, By::Code(_));
        for open in self.inner.invitations.lock().iter_mut().filter(is_code) {
            open.expires = Timestamp(0);
        }
        self.open_invitation(id, By::Code(code.clone()), space, terms, member, expires);
        Ok(CodeInvitation { id, code, expires })
    }

    fn open_invitation(
        &self,
        id: Hash,
        by: By,
        space: &Space,
        terms: Terms,
        member: MemberId,
        expires: Timestamp,
    ) {
        let (space, space_id) = (space.name().clone(), space.id());
        let (tries, current, approved) = (0, None, None);
        self.inner.invitations.sweep(self.inner.env.now()).push(Open {
            id,
            by,
            space,
            space_id,
            terms,
            member,
            expires,
            tries,
            current,
            approved,
        });
    }

    /// Whose device an invitation on these terms is for.
    fn member_on(&self, space: &Space, terms: Terms) -> Result<MemberId> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        space.shared.check_leaves("nobody can be invited to it")?;
        let env = &self.inner.env;
        let own = space.own_record()?;
        terms.check_policy(space, (own.role, own.member))?;
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
        Ok(member)
    }

    /// Honours an invitation no more, but for the device that was let in with it.
    pub fn withdraw(&self, invitation: &Hash) {
        for open in self.inner.invitations.lock().iter_mut().filter(|open| open.id == *invitation) {
            open.expires = Timestamp(0);
        }
        drop(self.inner.invitations.sweep(self.inner.env.now()));
    }

    /// Whether this device, which nobody may know, may come to pair now: with an invitation that
    /// is good for another try, or as the one that was let in with it.
    pub fn invitation_open(&self, peer: &TransportId) -> bool {
        let now = self.inner.env.now();
        self.inner.invitations.sweep(now).iter().any(|open| open.is_open_to(peer, now))
    }

    /// Judges a request that came over a connection with this exporter, from this peer. It costs
    /// the invitation one of [`INVITATION_TRIES_MAX`] tries, whatever becomes of it. An invitation
    /// is used up by the device that is approved; that one may ask again.
    pub fn judge(
        &self,
        request: PairRequest,
        exporter: &[u8; 32],
        peer: &TransportId,
    ) -> Judgement {
        let now = self.inner.env.now();
        let mut all = self.inner.invitations.lock();
        let proven = |open: &&mut Open| {
            open.secret().is_some_and(|secret| request.verify(secret, exporter, peer).is_ok())
        };
        let Some(open) = all.iter_mut().find(proven) else {
            return Judgement::Refuse(refused(Refusal::Unknown));
        };
        if open.approved.as_ref().is_some_and(|keys| keys != request.keys()) {
            return Judgement::Refuse(refused(Refusal::Used));
        }
        let Some(secret) = open.secret().cloned() else {
            return Judgement::Refuse(refused(Refusal::Unknown));
        };
        let attempt = match open.begin(now, peer, &self.inner.invitations) {
            Ok(attempt) => attempt,
            Err(refusal) => return Judgement::Refuse(refused(refusal)),
        };
        self.answer(request, exporter, secret, attempt, open)
    }

    fn answer(
        &self,
        request: PairRequest,
        exporter: &[u8; 32],
        secret: Secret<16>,
        attempt: Attempt,
        open: &Open,
    ) -> Judgement {
        let (entropy, name) = (&mut *self.inner.env.entropy(), &open.space);
        let answering = Answering::new(entropy, &secret, exporter, request, open.space_id, name);
        Judgement::Answer(Box::new(Candidate { answering, secret, attempt }))
    }

    /// Answers a device that begins with a short code, and so lets it guess once: that costs the
    /// invitation a try.
    pub fn judge_code(
        &self,
        start: &CodeStart,
        exporter: &[u8; 32],
        peer: &TransportId,
    ) -> CodeJudgement {
        let now = self.inner.env.now();
        let mut all = self.inner.invitations.lock();
        let newest = all.iter_mut().rev().find_map(|open| match &open.by {
            By::Code(code) => Some((code.clone(), open)),
            By::Text(_) => None,
        });
        let Some((code, open)) = newest else {
            return CodeJudgement::Refuse(refused(Refusal::Unknown));
        };
        let attempt = match open.begin(now, peer, &self.inner.invitations) {
            Ok(attempt) => attempt,
            Err(refusal) => return CodeJudgement::Refuse(refused(refusal)),
        };
        let own = self.transport_id();
        let ends = Ends { exporter, joiner: peer, inviter: &own };
        let answered = start.answer(&mut *self.inner.env.entropy(), &code, &ends);
        drop(all);
        match answered {
            Ok((answer, secret)) => {
                CodeJudgement::Answer(Box::new(CodeGuess { answer, secret, attempt }))
            }
            Err(_) => CodeJudgement::Refuse(refused(Refusal::Unusable)),
        }
    }

    /// [`Profile::judge`] for a device that was answered on a short code: its request shows whether
    /// it has the right one.
    pub fn judge_guess(
        &self,
        guess: CodeGuess,
        request: PairRequest,
        exporter: &[u8; 32],
        peer: &TransportId,
    ) -> Judgement {
        let CodeGuess { secret, attempt, .. } = guess;
        // An attempt that is dropped here looks for its invitation.
        let all = Invitations::clone(&self.inner.invitations);
        let all = all.lock();
        let open = all.iter().find(|open| open.id == attempt.invitation);
        let refusal = match (request.verify(&secret, exporter, peer), open) {
            (Ok(()), Some(open)) => match &open.approved {
                Some(keys) if keys != request.keys() => Refusal::Used,
                _ => return self.answer(request, exporter, secret, attempt, open),
            },
            (Err(PairingError::WrongProof), _) => Refusal::WrongCode,
            (Err(_), _) => Refusal::Unusable,
            (Ok(()), None) => Refusal::Unknown,
        };
        drop(all);
        Judgement::Refuse(refused(refusal))
    }

    /// A person, or the app that decides in its place, has approved: the invitation is used up.
    ///
    /// # Errors
    /// [`Error::Invitation`] if it has expired meanwhile, or the device has come anew.
    pub fn approve(&self, ticket: &Ticket) -> Result<Admission> {
        let now = self.inner.env.now();
        let mut all = self.inner.invitations.lock();
        let gone = || Error::Invitation("the device that asked is gone".to_owned());
        let Attempt { invitation, number, .. } = &ticket.attempt;
        let open = all.iter_mut().find(|open| open.id == *invitation).ok_or_else(gone)?;
        if open.current.is_none_or(|(current, _)| current != *number) {
            return Err(gone());
        }
        match &open.approved {
            Some(keys) if keys != ticket.keys() => return Err(gone()),
            None if now >= open.expires => {
                let message = "the invitation has expired meanwhile: make a new one";
                return Err(Error::Invitation(message.to_owned()));
            }
            _ => open.approved = Some(ticket.keys().clone()),
        }
        // Whose device it is, the inviter says.
        let enrolment = Enrolment {
            v: VERSION,
            member: open.member,
            label: ticket.label().to_owned(),
            role: open.terms.role,
            clearance: open.terms.clearance(),
            keys: ticket.keys().clone(),
        };
        let (space, secret) = (open.space.clone(), ticket.secret.clone());
        drop(all);
        Ok(Admission { space, enrolment, agreed: ticket.agreed, secret })
    }

    /// The answer to a device whose enrolment is durable.
    ///
    /// # Errors
    /// [`Error::Invitation`] if its keys cannot be sealed to.
    pub fn welcome(&self, admission: &Admission, space: &Space) -> Result<PairReply> {
        space.shared.check_leaves("nobody can be let in")?;
        let control = space.shared.published()?.keyring.control().secret().clone();
        let welcome = Welcome {
            space: space.id(),
            name: space.name().clone(),
            control,
            inviter: space.device(),
        };
        let recipient = &admission.enrolment.keys.sealing;
        welcome
            .seal(&mut *self.inner.env.entropy(), &admission.secret, &admission.agreed, recipient)
            .map_err(|e| Error::Invitation(e.to_string()))
    }
}

fn refused(refusal: Refusal) -> PairReply {
    PairReply::refused(refusal, &refusal.to_string())
}

const CODE_ID_LABEL: &[u8] = b"larder/short-invitation/v0";
