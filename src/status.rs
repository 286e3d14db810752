use std::net::SocketAddr;
use std::path::PathBuf;

use larder_engine::{CheckReport, SecuritySummary, SpaceStatus};
use larder_types::{SpaceName, Timestamp, TransportId};
use serde::{Serialize, Serializer};

use crate::Result;

/// What there is in a profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// Its directory; none for a profile in memory.
    pub dir: Option<PathBuf>,
    /// What its owner calls this device.
    pub label: String,
    /// Its transport key, by which its peers know it.
    #[serde(serialize_with = "as_text")]
    pub transport: TransportId,
    /// Whether it was opened for reading only.
    pub read_only: bool,
    /// When the profile's key was drawn, as this device's clock had it.
    #[serde(serialize_with = "as_optional_text")]
    pub key_created: Option<Timestamp>,
    /// Since when a purge is wished for that was cut: what it was to destroy is still there.
    #[serde(serialize_with = "as_optional_text")]
    pub purge_wished: Option<Timestamp>,
    /// What is new in the security log ([`Profile::security_log`](crate::Profile::security_log)).
    pub security: SecuritySummary,
    /// Where it listens, if it does.
    pub listening: Option<SocketAddr>,
    /// Its spaces.
    pub spaces: Vec<SpaceStatus>,
    /// Spaces that cannot be opened: what there is in them is not known.
    pub unopened: Vec<Unopened>,
    /// The devices it has spoken to.
    pub peers: Vec<PeerStatus>,
}

/// A space that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unopened {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub name: SpaceName,
    /// Why not, and what to do.
    pub what: String,
}

/// What a check of one file came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checked {
    /// Whose file it is: a space's, or the profile's own.
    pub space: Option<SpaceName>,
    /// What was found, and what was done about it; of the profile's own file nothing, or an error:
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) with what is wrong, the storage's.
    pub result: Result<CheckReport>,
}

/// A device that this one has spoken to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its transport key.
    #[serde(serialize_with = "as_text")]
    pub transport: TransportId,
    /// What its owner calls it.
    pub label: String,
    /// Where it was.
    pub addresses: Vec<SocketAddr>,
    /// When it was last spoken to, as this device's clock had it.
    #[serde(serialize_with = "as_text")]
    pub last_seen: Timestamp,
    /// Whether a connection with it is up now.
    pub connected: bool,
}

fn as_text<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn as_optional_text<T: ToString, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}
