//! `larder import`: a folder's files into a space, unit by unit.
//!
//! A thread reads files ahead of the writer through a short channel; one unit is committed while
//! the next is gathered. So memory is bounded by a few documents and two units, whatever the
//! folder's size, and a stop between units loses nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use indicatif::ProgressBar;
use larder::{
    Band, Contract, ContractAction, Cursor, Document, ErrorKind, ObjectId, Receipt, Space,
    UnitOfWork,
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::trash::check_removals;
use crate::args::Import;
use crate::commands::blob::{Unreadable, add_file};
use crate::exit::Exit;
use crate::files::{Attachment, COLLECTION, Folder, Item, Object, Reason, Skip, Step};
use crate::home::Call;
use crate::interrupt::Interrupt;
use crate::output::{bytes, counted, duration, per_second};

const UNIT_DOCUMENTS_MAX: usize = 256;
const UNIT_BYTES_TARGET: u64 = 1 << 20;
const READ_AHEAD_STEPS: usize = 32;
const SKIPS_SHOWN_MAX: u64 = 100;

/// What an import came to.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Imported {
    pub(crate) created: u64,
    pub(crate) changed: u64,
    pub(crate) unchanged: u64,
    pub(crate) trashed: u64,
    /// Files and lines that should have been taken and could not be.
    pub(crate) skipped: u64,
    pub(crate) links: u64,
    /// Files of other kinds.
    pub(crate) ignored: u64,
    pub(crate) units: u64,
    /// Bytes of the files and lines taken.
    pub(crate) bytes: u64,
    pub(crate) interrupted: bool,
}

impl Imported {
    pub(crate) fn documents(&self) -> u64 {
        self.created + self.changed + self.unchanged
    }
}

/// What an import tells while it goes.
pub(crate) enum Notice<'a> {
    Item(&'a Item),
    Skipped(&'a Skip),
    /// A unit is durable: its receipt, and how many documents it holds.
    Committed(&'a Receipt, u64),
}

type Tell<'a> = dyn FnMut(Notice<'_>) + 'a;

pub(crate) async fn run(call: &Call<'_>, args: &Import) -> anyhow::Result<Exit> {
    let out = call.out;
    let stop = &call.stop;
    // Before the passphrase is asked for.
    let folder = call.path(&args.folder);
    Folder::open(&folder).with_context(|| format!("cannot read {}", args.folder))?;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let bar = out.progress(None, "importing");
    let begun = Instant::now();
    let mut shown = 0_u64;
    let mut on = |notice: Notice<'_>| match notice {
        Notice::Item(_) => bar.inc(1),
        Notice::Committed(receipt, documents) => {
            let line = CommittedLine {
                event: "committed",
                seq: receipt.seq,
                entry: receipt.entry.to_string(),
                documents,
            };
            if let Err(error) = out.json(&line) {
                out.note(&error.to_string());
            }
        }
        Notice::Skipped(skip) => {
            if let Err(error) = out.json(&SkippedLine { event: "skipped", skip }) {
                out.note(&error.to_string());
            }
            shown += 1;
            if shown <= SKIPS_SHOWN_MAX {
                bar.suspend(|| out.note(&format!("skipped {skip}")));
            }
        }
    };
    let imported = import(&space, &folder, args.how(), stop, &mut on).await;
    bar.finish_and_clear();
    if shown > SKIPS_SHOWN_MAX {
        out.note(&format!("… and {} more (--json names all)", shown - SKIPS_SHOWN_MAX));
    }
    let closed = profile.close().await;
    let imported = imported?;
    closed?;
    out.json(&ImportedLine { event: "imported", imported: &imported })?;
    out.line(&summary(&imported, begun))?;
    Ok(if imported.interrupted {
        out.note(
            "Stopped. What is counted above is safe; the same command again completes the work.",
        );
        Exit::Interrupted
    } else if imported.skipped > 0 {
        Exit::Skips
    } else {
        Exit::Done
    })
}

#[derive(Serialize)]
struct SkippedLine<'a> {
    event: &'static str,
    #[serde(flatten)]
    skip: &'a Skip,
}

#[derive(Serialize)]
struct CommittedLine {
    event: &'static str,
    seq: u64,
    entry: String,
    documents: u64,
}

#[derive(Serialize)]
struct ImportedLine<'a> {
    event: &'static str,
    #[serde(flatten)]
    imported: &'a Imported,
}

fn summary(imported: &Imported, begun: Instant) -> String {
    let took = begun.elapsed();
    let mut parts = vec![
        format!("{} new", crate::output::count(imported.created)),
        format!("{} changed", crate::output::count(imported.changed)),
        format!("{} as before", crate::output::count(imported.unchanged)),
    ];
    if imported.trashed > 0 {
        parts.push(format!("{} put into the trash", crate::output::count(imported.trashed)));
    }
    let mut text = format!(
        "{} ({}) in {}, {}/s: {}.",
        counted(imported.documents(), "document", "documents"),
        bytes(imported.bytes),
        duration(took),
        crate::output::count(per_second(imported.documents(), took)),
        parts.join(", "),
    );
    let left = [
        (
            imported.skipped,
            counted(imported.skipped, "file or line skipped", "files or lines skipped"),
        ),
        (imported.links, counted(imported.links, "symbolic link", "symbolic links")),
        (imported.ignored, counted(imported.ignored, "other file", "other files")),
    ];
    let left: Vec<_> = left.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect();
    if !left.is_empty() {
        text = format!("{text} Left out: {}.", left.join(", "));
    }
    text
}

/// What becomes of documents whose file is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Gone {
    /// They stay.
    #[default]
    No,
    /// They go into the trash, unless they are many.
    Few,
    /// However many they are.
    Many,
}

/// How a folder is imported.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    gone: Gone,
    /// Of which band new documents are; none: as the space's are.
    band: Option<Band>,
}

impl Import {
    fn how(&self) -> How {
        let gone = match (self.prune, self.yes) {
            (false, _) => Gone::No,
            (true, false) => Gone::Few,
            (true, true) => Gone::Many,
        };
        How { gone, band: self.band.map(Band::from) }
    }
}

/// Brings the space's documents in line with a folder.
///
/// # Errors
/// A unit could not be committed, or the space not be read. The units before it are durable.
pub(crate) async fn import(
    space: &Space,
    folder: &Path,
    how: How,
    stop: &Interrupt,
    on: &mut Tell<'_>,
) -> anyhow::Result<Imported> {
    let mut importer = Importer::new(space, how).await?;
    let mut steps = read_ahead(folder.to_owned());
    while let Some(step) = steps.recv().await {
        match step? {
            Step::Item(item) => {
                importer.take(&item, on).await?;
                on(Notice::Item(&item));
            }
            Step::Attachment(file) => importer.attach(&file, on).await?,
            Step::Skip(skip) => importer.skip(&skip, on),
            Step::Ignored => importer.done.ignored += 1,
        }
        if stop.is_asked() {
            importer.done.interrupted = true;
            break;
        }
    }
    if how.gone != Gone::No && !importer.done.interrupted {
        importer.prune(folder, how.gone == Gone::Many, on).await?;
    }
    importer.finish(on).await
}

/// The folder's steps, read by a thread of their own.
pub(crate) fn read_ahead(folder: PathBuf) -> mpsc::Receiver<std::io::Result<Step>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD_STEPS);
    tokio::task::spawn_blocking(move || match Folder::open(&folder) {
        Ok(folder) => {
            for step in folder {
                if sender.blocking_send(Ok(step)).is_err() {
                    return;
                }
            }
        }
        Err(error) => {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

/// One unit that is being committed, and what it adds to the counts.
struct Committing {
    task: JoinHandle<larder::Result<Receipt>>,
    counts: Counts,
    last: Option<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    created: u64,
    changed: u64,
    trashed: u64,
    bytes: u64,
}

struct Importer<'a> {
    space: &'a Space,
    band: Option<Band>,
    /// How many documents a unit has: one, where a contract may refuse it.
    unit_documents_max: usize,
    /// The document that the unit took in last.
    last: Option<String>,
    /// No file was imported yet, so no document needs to be looked for.
    is_first: bool,
    unit: UnitOfWork,
    /// Whether what is in it is BLACK: nothing else can be in it then.
    is_black: bool,
    counts: Counts,
    committing: Option<Committing>,
    done: Imported,
    /// With `prune`: paths that are in the folder.
    seen: Option<HashSet<String>>,
    /// A part of the folder was not read, so nothing is known to be gone.
    is_partial: bool,
}

impl<'a> Importer<'a> {
    async fn new(space: &'a Space, how: How) -> anyhow::Result<Self> {
        let page = space.list(Some(COLLECTION), None, 1).await?;
        let refuses = |contract: &Contract| {
            !matches!(contract.action, ContractAction::Warn | ContractAction::Redact)
        };
        let alone = space.contracts().await?.iter().any(refuses);
        Ok(Self {
            space,
            band: how.band,
            unit_documents_max: if alone { 1 } else { UNIT_DOCUMENTS_MAX },
            last: None,
            is_first: page.documents.is_empty(),
            unit: UnitOfWork::new(),
            is_black: false,
            counts: Counts::default(),
            committing: None,
            done: Imported::default(),
            seen: (how.gone != Gone::No).then(HashSet::new),
            is_partial: false,
        })
    }

    /// Adds a file as a blob, and takes the document that names it.
    async fn attach(&mut self, file: &Attachment, on: &mut Tell<'_>) -> anyhow::Result<()> {
        // A file that was imported before is as sensitive as its document.
        let there = self.space.find(COLLECTION, &file.path).await?;
        if let Some(skip) = self.is_lower(&file.path, there.first()) {
            self.skip(&skip, on);
            return Ok(());
        }
        let band = there.first().map(|document| document.band).or(self.band);
        let added = match add_file(self.space, file, band, &ProgressBar::hidden()).await {
            Ok(added) => added,
            Err(error) => {
                let Unreadable(why) = error.downcast::<Unreadable>()?;
                let reason = Reason::Unreadable(why);
                self.skip(&Skip { path: file.path.clone(), line: None, reason }, on);
                return Ok(());
            }
        };
        let item =
            Item { path: file.path.clone(), value: file.document(&added), bytes: added.size };
        self.take(&item, on).await?;
        on(Notice::Item(&item));
        Ok(())
    }

    async fn take(&mut self, item: &Item, on: &mut Tell<'_>) -> anyhow::Result<()> {
        if self.committing.as_ref().is_some_and(|unit| unit.task.is_finished()) {
            self.settle(on).await?;
        }
        if let Some(seen) = &mut self.seen {
            seen.insert(item.path.clone());
        }
        let there = if self.is_first {
            Vec::new()
        } else {
            self.space.find(COLLECTION, &item.path).await?
        };
        if let Some(skip) = self.is_lower(&item.path, there.first()) {
            self.skip(&skip, on);
            return Ok(());
        }
        if there.iter().any(|document| document.value == item.value) {
            self.done.unchanged += 1;
            self.done.bytes += item.bytes;
            return Ok(());
        }
        let of_band = there.first().map_or(self.band, |document| Some(document.band));
        self.make_room_for(of_band, on).await?;
        if let Some(band) = self.band {
            self.unit.band(there.first().map_or(band, |document| document.band));
        }
        let queued = match there.first() {
            Some(document) => self.unit.put(COLLECTION, document.object, &item.value),
            None => self.unit.create(COLLECTION, &item.value).map(|_| ()),
        };
        match queued {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Invalid => {
                let reason = Reason::Refused(error.to_string());
                self.skip(&Skip { path: item.path.clone(), line: None, reason }, on);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        if there.is_empty() {
            self.counts.created += 1;
        } else {
            self.counts.changed += 1;
        }
        self.counts.bytes += item.bytes;
        self.last = Some(item.path.clone());
        self.commit_if_full(on).await
    }

    /// A document that was imported before keeps its band, which may not be as high as is asked.
    fn is_lower(&self, path: &str, there: Option<&Document>) -> Option<Skip> {
        let (band, known) = (self.band?, there?.band);
        if known >= band {
            return None;
        }
        let why = format!(
            "was imported before as {known}, and a document keeps its band: to have it {band} \
             alone, erase that one and import the file anew"
        );
        let path = path.to_owned();
        Some(Skip { path, line: None, reason: Reason::Refused(why) })
    }

    fn skip(&mut self, skip: &Skip, on: &mut Tell<'_>) {
        if skip.reason.is_loss() {
            self.done.skipped += 1;
        } else {
            self.done.links += 1;
        }
        // A folder that cannot be opened, or a file of lines that cannot be read to its end.
        self.is_partial |= matches!(skip.reason, Reason::Unreadable(_))
            || (skip.line.is_some() && matches!(skip.reason, Reason::Binary { .. }));
        if let Some(seen) = &mut self.seen {
            let path = &skip.path;
            seen.insert(skip.line.map_or_else(|| path.clone(), |line| format!("{path}#{line}")));
        }
        on(Notice::Skipped(skip));
    }

    /// Commits what cannot be in one unit with a document of this band.
    async fn make_room_for(&mut self, band: Option<Band>, on: &mut Tell<'_>) -> anyhow::Result<()> {
        let is_black = band == Some(Band::Black);
        if self.is_black != is_black {
            self.commit(on).await?;
            self.is_black = is_black;
        }
        Ok(())
    }

    async fn commit_if_full(&mut self, on: &mut Tell<'_>) -> anyhow::Result<()> {
        if self.unit.len() >= self.unit_documents_max || self.counts.bytes >= UNIT_BYTES_TARGET {
            self.commit(on).await?;
        }
        Ok(())
    }

    /// Starts to commit the unit at hand, once the one before it is durable.
    async fn commit(&mut self, on: &mut Tell<'_>) -> anyhow::Result<()> {
        self.settle(on).await?;
        if self.unit.is_empty() {
            return Ok(());
        }
        let unit = std::mem::replace(&mut self.unit, UnitOfWork::new());
        let counts = std::mem::take(&mut self.counts);
        let space = self.space.clone();
        let task = tokio::spawn(async move { space.commit(unit).await });
        let last = self.last.take();
        self.committing = Some(Committing { task, counts, last });
        Ok(())
    }

    async fn settle(&mut self, on: &mut Tell<'_>) -> anyhow::Result<()> {
        let Some(Committing { task, counts, last }) = self.committing.take() else {
            return Ok(());
        };
        let committed = task.await.context("the writer ended")?;
        if let (Err(error), Some(path), 1) = (&committed, &last, self.unit_documents_max)
            && matches!(error.kind(), ErrorKind::Contract | ErrorKind::Invalid)
        {
            let reason = Reason::Refused(error.to_string());
            self.skip(&Skip { path: path.clone(), line: None, reason }, on);
            return Ok(());
        }
        let receipt = committed.with_context(|| {
            let safe = self.done.created + self.done.changed;
            format!(
                "a unit was not committed; {} before it are safe",
                counted(safe, "document", "documents")
            )
        })?;
        self.done.created += counts.created;
        self.done.changed += counts.changed;
        self.done.trashed += counts.trashed;
        self.done.bytes += counts.bytes;
        self.done.units += 1;
        on(Notice::Committed(&receipt, counts.created + counts.changed));
        Ok(())
    }

    /// Puts documents into the trash whose file is gone.
    async fn prune(&mut self, folder: &Path, many: bool, on: &mut Tell<'_>) -> anyhow::Result<()> {
        self.commit(on).await?;
        self.settle(on).await?;
        anyhow::ensure!(
            !self.is_partial,
            "a part of {} could not be read, so nothing was removed; the rest is imported",
            folder.display()
        );
        let gone = self.gone().await?;
        check_removals(gone.len(), many)?;
        for (object, band) in gone {
            self.make_room_for(Some(band), on).await?;
            self.unit.trash(object);
            // Asked for all of them.
            self.unit.confirm_removals();
            self.counts.trashed += 1;
            self.commit_if_full(on).await?;
        }
        Ok(())
    }

    async fn gone(&self) -> anyhow::Result<Vec<(ObjectId, Band)>> {
        let seen = self.seen.as_ref();
        let mut gone = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let page = self.space.list(Some(COLLECTION), after, UNIT_DOCUMENTS_MAX).await?;
            for document in page.documents {
                let is_seen = |path: &str| seen.is_none_or(|seen| seen.contains(path));
                if path_of(&document.value).is_some_and(|path| !is_seen(path)) {
                    gone.push((document.object, document.band));
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(gone);
            }
        }
    }

    async fn finish(mut self, on: &mut Tell<'_>) -> anyhow::Result<Imported> {
        self.commit(on).await?;
        self.settle(on).await?;
        Ok(self.done)
    }
}

fn path_of(value: &Object) -> Option<&str> {
    value.get("format")?;
    value.get("path").and_then(Value::as_str)
}
