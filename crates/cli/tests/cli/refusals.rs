//! Wrong passphrases, busy profiles, bad invitations, wrong command lines.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::home::{Home, PASSPHRASE, SPACE, ran};
use crate::household::{pair, serve, stop};

#[test]
fn a_wrong_passphrase_is_refused_and_touches_nothing() {
    let home = Home::with_space("laptop");
    let before = Home::files(&home.profile());
    fs::write(home.path("passphrase"), "another\n").unwrap();
    home.run(["list", SPACE]).code(3).says("passphrase");
    assert_eq!(Home::files(&home.profile()), before);
    fs::write(home.path("passphrase"), PASSPHRASE).unwrap();
    home.run(["list", SPACE]).code(0);
}

#[test]
fn a_second_process_is_told_that_the_profile_is_in_use() {
    let home = Home::with_space("laptop");
    let mut serving = home.start(["serve", "--no-commands", "--listen", "127.0.0.1:0"]);
    serving.event("listening");
    home.run(["status"]).code(4).says("in use by another process");
    drop(serving);
    // The one before was killed, and left no lock behind.
    home.run(["status"]).code(0);
}

#[test]
fn what_is_missing_or_there_already_is_said() {
    let home = Home::empty();
    home.run(["status"]).code(5).says("larder init");
    home.run(["init", "--passphrase-cost", "low"]).code(0);
    home.run(["init", "--passphrase-cost", "low"]).code(1).says("already");
    home.run(["list", SPACE]).code(5);
    home.run(["space", "create", SPACE]).code(0);
    home.run(["space", "create", SPACE]).code(1);
    home.run(["get", SPACE, "no.md"]).code(5).says("no.md");
    home.run(["get", SPACE, &"0".repeat(32)]).code(5);
    home.run(["delete", SPACE, "no.md"]).code(5);
    let spaces = home.run(["space", "list", "--json"]).code(0).lines();
    assert_eq!(spaces[0]["space"], SPACE);
}

#[test]
fn a_check_names_what_is_damaged_and_goes_on() {
    let home = Home::with_space("laptop");
    home.run(["space", "create", "shared:garden"]).code(0);
    home.file("notes/long.txt", "a line of a long note\n".repeat(20_000));
    home.run(["import", SPACE, home.path("notes").to_str().unwrap()]).code(0);
    let whole = home.run(["check"]).code(0).out;
    assert_eq!(whole, format!("profile: whole\nshared:garden: whole\n{SPACE}: whole\n"));

    let files = Home::files(&home.profile());
    let longest = files.iter().max_by_key(|(_, bytes)| bytes.len());
    let (name, mut bytes) = longest.unwrap().clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(home.profile().join(name), bytes).unwrap();
    let found = home.run(["check", "--json"]).code(1).lines();
    assert_eq!(found.len(), 3, "{found:?}");
    for line in found {
        assert_eq!(line["damage"].is_string(), line["what"] == SPACE, "{line}");
    }
}

/// The disk of a tablet went bad where a space's file begins. Nothing in it could be opened, and
/// the person had to join again, by hand, as another device.
#[test]
fn a_space_whose_file_cannot_be_read_is_set_aside_and_fetched_anew() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    first.file("notes/soup.md", "lentil soup");
    first.run(["import", SPACE, first.path("notes").to_str().unwrap()]).code(0);
    pair(&first, &second);
    second.file("notes/tea.md", "green tea");
    second.run(["import", SPACE, second.path("notes").to_str().unwrap()]).code(0);
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);

    // What the devices say to each other of their keys comes across as well.
    for _ in 0..3 {
        second.run(["sync", "--with", &address]).code(0);
    }
    let files = Home::files(&second.profile());
    let is_space = |name: &str| {
        name.contains("spaces/") && Path::new(name).extension().is_some_and(|e| e == "db")
    };
    let (name, mut bytes) = files.into_iter().find(|(name, _)| is_space(name)).unwrap();
    bytes[..4096].fill(0);
    fs::write(second.profile().join(&name), &bytes).unwrap();
    let damaged = second.run(["check"]).code(1).out;
    assert!(damaged.contains("larder check --repair"), "{damaged}");
    let repaired = second.run(["check", "--repair"]).code(1).out;
    assert!(repaired.contains("set-aside-1"), "{repaired}");
    let aside = second.profile().join(format!("{name}.set-aside-1"));
    assert!(fs::read(&aside).unwrap() == bytes, "it is kept as it was");
    let refused = second.run_with("{}", ["put", SPACE, "shopping", "--file", "-"]);
    assert_ne!(refused.code, 0, "{refused:?}");

    second.run(["sync", "--with", &address]).code(0);
    assert_eq!(second.run(["get", SPACE, "soup.md", "--text"]).code(0).out, "lentil soup");
    assert_eq!(second.run(["get", SPACE, "tea.md", "--text"]).code(0).out, "green tea");
    second.run_with("{\"title\": \"Milk\"}", ["put", SPACE, "shopping", "--file", "-"]).code(0);
    second.run(["sync", "--with", &address]).code(0);
    second.run(["check"]).code(0);
    stop(serving);
    let state = first.run(["status", "--json"]).code(0).out;
    assert!(!state.contains("log_stopped"), "{state}");
    assert!(first.run(["search", SPACE, "Milk"]).code(0).out.contains("Milk"));
    assert!(aside.exists());
}

/// The card with a tablet's space was lost. Its profile knew all that it takes to fetch the space
/// anew, and there was no command for it.
#[test]
fn a_space_whose_file_is_lost_is_made_anew_when_it_is_said_so() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    first.file("notes/soup.md", "lentil soup");
    first.run(["import", SPACE, first.path("notes").to_str().unwrap()]).code(0);
    pair(&first, &second);
    second.file("notes/tea.md", "green tea");
    second.run(["import", SPACE, second.path("notes").to_str().unwrap()]).code(0);
    let (serving, address) = serve(&first);
    // What it signed behind its last sync would be lost with the file.
    let is_all_there = |_| {
        second.run(["sync", "--with", &address]).code(0);
        let status = second.run(["status", "--json"]).code(0).lines();
        let devices = status[0]["spaces"][0]["progress"].as_array().unwrap().clone();
        assert_eq!(devices.len(), 2);
        devices
            .iter()
            .all(|device| ["here", "everything"].map(Value::from).contains(&device["standing"]))
    };
    assert!((0..9).any(is_all_there), "the laptop never has everything");
    let anew = ["space", "begin-anew", SPACE, "--file-is-lost", "--json"];
    second.run(anew).code(1).says("it is not set aside");

    for (name, _) in Home::files(&second.profile()) {
        if name.contains("spaces/") {
            fs::remove_file(second.profile().join(name)).unwrap();
        }
    }
    for check in [&["check"][..], &["check", "--repair"]] {
        let told = second.run(check).code(1).out;
        assert!(told.contains("larder space begin-anew"), "{told}");
    }
    second.run(["space", "begin-anew", SPACE]).code(2);
    let begun = second.run(anew).code(0).event("begun-anew");
    assert_eq!((&begun["set_aside"], &begun["entries"]), (&Value::Null, &0.into()), "{begun}");
    let refused = second.run_with("{}", ["put", SPACE, "shopping", "--file", "-"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    second.run(["sync", "--with", &address]).code(0);
    assert_eq!(second.run(["get", SPACE, "soup.md", "--text"]).code(0).out, "lentil soup");
    assert_eq!(second.run(["get", SPACE, "tea.md", "--text"]).code(0).out, "green tea");
    second.run_with("{\"title\": \"Milk\"}", ["put", SPACE, "shopping", "--file", "-"]).code(0);
    second.run(["check"]).code(0);
    stop(serving);
}

#[test]
fn an_invitation_is_used_once_and_must_be_whole() {
    let first = Home::with_space("laptop");
    let mut inviting = first.start(["invite", SPACE, "--unattended", "--listen", "127.0.0.1:0"]);
    let text = inviting.event("invitation")["text"].as_str().unwrap().to_owned();
    let (second, third) = (Home::new("tablet"), Home::new("phone"));

    let mut mangled = text.clone().into_bytes();
    let middle = mangled.len() / 2;
    mangled[middle] = if mangled[middle] == b'a' { b'b' } else { b'a' };
    let mangled = String::from_utf8(mangled).unwrap();
    for bad in ["", "hello", &mangled, &text[..text.len() - 1], &format!("{text}x")] {
        second.run(["join", bad]).code(9);
    }
    // With line breaks around it, from a file, as a person pastes it.
    let file = second.file("invitation.txt", format!("\n{text}\r\n"));
    second.run([Path::new("join"), &file]).code(0);
    // The inviting process ends once the tablet has everything: refused, or nobody there.
    let refused = third.run(["join", &text]);
    assert!([8, 9].contains(&refused.code), "{refused:#?}");
    drop(inviting);
    assert_eq!(third.run(["space", "list", "--json"]).code(0).lines().len(), 0);
}

#[test]
fn an_inviter_that_is_gone_is_unreachable() {
    let first = Home::with_space("laptop");
    let mut inviting = first.start(["invite", SPACE, "--unattended", "--listen", "127.0.0.1:0"]);
    let text = inviting.event("invitation")["text"].as_str().unwrap().to_owned();
    drop(inviting);
    let second = Home::new("tablet");
    second.run(["join", &text]).code(8);
}

#[test]
fn wrong_command_lines_exit_with_2_and_help_with_0() {
    let home = Home::empty();
    home.run(["no-such-command"]).code(2);
    home.run(["import", "household", "/tmp"]).code(2).says("shared:NAME");
    home.run(["init", "--passphrase", "secret"]).code(2);
    for command in [
        "init", "space", "import", "invite", "join", "serve", "sync", "list", "get", "put",
        "delete", "search", "status", "check", "receipts", "audit", "export", "demo",
    ] {
        let mut help = Command::new(env!("CARGO_BIN_EXE_larder"));
        let shown = ran(help.args([command, "--help"])).code(0);
        assert!(shown.out.contains("Example"), "{command}");
    }
}

#[cfg(unix)]
#[test]
fn a_passphrase_comes_from_a_descriptor_and_never_from_the_environment() {
    let home = Home::with_space("laptop");
    let larder = env!("CARGO_BIN_EXE_larder");
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", larder]).env("LARDER_HOME", home.profile());
        command.env("PASS", home.path("passphrase"));
        command.env("LARDER_PASSPHRASE", PASSPHRASE).stdin(std::process::Stdio::null());
        ran(&mut command)
    };
    shell("\"$1\" status --passphrase-fd 3 3< \"$PASS\"").code(0);
    shell("cat \"$PASS\" | \"$1\" status --passphrase-fd 0").code(0);
    shell("\"$1\" status --passphrase-fd 9").code(1);
}
