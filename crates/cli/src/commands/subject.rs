//! `larder subject`: what there is by a member, and about it, over the spaces of this profile: to
//! be handed over, or erased.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use larder::{
    BlobId, DeviceId, DeviceInfo, ErrorKind, MemberId, ObjectId, Profile, Query, Space, SpaceKind,
    Version, WrittenDocument,
};
use larder_types::SpaceName;
use serde_json::{Value, json};

use super::documents::title;
use crate::args::Place;
use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{Output, Table, count, counted, printable};
use crate::private::{make_dir, new_file};

#[derive(Debug, Subcommand)]
pub(crate) enum SubjectCommand {
    /// Write what a member has written, and what there is about it, to a new directory
    #[command(
        after_help = "Of each space: the documents that the member's devices wrote in with their
present value, their history and their blobs, the receipts, what is known of the devices, and other
documents that have the member's name and that it may read. `index.json` lists it all. The files are
not encrypted; only you can read them.

Example:
  larder subject export --member \"Ben's phone\" --out ./ben"
    )]
    Export(SubjectExport),
    /// Erase what a member alone has written, on every device, and report it
    #[command(after_help = "Without --for-ever it is only said what would be done. Documents that
others wrote in as well, or may have, are listed, and erased with --include-shared: so are those
that the member restored, redacted, copied or moved, for they may be in others' words. Documents
that only have the member's name are listed, and never erased by this. Names of devices, acts of
membership and receipts stay.

Example:
  larder subject erase --member \"Ben's phone\"
  larder subject erase --member \"Ben's phone\" --for-ever --out ./report")]
    Erase(SubjectErase),
}

#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Whose: the label of one of its devices, or the beginning of the member's id or a device's
    #[arg(long, value_name = "NAME")]
    pub(crate) member: String,
    /// Only in this space; may be repeated [default: the one that has such a member, and no
    /// `black:` one]
    #[arg(long, value_name = "SPACE")]
    pub(crate) space: Vec<SpaceName>,
}

#[derive(Debug, Args)]
pub(crate) struct SubjectExport {
    #[command(flatten)]
    pub(crate) who: Who,
    /// The new directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Place,
}

#[derive(Debug, Args)]
pub(crate) struct SubjectErase {
    #[command(flatten)]
    pub(crate) who: Who,
    /// Erase documents as well that others have written in
    #[arg(long)]
    pub(crate) include_shared: bool,
    /// You are sure: nobody can bring it back
    #[arg(long)]
    pub(crate) for_ever: bool,
    /// Write the report to a new directory, too
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<Place>,
}

pub(crate) async fn run(call: &Call<'_>, command: &SubjectCommand) -> anyhow::Result<Exit> {
    match command {
        SubjectCommand::Export(args) => export(call, args).await,
        SubjectCommand::Erase(args) => erase(call, args).await,
    }
}

/// The member in one space, and what is known of it there.
struct Subject {
    space: Space,
    devices: Vec<DeviceInfo>,
    documents: Vec<WrittenDocument>,
    closed: u64,
    /// Documents of others that have the member's name, with their titles: of what it may read.
    mentions: Vec<(ObjectId, String)>,
    /// How many more there are that it may not read.
    mentions_above: u64,
    labels: BTreeMap<DeviceId, String>,
}

async fn subjects(profile: &Profile, who: &Who) -> anyhow::Result<Vec<Subject>> {
    let mut found = Vec::new();
    for space in profile.spaces().await? {
        // What is on this device alone goes into no such files unless it is named.
        let is_usual = who.space.is_empty() && space.name().kind() != SpaceKind::Black;
        if is_usual || who.space.contains(space.name()) {
            found.extend(subject(space, &who.member).await?);
        }
    }
    if found.is_empty() {
        let message = format!(
            "no space here has a member's device called {}: `larder device list SPACE` shows them",
            printable(&who.member)
        );
        return Err(Failure::error(Exit::NotFound, message));
    }
    if who.space.is_empty() && found.len() > 1 {
        let names: Vec<_> = found.iter().map(|subject| subject.space.name().to_string()).collect();
        let message = format!(
            "{} have each a member's device called {}, which may be different people: name those \
             spaces that are meant, as in --space {}",
            names.join(", "),
            printable(&who.member),
            names.join(" --space ")
        );
        return Err(Failure::error(Exit::Failed, message));
    }
    Ok(found)
}

async fn subject(space: Space, name: &str) -> anyhow::Result<Option<Subject>> {
    let mut devices = space.devices().await?;
    devices.extend(space.former_devices().await?);
    let begins = |id: String| name.len() >= ID_CHARS_MIN && id.starts_with(name);
    let is_meant = |device: &&DeviceInfo| {
        device.label == name
            || begins(device.member.to_string())
            || begins(device.device.to_string())
    };
    let members: BTreeSet<MemberId> =
        devices.iter().filter(is_meant).map(|device| device.member).collect();
    let mut all = members.into_iter();
    let Some(member) = all.next() else { return Ok(None) };
    if let Some(other) = all.next() {
        let message = format!(
            "in {} devices of several members are called {}: name one by the beginning of its id, \
             {member} or {other}",
            space.name(),
            printable(name)
        );
        return Err(Failure::error(Exit::Failed, message));
    }
    let labels = devices.iter().map(|device| (device.device, device.label.clone())).collect();
    devices.retain(|device| device.member == member);
    let written = space.written_by(member).await?;
    let known: BTreeSet<ObjectId> =
        written.documents.iter().map(|document| document.object).collect();
    let cleared = devices.iter().map(|device| device.clearance).max();
    let (mut mentions, mut above) = (BTreeMap::new(), BTreeSet::new());
    let names: BTreeSet<&str> = devices.iter().map(|device| &*device.label).chain([name]).collect();
    for name in names {
        for hit in space.search(Query::text(name).limit(MENTIONS_MAX)).await? {
            let (object, band) = (hit.document.object, hit.document.band);
            if known.contains(&object) {
                continue;
            }
            if Some(band) > cleared {
                above.insert(object);
            } else {
                mentions.insert(object, title(&hit.document.value));
            }
        }
    }
    let mentions = mentions.into_iter().collect();
    let (documents, closed) = (written.documents, written.closed);
    let mentions_above = above.len() as u64;
    Ok(Some(Subject { space, devices, documents, closed, mentions, mentions_above, labels }))
}

async fn export(call: &Call<'_>, args: &SubjectExport) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let subjects = subjects(&profile, &args.who).await?;
    let dir = new_dir(&call.path(&args.out))?;
    let events = profile.security_log().await?.events;
    let mut spaces = Vec::new();
    for subject in &subjects {
        subject.space.note_export("a member's documents").await?;
        let name = subject.space.name().to_string();
        let folder = dir.join(name.replace(':', "-"));
        let documents = write_documents(subject, &folder).await?;
        let of_member = |device: Option<DeviceId>| {
            device.is_some_and(|id| subject.devices.iter().any(|device| device.device == id))
        };
        let about: Vec<_> = events
            .iter()
            .filter(|event| {
                event.space.as_ref() == Some(subject.space.name()) && of_member(event.device)
            })
            .collect();
        write_json(&folder.join("devices.json"), &json!(subject.devices))?;
        write_json(&folder.join("events.json"), &json!(about))?;
        write_json(&folder.join("acts.json"), &json!(acts(subject).await?))?;
        subject.space.export_receipts(&folder.join("receipts"), |_, _| ()).await?;
        out.line(&format!(
            "{name}: {} written by {}, {} may be about it",
            counted(documents.len() as u64, "document", "documents"),
            printable(&args.who.member),
            count(subject.mentions.len() as u64)
        ))?;
        tell_above(out, subject);
        let line = summary(subject, &documents);
        out.json(&json!({ "event": "subject", "space": &line }))?;
        spaces.push(line);
    }
    write_json(&dir.join("index.json"), &json!({ "member": args.who.member, "spaces": spaces }))?;
    profile.close().await?;
    out.json(&json!({ "event": "subject-exported", "out": dir.display().to_string() }))?;
    out.line(&format!("Written to {}; index.json lists it. It is not encrypted.", args.out))?;
    Ok(Exit::Done)
}

fn summary(subject: &Subject, documents: &[Value]) -> Value {
    let mentions: Vec<_> = subject
        .mentions
        .iter()
        .map(|(object, title)| json!({ "id": object.to_string(), "title": title }))
        .collect();
    json!({
        "space": subject.space.name().to_string(),
        "member": subject.devices.first().map(|device| device.member.to_string()),
        "devices": subject.devices.iter().map(|device| &device.label).collect::<Vec<_>>(),
        "documents": documents,
        "above_clearance": subject.closed,
        "may_be_about": mentions,
    })
}

/// What the member's devices wrote of acts: who they let in, what they set.
async fn acts(subject: &Subject) -> anyhow::Result<Vec<Value>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = subject.space.receipts(after, PAGE_RECEIPTS).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some((last.device, last.seq));
        for entry in page {
            let is_content = |kind: &&str| matches!(*kind, "create" | "change" | "delete" | "blob");
            let is_theirs = subject.devices.iter().any(|device| device.device == entry.device);
            if is_theirs && !entry.kinds.iter().all(is_content) {
                found.push(json!(entry));
            }
        }
    }
}

async fn write_documents(subject: &Subject, folder: &Path) -> anyhow::Result<Vec<Value>> {
    let space = &subject.space;
    let mut lines = Vec::new();
    for document in &subject.documents {
        let object = document.object;
        let mut line = line_of(subject, document);
        let last = match space.restorable(object, Version::Now).await {
            Ok(last) => Some(last),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(last) = last {
            let file = format!("documents/{}/{object}.json", safe(last.collection.as_str()));
            write_json(&folder.join(&file), &Value::Object(last.value.clone()))?;
            let mut blobs = Vec::new();
            for id in larder::blobs_in(&last.value) {
                blobs.extend(write_blob(space, id, folder).await?);
            }
            set(&mut line, "title", title(&last.value));
            set(&mut line, "file", file);
            set(&mut line, "blobs", blobs);
        }
        let file = format!("history/{object}.json");
        write_json(&folder.join(&file), &json!(space.history(object).await?))?;
        set(&mut line, "history", file);
        lines.push(line);
    }
    Ok(lines)
}

fn line_of(subject: &Subject, document: &WrittenDocument) -> Value {
    let mut line = json!(document);
    let label = |device: &DeviceId| {
        subject.labels.get(device).cloned().unwrap_or_else(|| device.to_string())
    };
    let others: BTreeMap<String, u64> =
        document.others.iter().map(|(device, edits)| (label(device), *edits)).collect();
    set(&mut line, "others", json!(others));
    set(&mut line, "alone", document.is_alone());
    line
}

fn set(line: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(members) = line {
        members.insert(key.to_owned(), value.into());
    }
}

async fn write_blob(space: &Space, id: BlobId, folder: &Path) -> anyhow::Result<Option<Value>> {
    let blob = match space.blob(id).await {
        Ok(blob) => blob,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (name, file) = (blob.info().name.clone(), format!("blobs/{id}"));
    let path = folder.join(&file);
    if !path.exists() {
        make_parent(&path)?;
        let out = new_file(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match blob.write_to(out, |_, _| ()).await {
            Ok(out) => out.sync_all().with_context(|| format!("cannot write {file}"))?,
            // Its content has to be fetched first: the index says so.
            Err(error) if error.kind() == ErrorKind::NotHere => {
                std::fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
                return Ok(Some(json!({ "id": id.to_string(), "name": name, "file": null })));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(json!({ "id": id.to_string(), "name": name, "file": file })))
}

async fn erase(call: &Call<'_>, args: &SubjectErase) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let subjects = subjects(&profile, &args.who).await?;
    let dir = args.out.as_ref().map(|out| new_dir(&call.path(out))).transpose()?;
    let mut spaces = Vec::new();
    let (mut erased, mut left) = (0, 0);
    for subject in &subjects {
        let mut documents = Vec::new();
        for document in &subject.documents {
            let mut line = line_of(subject, document);
            let goes = document.is_alone() || args.include_shared;
            set(&mut line, "goes", goes);
            if goes && args.for_ever {
                let receipt = subject.space.erase(document.object).await.context(
                    "what was erased until now stays so; the same command again goes on",
                )?;
                let entry = receipt.entry.to_string();
                let (device, seq) = (receipt.device.to_string(), receipt.seq);
                set(&mut line, "erased", json!({ "device": device, "seq": seq, "entry": entry }));
            }
            erased += u64::from(goes);
            left += u64::from(!goes);
            documents.push(line);
        }
        tell(out, subject, &documents, args.for_ever)?;
        spaces.push(summary(subject, &documents));
    }
    let report = json!({
        "event": if args.for_ever { "subject-erased" } else { "subject-to-erase" },
        "member": args.who.member, "spaces": spaces, "documents": erased, "left": left,
    });
    out.json(&report)?;
    if let Some(dir) = dir {
        write_json(&dir.join("report.json"), &report)?;
    }
    let documents = counted(erased, "document", "documents");
    if args.for_ever {
        out.line(&format!("{documents} erased here. Other devices do it when they sync."))?;
        out.note("Who has done it: larder erasures SPACE");
    } else {
        out.line(&format!("{documents} would be erased; nothing was. To do it: --for-ever"))?;
    }
    if left > 0 && !args.include_shared {
        out.note(&format!(
            "{} others have written in, or may have: --include-shared erases those too",
            counted(left, "document", "documents")
        ));
    }
    profile.close().await?;
    Ok(Exit::Done)
}

fn tell(
    out: Output<'_>,
    subject: &Subject,
    documents: &[Value],
    for_ever: bool,
) -> anyhow::Result<()> {
    let mut table = Table::new(&["document", "what becomes of it", "others' edits"]);
    for line in documents {
        let goes = line.get("goes") == Some(&Value::Bool(true));
        let what = match (goes, for_ever) {
            (true, true) => "erased",
            (true, false) => "would be erased",
            (false, _) => "stays",
        };
        let others =
            line.get("others").and_then(Value::as_object).map_or(0, serde_json::Map::len) as u64;
        let others = if line.get("all_known") == Some(&Value::Bool(true)) {
            count(others)
        } else {
            "not known".to_owned()
        };
        let id = line.get("object").and_then(Value::as_str).unwrap_or_default().to_owned();
        table.row([id, what.to_owned(), others]);
    }
    for (object, title) in &subject.mentions {
        let title = format!("stays: may be about it ({})", printable(title));
        table.row([object.to_string(), title, String::new()]);
    }
    out.line(&format!("{}:", subject.space.name()))?;
    if !out.is_json() {
        out.write(table.render().as_bytes())?;
    }
    tell_above(out, subject);
    if subject.closed > 0 {
        out.note(&format!(
            "{} of theirs are above this device's clearance: do it again on a device that is \
             cleared for them",
            counted(subject.closed, "section", "sections")
        ));
    }
    Ok(())
}

fn tell_above(out: Output<'_>, subject: &Subject) {
    if subject.mentions_above > 0 {
        out.note(&format!(
            "{} more may be about it and are above its clearance: not listed (larder search)",
            count(subject.mentions_above)
        ));
    }
}

fn new_dir(dir: &Path) -> anyhow::Result<PathBuf> {
    let is_empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    anyhow::ensure!(is_empty, "{} is there, and not empty: name a new directory", dir.display());
    make_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir.to_owned())
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(path);
    make_dir(dir).with_context(|| format!("cannot make {}", dir.display()))
}

fn write_json(path: &Path, value: &Value) -> anyhow::Result<()> {
    make_parent(path)?;
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let written = new_file(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A collection's name as a directory's.
fn safe(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

const ID_CHARS_MIN: usize = 8;
const MENTIONS_MAX: usize = 1000;
const PAGE_RECEIPTS: usize = 1000;
