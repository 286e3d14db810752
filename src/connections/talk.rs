//! One connection for sync: the greeting, then a stream and a session for each common space.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use larder_protocol::{
    Agreement, GREETING_BYTES_MAX, GREETING_EXPORTER, Greeting, Offered, Opens, Side, TAG_BYTES,
    Tag, agree,
};
use larder_transport::{Connection, FrameStream};
use larder_types::limits::HANDSHAKE_MS_MAX;
use larder_types::{CloseCode, SpaceId, SpaceName, TransportId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::network::Registered;
use super::{blobs, session};
use crate::error::blocking;
use crate::metrics;
use crate::node::Node;
use crate::system::OsEntropy;
use crate::{BlobTraffic, Error, Event, Result, SpaceReport};

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Until both sides have everything.
    Once,
    /// The same, or until then.
    Until(Instant),
    /// Until something ends them.
    Live,
}

/// Behind the tag in the first frame of a blob stream.
const BLOBS: u8 = 1;

/// What runs on a connection.
#[derive(Default)]
struct Sessions {
    logs: JoinSet<Result<SpaceReport>>,
    blobs: JoinSet<(SpaceName, BlobTraffic)>,
}

/// Talks until all sessions have ended. What each moved, or why the first that failed did.
pub(super) async fn talk(
    node: &Arc<Node>,
    connection: &Connection,
    side: Side,
    pass: Pass,
) -> Result<Vec<SpaceReport>> {
    let span = tracing::debug_span!("talk", peer = metrics::peer(&connection.peer()), ?side);
    converse(node, connection, side, pass).instrument(span).await
}

async fn converse(
    node: &Arc<Node>,
    connection: &Connection,
    side: Side,
    pass: Pass,
) -> Result<Vec<SpaceReport>> {
    let peer = connection.peer();
    let agreement = within_limit(greet(node, connection, side)).await?;
    if agreement.spaces.is_empty() {
        connection.close(CloseCode::NotShared, "");
        return Err(Error::NothingShared);
    }
    let is_kept = side == Side::Connector && pass == Pass::Live;
    let registered = Registered::new(node, connection, side, is_kept);
    node.tell(Event::PeerConnected { peer, label: node.label_of(&peer) });
    let mut sessions = Sessions::default();
    let talking = async {
        match side {
            Side::Connector => open_all(node, connection, &agreement, pass, &mut sessions).await,
            Side::Acceptor => accept_all(node, connection, &agreement, pass, &mut sessions).await,
        }
    };
    // Where the peer is gets written while it is talked to.
    let (result, remembered) = tokio::join!(talking, remember(node, connection));
    // Sessions that began are seen to their end even if another one could not.
    let mut reports = collect(&mut sessions.logs).await;
    while let Some(ended) = sessions.blobs.join_next().await {
        let (Ok((space, moved)), Ok(reports)) = (ended, &mut reports) else { continue };
        if let Some(report) = reports.iter_mut().find(|report| report.space == space) {
            report.blobs.add(&moved);
        }
    }
    if side == Side::Connector {
        connection.close(CloseCode::Done, "");
    } else if node.is_stopped() {
        connection.close(CloseCode::ShuttingDown, "");
    }
    drop(registered);
    node.tell(Event::PeerLost { peer, label: node.label_of(&peer) });
    result.and(remembered).and(reports)
}

async fn collect(sessions: &mut JoinSet<Result<SpaceReport>>) -> Result<Vec<SpaceReport>> {
    let mut reports = Vec::new();
    let mut failed = None;
    while let Some(ended) = sessions.join_next().await {
        match ended {
            Ok(Ok(report)) => reports.push(report),
            Ok(Err(error)) => failed = failed.or(Some(error)),
            Err(error) => failed = failed.or(Some(Error::Internal(error.to_string()))),
        }
    }
    reports.sort_by(|a, b| a.space.cmp(&b.space));
    failed.map_or(Ok(reports), Err)
}

/// The first frame of each side: which spaces both have. The acceptor's comes on the heels of the
/// handshake, so that all that the connector then says goes out together.
async fn greet(node: &Arc<Node>, connection: &Connection, side: Side) -> Result<Agreement> {
    let exporter = connection.exporter(GREETING_EXPORTER)?;
    let spaces = offers(node, connection.peer(), side).await?;
    let ours = Greeting::new(&mut OsEntropy, &exporter, side, &spaces)?.encode();
    let mut stream = match side {
        Side::Connector => connection.accept_stream().await?.ok_or_else(gone)?,
        Side::Acceptor => connection.open_stream().await?,
    };
    // The acceptor speaks first: a stream is seen with its first frame.
    if side == Side::Acceptor {
        stream.send(&ours).await?;
    }
    let theirs = stream.recv(GREETING_BYTES_MAX).await?.ok_or_else(gone)?;
    if side == Side::Connector {
        stream.send(&ours).await?;
    }
    // Nobody waits until the other has it all.
    tokio::spawn(async move { stream.finish().await });
    let agreement = Greeting::decode(&theirs)
        .and_then(|theirs| agree(&theirs, &exporter, side, &spaces))
        .inspect_err(|error| {
            let code = match error {
                larder_protocol::GreetingError::NoCommonVersion { .. } => {
                    CloseCode::NoCommonVersion
                }
                _ => CloseCode::Malformed,
            };
            connection.close(code, &error.to_string());
        })?;
    Ok(agreement)
}

/// The spaces that the peer may learn to be here.
async fn offers(node: &Arc<Node>, peer: TransportId, side: Side) -> Result<Vec<Offered>> {
    let mut sources = Vec::new();
    for space in node.open_spaces() {
        // What stays here is no source of anything.
        let Ok(source) = space.reader.source() else { continue };
        // A device that was just invited knows nobody yet, and it is the one that connects.
        if side == Side::Connector || space.reader.peer_device(&peer).is_some() {
            sources.push((space.reader.id(), source));
        }
    }
    let offer = move |(space, source): (SpaceId, larder_engine::Source)| {
        let (discovery, held) = (source.discovery()?, source.held_digest(&peer)?);
        Ok(Offered { space, discovery, held })
    };
    blocking(move || sources.into_iter().map(offer).collect()).await
}

/// Notes where the peer is, for later.
async fn remember(node: &Arc<Node>, connection: &Connection) -> Result<()> {
    let Some(address) = connection.remote_address() else { return Ok(()) };
    let (peer, label) = (connection.peer(), node.label_of(&connection.peer()));
    let told = Arc::clone(node);
    blocking(move || told.engine.remember_peer(peer, &label, address)).await?;
    node.network.peers.send_modify(|count| *count += 1);
    Ok(())
}

async fn open_all(
    node: &Arc<Node>,
    connection: &Connection,
    agreement: &Agreement,
    pass: Pass,
    sessions: &mut Sessions,
) -> Result<()> {
    for (id, tag) in &agreement.spaces {
        let Some(space) = node.space_by_id(id) else { continue };
        let context = |settles| blobs::Context {
            node: Arc::clone(node),
            space: Arc::clone(&space),
            peer: connection.peer(),
            side: Side::Connector,
            pass,
            settles,
        };
        let (settled, settles) = watch::channel(false);
        let mut stream = connection.open_stream().await?;
        stream.send(tag.as_bytes()).await?;
        let (node, peer) = (Arc::clone(node), connection.peer());
        let opens = if agreement.same.contains(id) { Opens::Brief } else { Opens::Whole };
        let end = session::End { peer, pass, opens };
        let log = session::run(node, Arc::clone(&space), end, stream, settled);
        sessions.logs.spawn(log);
        let mut stream = connection.open_stream().await?;
        stream.send(&[&tag.as_bytes()[..], &[BLOBS]].concat()).await?;
        sessions.blobs.spawn(blobs::run(context(settles), stream));
    }
    Ok(())
}

/// The streams of a space that the connector has not opened yet.
struct Expected {
    space: SpaceId,
    settled: Option<watch::Sender<bool>>,
    settles: Option<watch::Receiver<bool>>,
}

impl Expected {
    fn new(space: SpaceId) -> Self {
        let (settled, settles) = watch::channel(false);
        Self { space, settled: Some(settled), settles: Some(settles) }
    }
}

/// Takes the connector's streams until it closes the connection, or this device does.
async fn accept_all(
    node: &Arc<Node>,
    connection: &Connection,
    agreement: &Agreement,
    pass: Pass,
    sessions: &mut Sessions,
) -> Result<()> {
    let mut expected: BTreeMap<Tag, Expected> =
        agreement.spaces.iter().map(|(space, tag)| (*tag, Expected::new(*space))).collect();
    // Each stream is read in a task of its own: one that stalls holds up no other.
    let mut opening: JoinSet<Result<(Tag, bool, FrameStream)>> = JoinSet::new();
    let opening_max = 2 * agreement.spaces.len();
    let mut failed = Ok(());
    loop {
        tokio::select! {
            () = node.stopped() => return failed,
            stream = connection.accept_stream(), if opening.len() <= opening_max => {
                match stream {
                    Ok(Some(stream)) => {
                        opening.spawn(read_tag(stream));
                    }
                    Ok(None) => return failed,
                    // The sessions say better what happened, if there are any.
                    Err(_) if !sessions.logs.is_empty() => return failed,
                    Err(error) => return Err(error.into()),
                }
            }
            Some(opened) = opening.join_next() => {
                let Ok(Ok((tag, of_blobs, stream))) = opened else { continue };
                // Each once for each space, and only those of the agreement.
                let Some(streams) = expected.get_mut(&tag) else { continue };
                let Some(space) = node.space_by_id(&streams.space) else { continue };
                let (node, peer) = (Arc::clone(node), connection.peer());
                if of_blobs {
                    let Some(settles) = streams.settles.take() else { continue };
                    let side = Side::Acceptor;
                    let context = blobs::Context { node, space, peer, side, pass, settles };
                    sessions.blobs.spawn(blobs::run(context, stream));
                } else if let Some(settled) = streams.settled.take() {
                    let end = session::End { peer, pass, opens: Opens::Second };
                    sessions.logs.spawn(session::run(node, space, end, stream, settled));
                }
            }
            Some(ended) = sessions.logs.join_next() => {
                if let Ok(Err(error)) = ended {
                    failed = failed.and(Err(error));
                }
            }
        }
    }
}

/// Which space's stream it is, and whether it is the one for blobs.
async fn read_tag(mut stream: FrameStream) -> Result<(Tag, bool, FrameStream)> {
    let frame = within_limit(async { Ok(stream.recv(TAG_BYTES + 1).await?) }).await?;
    let frame = frame.ok_or_else(gone)?;
    let (tag, kind) = frame.split_at_checked(TAG_BYTES).ok_or_else(gone)?;
    let of_blobs = match kind {
        [] => false,
        [BLOBS] => true,
        _ => return Err(gone()),
    };
    Ok((Tag::from_frame(tag).ok_or_else(gone)?, of_blobs, stream))
}

/// Gives the peer as long as a handshake may take.
pub(super) async fn within_limit<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = Duration::from_millis(HANDSHAKE_MS_MAX);
    timeout(limit, work).await.unwrap_or(Err(larder_transport::Error::TimedOut.into()))
}

pub(super) fn gone() -> Error {
    let detail = "the other device ended the conversation".to_owned();
    larder_transport::Error::Cut { detail }.into()
}
