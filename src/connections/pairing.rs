//! Pairing, from both sides: one request and one reply on a connection of their own.

use std::sync::Arc;

use larder_engine::{Judgement, Terms};
use larder_protocol::pairing::{
    Invitation as Offer, PAIRING_BYTES_MAX, PAIRING_EXPORTER, PairReply, PairRequest, Refusal,
};
use larder_transport::{Connection, Error as TransportError, Purpose};
use larder_types::CloseCode;
use tokio::sync::oneshot;

use super::accept::{endpoint, listening_addresses};
use super::dial::connect_any;
use super::network::OpenInvitation;
use super::talk::{gone, within_limit};
use crate::error::blocking;
use crate::node::{Node, OpenSpace, Taken};
use crate::{Error, Event, Invitation, Joined, Result};

/// Makes an invitation; see [`crate::Profile::invite_on`].
pub(crate) async fn invite(
    node: &Arc<Node>,
    space: &Arc<OpenSpace>,
    terms: Option<Terms>,
) -> Result<Invitation> {
    node.check_writable()?;
    let addresses = listening_addresses(node).await?;
    let (owner, reader) = (Arc::clone(node), space.reader.clone());
    let offer = move || match terms {
        Some(terms) => owner.engine.invite_on(&reader, addresses, terms),
        None => owner.engine.invite(&reader, addresses),
    };
    let offer = blocking(offer).await?;
    let (used, told) = oneshot::channel();
    let expires = offer.expires;
    let mut open = node.network.invitations();
    let now = node.engine.env().now();
    open.retain(|invitation| invitation.expires > now);
    open.push(OpenInvitation { secret: offer.secret.clone(), expires, used });
    Ok(Invitation::new(offer.to_string(), expires, told, Arc::clone(node)))
}

/// Answers a device that wants to join. That device ends the connection when it has the answer.
pub(super) async fn take(node: &Arc<Node>, connection: &Connection) -> Result<()> {
    let exporter = connection.exporter(PAIRING_EXPORTER)?;
    within_limit(async {
        let mut stream = connection.accept_stream().await?.ok_or_else(gone)?;
        let frame = stream.recv(PAIRING_BYTES_MAX).await?.ok_or_else(gone)?;
        let (reply, is_enrolled) = match PairRequest::decode(&frame) {
            Ok(request) => decide(node, connection, request, exporter).await?,
            Err(error) => {
                connection.close(CloseCode::Malformed, &error.to_string());
                return Err(error.into());
            }
        };
        let heard = async {
            stream.send(&reply.encode()).await?;
            stream.finish().await
        };
        let heard = heard.await;
        // It is enrolled, whether or not it has heard of it.
        if is_enrolled {
            remember_joiner(node, connection).await?;
        }
        match heard {
            // Who has read the reply may be gone before its transport has said so.
            Ok(()) | Err(TransportError::Closed { code: CloseCode::Done, .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    // What the joiner still says is lost if the connection is closed from here.
    tokio::select! {
        _ = within_limit(async { Ok(connection.accept_stream().await?) }) => {}
        () = node.stopped() => {}
    }
    Ok(())
}

async fn remember_joiner(node: &Arc<Node>, connection: &Connection) -> Result<()> {
    let Some(address) = connection.remote_address() else { return Ok(()) };
    let (told, peer) = (Arc::clone(node), connection.peer());
    let label = node.label_of(&peer);
    blocking(move || told.engine.remember_peer(peer, &label, address)).await?;
    node.network.peers.send_modify(|count| *count += 1);
    Ok(())
}

/// The answer, and whether the peer is enrolled now.
async fn decide(
    node: &Arc<Node>,
    connection: &Connection,
    request: PairRequest,
    exporter: [u8; 32],
) -> Result<(PairReply, bool)> {
    let peer = connection.peer();
    let ticket = match node.engine.judge(request.clone(), &exporter, &peer) {
        Judgement::Admit(ticket) => ticket,
        Judgement::Refuse(reply) => return Ok((reply, false)),
    };
    let (label, device) = (ticket.enrolment.label.clone(), ticket.enrolment.keys.signing);
    let admitted = async {
        let space = node.space(&ticket.space).await?;
        space.writer()?.admit(ticket.enrolment.clone()).await?;
        let (owner, reader) = (Arc::clone(node), space.reader.clone());
        let reply = blocking(move || owner.engine.welcome(&ticket, &reader, &exporter)).await?;
        Ok::<_, Error>((space, reply))
    };
    match admitted.await {
        Ok((space, reply)) => {
            let name = space.reader.name().clone();
            node.tell(Event::Joined { space: name, device, label: label.clone() });
            tell_inviter(node, &request, &exporter, connection, Joined { label, device });
            Ok((reply, true))
        }
        Err(error) => {
            let message = error.to_string();
            node.tell(Event::SyncFailed { space: None, peer: Some(peer), message });
            Ok((PairReply::refused(Refusal::Failed, ""), false))
        }
    }
}

/// Tells whoever waits for the invitation that this request used.
fn tell_inviter(
    node: &Node,
    request: &PairRequest,
    exporter: &[u8; 32],
    connection: &Connection,
    joined: Joined,
) {
    let mut open = node.network.invitations();
    let used = open
        .iter()
        .position(|open| request.verify(&open.secret, exporter, &connection.peer()).is_ok());
    if let Some(used) = used {
        // Fails only if nobody waits.
        let _ = open.swap_remove(used).used.send(joined);
    }
}

/// Uses an invitation; see [`crate::Profile::join`].
pub(crate) async fn join(node: &Arc<Node>, offer: &Offer) -> Result<Arc<OpenSpace>> {
    node.check_writable()?;
    let (owner, begun) = (Arc::clone(node), offer.clone());
    let joining = blocking(move || owner.engine.begin_join(begun)).await?;
    let endpoint = endpoint(node).await?;
    let connected = connect_any(&endpoint, &offer.addresses, offer.inviter, Purpose::Pair).await;
    let connection = connected.map_err(|error| match error {
        Error::Transport(TransportError::UnknownKey { .. }) => Error::InvitationClosed,
        error => error,
    })?;
    let exporter = connection.exporter(PAIRING_EXPORTER)?;
    let reply = within_limit(async {
        let mut stream = connection.open_stream().await?;
        stream.send(&joining.request(&exporter)?.encode()).await?;
        stream.finish().await?;
        let frame = stream.recv(PAIRING_BYTES_MAX).await?.ok_or_else(gone)?;
        Ok(PairReply::decode(&frame)?)
    })
    .await?;
    connection.close(CloseCode::Done, "");
    let space = node
        .take_in(move |node| {
            let (reader, writer) = node.engine.finish_join(joining, &exporter, &reply)?;
            Ok(Taken::New(reader, Box::new(Some(writer))))
        })
        .await?;
    remember_inviter(node, offer, &connection).await?;
    Ok(space)
}

async fn remember_inviter(node: &Arc<Node>, offer: &Offer, connection: &Connection) -> Result<()> {
    let mut addresses = offer.addresses.clone();
    // The one that worked is the last to be remembered, and so the first to be tried.
    if let Some(address) = connection.remote_address() {
        addresses.retain(|known| *known != address);
        addresses.push(address);
    }
    let (told, inviter) = (Arc::clone(node), offer.inviter);
    blocking(move || {
        addresses.iter().try_for_each(|address| told.engine.remember_peer(inviter, "", *address))
    })
    .await?;
    // A connection that is up does not know of the new space: it is made anew.
    node.network.let_go(&offer.inviter);
    node.network.peers.send_modify(|count| *count += 1);
    Ok(())
}
