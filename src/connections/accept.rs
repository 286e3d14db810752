//! The accepting side.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use larder_protocol::Side;
use larder_transport::{Connection, Endpoint, Gate, Purpose};
use larder_types::{CloseCode, TransportId};
use tokio::task::JoinSet;

use super::network::{Bound, PairingPlace, admits};
use super::talk::{Pass, talk};
use super::{addresses, pairing};
use crate::error::blocking;
use crate::node::Node;
use crate::{Event, Result, security};

/// Begins to accept connections; see [`crate::Profile::listen`].
pub(crate) async fn listen(node: &Arc<Node>, address: Option<SocketAddr>) -> Result<SocketAddr> {
    node.check_writable()?;
    // The gate asks open spaces only.
    node.open_all().await?;
    let mut slot = node.network.bound.lock().await;
    node.check_open()?;
    let is_listening = node.network.is_listening.load(Ordering::SeqCst);
    let fits = |bound: &Bound| match address {
        None => true,
        Some(address) if is_listening && address.port() == 0 => bound.address.ip() == address.ip(),
        Some(address) => bound.address == address,
    };
    let (bound, is_new) = match slot.take() {
        Some(bound) if fits(&bound) => (bound, false),
        other => {
            if let Some(other) = other {
                // The new one may want its port.
                other.endpoint.close().await;
            }
            let bound = match address {
                Some(address) => bind(node, address).await?,
                None => bind_remembered(node).await?,
            };
            (bound, true)
        }
    };
    let address = bound.address;
    if is_new || !is_listening {
        let task = tokio::spawn(accept_all(Arc::clone(node), Arc::clone(&bound.endpoint)));
        if let Some(before) = node.network.set_accepting(Some(task)) {
            before.abort();
        }
        node.network.is_listening.store(true, Ordering::SeqCst);
    }
    *slot = Some(bound);
    let node = Arc::clone(node);
    blocking(move || node.engine.set_listen_port(address.port())).await?;
    Ok(address)
}

/// The addresses under which the profile, which listens, can be found.
pub(super) async fn listening_addresses(node: &Arc<Node>) -> Result<Vec<SocketAddr>> {
    let bound = match node.network.listening().await {
        Some(bound) => bound,
        None => listen(node, None).await?,
    };
    Ok(addresses::of(bound))
}

/// The socket to connect from, bound if it is not yet.
pub(super) async fn endpoint(node: &Arc<Node>) -> Result<Arc<Endpoint>> {
    let mut slot = node.network.bound.lock().await;
    node.check_open()?;
    if let Some(bound) = &*slot {
        return Ok(Arc::clone(&bound.endpoint));
    }
    let bound = bind_remembered(node).await?;
    let endpoint = Arc::clone(&bound.endpoint);
    *slot = Some(bound);
    Ok(endpoint)
}

/// Always the same port, if it is free: whoever was connected from it may find it again.
async fn bind_remembered(node: &Arc<Node>) -> Result<Bound> {
    let asked = Arc::clone(node);
    let port = blocking(move || asked.engine.listen_port()).await?;
    if port != 0
        && let Ok(bound) = bind_everywhere(node, port).await
    {
        return Ok(bound);
    }
    let bound = bind_everywhere(node, 0).await?;
    if port == 0 {
        let (told, port) = (Arc::clone(node), bound.address.port());
        blocking(move || told.engine.set_listen_port(port)).await?;
    }
    Ok(bound)
}

/// On all addresses of both families, where the system has IPv6.
async fn bind_everywhere(node: &Arc<Node>, port: u16) -> Result<Bound> {
    match bind(node, (Ipv6Addr::UNSPECIFIED, port).into()).await {
        Ok(bound) => Ok(bound),
        Err(_) => bind(node, (Ipv4Addr::UNSPECIFIED, port).into()).await,
    }
}

async fn bind(node: &Arc<Node>, address: SocketAddr) -> Result<Bound> {
    // The socket is the node's own, so it must not keep the node.
    let gate = Arc::new(Owner(Arc::downgrade(node)));
    let endpoint = Endpoint::bind(address, node.engine.transport_key(), gate).await?;
    let address = endpoint.local_addr()?;
    Ok(Bound { endpoint: Arc::new(endpoint), address })
}

struct Owner(Weak<Node>);

impl Gate for Owner {
    fn admits(&self, peer: &TransportId, purpose: Purpose) -> bool {
        self.0.upgrade().is_some_and(|node| admits(&node, peer, purpose))
    }

    fn refused(&self, shown: &TransportId) {
        if let Some(node) = self.0.upgrade() {
            security::turned_away(&node, shown);
        }
    }
}

/// Takes in connections until the profile is closed, then waits for those that are up.
async fn accept_all(node: Arc<Node>, endpoint: Arc<Endpoint>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = node.stopped() => break,
            connection = endpoint.accept() => match connection {
                Some(connection) => {
                    connections.spawn(take(Arc::clone(&node), connection));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn take(node: Arc<Node>, connection: Connection) {
    let peer = connection.peer();
    let result = match connection.purpose() {
        Purpose::Sync => talk(&node, &connection, Side::Acceptor, Pass::Live).await.map(drop),
        Purpose::Pair => {
            if let Some(_place) = PairingPlace::take(&node, &connection) {
                pairing::take(&node, &connection).await
            } else {
                connection.close(CloseCode::Busy, "");
                Ok(())
            }
        }
    };
    if let Err(error) = result
        && !node.is_stopped()
    {
        connection.close(CloseCode::Unexpected, "");
        let message = error.to_string();
        node.tell(Event::SyncFailed { space: None, peer: Some(peer), message });
    }
}
