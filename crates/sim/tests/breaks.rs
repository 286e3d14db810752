//! The rows of the deliberate breaks, held to the sources that they are to be applied to.

#![allow(clippy::expect_used, reason = "tests")]

#[path = "../examples/breaks/rows.rs"]
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use rows::{CRATES, ROWS};

/// Six rows had come not to apply any more, and nobody knew before all of them were run, which
/// takes hours: what they were to break was rewritten meanwhile.
#[test]
fn each_break_still_finds_what_it_is_to_break() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    let mut stale = Vec::new();
    for row in ROWS {
        assert!(names.insert(row.name), "two breaks are called {}", row.name);
        assert_ne!(row.find, row.replace, "{} breaks nothing", row.name);
        assert_ne!(row.blind, Some(""), "say why nobody notices {}", row.name);
        let source = std::fs::read_to_string(crates.join(row.file));
        let source = source.unwrap_or_else(|e| panic!("{} of {}: {e}", row.file, row.name));
        let times = source.matches(row.find).count();
        if times != 1 {
            stale.push(format!("{}: found {times} times in {}", row.name, row.file));
        }
    }
    assert!(stale.is_empty(), "bring up to date: {stale:#?}");
}

/// The engine had come to depend on a crate that the copy left out, and none of the breaks could be
/// built any more.
#[test]
fn what_is_copied_for_the_breaks_is_whole() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in CRATES {
        let manifest = std::fs::read_to_string(crates.join(name).join("Cargo.toml"));
        let manifest = manifest.unwrap_or_else(|e| panic!("the manifest of {name}: {e}"));
        let named = manifest.lines().filter_map(|line| line.strip_prefix("larder-"));
        let needed = named.filter_map(|rest| rest.split(['.', ' ']).next());
        for one in needed {
            assert!(CRATES.contains(&one), "{name} needs {one}, which is not copied");
        }
    }
}
