//! New keys for a profile that is on disk.

use std::fs;

use crate::home::{Home, PASSPHRASE, SPACE, ran};

fn filled() -> Home {
    let home = Home::with_space("laptop");
    for (name, text) in [("soup.md", "# Soup\n\nLentils."), ("bread.md", "# Bread\n\nFlour.")] {
        home.file(&format!("notes/{name}"), text);
    }
    let folder = home.path("notes");
    home.run(["import", SPACE, folder.to_str().unwrap()]).code(0);
    home
}

fn names(home: &Home) -> Vec<String> {
    let mut names: Vec<_> =
        Home::files(&home.profile()).into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

fn listing(home: &Home) -> String {
    home.run(["list", SPACE, "--json", "--values"]).code(0).out
}

#[test]
fn a_space_is_rekeyed_by_name_or_with_all_others() {
    let home = filled();
    home.run(["space", "create", "personal:mine"]).code(0);
    let before = listing(&home);
    let rekeyed = home.run(["rekey", SPACE, "--json"]).code(0).event("rekeyed");
    assert_eq!(rekeyed["space"], SPACE);
    assert!(rekeyed["bytes"].as_u64().unwrap() >= 50 * 4096, "{rekeyed}");
    let out = home.run(["rekey", "--all"]).code(0).out;
    assert_eq!(out.lines().filter(|line| line.contains("is under a new key")).count(), 2, "{out}");
    assert_eq!(names(&home).iter().filter(|name| name.ends_with(".2.db")).count(), 1);
    assert_eq!(names(&home).iter().filter(|name| name.ends_with(".1.db")).count(), 1);
    assert_eq!(listing(&home), before);
    home.run(["check"]).code(0);
    home.run(["rekey", "shared:none"]).code(5);
    assert!(home.run(["status"]).code(0).out.contains("key of"));
}

#[test]
fn a_purge_takes_a_new_passphrase() {
    let home = filled();
    let before = listing(&home);
    let purged = home.run(["purge", "--json"]).code(0).event("purged");
    assert_eq!((&purged["spaces"], &purged["new_passphrase"]), (&1.into(), &false.into()));
    assert!(names(&home).contains(&"profile.1.db".to_owned()), "{:?}", names(&home));
    assert_eq!(listing(&home), before);

    let new = home.file("new", "another one\n");
    let with = ["purge", "--new-passphrase-file", new.to_str().unwrap()];
    let out = home.run(with).code(0).out;
    assert!(out.contains("Copies made before still open with the old one"), "{out}");
    home.run(["list", SPACE]).code(3);
    let mut list = home.command(["list", SPACE, "--json", "--values"]);
    let old = home.path("passphrase");
    fs::write(&old, "another one\n").unwrap();
    assert_eq!(ran(&mut list).code(0).out, before);
    let empty = home.file("empty", "\n");
    home.run(["purge", "--new-passphrase-file", empty.to_str().unwrap()]).code(2);
    assert_eq!(listing(&home), before);
}

#[test]
fn a_passphrase_is_changed() {
    let home = filled();
    let (before, files) = (listing(&home), names(&home));
    let new = home.file("new", "another one\n");
    let key = fs::read(home.profile().join("profile.key")).unwrap();
    let change = ["passphrase", "--new-passphrase-file", new.to_str().unwrap()];
    let empty = home.file("empty", "\n");
    home.run(["passphrase", "--new-passphrase-file", empty.to_str().unwrap()]).code(2);
    let given = home.path("passphrase");
    fs::write(&given, "not it\n").unwrap();
    home.run(change).code(3);
    assert_eq!(fs::read(home.profile().join("profile.key")).unwrap(), key);

    fs::write(&given, format!("{PASSPHRASE}\n")).unwrap();
    let out = home.run(change).code(0).out;
    assert!(out.contains("still open with the old one"), "{out}");
    home.run(["list", SPACE]).code(3);
    fs::write(&given, "another one\n").unwrap();
    assert_eq!(listing(&home), before);
    assert_eq!(names(&home), files);
    home.run(["check"]).code(0);
    let again = home.run([&change[..], &["--json"]].concat()).code(0);
    again.event("passphrase-changed");

    // What is said of an old copy of the key file is true, and a purge is the answer to it.
    fs::write(home.profile().join("profile.key"), &key).unwrap();
    fs::write(&given, format!("{PASSPHRASE}\n")).unwrap();
    assert_eq!(listing(&home), before);
    home.run(["purge", "--new-passphrase-file", new.to_str().unwrap()]).code(0);
    fs::write(home.profile().join("profile.key"), &key).unwrap();
    home.run(["list", SPACE]).code(1);
}
