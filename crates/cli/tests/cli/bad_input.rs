//! Folders as they are found in the world.

use std::fs::{self, File};

use serde_json::Value;

use crate::home::{Home, SPACE};

fn reasons(lines: &[Value]) -> Vec<String> {
    lines
        .iter()
        .filter(|line| line["event"] == "skipped")
        .map(|line| {
            format!("{} {}", line["path"].as_str().unwrap(), line["reason"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn a_zoo_of_files_is_imported_but_for_what_cannot_be() {
    let home = Home::with_space("laptop");
    home.file("zoo/a-good.md", "good");
    home.file("zoo/binary.txt", b"a\0b");
    home.file("zoo/deep.json", format!("{}{}", "[".repeat(5000), "]".repeat(5000)));
    home.file("zoo/empty.md", "");
    home.file("zoo/program.exe", b"MZ");
    home.file("zoo/latin1.txt", b"caf\xe9");
    home.file("zoo/malformed.json", "{\"a\": }");
    home.file("zoo/pi.json", "3.14159265358979323846");
    File::create(home.path("zoo/huge.md")).unwrap().set_len(1 << 30).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(home.path("zoo"), home.path("zoo/loop.md")).unwrap();
    let folder = home.path("zoo");
    let import = ["import", SPACE, folder.to_str().unwrap(), "--json"];
    let ran = home.run(import).code(6);
    let mut expect = vec![
        "binary.txt binary",
        "deep.json too-deep",
        "huge.md too-large",
        "latin1.txt not-utf-8",
        "malformed.json malformed",
        "pi.json lossy-number",
    ];
    if cfg!(unix) {
        expect.insert(4, "loop.md symlink");
    }
    assert_eq!(reasons(&ran.lines()), expect);
    let imported = ran.event("imported");
    assert_eq!((&imported["created"], &imported["ignored"]), (&2.into(), &1.into()));
    let again = home.run(import).code(6).event("imported");
    assert_eq!((&again["created"], &again["unchanged"]), (&0.into(), &2.into()));
    home.run(import[..3].iter()).code(6).says("latin1.txt: is not UTF-8 (at byte offset 3)");
}

#[test]
fn one_malformed_line_of_many_is_skipped_alone() {
    let home = Home::with_space("laptop");
    let line = |n: u32| match n {
        4000 => "{\"n\": \n".to_owned(),
        n => format!("{{\"n\": {n}}}\n"),
    };
    home.file("notes/notes.jsonl", (1..=10_000).map(line).collect::<String>());
    let folder = home.path("notes");
    let ran = home.run(["import", SPACE, folder.to_str().unwrap()]).code(6);
    let ran = ran.says("notes.jsonl:4000: malformed JSON at line 4000");
    assert!(ran.out.contains("9,999 new"), "{ran:?}");
    let last = home.run(["get", SPACE, "notes.jsonl#10000", "--json"]).code(0).lines();
    assert_eq!(last[0]["value"]["n"], 10_000);
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_the_middle_of_an_import_loses_nothing_and_the_same_command_completes_it() {
    let home = Home::with_space("laptop");
    for number in 0..600 {
        home.file(&format!("notes/a/{number:03}.md"), format!("note {number}"));
        home.file(&format!("notes/c/{number:03}.md"), format!("note {number}"));
    }
    // Their reports fill the pipe, so that the process waits in the middle until it is read.
    home.file("notes/b.jsonl", "{\n".repeat(3000));
    let folder = home.path("notes");
    let import = ["import", SPACE, folder.to_str().unwrap()];
    let mut importing = home.start(import);
    importing.event("skipped");
    importing.interrupt();
    let stopped = importing.finish().code(130).event("imported");
    assert_eq!(stopped["interrupted"], true);
    let so_far = stopped["created"].as_u64().unwrap();
    assert!((600..1200).contains(&so_far), "{stopped}");
    let listed = home.run(["list", SPACE, "--json"]).code(0).lines().len() as u64;
    assert_eq!(listed, so_far, "what it counted is there, and nothing else");
    let rest = home.run(import.iter().chain(&["--json"])).code(6).event("imported");
    let counts = ["created", "unchanged"].map(|key| rest[key].as_u64().unwrap());
    assert_eq!(counts, [1200 - so_far, so_far]);
}

#[test]
fn a_folder_that_is_not_there_and_a_value_that_is_none_are_named() {
    let home = Home::with_space("laptop");
    home.run(["import", SPACE, "/no/such/folder"]).code(1).says("/no/such/folder");
    let put = ["put", SPACE, "notes", "--file", "-"];
    home.run_with("[1]", put).code(1).says("JSON object");
    home.run_with("{\"a\": 1, \"a\": 2}", put).code(1).says("twice");
    home.run_with("{\"a\":\n  x}", put).code(1).says("line 2, column 3");
    assert!(fs::read_dir(home.profile()).is_ok());
}
