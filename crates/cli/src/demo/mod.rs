//! `larder demo`: two devices on this machine do the main job from end to end, and each claim on
//! the way is checked. The devices are two profiles that share nothing but a loopback socket.
//!
//! Memory does not grow with the folder: files are streamed, comparisons go document by document,
//! and canaries are a sample.

mod canary;
mod devices;
mod edits;
mod machine;
mod measure;
mod report;
mod sample;
mod secrecy;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use larder::Query;
use serde_json::Value;

use crate::args::Demo;
use crate::exit::{Exit, Failure};
use crate::files::{Item, Step};
use crate::home::Call;
use crate::interrupt::Interrupt;
use crate::output::{Output, bytes, count, counted, per_second};
use devices::{Alone, Devices, FIRST, SECOND, Stage};
use report::{Report, milliseconds};

pub(crate) async fn run(call: &Call<'_>, args: &Demo) -> anyhow::Result<Exit> {
    call.stop.listen();
    let stop = &call.stop;
    let begun = Instant::now();
    let stage = Stage::set(args.keep.as_deref())?;
    let folder = folder_of(args, &stage)?;
    let mut report = Report::new(Output::own(call.out.is_json()));
    let kept = args.keep.as_ref().map(|dir| dir.display().to_string());
    let result = play(args, &stage, &folder, stop, &mut report).await;
    if let Err(error) = &result {
        report.check("the way to the end", false, format!("{error:#}"))?;
        Output::own(false).note(&format!("larder: {error:#}"));
    }
    report.finish(begun.elapsed(), kept.as_deref())?;
    Ok(if report.is_ok() { Exit::Done } else { Exit::Failed })
}

fn folder_of(args: &Demo, stage: &Stage) -> anyhow::Result<PathBuf> {
    let folder = args.folder.clone().unwrap_or_else(|| stage.dir().join("household"));
    if args.folder.is_none() {
        sample::write_to(&folder).context("cannot write the sample household")?;
    }
    let mut steps = crate::files::Folder::open(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    if steps.any(|step| matches!(step, Step::Item(_))) {
        return Ok(folder);
    }
    Err(Failure::error(
        Exit::NotFound,
        format!(
            "{} holds no .md, .txt, .json or .jsonl file that can be imported: name another folder",
            folder.display()
        ),
    ))
}

async fn play(
    args: &Demo,
    stage: &Stage,
    folder: &Path,
    stop: &Interrupt,
    report: &mut Report,
) -> anyhow::Result<()> {
    let shown = if args.folder.is_some() {
        folder.display().to_string()
    } else {
        "a sample household".into()
    };
    report.heading(&format!("Control: {shown} in a database that is not encrypted"))?;
    let canaries = secrecy::control(stage, folder, stop, report).await?;

    report.heading(&format!("Two devices: {FIRST} and {SECOND}"))?;
    let alone = Alone::create(stage, report).await?;
    let content_bytes = import_all(&alone, folder, stop, report).await?;
    let subjects = edits::choose(&alone.first.space).await?;
    let devices = alone.join(report).await?;
    first_sync(&devices, content_bytes, report).await?;
    compare(&devices, folder, report).await?;

    report.heading("Apart: both edit the same documents, then meet again")?;
    edits::apart(&devices, &subjects, report).await?;
    devices.sync(report, "second sync").await?;
    edits::check(&devices, &subjects, report).await?;
    devices.check_equal(report).await?;

    report.heading(&format!("Search on the {SECOND}"))?;
    search(&devices, folder, report).await?;

    report.heading("Receipts, for an outsider without any key")?;
    secrecy::receipts(&devices, stage, report).await?;

    if args.measure {
        report.heading("Small writes and live edits")?;
        measure::run(&devices, stage, report).await?;
    }

    report.heading("Secrecy of what is on disk")?;
    secrecy::search(&devices, canaries, report).await?;
    devices.close().await?;
    secrecy::wrong_passphrase(stage, report).await
}

async fn import_all(
    devices: &Alone,
    folder: &Path,
    stop: &Interrupt,
    report: &mut Report,
) -> anyhow::Result<u64> {
    machine::reset_peak();
    let bar = Output::own(false).progress(None, "importing");
    let mut on = |_: crate::commands::Notice<'_>| bar.inc(1);
    let imported = crate::commands::import(
        &devices.first.space,
        folder,
        crate::commands::How::default(),
        stop,
        &mut on,
    )
    .await;
    bar.finish_and_clear();
    let imported = imported?;
    let documents = imported.documents();
    let mut text = format!(
        "{} imported ({}) in {}",
        counted(documents, "document", "documents"),
        bytes(imported.bytes),
        counted(imported.units, "unit", "units")
    );
    if imported.skipped > 0 {
        text = format!("{text}; {} skipped", count(imported.skipped));
    }
    let took = report.check("import", documents > 0 && !imported.interrupted, text)?;
    let (rate, peak) = (per_second(documents, took), machine::peak_bytes());
    report.figure("content_bytes", imported.bytes);
    report.figure("import_documents", documents);
    report.figure("import_skipped", imported.skipped);
    report.figure("import_ms", milliseconds(took));
    report.figure("import_documents_per_s", rate);
    report.figure("import_peak_bytes", peak);
    let peak = peak.map_or_else(String::new, |peak| format!(", peak memory {}", bytes(peak)));
    report.figure_line("import", format!("{} documents/s{peak}", count(rate)));
    Ok(imported.bytes)
}

async fn first_sync(
    devices: &Devices,
    content_bytes: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    machine::reset_peak();
    let (reports, took) = devices.sync(report, "first sync").await?;
    let documents = devices.second.documents().await?;
    let entries: u64 = reports.iter().map(|report| report.entries_in).sum();
    let wire: u64 = reports.iter().map(|report| report.bytes_in + report.bytes_out).sum();
    let peak = machine::peak_bytes();
    report.figure("sync_entries", entries);
    report.figure("sync_documents", documents);
    report.figure("sync_ms", milliseconds(took));
    report.figure("sync_entries_per_s", per_second(entries, took));
    report.figure("sync_documents_per_s", per_second(documents, took));
    report.figure("sync_wire_bytes", wire);
    report.figure("sync_peak_bytes", peak);
    let peak =
        peak.map_or_else(String::new, |peak| format!(", peak memory {} for both", bytes(peak)));
    report.figure_line(
        "first sync",
        format!(
            "{} documents/s in {} entries, {} on the wire for {}{peak}",
            count(per_second(documents, took)),
            count(entries),
            bytes(wire),
            bytes(content_bytes)
        ),
    );
    Ok(())
}

/// Every document of the folder, read again, against what the second device holds.
async fn compare(devices: &Devices, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let mut steps = crate::commands::read_ahead(folder.to_owned());
    let bar = Output::own(false).progress(None, "comparing");
    let (mut same, mut other) = (0_u64, 0_u64);
    while let Some(step) = steps.recv().await {
        if let Step::Item(item) = step? {
            let there = devices.second.space.find(crate::files::COLLECTION, &item.path).await?;
            let is_same = there.iter().any(|document| document.value == item.value);
            *(if is_same { &mut same } else { &mut other }) += 1;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let text = format!(
        "the {SECOND} holds {} as they are in the folder{}",
        counted(same, "document", "documents"),
        if other == 0 { String::new() } else { format!(", and {} otherwise", count(other)) }
    );
    report.check("content of the second device", same > 0 && other == 0, text)?;
    devices.check_equal(report).await
}

/// By a rare word, and by the likeness of a whole text.
async fn search(devices: &Devices, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let space = &devices.second.space;
    let Some((item, word, text)) = searchable(devices, folder).await? else {
        report.tell("the folder has no text to search by")?;
        return Ok(());
    };
    let found = space.search(Query::text(&word).limit(10)).await?;
    let holds_word =
        |value: &Value| value.to_string().to_lowercase().contains(&word.to_lowercase());
    let ok = !found.is_empty()
        && found.iter().all(|hit| holds_word(&Value::Object(hit.document.value.clone())));
    report.check("search by words", ok, format!("“{word}” is found in {}", titles(&found)))?;
    let found = space.search(Query::similar(&text).limit(10)).await?;
    let ok = found.iter().any(|hit| hit.document.value == item.value);
    let shown = crate::output::shortened(&text, 32);
    report.check("search by vector", ok, format!("most like “{shown}”: {}", titles(&found)))?;
    let disk = machine::bytes_below(devices.second.dir())?;
    report.figure("disk_bytes_second", disk);
    report.figure_line("on disk, per device", bytes(disk));
    Ok(())
}

fn titles(found: &[larder::Found]) -> String {
    let title = |hit: &larder::Found| crate::commands::title(&hit.document.value);
    let first: Vec<_> = found.iter().take(2).map(title).collect();
    match found.len() {
        0 => "nothing".to_owned(),
        more @ 3.. => format!("{} and {} more", first.join(", "), more - 2),
        _ => first.join(", "),
    }
}

/// A document that still is as in the folder, with a long word and a text of its own.
async fn searchable(
    devices: &Devices,
    folder: &Path,
) -> anyhow::Result<Option<(Item, String, String)>> {
    const DOCUMENTS_READ_MAX: usize = 2000;
    const TEXT_BYTES_MAX: usize = 4096;
    let mut steps = crate::commands::read_ahead(folder.to_owned());
    for _ in 0..DOCUMENTS_READ_MAX {
        let Some(step) = steps.recv().await else { break };
        let Step::Item(item) = step? else { continue };
        let Some(text) = item.value.get("text").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        let words = text.split(|c: char| !c.is_ascii_alphabetic());
        let Some(word) = words.filter(|word| word.len() >= 9).max_by_key(|word| word.len()) else {
            continue;
        };
        let word = word.to_owned();
        if text.len() > TEXT_BYTES_MAX {
            continue;
        }
        let there = devices.second.space.find(crate::files::COLLECTION, &item.path).await?;
        if there.iter().any(|document| document.value == item.value) {
            return Ok(Some((item, word, text)));
        }
    }
    Ok(None)
}
