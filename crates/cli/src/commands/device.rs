//! `larder device`: who belongs to a space, and what each device may do.

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use larder::{
    Band, Carried, DeviceId, DeviceInfo, LeftBehind, Renewed, Role, Space, SpaceKind, SpaceName,
};
use serde_json::json;

use crate::commands::recovery::typed;
use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{Output, Table, counted, printable};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List the devices of a space, whose they are and what they may do
    #[command(after_help = "Example:
  larder device list shared:household")]
    List(DeviceList),
    /// Shut a lost device, or a member with every device, out of a space
    #[command(
        after_help = "What this device holds of its entries counts, and nothing that it writes
besides; new entries are sealed to the others alone. What it has on its own disk stays there. It
cannot be undone: whoever comes back is invited again. Devices are named by their label or by the
beginning of their id.

Example:
  larder device revoke shared:household \"Ana's phone\""
    )]
    Revoke(DeviceRevoke),
    /// Wait no more for a device that stays away, until it is back
    #[command(
        after_help = "For a tablet in a drawer: as long as it might hold edits that nobody has seen,
nothing is pruned, and old secrets are kept. Set aside, it is not waited for. It keeps its rights
and loses nothing: what it wrote counts when it comes, and it is waited for again from then on, by
itself. What was erased it has not confirmed: larder erasures says so. A device that will never come
back, or may be in other hands, is shut out instead (larder device revoke).

Examples:
  larder device quarantine shared:household \"the tablet\"
  larder device quarantine shared:household \"the tablet\" --lift"
    )]
    Quarantine(DeviceQuarantine),
    /// Give a device another role or clearance
    #[command(
        after_help = "What it wrote before counts by what it was. With a greater clearance it
gets what it may read by then when it syncs next; with a lesser one it lets go of what is above it.
An auditor's device stays one, and no other becomes one: shut it out, and invite it anew.

Example:
  larder device role shared:household \"the tablet\" reader --clearance amber"
    )]
    Role(DeviceRole),
    /// Let another device of yours take this one's place, and shut this one out
    #[command(
        after_help = "For a new phone: let it in from the old one (larder invite, larder join), wait
until it has everything, and then run this on the old one. It goes only once the new one has signed
that it holds every entry that is here, and may do and read as much. What is on the old one stays
there until you remove its profile; what is BLACK is there alone. Files are not signed for: see that
the new one has fetched them (larder status).

Example:
  larder device retire shared:household --to \"Ana's new phone\""
    )]
    Retire(DeviceRetire),
    /// Give a copied or restored profile new keys, so that it can be written again
    #[command(
        after_help = "For a profile that was copied or restored from an older copy, while the other
one was used too: two that sign as one device are taken for nobody. This one becomes a device of its
own. Each of its spaces can be read, and written once another device has let it in again (larder
invite there, larder join here); what only this copy has is carried over then, and named. Where the
profile is served (larder serve), its connections end for that, and it is served on as the device
that it is then.

A space that no other device had when the copy was made waits as well: another one may have joined
since. If you know that none has, say so with --alone, after the keys were renewed. If one has after
all, it has another history of the space than this device from then on, and neither hears of the
other: renew once more then, and join by an invitation from that device.

Where other devices have it and all of them are lost, the 24 words of its recovery kit have it go on
here: --alone SPACE --recovery. Is one of them left, use the words there (larder space recover), and
let this one in from it.

Examples:
  larder device renew
  larder device renew --alone personal:notes
  larder device renew --alone shared:household --recovery"
    )]
    Renew(DeviceRenew),
}

#[derive(Debug, Args)]
pub(crate) struct DeviceList {
    /// The space
    pub(crate) space: SpaceName,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceRevoke {
    /// The space
    pub(crate) space: SpaceName,
    /// The device
    pub(crate) device: String,
    /// All devices of the member whose device this is, those too that nobody has heard of yet
    #[arg(long)]
    pub(crate) member: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceQuarantine {
    /// The space
    pub(crate) space: SpaceName,
    /// The device
    pub(crate) device: String,
    /// Wait for it again, although it is not back
    #[arg(long)]
    pub(crate) lift: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceRole {
    /// The space
    pub(crate) space: SpaceName,
    /// The device
    pub(crate) device: String,
    /// What it may do
    pub(crate) role: RoleArg,
    /// The highest band of sensitivity that it may read [default: as it is]
    #[arg(long, value_name = "BAND")]
    pub(crate) clearance: Option<BandArg>,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceRetire {
    /// The space
    pub(crate) space: SpaceName,
    /// The device that takes its place
    #[arg(long, value_name = "DEVICE")]
    pub(crate) to: String,
    /// What is BLACK on this device stays here, and the new one does not get it
    #[arg(long)]
    pub(crate) without_black: bool,
    /// Files that the new one has not fetched may be lost
    #[arg(long)]
    pub(crate) without_files: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceRenew {
    /// This space goes on without being joined again: no other device has it
    #[arg(long, value_name = "SPACE")]
    pub(crate) alone: Option<SpaceName>,
    /// All others that it has are lost: by the words of its recovery kit, which are asked for,
    /// this device is an owner, and they are shut out
    #[arg(long, requires = "alone")]
    pub(crate) recovery: bool,
}

/// A role, as it is written on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Everything
    Owner,
    /// Everything but over owners
    Admin,
    /// Reads and writes
    Writer,
    /// Reads
    Reader,
    /// Holds and checks every receipt, and never gets content
    Auditor,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Owner => Self::Owner,
            RoleArg::Admin => Self::Admin,
            RoleArg::Writer => Self::Writer,
            RoleArg::Reader => Self::Reader,
            RoleArg::Auditor => Self::Auditor,
        }
    }
}

/// A band, as it is written on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BandArg {
    /// For every device
    Green,
    /// For devices cleared for it
    Amber,
    /// For the few cleared for it
    Red,
}

impl From<BandArg> for Band {
    fn from(band: BandArg) -> Self {
        match band {
            BandArg::Green => Self::Green,
            BandArg::Amber => Self::Amber,
            BandArg::Red => Self::Red,
        }
    }
}

/// A band of documents, as it is written on the command line: there is one more than devices are
/// cleared for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OfBand {
    /// For every device
    Green,
    /// For devices cleared for it
    Amber,
    /// For the few cleared for it
    Red,
    /// For this device alone: it never leaves, and is lost with it
    Black,
}

impl From<OfBand> for Band {
    fn from(band: OfBand) -> Self {
        match band {
            OfBand::Green => Self::Green,
            OfBand::Amber => Self::Amber,
            OfBand::Red => Self::Red,
            OfBand::Black => Self::Black,
        }
    }
}

pub(crate) async fn run(call: &Call<'_>, command: &DeviceCommand) -> anyhow::Result<Exit> {
    match command {
        DeviceCommand::List(args) => list(call, args).await,
        DeviceCommand::Revoke(args) => revoke(call, args).await,
        DeviceCommand::Quarantine(args) => quarantine(call, args).await,
        DeviceCommand::Role(args) => role(call, args).await,
        DeviceCommand::Retire(args) => retire(call, args).await,
        DeviceCommand::Renew(args) => match &args.alone {
            None => renew(call).await,
            Some(space) => go_on_alone(call, space, args.recovery).await,
        },
    }
}

async fn list(call: &Call<'_>, args: &DeviceList) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let mut table = Table::new(&["device", "role", "reads up to", "member", "id"]);
    let current = space.devices().await?;
    let former = space.former_devices().await?;
    let progress = space.status().await?.progress;
    let aside: Vec<_> = progress.iter().filter(|it| it.set_aside).map(|it| it.device).collect();
    let all = current.iter().map(|device| (device, false));
    for (device, is_out) in all.chain(former.iter().map(|device| (device, true))) {
        let is_aside = !is_out && aside.contains(&device.device);
        out.json(&json!({ "device": device, "shut_out": is_out, "set_aside": is_aside }))?;
        let label = printable(&device.label);
        table.row([
            if device.me { format!("{label} (this one)") } else { label },
            match (is_out, is_aside) {
                (true, _) => "shut out".to_owned(),
                (false, true) => format!("{}, set aside", device.role),
                (false, false) => device.role.to_string(),
            },
            match device.role {
                Role::Auditor => "receipts only".to_owned(),
                _ => format!("{:?}", device.clearance).to_lowercase(),
            },
            beginning(&device.member.to_string()),
            beginning(&device.device.to_string()),
        ]);
    }
    out.line(table.render().trim_end())?;
    profile.close().await?;
    Ok(Exit::Done)
}

async fn quarantine(call: &Call<'_>, args: &DeviceQuarantine) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let device = named(&space, &args.device).await?;
    let receipt = if args.lift {
        space.lift_quarantine(device.device).await.context("nothing was changed")?
    } else {
        space.quarantine(device.device).await.context("it was not set aside")?
    };
    let event = if args.lift { "quarantine-lifted" } else { "quarantined" };
    out.json(&json!({ "event": event, "device": device, "seq": receipt.seq }))?;
    let label = printable(&device.label);
    out.line(&if args.lift {
        format!("{label} is waited for again: receipt {} of this device.", receipt.seq)
    } else {
        format!(
            "{label} is set aside until it is back, and loses nothing: receipt {} of this device.",
            receipt.seq
        )
    })?;
    profile.close().await?;
    Ok(Exit::Done)
}

async fn revoke(call: &Call<'_>, args: &DeviceRevoke) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let device = named(&space, &args.device).await?;
    let receipt = if args.member {
        space.revoke_member(device.member).await
    } else {
        space.revoke(vec![device.device]).await
    };
    let receipt = receipt.context("nobody was shut out")?;
    let left = space.devices().await?.len();
    out.json(&json!({ "event": "revoked", "device": device, "seq": receipt.seq, "left": left }))?;
    out.line(&format!(
        "{} is shut out of {}: receipt {} of this device. {left} left.",
        if args.member { "The member" } else { &device.label },
        args.space,
        receipt.seq
    ))?;
    out.note("The others hear of it when they sync next: larder sync");
    profile.close().await?;
    Ok(Exit::Done)
}

async fn role(call: &Call<'_>, args: &DeviceRole) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let device = named(&space, &args.device).await?;
    let clearance = args.clearance.map_or(device.clearance, Band::from);
    let receipt = space.change_role(device.device, args.role.into(), clearance).await;
    let receipt = receipt.context("nothing was changed")?;
    out.json(&json!({ "event": "role", "device": device.device.to_string(), "seq": receipt.seq }))?;
    let label = printable(&device.label);
    let role = Role::from(args.role);
    let seq = receipt.seq;
    out.line(&format!(
        "{label} is {role} and reads up to {clearance} now: receipt {seq} of this device."
    ))?;
    profile.close().await?;
    Ok(Exit::Done)
}

async fn retire(call: &Call<'_>, args: &DeviceRetire) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let to = named(&space, &args.to).await?;
    check_black(&profile, args).await?;
    let retire = async || {
        if args.without_files {
            space.retire_without_files(to.device).await
        } else {
            space.retire(to.device).await
        }
    };
    let mut retired = retire().await;
    if retired.is_err() {
        // What it has not signed for yet, or not said to have, it may sign for now.
        let _ = profile.sync().await;
        retired = retire().await;
    }
    let receipt = retired.context("this device stays in the space")?;
    let told = profile.sync().await.is_ok_and(|all| all.iter().any(|peer| peer.outcome.is_ok()));
    out.json(&json!({
        "event": "retired", "space": args.space.to_string(), "to": to, "seq": receipt.seq,
        "told": told,
    }))?;
    let (label, seq) = (printable(&to.label), receipt.seq);
    out.line(&format!(
        "This device is out of {}: receipt {seq}. {label} has all that it has.",
        args.space
    ))?;
    out.note(if told {
        "Another device has heard of it. This profile can be read until you remove it."
    } else {
        "Nobody has heard of it yet: larder sync"
    });
    profile.close().await?;
    Ok(Exit::Done)
}

/// Fails if something is on this device alone, which the new one will not have.
async fn check_black(profile: &larder::Profile, args: &DeviceRetire) -> anyhow::Result<()> {
    let black = only_here(&profile.status().await?);
    if black.is_empty() || args.without_black {
        return Ok(());
    }
    let message = format!(
        "{} on this device alone, and {} does not get it: copy it as files (larder export, and \
         larder import there), or to a space that both have (larder copy --leaves-device). Then, \
         or if it may stay behind: --without-black. Nothing was changed",
        black.join(", "),
        printable(&args.to)
    );
    Err(Failure::error(Exit::Failed, message))
}

/// What is on this device alone, by space.
pub(super) fn only_here(status: &larder::Status) -> Vec<String> {
    let black = status.spaces.iter().filter(|space| space.stays_here);
    let found = black.map(|space| (space, space.documents, space.blobs.blobs));
    let found = found.filter(|(_, documents, files)| documents + files > 0);
    let text = found.map(|(space, documents, files)| {
        let documents = counted(documents, "document", "documents");
        format!("{documents} and {} of {} are", counted(files, "file", "files"), space.name)
    });
    let unknown = status.unopened.iter().filter(|space| space.name.kind() == SpaceKind::Black);
    let unknown =
        unknown.map(|space| format!("what {} has, which cannot be opened, is", space.name));
    text.chain(unknown).collect()
}

async fn renew(call: &Call<'_>) -> anyhow::Result<Exit> {
    let out = call.out;
    let Renewed { waiting, alone, here } = call.renew().await.context("no keys were changed")?;
    let names =
        |spaces: &[SpaceName]| -> Vec<String> { spaces.iter().map(ToString::to_string).collect() };
    out.json(&json!({
        "event": "renewed", "waiting": names(&waiting), "alone": names(&alone),
        "here": names(&here),
    }))?;
    out.line("This profile has new keys: it is a device of its own now.")?;
    for space in &waiting {
        out.line(&format!(
            "{space}: it can be read. To write it, let this device in again: larder invite {space} \
             on another one, larder join INVITATION here. What only this copy has is carried over \
             then. If all others are lost, and there is a recovery kit: larder device renew \
             --alone {space} --recovery"
        ))?;
    }
    for space in &alone {
        out.line(&format!(
            "{space}: it can be read. When this copy was made no other device had it. If one has \
             joined since, let this one in from there: larder invite {space} there, larder join \
             INVITATION here. If none has: larder device renew --alone {space}"
        ))?;
    }
    for space in &here {
        out.line(&format!("{space}: it goes on here, with what this copy has of it."))?;
    }
    Ok(Exit::Done)
}

async fn go_on_alone(call: &Call<'_>, space: &SpaceName, by_words: bool) -> anyhow::Result<Exit> {
    let out = call.out;
    let kit = if by_words { Some(typed(call).await?) } else { None };
    call.go_on_alone(space, kit).await.context("the space waits as before")?;
    out.json(&json!({ "event": "alone", "space": space.to_string() }))?;
    out.line(&format!("{space} goes on here, with what this copy has of it."))?;
    out.note(&format!(
        "Should another device have it after all: larder device renew, and join {space} by an \
         invitation from that one. What was written here is carried over to it."
    ));
    Ok(Exit::Done)
}

/// Says what was carried over from an old copy, if there was one.
pub(super) fn tell_carried(
    out: Output<'_>,
    space: &Space,
    carried: &Carried,
) -> anyhow::Result<()> {
    let name = space.name();
    let Carried { entries, created, edited, deleted, blobs, moot, of_others, .. } = carried;
    out.json(&json!({ "event": "carried", "space": name.to_string(), "carried": carried }))?;
    out.line(&format!(
        "{name}: carried over {} of the old copy: {} created, {} edited, {} deleted, {}.",
        counted(*entries, "entry", "entries"),
        counted(*created, "document", "documents"),
        counted(*edited, "time", "times"),
        counted(*deleted, "document", "documents"),
        counted(*blobs, "file", "files"),
    ))?;
    if *of_others > 0 {
        let entries = counted(*of_others, "entry", "entries");
        out.line(&format!("It also had {entries} of other devices."))?;
    }
    if *moot > 0 {
        let edits = counted(*moot, "edit", "edits");
        out.line(&format!("{edits} came to nothing: the documents were deleted meanwhile."))?;
    }
    for left in &carried.left {
        let LeftBehind { file, seq, what } = left;
        out.line(&printable(&format!("Not carried over: entry {seq} in {file}: {what}")))?;
    }
    if !carried.left.is_empty() {
        out.note(
            "Only the old file has that. Write here what of it is still wanted; then `larder purge \
             --leave` removes it.",
        );
    }
    out.note(if carried.is_done {
        "The old file is kept until `larder purge`. If no other copy of this device is used any \
         more, shut the old one out here: larder device list, larder device revoke"
    } else {
        "There is more, which waits until this device has all that another one has: larder sync"
    });
    Ok(())
}

/// The one device that is called so, or whose id begins so.
pub(super) async fn named(space: &Space, name: &str) -> anyhow::Result<DeviceInfo> {
    let all = space.devices().await?;
    let is_named = |device: &&DeviceInfo| {
        let id: DeviceId = device.device;
        device.label == name || (name.len() >= 4 && id.to_string().starts_with(name))
    };
    let mut found = all.iter().filter(is_named);
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(device.clone()),
        (None, _) => {
            let message = format!("no device is called {name:?}: `larder device list` shows them");
            Err(Failure::error(Exit::NotFound, message))
        }
        (Some(_), Some(_)) => {
            let message = format!("several devices are called {name:?}: give the id's beginning");
            Err(Failure::error(Exit::Usage, message))
        }
    }
}

fn beginning(id: &str) -> String {
    id.chars().take(8).collect()
}
