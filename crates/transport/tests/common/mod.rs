//! Keys, gates, and peers that do not behave: raw QUIC ends with a key of their own, which take
//! any key and say any protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use larder_crypto::{Secret, TransportKey};
use larder_transport::{Connection, Endpoint, Gate, Purpose};
use larder_types::TransportId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub(crate) fn key(number: u8) -> TransportKey {
    TransportKey::from_secret(&Secret::new([number; 32]))
}

/// Admits these keys for sync, and none for pairing.
pub(crate) fn knows(keys: &[u8]) -> Arc<dyn Gate> {
    let known: Vec<TransportId> = keys.iter().map(|number| key(*number).public()).collect();
    Arc::new(move |peer: &TransportId, purpose| purpose == Purpose::Sync && known.contains(peer))
}

pub(crate) async fn endpoint(me: u8, admitted: &[u8]) -> Endpoint {
    Endpoint::bind(any_port(), &key(me), knows(admitted)).await.unwrap()
}

/// Devices 1 and 2, which know each other, and a connection from 1 to 2.
pub(crate) struct Pair {
    pub(crate) endpoints: [Endpoint; 2],
    pub(crate) first: Connection,
    pub(crate) second: Connection,
}

pub(crate) async fn pair() -> Pair {
    let (one, two) = (endpoint(1, &[2]).await, endpoint(2, &[1]).await);
    let addr = two.local_addr().unwrap();
    let (first, second) =
        tokio::join!(one.connect(addr, key(2).public(), Purpose::Sync), two.accept());
    Pair { endpoints: [one, two], first: first.unwrap(), second: second.unwrap() }
}

fn certified(me: &TransportKey) -> Arc<CertifiedKey> {
    shown(me, me)
}

/// Shows one key, and signs with another.
fn shown(key: &TransportKey, signing: &TransportKey) -> Arc<CertifiedKey> {
    let signer = |key: &TransportKey| {
        let der = key.to_pkcs8_der();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_slice()));
        aws_lc_rs::sign::any_supported_type(&private).unwrap()
    };
    let spki = CertificateDer::from(signer(key).public_key().unwrap().to_vec());
    Arc::new(CertifiedKey::new(vec![spki], signer(signing)))
}

pub(crate) fn raw_client(me: &TransportKey, alpn: &[u8]) -> quinn::Endpoint {
    raw_client_with(me, alpn, aws_lc_rs::default_provider().kx_groups)
}

pub(crate) fn raw_client_with(
    me: &TransportKey,
    alpn: &[u8],
    kx_groups: Vec<&'static dyn SupportedKxGroup>,
) -> quinn::Endpoint {
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(me))));
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client(any_port()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

pub(crate) async fn raw_connect(me: u8, to: &Endpoint) -> (quinn::Endpoint, quinn::Connection) {
    let client = raw_client(&key(me), Purpose::Sync.alpn());
    let addr = to.local_addr().unwrap();
    let connection = client.connect(addr, "anyone").unwrap().await.unwrap();
    connection.accept_uni().await.unwrap();
    (client, connection)
}

pub(crate) fn raw_server(me: &TransportKey, alpn: &[u8]) -> quinn::Endpoint {
    serving(certified(me), alpn)
}

/// Answers as the device whose key it shows, and has another.
pub(crate) fn impostor(of: &TransportKey, me: &TransportKey, alpn: &[u8]) -> quinn::Endpoint {
    serving(shown(of, me), alpn)
}

fn serving(key: Arc<CertifiedKey>, alpn: &[u8]) -> quinn::Endpoint {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), any_port()).unwrap()
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("TLS 1.3 only")
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("TLS 1.3 only")
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
