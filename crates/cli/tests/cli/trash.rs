//! Out of sight, back again, and gone.

use crate::home::{Home, SPACE};

#[test]
fn what_is_deleted_goes_to_the_trash_and_comes_back_by_its_path() {
    let home = Home::with_space("laptop");
    home.file("notes/soup.md", "lentils");
    home.file("notes/stew.md", "leek");
    let notes = home.path("notes");
    home.run(["import", SPACE, notes.to_str().unwrap()]).code(0);
    assert!(home.run(["trash", SPACE]).code(0).out.contains("empty"));
    let trashed = home.run(["delete", SPACE, "soup.md", "--json"]).code(0).event("trashed");
    let id = trashed["id"].as_str().unwrap().to_owned();
    home.run(["get", SPACE, "soup.md"]).code(5);
    let found = home.run(["search", SPACE, "lentils", "--by", "words", "--json"]).code(0);
    assert_eq!(found.lines().len(), 0);
    let listed = home.run(["trash", SPACE, "--json"]).code(0).lines();
    assert_eq!((listed.len(), listed[0]["id"].as_str()), (1, Some(id.as_str())));
    assert!(listed[0]["trashed"].is_string());
    home.run_with("{\"a\": 1}", ["put", SPACE, "files", &id, "--file", "-"])
        .code(1)
        .says("larder restore");
    home.run(["restore", SPACE, "soup.md"]).code(0);
    assert_eq!(home.run(["get", SPACE, "soup.md", "--text"]).code(0).out, "lentils");
    home.run(["restore", SPACE, "soup.md"]).code(1).says("--at");
    assert!(home.run(["history", SPACE, "soup.md"]).code(0).out.contains("untrash"));

    home.run(["delete", SPACE, "soup.md", "--for-ever"]).code(0);
    home.run(["restore", SPACE, "soup.md"]).code(5);
    let restored = home.run(["restore", SPACE, &id, "--json"]).code(0).event("restored");
    assert_eq!(restored["from"], id.as_str());
    assert_eq!(home.run(["get", SPACE, "soup.md", "--text"]).code(0).out, "lentils");
    let new = restored["id"].as_str().unwrap();
    let history = home.run(["history", SPACE, new]).code(0).out;
    assert!(history.contains(&format!("restore of {}", &id[..8])), "{history}");
    home.run(["get", SPACE, &id]).code(5).says("for ever");
    home.run(["check"]).code(0);
    home.run(["erase", SPACE, &id, "--for-ever"]).code(0);
    home.run(["restore", SPACE, &id]).code(5).says("erased");
}

#[test]
fn parts_of_a_document_are_redacted_and_its_old_id_tells_where_the_rest_is() {
    let home = Home::with_space("laptop");
    let value = r#"{"path": "ella.json", "diagnosis": "asthma", "marks": [1, 2, 3], "a/b": 1}"#;
    let put = |id: &[&str], value: &str| {
        let args = ["put", SPACE, "files"].iter().chain(id).chain(&["--file", "-", "--json"]);
        home.run_with(value, args).code(0).event("put")["id"].as_str().unwrap().to_owned()
    };
    let id = put(&[], value);
    put(&[&id], &value.replace("asthma", "hay fever"));
    home.run(["redact", SPACE, "ella.json", "diagnosis"]).code(2);
    home.run(["redact", SPACE, "ella.json", "diagnoses", "--for-ever"])
        .code(5)
        .says("no version of document");
    let parts = ["diagnosis", "/marks/1", "/a~1b"];
    let line = ["redact", SPACE, "ella.json"].into_iter().chain(parts);
    let done = home.run(line.chain(["--for-ever", "--json"])).code(0).event("redacted");
    let new = done["id"].as_str().unwrap();
    assert_eq!(
        (done["from"].as_str(), &done["erasure"]["redacted_as"][0]),
        (Some(&*id), &done["id"])
    );
    let left = home.run(["get", SPACE, "ella.json", "--json"]).code(0).lines().remove(0);
    assert_eq!(left, serde_json::json!({"path": "ella.json", "marks": [1, 3]}));
    home.run(["get", SPACE, &id]).code(5).says(new);
    assert!(
        home.run(["history", SPACE, new]).code(0).out.contains(&format!("redact of {}", &id[..8]))
    );
    assert_eq!(
        home.run(["search", SPACE, "fever", "--by", "words", "--json"]).code(0).lines().len(),
        0
    );
    assert!(home.run(["erasures", SPACE]).code(0).out.contains("yes"));
    // Erased by its old id, the rest of it is still there, and that is said.
    let erased = home.run(["erase", SPACE, &id, "--for-ever", "--json"]).code(0).event("erased");
    assert_eq!(erased["redacted_as"], new);
    home.run(["check"]).code(0);
}

#[test]
fn many_documents_go_only_with_yes() {
    let home = Home::with_space("laptop");
    let lines = (0..60).map(|n| format!("{{\"n\": {n}}}")).collect::<Vec<_>>().join("\n");
    home.file("notes/list.jsonl", &lines);
    home.file("notes/kept.md", "kept");
    let notes = home.path("notes");
    let import = |more: &[&str]| {
        home.run(["import", SPACE, notes.to_str().unwrap(), "--json"].iter().chain(more))
    };
    import(&[]).code(0);
    let ids: Vec<String> = home.run(["list", SPACE, "--json"]).code(0).lines()[..51]
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    let delete = |more: &[&str]| {
        let ids = ids.iter().map(String::as_str);
        home.run(["delete", SPACE].into_iter().chain(ids).chain(more.iter().copied()))
    };
    delete(&[]).code(1).says("--yes");
    assert_eq!(home.run(["list", SPACE, "--json"]).code(0).lines().len(), 61);
    home.file("notes/list.jsonl", "{\"n\": 0}\n");
    import(&["--prune"]).code(1).says("--yes");
    assert_eq!(home.run(["list", SPACE, "--json"]).code(0).lines().len(), 61);
    assert_eq!(import(&["--prune", "--yes"]).code(0).event("imported")["trashed"], 59);
    assert_eq!(home.run(["trash", SPACE, "--json"]).code(0).lines().len(), 59);
    delete(&["--yes", "--for-ever"]).code(0);
    home.run(["import", SPACE, notes.to_str().unwrap(), "--yes"]).code(2);
}

#[test]
fn how_long_documents_are_kept_is_set_shown_and_applied_when_a_person_says_so() {
    let home = Home::with_space("laptop");
    for n in 1..=5 {
        let value = format!("{{\"n\": {n}}}");
        home.run_with(&value, ["put", SPACE, "shopping", "--file", "-"]).code(0);
    }
    let shown = || home.run(["retention", SPACE, "--json"]).code(0).lines();
    let trash_ms = &shown()[0]["retention"]["trash_ms"];
    assert_eq!((shown().len(), trash_ms.as_u64()), (2, Some(2_592_000_000)));
    let set = |more: &[&str]| home.run(["retention", SPACE, "shopping"].iter().chain(more));
    set(&["--age", "0"]).code(2).says("never");
    set(&["--count", "3", "--trash-days", "0"]).code(1).says("in the trash first");
    set(&["--age", "99999999999999999"]).code(1).says("so many days");
    set(&["--age", "90", "--count", "3", "--trash-days", "7"]).code(0).says("over their time");
    let line = &shown()[0];
    assert_eq!(line["collection"], "shopping");
    assert_eq!(line["retention"]["age_ms"], 90 * 86_400_000_u64);
    set(&["--band", "red", "--age", "30"]).code(0);
    home.run(["retention", SPACE, "--band", "red", "--age", "10"]).code(0);
    let bands: Vec<_> = shown()
        .iter()
        .filter(|line| line["retention"].is_object())
        .map(|line| format!("{} {}", line["collection"], line["band"]).replace('"', ""))
        .collect();
    assert_eq!(bands, ["null red", "shopping null", "shopping red", "null null"]);
    set(&["--band", "red", "--age", "never", "--count", "3"]).code(0);
    home.run(["retention", SPACE, "--band", "red", "--age", "never"]).code(0);
    set(&["--age", "never"]).code(0);
    let mut rules = shown();
    rules.retain(|line| line["band"].is_null());
    assert_eq!(rules[0]["retention"]["age_ms"], serde_json::Value::Null);
    assert_eq!(
        (&rules[0]["retention"]["count"], &rules[2]["due"]["to_trash"]),
        (&3.into(), &2.into())
    );
    assert!(home.run(["status"]).code(0).out.contains("larder retention"));
    home.run(["retention", SPACE, "--apply"]).code(1).says("by this device's clock it is 20");
    let done = home.run(["retention", SPACE, "--apply", "--yes", "--json"]).code(0);
    assert_eq!(done.event("retained")["retained"]["trashed"], 2);
    assert_eq!(home.run(["trash", SPACE, "--json"]).code(0).lines().len(), 2);
    let left = home.run(["list", SPACE, "--json"]).code(0).lines();
    assert_eq!(left.len(), 3);
    assert!(!home.run(["status"]).code(0).out.contains("larder retention"));
    // Where there is no trash, what is deleted is gone.
    set(&["--count", "never", "--trash-days", "0"]).code(0);
    let id = left[0]["id"].as_str().unwrap();
    home.run(["delete", SPACE, id, "--json"]).code(0).event("deleted");
    home.run(["get", SPACE, id]).code(5).says("for ever");
    // Nobody was asked about so many.
    for n in 1..=60 {
        let value = format!("{{\"n\": {n}}}");
        home.run_with(&value, ["put", SPACE, "notes", "--file", "-"]).code(0);
    }
    home.run(["retention", SPACE, "notes", "--count", "5"]).code(1).says("--yes");
    home.run(["retention", SPACE, "notes", "--count", "5", "--yes"]).code(0);
}

#[test]
fn a_document_moves_to_another_space_and_both_tell_of_it() {
    let home = Home::with_space("laptop");
    home.run(["space", "create", "personal:diary"]).code(0);
    let value = r#"{"path": "sunday.md", "text": "rain"}"#;
    home.run_with(value, ["put", "personal:diary", "files", "--file", "-"]).code(0);
    let transfer = |what, more: &[&str]| {
        let line = [what, "sunday.md", "--from", "personal:diary", "--to", SPACE, "--json"];
        home.run(line.iter().chain(more))
    };
    let copied = transfer("copy", &[]).code(0).event("copied");
    assert_eq!(
        (&copied["trashed"], &copied["was_there"]),
        (&serde_json::Value::Null, &false.into())
    );
    let moved = transfer("move", &[]).code(0).event("moved");
    assert_eq!((&moved["id"], &moved["was_there"]), (&copied["id"], &true.into()));
    assert_eq!(home.run(["get", SPACE, "sunday.md", "--text"]).code(0).out, "rain");
    home.run(["get", "personal:diary", "sunday.md"]).code(5);
    let trash = home.run(["trash", "personal:diary", "--json"]).code(0).lines();
    let old = trash[0]["id"].as_str().unwrap();
    let tie = &moved["correlation"];
    for (space, id) in [("personal:diary", old), (SPACE, moved["id"].as_str().unwrap())] {
        let history = home.run(["history", space, id, "--json"]).code(0).lines();
        assert!(history.iter().any(|item| &item["correlation"] == tie), "{history:?}");
    }
    let again = ["move", old, "--from", "personal:diary", "--to", SPACE, "--json"];
    assert_eq!(home.run(again).code(0).event("moved")["id"], moved["id"]);
    transfer("move", &[]).code(5);
    home.run(["check"]).code(0);
}
