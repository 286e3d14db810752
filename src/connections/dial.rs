//! The connecting side: one pass, and following.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::Peer;
use larder_protocol::Side;
use larder_transport::{Connection, Endpoint, Purpose};
use larder_types::TransportId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::accept::endpoint;
use super::network::Live;
use super::talk::{Pass, talk};
use crate::error::blocking;
use crate::node::Node;
use crate::system::OsEntropy;
use crate::{Error, Event, NetworkPolicy, PeerReport, Result, SpaceReport};

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
pub(crate) async fn sync(node: &Arc<Node>, deadline: Option<Instant>) -> Result<Vec<PeerReport>> {
    node.check_writable()?;
    node.open_all().await?;
    let peers = known_peers(node).await?;
    let mut reports = round(node, peers.clone(), deadline).await?;
    // What came from one peer after another had hung up. Each round that moves something takes it
    // one peer further.
    for _ in 1..peers.len() {
        let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let behind = behind(&reports, &peers);
        if behind.is_empty() || is_over {
            break;
        }
        for report in &mut reports {
            report.came = 0;
        }
        for again in round(node, behind, deadline).await? {
            if let Some(first) = reports.iter_mut().find(|first| first.at == again.at) {
                first.add(again);
            }
        }
    }
    Ok(reports.into_iter().map(|round| round.report).collect())
}

/// What a peer came to, over all rounds.
struct Round {
    at: TransportId,
    report: PeerReport,
    /// Entries and chunks of blobs that it gave in the last round.
    came: u64,
}

impl Round {
    fn add(&mut self, again: Self) {
        self.came = again.came;
        let Ok(spaces) = &mut self.report.outcome else { return };
        match again.report.outcome {
            Ok(more) => {
                for more in more {
                    match spaces.iter_mut().find(|space| space.space == more.space) {
                        Some(space) => space.add(&more),
                        None => spaces.push(more),
                    }
                }
            }
            Err(error) => self.report.outcome = Err(error),
        }
    }
}

/// The peers that answered, and may lack what another one gave in the last round.
fn behind(reports: &[Round], peers: &[Peer]) -> Vec<Peer> {
    let came: u64 = reports.iter().map(|round| round.came).sum();
    let lacks = |round: &&Round| round.report.outcome.is_ok() && came > round.came;
    let lacking: BTreeSet<TransportId> =
        reports.iter().filter(lacks).map(|round| round.at).collect();
    peers.iter().filter(|peer| lacking.contains(&peer.transport)).cloned().collect()
}

async fn round(
    node: &Arc<Node>,
    peers: Vec<Peer>,
    deadline: Option<Instant>,
) -> Result<Vec<Round>> {
    let mut passes = JoinSet::new();
    for (at, peer) in peers.into_iter().enumerate() {
        let node = Arc::clone(node);
        passes.spawn(async move { (at, sync_peer(&node, peer, deadline).await) });
    }
    let mut reports = Vec::new();
    while let Some(pass) = passes.join_next().await {
        reports.push(pass.map_err(|error| Error::Internal(error.to_string()))?);
    }
    reports.sort_by_key(|(at, _)| *at);
    let round = |report: PeerReport| {
        let moved = |space: &SpaceReport| space.entries_in + space.blobs.chunks_in;
        let came = report.outcome.iter().flatten().map(moved).sum();
        Round { at: report.peer, report, came }
    };
    Ok(reports.into_iter().map(|(_, report)| round(report)).collect())
}

async fn sync_peer(node: &Arc<Node>, peer: Peer, deadline: Option<Instant>) -> PeerReport {
    let mut address = None;
    let outcome = async {
        let connecting = connect(node, &peer);
        let connection = match deadline {
            None => connecting.await?,
            Some(deadline) => match timeout_at(deadline, connecting).await {
                Ok(connection) => connection?,
                Err(_elapsed) => return Err(Error::OutOfTime(label(node, &peer))),
            },
        };
        address = connection.remote_address();
        let Some(deadline) = deadline else {
            return talk(node, &connection, Side::Connector, Pass::Once).await;
        };
        // Sessions end by themselves at the deadline; what comes before them may not.
        let talking = talk(node, &connection, Side::Connector, Pass::Until(deadline));
        match timeout_at(deadline + END_WAIT, talking).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Error::OutOfTime(label(node, &peer))),
        }
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
    let mut policy = node.channels.policy.subscribe();
    while !node.is_stopped() {
        let may_begin = async {
            let apart = |all: &BTreeMap<u64, Live>| all.values().all(|l| l.peer != transport);
            // The senders are in the node.
            let _ = policy.wait_for(|policy| *policy == NetworkPolicy::Free).await;
            let _ = live.wait_for(apart).await;
        };
        tokio::select! {
            () = node.stopped() => return,
            () = may_begin => {}
        }
        policy.mark_unchanged();
        let begun = Instant::now();
        let result = stay_until_metered(&node, transport, &mut policy).await;
        let is_metered = *policy.borrow_and_update() == NetworkPolicy::Metered;
        if let Err(error) = result
            && !node.is_stopped()
            && !is_metered
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
            // It may be another network.
            Ok(()) = policy.changed() => backoff = Backoff::new(),
        }
    }
}

/// [`stay_connected`], until connections are no longer to be kept.
async fn stay_until_metered(
    node: &Arc<Node>,
    transport: TransportId,
    policy: &mut watch::Receiver<NetworkPolicy>,
) -> Result<()> {
    let mut staying = std::pin::pin!(stay_connected(node, transport));
    tokio::select! {
        result = &mut staying => return result,
        _ = policy.wait_for(|policy| *policy == NetworkPolicy::Metered) => {}
    }
    node.network.let_go(&transport);
    // Not for long: an attempt to connect ends by itself.
    staying.await
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

/// How long after a deadline sessions may take to end.
const END_WAIT: Duration = Duration::from_millis(900);

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
