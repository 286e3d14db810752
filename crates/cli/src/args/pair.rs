//! Arguments of commands that talk to other devices.

use std::net::SocketAddr;

use clap::Args;
use larder_types::SpaceName;

use super::Place;
use crate::commands::{BandArg, RoleArg};

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Invite {
    /// The space to invite to
    pub(crate) space: SpaceName,
    /// Where to listen for the other device [default: the profile's port on all interfaces]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// What the other device may do [default: what this one may]
    #[arg(long)]
    pub(crate) role: Option<RoleArg>,
    /// The highest band of sensitivity that it may read [default: what this one may; for a new
    /// member no more than the space's policy says]
    #[arg(long, value_name = "BAND")]
    pub(crate) clearance: Option<BandArg>,
    /// It is somebody else's device, not another one of the same member
    #[arg(long)]
    pub(crate) new_member: bool,
    /// Show the invitation as a QR code, too
    #[arg(long, conflicts_with = "code")]
    pub(crate) qr: bool,
    /// Write it as a QR code to a new PNG file, which is as secret as the text
    #[arg(long, value_name = "FILE", conflicts_with = "code")]
    pub(crate) qr_png: Option<Place>,
    /// Invite by eight digits, a device in the same network
    #[arg(long)]
    pub(crate) code: bool,
    /// Let the first device in that has the invitation, and ask nobody
    #[arg(long)]
    pub(crate) unattended: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The invitation's text, a file that holds it, or - for stdin; with --code, the address of the
    /// device that invites [default: found on the local network]
    #[arg(required_unless_present = "code")]
    pub(crate) invitation: Option<String>,
    /// The eight digits that the other device shows
    #[arg(long, value_name = "DIGITS")]
    pub(crate) code: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen [default: the profile's port on all interfaces]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Take no commands from other processes while this one runs
    #[arg(long)]
    pub(crate) no_commands: bool,
    /// Neither announce this device on the local network nor look for others there
    #[arg(long)]
    pub(crate) no_discovery: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Sync with the device that listens at this address only
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) with: Option<SocketAddr>,
}
