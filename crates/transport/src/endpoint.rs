use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use larder_crypto::TransportKey;
use larder_types::limits::{CONNECTIONS_MAX, HANDSHAKE_MS_MAX};
use larder_types::{CloseCode, TransportId};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, ConnectionError, EndpointConfig, Runtime};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::quic::{QuicLink, close, ended, transport_config};
use crate::unbound::Unbound;
use crate::verify::{Admitted, Expected, key_of, spki_of};
use crate::{Connection, Error, Gate, Purpose, Result};

/// One UDP socket that connections are accepted on and made from, all under one transport key.
///
/// Accepted connections wait in a queue of [`CONNECTIONS_MAX`] for [`Endpoint::accept`]; together
/// with those in use and those in their handshake they are never more than that, and a peer
/// beyond it is told that the device is busy.
#[derive(Debug)]
pub struct Endpoint {
    socket: quinn::Endpoint,
    tls: Tls,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    acceptor: JoinHandle<()>,
    /// The socket itself, which tasks of quinn's have as well.
    bound: Weak<dyn AsyncUdpSocket>,
}

impl Endpoint {
    /// Listens on `addr` (port 0: any free one), within a tokio runtime. On IPv6's unspecified
    /// address it listens to IPv4 as well.
    ///
    /// # Errors
    /// [`Error::Bind`] if the address cannot be listened on; [`Error::Tls`] for a key that the
    /// TLS library refuses.
    #[expect(clippy::unused_async, reason = "async, so that it is called within a runtime")]
    pub async fn bind(addr: SocketAddr, key: &TransportKey, gate: Arc<dyn Gate>) -> Result<Self> {
        let tls = Tls::new(key)?;
        let config = tls.server_config(gate.clone())?;
        let bind = || {
            let runtime = Arc::new(quinn::TokioRuntime);
            let bound = runtime.wrap_udp_socket(socket(addr)?)?;
            let (weak, settings) = (Arc::downgrade(&bound), EndpointConfig::default());
            let socket =
                quinn::Endpoint::new_with_abstract_socket(settings, Some(config), bound, runtime)?;
            Ok((socket, weak))
        };
        let (socket, bound) = bind().map_err(|source| Error::Bind { addr, source })?;
        let (queue, accepted) = mpsc::channel(CONNECTIONS_MAX);
        let acceptor = tokio::spawn(accept_all(socket.clone(), gate, queue));
        Ok(Self { socket, tls, accepted: Mutex::new(accepted), acceptor, bound })
    }

    /// The address that is listened on, with the port that was chosen.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(|error| Error::Unreachable {
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
            detail: error.to_string(),
        })
    }

    /// The next connection whose peer has proven a key that the gate admits. Handshakes run
    /// beside each other: a slow one holds up none. `None`: the endpoint was closed.
    pub async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }

    /// Connects to the device at `addr`, which must prove the key `expected`. Returns once that
    /// device has admitted this one.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if another device answers there; [`Error::UnknownKey`] if it does not
    /// admit this one; [`Error::Incompatible`], [`Error::Busy`]; [`Error::Unreachable`] if nobody
    /// answers within [`HANDSHAKE_MS_MAX`].
    pub async fn connect(
        &self,
        addr: SocketAddr,
        expected: TransportId,
        purpose: Purpose,
    ) -> Result<Connection> {
        let (config, verifier) = self.tls.client_config(expected, purpose)?;
        let unreachable = |detail: String| Error::Unreachable { addr, detail };
        let connecting = self
            .socket
            .connect_with(config, addr, SERVER_NAME)
            .map_err(|error| unreachable(error.to_string()))?;
        let limit = Duration::from_millis(HANDSHAKE_MS_MAX);
        let admitted = timeout(limit, async {
            let connection = connecting.await?;
            // In TLS 1.3 a client is through before the server has seen its key (RFC 8446 §4.4);
            // the server's word that it admits this device is a stream of its own.
            connection.accept_uni().await?;
            Ok(connection)
        });
        match admitted.await {
            Ok(Ok(connection)) => {
                Ok(Connection::new(Arc::new(QuicLink::new(connection, expected, purpose))))
            }
            Ok(Err(error)) => Err(match verifier.found_instead() {
                Some(found) => Error::WrongKey { addr, expected, found },
                None => refused(addr, error),
            }),
            Err(_) => Err(unreachable("nothing came back in time".to_owned())),
        }
    }

    /// The key that the device at `addr` proves. It is told nothing of this one: the handshake ends
    /// before it would be.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if nobody answers within [`HANDSHAKE_MS_MAX`]; [`Error::Busy`],
    /// [`Error::Incompatible`].
    pub async fn key_at(&self, addr: SocketAddr) -> Result<TransportId> {
        match self.connect(addr, NOBODY, Purpose::Sync).await {
            Err(Error::WrongKey { found, .. }) => Ok(found),
            Err(error) => Err(error),
            Ok(connection) => Ok(connection.peer()),
        }
    }

    /// Closes all connections, telling each peer, and the socket, so that its address is free
    /// unless handles of its connections are left: those have it, too.
    /// [`Endpoint::accept`] then returns `None`.
    pub async fn close(&self) {
        self.acceptor.abort();
        let code = u32::from(CloseCode::ShuttingDown.to_wire());
        self.socket.close(code.into(), b"");
        // Best effort: a peer that is gone is not waited for.
        let _ = timeout(CLOSE_WAIT, self.socket.wait_idle()).await;
        let Ok(address) = self.socket.local_addr() else { return };
        // Twice, for the one before is kept.
        for _ in 0..2 {
            let _ = self.socket.rebind_abstract(Arc::new(Unbound(address)));
        }
        // The tasks that have it let go of it as they run next, and nobody tells of that.
        let gone = async {
            while self.bound.strong_count() > 0 {
                tokio::time::sleep(RELEASE_STEP).await;
            }
        };
        let _ = timeout(CLOSE_WAIT, gone).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn socket(addr: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        // Systems differ in what they do unless told.
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Takes in every connection attempt, each in a task of its own.
async fn accept_all(socket: quinn::Endpoint, gate: Arc<dyn Gate>, queue: mpsc::Sender<Connection>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(incoming) = socket.accept().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        // When it gets crowded, whoever connects shows first that its address is its own
        // (RFC 9000 §8.1), so that forged ones take up no places.
        if places.available_permits() < CONNECTIONS_MAX / 2 && !incoming.remote_address_validated()
        {
            let _ = incoming.retry();
            continue;
        }
        let (gate, queue) = (gate.clone(), queue.clone());
        tokio::spawn(async move {
            let limit = Duration::from_millis(HANDSHAKE_MS_MAX);
            if let Ok(Some(connection)) = timeout(limit, admit(incoming, &*gate, place)).await {
                // Fails only if the endpoint was closed meanwhile.
                let _ = queue.send(connection).await;
            }
        });
    }
}

/// One handshake. `None`: it failed, and the peer was told as far as it can be.
async fn admit(
    incoming: quinn::Incoming,
    gate: &dyn Gate,
    place: OwnedSemaphorePermit,
) -> Option<Connection> {
    let connection = incoming.accept().ok()?.await.ok()?;
    let purpose = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| Purpose::of_alpn(&data.protocol?))?;
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let peer = key_of(identity.first()?)?;
    if !gate.admits(&peer, purpose) {
        gate.refused(&peer);
        close(&connection, CloseCode::UnknownKey, "");
        return None;
    }
    let mut welcome = connection.open_uni().await.ok()?;
    welcome.write_all(&[ADMITTED]).await.ok()?;
    welcome.finish().ok()?;
    Some(Connection::accepted(Arc::new(QuicLink::new(connection, peer, purpose)), place))
}

/// Why a connection did not come about.
fn refused(addr: SocketAddr, error: ConnectionError) -> Error {
    let by_alert = match &error {
        ConnectionError::ConnectionClosed(close) => Some(u64::from(close.error_code)),
        ConnectionError::TransportError(error) => Some(u64::from(error.code)),
        _ => None,
    };
    match by_alert {
        Some(ALERT_ACCESS_DENIED) => return Error::UnknownKey { addr },
        Some(CONNECTION_REFUSED) => return Error::Busy { addr },
        Some(_) => return Error::Incompatible { addr, detail: error.to_string() },
        None => {}
    }
    match ended(error) {
        Error::Closed { code: CloseCode::UnknownKey, .. } => Error::UnknownKey { addr },
        Error::Closed { code: CloseCode::Busy, .. } => Error::Busy { addr },
        Error::TimedOut => Error::Unreachable { addr, detail: "timed out".to_owned() },
        Error::Cut { detail } => Error::Incompatible { addr, detail },
        error => error,
    }
}

/// This device's key, ready for both sides of a handshake.
#[derive(Debug)]
struct Tls {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
}

impl Tls {
    fn new(key: &TransportKey) -> Result<Self> {
        let provider = Arc::new(CryptoProvider {
            // What is recorded today stays closed to whoever breaks X25519 one day.
            kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768],
            ..aws_lc_rs::default_provider()
        });
        let der = key.to_pkcs8_der();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_slice()));
        let signer = aws_lc_rs::sign::any_supported_type(&private).map_err(tls)?;
        let key = Arc::new(CertifiedKey::new(vec![spki_of(&key.public())], signer));
        Ok(Self { provider, key })
    }

    fn server_config(&self, gate: Arc<dyn Gate>) -> Result<quinn::ServerConfig> {
        let verifier = Admitted::new(gate, self.provider.signature_verification_algorithms);
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = Purpose::ALL.map(|purpose| purpose.alpn().to_vec()).to_vec();
        // No resumption: each connection asks the gate anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        let crypto = QuicServerConfig::try_from(config).map_err(tls)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(transport_config(0))
            .migration(true)
            .max_incoming(CONNECTIONS_MAX)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES * CONNECTIONS_MAX as u64);
        Ok(server)
    }

    fn client_config(
        &self,
        expected: TransportId,
        purpose: Purpose,
    ) -> Result<(quinn::ClientConfig, Arc<Expected>)> {
        let verifier = Expected::new(expected, self.provider.signature_verification_algorithms);
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                self.key.clone(),
            )));
        config.alpn_protocols = vec![purpose.alpn().to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        let crypto = QuicClientConfig::try_from(config).map_err(tls)?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        client.transport_config(transport_config(1));
        Ok((client, verifier))
    }
}

fn tls(error: impl std::fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// A key of small order, which no device can have.
const NOBODY: TransportId = TransportId::new([0; 32]);
/// TLS wants a name; with server name indication off it is not sent.
const SERVER_NAME: &str = "larder";
/// What the server's stream says.
const ADMITTED: u8 = 1;
/// QUIC's code for the TLS alert `access_denied` (RFC 9001 §4.8, RFC 8446 §6).
const ALERT_ACCESS_DENIED: u64 = 0x100 + 49;
/// RFC 9000 §20.1.
const CONNECTION_REFUSED: u64 = 0x2;
/// Bytes kept of a connection attempt not yet looked at.
const INCOMING_BYTES: u64 = 64 << 10;
/// For peers to hear that the endpoint closes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Between two looks at whether the socket is closed.
const RELEASE_STEP: Duration = Duration::from_millis(1);
