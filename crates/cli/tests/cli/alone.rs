//! Commands for which a served profile is closed, or that change what opens it, while another
//! process serves it. Each was refused until that process was ended.

use std::fs;
use std::path::{Path, PathBuf};

use crate::copies::copy;
use crate::home::{Home, PASSPHRASE, Ran, Running, SPACE, ran};
use crate::household::{pair, serve, stop};
use crate::kills::{Random, fill, import};
use crate::members::with_kit;

const OTHER: &str = "another passphrase";

fn put(home: &Home, title: &str) -> String {
    let value = format!("{{\"title\": \"{title}\"}}");
    let ran = home.run_with(&value, ["put", SPACE, "notes", "--file", "-", "--json"]);
    ran.code(0).event("put")["id"].as_str().unwrap().to_owned()
}

/// What is given as the present passphrase from here on.
fn give(home: &Home, passphrase: &str) {
    fs::write(home.path("passphrase"), format!("{passphrase}\n")).unwrap();
}

/// A command line with the new passphrase in a file, by a path of whoever asks.
fn with_new(home: &Home, args: &[&str]) -> Ran {
    home.file("elsewhere/new", format!("{OTHER}\n"));
    let more = ["--new-passphrase-file", "new"];
    ran(home.command(args.iter().chain(&more)).current_dir(home.path("elsewhere")))
}

fn key_file(home: &Home) -> Vec<u8> {
    fs::read(home.profile().join("profile.key")).unwrap()
}

fn databases(home: &Home) -> Vec<String> {
    let is_database = |name: &String| Path::new(name).extension().is_some_and(|end| end == "db");
    let names = Home::files(&home.profile()).into_iter().map(|(name, _)| name);
    names.filter(is_database).collect()
}

/// It serves at the same place as before.
fn serves_again(serving: &mut Running, address: &str) {
    assert_eq!(serving.event("listening")["address"], address);
}

fn transport(home: &Home) -> String {
    home.run(["status", "--json"]).code(0).lines()[0]["transport"].as_str().unwrap().to_owned()
}

#[test]
fn a_served_profile_is_purged_and_served_on() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let before = put(&first, "before");
    let (mut serving, address) = serve(&first);
    let files = databases(&first);

    // Who cannot open it again does not close it.
    give(&first, "not it");
    with_new(&first, &["purge"]).code(3);
    give(&first, PASSPHRASE);
    let empty = first.file("empty", "\n");
    first.run(["purge", "--new-passphrase-file", empty.to_str().unwrap()]).code(2);
    first.run(["purge", "--new-passphrase-file", "nowhere"]).code(1).says("nowhere");
    assert_eq!(databases(&first), files);

    let purged = with_new(&first, &["purge", "--json"]).code(0).event("purged");
    assert_eq!((&purged["spaces"], &purged["new_passphrase"]), (&1.into(), &true.into()));
    assert!(purged["bytes"].as_u64().unwrap() > 4096, "{purged}");
    serves_again(&mut serving, &address);
    let new = databases(&first);
    assert!(new.len() == 2 && new.iter().all(|name| !files.contains(name)), "{new:?} {files:?}");
    // It opened it with the new one by itself: once more without, by what opens it now.
    first.run(["purge"]).code(3);
    give(&first, OTHER);
    first.run(["purge", "--leave"]).code(0).tells("The passphrase is the same");
    serves_again(&mut serving, &address);

    let after = put(&first, "after");
    second.run(["sync", "--with", &address]).code(0);
    for id in [&before, &after] {
        second.run(["get", SPACE, id]).code(0);
    }
    stop(serving);
    first.run(["get", SPACE, &after]).code(0);
    first.run(["check"]).code(0);
    give(&first, PASSPHRASE);
    first.run(["get", SPACE, &before]).code(3);
}

#[test]
fn the_passphrase_of_a_served_profile_is_changed() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let (serving, address) = serve(&first);
    let key = key_file(&first);
    give(&first, "not it");
    with_new(&first, &["passphrase"]).code(3);
    give(&first, PASSPHRASE);
    let empty = first.file("empty", "\n");
    first.run(["passphrase", "--new-passphrase-file", empty.to_str().unwrap()]).code(2);
    assert_eq!(key_file(&first), key);

    with_new(&first, &["passphrase", "--json"]).code(0).event("passphrase-changed");
    assert_ne!(key_file(&first), key);
    with_new(&first, &["passphrase"]).code(3);
    let id = put(&first, "served on");
    second.run(["sync", "--with", &address]).code(0);
    second.run(["get", SPACE, &id]).code(0);
    stop(serving);
    first.run(["get", SPACE, &id]).code(3);
    give(&first, OTHER);
    first.run(["get", SPACE, &id]).code(0);
}

/// A passphrase that was piped in was that of the process that serves, or of nobody.
#[test]
fn a_passphrase_on_a_descriptor_is_that_of_whoever_asks() {
    let home = Home::with_space("laptop");
    let (serving, _) = serve(&home);
    home.file("new", format!("{OTHER}\n"));
    let mut shell = std::process::Command::new("sh");
    let line = "\"$1\" passphrase --new-passphrase-file new --passphrase-fd 3 3< passphrase";
    shell.args(["-c", line, "sh", env!("CARGO_BIN_EXE_larder")]);
    shell.env("LARDER_HOME", home.profile()).current_dir(home.path(""));
    shell.stdin(std::process::Stdio::null());
    ran(&mut shell).code(0);
    stop(serving);
    home.run(["status"]).code(3);
    give(&home, OTHER);
    home.run(["status"]).code(0);
}

/// As `a_copied_profile_is_renewed_and_nothing_of_it_is_lost`, and the copy is served all along.
#[test]
fn a_served_copy_is_renewed_joined_again_and_served_on() {
    let (first, second, third) = (Home::with_space("laptop"), Home::new("tablet"), Home::empty());
    pair(&first, &second);
    copy(&second.profile(), &third.profile());
    put(&second, "on the tablet");
    let (serving_first, first_at) = serve(&first);
    second.run(["sync", "--with", &first_at]).code(0);
    let on_third = put(&third, "on its copy");
    let (mut serving, address) = serve(&third);
    let old = transport(&third);

    give(&third, "not it");
    third.run(["device", "renew"]).code(3);
    assert_eq!(transport(&third), old);
    give(&third, PASSPHRASE);
    let renewed = third.run(["device", "renew", "--json"]).code(0).event("renewed");
    assert_eq!(renewed["waiting"][0], SPACE);
    serves_again(&mut serving, &address);
    let new = transport(&third);
    assert_ne!(new, old);
    third.run(["get", SPACE, &on_third]).code(0);
    let refused = third.run_with("{}", ["put", SPACE, "notes", "--file", "-"]);
    refused.code(1).says("make an invitation on another device");

    let mut inviting = first.start(["invite", SPACE, "--unattended"]);
    let invitation = inviting.event("invitation");
    let joined = third.run(["join", invitation["text"].as_str().unwrap(), "--json"]).code(0);
    assert_eq!(joined.event("carried")["carried"]["is_done"], true, "{joined:?}");
    inviting.finish().code(0);
    let after = put(&third, "it can be written again");
    // Others speak to it by the new key, at the same place.
    first.run(["sync", "--with", &address]).code(0);
    for id in [&on_third, &after] {
        first.run(["get", SPACE, id]).code(0);
    }
    stop(serving);
    stop(serving_first);
    assert_eq!(transport(&third), new);
    put(&third, "also alone");
}

#[test]
fn a_served_space_goes_on_alone_or_by_the_words() {
    let (laptop, other) = (Home::with_space("laptop"), Home::new("laptop"));
    let (mut serving, address) = serve(&laptop);
    let renew_alone = ["device", "renew", "--alone", SPACE];
    laptop.run(renew_alone).code(1).says("does not wait");
    serves_again(&mut serving, &address);
    laptop.run(["device", "renew"]).code(0).tells("larder device renew --alone");
    serves_again(&mut serving, &address);
    laptop.run(renew_alone).code(0);
    serves_again(&mut serving, &address);
    let id = put(&laptop, "it goes on");
    stop(serving);
    laptop.run(["get", SPACE, &id]).code(0);

    let words = with_kit(&other);
    pair(&other, &Home::new("tablet"));
    let (serving, _) = serve(&other);
    other.run(["device", "renew"]).code(0);
    let by_words = [&renew_alone[..], &["--recovery"]].concat();
    other.run_with("zoo zoo", &by_words).code(1).says("words");
    other.run_with(&words, &by_words).code(0);
    let id = put(&other, "it goes on");
    stop(serving);
    other.run(["get", SPACE, &id]).code(0);
}

/// A home with so much in it that a purge takes its time, served; and where its new files show.
fn large() -> (Home, Running, impl Fn(&mut Running)) {
    let home = Home::with_space("laptop");
    fill(&home, "folder", 600, &mut Random(1));
    home.run(import(&home.path("folder"))).code(0);
    let (serving, _) = serve(&home);
    let spaces: PathBuf = home.profile().join("spaces");
    let count = move || {
        let names = fs::read_dir(&spaces).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|end| end == "db")).count()
    };
    let begun = move |asking: &mut Running| {
        while count() < 2 && asking.lives() {
            std::thread::yield_now();
        }
    };
    (home, serving, begun)
}

fn start_purge(home: &Home) -> Running {
    let new = home.file("new", format!("{OTHER}\n"));
    home.start(["purge", "--new-passphrase-file", new.to_str().unwrap()])
}

/// Once begun, it does not take whoever asked to bring it to its end.
#[test]
fn a_purge_ends_well_whose_client_is_killed() {
    let (home, serving, begun) = large();
    let files = databases(&home);
    let mut purging = start_purge(&home);
    begun(&mut purging);
    purging.kill();
    // It waits for the profile to be open again.
    home.run(["list", SPACE]).code(0);
    let new = databases(&home);
    assert!(new.len() == 2 && new.iter().all(|name| !files.contains(name)), "{new:?} {files:?}");
    stop(serving);
    home.run(["check"]).code(3);
    give(&home, OTHER);
    home.run(["check"]).code(0);
}

/// Ctrl-C in it finishes the purge first.
#[test]
fn serving_that_is_ended_amid_a_purge_finishes_it() {
    let (home, serving, begun) = large();
    let mut purging = start_purge(&home);
    begun(&mut purging);
    stop(serving);
    purging.finish().code(0).event("purged");
    give(&home, OTHER);
    home.run(["check"]).code(0);
}

/// Killed amid it, one of the two passphrases opens the profile, and all is there.
#[test]
fn serving_that_is_killed_amid_a_purge_loses_nothing() {
    let (home, serving, begun) = large();
    let listing = || home.run(["list", SPACE, "--json", "--values"]).code(0).out;
    let before = listing();
    let mut purging = start_purge(&home);
    begun(&mut purging);
    serving.kill();
    let ended = purging.finish();
    // Unless it was faster.
    if ended.code != 0 {
        ended.code(1).says("either passphrase may open the profile");
    }
    if home.run(["status"]).code == 3 {
        give(&home, OTHER);
    }
    assert!(listing() == before);
    home.run(["check"]).code(0);
    let (serving, _) = serve(&home);
    home.run(["purge"]).code(0);
    stop(serving);
}

/// Nobody's command is cut for it, and nobody waits for long behind one that does not end.
#[test]
fn a_purge_gives_way_to_a_command_that_does_not_end() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let (serving, _) = serve(&first);
    let mut inviting = first.start(["invite", SPACE, "--unattended"]);
    let invitation = inviting.event("invitation");
    first.run(["purge"]).code(4).says("run this again when they have ended");
    second.run(["join", invitation["text"].as_str().unwrap()]).code(0);
    inviting.finish().code(0);
    first.run(["purge"]).code(0);
    // Stopped while it waits.
    let mut inviting = first.start(["invite", SPACE, "--unattended"]);
    inviting.event("invitation");
    let waiting = first.start(["device", "renew"]);
    waiting.interrupt();
    let stopped = waiting.finish();
    assert!([-1, 130].contains(&stopped.code), "{stopped:?}");
    inviting.interrupt();
    inviting.finish().code(130);
    put(&first, "nothing was changed");
    stop(serving);
}
