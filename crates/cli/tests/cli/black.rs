//! What never leaves a device, by hand.

use crate::home::{Home, SPACE};
use crate::household::{pair, serve, stop};

const DIARY: &str = "black:diary";
const PAGE: &str = "{\"title\": \"Sunday\", \"text\": \"zqblackword\"}";

fn write(home: &Home) -> String {
    home.run(["space", "create", DIARY]).code(0);
    let put = home.run_with(PAGE, ["put", DIARY, "pages", "--file", "-", "--json"]);
    put.code(0).event("put")["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_diary_stays_where_it_was_written() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let id = write(&first);
    pair(&first, &second);
    second.run(["list", DIARY]).code(5);
    first.run(["invite", DIARY, "--unattended"]).code(1).says("ever leaves this device");
    first.run(["space", "create", "black:other", "--recovery"]).code(2).says("recovery kit");
    first.run(["space", "policy", DIARY, "--set", "invite=owners"]).code(1).says("BLACK");
    let policy = first.run(["space", "policy", DIARY]).code(0).out;
    assert!(policy.contains("nobody") && policy.contains("black"), "{policy}");
    let listed = first.run(["list", DIARY, "--json"]).code(0).lines();
    assert_eq!(listed[0]["band"], "black");
    first.run(["list", DIARY, "--show-up-to", "red"]).code(1).says("opened for RED");
    let status = first.run(["status"]).code(0).out;
    assert!(status.contains("1 document and 0 files of black:diary are on this device alone"));
    let status = &first.run(["status", "--json"]).code(0).lines()[0];
    let spaces = status["spaces"].as_array().unwrap();
    let stays: Vec<_> = spaces.iter().map(|space| space["stays_here"].as_bool()).collect();
    assert_eq!(stays, [Some(true), Some(false)]);

    let (serving, address) = serve(&first);
    let synced = second.run(["sync", "--with", &address, "--json"]).code(0).lines();
    assert_eq!(synced[0]["spaces"].as_array().unwrap().len(), 1);
    stop(serving);
    // Who moves to a new phone is told before anything happens.
    first.run(["device", "retire", SPACE, "--to", "tablet"]).code(1).says("1 document");
    assert_eq!(first.run(["device", "list", SPACE, "--json"]).code(0).lines().len(), 2);

    let to = ["copy", &id, "--from", DIARY, "--to", SPACE];
    first.run(to).code(2).says("--leaves-device");
    first.run([&to[..], &["--band", "amber"]].concat()).code(2).says("--leaves-device");
    assert!(first.run(["list", SPACE, "--json"]).code(0).lines().is_empty());
    let there = first.run([&to[..], &["--leaves-device", "--json"]].concat()).code(0);
    let there = there.event("copied")["id"].as_str().unwrap().to_owned();
    let listed = first.run(["list", SPACE, "--json"]).code(0).lines();
    assert_eq!((&listed[0]["id"], &listed[0]["band"]), (&there.into(), &"red".into()));
    // Nothing of it goes into the files about a member unless its space is named.
    let out = first.path("subject");
    let export = ["subject", "export", "--member", "laptop", "--out", out.to_str().unwrap()];
    first.run(export).code(0);
    assert!(out.join("shared-household").exists() && !out.join("black-diary").exists());
}

#[test]
fn a_copied_profile_keeps_its_diary() {
    let home = Home::with_space("laptop");
    let id = write(&home);
    let renewed = home.run(["device", "renew", "--json"]).code(0).event("renewed");
    assert_eq!(renewed["here"][0], DIARY);
    assert_eq!(renewed["alone"][0], SPACE);
    assert!(home.run(["get", DIARY, &id]).code(0).out.contains("zqblackword"));
    home.run_with("{\"title\": \"Monday\"}", ["put", DIARY, "pages", "--file", "-"]).code(0);
}

/// What a person does with BLACK documents of the household, and what the other device has of it.
#[test]
fn black_documents_of_a_household_are_worked_with_there() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let put = ["put", SPACE, "notes", "--band", "black", "--file", "-", "--json"];
    let id = first.run_with(PAGE, put).code(0).event("put")["id"].as_str().unwrap().to_owned();
    for name in ["notes/a.md", "notes/b.md"] {
        first.file(name, format!("zqblackword in {name}"));
    }
    let notes = first.path("notes");
    let import = ["import", SPACE, notes.to_str().unwrap(), "--json"];
    let black = first.run([&import[..], &["--band", "black"]].concat()).code(0);
    assert_eq!(black.event("imported")["created"], 2);
    // Again, with one that is new and one that changed: each stays where it belongs.
    first.file("notes/b.md", "zqblackword, edited");
    first.file("notes/c.md", "for all");
    let again = first.run(import).code(0).event("imported");
    assert_eq!((&again["created"], &again["changed"]), (&1.into(), &1.into()));
    let bands = |home: &Home| {
        let lines = home.run(["list", SPACE, "--json"]).code(0).lines();
        let bands = lines.iter().map(|line| line["band"].as_str().unwrap().to_owned());
        bands.collect::<Vec<_>>()
    };
    assert_eq!(bands(&first), ["green", "black", "black", "black"]);
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    stop(serving);
    assert_eq!(bands(&second), ["green"]);
    assert!(
        first
            .run(["search", SPACE, "zqblackword", "--by", "words", "--json"])
            .code(0)
            .lines()
            .len()
            >= 2
    );
    let out = first.path("copy");
    first.run(["export", SPACE, out.to_str().unwrap()]).code(0);
    assert_eq!(std::fs::read_to_string(out.join("b.md")).unwrap(), "zqblackword, edited");
    first
        .run(["list", SPACE, "--show-up-to", "red", "--json"])
        .code(0)
        .lines()
        .iter()
        .for_each(|line| assert_eq!(line["band"], "green"));
    assert_eq!(first.run(["history", SPACE, &id, "--json"]).code(0).lines().len(), 1);
    first.run(["delete", SPACE, &id]).code(0);
    assert_eq!(first.run(["trash", SPACE, "--json"]).code(0).lines()[0]["id"], id.as_str());
    let status = first.run(["status"]).code(0).out;
    assert!(status.contains("3 documents and 0 files of black:shared:household"), "{status}");
    first.run(["restore", SPACE, &id]).code(0);
    first.run(["erase", SPACE, &id, "--for-ever"]).code(0);
    first.run(["get", SPACE, &id]).code(5);
    // In one command with others, it says that this cannot be.
    first.run(["delete", SPACE, "a.md", "c.md"]).code(1).says("file of its own");
    let status = first.run(["status"]).code(0).out;
    assert!(status.contains("2 documents and 0 files of black:shared:household"), "{status}");
    first.run(["device", "role", SPACE, "tablet", "writer", "--clearance", "black"]).code(2);
}

/// Who wrote BLACK documents in the household asks about the household: what is told of it as a
/// whole tells of those as well, or says that it does not.
#[test]
fn what_is_told_of_a_space_tells_of_what_is_black_of_it() {
    let home = Home::with_space("laptop");
    let black = "black:shared:household";
    let put = |args: &[&str]| {
        let put = [&["put", SPACE, "notes", "--file", "-", "--json"], args].concat();
        home.run_with(PAGE, put).code(0).event("put")["id"].as_str().unwrap().to_owned()
    };
    put(&[]);
    let plain = home.run(["receipts", SPACE, "--export", home.path("a").to_str().unwrap()]);
    assert!(!plain.code(0).err.contains("BLACK"), "nothing is BLACK yet");
    let id = put(&["--band", "black"]);
    let listed = home.run(["list", SPACE]).code(0).out;
    assert!(listed.contains("  GREEN  ") && listed.contains("  BLACK  "), "{listed}");
    // Checked are both, and no other.
    home.run(["space", "create", "shared:garden"]).code(0);
    let checked = home.run(["check", SPACE]).code(0).out;
    assert_eq!(checked, format!("{black}: whole\n{SPACE}: whole\n"));
    assert_eq!(home.run(["check", black]).code(0).out, format!("{black}: whole\n"));
    home.run(["check", "shared:nowhere"]).code(5);
    let status = home.run(["status"]).code(0).out;
    assert!(status.lines().any(|line| line.starts_with(&format!("{black}  ready"))), "{status}");
    // Receipts are listed of both; an export is of one, and says so.
    let receipts = home.run(["receipts", SPACE, "--json"]).code(0).lines();
    for space in [SPACE, black] {
        assert!(receipts.iter().any(|line| line["space"] == space), "{space}: {receipts:?}");
    }
    let (first, second) = (home.path("first"), home.path("second"));
    let export = ["receipts", SPACE, "--json", "--export", first.to_str().unwrap()];
    let exported = home.run(export).code(0);
    assert_eq!(exported.event("exported")["not_in_it"][0], black);
    assert!(exported.err.contains(&format!("larder receipts {black} --export")), "{exported:?}");
    home.run(["receipts", black, "--export", second.to_str().unwrap()]).code(0);
    home.run(["audit", "verify", second.to_str().unwrap()]).code(0);
    // How long it is kept is its own to say, and the trash is asked of it.
    let of_black = ["retention", SPACE, "--band", "black", "--trash-days", "0"];
    home.run(of_black).code(0);
    let rules = home.run(["retention", SPACE, "--json"]).code(0).lines();
    let trash = |space: &str| {
        let rule = rules.iter().find(|line| line["space"] == space && line["band"].is_string());
        let rule = rule.or_else(|| rules.iter().find(|line| line["space"] == space));
        rule.unwrap()["retention"]["trash_ms"].as_u64().unwrap()
    };
    assert_eq!(trash(black), 0, "{rules:?}");
    assert!(trash(SPACE) > 0, "{rules:?}");
    home.run(["delete", SPACE, &id]).code(0).tells("deleted");
    assert!(home.run(["trash", SPACE, "--json"]).code(0).lines().is_empty());
    // What is over its time is told of both, and goes of both.
    let many: Vec<_> = (0..3).map(|_| put(&["--band", "black"])).collect();
    let some = ["--count", "1", "--trash-days", "30", "--yes"];
    home.run([&of_black[..4], &some].concat()).code(0);
    home.run(["retention", SPACE, "--apply"]).code(1).says(black);
    home.run(["retention", SPACE, "--apply", "--yes"])
        .code(0)
        .tells("2 documents put into the trash");
    let left = home.run(["list", SPACE, "--json"]).code(0).lines();
    assert_eq!(left.iter().filter(|line| line["band"] == "black").count(), 1, "of {many:?}");
    assert_eq!(left.iter().filter(|line| line["band"] == "green").count(), 1);
}

/// The disk went bad under what is BLACK: the household is worked with, `status` and `check` say
/// what is the matter, and one command has the BLACK part go on.
#[test]
fn a_household_is_worked_with_while_what_is_black_of_it_is_damaged() {
    let (home, other) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&home, &other);
    let put = |args: &[&str]| {
        let put = [&["put", SPACE, "notes", "--file", "-", "--json"], args].concat();
        home.run_with(PAGE, put)
    };
    let open = put(&[]).code(0).event("put")["id"].as_str().unwrap().to_owned();
    put(&["--band", "black"]).code(0);
    let spaces = home.run(["space", "list", "--json"]).code(0).lines();
    let companion = spaces.iter().find(|line| line["space"] == "black:shared:household").unwrap();
    let file = home.profile().join(format!("spaces/{}.db", companion["id"].as_str().unwrap()));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..4096].fill(0);
    std::fs::write(&file, bytes).unwrap();

    assert!(home.run(["get", SPACE, &open]).code(0).out.contains("zqblackword"));
    let listed = home.run(["list", SPACE, "--json"]);
    assert_ne!(listed.code, 0, "there may be more");
    assert!(listed.out.contains(&open), "{listed:?}");
    let status = home.run(["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status.out.contains("cannot be opened") && status.out.contains("degraded"),
        "{status:?}"
    );
    let spaces = home.run(["space", "list"]).code(1);
    for said in [SPACE, "cannot be opened", "larder check black:"] {
        assert!(spaces.out.contains(said), "{said}: {spaces:?}");
    }
    put(&[]).code(0);
    put(&["--band", "black"]).code(1).says("check --repair");
    home.run(["device", "retire", SPACE, "--to", "tablet"]).code(1).says("black:shared:household");
    home.run(["check", SPACE]).code(1);
    home.run(["check", SPACE, "--repair"]).code(0);
    home.run(["status"]).code(0);
    put(&["--band", "black"]).code(0);
    assert_eq!(home.run(["list", SPACE, "--json"]).code(0).lines().len(), 3);
    home.run(["check"]).code(0);
    // What nobody could read is not purged unasked.
    home.run(["purge"]).code(1).says("set-aside-1");
    home.run(["purge", "--leave"]).code(0);
}
