//! What is up now: the socket, the connections, the invitations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_protocol::Side;
use larder_transport::{Connection, Endpoint, Purpose};
use larder_types::limits::{CONNECTIONS_MAX, PAIRING_CONNECTIONS_MAX};
use larder_types::{CloseCode, Hash, Timestamp, TransportId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::metrics::Connected;
use crate::node::Node;
use crate::{Joined, PairingRequest};

/// Of a profile.
#[derive(Default)]
pub(crate) struct Network {
    pub(super) bound: tokio::sync::Mutex<Option<Bound>>,
    pub(crate) is_listening: AtomicBool,
    pub(super) live: watch::Sender<BTreeMap<u64, Live>>,
    pairing: Mutex<BTreeMap<TransportId, (u64, Connection)>>,
    /// Ticks whenever a peer is remembered.
    pub(super) peers: watch::Sender<u64>,
    invitations: Mutex<Vec<OpenInvitation>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    serial: AtomicU64,
}

/// The socket.
pub(super) struct Bound {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) address: SocketAddr,
}

/// A connection for sync that is up.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) peer: TransportId,
    side: Side,
    is_kept: bool,
    connection: Connection,
}

/// An invitation of this device's that was not used yet.
pub(super) struct OpenInvitation {
    pub(super) id: Hash,
    pub(super) expires: Timestamp,
    /// Whether somebody is asked before a device is let in.
    pub(super) is_attended: bool,
    pub(super) requests: mpsc::Sender<PairingRequest>,
    pub(super) used: Option<oneshot::Sender<Joined>>,
}

impl Network {
    /// A number that no other session or connection of this profile has.
    pub(super) fn number(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a connection for sync with this peer is up.
    pub(crate) fn is_connected(&self, peer: &TransportId) -> bool {
        self.live.borrow().values().any(|live| live.peer == *peer)
    }

    /// Where those are with whom a connection is up.
    pub(super) fn connected_addresses(&self) -> BTreeSet<SocketAddr> {
        let live = self.live.borrow();
        live.values().filter_map(|live| live.connection.remote_address()).collect()
    }

    /// Ends the connections with a peer, in order to make new ones.
    pub(super) fn let_go(&self, peer: &TransportId) {
        for live in self.live.borrow().values().filter(|live| live.peer == *peer) {
            live.connection.close(CloseCode::Done, "");
        }
    }

    /// Where the profile listens, if it does.
    pub(crate) async fn listening(&self) -> Option<SocketAddr> {
        if !self.is_listening.load(Ordering::SeqCst) {
            return None;
        }
        self.bound.lock().await.as_ref().map(|bound| bound.address)
    }

    pub(super) fn invitations(&self) -> MutexGuard<'_, Vec<OpenInvitation>> {
        self.invitations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pairing(&self) -> MutexGuard<'_, BTreeMap<TransportId, (u64, Connection)>> {
        self.pairing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is asked about this invitation any more: whoever has it is let in.
    pub(crate) fn unattend(&self, id: &Hash) {
        for open in self.invitations().iter_mut().filter(|open| open.id == *id) {
            open.is_attended = false;
        }
    }

    /// The task that accepts connections from here on; the one before it ends.
    pub(super) fn set_accepting(&self, task: Option<JoinHandle<()>>) -> Option<JoinHandle<()>> {
        let mut place = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, task)
    }

    /// Ends everything without waiting.
    pub(crate) fn abandon(&self) {
        if let Some(task) = self.set_accepting(None) {
            task.abort();
        }
    }

    /// Lets sessions end in order, then closes the socket.
    pub(crate) async fn close(&self) {
        let quiet = async {
            if let Some(task) = self.set_accepting(None) {
                // It broke down, or it ended: either way it is over.
                let _ = task.await;
            }
            // Fails only if the sender is gone, and that is in `self`.
            let _ = self.live.subscribe().wait_for(BTreeMap::is_empty).await;
        };
        // A peer that does not follow is not waited for.
        let _ = timeout(CLOSE_WAIT, quiet).await;
        if let Some(bound) = self.bound.lock().await.take() {
            bound.endpoint.close().await;
        }
    }
}

/// A place among the live connections; given up when dropped.
pub(super) struct Registered {
    node: Arc<Node>,
    number: u64,
    _counted: Connected,
}

impl Registered {
    /// Notes a connection that is to be kept if it is `is_kept`. If two devices that follow each
    /// other connected at the same moment, the one with the larger key lets go of the connection
    /// that it made, so that one remains.
    pub(super) fn new(
        node: &Arc<Node>,
        connection: &Connection,
        side: Side,
        is_kept: bool,
    ) -> Self {
        let number = node.network.number();
        let peer = connection.peer();
        let yields = node.engine.transport_id() > peer;
        let live = Live { peer, side, is_kept, connection: connection.clone() };
        node.network.live.send_modify(|all| {
            all.insert(number, live);
            let with_peer = || all.values().filter(|live| live.peer == peer);
            if yields && with_peer().any(|live| live.side == Side::Acceptor) {
                for live in with_peer().filter(|live| live.side == Side::Connector && live.is_kept)
                {
                    live.connection.close(CloseCode::Done, "");
                }
            }
        });
        Self { node: Arc::clone(node), number, _counted: Connected::begin() }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.node.network.live.send_modify(|all| {
            all.remove(&self.number);
        });
    }
}

/// A place among the connections for pairing; given up when dropped.
pub(super) struct PairingPlace {
    node: Arc<Node>,
    peer: TransportId,
    number: u64,
}

impl PairingPlace {
    /// None if there is none left. A device that comes anew takes its own place: the connection
    /// before is cut, or was left behind.
    pub(super) fn take(node: &Arc<Node>, connection: &Connection) -> Option<Self> {
        let (peer, number) = (connection.peer(), node.network.number());
        let mut all = node.network.pairing();
        if all.len() >= PAIRING_CONNECTIONS_MAX && !all.contains_key(&peer) {
            return None;
        }
        if let Some((_, before)) = all.insert(peer, (number, connection.clone())) {
            before.close(CloseCode::Done, "");
        }
        drop(all);
        Some(Self { node: Arc::clone(node), peer, number })
    }
}

impl Drop for PairingPlace {
    fn drop(&mut self) {
        let mut all = self.node.network.pairing();
        if all.get(&self.peer).is_some_and(|(number, _)| *number == self.number) {
            all.remove(&self.peer);
        }
    }
}

/// Who may connect to a profile.
pub(super) fn admits(node: &Node, peer: &TransportId, purpose: Purpose) -> bool {
    let network = &node.network;
    if node.is_stopped() || !network.is_listening.load(Ordering::SeqCst) {
        return false;
    }
    // A known peer that connects again and again takes up no more than its share.
    let with_peer = || network.live.borrow().values().filter(|live| live.peer == *peer).count();
    match purpose {
        Purpose::Sync => {
            node.open_spaces().iter().any(|space| space.reader.peer_device(peer).is_some())
                && with_peer() < CONNECTIONS_PER_PEER_MAX
        }
        Purpose::Pair => node.engine.invitation_open(peer),
    }
}

/// How long sessions may take to end when the profile is closed.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
const CONNECTIONS_PER_PEER_MAX: usize = CONNECTIONS_MAX / 4;
