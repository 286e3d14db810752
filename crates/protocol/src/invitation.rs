use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use larder_crypto::{Secret, hash::sha256};
pub use larder_types::limits::INVITATION_ADDRESSES_MAX as ADDRESSES_MAX;
use larder_types::limits::INVITATION_TEXT_BYTES_MAX as TEXT_BYTES_MAX;
use larder_types::{Hash, Timestamp, TransportId, canonical};
use minicbor::{Decode, Encode};

use crate::error::InvitationError;

/// An offer to join a space, passed by hand as a text:
/// `larder1-` and, in lower-case base32 without padding (RFC 4648 §6), the canonical CBOR array
/// `[version, inviter, addresses, secret, expires]` and the first four bytes of its SHA-256.
///
/// The text is a secret: whoever has it may ask to join, once, until it expires. It names no
/// space. `Display` is that text; `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The transport key of the device that invites, to be expected at the addresses.
    pub inviter: TransportId,
    /// Where that device listens; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// Proves to each side that the other has the invitation.
    pub secret: Secret<16>,
    /// When the inviter stops honouring it. Whoever reads it judges.
    pub expires: Timestamp,
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = canonical::encode(&Fields {
            version: VERSION,
            inviter: self.inviter,
            addresses: self.addresses.iter().take(ADDRESSES_MAX).map(|a| Address(*a)).collect(),
            secret: *self.secret.expose(),
            expires: self.expires,
        });
        let checksum = sha256(&[&bytes]);
        bytes.extend(checksum.as_bytes().iter().take(CHECKSUM_BYTES));
        write!(f, "{PREFIX}{VERSION}-{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    /// White space anywhere, and capitals, are forgiven: people and mail programs add them.
    fn from_str(text: &str) -> Result<Self, InvitationError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvitationError::NotAnInvitation);
        }
        let text: String =
            text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
        let rest = text.strip_prefix(PREFIX).ok_or(InvitationError::NotAnInvitation)?;
        let (version, code) = rest.split_once('-').ok_or(InvitationError::NotAnInvitation)?;
        match version.parse::<u32>() {
            Ok(version) if version == u32::from(VERSION) => {}
            Ok(version) => {
                return Err(InvitationError::OtherVersion { version: version.into() });
            }
            Err(_) => return Err(InvitationError::NotAnInvitation),
        }
        let bytes = BASE32_NOPAD
            .decode(code.to_ascii_uppercase().as_bytes())
            .map_err(|_| InvitationError::Mangled)?;
        let (fields, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(InvitationError::Mangled)?;
        if !sha256(&[fields]).as_bytes().starts_with(checksum) {
            return Err(InvitationError::Mangled);
        }
        Self::from_fields(fields)
    }
}

impl Invitation {
    /// Names the invitation where its secret is not to be shown.
    pub fn id(&self) -> Hash {
        sha256(&[ID_LABEL, self.secret.expose()])
    }

    fn from_fields(bytes: &[u8]) -> Result<Self, InvitationError> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let version = decoder.array().and_then(|_| decoder.u64());
        let version = version.map_err(|_| InvitationError::Mangled)?;
        if version != u64::from(VERSION) {
            return Err(InvitationError::OtherVersion { version });
        }
        let fields: Fields =
            canonical::decode(bytes, TEXT_BYTES_MAX).map_err(|_| InvitationError::Mangled)?;
        if fields.addresses.len() > ADDRESSES_MAX {
            return Err(InvitationError::Mangled);
        }
        Ok(Self {
            inviter: fields.inviter,
            addresses: fields.addresses.iter().map(|address| address.0).collect(),
            secret: Secret::new(fields.secret),
            expires: fields.expires,
        })
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Fields {
    #[n(0)]
    version: u8,
    #[n(1)]
    inviter: TransportId,
    #[n(2)]
    addresses: Vec<Address>,
    #[cbor(n(3), with = "minicbor::bytes")]
    secret: [u8; 16],
    #[n(4)]
    expires: Timestamp,
}

impl Drop for Fields {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

/// The 4 or 16 bytes of an IP address and 2 of a port, big-endian.
struct Address(SocketAddr);

impl<C> Encode<C> for Address {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let port = self.0.port().to_be_bytes();
        match self.0.ip() {
            IpAddr::V4(ip) => e.bytes(&[&ip.octets()[..], &port].concat())?.ok(),
            IpAddr::V6(ip) => e.bytes(&[&ip.octets()[..], &port].concat())?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Address {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        let address = bytes.split_last_chunk::<2>().and_then(|(ip, port)| {
            let ip = <[u8; 4]>::try_from(ip)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(ip).map(IpAddr::from))
                .ok()?;
            Some(Self(SocketAddr::new(ip, u16::from_be_bytes(*port))))
        });
        address.ok_or_else(|| minicbor::decode::Error::message("not an address"))
    }
}

const ID_LABEL: &[u8] = b"larder/invitation/v0";
const PREFIX: &str = "larder";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> Invitation {
        Invitation {
            inviter: TransportId::new([7; 32]),
            addresses: vec![
                "192.168.1.20:4711".parse().unwrap(),
                "[fd00::5]:4711".parse().unwrap(),
            ],
            secret: Secret::new([9; 16]),
            expires: Timestamp(1_800_000_000_000),
        }
    }

    fn equal(a: &Invitation, b: &Invitation) -> bool {
        a.inviter == b.inviter
            && a.addresses == b.addresses
            && a.secret.expose() == b.secret.expose()
            && a.expires == b.expires
    }

    #[test]
    fn an_invitation_survives_paper_mail_and_capitals() {
        let text = invitation().to_string();
        assert!(text.len() < 200, "{} characters", text.len());
        assert!(equal(&text.parse().unwrap(), &invitation()));
        let (head, tail) = text.split_at(60);
        let mailed = format!("\n  {head}\r\n{tail} \n");
        assert!(equal(&mailed.parse().unwrap(), &invitation()));
        assert!(equal(&text.to_uppercase().parse().unwrap(), &invitation()));
        assert!(!format!("{:?}", invitation()).contains("9, 9"));
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let text = invitation().to_string();
        for at in "larder1-".len()..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(other.parse::<Invitation>().unwrap_err(), InvitationError::Mangled);
            let cut = &text[..at];
            assert_eq!(cut.parse::<Invitation>().unwrap_err(), InvitationError::Mangled, "{cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let code = |text: &str| text.parse::<Invitation>().unwrap_err();
        for text in
            ["", "hello", "larder", "larder1", "larder-x", "larderx-aa", "https://x.example"]
        {
            assert_eq!(code(text), InvitationError::NotAnInvitation, "{text}");
        }
        assert_eq!(code(&"larder1-".repeat(1000)), InvitationError::NotAnInvitation);
        assert_eq!(code("larder2-abc"), InvitationError::OtherVersion { version: 2 });
        // The same prefix around a version of later days.
        let mut bytes = canonical::encode(&(7_u8, "something else"));
        let checksum = sha256(&[&bytes]);
        bytes.extend(&checksum.as_bytes()[..4]);
        let text = format!("larder1-{}", BASE32_NOPAD.encode(&bytes));
        assert_eq!(code(&text), InvitationError::OtherVersion { version: 7 });
    }
}
