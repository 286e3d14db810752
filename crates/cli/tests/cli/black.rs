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
