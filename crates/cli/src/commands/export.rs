//! `larder export`: documents back as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use clap::Args;
use larder::{BlobId, Cursor, ErrorKind, ObjectId, Space, SpaceName};
use serde::Serialize;

use crate::args::Place;
use crate::exit::Exit;
use crate::files::{Outgoing, Paths, Reason, Skip, Target, Written, line_of, plan, sweep};
use crate::home::Call;
use crate::interrupt::Interrupt;
use crate::output::{Output, counted};

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The space
    pub(crate) space: SpaceName,
    /// The directory to write to; made if missing
    pub(crate) dir: Place,
    /// Overwrite existing files that differ
    #[arg(long)]
    pub(crate) force: bool,
}

const PAGE_DOCUMENTS: usize = 256;

/// What an export came to; files, not documents.
#[derive(Debug, Default, Serialize)]
struct Exported {
    new: u64,
    same: u64,
    replaced: u64,
    skipped: u64,
    interrupted: bool,
}

/// Lines of JSONL files that are still to be written: file → line → document.
type Lines = BTreeMap<String, BTreeSet<(u64, ObjectId)>>;

pub(crate) async fn run(call: &Call<'_>, args: &Export) -> anyhow::Result<Exit> {
    let out = call.out;
    let stop = &call.stop;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let dir = call.path(&args.dir);
    let mut exporter = Exporter {
        root: &dir,
        force: args.force,
        paths: Paths::default(),
        done: Exported::default(),
        out,
    };
    space.note_export("documents").await?;
    let result = exporter.export(&space, stop).await;
    profile.close().await?;
    result?;
    let done = exporter.done;
    out.json(&serde_json::json!({ "event": "exported", "files": done }))?;
    out.line(&format!(
        "{} in {}: {} new, {} as before, {} replaced, {} skipped.",
        counted(done.new + done.same + done.replaced, "file", "files"),
        args.dir,
        done.new,
        done.same,
        done.replaced,
        done.skipped
    ))?;
    Ok(if done.interrupted {
        out.note("Stopped; the same command again completes the work.");
        Exit::Interrupted
    } else if done.skipped > 0 {
        Exit::Skips
    } else {
        Exit::Done
    })
}

struct Exporter<'a> {
    root: &'a Path,
    force: bool,
    paths: Paths,
    done: Exported,
    out: Output<'a>,
}

impl Exporter<'_> {
    async fn export(&mut self, space: &Space, stop: &Interrupt) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.root)
            .with_context(|| format!("cannot make {}", self.root.display()))?;
        sweep(self.root);
        let bar = self.out.progress(None, "exporting");
        let mut lines = Lines::new();
        let mut after: Option<Cursor> = None;
        loop {
            let page = space.list(None, after, PAGE_DOCUMENTS).await?;
            for document in page.documents {
                match plan(&document.collection, document.object, &document.value)? {
                    Target::File { path, bytes } => {
                        let path = self.paths.take(&path);
                        let written = write(self.root, &path, &bytes, self.force);
                        self.count(&path, written)?;
                    }
                    Target::Blob { path, id } => {
                        let path = self.paths.take(&path);
                        let written = write_blob(space, id, self.root, &path, self.force).await?;
                        self.count(&path, written)?;
                    }
                    Target::Line { path, number } => {
                        lines.entry(path).or_default().insert((number, document.object));
                    }
                }
                bar.inc(1);
                if stop.is_asked() {
                    self.done.interrupted = true;
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for (path, lines) in lines {
            if stop.is_asked() {
                self.done.interrupted = true;
                return Ok(());
            }
            let path = self.paths.take(&path);
            let written = self.write_lines(space, &path, lines).await?;
            self.count(&path, written)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn write_lines(
        &self,
        space: &Space,
        path: &str,
        lines: BTreeSet<(u64, ObjectId)>,
    ) -> anyhow::Result<Result<Written, Reason>> {
        let mut outgoing = match Outgoing::create(self.root, path) {
            Ok(outgoing) => outgoing,
            Err(reason) => return Ok(Err(reason)),
        };
        for (_, object) in lines {
            // Deleted since it was listed.
            let Some(document) = space.document(object).await? else { continue };
            if let Err(reason) = outgoing.write(&line_of(&document.value)?) {
                return Ok(Err(reason));
            }
        }
        Ok(outgoing.finish(self.force))
    }

    fn count(&mut self, path: &str, written: Result<Written, Reason>) -> anyhow::Result<()> {
        match written {
            Ok(Written::New) => self.done.new += 1,
            Ok(Written::Same) => self.done.same += 1,
            Ok(Written::Replaced) => self.done.replaced += 1,
            Err(reason) => {
                self.done.skipped += 1;
                let skip = Skip { path: path.to_owned(), line: None, reason };
                self.out.json(&serde_json::json!({ "event": "skipped", "file": skip }))?;
                self.out.note(&format!("skipped {skip}"));
            }
        }
        Ok(())
    }
}

async fn write_blob(
    space: &Space,
    id: BlobId,
    root: &Path,
    path: &str,
    force: bool,
) -> anyhow::Result<Result<Written, Reason>> {
    let opened = match space.blob(id).await {
        Ok(blob) => blob.reader().await,
        Err(error) => Err(error),
    };
    let mut content = match opened {
        Ok(content) => content,
        Err(error) if matches!(error.kind(), ErrorKind::NotHere | ErrorKind::NotFound) => {
            return Ok(Err(Reason::NotHere));
        }
        Err(error) => return Err(error.into()),
    };
    let mut outgoing = match Outgoing::create(root, path) {
        Ok(outgoing) => outgoing,
        Err(reason) => return Ok(Err(reason)),
    };
    loop {
        let piece = content.next_piece()?;
        if piece.is_empty() {
            return Ok(outgoing.finish(force));
        }
        if let Err(reason) = outgoing.write(piece) {
            return Ok(Err(reason));
        }
    }
}

fn write(root: &Path, path: &str, bytes: &[u8], force: bool) -> Result<Written, Reason> {
    let mut outgoing = Outgoing::create(root, path)?;
    outgoing.write(bytes)?;
    outgoing.finish(force)
}
