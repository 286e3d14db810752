//! The command line: every command, its options, and an example in its help.

use std::path::PathBuf;

use crate::commands::{BandArg, BlobCommand, DeviceCommand, SubjectCommand};
use crate::commands::{
    Classify, ContractArgs, Export, Passphrase, Prune, Purge, Redact, Rekey, Security,
};
use crate::commands::{
    Delete, Diff, Erase, Erasures, Restore, RetentionArgs, Show, Transfer, Trash,
};
use clap::{Args, Parser, Subcommand};

mod documents;
mod pair;
mod place;
mod profile;
#[cfg(test)]
mod tests;

pub(crate) use documents::{By, Get, Import, List, Pick, Put, Search, collection};
pub(crate) use pair::{Invite, Join, Serve, Sync};
pub(crate) use place::Place;
pub(crate) use profile::{AuditCommand, Check, Cost, Demo, Init, Receipts, SpaceCommand, Status};

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

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The profile's directory [default: `$LARDER_HOME`, or the platform's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) profile: Option<PathBuf>,
    /// Print JSON on stdout: one document, or one line per item or event; a failure is the last
    /// line, {"error", "exit"}
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Read the passphrase from the first line of a file; while `larder serve` runs, only
    /// `passphrase`, `purge` and `device renew` ask for it
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "passphrase_fd")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from the first line of an open file descriptor
    #[arg(long, global = true, value_name = "N")]
    pub(crate) passphrase_fd: Option<u32>,
    /// Work with documents as a device does that is cleared for this band alone; with `serve`, have
    /// every command do so that runs through it
    #[arg(long, global = true, value_name = "BAND")]
    pub(crate) show_up_to: Option<BandArg>,
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
A document keeps its band: with --band, a file that was imported before into a lower one is reported
and left as it is there. So is what a contract of the space refuses (larder contract).
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
on the profile through this process, and asks for no passphrase; --no-commands refuses them. Those
that change what opens the profile, or its keys (passphrase, purge, device renew), ask for it all
the same. For the latter two the profile is closed and opened again: connections end and come back,
and other commands wait meanwhile.
Peers on the local network are found by multicast DNS, under random names that change every hour.
With --json, each event is one line; the first is `listening`, which comes again when the profile is
open again.

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
    /// Copy a document into another space of this profile
    #[command(
        after_help = "With the files that it names, under that space's keys, without its history.
Again: the same copy, brought up to date as long as nobody has edited it.

Example:
  larder copy recipes/soup.md --from shared:household --to personal:ana"
    )]
    Copy(Transfer),
    /// Move a document into another space of this profile
    #[command(
        after_help = "Copied there, and then put into the trash here. If it is cut in between, the
document is in both: the same command again completes it. Receipts of both say the same correlation.

Example:
  larder move diary/sunday.md --from personal:ana --to shared:household"
    )]
    Move(Transfer),
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
  larder retention shared:household shopping --age 90 --trash-days 30
  larder retention shared:household --band red --age 365"
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
    /// Take parts out of a document: out of every version of it, on every device
    #[command(after_help = "What is left becomes a new document without a history, and the old
one is erased: `larder erasures` tells who has done it. Nobody can bring the parts back; backups and
exports that somebody made have them still, and other documents are not looked at. What another
device edits beside that goes into the new document when it hears of it, but for the parts that are
gone.

Example:
  larder redact shared:household people/ella.json diagnosis /school/marks/2 --for-ever")]
    Redact(Redact),
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
    /// Show or set what becomes of personal data in what is written in a space
    #[command(after_help = "An owner sets it, for every device that hears of it, by kind: contact,
financial, health or credentials. What is found is told (warn), makes its document one of that band
(amber, red), is taken out before it is written (redact), or nothing is written (refuse). A document
that is there already keeps its band: what would raise it is refused. `larder classify` tells what
is found in what was written before.

Example:
  larder contract shared:household
  larder contract shared:household --set health=amber --set credentials=refuse
  larder contract shared:household --collection vault --set credentials=red
  larder contract shared:household --remove health")]
    Contract(ContractArgs),
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
  larder check shared:household
  larder check --repair"
    )]
    Check(Check),
    /// Hand over what a member has written, and what there is about it, or erase it
    #[command(
        subcommand,
        after_help = "Example:
  larder subject export --member \"Ben's phone\" --out ./ben"
    )]
    Subject(SubjectCommand),
    /// List the receipts of a space, or export them for an outsider to check
    #[command(after_help = "An export holds headers, proofs and checkpoints, and no content.
The list says why an entry counts for nothing: \"role\" or \"band\", as its device might not
write there or not in that band; \"act\", as nobody might do that; \"content\", as it cannot
be read or applied.

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
was: run it again. Ctrl-C twice cuts it, unless the profile is served: then it is done to the end,
and other commands wait. It waits for those that run for some seconds itself, and gives up then.
It erases no document: what was deleted stays in the space's log, in the new files too.
It refuses while only an old file has something (larder device renew). What could not be carried
over from it is named; once it was written by hand, --leave removes it.
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
    /// Whether it is about documents of one space, and so can show less than there is.
    pub(crate) const fn works_below_clearance(&self) -> bool {
        matches!(
            self,
            Self::List(_)
                | Self::Get(_)
                | Self::Put(_)
                | Self::Copy(_)
                | Self::Move(_)
                | Self::Delete(_)
                | Self::Trash(_)
                | Self::Restore(_)
                | Self::History(_)
                | Self::Show(_)
                | Self::Diff(_)
                | Self::Conflicts(_)
                | Self::Search(_)
                | Self::Classify(_)
                | Self::Import(_)
                | Self::Export(_)
                | Self::Blob(_)
                | Self::Receipts(_)
                | Self::Serve(_)
        )
    }
}

#[cfg(unix)]
impl Command {
    /// Whether it works on a profile that is there, and so runs in the process that serves it.
    pub(crate) const fn runs_where_served(&self) -> bool {
        !self.needs_profile_alone()
            && !matches!(self, Self::Init(_) | Self::Audit(_) | Self::Demo(_))
    }

    /// Whether it is to have the profile to itself for as long as it runs.
    pub(crate) const fn needs_profile_alone(&self) -> bool {
        matches!(self, Self::Serve(_))
    }

    /// Whether another passphrase may open the profile when it has ended.
    pub(crate) const fn has_new_passphrase(&self) -> bool {
        match self {
            Self::Passphrase(_) => true,
            Self::Purge(args) => args.has_new_passphrase(),
            _ => false,
        }
    }

    /// The file that the new passphrase is in, if it is in one.
    pub(crate) fn new_passphrase_file(&self) -> Option<&std::path::Path> {
        match self {
            Self::Passphrase(args) => args.new_passphrase_file.as_deref(),
            Self::Purge(args) => args.new_passphrase_file.as_deref(),
            _ => None,
        }
    }
}
