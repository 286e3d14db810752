//! Roles, and a device that is lost.

use crate::home::{Home, SPACE};
use crate::household::{serve, stop};

/// Invites with these further arguments, and joins.
pub(crate) fn pair_as(first: &Home, second: &Home, more: &[&str]) {
    let all: Vec<&str> = ["invite", SPACE, "--unattended", "--listen", "127.0.0.1:0"]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let mut inviting = first.start(all);
    let invitation = inviting.event("invitation");
    second.run(["join", invitation["text"].as_str().unwrap(), "--json"]).code(0);
    inviting.finish().code(0);
}

fn put(home: &Home, title: &str) -> crate::home::Ran {
    home.run_with(&format!("{{\"title\": \"{title}\"}}"), ["put", SPACE, "notes", "--file", "-"])
}

#[test]
fn a_lost_tablet_is_shut_out() {
    let (first, lost) = (Home::with_space("laptop"), Home::new("tablet"));
    pair_as(&first, &lost, &["--new-member", "--role", "writer"]);
    let listed = first.run(["device", "list", SPACE, "--json"]).code(0).lines();
    let tablet = listed.iter().find(|line| line["device"]["label"] == "tablet").unwrap();
    assert_eq!((&tablet["device"]["role"], &tablet["shut_out"]), (&"writer".into(), &false.into()));
    put(&lost, "Before").code(0);
    let (serving, address) = serve(&first);
    lost.run(["sync", "--with", &address]).code(0);

    // Through the running `serve`, as anything.
    first.run(["device", "revoke", SPACE, "tablet"]).code(0);
    let listed = first.run(["device", "list", SPACE]).code(0);
    assert!(listed.out.contains("shut out"), "{}", listed.out);
    put(&first, "After").code(0);
    assert_ne!(lost.run(["sync", "--with", &address]).code, 0, "nobody answers it");
    stop(serving);
    let found = lost.run(["search", SPACE, "Before"]).code(0);
    assert!(found.out.contains("Before"), "what it had it has: {}", found.out);
    let found = lost.run(["list", SPACE, "--json", "--values"]).code(0);
    assert!(!found.out.contains("After"), "{}", found.out);
    let again = first.run(["device", "revoke", SPACE, "tablet"]);
    again.code(5);
}

/// Who lives here no more had a phone, and a tablet that the phone had let in.
#[test]
fn a_member_is_shut_out_with_every_device_by_an_owner_who_is_not_the_founder() {
    let laptop = Home::with_space("laptop");
    let [desk, phone, tablet, guest] = ["desk", "phone", "tablet", "guest"].map(Home::new);
    let sync = |one: &Home, other: &Home| {
        let (serving, address) = serve(other);
        one.run(["sync", "--with", &address]).code(0);
        stop(serving);
    };
    pair_as(&laptop, &desk, &["--new-member", "--role", "owner"]);
    pair_as(&laptop, &phone, &["--new-member", "--role", "writer"]);
    pair_as(&laptop, &guest, &["--new-member", "--role", "writer"]);
    pair_as(&phone, &tablet, &["--role", "writer"]);
    put(&tablet, "By the tablet").code(0);
    sync(&tablet, &phone);
    sync(&phone, &laptop);
    sync(&desk, &laptop);
    let list = |home: &Home| home.run(["list", SPACE, "--json", "--values"]).code(0).out;

    let revoke = ["device", "revoke", SPACE, "phone", "--member", "--json"];
    assert_eq!(desk.run(revoke).code(0).event("revoked")["left"], 3);
    put(&desk, "After").code(0);
    sync(&desk, &laptop);
    for knows in [&desk, &laptop] {
        let (serving, address) = serve(knows);
        guest.run(["sync", "--with", &address]).code(0);
        for out in [&phone, &tablet] {
            assert_ne!(out.run(["sync", "--with", &address]).code, 0, "nobody answers it");
            assert!(!list(out).contains("After"));
        }
        stop(serving);
    }
    let out = |home: &Home| {
        let listed = home.run(["device", "list", SPACE, "--json"]).code(0).lines();
        let out = listed.iter().filter(|line| line["shut_out"] == true);
        let mut out: Vec<_> = out.map(|line| line["device"]["label"].clone()).collect();
        out.sort_by_key(ToString::to_string);
        out
    };
    put(&guest, "By the guest").code(0);
    sync(&guest, &laptop);
    sync(&desk, &laptop);
    for home in [&desk, &laptop, &guest] {
        assert_eq!(out(home), ["phone", "tablet"]);
        let shown = list(home);
        for title in ["By the tablet", "After", "By the guest"] {
            assert!(shown.contains(title), "{title}: {shown}");
        }
    }
}

#[test]
fn a_tablet_in_a_drawer_is_set_aside_and_is_back_by_itself() {
    let (first, drawer) = (Home::with_space("laptop"), Home::new("tablet"));
    pair_as(&first, &drawer, &["--role", "writer"]);
    let is_aside = || {
        let listed = first.run(["device", "list", SPACE, "--json"]).code(0).lines();
        let of = |label: &str| listed.iter().find(|line| line["device"]["label"] == label).cloned();
        of("tablet").unwrap()["set_aside"].as_bool().unwrap()
    };
    assert!(!is_aside());
    let quarantine = ["device", "quarantine", SPACE, "tablet"];
    first.run(quarantine).code(0).tells("until it is back");
    assert!(is_aside());
    first.run(["device", "list", SPACE]).code(0).tells("writer, set aside");
    first.run(["status"]).code(0).tells("set aside");
    first.run(quarantine).code(1).says("set aside already");
    first.run(["device", "quarantine", SPACE, "laptop"]).code(1).says("this device is here");
    first
        .run(["device", "quarantine", SPACE, "tablet", "--lift"])
        .code(0)
        .tells("waited for again");
    assert!(!is_aside());

    // Until it is back: then an entry of its own says that it has heard.
    first.run(quarantine).code(0);
    let (serving, address) = serve(&first);
    drawer.run(["sync", "--with", &address]).code(0);
    put(&drawer, "From the drawer").code(0);
    drawer.run(["sync", "--with", &address]).code(0);
    stop(serving);
    assert!(!is_aside());
    first.run(["search", SPACE, "drawer"]).code(0).tells("From the drawer");
}

#[test]
fn a_reader_is_told_that_it_may_not_write() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair_as(&first, &second, &["--role", "reader"]);
    let refused = put(&second, "No");
    assert!(refused.err.contains("reader") && refused.err.contains("owner"), "{}", refused.err);
    let role = first.run(["device", "role", SPACE, "tablet", "writer", "--json"]).code(0);
    assert_eq!(role.lines()[0]["event"], "role");
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    put(&second, "Yes").code(0);
    stop(serving);
    let alone = first.run(["device", "role", SPACE, "laptop", "reader"]);
    assert!(alone.err.contains("owner"), "{}", alone.err);
}

#[test]
fn what_is_erased_goes_from_every_device_and_each_says_so() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair_as(&first, &second, &[]);
    let put =
        first.run_with("{\"title\": \"Secret\"}", ["put", SPACE, "notes", "--file", "-", "--json"]);
    let id = put.code(0).event("put")["id"].as_str().unwrap().to_owned();
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    // Edited on the other device, which has not sent that yet.
    let edit = ["put", SPACE, "notes", &id, "--file", "-"];
    second.run_with("{\"title\": \"Secret of mine\"}", edit).code(0);

    first.run(["erase", SPACE, &id]).code(2).says("--for-ever");
    first.run(["erase", SPACE, "0123456789abcdef0123456789abcdef", "--for-ever"]).code(5);
    // Through the running `serve`.
    let erased = first.run(["erase", SPACE, &id, "--for-ever", "--json"]).code(0).event("erased");
    let stages = |erasure: &serde_json::Value| -> Vec<(String, String)> {
        let devices = erasure["devices"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut stages: Vec<_> =
            devices.map(|by| (text(&by["label"]), text(&by["stage"]))).collect();
        stages.sort();
        stages
    };
    let expected = |second: &str| {
        vec![("laptop".to_owned(), "done".to_owned()), ("tablet".to_owned(), second.to_owned())]
    };
    assert_eq!(stages(&erased["erasure"]), expected("not_heard"));
    let listed = first.run(["erasures", SPACE]).code(0);
    assert!(listed.out.contains("not known to have heard"), "{}", listed.out);
    // It hears of it, does it when it ends, and says so in the next.
    second.run(["sync", "--with", &address]).code(0);
    second.run(["sync", "--with", &address]).code(0);
    second.run(["sync", "--with", &address]).code(0);
    for home in [&first, &second] {
        home.run(["get", SPACE, &id]).code(5);
        let found = home.run(["search", SPACE, "Secret", "--json"]).code(0);
        assert!(!found.out.contains("Secret"), "{}", found.out);
    }
    let listed = second.run(["erasures", SPACE, "--json"]).code(0).lines();
    assert_eq!(stages(&listed[0])[1].1, "done");
    stop(serving);
    first.run(["check"]).code(0);
    second.run(["check"]).code(0);
}

/// The three words that are asked back, of those that were shown.
fn asked_back(kit: &serde_json::Value, asked: &serde_json::Value) -> String {
    let word = |number: &serde_json::Value| {
        let at = usize::try_from(number.as_u64().unwrap()).unwrap() - 1;
        kit["words"][at].as_str().unwrap().to_owned()
    };
    asked["numbers"].as_array().unwrap().iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Creates the space with a recovery kit. Gives its words.
pub(crate) fn with_kit(home: &Home) -> String {
    let mut creating = home.start_typing(["space", "create", SPACE, "--recovery"]);
    let kit = creating.event("recovery-kit");
    let asked = creating.event("type-back");
    creating.types(&asked_back(&kit, &asked));
    creating.finish().code(0);
    let words = kit["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn words_on_paper_give_a_space_back() {
    let (first, second) = (Home::new("laptop"), Home::new("tablet"));
    // Whoever does not type them back has no space.
    let mut creating = first.start_typing(["space", "create", SPACE, "--recovery"]);
    creating.event("recovery-kit");
    for _ in 0..3 {
        creating.event("type-back");
        creating.types("abandon abandon abandon");
    }
    creating.finish().code(9).says("no space was made");
    assert_eq!(first.run(["space", "list", "--json"]).code(0).lines().len(), 0);

    let words = with_kit(&first);
    // Nobody writes words down in vain.
    let taken = first.run(["space", "create", SPACE, "--recovery", "--json"]).says("already");
    assert!(taken.code != 0 && !taken.out.contains("recovery-kit"), "{}", taken.out);
    let absent = Home::empty().run(["space", "create", SPACE, "--recovery", "--json"]);
    assert!(absent.code != 0 && !absent.out.contains("recovery-kit"), "{}", absent.out);
    pair_as(&first, &second, &["--new-member", "--role", "writer"]);
    let digits = |home: &Home| home.run(["space", "fingerprint", SPACE]).code(0).out;
    assert_eq!(digits(&first), digits(&second));
    assert_eq!(digits(&first).split_whitespace().count(), 6);

    let recover = ["space", "recover", SPACE, "--lost", "laptop", "--json"];
    let swapped = words.replacen(' ', " zoo ", 1);
    second.run_with(&swapped, recover).code(1).says("words");
    second.run_with("", recover).code(1);
    // On several lines, as they stand on paper.
    let all: Vec<&str> = words.split(' ').collect();
    let lines: Vec<String> = all.chunks(6).map(|six| six.join(" ")).collect();
    let on_paper = lines.join("\n");
    let done = second.run_with(&on_paper, recover).code(0);
    assert_eq!(done.event("recovered")["space"], SPACE);
    let listed = second.run(["device", "list", SPACE, "--json"]).code(0).lines();
    let of = |label: &str| listed.iter().find(|line| line["device"]["label"] == label).unwrap();
    assert_eq!(of("tablet")["device"]["role"], "owner");
    assert_eq!(of("laptop")["shut_out"], true);
    assert_ne!(digits(&first), digits(&second));

    // The same kit for another space; and of a space without one, none.
    let more = ["space", "create", "personal:mine", "--recovery-of-words"];
    second.run_with(&words, more).code(0);
    second.run_with(&words, ["space", "recover", "personal:mine"]).code(0);
    second.run(["space", "create", "personal:other"]).code(0);
    second
        .run_with(&words, ["space", "recover", "personal:other"])
        .code(1)
        .says("without a recovery kit");
}

#[test]
fn what_happened_to_a_device_can_be_looked_at() {
    let (first, lost) = (Home::with_space("laptop"), Home::new("tablet"));
    assert!(!first.run(["status"]).code(0).out.contains("Security"));
    assert!(first.run(["security"]).code(0).out.contains("Nothing has happened yet"));
    pair_as(&first, &lost, &["--new-member", "--role", "writer"]);
    let (serving, address) = serve(&first);
    first.run(["device", "revoke", SPACE, "tablet"]).code(0);
    assert_ne!(lost.run(["sync", "--with", &address]).code, 0);
    let out = first.path("out");
    first.run(["export", SPACE, out.to_str().unwrap()]).code(0);
    let status = first.run(["status"]).code(0).out;
    assert!(status.contains("new events since") && status.contains("exported: documents"));
    // Through the running `serve`, as anything.
    let events = first.run(["security", "--json"]).code(0).lines();
    let of = |kind: &str| {
        let of_kind = events.iter().filter(|event| event["kind"] == kind);
        of_kind.cloned().collect::<Vec<_>>()
    };
    let revoked = of("revoked");
    assert_eq!((revoked.len(), &revoked[0]["label"]), (2, &"tablet".into()), "{events:?}");
    assert_eq!((of("enrolled").len(), of("exported").len()), (2, 1));
    // What a device can do again is an event, and a count.
    for kind in ["revoked", "enrolled", "session-refused"] {
        let lines: Vec<_> = of(kind).into_iter().map(|line| line["event"].clone()).collect();
        assert_eq!(lines, ["event", "count"], "{events:?}");
    }
    stop(serving);
    let table = first.run(["security", SPACE]).code(0).out;
    assert!(table.contains("tablet") && table.contains("revoked"), "{table}");
    let summary = first.run(["status", "--json"]).code(0).lines()[0]["security"].clone();
    assert_eq!((&summary["new"], &summary["damaged"]), (&0.into(), &serde_json::Value::Null));
    first.run(["security", "shared:none"]).code(5);
    let export = first.path("receipts");
    first.run(["receipts", SPACE, "--export", export.to_str().unwrap()]).code(0);
    let verified = first.run(["audit", "verify", export.to_str().unwrap()]).code(0).out;
    assert!(verified.contains("security log of device"), "{verified}");
}

/// A kitchen tablet shows what is for all. Cleared for more it gets the rest when it syncs, and
/// lets go of it when it is not any more.
#[test]
fn a_tablet_shows_what_it_is_cleared_for() {
    let (first, tablet) = (Home::with_space("laptop"), Home::new("tablet"));
    let terms = ["--new-member", "--role", "writer", "--clearance", "green"];
    pair_as(&first, &tablet, &terms);
    let put_in = |home: &Home, title: &str, band: &str| {
        let value = format!("{{\"title\": \"{title}\"}}");
        home.run_with(&value, ["put", SPACE, "notes", "--file", "-", "--band", band, "--json"])
    };
    put_in(&first, "Milk", "green").code(0);
    put_in(&first, "Bloodpressure", "amber").code(0);
    put_in(&first, "Testament", "red").code(0);
    let (serving, address) = serve(&first);
    let sync = || tablet.run(["sync", "--with", &address]).code(0);
    let shows = || {
        let listed = tablet.run(["list", SPACE, "--json", "--values"]).code(0).out;
        ["Milk", "Bloodpressure", "Testament"].map(|title| {
            let found = tablet.run(["search", SPACE, title, "--by", "words", "--json"]).code(0);
            assert_eq!(found.out.contains(title), listed.contains(title), "{}", found.out);
            listed.contains(title)
        })
    };
    sync();
    assert_eq!(shows(), [true, false, false]);
    let status = tablet.run(["status", "--json"]).code(0);
    assert!(status.out.contains("\"ready\""), "{}", status.out);
    let refused = put_in(&tablet, "Above", "amber");
    assert!(refused.code != 0 && refused.err.contains("AMBER"), "{}", refused.err);
    let clear = |band: &str| {
        let role = ["device", "role", SPACE, "tablet", "writer", "--clearance", band];
        let said = first.run(role).code(0);
        assert!(said.out.contains(&band.to_uppercase()), "{}", said.out);
        sync();
        sync();
    };
    clear("amber");
    assert_eq!(shows(), [true, true, false]);
    put_in(&tablet, "Pulse", "amber").code(0);
    sync();
    let listed = first.run(["list", SPACE, "--json"]).code(0);
    assert!(listed.out.contains("Pulse"), "{}", listed.out);
    clear("green");
    assert_eq!(shows(), [true, false, false]);
    clear("red");
    assert_eq!(shows(), [true, true, true]);
    stop(serving);
    first.run(["check"]).code(0);
    tablet.run(["check"]).code(0);
}

/// An owner sets what a new member's device may read, and its documents' band.
#[test]
fn a_policy_is_shown_set_and_gone_by() {
    let (first, tablet) = (Home::with_space("laptop"), Home::new("tablet"));
    let shown = |home: &Home| -> Vec<(String, String)> {
        let lines = home.run(["space", "policy", SPACE, "--json"]).code(0).lines();
        let text = |line: &serde_json::Value, key| line[key].as_str().unwrap().to_owned();
        lines.iter().map(|line| (text(line, "key"), text(line, "value"))).collect()
    };
    let of = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert!(shown(&first).contains(&of("clearance", "amber")));
    let set = ["invite=owners", "clearance=green", "band=amber", "trash=60"];
    let line = set.into_iter().flat_map(|set| ["--set", set]);
    first.run(["space", "policy", SPACE].into_iter().chain(line)).code(0);
    let all = shown(&first);
    for expected in [of("invite", "owners"), of("clearance", "green"), of("band", "amber")] {
        assert!(all.contains(&expected), "{all:?}");
    }
    assert!(all.contains(&of("trash", "60")), "{all:?}");
    first.run_with("{}", ["put", SPACE, "notes", "--file", "-"]).code(0);
    assert_eq!(first.run(["list", SPACE, "--json"]).code(0).lines()[0]["band"], "amber");
    pair_as(&first, &tablet, &["--new-member", "--role", "admin"]);
    let device = tablet.run(["device", "list", SPACE, "--json"]).code(0).out;
    assert!(device.contains("GREEN") || device.contains("green"), "{device}");
    assert_eq!(shown(&tablet), all);
    tablet.run(["invite", SPACE, "--new-member", "--role", "writer"]).code(1).says("owner");
    tablet
        .run(["space", "policy", SPACE, "--set", "invite=owners-and-admins"])
        .code(1)
        .says("owner");
    let personal = "personal:diary";
    first.run(["space", "create", personal]).code(0);
    first.run_with("{}", ["put", personal, "pages", "--file", "-"]).code(0);
    assert_eq!(first.run(["list", personal, "--json"]).code(0).lines()[0]["band"], "amber");
}

/// What an owner sets of personal data holds on the tablet as well, and an import tells what it
/// leaves out instead of ending at it.
#[test]
fn a_contract_is_shown_set_and_gone_by() {
    let (first, tablet) = (Home::with_space("laptop"), Home::new("tablet"));
    let shown = |home: &Home| -> Vec<String> {
        let lines = home.run(["contract", SPACE, "--json"]).code(0).lines();
        lines.iter().map(|line| format!("{}={}", line["kind"], line["action"])).collect()
    };
    first.run(["contract", SPACE]).code(0).says("Nothing is set");
    let set = ["--set", "health=amber", "--set", "credentials=refuse", "--set", "contact=warn"];
    first.run(["contract", SPACE].into_iter().chain(set)).code(0);
    first.run(["contract", SPACE, "--collection", "vault", "--set", "credentials=red"]).code(0);
    first.run(["contract", SPACE, "--remove", "contact"]).code(0);
    let expected = [r#""health"="amber""#, r#""credentials"="refuse""#, r#""credentials"="red""#];
    assert_eq!(shown(&first), expected);
    let table = first.run(["contract", SPACE]).code(0).out;
    assert!(table.contains("(all others)") && table.contains("vault"), "{table}");
    for wrong in ["health=green", "health", "age=warn", "health="] {
        first.run(["contract", SPACE, "--set", wrong]).code(2);
    }

    pair_as(&first, &tablet, &["--new-member", "--role", "writer", "--clearance", "green"]);
    assert_eq!(shown(&tablet), expected);
    tablet.run(["contract", SPACE, "--remove", "health"]).code(1).says("owner");
    let ill = r#"{"title": "Ella", "body": "has tonsillitis again"}"#;
    let put = ["put", SPACE, "notes", "--file", "-"];
    tablet.run_with(ill, put).code(1).says("AMBER");
    first.run_with(ill, put).code(0);
    assert_eq!(first.run(["list", SPACE, "--json"]).code(0).lines()[0]["band"], "amber");

    let folder = first.path("notes");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in [
        ("a.md", "Milk\n"),
        ("b.md", "password: tr0ub4dor&3\n"),
        ("c.md", "Ella has tonsillitis\n"),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let import = ["import", SPACE, folder.to_str().unwrap(), "--json"];
    let ran = first.run(import).code(6);
    let lines = ran.lines();
    let skipped: Vec<_> = lines.iter().filter(|line| line["event"] == "skipped").collect();
    assert_eq!((skipped.len(), &skipped[0]["path"]), (1, &"b.md".into()), "{skipped:?}");
    assert!(!ran.out.contains("tr0ub4dor"), "{}", ran.out);
    assert_eq!(
        (&ran.event("imported")["created"], ran.event("imported")["skipped"].as_u64()),
        (&2.into(), Some(1))
    );
}

/// Files that are imported as AMBER come to no device that is cleared for GREEN: nor do those that
/// were imported before as GREEN get what stands in them now.
#[test]
fn a_folder_is_imported_into_a_band() {
    let home = Home::with_space("laptop");
    let folder = home.path("notes");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.md"), "Milk\n").unwrap();
    let import = |more: &[&str]| {
        home.run(["import", SPACE, folder.to_str().unwrap(), "--json"].iter().chain(more))
    };
    import(&[]).code(0);
    std::fs::write(folder.join("a.md"), "Milk, and a secret\n").unwrap();
    std::fs::write(folder.join("b.md"), "Pulse\n").unwrap();
    std::fs::write(folder.join("c.png"), "a picture").unwrap();
    let done = import(&["--band", "amber"]).code(6);
    let skipped = done.event("skipped");
    assert_eq!(skipped["path"], "a.md");
    assert!(skipped["message"].as_str().unwrap().contains("GREEN"), "{skipped}");
    assert_eq!(done.event("imported")["created"], 2);
    let bands = || -> Vec<String> {
        let listed = home.run(["list", SPACE, "--json", "--values"]).code(0).lines();
        let band = |line: &serde_json::Value| {
            format!("{} {}", line["value"]["path"], line["band"]).replace('"', "")
        };
        listed.iter().map(band).collect()
    };
    assert_eq!(bands(), ["a.md green", "b.md amber", "c.png amber"]);
    let listed = home.run(["list", SPACE, "--json", "--values"]).code(0).out;
    assert!(!listed.contains("a secret"), "{listed}");
    let blobs = home.run(["blob", "list", SPACE, "--json"]).code(0).out;
    assert!(blobs.contains("amber"), "{blobs}");
    // What is in a higher band stays there, edited.
    std::fs::write(folder.join("b.md"), "Pulse 70\n").unwrap();
    let done = import(&["--band", "green"]).code(0).event("imported");
    assert_eq!((&done["changed"], &done["unchanged"]), (&2.into(), &1.into()), "{done}");
    assert_eq!(bands(), ["a.md green", "b.md amber", "c.png amber"]);
    // As ever without it.
    let done = import(&[]).code(0).event("imported");
    assert_eq!(done["unchanged"], 3);
}

/// The kitchen's laptop serves its profile to whoever sits there: what is above GREEN is not there
/// for them, whatever they ask for.
#[test]
fn a_profile_shows_less_than_its_device_may_read() {
    let home = Home::with_space("laptop");
    let put = |title: &str, band: &str| {
        let json = format!("{{\"title\": \"{title}\", \"path\": \"{title}\"}}");
        let ran = home.run_with(&json, ["put", SPACE, "files", "--file", "-", "--band", band]);
        ran.code(0);
    };
    put("Milk", "green");
    put("Pulse", "amber");
    let green = |line: &[&str]| home.run(line.iter().chain(&["--show-up-to", "green"]));
    let checks = |run: &dyn Fn(&[&str]) -> crate::home::Ran| {
        let listed = run(&["list", SPACE, "--json", "--values"]).code(0).out;
        assert!(listed.contains("Milk") && !listed.contains("Pulse"), "{listed}");
        let found = run(&["search", SPACE, "Pulse", "--json"]).code(0).out;
        assert!(!found.contains("Pulse"), "{found}");
        let hidden = run(&["get", SPACE, "Pulse"]).code(5).err.replace("Pulse", "X");
        assert_eq!(hidden, run(&["get", SPACE, "Nowhere"]).code(5).err.replace("Nowhere", "X"));
        for line in [
            &["status"][..],
            &["security"],
            &["contract", SPACE],
            &["space", "list"],
            &["invite", SPACE],
            &["erase", SPACE, "Milk", "--for-ever"],
        ] {
            run(line).code(1).says("--show-up-to");
        }
        run(&["receipts", SPACE, "--export", "out"]).code(1).says("GREEN");
        run(&["receipts", SPACE]).code(0);
    };
    checks(&green);
    assert!(home.run(["list", SPACE]).code(0).out.contains("Pulse"));

    let mut serving =
        home.start(["serve", "--listen", "127.0.0.1:0", "--no-discovery", "--show-up-to", "green"]);
    serving.event("listening");
    let through = |line: &[&str]| home.run(line);
    checks(&through);
    // Nobody gets more by asking for it.
    let more = |line: &[&str]| home.run(line.iter().chain(&["--show-up-to", "red"]));
    checks(&more);
    let refused = home.run_with("{}", ["put", SPACE, "files", "--file", "-", "--band", "amber"]);
    refused.code(1).says("GREEN");
    home.run_with("{\"title\": \"Eggs\"}", ["put", SPACE, "files", "--file", "-"]).code(0);
    stop(serving);
    assert!(home.run(["list", SPACE]).code(0).out.contains("Pulse"));
}
