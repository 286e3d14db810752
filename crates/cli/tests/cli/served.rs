//! Commands while another process serves the profile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::home::{Home, SPACE, ran};
use crate::household::{pair, serve, stop};

fn socket(home: &Home) -> PathBuf {
    home.profile().join("serve.sock")
}

#[test]
fn everything_works_while_another_process_serves() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let (serving, first_at) = serve(&first);
    let (serving_second, second_at) = serve(&second);
    // From here on nobody needs the passphrase.
    fs::remove_file(first.path("passphrase")).unwrap();
    first.file("notes/soup.md", "lentil soup");
    first.file("notes/boiler.md", "the boiler at christmas");

    // Paths are those of whoever asks.
    let in_home = |args: &[&str]| ran(first.command(args).current_dir(first.path("")));
    let imported = in_home(&["import", SPACE, "notes", "--json"]).code(0).event("imported");
    assert_eq!(imported["created"], 2);
    let put = first
        .run_with("{\"title\": \"Milk\"}", ["put", SPACE, "shopping", "--file", "-", "--json"]);
    let id = put.code(0).event("put")["id"].as_str().unwrap().to_owned();
    first.file("eggs.json", "{\"title\": \"Eggs\"}");
    in_home(&["put", SPACE, "shopping", &id, "--file", "eggs.json"]).code(0);
    assert!(first.run(["get", SPACE, &id]).code(0).out.contains("Eggs"));
    assert_eq!(first.run(["get", SPACE, "soup.md", "--text"]).code(0).out, "lentil soup");
    let found = first.run(["search", SPACE, "boiler", "--by", "words", "--json"]).code(0).lines();
    assert_eq!(found[0]["title"], "boiler.md");
    in_home(&["export", SPACE, "out"]).code(0);
    assert_eq!(fs::read_to_string(first.path("out/soup.md")).unwrap(), "lentil soup");
    in_home(&["receipts", SPACE, "--export", "receipts"]).code(0);
    first.run(["audit", "verify", first.path("receipts").to_str().unwrap()]).code(0);
    first.run(["space", "create", "personal:diary"]).code(0);
    first.run(["rekey", "personal:diary"]).code(0);
    assert_eq!(first.run(["check"]).code(0).out.lines().count(), 3);
    first.run(["sync", "--with", &second_at]).code(0);
    assert_eq!(second.run(["get", SPACE, "soup.md", "--text"]).code(0).out, "lentil soup");
    second.run(["delete", SPACE, "soup.md"]).code(0);
    second.run(["sync", "--with", &first_at]).code(0);
    first.run(["get", SPACE, "soup.md"]).code(5).says("larder list");
    let status = first.run(["status", "--json"]).code(0).lines();
    assert!(status[0]["listening"].is_string(), "{status:?}");

    stop(serving);
    stop(serving_second);
    assert!(!socket(&first).exists());
    first.run(["status"]).code(1).says("passphrase");
}

#[test]
fn a_device_joins_while_the_inviter_serves() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let (serving, address) = serve(&first);
    first.run(["invite", SPACE, "--listen", "127.0.0.1:1"]).code(2).says(&address);
    let mut inviting = first.start(["invite", SPACE, "--unattended"]);
    let invitation = inviting.event("invitation");
    second.run(["join", invitation["text"].as_str().unwrap()]).code(0);
    assert_eq!(inviting.event("joined")["label"], "tablet");
    inviting.finish().code(0);
    stop(serving);
}

/// Ctrl-C in `larder invite --unattended` said that the invitation was withdrawn, and the process
/// that serves went on letting in whoever had it.
#[test]
fn an_invitation_that_is_stopped_lets_nobody_in_where_it_is_served() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let (serving, _) = serve(&first);
    for more in [&[][..], &["--unattended"]] {
        let mut inviting = first.start([&["invite", SPACE], more].concat());
        let invitation = inviting.event("invitation");
        inviting.interrupt();
        inviting.finish().code(130);
        second.run(["join", invitation["text"].as_str().unwrap()]).code(9).says("withdrawn");
    }
    stop(serving);
    let listed = first.run(["device", "list", SPACE, "--json"]).code(0).lines();
    assert_eq!(listed.len(), 1, "{listed:?}");
}

#[test]
fn two_commands_run_at_once_and_one_stopped_leaves_the_other() {
    let home = Home::with_space("laptop");
    let lines: Vec<_> = (0..3000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    home.file("many/list.jsonl", lines.concat());
    let (mut serving, _) = serve(&home);
    let folder = home.path("many");
    let mut importing = home.start(["import", SPACE, folder.to_str().unwrap()]);
    let mut inviting = home.start(["invite", SPACE, "--unattended"]);
    importing.event("committed");
    inviting.event("invitation");
    // Both are under way.
    home.run_with("{\"a\": 1}", ["put", SPACE, "notes", "--file", "-"]).code(0);
    inviting.interrupt();
    inviting.finish().code(130);
    importing.interrupt();
    let stopped = importing.finish();
    // Unless it was faster.
    assert!([0, 130].contains(&stopped.code), "{stopped:?}");
    let imported = home.run(["import", SPACE, folder.to_str().unwrap(), "--json"]).code(0);
    let imported = imported.event("imported");
    let all = ["created", "unchanged"].map(|key| imported[key].as_u64().unwrap());
    assert_eq!(all.iter().sum::<u64>(), 3000);
    assert!(serving.lives());
    stop(serving);
}

/// A client that was killed or reads no more must not hold up the others, nor the end.
#[test]
fn a_client_that_is_gone_or_stalls_holds_up_nobody() {
    let home = Home::with_space("laptop");
    let line = |n| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(200));
    home.file("many/list.jsonl", (0..4000).map(line).collect::<Vec<_>>().concat());
    home.run(["import", SPACE, home.path("many").to_str().unwrap()]).code(0);
    let (serving, _) = serve(&home);
    // Far more than pipe and socket hold, and only the first line is read.
    let mut stalled: Vec<_> = (0..4).map(|_| home.start(["list", SPACE, "--values"])).collect();
    assert!(stalled.iter_mut().all(|client| client.line().is_some()));
    let mut waiting = home.start(["invite", SPACE, "--unattended"]);
    waiting.event("invitation");
    waiting.kill();
    home.run(["status"]).code(0);
    stop(serving);
    for client in stalled {
        // Asked to stop while it read, or cut off while it wrote.
        let ended = client.finish();
        assert!([1, 130].contains(&ended.code), "{} {}", ended.code, ended.err);
    }
    home.run(["status"]).code(0);
}

#[test]
fn what_a_killed_process_leaves_is_replaced() {
    let home = Home::with_space("laptop");
    let (serving, _) = serve(&home);
    let mode = fs::metadata(socket(&home)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut inviting = home.start(["invite", SPACE, "--unattended"]);
    inviting.event("invitation");
    serving.kill();
    inviting.finish().code(1).says("run it again");
    assert!(fs::metadata(socket(&home)).unwrap().file_type().is_socket());
    home.run(["status"]).code(0);
    let (serving, _) = serve(&home);
    fs::remove_file(home.path("passphrase")).unwrap();
    home.run(["status"]).code(0);
    stop(serving);
}

#[test]
fn a_service_manager_ends_it_in_order() {
    let home = Home::with_space("laptop");
    let (serving, _) = serve(&home);
    serving.signal("TERM");
    serving.finish().code(0);
    assert!(!socket(&home).exists());
}

#[test]
fn what_needs_the_profile_alone_says_what_to_do() {
    let home = Home::with_space("laptop");
    let (serving, _) = serve(&home);
    let refused = home.run(["serve"]).code(4).says("Ctrl-C");
    refused.says("`larder serve` runs on this profile (process ");
    home.run(["init"]).code(1).says("already");
    stop(serving);
}

#[test]
fn a_path_longer_than_a_socket_address_is_served() {
    let home = Home::empty();
    let profile = home.path(&"a-long-name/".repeat(20)).join("profile");
    let run = |args: &[&str]| ran(home.command(args).arg("--profile").arg(&profile));
    run(&["init", "--passphrase-cost", "low"]).code(0);
    run(&["space", "create", SPACE]).code(0);
    let listen = ["serve", "--listen", "127.0.0.1:0", "--profile", profile.to_str().unwrap()];
    let mut serving = home.start(listen);
    serving.event("listening");
    let known = run(&["status", "--json"]);
    if cfg!(target_os = "linux") {
        assert!(known.code(0).lines()[0]["listening"].is_string());
    }
    stop(serving);
}

/// What two devices at work measure is what the page about it says, name by name; and nothing of
/// what they hold is in it.
#[test]
fn every_metric_is_documented_and_every_documented_one_appears() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let (serving, address) = serve(&first);
    first.run(["status", "--metrics", "--json"]).code(2);
    second.run(["status", "--metrics"]).code(1).says("larder serve");
    first.file("notes/soup.md", "a secret soup\n");
    let import = || first.run(["import", SPACE, first.path("notes").to_str().unwrap()]).code(0);
    import();
    first.file("notes/soup.md", "another secret soup\n");
    import();
    first.run(["search", SPACE, "soup"]).code(0);
    let put = |value: &str| second.run_with(value, ["put", SPACE, "notes", "--file", "-"]).code(0);
    put("{\"title\": \"Milk\"}");
    second.run(["sync", "--with", &address]).code(0);
    let text = first.run(["status", "--metrics"]).code(0).out;
    assert!(!text.contains("soup") && !text.contains("laptop") && !text.contains("household"));

    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/METRICS.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let documented: BTreeMap<&str, bool> =
        rows.map(|(name, rest)| (name, rest.starts_with("histogram"))).collect();
    let measured: BTreeSet<&str> = text
        .lines()
        .map(|line| {
            let name = line.split(['{', ' ']).next().unwrap();
            let stem = name.strip_suffix("_sum").or_else(|| name.strip_suffix("_count"));
            stem.filter(|stem| documented.get(stem) == Some(&true)).unwrap_or(name)
        })
        .collect();
    assert_eq!(measured, documented.keys().copied().collect());
    stop(serving);
}

/// Two versions may differ in what they take and print, so each says its own first.
#[test]
fn another_version_is_named_and_not_used() {
    let home = Home::with_space("laptop");
    let listener = UnixListener::bind(socket(&home)).unwrap();
    let older = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"larder-c\x00\x050.0.7").unwrap();
        stream
    });
    home.run(["status"]).code(4).says("version 0.0.7").says("start it anew");
    drop(older.join().unwrap());

    let (serving, _) = serve(&home);
    let mut stream = UnixStream::connect(socket(&home)).unwrap();
    stream.write_all(b"larder-c\xff\x049999").unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert!(said.starts_with(b"larder-c\x03"), "{said:?}");
    assert_eq!(said.len(), 10 + usize::from(said[9]), "{said:?}");
    stop(serving);
}

/// A program gone wild connects and says nothing, again and again. Each connection had a thread of
/// the server's before it counted.
#[test]
fn who_only_connects_takes_no_more_than_a_bounded_number_of_places() {
    let home = Home::with_space("laptop");
    let (serving, _) = serve(&home);
    let mut silent: Vec<UnixStream> =
        (0..48).map(|_| UnixStream::connect(socket(&home)).unwrap()).collect();
    // Each was greeted, so all of them count.
    for stream in &mut silent {
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    let mut more = UnixStream::connect(socket(&home)).unwrap();
    assert_eq!(more.read(&mut [0; 1]).unwrap(), 0, "it finds the connection closed");
    drop(silent);
    // Whose connection is gone gives its place back.
    let mut tries = 0;
    while !home.run(["status"]).out.contains("laptop") {
        tries += 1;
        assert!(tries < 100, "no place was given back");
    }
    stop(serving);
}
