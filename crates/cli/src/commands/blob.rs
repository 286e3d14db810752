//! `larder blob`: files of any kind and size.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use clap::{Args, Subcommand};
use larder::{Band, Blob, BlobId, BlobInfo, BlobPolicy, ErrorKind, NewBlob, Space, UnitOfWork};
use larder_types::SpaceName;
use serde_json::{Value, json};

use crate::args::Place;
use crate::commands::OfBand;
use crate::exit::{Exit, Failure};
use crate::files::{Attachment, COLLECTION, blob_of, check_path, media_type, open_found};
use crate::home::Call;
use crate::output::{Table, bytes, counted, printable};

#[derive(Debug, Subcommand)]
pub(crate) enum BlobCommand {
    /// Add files; again: only what changed in them
    #[command(after_help = "Each file gets a document in the collection `files`, whose path is the
file's name. What a file shares with one that is there already is not kept twice.

Example:
  larder blob add shared:household ~/Videos/birthday.mp4")]
    Add(BlobAdd),
    /// Write a file out, by its id or path; fetch it from peers first if it is not here
    #[command(after_help = "Exit code 8: no peer that could be reached has it.

Example:
  larder blob get shared:household birthday.mp4 -o /tmp/birthday.mp4")]
    Get(BlobGet),
    /// List the files of a space, and which are on this device
    #[command(after_help = "Example:
  larder blob list shared:household")]
    List(BlobOf),
    /// Say, or show, up to which size this device fetches files by itself
    #[command(after_help = "Unless told, it fetches all: each device is a copy of everything.

Example:
  larder blob policy shared:household --up-to 10000000")]
    Policy(BlobPolicyArgs),
    /// Remove from this device what no document names, at once
    #[command(after_help = "By itself this happens after 30 days, once every device has seen it.

Example:
  larder blob collect shared:household")]
    Collect(BlobOf),
}

#[derive(Debug, Args)]
pub(crate) struct BlobAdd {
    /// The space
    pub(crate) space: SpaceName,
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<Place>,
    /// How sensitive they are: only devices cleared for it get them [default: as the document that
    /// names it is; green if there is none]
    #[arg(long, value_name = "BAND")]
    pub(crate) band: Option<OfBand>,
}

#[derive(Debug, Args)]
pub(crate) struct BlobGet {
    /// The space
    pub(crate) space: SpaceName,
    /// The blob's id, or the path of the document that names it
    #[arg(value_name = "ID|PATH")]
    pub(crate) which: String,
    /// Where to write it; `-` is stdout [default: its name, in the current directory]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<Place>,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BlobOf {
    /// The space
    pub(crate) space: SpaceName,
}

#[derive(Debug, Args)]
pub(crate) struct BlobPolicyArgs {
    /// The space
    pub(crate) space: SpaceName,
    /// Fetch by itself what has at most so many bytes
    #[arg(long, value_name = "BYTES", conflicts_with = "all")]
    pub(crate) up_to: Option<u64>,
    /// Fetch everything
    #[arg(long)]
    pub(crate) all: bool,
}

pub(crate) async fn run(call: &Call<'_>, command: &BlobCommand) -> anyhow::Result<Exit> {
    match command {
        BlobCommand::Add(args) => add(call, args).await,
        BlobCommand::Get(args) => get(call, args).await,
        BlobCommand::List(args) => list(call, args).await,
        BlobCommand::Policy(args) => policy(call, args).await,
        BlobCommand::Collect(args) => collect(call, args).await,
    }
}

async fn add(call: &Call<'_>, args: &BlobAdd) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    for file in &args.files {
        let file = call.path(file);
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has no usable name", file.display()))?;
        let bytes = std::fs::metadata(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .len();
        let media_type = media_type(&file);
        let attachment = Attachment {
            path: name.to_owned(),
            file: file.clone(),
            media_type,
            found: None,
            bytes,
        };
        let bar = out.progress(Some(bytes), name);
        let there = space.find(COLLECTION, &attachment.path).await?;
        let of_document = there.first().map(|document| document.band);
        let band = args.band.map(Band::from).or(of_document);
        let info = add_file(&space, &attachment, band, &bar).await;
        bar.finish_and_clear();
        let info = info.with_context(|| format!("{} was not added", file.display()))?;
        let value = attachment.document(&info);
        if !there.iter().any(|document| document.value == value) {
            let mut unit = UnitOfWork::new();
            if let Some(band) = band {
                unit.band(band);
            }
            match there.first() {
                Some(document) => unit.put(COLLECTION, document.object, &value)?,
                None => unit.create(COLLECTION, &value).map(drop)?,
            }
            space.commit(unit).await?;
        }
        out.json(&json!({ "event": "added", "path": attachment.path, "blob": info }))?;
        out.line(&format!("{}  {}", info.id, printable(name)))?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

/// Adds a file as a blob.
pub(crate) async fn add_file(
    space: &Space,
    attachment: &Attachment,
    band: Option<Band>,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<BlobInfo> {
    let unreadable = |error: &io::Error| Unreadable(error.to_string());
    let file = open_found(&attachment.file, attachment.found);
    let file = file.map_err(|error| unreadable(&error))?;
    let failed = Arc::new(Mutex::new(None));
    let watched = Watched { file, failed: Arc::clone(&failed) };
    let about = NewBlob {
        media_type: attachment.media_type.to_owned(),
        name: Some(attachment.name().to_owned()),
        band,
    };
    let added = space.add_blob(bar.wrap_read(watched), about).await;
    let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (added, failed) {
        (Ok(added), _) => Ok(added),
        (Err(_), Some(error)) => Err(Unreadable(error).into()),
        (Err(error), None) => Err(error.into()),
    }
}

/// A file that could not be read, as told from a space that could not be written.
#[derive(Debug)]
pub(crate) struct Unreadable(pub(crate) String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it cannot be read: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Notes why a file could not be read.
struct Watched {
    file: File,
    failed: Arc<Mutex<Option<String>>>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed = Some(error.to_string());
            }
        })
    }
}

async fn get(call: &Call<'_>, args: &BlobGet) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let mut blob = find(&space, &args.which).await?;
    if blob.info().missing > 0 {
        let bar = out.progress(Some(blob.info().missing), "fetching");
        let fetched = blob
            .fetch(|done, all| {
                bar.set_length(all);
                bar.set_position(done);
            })
            .await;
        // Nobody is connected who has it: now it is wanted, and one pass asks everybody.
        if matches!(&fetched, Err(error) if error.kind() == ErrorKind::NotHere) {
            profile.sync().await?;
            blob = space.blob(blob.info().id).await?;
        }
        bar.finish_and_clear();
        if blob.info().missing > 0 {
            let message = "it is not on this device, and no peer that could be reached has all of \
                           it: it is fetched by itself once one can be";
            return Err(Failure::error(Exit::Unreachable, message));
        }
    }
    let name = file_name(blob.info());
    let bar = out.progress(Some(blob.info().size), &printable(&name));
    let on = |done, _| bar.set_position(done);
    if args.output.as_ref().is_some_and(Place::is_stdin) {
        let mut content = blob.reader().await?;
        loop {
            let piece = content.next_piece()?;
            if piece.is_empty() {
                break;
            }
            out.write(piece)?;
            bar.inc(piece.len() as u64);
        }
    } else {
        let target = match &args.output {
            Some(place) => call.path(place),
            None => call.path(&Place::from(&name)),
        };
        anyhow::ensure!(
            args.force || !target.exists(),
            "{} is there already: --force replaces it, -o names another",
            target.display()
        );
        write_file(&blob, &target, on).await?;
        out.json(&json!({
            "event": "written", "file": target.display().to_string(), "blob": blob.info(),
        }))?;
        let shown = printable(&target.display().to_string());
        out.line(&format!("{shown}, {}", bytes(blob.info().size)))?;
    }
    bar.finish_and_clear();
    profile.close().await?;
    Ok(Exit::Done)
}

/// What a blob's file is called where nobody says. Its name may come from a peer: only the last
/// part counts, and one that would be hidden, or be read as something else, is not used.
fn file_name(blob: &BlobInfo) -> String {
    let last = blob.name.as_deref().and_then(|name| Path::new(name).file_name()?.to_str());
    let usable = last.filter(|last| !last.starts_with('.') && check_path(last).is_ok());
    usable.map_or_else(|| blob.id.to_string(), str::to_owned)
}

/// Writes a blob into a file beside its place, and moves it there when it is whole.
async fn write_file(
    blob: &Blob,
    target: &Path,
    on: impl FnMut(u64, u64) + Send,
) -> anyhow::Result<()> {
    let folder = target.parent().filter(|dir| !dir.as_os_str().is_empty());
    let part = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot write {}", target.display()))?;
    let mut part = blob.write_to(part, on).await?;
    part.flush()?;
    part.persist(target).with_context(|| format!("cannot write {}", target.display()))?;
    Ok(())
}

/// By its id, or by the path of a document in `files` that names it.
async fn find(space: &Space, which: &str) -> anyhow::Result<Blob> {
    if let Ok(id) = which.parse::<BlobId>() {
        return Ok(space.blob(id).await?);
    }
    let named = space.find(COLLECTION, which).await?;
    let Some(id) = named.iter().find_map(|document| blob_of(&document.value)) else {
        let message = format!("there is no file '{which}': `larder blob list` names all");
        return Err(Failure::error(Exit::NotFound, message));
    };
    Ok(space.blob(id).await?)
}

async fn list(call: &Call<'_>, args: &BlobOf) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let blobs = space.blobs().await?;
    let mut table = Table::new(&["id", "size", "here", "named", "type", "name"]);
    for blob in &blobs {
        out.json(blob)?;
        let here = match blob.missing {
            0 => "yes".to_owned(),
            missing => format!("lacks {missing}"),
        };
        table.row([
            blob.id.to_string(),
            bytes(blob.size),
            here,
            if blob.named { "yes" } else { "no" }.to_owned(),
            blob.media_type.clone(),
            blob.name.clone().unwrap_or_default(),
        ]);
    }
    if blobs.is_empty() {
        out.line(&format!("Nothing there yet. Next: larder blob add {} FILE", args.space))?;
    } else {
        out.line(table.render().trim_end())?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

async fn policy(call: &Call<'_>, args: &BlobPolicyArgs) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let wish = if args.all { Some(u64::MAX) } else { args.up_to };
    if let Some(eager_bytes_max) = wish {
        space.set_blob_policy(BlobPolicy { eager_bytes_max }).await?;
    }
    let BlobPolicy { eager_bytes_max } = space.blob_policy().await?;
    let shown = if eager_bytes_max == u64::MAX { Value::Null } else { eager_bytes_max.into() };
    out.json(&json!({ "event": "policy", "up_to": shown }))?;
    out.line(&if eager_bytes_max == u64::MAX {
        "This device fetches every file by itself.".to_owned()
    } else {
        format!("This device fetches by itself files of up to {}.", bytes(eager_bytes_max))
    })?;
    profile.close().await?;
    Ok(Exit::Done)
}

async fn collect(call: &Call<'_>, args: &BlobOf) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let collected = space.collect_blobs().await?;
    out.json(&json!({ "event": "collected", "removed": collected }))?;
    out.line(&format!(
        "{} removed, {}.",
        counted(collected.chunks, "chunk", "chunks"),
        bytes(collected.bytes)
    ))?;
    if collected.fresh > 0 {
        let blobs = counted(collected.fresh, "file", "files");
        out.line(&format!("Left alone: {blobs} added lately that no document names yet."))?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}
