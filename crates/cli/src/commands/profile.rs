//! `larder init`, `larder space`, `larder status`.

use larder::{
    DeviceProgress, ErrorKind, Kept, Mode, RekeyStatus, RetentionDue, Space, SpaceKind, SpaceName,
    SpaceStatus, Standing, Status, Timestamp,
};
use serde_json::json;

use crate::args::{self, Init};
use crate::commands::device::only_here;
use crate::commands::{recovery, security};
use crate::exit::{Exit, Failure, code_of_kind};
use crate::home::{Call, host_name};
use crate::metrics;
use crate::output::{Table, bytes, count, counted, printable};

pub(crate) async fn init(call: &Call<'_>, args: &Init) -> anyhow::Result<Exit> {
    let out = call.out;
    let label = args.label.clone().unwrap_or_else(host_name);
    let (dir, profile) = call.create(label, args.passphrase_cost).await?;
    let label = profile.label();
    out.json(&json!({
        "profile": dir, "label": label, "transport": profile.transport_id().to_string(),
    }))?;
    out.line(&format!("Made a profile for {} at {}.", printable(&label), dir.display()))?;
    out.line("Its passphrase cannot be recovered: write it down.")?;
    out.line("Next: larder space create shared:household, or larder join INVITATION")?;
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn fingerprint(call: &Call<'_>, name: &SpaceName) -> anyhow::Result<Exit> {
    let profile = call.open().await?;
    let digits = profile.space(name).await?.fingerprint().await?;
    call.out.json(&json!({ "space": name.to_string(), "fingerprint": digits }))?;
    call.out.line(&digits)?;
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn create(
    call: &Call<'_>,
    name: &SpaceName,
    new_kit: bool,
    kit_of_words: bool,
) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    // Before anybody writes down words that would be of no space.
    if profile.space(name).await.is_ok() {
        let message = format!("there is a space '{name}' in this profile already");
        return Err(Failure::error(code_of_kind(ErrorKind::AlreadyExists), message));
    }
    if name.kind() == SpaceKind::Black && (new_kit || kit_of_words) {
        let message = "a recovery kit lets another device in, and a black: space is on this one \
                       alone: leave the kit out";
        return Err(Failure::error(Exit::Usage, message));
    }
    let kit = recovery::kit_for_new_space(call, new_kit, kit_of_words).await?;
    let space = match &kit {
        Some(kit) => profile.create_space_with_kit(name, kit).await?,
        None => profile.create_space(name).await?,
    };
    out.json(&line_of(&space))?;
    out.line(&format!("Made {name}."))?;
    let import = format!("Next: larder import {name} FOLDER");
    out.line(&match name.kind() {
        SpaceKind::Black => format!("Nothing of it ever leaves this device. {import}"),
        _ => format!("{import}, or larder invite {name}"),
    })?;
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn begin_anew(call: &Call<'_>, name: &SpaceName) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let begun = profile.begin_anew(name).await?;
    out.json(&json!({
        "event": "begun-anew", "space": name.to_string(), "set_aside": begun.file,
        "entries": begun.entries, "why": begun.why,
    }))?;
    out.line(&format!("{name} is made anew. {}", printable(&begun.why)))?;
    if let Some(file) = &begun.file {
        let taken = counted(begun.entries, "entry was", "entries were");
        let file = printable(file);
        out.line(&format!("{file} was there after all, and is kept: {taken} taken from it."))?;
    }
    out.line("It is read-only until this device has back what it signed. Next: larder sync")?;
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn list(call: &Call<'_>) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let (spaces, unopened) = profile.spaces_and_unopened().await?;
    let mut table = Table::new(&["space", "id", "this device there"]);
    for space in &spaces {
        out.json(&line_of(space))?;
        let (id, device) = (space.id().to_string(), space.device().to_string());
        table.row([space.name().to_string(), short(&id), short(&device)]);
    }
    for space in &unopened {
        out.json(&json!({ "space": space.name.to_string(), "cannot_be_opened": space.what }))?;
        table.row([space.name.to_string(), "cannot be opened".to_owned()]);
    }
    if spaces.is_empty() && unopened.is_empty() {
        out.line("No spaces yet: larder space create shared:household, or larder join INVITATION")?;
    } else {
        out.line(table.render().trim_end())?;
    }
    for space in &unopened {
        let (name, what) = (&space.name, &space.what);
        out.line(&printable(&format!("{name}: {what}. Next: larder check {name}")))?;
    }
    profile.close().await?;
    Ok(if unopened.is_empty() { Exit::Done } else { Exit::Failed })
}

fn line_of(space: &Space) -> serde_json::Value {
    json!({
        "space": space.name().to_string(),
        "id": space.id().to_string(),
        "device": space.device().to_string(),
    })
}

/// Enough of an id to tell it from its neighbours.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

pub(crate) async fn status(call: &Call<'_>, args: &args::Status) -> anyhow::Result<Exit> {
    let out = call.out;
    if args.metrics && !call.is_served() {
        let message = "nothing is measured but by `larder serve`: start it, and ask again";
        return Err(Failure::error(Exit::Failed, message));
    }
    let profile = call.open().await?;
    let status = profile.status().await?;
    if args.metrics {
        out.write(metrics::text().as_bytes())?;
        return Ok(Exit::Done);
    }
    out.json(&status)?;
    if !out.is_json() {
        out.write(describe(&status).as_bytes())?;
    }
    profile.close().await?;
    Ok(if status.unopened.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The day on which a space's key was drawn, and what becomes of it.
fn key_of(space: &SpaceStatus) -> String {
    let drawn = space.key_created.to_string();
    let day = drawn.split('T').next().unwrap_or_default();
    match space.rekey {
        RekeyStatus::None => day.to_owned(),
        RekeyStatus::Wished => format!("{day}, to be renewed"),
        RekeyStatus::Copying { pages, pages_total } => {
            format!("{day}, being renewed ({pages} of {pages_total} pages)")
        }
    }
}

/// How many blobs there are, and how many bytes are waited for.
fn files_of(space: &SpaceStatus) -> String {
    let blobs = space.blobs;
    match blobs.waiting {
        0 => count(blobs.blobs),
        waiting => {
            let waited = bytes(blobs.waiting_bytes);
            format!("{} ({} awaited: {waited})", count(blobs.blobs), count(waiting))
        }
    }
}

fn mode_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Ready => "ready",
        Mode::Degraded => "degraded",
        Mode::ReadOnly => "read-only",
    }
}

/// What a device is known to hold; nothing is said that it has not signed.
fn holds(device: &DeviceProgress) -> String {
    let known = match device.standing {
        Standing::Here => return "this device".to_owned(),
        Standing::Unknown => "not known".to_owned(),
        Standing::Everything => format!("all {}", count(device.holds)),
        Standing::UpToABand | Standing::Receipts => {
            let up_to = device.up_to.map(|up_to| format!("up to {up_to}"));
            format!("all {} {}", count(device.holds), up_to.as_deref().unwrap_or("receipts"))
        }
        Standing::Behind => {
            format!("{} of {}", count(device.holds), count(device.holds + device.pending))
        }
    };
    let known = match device.ahead {
        0 => known,
        ahead => format!("{known}, and {} that are not here", count(ahead)),
    };
    if device.set_aside { format!("{known}; set aside") } else { known }
}

/// What a person has to say of documents that are over their time.
fn over_time(status: &Status) -> String {
    let mut text = String::new();
    for space in &status.spaces {
        let due = space.retention.as_ref().map_or(0, RetentionDue::total);
        if due > 0 {
            let documents = counted(due, "document", "documents");
            text = format!(
                "{text}\n{documents} of {0} over their time by this device's clock alone: larder \
                 retention {0}\n",
                space.name,
            );
        }
    }
    text
}

/// What this device may not read any more, and keeps for others.
fn kept(status: &Status) -> String {
    let mut text = String::new();
    for space in &status.spaces {
        let Kept { sections, documents, chunks } = space.kept;
        if (sections, documents, chunks) != (0, 0, 0) {
            text = format!(
                "{text}\n{}: {}, {} and {} that this device may not read any more are here until \
                 another has them that may: sync with one\n",
                space.name,
                counted(sections, "section", "sections"),
                counted(documents, "pruned document", "pruned documents"),
                counted(chunks, "chunk of a file", "chunks of files"),
            );
        }
    }
    text
}

/// What is lost with this device.
fn black(status: &Status) -> String {
    let text = |text: String, found: String| {
        format!("{text}\n{found} on this device alone: who loses it loses them\n")
    };
    only_here(status).into_iter().fold(String::new(), text)
}

/// Why spaces are not ready.
fn amiss(status: &Status) -> String {
    let reasons = status.spaces.iter().flat_map(|space| {
        space.state.reasons.iter().map(move |reason| format!("{}: {reason}", space.name))
    });
    let unopened = status.unopened.iter().map(|space| format!("{}: {}", space.name, space.what));
    let lines = reasons.chain(unopened).map(|line| format!("{}\n", printable(&line)));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) }
}

fn describe(status: &Status) -> String {
    let mut text = format!("This device  {}\n", printable(&status.label));
    if let Some(dir) = &status.dir {
        text = format!("{text}Profile      {}\n", dir.display());
    }
    text = format!("{text}Known as     {}\n", short(&status.transport.to_string()));
    if let Some(since) = status.purge_wished {
        text = format!("{text}Purge        begun at {since} and cut: run `larder purge` again\n");
    }
    text.push('\n');
    let mut spaces = Table::new(&[
        "space",
        "state",
        "documents",
        "deleted",
        "entries",
        "lacking",
        "waiting",
        "files",
        "on disk",
        "key of",
    ]);
    for space in &status.spaces {
        spaces.row([
            space.name.to_string(),
            mode_of(space.state.mode).to_owned(),
            count(space.documents),
            count(space.tombstones),
            count(space.entries),
            count(space.lacking),
            count(space.waiting),
            files_of(space),
            bytes(space.file_bytes),
            key_of(space),
        ]);
    }
    for space in &status.unopened {
        spaces.row([space.name.to_string(), "cannot be opened".to_owned()]);
    }
    let mut logs = Table::new(&["log", "entries", "acknowledged by", ""]);
    for (space, log) in status.spaces.iter().flat_map(|s| s.logs.iter().map(move |log| (s, log))) {
        let by = log.acknowledged.iter().map(|(label, size)| format!("{label} ({})", count(*size)));
        let forked = if log.forked { "stopped: it contradicts itself" } else { "" };
        logs.row([
            format!("{} of {}", log.label, space.name),
            count(log.size),
            by.collect::<Vec<_>>().join(", "),
            forked.to_owned(),
        ]);
    }
    let mut devices =
        Table::new(&["device", "holds", "still to be sent", "signed so at", "last seen here"]);
    for (space, device) in
        status.spaces.iter().flat_map(|s| s.progress.iter().map(move |device| (s, device)))
    {
        let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |t| t.to_string());
        devices.row([
            format!("{} of {}", device.label, space.name),
            holds(device),
            if device.standing == Standing::Here { "-".to_owned() } else { count(device.pending) },
            time(device.signed),
            time(device.last_seen),
        ]);
    }
    let mut peers = Table::new(&["peer", "last seen", "address"]);
    for peer in &status.peers {
        let addresses = peer.addresses.iter().map(ToString::to_string);
        peers.row([
            peer.label.clone(),
            peer.last_seen.to_string(),
            addresses.collect::<Vec<_>>().join(", "),
        ]);
    }
    let tables = [
        (
            spaces,
            status.spaces.is_empty() && status.unopened.is_empty(),
            "No spaces: larder space create shared:household, or larder join INVITATION\n",
        ),
        (devices, status.spaces.is_empty(), ""),
        (logs, status.spaces.is_empty(), ""),
        (peers, status.peers.is_empty(), "No peers yet: larder invite SPACE\n"),
    ];
    let parts = tables.into_iter().map(
        |(table, is_empty, instead)| {
            if is_empty { instead.to_owned() } else { table.render() }
        },
    );
    text + &parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
        + &over_time(status)
        + &kept(status)
        + &black(status)
        + &amiss(status)
        + &security::summary(&status.security)
}
