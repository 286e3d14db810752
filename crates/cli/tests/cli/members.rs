//! Roles, and a device that is lost.

use crate::home::{Home, SPACE};
use crate::household::{serve, stop};

/// Invites with these further arguments, and joins.
fn pair_as(first: &Home, second: &Home, more: &[&str]) {
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
