//! What a person does by hand, on two devices.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::home::{Home, Running, SPACE};

fn household() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/household")
}

/// Invites, joins, and takes what there is.
pub(crate) fn pair(first: &Home, second: &Home) {
    let mut inviting = first.start(["invite", SPACE, "--unattended", "--listen", "127.0.0.1:0"]);
    let invitation = inviting.event("invitation");
    let text = invitation["text"].as_str().unwrap();
    let joined = second.run(["join", text, "--json"]).code(0);
    assert_eq!(joined.event("joined")["space"], SPACE);
    assert_eq!(inviting.event("joined")["label"], "tablet");
    inviting.finish().code(0);
}

pub(crate) fn serve(home: &Home) -> (Running, String) {
    let mut serving = home.start(["serve", "--listen", "127.0.0.1:0"]);
    let address = serving.event("listening")["address"].as_str().unwrap().to_owned();
    (serving, address)
}

pub(crate) fn stop(serving: Running) {
    serving.interrupt();
    serving.finish().code(0);
}

/// What both devices list, without the order.
fn listing(home: &Home) -> Vec<String> {
    let ran = home.run(["list", SPACE, "--json", "--values"]).code(0);
    let mut lines: Vec<String> = ran
        .lines()
        .iter()
        .map(|line| format!("{} {} {}", line["id"], line["collection"], line["value"]))
        .collect();
    lines.sort();
    lines
}

/// The second device created a document that the first has, too: it edits it.
fn versions_of(first: &Home, second: &Home, id: &str) {
    let text = "{\"title\": \"Milk\", \"litres\": 3}";
    first.run_with(text, ["put", SPACE, "shopping", id, "--file", "-"]).code(0);
    let history = first.run(["history", SPACE, id, "--json"]).code(0).lines();
    let by: Vec<_> = history.iter().map(|item| (&item["label"], &item["kind"])).collect();
    assert_eq!(by, [(&"tablet".into(), &"create".into()), (&"laptop".into(), &"change".into())]);
    let table = first.run(["history", SPACE, id]).code(0).out;
    assert!(table.contains("tablet") && table.contains("flat"), "{table}");
    let litres = |at: &str| {
        let shown = first.run(["show", SPACE, id, "--at", at, "--json"]).code(0).lines();
        shown[0]["litres"].clone()
    };
    assert_eq!((litres("flat"), litres("now")), (2.into(), 3.into()));
    let edited = history[1]["version"].as_str().unwrap();
    assert_eq!(litres(&edited[..8]), 3);
    assert_eq!(litres(history[0]["clock"].as_str().unwrap()), 2);
    first.run(["show", SPACE, id, "--at", "2001-01-01"]).code(5);
    first.run(["show", SPACE, id, "--at", "soon"]).code(2).says("larder history");
    let diff = first.run(["diff", SPACE, id, "flat"]).code(0).out;
    assert_eq!(diff, "/litres\n- 2\n+ 3\n");
    assert_eq!(first.run(["conflicts", SPACE, id]).code(0).out, "No conflicts.\n");
    second.run(["history", SPACE, "00000000000000000000000000000000"]).code(5);
}

#[test]
fn two_devices_share_a_household() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let imported =
        first.run([Path::new("import"), Path::new(SPACE), &household(), Path::new("--json")]);
    let imported = imported.code(0).event("imported");
    assert!(imported["created"].as_u64().unwrap() > 60, "{imported}");
    pair(&first, &second);
    assert_eq!(listing(&first), listing(&second));

    let soup = second.run(["get", SPACE, "recipes/lentil-soup.md", "--text"]).code(0).out;
    assert_eq!(soup, fs::read_to_string(household().join("recipes/lentil-soup.md")).unwrap());

    let put = second.run_with(
        "{\"title\": \"Milk\", \"litres\": 2}",
        ["put", SPACE, "shopping", "--file", "-", "--json"],
    );
    let id = put.code(0).event("put")["id"].as_str().unwrap().to_owned();
    second.run(["delete", SPACE, "lists/shopping.md"]).code(0);
    let (serving, address) = serve(&first);
    let synced = second.run(["sync", "--with", &address, "--json"]).code(0).lines();
    // Beside the two units there may be another sealing key to announce.
    assert!(synced[0]["spaces"][0]["entries_out"].as_u64() >= Some(2), "{synced:?}");
    stop(serving);
    let milk: Value = serde_json::from_str(&first.run(["get", SPACE, &id]).code(0).out).unwrap();
    assert_eq!(milk["litres"], 2);
    versions_of(&first, &second, &id);
    first.run(["get", SPACE, "lists/shopping.md"]).code(5).says("larder list");
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    stop(serving);
    assert_eq!(listing(&first), listing(&second));

    let by_words =
        second.run(["search", SPACE, "lentil", "--by", "words", "--json"]).code(0).lines();
    assert!(by_words.iter().any(|hit| hit["title"] == "recipes/lentil-soup.md"), "{by_words:?}");
    let by_likeness =
        second.run(["search", SPACE, &soup, "--by", "likeness", "--json"]).code(0).lines();
    assert_eq!(by_likeness[0]["title"], "recipes/lentil-soup.md");
    first.run(["status"]).code(0);
}

#[test]
fn only_what_changed_is_imported_again() {
    let home = Home::with_space("laptop");
    let import = |more: &[&str]| {
        let folder = home.path("notes");
        let args = ["import", SPACE, folder.to_str().unwrap(), "--json"];
        home.run(args.iter().chain(more)).code(0).event("imported")
    };
    home.file("notes/a.md", "one");
    home.file("notes/b/c.txt", "two");
    home.file("notes/d.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    let counts = |imported: &Value| {
        ["created", "changed", "unchanged", "trashed"].map(|key| imported[key].as_u64().unwrap())
    };
    assert_eq!(counts(&import(&[])), [4, 0, 0, 0]);
    let receipts = |expect: usize| {
        assert_eq!(home.run(["receipts", SPACE, "--json"]).code(0).lines().len(), expect);
    };
    receipts(2);
    assert_eq!(counts(&import(&[])), [0, 0, 4, 0]);
    receipts(2);
    home.file("notes/a.md", "one, changed");
    home.file("notes/e.json", "[1]");
    fs::remove_file(home.path("notes/b/c.txt")).unwrap();
    assert_eq!(counts(&import(&[])), [1, 1, 2, 0]);
    home.run(["get", SPACE, "b/c.txt"]).code(0);
    assert_eq!(counts(&import(&["--prune"])), [0, 0, 4, 1]);
    home.run(["get", SPACE, "b/c.txt"]).code(5);
    let text = home.run(["get", SPACE, "a.md", "--text"]).code(0).out;
    assert_eq!(text, "one, changed");
}

#[test]
fn an_export_is_the_folder_again_and_overwrites_nothing_unasked() {
    let home = Home::with_space("laptop");
    home.file("notes/bom.md", "\u{feff}a\r\nb");
    home.file("notes/empty.txt", "");
    home.file(
        "notes/list.jsonl",
        (1..=300).map(|n| format!("{{\"n\":{n}}}\n")).collect::<Vec<_>>().concat(),
    );
    home.file("notes/deep/er/x.json", "{\n  \"a\": 1\n}\n");
    let (notes, out) = (home.path("notes"), home.path("out"));
    home.run(["import", SPACE, notes.to_str().unwrap()]).code(0);
    let export =
        |more: &[&str]| home.run(["export", SPACE, out.to_str().unwrap()].iter().chain(more));
    export(&[]).code(0);
    assert_eq!(Home::files(&out), Home::files(&notes));
    home.file("out/bom.md", "mine");
    export(&[]).code(6).says("bom.md");
    assert_eq!(fs::read_to_string(out.join("bom.md")).unwrap(), "mine");
    export(&["--force"]).code(0);
    assert_eq!(Home::files(&out), Home::files(&notes));
}

#[test]
fn a_document_cannot_write_outside_the_export() {
    let home = Home::with_space("laptop");
    for path in
        ["../escaped.md", "/tmp/escaped.md", "a/../../escaped.md", "..\\escaped.md", "a\u{0}b.md"]
    {
        let value = serde_json::json!({"path": path, "format": "text", "text": "x"}).to_string();
        home.run_with(&value, ["put", SPACE, "files", "--file", "-"]).code(0);
    }
    let twice = "{\"path\": \"good.md\", \"format\": \"text\", \"text\": \"good\"}";
    for _ in 0..2 {
        home.run_with(twice, ["put", SPACE, "files", "--file", "-"]).code(0);
    }
    let out = home.path("deep/out");
    let ran = home.run(["export", SPACE, out.to_str().unwrap(), "--json"]).code(6);
    assert_eq!(ran.event("exported")["files"]["skipped"], 5);
    let names: Vec<String> =
        Home::files(&home.path("deep")).into_iter().map(|file| file.0).collect();
    assert_eq!(names, ["out/good (2).md", "out/good.md"]);
}

#[test]
fn an_outsider_checks_an_export_of_receipts() {
    let home = Home::with_space("laptop");
    home.file("notes/a.md", "one");
    home.run(["import", SPACE, home.path("notes").to_str().unwrap()]).code(0);
    let out = home.path("receipts");
    let out = out.to_str().unwrap();
    home.run(["receipts", SPACE, "--export", out]).code(0);
    let stranger = Home::empty();
    let verdict = stranger.run(["audit", "verify", out, "--json"]).code(0).lines();
    assert_eq!(verdict.len(), 1, "{verdict:?}");
    stranger.run(["audit", "verify", out]).code(0);

    // Any one byte of any file, changed, refutes it.
    let files = Home::files(Path::new(out));
    assert!(files.len() >= 2, "{files:?}");
    for (name, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 1;
        fs::write(Path::new(out).join(name), &changed).unwrap();
        stranger.run(["audit", "verify", out]).code(7);
        fs::write(Path::new(out).join(name), bytes).unwrap();
    }
    stranger.run(["audit", "verify", out]).code(0);
}

/// Pruning by hand, on one device after the other, until the bodies are gone on both.
#[test]
fn two_devices_prune_what_both_hold_and_a_third_joins_after() {
    let (first, second, third) =
        (Home::with_space("laptop"), Home::new("tablet"), Home::new("tablet"));
    first.run([Path::new("import"), Path::new(SPACE), &household()]).code(0);
    pair(&first, &second);
    let left = |home: &Home| {
        let left = home.run(["prune", SPACE, "--dry-run", "--json"]).code(0).event("prunable");
        left["status"]["sections"].as_u64().unwrap()
    };
    assert!(left(&first) > 60 && left(&second) > 60);
    let sync = || {
        let (serving, address) = serve(&first);
        second.run(["sync", "--with", &address]).code(0);
        stop(serving);
    };
    // What one has begun by hand goes on by itself in the other commands.
    for _ in 0..4 {
        for home in [&first, &second] {
            home.run(["prune", SPACE, "--json"]).code(0);
            sync();
        }
    }
    assert_eq!((left(&first), left(&second)), (0, 0));
    assert_eq!(listing(&first), listing(&second));
    pair(&second, &third);
    assert_eq!(listing(&third), listing(&first));
    for home in [&first, &second, &third] {
        home.run(["check"]).code(0);
    }
}

#[test]
fn what_is_personal_is_told_by_kind_and_never_shown() {
    let home = Home::with_space("laptop");
    let secret = "Seeadler77";
    for (name, text) in [
        ("hut.md", format!("# Hut\n\nWLAN Passwort: {secret}, PIN 4826.\n")),
        ("rent.md", "# Rent\n\nTo DE89 3704 0044 0532 0130 00, every month.\n".to_owned()),
        ("soup.md", "# Soup\n\nLentils, 500 g.\n".to_owned()),
    ] {
        home.file(&format!("notes/{name}"), text);
    }
    let folder = home.path("notes");
    home.run(["import", SPACE, folder.to_str().unwrap()]).code(0);
    let ran = home.run(["classify", SPACE, "--json"]).code(0);
    assert!(!ran.out.contains(secret) && !ran.out.contains("3704"), "{}", ran.out);
    let lines = ran.lines();
    let of = |path: &str| {
        let line = lines.iter().find(|line| line["title"] == path);
        line.map(|line| line["kinds"].clone()).unwrap_or_default()
    };
    assert_eq!(of("hut.md"), serde_json::json!({ "credentials": 2 }));
    assert_eq!(of("rent.md"), serde_json::json!({ "financial": 1 }));
    assert_eq!((of("soup.md"), &lines.last().unwrap()["with"]), (Value::Null, &2.into()));
    let out = home.run(["classify", SPACE]).code(0).out;
    assert!(out.contains("hut.md: credentials (2)") && !out.contains(secret), "{out}");
    home.run(["classify", "shared:none"]).code(5);
}

/// What a status says of the tablet: the JSON of it, and the row of its table.
fn of_tablet(home: &Home) -> (Value, String) {
    let status = home.run(["status", "--json"]).code(0).lines();
    let devices = status[0]["spaces"][0]["progress"].as_array().unwrap().clone();
    let device = devices.into_iter().find(|device| device["label"] == "tablet").unwrap();
    let table = home.run(["status"]).code(0).out;
    for claim in ["synced", "up to date", "in sync"] {
        assert!(!table.to_lowercase().contains(claim), "{claim}: {table}");
    }
    let begins = format!("tablet of {SPACE}");
    let mut rows = table.lines().skip_while(|row| !row.contains("still to be sent"));
    (device, rows.find(|row| row.starts_with(&begins)).unwrap().to_owned())
}

/// A person who leaves the house trusts what `larder status` says of the tablet. As long as it has
/// not signed that it holds everything, the entries are counted that are still to be sent.
#[test]
fn a_device_that_lags_behind_is_never_shown_as_one_that_has_all() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let sync = || {
        let (serving, address) = serve(&first);
        second.run(["sync", "--with", &address]).code(0);
        stop(serving);
    };
    let has_all = |_| {
        sync();
        of_tablet(&first).0["standing"] == "everything"
    };
    assert!((0..9).any(has_all), "the tablet never has everything");
    let (before, row) = of_tablet(&first);
    assert_eq!(before["pending"], 0);
    assert!(row.contains("all "), "{row}");
    let held = before["holds"].as_u64().unwrap();

    for missing in 1..=3_u64 {
        let value = format!("{{\"n\": {missing}}}");
        first.run_with(&value, ["put", SPACE, "notes", "--file", "-"]).code(0);
        let (lags, row) = of_tablet(&first);
        assert_eq!(lags["standing"], "behind", "{lags}");
        assert_eq!((&lags["holds"], &lags["pending"]), (&held.into(), &missing.into()), "{lags}");
        assert!(row.contains(&format!("{held} of {}", held + missing)), "{row}");
        assert!(!row.contains("all "), "{row}");
    }
    // A peer that is away is not one that has it.
    first.run(["sync"]);
    assert_eq!(of_tablet(&first).0["pending"], 3);
    assert!((0..9).any(has_all), "the tablet never has everything");
    assert!(of_tablet(&first).0["holds"].as_u64().unwrap() >= held + 3);
}
