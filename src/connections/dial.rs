//! The connecting side: one pass, and following.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::Peer;
use larder_protocol::Side;
use larder_transport::{Connection, Endpoint, Purpose};
use larder_types::TransportId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::accept::endpoint;
use super::talk::{Pass, talk};
use crate::error::blocking;
use crate::node::Node;
use crate::system::OsEntropy;
use crate::{Error, Event, PeerReport, Result, SpaceReport};

/// What to call a peer: its label as its enrolment has it, or as it was remembered, or its key.
pub(crate) fn label(node: &Node, peer: &Peer) -> String {
    let label = node.label_of(&peer.transport);
    match (label.is_empty(), peer.label.is_empty()) {
        (false, _) => label,
        (true, false) => peer.label.clone(),
        (true, true) => peer.transport.to_string().chars().take(16).collect(),
    }
}

/// One pass with every known peer; see [`crate::Profile::sync`].
pub(crate) async fn sync(node: &Arc<Node>) -> Result<Vec<PeerReport>> {
    node.check_writable()?;
    node.open_all().await?;
    let mut passes = JoinSet::new();
    for (at, peer) in known_peers(node).await?.into_iter().enumerate() {
        let node = Arc::clone(node);
        passes.spawn(async move { (at, sync_peer(&node, peer).await) });
    }
    let mut reports = Vec::new();
    while let Some(pass) = passes.join_next().await {
        reports.push(pass.map_err(|error| Error::Internal(error.to_string()))?);
    }
    reports.sort_by_key(|(at, _)| *at);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

async fn sync_peer(node: &Arc<Node>, peer: Peer) -> PeerReport {
    let mut address = None;
    let outcome = async {
        let connection = connect(node, &peer).await?;
        address = connection.remote_address();
        talk(node, &connection, Side::Connector, Pass::Once).await
    }
    .await;
    PeerReport { peer: peer.transport, label: label(node, &peer), address, outcome }
}

/// One pass with whoever of the known devices answers at an address.
pub(crate) async fn sync_with(node: &Arc<Node>, address: SocketAddr) -> Result<Vec<SpaceReport>> {
    node.check_writable()?;
    node.open_all().await?;
    let endpoint = endpoint(node).await?;
    let known = known_keys(node).await?;
    let Some(first) = known.first() else { return Err(Error::Stranger(address)) };
    let connection = match endpoint.connect(address, *first, Purpose::Sync).await {
        // Another one of them: the handshake tells which.
        Err(larder_transport::Error::WrongKey { found, .. }) if known.contains(&found) => {
            endpoint.connect(address, found, Purpose::Sync).await?
        }
        Err(larder_transport::Error::WrongKey { .. }) => return Err(Error::Stranger(address)),
        connection => connection?,
    };
    talk(node, &connection, Side::Connector, Pass::Once).await
}

/// Keeps a connection with every known peer; see [`crate::Profile::follow`].
pub(crate) async fn follow(node: &Arc<Node>) -> Result<()> {
    node.check_writable()?;
    node.open_all().await?;
    let mut news = node.network.peers.subscribe();
    let mut followed = BTreeSet::new();
    let mut tasks = JoinSet::new();
    loop {
        for peer in known_peers(node).await? {
            if followed.insert(peer.transport) {
                tasks.spawn(follow_peer(Arc::clone(node), peer.transport));
            }
        }
        tokio::select! {
            () = node.stopped() => break,
            // The sender is in the node.
            Ok(()) = news.changed() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn follow_peer(node: Arc<Node>, transport: TransportId) {
    let mut backoff = Backoff::new();
    let mut live = node.network.live.subscribe();
    let mut news = node.network.peers.subscribe();
    while !node.is_stopped() {
        let apart = live.wait_for(|all| all.values().all(|live| live.peer != transport));
        tokio::select! {
            () = node.stopped() => return,
            _ = apart => {}
        }
        let begun = Instant::now();
        if let Err(error) = stay_connected(&node, transport).await
            && !node.is_stopped()
        {
            let message = error.to_string();
            node.tell(Event::SyncFailed { space: None, peer: Some(transport), message });
        }
        // What this attempt itself told.
        news.mark_unchanged();
        let pause = backoff.after(begun.elapsed());
        tokio::select! {
            () = node.stopped() => return,
            () = sleep(pause) => {}
            // It was heard of, perhaps at another address.
            Ok(()) = news.changed() => {}
        }
    }
}

async fn stay_connected(node: &Arc<Node>, transport: TransportId) -> Result<()> {
    let peers = known_peers(node).await?;
    let peer = peers.into_iter().find(|peer| peer.transport == transport);
    let peer = peer.ok_or_else(|| Error::NoAddress(transport.to_string()))?;
    let connection = connect(node, &peer).await?;
    talk(node, &connection, Side::Connector, Pass::Live).await.map(drop)
}

/// The transport keys of all devices that this one would talk to.
pub(super) async fn known_keys(node: &Arc<Node>) -> Result<BTreeSet<TransportId>> {
    let owner = Arc::clone(node);
    blocking(move || {
        let mut known: BTreeSet<TransportId> =
            owner.engine.peers()?.into_iter().map(|peer| peer.transport).collect();
        for space in owner.open_spaces() {
            known.extend(space.reader.devices()?.into_iter().map(|device| device.transport));
        }
        known.remove(&owner.engine.transport_id());
        Ok(known)
    })
    .await
}

async fn known_peers(node: &Arc<Node>) -> Result<Vec<Peer>> {
    let node = Arc::clone(node);
    blocking(move || node.engine.peers()).await
}

async fn connect(node: &Arc<Node>, peer: &Peer) -> Result<Connection> {
    if peer.addresses.is_empty() {
        return Err(Error::NoAddress(label(node, peer)));
    }
    let endpoint = endpoint(node).await?;
    tokio::select! {
        () = node.stopped() => Err(Error::Closed),
        connection = connect_any(&endpoint, &peer.addresses, peer.transport, Purpose::Sync) => {
            connection
        }
    }
}

/// Connects to a device at all addresses at once, and takes the first that answers.
pub(super) async fn connect_any(
    endpoint: &Arc<Endpoint>,
    addresses: &[SocketAddr],
    expected: TransportId,
    purpose: Purpose,
) -> Result<Connection> {
    let mut attempts = JoinSet::new();
    for address in addresses.iter().copied() {
        let endpoint = Arc::clone(endpoint);
        attempts.spawn(async move { endpoint.connect(address, expected, purpose).await });
    }
    let mut failed: Option<larder_transport::Error> = None;
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                // Someone who answers says more than silence.
                let silent = |error: &larder_transport::Error| {
                    matches!(
                        error,
                        larder_transport::Error::Unreachable { .. }
                            | larder_transport::Error::WrongKey { .. }
                    )
                };
                if failed.as_ref().is_none_or(silent) {
                    failed = Some(error);
                }
            }
            Err(error) => return Err(Error::Internal(error.to_string())),
        }
    }
    Err(failed.map_or_else(|| Error::NoAddress(expected.to_string()), Error::from))
}

/// Twice as long after each failure, with jitter so that devices that lost each other together do
/// not come back together.
struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_mins(1);
    /// A connection that lasted this long was none of the failures.
    const GOOD: Duration = Duration::from_secs(10);

    const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// How long to wait after an attempt that lasted so long.
    fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= Self::GOOD {
            self.next = Self::FIRST;
        }
        let most = self.next;
        self.next = (most * 2).min(Self::LAST);
        let [random] = OsEntropy::bytes();
        most / 2 + most / 2 * u32::from(random) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_start_again_after_a_good_connection() {
        let mut backoff = Backoff::new();
        let mut most = Backoff::FIRST;
        for _ in 0..20 {
            let wait = backoff.after(Duration::ZERO);
            assert!(wait >= most / 2 && wait <= most, "{wait:?} of {most:?}");
            most = (most * 2).min(Backoff::LAST);
        }
        assert!(backoff.after(Backoff::GOOD) <= Backoff::FIRST);
    }
}
