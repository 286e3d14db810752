//! The command line: every command, its options, and an example in its help.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::commands::{BandArg, BlobCommand, DeviceCommand, RoleArg};
use crate::commands::{Classify, Export, Passphrase, Prune, Purge, Rekey, Security};
use crate::commands::{Delete, Diff, Erase, Erasures, Restore, RetentionArgs, Show, Trash};
use clap::{Args, Parser, Subcommand, ValueEnum};
use larder_types::{CollectionName, ObjectId, SpaceName};

/// An encrypted space for a household's documents, on every device, without a server.
#[derive(Debug, Parser)]
#[command(
    name = "larder",
    version,
    about,
    after_help = "Exit codes:
    0  done
    1  failed
    2  the command line is wrong
    3  the passphrase is wrong
    4  another process uses the profile
    5  not found: profile, space, document or file
    6  import or export done, except for some files it reported
    7  an export of receipts is refuted
    8  a peer could not be reached, or broke off
    9  the invitation is used up, expired or mangled, or a peer refused
  130  stopped by Ctrl-C; the same command again completes the work

Example: see the whole way on one machine
  larder demo"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A path as somebody wrote it; [`Call::path`](crate::home::Call::path) says where it leads.
#[derive(Debug, Clone)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// Whether it stands for stdin.
    pub(crate) fn is_stdin(&self) -> bool {
        self.0.as_os_str() == "-"
    }

    /// Where it leads from `dir`.
    pub(crate) fn within(&self, dir: &Path) -> PathBuf {
        dir.join(&self.0)
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for Place {
    fn from(text: &T) -> Self {
        Self(PathBuf::from(text))
    }
}

impl From<OsString> for Place {
    fn from(text: OsString) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The profile's directory [default: `$LARDER_HOME`, or the platform's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) profile: Option<PathBuf>,
    /// Print JSON on stdout: one document, or one line per item or event; a failure is the last
    /// line, {"error", "exit"}
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Read the passphrase from the first line of a file; none is asked for while `larder serve`
    /// runs
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "passphrase_fd")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from the first line of an open file descriptor
    #[arg(long, global = true, value_name = "N")]
    pub(crate) passphrase_fd: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a profile: this device's keys and spaces, under a passphrase
    #[command(after_help = "Example:
  larder init --label \"Ana's laptop\"")]
    Init(Init),
    /// Make a space, or list those of this profile
    #[command(
        subcommand,
        after_help = "Example:
  larder space create shared:household"
    )]
    Space(SpaceCommand),
    /// Import a folder of text and JSON files, images and PDFs; again: only what changed
    #[command(
        after_help = "Each file becomes a document in the collection `files`: .md, .txt and .json
as what they hold, images and PDFs by the name of a blob. Each line of a .jsonl file
becomes one, too. Files that went from the folder stay in the space, unless --prune puts their
documents into the trash.
Exit code 6: done, except for the files it reported (unreadable, too large, binary, malformed …).
Ctrl-C finishes the unit at hand; the same command again completes the work.

Example:
  larder import shared:household ~/Notes"
    )]
    Import(Import),
    /// Add, get and list files of any kind and size
    #[command(
        subcommand,
        after_help = "Example:
  larder blob add shared:household ~/Videos/birthday.mp4"
    )]
    Blob(BlobCommand),
    /// Show the devices of a space, give them roles, shut one out
    #[command(
        subcommand,
        after_help = "Example: a phone was lost
  larder device revoke shared:household \"Ana's phone\""
    )]
    Device(DeviceCommand),
    /// Print an invitation to a space, once, and wait for the other device
    #[command(after_help = "Whoever has the text can join within ten minutes, once: hand it over
privately. The command waits until the other device has joined and taken what the space holds.

Example:
  larder invite shared:household
  larder invite shared:household --new-member --role writer")]
    Invite(Invite),
    /// Join a space by an invitation, and take what it holds
    #[command(after_help = "The invitation may also come from a file or, with `-`, from stdin.

Example:
  larder join INVITATION
  larder join - < invitation.txt")]
    Join(Join),
    /// Listen for this profile's peers, and push and take changes as they happen
    #[command(
        after_help = "Runs until Ctrl-C. Meanwhile every other command of the same user works
on the profile through this process, and asks for no passphrase; --no-commands refuses them.
Peers on the local network are found by multicast DNS, under random names that change every hour.
With --json, each event is one line; the first is
`listening`.

Example:
  larder serve --listen 0.0.0.0:4433"
    )]
    Serve(Serve),
    /// Take and give what is new with every known peer once, then exit
    #[command(after_help = "Exit code 8: a peer did not answer; the others are up to date.

Example:
  larder sync
  larder sync --with 192.168.1.20:4433")]
    Sync(Sync),
    /// List a space's documents
    #[command(after_help = "Example:
  larder list shared:household --collection files")]
    List(List),
    /// Print a document's value
    #[command(after_help = "Example:
  larder get shared:household recipes/soup.md --text")]
    Get(Get),
    /// Create a document, or change one, from a JSON object
    #[command(
        after_help = "Only what differs from the document's present value is written, so that edits
elsewhere survive.

Example:
  echo '{\"title\": \"Milk\"}' | larder put shared:household shopping --file -"
    )]
    Put(Put),
    /// Put documents into the trash, or delete them for ever
    #[command(after_help = "On every device. What is in the trash is neither listed nor found, and
kept until its time is over. --for-ever deletes at once, and wins over any edit made elsewhere.

Example:
  larder delete shared:household recipes/soup.md")]
    Delete(Delete),
    /// List what is in the trash
    #[command(after_help = "Example:
  larder trash shared:household")]
    Trash(Trash),
    /// Take a document out of the trash, or make a new one of what was deleted or edited
    #[command(after_help = "What was deleted for ever stays deleted: what it was becomes a new
document, as long as it is still on this device.

Example:
  larder restore shared:household recipes/soup.md")]
    Restore(Restore),
    /// Show or set how long documents are kept, and apply it
    #[command(
        after_help = "An owner or admin sets it, for every device. What is over its time goes
by itself once two devices' clocks say so; a device alone asks for --apply.

Example:
  larder retention shared:household
  larder retention shared:household shopping --age 90 --trash-days 30"
    )]
    Retention(RetentionArgs),
    /// Erase a document from every device, with all that was ever written of it
    #[command(
        after_help = "Every version goes, and the files that only it names, also of a document that
was deleted before (by its id). Other devices do it when they hear of it, and drop what was edited
there meanwhile. Nobody can bring it back; backups and exports that somebody made have it still.
Receipts stay, and still verify. `larder erasures` tells who has done it.

Example:
  larder erase shared:household letters/bank.md --for-ever"
    )]
    Erase(Erase),
    /// List what was erased, and which devices have done it
    #[command(after_help = "A device is done when nothing of the document is on its disk any more.

Example:
  larder erasures shared:household")]
    Erasures(Erasures),
    /// List what happened to a document: when, who, under which receipt, and its versions
    #[command(after_help = "Times are what the devices' clocks claimed.

Example:
  larder history shared:household recipes/soup.md")]
    History(Pick),
    /// Print what a document was at a version or a time
    #[command(after_help = "Example:
  larder show shared:household recipes/soup.md --at 2026-11-21T14:30:00Z
  larder show shared:household recipes/soup.md --at flat")]
    Show(Show),
    /// Print what differs between two versions of a document
    #[command(after_help = "Example:
  larder diff shared:household recipes/soup.md flat
  larder diff shared:household recipes/soup.md 2026-11-01 2026-11-21")]
    Diff(Diff),
    /// List fields of a document that devices gave different values while apart
    #[command(after_help = "Writing such a field settles it.

Example:
  larder conflicts shared:household recipes/soup.md")]
    Conflicts(Pick),
    /// Search a space's documents by words and likeness
    #[command(after_help = "Example:
  larder search shared:household \"lentil soup\" --limit 5")]
    Search(Search),
    /// Show this profile, its spaces, peers, and what they hold
    #[command(after_help = "Example:
  larder status --json")]
    Status(Status),
    /// List documents that hold what looks personal, by kind; never what it is
    #[command(
        after_help = "Contact, financial and health data and credentials, by shapes and words
in English and German, a little in French, Spanish and Italian. It misses some.

Example:
  larder classify shared:household"
    )]
    Classify(Classify),
    /// Show what happened to this device that its people ought to know of
    #[command(
        after_help = "Writings and sessions that were refused, devices that came, went or got
another role, renewed keys, exports, migrations, repairs, another passphrase. Each event is signed,
and chained to the one before. No other device has this log. A wrong passphrase is not in it: the
log opens with the right one.

Example:
  larder security
  larder security shared:household --json"
    )]
    Security(Security),
    /// Read everything in the profile, check it against what was signed, and mend what can be
    #[command(
        after_help = "Without --repair nothing is changed. With it, what follows from the log
(documents, tombstones, indexes, trees) is made again, and the next sync asks other devices for the
bytes of sections that are damaged. Each thing that is found or done is one line.
Exit code 1: something is damaged and was not mended; the rest is checked all the same.

Example:
  larder check
  larder check --repair"
    )]
    Check(Check),
    /// List the receipts of a space, or export them for an outsider to check
    #[command(after_help = "An export holds headers, proofs and checkpoints, and no content.

Example:
  larder receipts shared:household --export ./receipts
  larder audit verify ./receipts")]
    Receipts(Receipts),
    /// Check an export of receipts; needs no profile and no passphrase
    #[command(
        subcommand,
        after_help = "Example:
  larder audit verify ./receipts"
    )]
    Audit(AuditCommand),
    /// Write a space's documents back as files
    #[command(
        after_help = "Text files come back byte for byte, JSON pretty-printed, JSONL line by line;
documents of other collections as COLLECTION/ID.json. An existing file that differs is left alone
and reported, unless --force is given.

Example:
  larder export shared:household ./household"
    )]
    Export(Export),
    /// Drop the bodies of edits whose outcome all devices of a space agree on
    #[command(
        after_help = "Documents, their versions and all receipts stay, and a device that joins
later gets documents instead of bodies. Every device has to state what it has: run this on each,
sync, and run it again. Spaces do the same by themselves, while they have nothing else to do, once
16 MiB of bodies could go, those of small records aside. A device that stays away holds it up.
Where a quarter of the space's file is free then, and 4 MiB, the file gets shorter; otherwise it
keeps the room for new content.

Example:
  larder prune shared:household --dry-run"
    )]
    Prune(Prune),
    /// Give a space a new key at rest: its file is written anew while it is used
    #[command(after_help = "Keys older than a year are renewed without this. Needs as much room
again as the space has on disk. If it is stopped or cut, the space is as it was, and the renewal
begins anew, by itself, when the space is opened next.
What lies in free blocks of the disk still opens with the passphrase: see `larder purge`.

Example:
  larder rekey shared:household
  larder rekey --all")]
    Rekey(Rekey),
    /// Write the whole profile anew under new keys, so that nothing kept opens its old files
    #[command(after_help = "All files are replaced at once, and the old ones are removed: what is
left of them on the medium (free blocks of a flash memory, for one) opens with nothing that is kept.
Needs the passphrase, and as much room again as the profile has on disk. If it is cut, all is as it
was: run it again. Ctrl-C twice cuts it.
It erases no document: what was deleted stays in the space's log, in the new files too.
A copy of the whole profile made before, a backup for one, still opens with its own passphrase.

Example:
  larder purge
  larder purge --new-passphrase")]
    Purge(Purge),
    /// Change the passphrase of this profile
    #[command(after_help = "Asks for the present one and for the new one. At once, whatever the
profile holds, and whole: if it is cut, either the old passphrase opens the profile or the new.
The keys beneath stay. A copy of the profile, or of its file `profile.key`, that was made before
still opens with the old passphrase, and with it what is written later: if somebody may have both,
run `larder purge --new-passphrase` instead.

Example:
  larder passphrase")]
    Passphrase(Passphrase),
    /// Show the whole way on this machine: two devices, sync, merge, search, receipts
    #[command(
        after_help = "Works on a copy of what is in FOLDER, in two new profiles in a temporary
directory; nothing else is touched. Without FOLDER: a sample household.
Exit code 1: some check failed.

Example:
  larder demo ~/Notes
  larder demo --measure --json"
    )]
    Demo(Demo),
}

impl Command {
    /// Whether it works on a profile that is there, and so runs in the process that serves it.
    pub(crate) const fn runs_where_served(&self) -> bool {
        !self.needs_profile_alone()
            && !matches!(self, Self::Init(_) | Self::Audit(_) | Self::Demo(_))
    }

    /// Whether it cannot run while anybody has the profile open.
    pub(crate) const fn needs_profile_alone(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Purge(_) | Self::Passphrase(_))
    }
}

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
    #[command(after_help = "The kind comes first: personal:, selective:, shared: or extended:

Example:
  larder space create shared:household")]
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
pub(crate) struct Import {
    /// The space to import into
    pub(crate) space: SpaceName,
    /// The folder, or one file
    pub(crate) folder: Place,
    /// Put documents into the trash whose file is no longer in the folder
    #[arg(long)]
    pub(crate) prune: bool,
    /// You are sure, however many they are
    #[arg(long, requires = "prune")]
    pub(crate) yes: bool,
}

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
    /// The highest band of sensitivity that it may read [default: what this one may]
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

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The space
    pub(crate) space: SpaceName,
    /// Only documents of this collection
    #[arg(long)]
    pub(crate) collection: Option<CollectionName>,
    /// With --json: print values, too
    #[arg(long, requires = "json")]
    pub(crate) values: bool,
}

/// Names one document.
#[derive(Debug, Args)]
pub(crate) struct Pick {
    /// The space
    pub(crate) space: SpaceName,
    /// The document's id, or the path it was imported from
    #[arg(value_name = "ID-OR-PATH")]
    pub(crate) document: String,
    /// The collection whose `path` fields are looked through
    #[arg(long, default_value = "files", value_parser = collection)]
    pub(crate) collection: CollectionName,
}

pub(crate) fn collection(text: &str) -> Result<CollectionName, String> {
    text.parse().map_err(|error: larder_types::NameError| error.to_string())
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// Print only the text of an imported text file, byte for byte
    #[arg(long, conflicts_with = "json")]
    pub(crate) text: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The space
    pub(crate) space: SpaceName,
    /// The document's collection
    pub(crate) collection: CollectionName,
    /// The document to change; without it, a new one is made
    pub(crate) id: Option<ObjectId>,
    /// A file with the JSON object, or - for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Place,
    /// How sensitive a new document is: only devices cleared for it get it [default: green]
    #[arg(long, value_name = "BAND")]
    pub(crate) band: Option<BandArg>,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// The space
    pub(crate) space: SpaceName,
    /// What to look for
    pub(crate) text: String,
    /// Only documents of this collection
    #[arg(long)]
    pub(crate) collection: Option<CollectionName>,
    /// How many results at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// By words alone, by likeness alone, or by both
    #[arg(long, value_enum, default_value_t = By::Both)]
    pub(crate) by: By,
}

/// How documents are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Words, full text
    Words,
    /// Likeness of vectors
    Likeness,
    /// Both, fused
    Both,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
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

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use super::*;
    use clap::CommandFactory;

    fn check_examples(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example"), "{} has no example", command.get_name());
        for sub in command.get_subcommands() {
            check_examples(sub);
        }
    }

    #[test]
    fn every_command_has_an_example_and_a_line_about_it() {
        Cli::command().debug_assert();
        check_examples(&Cli::command());
    }

    /// A served command runs in a process whose current directory is not that of the person.
    #[test]
    fn a_path_of_a_served_command_is_a_place() {
        fn check(command: &clap::Command) {
            let own = ["profile", "passphrase_file", "new_passphrase_file"];
            for arg in command.get_arguments() {
                let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
                let name = arg.get_id().as_str();
                assert!(!is_path || own.contains(&name), "{} of {}", name, command.get_name());
            }
            command.get_subcommands().filter(|sub| sub.get_name() != "demo").for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn the_commands_of_the_readme_parse() {
        let id = "00112233445566778899aabbccddeeff";
        for line in [
            "init --label tablet --passphrase-file p",
            "space create shared:household",
            "space list --json",
            "space create shared:household --recovery",
            "space create shared:household --recovery-of-words",
            "space recover shared:household --lost tablet --lost phone",
            "space fingerprint shared:household --json",
            "space begin-anew shared:household --file-is-lost --json",
            "import shared:household /tmp --prune",
            "invite shared:household --listen 127.0.0.1:0",
            "join larder1abc",
            "join --code 1234-5678",
            "join --code 1234-5678 192.0.2.7:4433 --json",
            "invite shared:household --qr --qr-png x.png",
            "invite shared:household --code --unattended",
            "serve",
            "serve --no-commands --no-discovery --listen 127.0.0.1:0",
            "sync",
            "sync --with 127.0.0.1:4433",
            "list shared:household --collection files --json --values",
            "get shared:household recipes/soup.md",
            "put shared:household shopping --file -",
            &format!("put shared:household shopping {id} --file x.json"),
            &format!("delete shared:household {id}"),
            "history shared:household recipes/soup.md",
            "show shared:household recipes/soup.md --at 2026-11-21",
            "diff shared:household recipes/soup.md flat now",
            "conflicts shared:household recipes/soup.md",
            "search shared:household text --by words --limit 3",
            "status --profile /tmp/p",
            "check --repair",
            "security",
            "classify shared:household --collection files --json",
            "security shared:household --json",
            "status --metrics",
            "receipts shared:household --export out",
            "audit verify out",
            "export shared:household out --force",
            "prune shared:household --dry-run --json",
            "rekey shared:household",
            "rekey --all --json",
            "purge",
            "purge --new-passphrase",
            "purge --new-passphrase-file p --passphrase-file q",
            "passphrase",
            "passphrase --new-passphrase-file p --passphrase-file q --json",
            "demo --keep out --json --measure",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("larder").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn wrong_lines_are_refused_and_no_argument_carries_a_passphrase() {
        for line in [
            "import household /tmp",
            "search shared:household",
            "put shared:household shopping",
            "init --passphrase secret",
            "init --passphrase-file a --passphrase-fd 3",
            "search shared:household text --limit 0",
            "join",
            "invite shared:household --code --qr",
            "rekey",
            "rekey shared:household --all",
            "space begin-anew shared:household",
            "space recover shared:household abandon abandon",
            "space create shared:household --recovery --recovery-of-words",
            "purge --new-passphrase --new-passphrase-file p",
            "purge --new-passphrase secret",
            "passphrase secret",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("larder").chain(line.split(' ')));
            assert!(parsed.is_err(), "{line}");
        }
    }
}
