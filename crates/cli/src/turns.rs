//! Who works with a served profile: any number of commands together, or one for which it is closed.
//!
//! Invariants: it is closed only once what opens it again is at hand and no other command works
//! with it; it is open again, and listens, before anybody has a turn, or serving ends and says why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder::{ErrorKind, Profile, Unlock};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure, code_of_kind};
use crate::interrupt::Interrupt;

/// For other commands to end, before one gives up that needs the profile closed.
const OTHERS_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(crate) struct Turns {
    gate: Arc<RwLock<()>>,
    /// Ticks when the profile was closed and is open again, or why it is not.
    reopened: watch::Sender<Option<String>>,
}

/// While it lives, the profile stays open.
pub(crate) type Turn = OwnedRwLockReadGuard<()>;

/// What opens the profile, and what is to open it from now on, if that is to be something else.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) old: Zeroizing<String>,
    pub(crate) new: Option<Zeroizing<String>>,
}

impl Keys {
    pub(crate) fn unlock(&self) -> Unlock {
        Unlock::Passphrase(self.old.clone())
    }

    pub(crate) fn next_unlock(&self) -> Option<Unlock> {
        self.new.clone().map(Unlock::Passphrase)
    }
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { gate: Arc::default(), reopened: watch::Sender::new(None) }
    }

    /// A turn beside others; `wait` is called if it has to be waited for.
    #[cfg(unix)]
    pub(crate) async fn beside(&self, wait: impl FnOnce()) -> Turn {
        if let Ok(turn) = Arc::clone(&self.gate).try_read_owned() {
            return turn;
        }
        wait();
        Arc::clone(&self.gate).read_owned().await
    }

    /// Does `work` while the profile is closed, and opens it again, whatever came of it. Whoever
    /// asks has no turn, and must not drop this halfway.
    ///
    /// # Errors
    /// [`Exit::InUse`] if others do not end, [`Exit::Interrupted`], [`Exit::WrongPassphrase`]: it
    /// was not closed. Those of `work`; that it cannot be opened again.
    pub(crate) async fn alone<T>(
        &self,
        profile: &Profile,
        keys: &Keys,
        stop: &Interrupt,
        work: impl Future<Output = larder::Result<T>>,
    ) -> anyhow::Result<T> {
        let stopped = || Failure::error(Exit::Interrupted, "stopped before anything was done");
        let _turn = tokio::select! {
            turn = tokio::time::timeout(OTHERS_WAIT, self.gate.write()) => {
                turn.map_err(|_| Failure::error(
                    Exit::InUse,
                    "other commands work with the profile through `larder serve`: run this again \
                     when they have ended",
                ))?
            }
            () = stop.asked() => return Err(stopped()),
        };
        if stop.is_asked() {
            return Err(stopped());
        }
        // Who cannot open it again must not close it.
        profile.check_unlock(keys.unlock()).await?;
        let address = profile.listening().await;
        let done = match profile.close().await {
            Ok(()) => work.await,
            Err(error) => Err(error),
        };
        let reopened = reopen(profile, keys, address).await;
        let why = reopened.as_ref().err().map(|error| {
            format!("the profile was closed for a command, and cannot be opened again: {error}")
        });
        self.reopened.send_replace(why);
        let done = done?;
        reopened.map_err(|error| {
            Failure::error(
                code_of_kind(error.kind()),
                format!(
                    "it was done, but `larder serve` cannot open the profile again, and ends: \
                     {error}"
                ),
            )
        })?;
        Ok(done)
    }

    /// Tells each time when the profile was closed and is open again, or why it is not.
    pub(crate) fn reopened(&self) -> watch::Receiver<Option<String>> {
        self.reopened.subscribe()
    }
}

/// As it was before. After an error, which of the two keys opens it is seen now.
async fn reopen(profile: &Profile, keys: &Keys, address: Option<SocketAddr>) -> larder::Result<()> {
    let opened = match keys.next_unlock() {
        Some(new) => profile.reopen(new).await,
        None => profile.reopen(keys.unlock()).await,
    };
    match opened {
        Err(error) if keys.new.is_some() && error.kind() == ErrorKind::WrongPassphrase => {
            profile.reopen(keys.unlock()).await?;
        }
        opened => opened?,
    }
    if address.is_some() {
        profile.listen(address).await?;
    }
    Ok(())
}
