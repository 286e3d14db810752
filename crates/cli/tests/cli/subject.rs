//! What a member may ask for: all that it wrote, and that this be erased.

use std::fs;

use serde_json::Value;

use crate::home::{Home, SPACE};
use crate::household::{serve, stop};
use crate::members::pair_as;

fn json(home: &Home, path: &str) -> Value {
    serde_json::from_slice(&fs::read(home.path(path)).unwrap()).unwrap()
}

fn put(home: &Home, id: Option<&str>, value: &str) -> String {
    let line = ["put", SPACE, "files"].into_iter().chain(id).chain(["--file", "-", "--json"]);
    home.run_with(value, line).code(0).event("put")["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_members_documents_are_handed_over_and_erased_and_those_of_others_stay() {
    let (first, phone) = (Home::with_space("laptop"), Home::new("phone"));
    pair_as(&first, &phone, &["--new-member", "--role", "writer"]);
    let own = put(&phone, None, r#"{"path": "diary.md", "text": "zqben alone"}"#);
    put(&phone, Some(&own), r#"{"path": "diary.md", "text": "zqben alone, edited"}"#);
    let gone = put(&phone, None, r#"{"path": "gone.md", "text": "zqben deleted"}"#);
    phone.run(["delete", SPACE, &gone, "--for-ever"]).code(0);
    phone.file("scan.png", "zqscan");
    let scan = ["blob", "add", SPACE, phone.path("scan.png").to_str().unwrap(), "--json"]
        .map(str::to_owned);
    let scan = phone.run(scan).code(0).event("added")["blob"]["id"].as_str().unwrap().to_owned();
    let both = put(&phone, None, r#"{"path": "list.md", "text": "zqben and laptop"}"#);
    let (serving, address) = serve(&first);
    phone.run(["sync", "--with", &address]).code(0);
    put(&first, Some(&both), r#"{"path": "list.md", "text": "zqben and laptop, edited"}"#);
    let about = put(&first, None, r#"{"path": "call.md", "text": "call the phone"}"#);
    let other = put(&first, None, r#"{"path": "other.md", "text": "nothing of it"}"#);
    let above = ["put", SPACE, "files", "--file", "-", "--band", "red"];
    first.run_with(r#"{"path": "plan.md", "text": "the phone, in secret"}"#, above).code(0);
    phone.run(["sync", "--with", &address]).code(0);
    // What others wrote, in a document that only the phone's log has anything of.
    let letter = put(&first, None, r#"{"path": "letter.md", "text": "zqlaptop", "to": "x"}"#);
    let lost = put(&first, None, r#"{"path": "lost.md", "text": "zqlaptop too"}"#);
    first.run(["delete", SPACE, &lost, "--for-ever"]).code(0);
    phone.run(["sync", "--with", &address]).code(0);
    let redacted = phone.run(["redact", SPACE, &letter, "to", "--for-ever", "--json"]).code(0);
    let redacted = redacted.event("redacted")["id"].as_str().unwrap().to_owned();
    let restored = phone.run(["restore", SPACE, &lost, "--json"]).code(0).event("restored");
    let restored = restored["id"].as_str().unwrap().to_owned();
    phone.run(["sync", "--with", &address]).code(0);
    stop(serving);

    // Handed over, by the phone itself: it has the content of its blob.
    let out = phone.path("out");
    let export = ["subject", "export", "--member", "phone", "--out", out.to_str().unwrap()];
    assert!(phone.run(export).code(0).out.contains("6 documents"));
    #[cfg(unix)]
    only_its_owner_reads(&out);
    phone.run(export).code(1).says("not empty");
    let index = json(&phone, "out/index.json");
    let space = &index["spaces"][0];
    let documents = space["documents"].as_array().unwrap();
    assert_eq!(documents.len(), 6);
    let of = |id: &str| documents.iter().find(|line| line["object"] == id).unwrap();
    let folder = "out/shared-household";
    let file = of(&own)["file"].as_str().unwrap();
    assert_eq!(json(&phone, &format!("{folder}/{file}"))["text"], "zqben alone, edited");
    let history = json(&phone, &format!("{folder}/{}", of(&own)["history"].as_str().unwrap()));
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!((&of(&own)["alone"], &of(&own)["edits"]), (&true.into(), &2.into()));
    assert_eq!(of(&gone)["deleted"], true);
    let file = of(&gone)["file"].as_str().unwrap();
    assert_eq!(json(&phone, &format!("{folder}/{file}"))["text"], "zqben deleted");
    assert_eq!((&of(&both)["alone"], &of(&both)["others"]["laptop"]), (&false.into(), &1.into()));
    assert_eq!(fs::read(phone.path(&format!("{folder}/blobs/{scan}"))).unwrap(), b"zqscan");
    for others in [&redacted, &restored] {
        assert_eq!(
            (&of(others)["alone"], &of(others)["all_known"]),
            (&false.into(), &false.into())
        );
    }
    assert_eq!(space["may_be_about"][0]["id"], about.as_str());
    assert!(!index.to_string().contains(&other));
    let receipts = phone.path(&format!("{folder}/receipts"));
    phone.run(["audit", "verify", receipts.to_str().unwrap()]).code(0);

    // Erased, from the laptop.
    let erase = |more: &[&str]| {
        let line = ["subject", "erase", "--member", "phone", "--json"];
        first.run(line.iter().chain(more))
    };
    let would = erase(&[]).code(0).event("subject-to-erase");
    assert_eq!((&would["documents"], &would["left"]), (&3.into(), &3.into()));
    let about = would["spaces"][0]["may_be_about"].as_array().unwrap();
    assert_eq!(about.len(), 1, "without what is above its clearance: {about:?}");
    first.run(["get", SPACE, "diary.md"]).code(0);
    let report = first.path("report");
    let done = erase(&["--for-ever", "--out", report.to_str().unwrap()]).code(0);
    let done = done.event("subject-erased");
    assert_eq!((&done["documents"], &done["left"]), (&3.into(), &3.into()));
    assert_eq!(json(&first, "report/report.json"), done);
    for line in done["spaces"][0]["documents"].as_array().unwrap() {
        assert_eq!(line["erased"]["entry"].is_string(), line["goes"] == true, "{line}");
    }
    first.run(["get", SPACE, "diary.md"]).code(5);
    for stays in ["list.md", "call.md", "other.md", "letter.md", "lost.md"] {
        first.run(["get", SPACE, stays]).code(0);
    }
    let again = erase(&["--for-ever", "--include-shared"]).code(0).event("subject-erased");
    assert_eq!((&again["documents"], &again["left"]), (&3.into(), &0.into()));
    first.run(["get", SPACE, "list.md"]).code(5);
    first.run(["get", SPACE, "call.md"]).code(0);
    assert_eq!(erase(&["--for-ever"]).code(0).event("subject-erased")["documents"], 0);
    first.run(["subject", "export", "--member", "nobody", "--out", "x"]).code(5);
    first.run(["check"]).code(0);
}

/// All files are 0600 and all directories 0700, but for the receipts, which hold no content.
#[cfg(unix)]
fn only_its_owner_reads(dir: &std::path::Path) {
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions())
    };
    assert_eq!(mode(dir) & 0o777, 0o700, "{}", dir.display());
    for found in fs::read_dir(dir).unwrap() {
        let path = found.unwrap().path();
        if path.is_dir() && !path.ends_with("receipts") {
            only_its_owner_reads(&path);
        } else if path.is_file() {
            assert_eq!(mode(&path) & 0o777, 0o600, "{}", path.display());
        }
    }
}

/// One device called "phone" was Ben's, that of another space Carol's: one command erased both
/// people's documents.
#[test]
fn a_name_that_several_spaces_have_is_looked_for_in_those_that_are_named() {
    let home = Home::with_space("laptop");
    home.run(["space", "create", "personal:diary"]).code(0);
    let id = put(&home, None, r#"{"path": "a.md", "text": "a"}"#);
    let erase = ["subject", "erase", "--member", "laptop", "--for-ever", "--json"];
    home.run(erase).code(1).says("--space personal:diary");
    home.run(["get", SPACE, "a.md"]).code(0);
    let done = home.run(erase.iter().chain(&["--space", SPACE])).code(0);
    assert_eq!(done.event("subject-erased")["spaces"][0]["documents"][0]["object"], id.as_str());
    let both = ["--space", SPACE, "--space", "personal:diary"];
    home.run(erase.iter().chain(&both)).code(0);
}
