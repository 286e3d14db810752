//! A folder of Markdown files, made of the paragraphs of real ones.
//!
//! The paragraphs are those of the Markdown files of the crates that this machine has built from:
//! real text, of which each machine has some. Which paragraphs make up which file is drawn from a
//! seed, so that the same machine makes the same folder, and all sides read the same one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::workloads::Bench;

/// A word that is in the last file only.
pub(crate) const LAST_WORD: &str = "zyzzyvathelast";

const SOURCES_MAX: usize = 5_000;
const PARAGRAPH_BYTES: std::ops::Range<usize> = 40..4_000;
/// The mean is half of it.
const FILE_BYTES_MAX: u64 = 8_000;
const FILES_IN_UNIT: usize = 256;
const UNIT_BYTES: u64 = 1 << 20;

/// The folder, made if it is not there yet.
pub(crate) fn folder(bench: &Bench) -> Result<PathBuf> {
    let folder = bench.fixtures.join("texts");
    if !folder.exists() {
        let making = bench.fixtures.join("texts-making");
        make(&making, bench.texts())?;
        fs::rename(making, &folder)?;
    }
    Ok(folder)
}

fn make(folder: &Path, files: u64) -> Result<()> {
    let paragraphs = paragraphs()?;
    let mut seed = 1_u64;
    for file in 0..files {
        let mut text = String::new();
        let target = roll(&mut seed) % FILE_BYTES_MAX;
        writeln!(text, "# Note {file}\n")?;
        while (text.len() as u64) < target {
            let at = usize::try_from(roll(&mut seed) % paragraphs.len() as u64)?;
            let paragraph = paragraphs.get(at).map(String::as_str).unwrap_or_default();
            text.push_str(paragraph);
            text.push_str("\n\n");
        }
        if file + 1 == files {
            text.push_str(LAST_WORD);
        }
        let dir = folder.join(format!("{:03}", file / 100));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("{file:05}.md")), text)?;
    }
    Ok(())
}

fn paragraphs() -> Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let sources = home.context("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    let mut files = Vec::new();
    walk(&sources, &mut files)
        .with_context(|| format!("no texts in {}: run `cargo fetch`", sources.display()))?;
    files.retain(|path| path.extension().is_some_and(|end| end == "md"));
    files.sort_unstable();
    files.truncate(SOURCES_MAX);
    let mut paragraphs = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let kept = text.split("\n\n").map(str::trim).filter(|p| PARAGRAPH_BYTES.contains(&p.len()));
        paragraphs.extend(kept.map(str::to_owned));
    }
    ensure!(paragraphs.len() > 1000, "too few texts in {}", sources.display());
    Ok(paragraphs)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The folder's files, as many to a unit as `larder import` takes in one.
pub(crate) fn units(folder: &Path) -> Result<Vec<Vec<String>>> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.sort_unstable();
    let mut units = vec![Vec::new()];
    let mut bytes = 0;
    for file in files {
        bytes += fs::metadata(&file)?.len();
        let path = file.strip_prefix(folder)?.to_str().context("a path that is not UTF-8")?;
        if let Some(unit) = units.last_mut() {
            unit.push(path.to_owned());
            if unit.len() == FILES_IN_UNIT || bytes >= UNIT_BYTES {
                bytes = 0;
                units.push(Vec::new());
            }
        }
    }
    units.retain(|unit| !unit.is_empty());
    Ok(units)
}

/// `SplitMix64`.
fn roll(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
