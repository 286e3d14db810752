use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use larder_protocol::pairing::{CheckCode, NotACheckCode};
use larder_types::{DeviceId, Hash, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::node::Node;
use crate::{Error, Profile, Result, Space, connections};

/// An offer to join a space, to be carried to the other device by hand. It is withdrawn when this
/// is dropped, unless nobody is to be asked ([`Invitation::unattended`]): such a one is withdrawn
/// by [`Invitation::withdraw`] only.
#[non_exhaustive]
pub struct Invitation {
    /// The text for [`Profile::begin_join`]. Whoever has it may ask to be let in, until it expires:
    /// treat it as a secret.
    pub text: String,
    /// When it expires.
    pub expires: Timestamp,
    deadline: Instant,
    requests: mpsc::Receiver<PairingRequest>,
    used: oneshot::Receiver<Joined>,
    kept: Kept,
}

/// The device that used an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// What its owner calls it.
    pub label: String,
    /// Its id in the space.
    pub device: DeviceId,
}

/// Where the outcome goes once a device is approved.
pub(crate) type Decision = oneshot::Sender<Result<Joined>>;

/// A device asks to be let in, and waits for what a person says who looks at both screens.
/// Dropping it refuses.
#[must_use]
#[non_exhaustive]
pub struct PairingRequest {
    /// What the right device shows as well. Another code, or none, on that screen means that it is
    /// not that device which asks.
    pub check_code: CheckCode,
    /// What the device calls itself; a claim.
    pub label: String,
    /// Its id in the space, if it is let in.
    pub device: DeviceId,
    pub(crate) decision: oneshot::Sender<Decision>,
}

impl fmt::Debug for PairingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairingRequest")
            .field("check_code", &self.check_code)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl PairingRequest {
    /// Lets the device in: the other screen shows the same code. Resolves once that is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Invitation`](crate::ErrorKind::Invitation) if the device is gone, or the
    /// invitation has expired; the storage's.
    pub async fn approve(self) -> Result<Joined> {
        let (told, outcome) = oneshot::channel();
        self.decision.send(told).map_err(|_| Error::PairingGone)?;
        outcome.await.map_err(|_| Error::PairingGone)?
    }

    /// Turns the device away. The invitation can be tried
    /// [`INVITATION_TRIES_MAX`](crate::limits::INVITATION_TRIES_MAX) times in all.
    pub fn refuse(self) {}
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Withdraws the invitation when it is dropped.
struct Kept {
    id: Hash,
    node: Arc<Node>,
    is_attended: bool,
}

impl Kept {
    /// It is of no use any more, and its secret is forgotten.
    fn expired(&self) -> Error {
        self.node.engine.withdraw(&self.id);
        Error::InvitationExpired
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.is_attended {
            self.node.engine.withdraw(&self.id);
        }
    }
}

impl Invitation {
    pub(crate) fn new(
        id: Hash,
        text: String,
        expires: Timestamp,
        requests: mpsc::Receiver<PairingRequest>,
        used: oneshot::Receiver<Joined>,
        node: Arc<Node>,
    ) -> Self {
        let ms = expires.saturating_since_ms(node.engine.env().now());
        let deadline = Instant::now() + Duration::from_millis(ms);
        let kept = Kept { id, node, is_attended: true };
        Self { text, expires, deadline, requests, used, kept }
    }

    /// Asks nobody: the first device that has the text is let in, and goes on being let in when
    /// this is dropped. For programs that talk to nobody, where the text goes a way that is as
    /// safe as what it opens.
    #[must_use]
    pub fn unattended(mut self) -> Self {
        self.kept.is_attended = false;
        self.kept.node.network.unattend(&self.kept.id);
        self
    }

    /// Honours it no more, whoever is to be asked. A device that was let in with it stays in.
    pub fn withdraw(mut self) {
        self.kept.is_attended = true;
    }

    /// Resolves once a device asks to be let in: show the code, and
    /// [approve](PairingRequest::approve) or [refuse](PairingRequest::refuse) it. After one that
    /// was refused another may come.
    ///
    /// # Errors
    /// [`ErrorKind::Invitation`](crate::ErrorKind::Invitation) once it has expired;
    /// [`Error::Closed`] if the profile was closed.
    pub async fn request(&mut self) -> Result<PairingRequest> {
        tokio::select! {
            biased;
            request = self.requests.recv() => request.ok_or(Error::InvitationClosed),
            () = self.kept.node.stopped() => Err(Error::Closed),
            () = tokio::time::sleep_until(self.deadline) => Err(self.kept.expired()),
        }
    }

    /// Resolves once a device has used the invitation.
    ///
    /// # Errors
    /// [`ErrorKind::Invitation`](crate::ErrorKind::Invitation) once it has expired, or if this was
    /// called before and has resolved; [`Error::Closed`] if the profile was closed.
    pub async fn joined(&mut self) -> Result<Joined> {
        if self.used.is_terminated() {
            return Err(Error::InvitationClosed);
        }
        tokio::select! {
            biased;
            joined = &mut self.used => joined.map_err(|_| Error::InvitationClosed),
            () = self.kept.node.stopped() => Err(Error::Closed),
            () = tokio::time::sleep_until(self.deadline) => Err(self.kept.expired()),
        }
    }
}

/// A join that waits for the approval of the inviting device's owner. Dropping it ends it.
#[must_use]
pub struct Joining {
    profile: Profile,
    inner: connections::Joining,
}

impl fmt::Debug for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("check_code", &self.check_code()).finish_non_exhaustive()
    }
}

impl Joining {
    pub(crate) const fn new(profile: Profile, inner: connections::Joining) -> Self {
        Self { profile, inner }
    }

    /// To be shown: the inviting device shows the same. If it shows another, somebody stands
    /// between the two, and this is to be dropped.
    pub const fn check_code(&self) -> CheckCode {
        self.inner.check_code()
    }

    /// Waits until this device is let in, or is not.
    ///
    /// # Errors
    /// [`ErrorKind::Invitation`](crate::ErrorKind::Invitation) if it is refused or nobody says
    /// anything; [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable) if the inviting device
    /// is gone: the same invitation, or another one, goes on from here;
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists); the storage's.
    pub async fn approved(self) -> Result<Space> {
        let space = self.inner.approved().await?;
        Ok(self.profile.handle(&space))
    }
}
