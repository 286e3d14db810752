//! `larder prune`: what is no longer needed on disk; `larder rekey`, `larder purge`: new keys for
//! what is.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use larder::{ErrorKind, SpaceName};
use serde_json::json;
use tokio::sync::watch;

use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{bytes, counted, duration};

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// The space
    pub(crate) space: SpaceName,
    /// Only show how far it could go, and what it waits for
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rekey {
    /// The space
    #[arg(required_unless_present = "all")]
    pub(crate) space: Option<SpaceName>,
    /// All spaces of this profile, one after the other
    #[arg(long, conflicts_with = "space")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// Ask for a new passphrase, which replaces the old one
    #[arg(long, conflicts_with = "new_passphrase_file")]
    pub(crate) new_passphrase: bool,
    /// Read the new passphrase from the first line of a file
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Remove also what could not be carried over from an old copy of this device
    #[arg(long)]
    pub(crate) leave: bool,
}

impl Purge {
    pub(crate) const fn has_new_passphrase(&self) -> bool {
        self.new_passphrase || self.new_passphrase_file.is_some()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// Read the new passphrase from the first line of a file [default: asked for]
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
}

pub(crate) async fn prune(call: &Call<'_>, args: &Prune) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    if !args.dry_run {
        let bar = out.progress(None, &format!("pruning {}", space.name()));
        let pruned = space.prune(|sections| bar.set_position(sections)).await;
        bar.finish_and_clear();
        let pruned = pruned?;
        out.json(&json!({ "event": "pruned", "space": args.space.to_string(), "did": pruned }))?;
        out.line(&format!(
            "{} with {} dropped, {} stated.",
            counted(pruned.sections, "body", "bodies"),
            bytes(pruned.bytes),
            counted(pruned.stated, "outcome", "outcomes"),
        ))?;
        if pruned.file_bytes_after < pruned.file_bytes_before {
            out.line(&format!(
                "The file had {} and has {}.",
                bytes(pruned.file_bytes_before),
                bytes(pruned.file_bytes_after),
            ))?;
        }
    }
    let status = space.prune_status().await?;
    out.json(&json!({ "event": "prunable", "space": args.space.to_string(), "status": status }))?;
    out.line(&format!(
        "{} with {} left; {} agreed on by all devices.",
        counted(status.sections, "body", "bodies"),
        bytes(status.bytes),
        counted(status.covered, "entry", "entries"),
    ))?;
    let spaces = profile.status().await?.spaces.into_iter();
    let progress = spaces.filter(|known| known.name == args.space).flat_map(|known| known.progress);
    for device in progress {
        if status.waits_for.contains(&device.device) {
            let when =
                device.signed.map_or_else(|| "never".to_owned(), |signed| signed.to_string());
            out.line(&format!(
                "It waits for '{}', which last signed what it holds: {when}. Sync with it.",
                device.label
            ))?;
        }
    }
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn rekey(call: &Call<'_>, args: &Rekey) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let spaces = match &args.space {
        Some(name) => vec![profile.space(name).await?],
        None => profile.spaces().await?,
    };
    if spaces.is_empty() {
        out.line("No spaces, so there is no key to renew.")?;
    }
    for space in spaces {
        let bar = out.progress(Some(0), &format!("renewing {}", space.name()));
        let begun = Instant::now();
        let mut written = 0;
        let renewed = space
            .rekey(|done, total| {
                written = done;
                bar.set_length(total);
                bar.set_position(done);
            })
            .await;
        bar.finish_and_clear();
        renewed.with_context(|| format!("{} keeps the key that it has", space.name()))?;
        let took = begun.elapsed();
        out.json(&json!({
            "event": "rekeyed", "space": space.name().to_string(), "bytes": written,
            "ms": u64::try_from(took.as_millis())?,
        }))?;
        out.line(&format!(
            "{} is under a new key: {} written in {}.",
            space.name(),
            bytes(written),
            duration(took)
        ))?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn purge(call: &Call<'_>, args: &Purge) -> anyhow::Result<Exit> {
    let out = call.out;
    let bar = out.progress(Some(0), "writing anew");
    let begun = Instant::now();
    let (telling, mut tells) = watch::channel((0, 0));
    let mut purging = pin!(call.purge(args, telling));
    let purged = loop {
        tokio::select! {
            biased;
            purged = &mut purging => break purged,
            Ok(()) = tells.changed() => {
                let (written, total) = *tells.borrow_and_update();
                bar.set_length(total);
                bar.set_position(written);
            }
        }
    };
    let (written, _) = *tells.borrow();
    bar.finish_and_clear();
    let (purged, is_new) = purged.context("the profile was not purged")?;
    let took = begun.elapsed();
    out.json(&json!({
        "event": "purged", "spaces": purged.spaces, "bytes": written,
        "new_passphrase": is_new, "ms": u64::try_from(took.as_millis())?,
    }))?;
    out.line(&format!(
        "Purged: the profile and {} are under new keys, {} written in {}.",
        counted(purged.spaces, "space", "spaces"),
        bytes(written),
        duration(took)
    ))?;
    out.line(if is_new {
        "The new passphrase counts from now on. Copies made before still open with the old one."
    } else {
        "The passphrase is the same. Copies made before still open with it."
    })?;
    Ok(Exit::Done)
}

pub(crate) async fn passphrase(call: &Call<'_>, args: &Passphrase) -> anyhow::Result<Exit> {
    let (profile, old, new) = call.open_to_change_passphrase(args).await?;
    let changed = profile.change_unlock(old, new).await;
    let closed = profile.close().await;
    changed.map_err(|error| {
        let text = format!(
            "{error}: either passphrase may open the profile now; try the old one, then the new"
        );
        match error.kind() {
            ErrorKind::Io => Failure::error(Exit::Failed, text),
            _ => error.into(),
        }
    })?;
    call.out.json(&json!({ "event": "passphrase-changed" }))?;
    call.out.line(
        "The new passphrase counts from now on. Copies of profile.key that were made before still \
         open with the old one: `larder purge --new-passphrase` makes them worthless.",
    )?;
    closed?;
    Ok(Exit::Done)
}
