//! What each fuzz target does with its input, and valid values to begin from.
//!
//! No target draws randomness or reads a clock, so an input that fails once fails always.

mod blobs;
mod documents;
mod exports;
mod logs;
mod operations;
mod pages;
mod wire;
mod world;

use std::fs;
use std::path::Path;

pub use blobs::{manifests as blob_manifests, session as blob_session};
pub use documents::{history, json};
pub use exports::export;
pub use logs::{batch, notes, sections, snapshot_parts, values};
pub use operations::pages_ops;
pub use pages::{pages_file, pages_wal};
pub use wire::{frames, handshake, invitation, session};
pub use world::World;

/// Writes valid values into the corpus of `target`, for the fuzzer to begin from.
pub fn sow(target: &str) {
    let world = World::new();
    let seeds = match target {
        "values" => logs::value_seeds(&world),
        "batch" => logs::batch_seeds(&world),
        "notes" => logs::note_seeds(&world),
        "sections" => logs::section_seeds(&world),
        "snapshot_parts" => logs::part_seeds(),
        "json" => documents::json_seeds(),
        "history" => documents::history_seeds(),
        "export" => exports::seeds(),
        "frames" => wire::frame_seeds(&world),
        "handshake" => wire::handshake_seeds(&world),
        "invitation" => wire::invitation_seeds(&world),
        "session" => wire::session_seeds(&world),
        "blob_manifests" => blobs::manifest_seeds(),
        "blob_session" => blobs::session_seeds(),
        "pages_file" => pages::file_seeds(),
        "pages_wal" => pages::wal_seeds(),
        "pages_ops" => operations::seeds(),
        _ => panic!("no seeds for {target}"),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder for the corpus");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed is written");
    }
}

/// Splits off a part with two bytes of length before it, or what is left of it.
fn part<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = data.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    let (part, rest) = rest.split_at(len);
    *data = rest;
    Some(part)
}

/// The other way round; a part longer than 64 KiB is cut.
fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&part[..usize::from(len)]);
    }
    bytes
}
