//! Arguments of commands on the profile, its spaces, and what they hold as a whole.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use larder_types::SpaceName;

use super::Place;
use crate::commands::PolicyArgs;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// What other devices call this one [default: the host's name]
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// How much work a guess at the passphrase costs; kept with the profile
    #[arg(long, value_enum, default_value_t = Cost::Default)]
    pub(crate) passphrase_cost: Cost,
}

/// Argon2id parameters by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cost {
    /// 64 MiB of memory, 3 passes: for a passphrase a person chose
    Default,
    /// 8 MiB, 1 pass: only for a long random passphrase, or for tests
    Low,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpaceCommand {
    /// Make a space
    #[command(
        after_help = "The kind comes first: personal:, selective:, shared:, extended:, or black:
for what never leaves this device and is lost with it.

Example:
  larder space create shared:household"
    )]
    Create {
        /// The new space's name
        space: SpaceName,
        /// Make a recovery kit of 24 words, shown once, and have some of them typed back
        #[arg(long)]
        recovery: bool,
        /// Use the kit of another space, whose words are read from stdin
        #[arg(long, conflicts_with = "recovery")]
        recovery_of_words: bool,
    },
    /// Become an owner by a recovery kit's words, read from stdin, and shut lost devices out
    #[command(after_help = "Works on any device that has the space, whatever its role there; the
words alone open nothing. What is written from now on is sealed to the devices that are left.

Example:
  larder space recover shared:household --lost \"Ana's phone\"")]
    Recover {
        /// The space
        space: SpaceName,
        /// A device that is lost, by its label or the beginning of its id; may be repeated
        #[arg(long, value_name = "DEVICE")]
        lost: Vec<String>,
    },
    /// Show digits that two people can compare: the same space, and the same devices in it
    #[command(
        after_help = "Covers the space's id and all its devices with their keys, members, roles
and clearances; nothing of what is written there. Sync first: who has not heard yet of a device
that came or went sees other digits.

Example:
  larder space fingerprint shared:household"
    )]
    Fingerprint {
        /// The space
        space: SpaceName,
    },
    /// Show or set what devices do in a space where nobody says otherwise
    #[command(
        after_help = "Who may invite other members, how sensitive new documents are, what a new
member's device may read, how long documents are kept. Each kind of space (personal:, selective:,
shared:, extended:, black:) has its own; an owner sets others, for every device. It is what devices
go by: a device that does not hold to it is not refused.

Example:
  larder space policy shared:household
  larder space policy shared:household --set clearance=green --set trash=60"
    )]
    Policy(PolicyArgs),
    /// List the spaces of this profile
    #[command(after_help = "Example:
  larder space list")]
    List,
    /// Make a space anew whose file is lost for good, from other devices
    #[command(
        after_help = "For a file that is not there any more. One that is there and cannot be read
is set aside by `larder check --repair`. If the file is only elsewhere for now, on a disk that is
not mounted say, put it back instead: once the space is made anew it counts for nothing.
The space can be read as far as other devices have sent it, and is not written before this device
holds all again that it is known to have signed. Writings that no other device has are lost.

Example:
  larder space begin-anew shared:household --file-is-lost
  larder sync"
    )]
    BeginAnew {
        /// The space
        space: SpaceName,
        /// You are sure that the file will not come back
        #[arg(long, required = true)]
        file_is_lost: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Only this space, with what is BLACK of it
    pub(crate) space: Option<SpaceName>,
    /// Mend what can be mended
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Receipts {
    /// The space
    pub(crate) space: SpaceName,
    /// Write them, with proofs and checkpoints, to this new directory
    #[arg(long, value_name = "DIR")]
    pub(crate) export: Option<Place>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check an export; exit code 7 if it is refuted
    #[command(after_help = "Example:
  larder audit verify ./receipts")]
    Verify {
        /// The export's directory
        dir: Place,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print what `larder serve` has measured so far, in Prometheus' text format, instead
    #[arg(long, conflicts_with = "json")]
    pub(crate) metrics: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// A folder of .md, .txt, .json and .jsonl files [default: a sample household]
    pub(crate) folder: Option<PathBuf>,
    /// Keep both profiles, the receipts and the passphrase in this new directory
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Also measure small writes against this machine's fsync, and live edits
    #[arg(long)]
    pub(crate) measure: bool,
}
