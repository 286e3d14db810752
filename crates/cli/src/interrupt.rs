//! Ctrl-C, or SIGTERM: the first asks the command to finish what it has in hand, the second ends
//! the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::exit::Exit;

/// Whether the person wants to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    notify: Notify,
}

impl Interrupt {
    /// Takes these signals over from here on.
    pub(crate) fn listen(&self) {
        let asked = self.clone();
        tokio::spawn(async move {
            while signalled().await.is_ok() {
                if asked.is_asked() {
                    std::process::exit(Exit::Interrupted as i32);
                }
                asked.ask();
            }
        });
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.shared.asked.load(Ordering::Acquire)
    }

    pub(crate) fn ask(&self) {
        self.shared.asked.store(true, Ordering::Release);
        self.shared.notify.notify_waiters();
    }

    /// Resolves once asked to stop.
    pub(crate) async fn asked(&self) {
        let notified = self.shared.notify.notified();
        tokio::pin!(notified);
        // Registered before looking, so that no request falls between the two.
        notified.as_mut().enable();
        if !self.is_asked() {
            notified.await;
        }
    }
}

/// Somebody presses Ctrl-C, or a service manager asks the process to end.
#[cfg(unix)]
async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminated.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signalled() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_those_who_wait_and_those_who_come_later() {
        let interrupt = Interrupt::default();
        let waiting = tokio::spawn({
            let interrupt = interrupt.clone();
            async move { interrupt.asked().await }
        });
        assert!(!interrupt.is_asked());
        interrupt.ask();
        waiting.await.unwrap();
        interrupt.asked().await;
        assert!(interrupt.is_asked());
    }
}
