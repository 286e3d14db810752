//! What other devices are refused goes into the security log: counted at once, written down beside
//! what goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_engine::{SecurityLog, SecuritySummary};
use larder_types::{CloseCode, TransportId};

use crate::error::blocking;
use crate::node::Node;
use crate::{Profile, Result, Space};

impl Profile {
    /// The security log of this device: writings and sessions that were refused, devices that came,
    /// went or got another role, renewed keys, exports, migrations, repairs, another passphrase.
    /// Each event is chained to the one before and signed, which is verified here. No other device
    /// has it, and it holds no content.
    ///
    /// What can be made to happen again and again is written when its count doubles; how often it
    /// was in all, [`SecurityLog::counts`] says.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if it does not verify; the storage's.
    pub async fn security_log(&self) -> Result<SecurityLog> {
        let node = self.node()?;
        blocking(move || node.engine.security()).await
    }

    /// Somebody has looked at the security log: [`SecuritySummary::new`] counts from here on.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly); the storage's.
    pub async fn security_seen(&self) -> Result<()> {
        let node = self.node()?;
        blocking(move || node.engine.security_seen()).await
    }

    pub(crate) async fn security_summary(&self) -> Result<SecuritySummary> {
        let node = self.node()?;
        blocking(move || node.engine.security_summary(LATEST)).await
    }
}

impl Space {
    /// For an app that writes content of the space into the open, before it does: the security log
    /// then has it. `what` says what, in a word or two of the app's that is no content.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub async fn note_export(&self, what: &str) -> Result<()> {
        let (reader, what) = (self.seen().await?, what.to_owned());
        blocking(move || {
            reader.note_export(&what);
            Ok(())
        })
        .await
    }
}

/// Somebody who showed this key was turned away. Called while a handshake goes on.
pub(crate) fn turned_away(node: &Arc<Node>, shown: &TransportId) {
    if node.is_stopped() || !node.network.is_listening.load(Ordering::SeqCst) {
        return;
    }
    let spaces = node.open_spaces();
    let mut is_due = false;
    let mut is_known = false;
    for space in &spaces {
        is_known |= space.reader.peer_device(shown).is_some();
        if let Some(device) = space.reader.is_shut_out(shown) {
            is_known = true;
            is_due |= space.reader.count_shut_out(device);
        }
    }
    if !is_known {
        is_due = node.engine.count_refusal("its key is not known here");
    } else if !is_due && spaces.iter().any(|space| space.reader.peer_device(shown).is_some()) {
        is_due = node.engine.count_refusal("too many connections of one device");
    }
    write_down(node, is_due);
}

/// A session about a space was ended here for what the peer sent.
pub(crate) fn session_ended(
    node: &Arc<Node>,
    space: &larder_engine::Space,
    peer: &TransportId,
    code: CloseCode,
) {
    use CloseCode::{
        BadAck, BadBatch, BadChunk, Forked, LimitExceeded, Malformed, NoCommonVersion, Unexpected,
    };
    let is_for_what_it_sent = matches!(
        code,
        BadAck
            | BadBatch
            | BadChunk
            | Forked
            | LimitExceeded
            | Malformed
            | NoCommonVersion
            | Unexpected
    );
    if is_for_what_it_sent {
        write_down(node, space.count_refusal(peer, &code.to_string()));
    }
}

/// A device that asked to be let in was refused.
pub(crate) fn pairing_refused(node: &Arc<Node>) {
    write_down(node, node.engine.count_refusal("asked to be let in, and was refused"));
}

fn write_down(node: &Arc<Node>, is_due: bool) {
    if is_due {
        let node = Arc::clone(node);
        // Whoever is turned away does not wait for the disk.
        tokio::task::spawn_blocking(move || node.engine.write_security_counts());
    }
}

/// Events that a status shows.
const LATEST: usize = 5;
