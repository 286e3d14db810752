//! A long text that has been typed for long: reading it as a document, beside loading the same
//! history in Automerge and reading the text there.
//!
//! The text is typed as people do: bursts of letters at one place, some of them taken back, then on
//! at another place. Each burst is a unit, and what is counted as edits is letters put in and taken
//! out. It is made once; what is measured begins in a process of its own.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use larder::{ObjectId, Options};
use larder_document::{Actor, Document};
use serde_json::{Value, json};

use crate::block_on;
use crate::workloads::{Bench, Metrics, metrics};
use crate::writes::{self, COLLECTION, milliseconds, small_number};

pub(crate) fn larder(bench: &Bench, edits: usize) -> Result<Metrics> {
    let dir = source(bench, edits)?;
    let object: ObjectId = fs::read_to_string(dir.join("object"))?.parse()?;
    let text = fs::read_to_string(dir.join("text"))?;
    block_on(async {
        let begun = Instant::now();
        let (profile, space) = writes::open(&dir).await?;
        let opened = Instant::now();
        let read: Option<Value> = space.get(object).await?;
        let (ms, opened_ms) = (milliseconds(opened.elapsed()), milliseconds(begun.elapsed()));
        ensure!(read == Some(value(&text)), "the text is another one");
        profile.close().await?;
        Ok(metrics([
            ("ms", ms),
            ("opened_ms", opened_ms),
            ("chars", small_number(text.len() as u64)),
        ]))
    })
}

pub(crate) fn automerge(bench: &Bench, edits: usize) -> Result<Metrics> {
    let dir = source(bench, edits)?;
    let text = fs::read_to_string(dir.join("text"))?;
    let saved = fs::read(dir.join("saved"))?;
    let begun = Instant::now();
    let document = automerge::AutoCommit::load(&saved)?;
    let ms = milliseconds(begun.elapsed());
    let read = read_text(&document)?;
    let opened = milliseconds(begun.elapsed());
    ensure!(read == text, "the text is another one");
    Ok(metrics([
        ("ms", ms),
        ("opened_ms", opened),
        ("saved_kib", small_number(saved.len() as u64) / 1024.0),
    ]))
}

fn read_text(document: &automerge::AutoCommit) -> Result<String> {
    use automerge::ReadDoc as _;
    let (_, id) = document.get(automerge::ROOT, "text")?.context("there is a text")?;
    Ok(document.text(id)?)
}

fn value(text: &str) -> Value {
    json!({ "text": text })
}

/// The folder of a profile with the text, and beside it the text and its history as Automerge saves
/// it.
fn source(bench: &Bench, edits: usize) -> Result<PathBuf> {
    let dir = bench.fixtures.join(format!("open-text-{edits}"));
    if dir.exists() {
        return Ok(dir);
    }
    let making = dir.with_extension("making");
    fs::create_dir_all(&making)?;
    block_on(async {
        let (profile, space) = writes::create(&making, Options::default()).await?;
        let mut text = "A letter.\n".to_owned();
        let (object, _) = space.create(COLLECTION, &value(&text)).await?;
        let mut document = Document::flat(object_of(&text)?);
        let actor = Actor::of(
            &larder_types::DeviceId::new([1; 32]),
            &object,
            &larder_types::EntryHash::new([2; 32]),
        );
        let mut random = 1_u64;
        for burst in 0..edits / EDITS_IN_EACH {
            type_on(&mut text, &mut random, burst);
            space.put(COLLECTION, object, &value(&text)).await?;
            document.put(actor, None, &object_of(&text)?, larder_types::Timestamp(0))?;
        }
        profile.close().await?;
        fs::write(making.join("object"), object.to_string())?;
        fs::write(making.join("text"), &text)?;
        Ok(fs::write(making.join("saved"), document.save().context("it was edited")?)?)
    })?;
    fs::rename(making, &dir)?;
    Ok(dir)
}

fn object_of(text: &str) -> Result<larder_document::Object> {
    Ok(larder_document::parse(&serde_json::to_vec(&value(text))?)?)
}

/// A burst of letters put in and taken out at one place.
fn type_on(text: &mut String, random: &mut u64, burst: usize) {
    // Knuth's MMIX generator.
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let at = usize::try_from(*random >> 33).unwrap_or(0) % (text.len() + 1);
    let taken = TAKEN_IN_EACH.min(text.len() - at);
    let typed: String = (0..EDITS_IN_EACH - taken)
        .filter_map(|n| "etaoin shrdlu".chars().nth((burst * 7 + n * n) % 13))
        .collect();
    text.replace_range(at..at + taken, &typed);
}

/// Of 260,000 edits of a real text, 77,000 took a letter out.
const EDITS_IN_EACH: usize = 100;
const TAKEN_IN_EACH: usize = 30;
