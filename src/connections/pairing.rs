//! Pairing, from both sides: four frames on a connection of their own, with a person's approval
//! before the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{Admission, Candidate, CodeJudgement, Judgement, Next, Terms, Ticket};
use larder_protocol::pairing::{
    Agreed, CheckCode, CodeStart, Invitation as Offer, PAIRING_BYTES_MAX, PAIRING_EXPORTER,
    PairReply, PairRequest, PairReveal, Refusal, ShortCode,
};
use larder_transport::{
    Connection, Discovery, Endpoint, Error as TransportError, FrameStream, Purpose,
};
use larder_types::limits::INVITATION_MS_MAX;
use larder_types::{CloseCode, Hash, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::accept::{endpoint, listening_addresses};
use super::dial::connect_any;
use super::network::OpenInvitation;
use super::talk::{gone, within_limit};
use crate::error::{blocking, to_the_end};
use crate::invitation::Decision;
use crate::node::{Node, OpenSpace, Taken};
use crate::{Error, Event, Invitation, Joined, PairingRequest, Result, security};

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
    Ok(opened(node, offer.id(), offer.to_string(), offer.expires))
}

/// Makes an invitation by eight digits; see [`crate::Profile::invite_by_code`].
pub(crate) async fn invite_by_code(
    node: &Arc<Node>,
    space: &Arc<OpenSpace>,
    terms: Option<Terms>,
) -> Result<Invitation> {
    node.check_writable()?;
    listening_addresses(node).await?;
    let (owner, reader) = (Arc::clone(node), space.reader.clone());
    let offer = blocking(move || owner.engine.invite_by_code(&reader, terms)).await?;
    Ok(opened(node, offer.id, offer.code.to_string(), offer.expires))
}

fn opened(node: &Arc<Node>, id: Hash, text: String, expires: Timestamp) -> Invitation {
    let (used, told) = oneshot::channel();
    let (requests, asked) = mpsc::channel(REQUESTS_KEPT);
    let mut open = node.network.invitations();
    let now = node.engine.env().now();
    open.retain(|invitation| invitation.expires > now);
    let is_attended = true;
    open.push(OpenInvitation { id, expires, is_attended, requests, used: Some(used) });
    drop(open);
    Invitation::new(id, text, expires, asked, told, Arc::clone(node))
}

/// Answers a device that wants to join. That device ends the connection when it has the answer.
pub(super) async fn take(node: &Arc<Node>, connection: &Connection) -> Result<()> {
    let exporter = connection.exporter(PAIRING_EXPORTER)?;
    let (mut stream, frame) = within_limit(async {
        let mut stream = connection.accept_stream().await?.ok_or_else(gone)?;
        let frame = stream.recv(PAIRING_BYTES_MAX).await?.ok_or_else(gone)?;
        Ok((stream, frame))
    })
    .await?;
    let judged = judge(node, connection, &mut stream, &frame, &exporter).await;
    let judgement = judged.inspect_err(|error| {
        if let Error::Pairing(error) = error {
            connection.close(CloseCode::Malformed, &error.to_string());
        }
    })?;
    let reply = match judgement {
        Judgement::Answer(candidate) => match hear(*candidate, &mut stream).await {
            Ok(ticket) => decide(node, connection, &mut stream, ticket).await?,
            // It asks anew, with other keys, or has the space.
            Err(Error::Transport(TransportError::Closed { code: CloseCode::Done, .. })) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        },
        Judgement::Refuse(reply) => {
            security::pairing_refused(node);
            reply
        }
    };
    let heard = within_limit(async {
        stream.send(&reply.encode()).await?;
        Ok(stream.finish().await?)
    });
    match heard.await {
        // Who has read the reply may be gone before its transport has said so.
        Ok(()) | Err(Error::Transport(TransportError::Closed { code: CloseCode::Done, .. })) => {}
        Err(error) => return Err(error),
    }
    // What the joiner still says is lost if the connection is closed from here.
    tokio::select! {
        _ = within_limit(async { Ok(connection.accept_stream().await?) }) => {}
        () = node.stopped() => {}
    }
    Ok(())
}

/// What a first frame comes to: a request, or a guess at a short code, which a request follows.
async fn judge(
    node: &Arc<Node>,
    connection: &Connection,
    stream: &mut FrameStream,
    frame: &[u8],
    exporter: &[u8; 32],
) -> Result<Judgement> {
    let (engine, peer) = (&node.engine, connection.peer());
    let Ok(start) = CodeStart::decode(frame) else {
        return Ok(engine.judge(PairRequest::decode(frame)?, exporter, &peer));
    };
    let guess = match engine.judge_code(&start, exporter, &peer) {
        CodeJudgement::Answer(guess) => *guess,
        CodeJudgement::Refuse(reply) => return Ok(Judgement::Refuse(reply)),
    };
    let frame = within_limit(async {
        stream.send(&guess.answer().encode()).await?;
        stream.recv(PAIRING_BYTES_MAX).await?.ok_or_else(gone)
    });
    let request = PairRequest::decode(&frame.await?)?;
    Ok(engine.judge_guess(guess, request, exporter, &peer))
}

async fn hear(candidate: Candidate, stream: &mut FrameStream) -> Result<Box<Ticket>> {
    let frame = within_limit(async {
        stream.send(&candidate.answer().encode()).await?;
        stream.recv(PAIRING_BYTES_MAX).await?.ok_or_else(gone)
    });
    let reveal = PairReveal::decode(&frame.await?)?;
    Ok(candidate.reveals(&reveal)?)
}

/// Where the joiner can be found, if that can be noted; else it says so itself when it connects.
async fn remember_joiner(node: &Arc<Node>, connection: &Connection) {
    let Some(address) = connection.remote_address() else { return };
    let (told, peer) = (Arc::clone(node), connection.peer());
    let label = node.label_of(&peer);
    if blocking(move || told.engine.remember_peer(peer, &label, address)).await.is_ok() {
        node.network.peers.send_modify(|count| *count += 1);
    }
}

/// The last word to a device that waits for approval.
async fn decide(
    node: &Arc<Node>,
    connection: &Connection,
    stream: &mut FrameStream,
    ticket: Box<Ticket>,
) -> Result<PairReply> {
    let invitation = ticket.invitation();
    let decision = if is_approved_unasked(node, &ticket) {
        None
    } else {
        let asked = tokio::select! {
            asked = ask(node, &ticket) => asked,
            // It says nothing more: it is gone, or out of turn.
            _ = stream.recv(PAIRING_BYTES_MAX) => return Err(gone()),
        };
        match asked {
            Some(decision) => Some(decision),
            None => return Ok(refused(Refusal::Declined)),
        }
    };
    let admitted = match node.engine.approve(&ticket) {
        Ok(admission) => admit(node, connection, admission).await,
        Err(error) => Err((error.into(), Refusal::Expired)),
    };
    match (admitted, decision) {
        (Ok((joined, reply)), decision) => {
            tell_inviter(node, &invitation, &joined);
            if let Some(told) = decision {
                // Fails only if nobody waits.
                let _ = told.send(Ok(joined));
            }
            reply
        }
        (Err((error, refusal)), decision) => {
            if let Some(told) = decision {
                drop(told.send(Err(error)));
            } else {
                let (peer, message) = (Some(connection.peer()), error.to_string());
                node.tell(Event::SyncFailed { space: None, peer, message });
            }
            Ok(refused(refusal))
        }
    }
}

fn is_approved_unasked(node: &Node, ticket: &Ticket) -> bool {
    let open = node.network.invitations();
    let unattended = open.iter().any(|open| open.id == ticket.invitation() && !open.is_attended);
    unattended || ticket.was_approved()
}

/// Asks a person. Whoever approved waits for what becomes of it.
async fn ask(node: &Node, ticket: &Ticket) -> Option<oneshot::Sender<Result<Joined>>> {
    let requests = {
        let open = node.network.invitations();
        let open = open.iter().find(|open| open.id == ticket.invitation())?;
        open.requests.clone()
    };
    let (decision, decided) = oneshot::channel::<Decision>();
    let request = PairingRequest {
        check_code: ticket.check_code(),
        label: ticket.label().to_owned(),
        device: ticket.keys().signing,
        decision,
    };
    requests.send(request).await.ok()?;
    tokio::select! {
        decision = decided => decision.ok(),
        () = node.stopped() => None,
    }
}

/// Enrols a device that was approved, and makes its welcome. Once it is enrolled it is told nothing
/// but that: it drops its keys if it hears that it cannot be, and nobody would have them any more.
async fn admit(
    node: &Arc<Node>,
    connection: &Connection,
    admission: Admission,
) -> std::result::Result<(Joined, Result<PairReply>), (Error, Refusal)> {
    let (label, device) = (admission.enrolment.label.clone(), admission.enrolment.keys.signing);
    let enrolling = async {
        let space = node.space(&admission.space).await?;
        space.writer()?.admit(admission.enrolment.clone()).await?;
        Ok(space)
    };
    let space = enrolling.await.map_err(|error| {
        let refusal = refusal_of(&error);
        (error, refusal)
    })?;
    let (owner, reader) = (Arc::clone(node), space.reader.clone());
    let reply = blocking(move || owner.engine.welcome(&admission, &reader)).await;
    // It is enrolled, whether or not it hears of it.
    remember_joiner(node, connection).await;
    let name = space.reader.name().clone();
    node.tell(Event::Joined { space: name, device, label: label.clone() });
    Ok((Joined { label, device }, reply))
}

/// What a device hears that was not enrolled. Only the roster's own no says for sure that its keys
/// are not enrolled, and never will be; whatever else fails may have come after the commit, or may
/// keep from its welcome a device that was enrolled before.
const fn refusal_of(error: &Error) -> Refusal {
    match error {
        Error::Engine(larder_engine::Error::Invalid(_)) => Refusal::Failed,
        _ => Refusal::Busy,
    }
}

fn refused(refusal: Refusal) -> PairReply {
    PairReply::refused(refusal, "")
}

/// Tells whoever waits for the invitation that it was used.
fn tell_inviter(node: &Node, invitation: &Hash, joined: &Joined) {
    let mut open = node.network.invitations();
    let used = open.iter_mut().find(|open| open.id == *invitation);
    if let Some(used) = used.and_then(|open| open.used.take()) {
        // Fails only if nobody waits.
        let _ = used.send(joined.clone());
    }
}

/// A join that waits for the inviter's approval.
pub(crate) struct Joining {
    node: Arc<Node>,
    offer: Offer,
    begun: larder_engine::Joining,
    agreed: Agreed,
    connection: Connection,
    stream: FrameStream,
}

/// Begins to use an invitation; see [`crate::Profile::begin_join`].
pub(crate) async fn begin_join(node: &Arc<Node>, offer: &Offer) -> Result<Joining> {
    node.check_writable()?;
    let (owner, begun) = (Arc::clone(node), offer.clone());
    let mut joining = blocking(move || owner.engine.begin_join(begun)).await?;
    let endpoint = endpoint(node).await?;
    // Once more if it was tried before with other keys.
    for _ in 0..2 {
        let connected = connect_any(&endpoint, &offer.addresses, offer.inviter, Purpose::Pair);
        let connection = connected.await.map_err(|error| match error {
            Error::Transport(TransportError::UnknownKey { .. }) => Error::InvitationClosed,
            error => error,
        })?;
        let exporter = connection.exporter(PAIRING_EXPORTER)?;
        let stream = within_limit(async { Ok(connection.open_stream().await?) }).await?;
        match ask_over(node, connection, stream, &exporter, joining, offer).await? {
            Asked::Waits(joining) => return Ok(*joining),
            Asked::Anew(begun) => joining = *begun,
        }
    }
    Err(Error::Internal("a join that begins anew again and again".to_owned()))
}

/// Begins to join by eight digits; see [`crate::Profile::begin_join_by_code`].
pub(crate) async fn begin_join_by_code(
    node: &Arc<Node>,
    code: &ShortCode,
    address: Option<SocketAddr>,
) -> Result<Joining> {
    node.check_writable()?;
    let endpoint = endpoint(node).await?;
    let (address, first) = match address {
        Some(address) => (address, at(&endpoint, address).await?),
        None => find(node, &endpoint).await?,
    };
    let inviter = first.peer();
    let (mut first, mut begun) = (Some(first), None);
    for _ in 0..2 {
        let connection = match first.take() {
            Some(first) => first,
            None => endpoint.connect(address, inviter, Purpose::Pair).await?,
        };
        let exporter = connection.exporter(PAIRING_EXPORTER)?;
        let guess = node.engine.guess(code, &exporter, &inviter);
        let (stream, frame) = within_limit(async {
            let mut stream = connection.open_stream().await?;
            stream.send(&guess.start().encode()).await?;
            let frame = stream.recv(PAIRING_BYTES_MAX).await?.ok_or_else(gone)?;
            Ok((stream, frame))
        })
        .await?;
        let offer = node.engine.guessed(guess, &exporter, inviter, address, &frame)?;
        let joining = if let Some(begun) = begun.take() {
            larder_engine::Joining::with(begun, offer.clone())
        } else {
            let (owner, offer) = (Arc::clone(node), offer.clone());
            blocking(move || owner.engine.begin_join(offer)).await?
        };
        match ask_over(node, connection, stream, &exporter, joining, &offer).await? {
            Asked::Waits(joining) => return Ok(*joining),
            Asked::Anew(joining) => begun = Some(*joining),
        }
    }
    Err(Error::Internal("a join that begins anew again and again".to_owned()))
}

/// A connection with whoever pairs at an address. Who it is the digits prove.
async fn at(endpoint: &Endpoint, address: SocketAddr) -> Result<Connection> {
    let key = endpoint.key_at(address).await?;
    endpoint.connect(address, key, Purpose::Pair).await.map_err(|error| match error {
        TransportError::UnknownKey { .. } => Error::InvitationClosed,
        error => error.into(),
    })
}

/// The first device on the local network that has an invitation open.
async fn find(node: &Arc<Node>, endpoint: &Endpoint) -> Result<(SocketAddr, Connection)> {
    let mut discovery = Discovery::start(None)?;
    let own = node.engine.transport_id();
    let finding = async {
        loop {
            for address in discovery.next().await? {
                let found = at(endpoint, address).await;
                if let Ok(connection) = found
                    && connection.peer() != own
                {
                    return Ok((address, connection));
                }
            }
        }
    };
    tokio::select! {
        found = timeout(FIND_WAIT, finding) => found.unwrap_or(Err(Error::NobodyInvites)),
        () = node.stopped() => Err(Error::Closed),
    }
}

enum Asked {
    Waits(Box<Joining>),
    /// With other keys, on another connection.
    Anew(Box<larder_engine::Joining>),
}

async fn ask_over(
    node: &Arc<Node>,
    connection: Connection,
    mut stream: FrameStream,
    exporter: &[u8; 32],
    mut begun: larder_engine::Joining,
    offer: &Offer,
) -> Result<Asked> {
    let asking = node.engine.ask(&begun, exporter)?;
    let frame = within_limit(async {
        stream.send(&asking.request().encode()).await?;
        stream.recv(PAIRING_BYTES_MAX).await?.ok_or_else(gone)
    })
    .await?;
    let owner = Arc::clone(node);
    let heard = blocking(move || {
        let next = owner.engine.hear(&mut begun, asking, &frame);
        next.map(|next| (begun, next))
    })
    .await;
    match heard {
        Ok((begun, Next::Reveal(reveal, agreed))) => {
            within_limit(async { Ok(stream.send(&reveal.encode()).await?) }).await?;
            let (node, offer) = (Arc::clone(node), offer.clone());
            let joining = Joining { node, offer, begun, agreed, connection, stream };
            Ok(Asked::Waits(Box::new(joining)))
        }
        Ok((begun, Next::AskAnew)) => {
            connection.close(CloseCode::Done, "");
            Ok(Asked::Anew(Box::new(begun)))
        }
        Err(error) => {
            connection.close(CloseCode::Done, "");
            Err(error)
        }
    }
}

impl Joining {
    pub(crate) const fn check_code(&self) -> CheckCode {
        self.agreed.check_code()
    }

    /// Waits for the inviter's approval, and is in the space then.
    pub(crate) async fn approved(self) -> Result<Arc<OpenSpace>> {
        let Self { node, offer, begun, agreed, connection, mut stream } = self;
        let frame = tokio::select! {
            frame = timeout(APPROVAL_WAIT, stream.recv(PAIRING_BYTES_MAX)) => frame,
            () = node.stopped() => return Err(Error::Closed),
        };
        let frame = frame.map_err(|_| Error::InvitationExpired)??.ok_or_else(gone)?;
        let reply = PairReply::decode(&frame)?;
        connection.close(CloseCode::Done, "");
        to_the_end(async move {
            // One into which this device is let in again.
            if let Some(id) = begun.space() {
                Box::pin(node.let_go_of(&id)).await?;
            }
            let finishing = move |node: &Node| {
                let (reader, writer) = node.engine.finish_join(begun, &agreed, &reply)?;
                Ok(Taken::New(reader, Box::new(Some(writer))))
            };
            let space = node.take_in(finishing).await?;
            remember_inviter(&node, &offer, &connection).await?;
            Ok(space)
        })
        .await
    }
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

/// Requests that wait for whoever approves them; an invitation has only so many tries.
const REQUESTS_KEPT: usize = larder_types::limits::INVITATION_TRIES_MAX as usize;
/// A person reads two screens; but no longer than the invitation lives.
const APPROVAL_WAIT: Duration = Duration::from_millis(INVITATION_MS_MAX);
/// How long a device that invites is looked for on the local network.
const FIND_WAIT: Duration = Duration::from_secs(30);
