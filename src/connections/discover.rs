//! Devices of this profile's spaces on the local network: found, and remembered where they are, so
//! that following finds them there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use larder_transport::Discovery;
use larder_types::TransportId;
use tokio::task::JoinSet;

use super::accept::endpoint;
use super::dial::known_keys;
use crate::error::blocking;
use crate::node::Node;
use crate::{NetworkPolicy, Result};

/// Announces this device and looks for others; see [`crate::Profile::discover`].
pub(crate) async fn discover(node: &Arc<Node>) -> Result<()> {
    node.check_writable()?;
    node.open_all().await?;
    let mut discovery = Discovery::start(node.network.listening().await)?;
    let mut meetings = JoinSet::new();
    loop {
        tokio::select! {
            () = node.stopped() => return Ok(()),
            found = discovery.next(), if meetings.len() < MEETINGS_MAX => {
                let found = found?;
                if *node.channels.policy.borrow() == NetworkPolicy::Free {
                    meetings.spawn(meet(Arc::clone(node), found));
                }
            }
            Some(_) = meetings.join_next() => {}
        }
    }
}

/// Asks who is there. A stranger is let alone, and so is a device that does not answer: it may be
/// found again.
async fn meet(node: Arc<Node>, addresses: Vec<SocketAddr>) -> Result<()> {
    let connected: BTreeSet<SocketAddr> = node.network.connected_addresses();
    if addresses.iter().any(|address| connected.contains(address)) {
        return Ok(());
    }
    let endpoint = endpoint(&node).await?;
    let mut asking = JoinSet::new();
    for address in addresses {
        let endpoint = Arc::clone(&endpoint);
        asking.spawn(async move { (address, endpoint.key_at(address).await) });
    }
    let known = known_keys(&node).await?;
    while let Some(asked) = asking.join_next().await {
        if let Ok((address, Ok(key))) = asked
            && known.contains(&key)
        {
            return remember(&node, key, address).await;
        }
    }
    Ok(())
}

async fn remember(node: &Arc<Node>, peer: TransportId, address: SocketAddr) -> Result<()> {
    let (told, label) = (Arc::clone(node), node.label_of(&peer));
    blocking(move || told.engine.remember_peer(peer, &label, address)).await?;
    node.network.peers.send_modify(|count| *count += 1);
    Ok(())
}

/// Devices asked at once who they are. Anybody may announce what it likes.
const MEETINGS_MAX: usize = 8;
