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
