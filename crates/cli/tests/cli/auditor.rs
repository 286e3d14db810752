//! Somebody who checks that nothing was taken back, and is to read nothing.

use crate::home::{Home, SPACE};
use crate::household::{serve, stop};
use crate::members::pair_as;

const AUDITOR: [&str; 3] = ["--new-member", "--role", "auditor"];
const REFUSED: &str = "it holds receipts, not content";

fn put(home: &Home, title: &str) -> crate::home::Ran {
    home.run_with(&format!("{{\"title\": \"{title}\"}}"), ["put", SPACE, "notes", "--file", "-"])
}

#[test]
fn an_auditor_has_every_receipt_and_nothing_else() {
    let (first, auditor) = (Home::with_space("laptop"), Home::new("bookkeeper"));
    put(&first, "Zqcanary").code(0);
    let photo = first.file("photo.png", b"zqpicture");
    first.run(["blob", "add", SPACE, photo.to_str().unwrap()]).code(0);
    let refused = [&["invite", SPACE, "--clearance", "red"][..], &AUDITOR].concat();
    first.run(refused).code(2).says("reads nothing");
    pair_as(&first, &auditor, &AUDITOR);
    put(&first, "Zqcanary again").code(0);
    let (serving, address) = serve(&first);
    auditor.run(["sync", "--with", &address]).code(0);
    stop(serving);

    let receipts = |home: &Home| home.run(["receipts", SPACE, "--json"]).code(0).lines();
    let entries = |home: &Home| {
        let of = receipts(home).into_iter();
        of.map(|line| (line["device"].clone(), line["entry"].clone())).collect::<Vec<_>>()
    };
    assert!(entries(&first).len() >= 5);
    assert_eq!(entries(&auditor), entries(&first));
    let verdicts = [&first, &auditor].map(|home| {
        let out = home.path("export");
        let out = out.to_str().unwrap();
        home.run(["receipts", SPACE, "--export", out]).code(0).tells("without any content");
        let verdict = home.run(["audit", "verify", out, "--json"]).code(0).lines().remove(0);
        let logs = verdict["logs"].as_array().unwrap().iter();
        logs.map(|log| (log["device"].clone(), log["root"].clone())).collect::<Vec<_>>()
    });
    assert!(!verdicts[0].is_empty());
    assert_eq!(verdicts[0], verdicts[1]);

    auditor.run(["check"]).code(0).tells("whole");
    auditor.run(["status"]).code(0).tells(REFUSED);
    let status = auditor.run(["status", "--json"]).code(0).lines().remove(0);
    let space = &status["spaces"][0];
    assert_eq!(space["state"]["reasons"][0]["reason"], "auditor", "{space}");
    assert_eq!((&space["documents"], &space["lacking"]), (&0.into(), &0.into()));
    for home in [&first, &auditor] {
        home.run(["device", "list", SPACE]).code(0).tells("receipts only");
    }
    first.run(["status"]).code(0).tells("receipts");
    first.run(["device", "role", SPACE, "bookkeeper", "reader"]).code(1).says("anew");

    let before = Home::files(&auditor.profile());
    for line in [
        &["list", SPACE][..],
        &["get", SPACE, "Zqcanary"],
        &["search", SPACE, "Zqcanary"],
        &["trash", SPACE],
        &["export", SPACE, "out"],
        &["blob", "list", SPACE],
        &["blob", "add", SPACE, photo.to_str().unwrap()],
    ] {
        let ran = auditor.run(line).code(1).says(REFUSED);
        assert!(!ran.out.contains("Zqcanary"), "{}", ran.out);
    }
    put(&auditor, "By the bookkeeper").code(1).says(REFUSED);
    let black = ["put", SPACE, "notes", "--file", "-", "--band", "black"];
    auditor.run_with("{\"title\": \"Here alone\"}", black).code(1).says(REFUSED);
    assert_eq!(entries(&auditor), entries(&first), "nothing was written");
    let names = |files: &[(String, Vec<u8>)]| {
        files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&Home::files(&auditor.profile())), names(&before), "no file was made");

    first.run(["device", "revoke", SPACE, "bookkeeper"]).code(0);
    assert_eq!(auditor.run(["receipts", SPACE]).code, 0, "what it has stays");
}
