//! RFC 7250 raw public keys: what stands where a certificate would is exactly one Ed25519 key.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use larder_crypto::check_signing_key;
use larder_types::{DeviceId, TransportId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    PeerIncompatible, SignatureScheme,
};

use crate::{Gate, Purpose};

/// DER of a `SubjectPublicKeyInfo` for Ed25519 (RFC 8410 §4), up to the key's 32 bytes.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// `key` as a `SubjectPublicKeyInfo`.
pub(crate) fn spki_of(key: &TransportId) -> CertificateDer<'static> {
    CertificateDer::from([SPKI_PREFIX.as_slice(), key.as_bytes()].concat())
}

/// The key in `spki`, if it is an Ed25519 key in DER and nothing else.
pub(crate) fn key_of(spki: &[u8]) -> Option<TransportId> {
    TransportId::from_slice(spki.strip_prefix(SPKI_PREFIX.as_slice())?)
}

fn only_key(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<TransportId, TlsError> {
    if !intermediates.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    key_of(end_entity)
        // A key of small order belongs to everybody: some signatures fit it whatever they sign.
        .filter(|key| check_signing_key(&DeviceId::new(*key.as_bytes())).is_ok())
        .ok_or_else(|| CertificateError::BadEncoding.into())
}

/// Accepts one key: the one the caller expects to find at an address.
///
/// Which key it is, is looked at once the peer has signed with it: anybody can show anybody's.
pub(crate) struct Expected {
    key: TransportId,
    /// The key that answered instead, and was proven.
    found: Mutex<Option<TransportId>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Expected {
    pub(crate) fn new(key: TransportId, algorithms: WebPkiSupportedAlgorithms) -> Arc<Self> {
        Arc::new(Self { key, found: Mutex::new(None), algorithms })
    }

    pub(crate) fn found_instead(&self) -> Option<TransportId> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expected").field(&self.key).finish()
    }
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        only_key(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let valid = verify_signature(message, cert, dss, &self.algorithms)?;
        let found = only_key(cert, &[])?;
        if found == self.key {
            return Ok(valid);
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts the keys that a [`Gate`] admits for any purpose; the purpose is only known once the
/// handshake is through, and is asked for then.
pub(crate) struct Admitted {
    gate: Arc<dyn Gate>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Admitted {
    pub(crate) fn new(gate: Arc<dyn Gate>, algorithms: WebPkiSupportedAlgorithms) -> Arc<Self> {
        Arc::new(Self { gate, algorithms })
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Admitted {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let key = only_key(end_entity, intermediates)?;
        if Purpose::ALL.into_iter().any(|purpose| self.gate.admits(&key, purpose)) {
            return Ok(ClientCertVerified::assertion());
        }
        self.gate.refused(&key);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, TlsError> {
    let spki = SubjectPublicKeyInfoDer::from(cert.as_ref());
    verify_tls13_signature_with_raw_key(message, &spki, dss, algorithms)
}

#[cfg(test)]
mod tests {
    use larder_crypto::{Secret, TransportKey};

    use super::*;

    #[test]
    fn only_an_ed25519_key_and_nothing_else_is_read() {
        let key = TransportId::new([7; 32]);
        let spki = spki_of(&key);
        assert_eq!(key_of(&spki), Some(key));
        let mut longer = spki.to_vec();
        longer.push(0);
        assert_eq!(key_of(&longer), None);
        assert_eq!(key_of(&spki[..spki.len() - 1]), None);
        // One bit anywhere in the prefix: X25519's identifier, say, or parameters.
        for index in 0..SPKI_PREFIX.len() * 8 {
            let mut other = spki.to_vec();
            other[index / 8] ^= 1 << (index % 8);
            assert_eq!(key_of(&other), None, "bit {index}");
        }
        assert!(only_key(&spki_of(&TransportId::new([0; 32])), &[]).is_err(), "small order");
        let honest = TransportKey::from_secret(&Secret::new([7; 32])).public();
        assert_eq!(only_key(&spki_of(&honest), &[]), Ok(honest));
        assert!(only_key(&spki_of(&honest), &[spki_of(&honest)]).is_err());
    }
}
