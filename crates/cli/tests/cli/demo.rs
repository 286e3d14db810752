//! The demo shows what it says, and fails when it cannot.

use std::fs;

use serde_json::Value;

use crate::home::Home;

fn check(report: &Value, name: &str) -> bool {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("no check {name}: {report:#}"))["ok"].as_bool().unwrap()
}

#[test]
fn the_sample_household_goes_all_the_way() {
    let home = Home::empty();
    let ran = home.run(["demo", "--json"]).code(0);
    let report = &ran.lines()[0];
    assert_eq!(report["ok"], true);
    for name in [
        "control",
        "join",
        "first sync",
        "content of the second device",
        "same field",
        "same text, different places",
        "delete against edit",
        "equal digests",
        "search by words",
        "search by vector",
        "receipts verified",
        "canaries",
        "wrong passphrase",
    ] {
        assert!(check(report, name), "{name}: {report:#}");
    }
    assert_eq!(report["figures"]["canaries_found"], 0);
    assert!(report["figures"]["canaries_found_in_control"].as_u64().unwrap() > 50, "{report:#}");
    assert!(!home.profile().exists(), "the demo leaves the person's own profile alone");
}

#[test]
fn a_folder_of_one_note_is_enough_and_what_is_kept_can_be_opened() {
    let home = Home::empty();
    home.file("notes/one.txt", "hi");
    let (notes, keep) = (home.path("notes"), home.path("kept"));
    home.run(["demo", notes.to_str().unwrap(), "--keep", keep.to_str().unwrap()]).code(1);
    home.file("notes/two.md", "A line that is long enough to be looked for on the disk.\n");
    let keep = home.path("kept2");
    let ran = home.run(["demo", notes.to_str().unwrap(), "--keep", keep.to_str().unwrap()]).code(0);
    assert!(ran.out.contains("checks passed"), "{ran:?}");
    fs::copy(keep.join("passphrase.txt"), home.path("passphrase")).unwrap();
    let profile = keep.join("tablet");
    let listed =
        home.run(["list", "shared:household", "--profile", profile.to_str().unwrap(), "--json"]);
    assert!(listed.code(0).lines().len() >= 3);
    home.run(["demo", "--keep", keep.to_str().unwrap()]).code(2).says("not empty");
}

#[test]
fn an_empty_folder_is_named() {
    let home = Home::empty();
    fs::create_dir(home.path("empty")).unwrap();
    home.run(["demo", home.path("empty").to_str().unwrap()]).code(5).says("no .md");
}
