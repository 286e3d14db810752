use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_types::{DeviceId, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::node::Node;
use crate::{Error, Result};

/// An offer to join a space, to be carried to the other device by hand.
#[non_exhaustive]
pub struct Invitation {
    /// The text for [`Profile::join`](crate::Profile::join). Whoever has it may join, once, until
    /// it expires: treat it as a secret.
    pub text: String,
    /// When it expires.
    pub expires: Timestamp,
    deadline: Instant,
    used: oneshot::Receiver<Joined>,
    node: Arc<Node>,
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

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Invitation {
    pub(crate) fn new(
        text: String,
        expires: Timestamp,
        used: oneshot::Receiver<Joined>,
        node: Arc<Node>,
    ) -> Self {
        let ms = expires.saturating_since_ms(node.engine.env().now());
        let deadline = Instant::now() + Duration::from_millis(ms);
        Self { text, expires, deadline, used, node }
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
            () = self.node.stopped() => Err(Error::Closed),
            () = tokio::time::sleep_until(self.deadline) => Err(Error::InvitationExpired),
        }
    }
}
