//! Is what is on disk unreadable, does a wrong passphrase open nothing, and do receipts prove what
//! they say to somebody without keys?

use std::fs;
use std::path::Path;

use anyhow::Context;
use larder::{ErrorKind, Options, Profile, Unlock};
use zeroize::Zeroizing;

use super::canary::{Canaries, Sampler, Sighting};
use super::devices::{Devices, Stage, space_name};
use super::report::Report;
use crate::commands::{How, Notice, import};
use crate::interrupt::Interrupt;
use crate::output::{Output, bytes, count, counted};

/// The same import into a profile without encryption: there, the search must find the input.
pub(crate) async fn control(
    stage: &Stage,
    folder: &Path,
    stop: &Interrupt,
    report: &mut Report,
) -> anyhow::Result<Canaries> {
    let dir = stage.dir().join("control");
    let options = Options::default().plain_control(true);
    let profile = Profile::create(&dir, stage.unlock(), options).await?;
    let space = profile.create_space(&space_name()?).await?;
    let bar = Output::own(false).progress(None, "control: importing");
    let mut sampler = Sampler::default();
    let mut on = |notice: Notice<'_>| {
        if let Notice::Item(item) = notice {
            sampler.see(item);
            bar.inc(1);
        }
    };
    let imported = import(&space, folder, How::default(), stop, &mut on).await;
    bar.finish_and_clear();
    imported?;
    profile.close().await?;
    let canaries = sampler.canaries();
    let (canaries, sighting) = look(canaries, &dir).await?;
    // It holds the input in the open; nobody asked to keep that.
    fs::remove_dir_all(&dir)?;
    let detail = format!(
        "the search finds {} of {} strings of the input: it works",
        count(sighting.found.len() as u64),
        count(canaries.len() as u64)
    );
    report.check("control", !sighting.found.is_empty(), detail)?;
    report.figure("canaries", canaries.len() as u64);
    report.figure("canaries_found_in_control", sighting.found.len() as u64);
    Ok(canaries)
}

async fn look(canaries: Canaries, dir: &Path) -> anyhow::Result<(Canaries, Sighting)> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || {
        let sighting = canaries.search(&dir)?;
        Ok((canaries, sighting))
    })
    .await?
}

/// The same search in all files of both encrypted profiles, databases and WALs as they are in use.
pub(crate) async fn search(
    devices: &Devices,
    canaries: Canaries,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (canaries, first) = look(canaries, devices.first.dir()).await?;
    let (canaries, second) = look(canaries, devices.second.dir()).await?;
    let found = first.found.len() + second.found.len();
    let detail = match first.place.or(second.place) {
        Some(place) => format!("{found} strings of the input are in the open, first in {place}"),
        None => format!(
            "none of {} strings of the input is in the {} ({}) of both profiles",
            count(canaries.len() as u64),
            counted(first.files + second.files, "file", "files"),
            bytes(first.bytes + second.bytes)
        ),
    };
    report.figure("canaries_found", found as u64);
    report.figure("searched_bytes", first.bytes + second.bytes);
    report.check("canaries", found == 0, detail)?;
    Ok(())
}

/// A copy of the profile, a wrong passphrase: one clear error, and not a byte changed.
pub(crate) async fn wrong_passphrase(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let (original, copy) = (stage.dir().join("laptop"), stage.dir().join("stolen"));
    copy_dir(&original, &copy)?;
    let wrong = Unlock::Passphrase(Zeroizing::new("correct horse battery staple".to_owned()));
    let opened = Profile::open(&copy, wrong, Options::default()).await;
    let is_refused = opened.is_err_and(|error| error.kind() == ErrorKind::WrongPassphrase);
    let is_untouched = same_files(&original, &copy)?;
    fs::remove_dir_all(&copy)?;
    let detail = match (is_refused, is_untouched) {
        (true, true) => "a copy refuses a wrong passphrase, and nothing in it changed",
        (true, false) => "a copy refuses a wrong passphrase, but its files were changed",
        (false, _) => "a copy did not refuse a wrong passphrase as such",
    };
    report.check("wrong passphrase", is_refused && is_untouched, detail)?;
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from)?);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Whether each file of `one` is in `other` byte for byte. Files that only mark a running process
/// may be new in `other`.
fn same_files(one: &Path, other: &Path) -> anyhow::Result<bool> {
    for entry in walkdir::WalkDir::new(one) {
        let entry = entry?;
        let twin = other.join(entry.path().strip_prefix(one)?);
        if entry.file_type().is_file() && !crate::files::same(entry.path(), &twin) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Exports receipts from the second device; the verifier believes them, and not a changed copy.
pub(crate) async fn receipts(
    devices: &Devices,
    stage: &Stage,
    report: &mut Report,
) -> anyhow::Result<()> {
    let dir = stage.dir().join("receipts");
    let bar = Output::own(false).progress(Some(0), "exporting receipts");
    let drawn = bar.clone();
    let summary = devices
        .second
        .space
        .export_receipts(&dir, move |done, total| {
            drawn.set_length(total);
            drawn.set_position(done);
        })
        .await;
    bar.finish_and_clear();
    let summary = summary?;
    let detail = format!(
        "{} of {} exported ({})",
        counted(summary.entries, "receipt", "receipts"),
        counted(summary.logs, "log", "logs"),
        bytes(summary.bytes)
    );
    report.check("export of receipts", summary.entries > 0 && summary.logs == 2, detail)?;
    report.figure("receipts", summary.entries);
    verify(&dir, report)
}

fn verify(dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    let verdict = larder_audit::verify(dir);
    let detail = match &verdict {
        Ok(verdict) => {
            let log = |log: &larder_audit::LogVerdict| format!("{} 1–{}", log.label, log.entries);
            let logs: Vec<_> = verdict.logs.iter().map(log).collect();
            format!("verified with public keys alone: {}", logs.join(", "))
        }
        Err(error) => error.to_string(),
    };
    report.check("receipts verified", verdict.is_ok(), detail)?;
    let changed = largest_file(dir)?;
    let mut bytes = fs::read(&changed)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
        fs::write(&changed, &bytes)?;
    }
    let refuted =
        matches!(larder_audit::verify(dir), Err(larder_audit::AuditError::Refuted { .. }));
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
        fs::write(&changed, &bytes)?;
    }
    let name = changed.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let detail = if refuted {
        format!("one bit changed in {name}, and the export is refuted")
    } else {
        format!("one bit changed in {name} went unnoticed")
    };
    report.check("a changed receipt refuted", refuted, detail)?;
    Ok(())
}

fn largest_file(dir: &Path) -> anyhow::Result<std::path::PathBuf> {
    let mut largest = None;
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let size = entry.metadata()?.len();
            largest = largest.max(Some((size, entry.into_path())));
        }
    }
    Ok(largest.context("the export is empty")?.1)
}
