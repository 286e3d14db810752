//! Style and layering as tests: each rule reads the repository and says what to do about a breach.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Package, how high it stands in the house, and the packages of the workspace it may depend on.
///
/// An edge that is missing here is a decision to take, not a line to add: see `ARCHITECTURE.md`.
const LAYERS: &[(&str, u8, &[&str])] = &[
    ("larder-types", 0, &[]),
    ("larder-classify", 0, &[]),
    ("larder-crypto", 1, &["types"]),
    ("larder-pages", 2, &["types", "crypto"]),
    ("larder-log", 2, &["types", "crypto"]),
    ("larder-document", 2, &["types"]),
    ("larder-protocol", 3, &["types", "crypto", "log"]),
    ("larder-audit", 3, &["types", "log"]),
    ("larder-store", 4, &["types", "crypto", "log", "pages"]),
    ("larder-search", 4, &["types", "pages"]),
    ("larder-transport", 4, &["types", "crypto"]),
    (
        "larder-engine",
        5,
        &[
            "types", "classify", "crypto", "pages", "log", "document", "protocol", "audit",
            "store", "search",
        ],
    ),
    ("larder", 6, &["types", "classify", "engine", "transport", "protocol"]),
    (
        "larder-sim",
        6,
        &["types", "crypto", "pages", "log", "document", "transport", "protocol", "engine"],
    ),
    ("larder-cli", 7, &["larder", "audit", "types"]),
];

/// Outside packages that only some of ours may name, so that one crate answers for each of them.
const KEEPERS: &[(&str, &[&str])] = &[
    ("automerge", &["larder-document"]),
    ("fastcdc", &["larder-engine"]),
    ("rusqlite", &["larder-pages", "larder-store", "larder-search", "larder-engine"]),
    ("sqlite-vec", &["larder-pages", "larder-search"]),
    ("mdns-sd", &["larder-transport"]),
    ("quinn", &["larder-transport"]),
    ("rustls", &["larder-transport"]),
    ("getrandom", &["larder", "larder-transport", "larder-cli"]),
    ("tokio", &["larder", "larder-transport", "larder-cli"]),
    ("anyhow", &["larder-cli"]),
];

/// Ways to reach a clock, randomness or a socket without being handed one.
const AMBIENT: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "getrandom",
    "thread_rng",
    "OsRng",
    "ThreadRng",
    "UdpSocket",
    "TcpListener",
    "TcpStream",
];

/// Files whose lines may be longer, each with its reason.
const WIDE: &[&str] = &[
    "crates/types/src/limits.rs", // a table: one limit is one line
];

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;

#[test]
fn an_arrow_between_crates_runs_downward() {
    let mut breaches = Vec::new();
    for package in packages() {
        let Some((_, level, allowed)) = LAYERS.iter().find(|(name, ..)| *name == package.name)
        else {
            breaches.push(format!("{} has no row in LAYERS", package.name));
            continue;
        };
        for dependency in package.ours(Kind::Normal) {
            let short = dependency.strip_prefix("larder-").unwrap_or(dependency);
            if !allowed.contains(&short) {
                breaches.push(format!("{} depends on {dependency}", package.name));
            }
        }
        for dependency in package.ours(Kind::Dev) {
            let below = LAYERS.iter().any(|(name, l, _)| *name == dependency && l < level);
            // A crate tests with features of its own.
            if !below && dependency != package.name {
                breaches.push(format!("{} tests with {dependency}", package.name));
            }
        }
    }
    let present: BTreeSet<String> = packages().into_iter().map(|package| package.name).collect();
    for (name, ..) in LAYERS.iter().filter(|(name, ..)| !present.contains(*name)) {
        breaches.push(format!("LAYERS has a row for {name}, which is no longer there"));
    }
    none(
        &breaches,
        "Move the code to the layer it belongs to, or hand the value in as an argument.",
    );
}

#[test]
fn a_row_of_the_layers_points_downward() {
    for (name, level, allowed) in LAYERS {
        for short in *allowed {
            let (_, below, _) = LAYERS
                .iter()
                .find(|(other, ..)| other == short || other.strip_prefix("larder-") == Some(short))
                .unwrap_or_else(|| panic!("{name} may use {short}, which has no row"));
            assert!(
                below < level,
                "{name} may use {short}, which is not below it: change the table back"
            );
        }
    }
}

#[test]
fn one_crate_answers_for_each_outside_package_that_matters() {
    let mut breaches = Vec::new();
    for package in packages() {
        for (outside, keepers) in KEEPERS {
            if keepers.contains(&package.name.as_str()) {
                continue;
            }
            if package.dependencies.contains(&(Kind::Normal, (*outside).to_owned())) {
                breaches.push(format!("{} depends on {outside}", package.name));
            }
            let path = format!("{}::", outside.replace('-', "_"));
            for source in sources(&package.root.join("src")) {
                for (number, line) in source.code() {
                    if word(line, path.trim_end_matches("::")) && line.contains(&path) {
                        breaches.push(format!("{}:{number} names {path}", source.shown()));
                    }
                }
            }
        }
    }
    none(&breaches, "Ask the crate that keeps it (KEEPERS) for what is needed.");
}

#[test]
fn unsafe_code_stays_in_pages() {
    let mut breaches = Vec::new();
    for source in all_sources().filter(|source| !source.is_in("crates/pages")) {
        for (number, line) in source.code_and_tests() {
            if word(line, "unsafe") || word(line, "unsafe_code") {
                breaches.push(format!("{}:{number}", source.shown()));
            }
        }
    }
    none(&breaches, "Write it without unsafe, or put a safe function into `pages`.");
}

#[test]
fn clock_randomness_and_sockets_are_handed_in() {
    let mut breaches = Vec::new();
    for package in packages() {
        if ["larder", "larder-transport", "larder-cli"].contains(&package.name.as_str()) {
            continue;
        }
        // What runs the simulator says how long that takes.
        let is_told = |source: &Source| source.shown() == "crates/sim/src/main.rs";
        for source in sources(&package.root.join("src")).into_iter().filter(|s| !is_told(s)) {
            for (number, line) in source.code() {
                for name in AMBIENT.iter().filter(|name| line.contains(**name)) {
                    breaches.push(format!("{}:{number} uses {name}", source.shown()));
                }
            }
        }
    }
    none(&breaches, "Take a `Timestamp` or `&mut dyn Entropy` as an argument; a seed must replay.");
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    let mut breaches = Vec::new();
    for source in all_sources() {
        let lines = source.text.lines().count();
        if lines >= LINES_MAX {
            breaches.push(format!("{} has {lines} lines", source.shown()));
        }
        if WIDE.contains(&source.shown().as_str()) {
            continue;
        }
        for (number, line) in source.numbered() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                breaches.push(format!("{}:{number} has {columns} columns", source.shown()));
            }
        }
    }
    none(
        &breaches,
        "Fewer than 800 lines: move a topic, or the tests, to a file of its own. \
         At most 100 columns: `cargo fmt` breaks code, but not comments, strings and macros.",
    );
}

#[test]
fn every_crate_follows_the_lints_and_versions_of_the_workspace() {
    let mut breaches = Vec::new();
    for package in packages() {
        let flat: String = package.manifest.split_whitespace().collect();
        if !flat.contains("[lints]workspace=true") {
            breaches.push(format!("{}: [lints] workspace = true is missing", package.name));
        }
        for line in package.pinned_here() {
            breaches.push(format!("{}: {line}", package.name));
        }
    }
    none(&breaches, "Name versions in the root's [workspace.dependencies] only, beside the RFC.");
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let names = file_names("docs/decisions", ".md");
    for (expected, name) in (1..).zip(&names) {
        assert!(
            name.starts_with(&format!("{expected:04}-")),
            "docs/decisions/{name} should be number {expected:04}: rename it NNNN-title.md, \
             and keep the numbers that others refer to"
        );
    }
}

#[test]
fn a_migration_can_be_undone_and_none_is_missing() {
    let mut breaches = Vec::new();
    for database in ["profile", "space"] {
        let folder = format!("migrations/{database}");
        let (ups, downs) = (file_names(&folder, ".up.sql"), file_names(&folder, ".down.sql"));
        let stems = |names: &[String], end: &str| -> BTreeSet<String> {
            names.iter().map(|name| name.trim_end_matches(end).to_owned()).collect()
        };
        let (ups, downs) = (stems(&ups, ".up.sql"), stems(&downs, ".down.sql"));
        for stem in ups.symmetric_difference(&downs) {
            breaches.push(format!("{folder}/{stem} lacks its other half"));
        }
        for (expected, stem) in (1..).zip(&ups) {
            if !stem.starts_with(&format!("{expected:04}_")) {
                breaches.push(format!("{folder}/{stem} should be number {expected:04}"));
            }
        }
    }
    none(&breaches, "A migration is NNNN_name.up.sql and NNNN_name.down.sql, numbered from 0001.");
}

#[test]
fn the_format_document_lists_every_limit_as_it_is() {
    let mut expected =
        String::from("| limit | default | unit | of the format | what it bounds |\n");
    expected.push_str("|---|---:|---|---|---|\n");
    for limit in larder_types::limits::TABLE {
        let name = limit.name.to_lowercase();
        let of_format = if limit.of_format { "yes" } else { "" };
        let (value, unit, about) = (grouped(limit.value), limit.unit, limit.about);
        writeln!(expected, "| `{name}` | {value} | {unit} | {of_format} | {about} |").unwrap();
    }
    let document = read(&root().join("docs/FORMAT.md"));
    let found: String = document
        .lines()
        .skip_while(|line| !line.starts_with("| limit |"))
        .take_while(|line| line.starts_with('|'))
        .fold(String::new(), |table, line| table + line + "\n");
    let rows = |table: &str| -> BTreeSet<String> { table.lines().map(str::to_owned).collect() };
    let wrong: Vec<String> = rows(&expected).symmetric_difference(&rows(&found)).cloned().collect();
    assert!(
        found == expected,
        "docs/FORMAT.md and larder_types::limits::TABLE differ in these rows:\n{}\n\
         Replace the table of docs/FORMAT.md with this one:\n\n{expected}",
        wrong.join("\n")
    );
}

#[test]
fn the_tests_that_the_threat_model_names_exist() {
    let folders = ["src", "crates", "tests"];
    let sources: Vec<Source> =
        folders.iter().flat_map(|folder| sources(&root().join(folder))).collect();
    let exists = |name: &str| {
        let head = format!("fn {name}(");
        sources.iter().any(|source| source.text.contains(&head))
    };
    let text = read(&root().join("SECURITY.md"));
    let is_test = |word: &&str| {
        let is_name =
            word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        is_name && word.matches('_').count() >= 3
    };
    let named: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 30, "{} tests are named", named.len());
    let missing: Vec<String> =
        named.iter().filter(|name| !exists(name)).map(|name| (*name).to_owned()).collect();
    none(&missing, "Name the test in SECURITY.md that shows it now.");
}

#[test]
fn what_is_built_apart_is_built_from_the_same_versions() {
    let versions = |lock: &str| -> BTreeSet<(String, String)> {
        let text = read(&root().join(lock));
        let lines: Vec<&str> = text.lines().collect();
        lines
            .windows(2)
            .filter_map(|pair| Some((value_of(pair[0], "name")?, value_of(pair[1], "version")?)))
            .collect()
    };
    let ours = versions("Cargo.lock");
    let apart = [
        ("fuzz", &["larder-fuzz", "libfuzzer-sys", "arbitrary"][..]),
        ("peers", &["peers-pages", "peers-side", "peers-sync", "sqlcipher-src"]),
    ];
    for (folder, of_their_own) in apart {
        let breaches: Vec<String> = versions(&format!("{folder}/Cargo.lock"))
            .difference(&ours)
            .filter(|(name, _)| !of_their_own.contains(&name.as_str()))
            .map(|(name, version)| format!("{folder}/Cargo.lock has {name} {version}"))
            .collect();
        none(
            &breaches,
            &format!(
                "cp Cargo.lock {folder}/ && \
                 cargo metadata --manifest-path {folder}/Cargo.toml >/dev/null"
            ),
        );
    }
}

#[test]
fn the_readme_names_the_command_that_ci_runs() {
    let readme = read(&root().join("README.md"));
    assert!(
        readme.lines().any(|line| line.starts_with("cargo test --workspace")),
        "`.ci/run` takes the test command from README.md: \
         keep it on a line of its own that starts with `cargo test --workspace`"
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Normal,
    Dev,
}

struct Package {
    name: String,
    root: PathBuf,
    manifest: String,
    dependencies: BTreeSet<(Kind, String)>,
}

impl Package {
    fn read(root: PathBuf) -> Self {
        let manifest = read(&root.join("Cargo.toml"));
        let mut section = "";
        let (mut name, mut dependencies) = (String::new(), BTreeSet::new());
        for line in manifest.lines().map(str::trim) {
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']');
                if let Some((table, dependency)) = section.rsplit_once("dependencies.") {
                    let kind = if table.ends_with("dev-") { Kind::Dev } else { Kind::Normal };
                    dependencies.insert((kind, dependency.trim_matches('"').to_owned()));
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.split('.').next().unwrap_or(key).trim();
            if section == "package" && key == "name" {
                value.trim().trim_matches('"').clone_into(&mut name);
            } else if section.ends_with("dev-dependencies") {
                dependencies.insert((Kind::Dev, key.to_owned()));
            } else if section.ends_with("dependencies") && section != "workspace.dependencies" {
                dependencies.insert((Kind::Normal, key.to_owned()));
            }
        }
        assert!(!name.is_empty(), "{} names no package", root.display());
        Self { name, root, manifest, dependencies }
    }

    fn ours(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .filter(move |(of, name)| *of == kind && name.starts_with("larder"))
            .map(|(_, name)| name.as_str())
    }

    /// Dependency lines that carry a version or path of their own.
    fn pinned_here(&self) -> Vec<&str> {
        let mut section = "";
        let mut pinned = Vec::new();
        for line in self.manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]")
                && section != "[workspace.dependencies]"
                && line.contains('=')
                && !line.starts_with('#')
                && !line.contains("workspace = true")
            {
                pinned.push(line);
            }
        }
        pinned
    }
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn shown(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string().replace('\\', "/")
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(root().join(folder))
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Lines that are not comments.
    fn code_and_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.numbered().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The same down to the tests, which stand last in a file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let only_tests = self.path.ends_with("tests.rs")
            || self.path.components().any(|part| part.as_os_str() == "tests");
        self.code_and_tests()
            .take_while(move |(_, line)| !only_tests && line.trim() != "#[cfg(test)]")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn packages() -> Vec<Package> {
    let mut found = vec![Package::read(root().to_owned())];
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("Cargo.toml").exists() {
            found.push(Package::read(path));
        }
    }
    assert!(found.len() > 10, "the packages were not found");
    found
}

/// Every Rust file that we wrote, this one aside: it has to name what it forbids.
fn all_sources() -> impl Iterator<Item = Source> {
    ["src", "crates", "tests", "examples", "benches"]
        .into_iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .filter(|source| source.shown() != "tests/tidy.rs")
}

fn sources(folder: &Path) -> Vec<Source> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.insert(path.clone(), read(&path));
            }
        }
    }
    found.into_iter().map(|(path, text)| Source { path, text }).collect()
}

fn file_names(folder: &str, end: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(end))
        .collect();
    names.sort();
    names
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether `wanted` stands in the line as a whole word.
fn word(line: &str, wanted: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == wanted)
}

/// The string that a line of TOML gives this key.
fn value_of(line: &str, key: &str) -> Option<String> {
    let value = line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?;
    Some(value.to_owned())
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[track_caller]
fn none(breaches: &[String], what_to_do: &str) {
    assert!(breaches.is_empty(), "\n{}\n\n{what_to_do}\n", breaches.join("\n"));
}
