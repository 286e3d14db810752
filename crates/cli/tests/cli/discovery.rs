//! Two processes on a network of their own, who know each other but not where the other is.
//!
//! Needs the right to make network namespaces: as another user than root it says so and checks
//! nothing. What can be checked without a network is in `crates/transport/src/discovery.rs`.

use std::process::Command;

use crate::home::{Home, Running, SPACE};

/// Two network namespaces with a cable between them; gone when dropped.
struct Network {
    names: [String; 2],
}

const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).output().is_ok_and(|ran| ran.status.success())
}

impl Network {
    /// None: this process may not, or there is no `ip`.
    fn make() -> Option<Self> {
        let names = ["a", "b"].map(|end| format!("larder-{}-{end}", std::process::id()));
        if !ip(&format!("netns add {}", names[0])) {
            return None;
        }
        let network = Self { names };
        let [a, b] = &network.names;
        assert!(ip(&format!("netns add {b}")));
        assert!(ip(&format!("-n {a} link add cable type veth peer name cable netns {b}")));
        for (name, address) in network.names.iter().zip(ADDRESSES) {
            for rest in [
                format!("addr add {address}/24 dev cable"),
                "link set cable up".to_owned(),
                "link set lo up".to_owned(),
                "route add default dev cable".to_owned(),
            ] {
                assert!(ip(&format!("-n {name} {rest}")), "{rest}");
            }
        }
        Some(network)
    }

    /// A process of this home at one end.
    fn start(&self, end: usize, home: &Home, args: &[&str]) -> Running {
        let name = &self.names[end];
        home.start_under(&["ip", "netns", "exec", name], args)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&format!("netns del {name}"));
        }
    }
}

#[test]
fn devices_that_know_each_other_meet_on_a_local_network() {
    let Some(network) = Network::make() else {
        eprintln!("NOT CHECKED: no network namespaces for this user");
        return;
    };
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let mut inviting =
        network.start(0, &first, &["invite", SPACE, "--unattended", "--listen", "10.77.0.1:4001"]);
    let invitation = inviting.event("invitation");
    let mut joining = network.start(1, &second, &["join", invitation["text"].as_str().unwrap()]);
    joining.event("joined");
    joining.finish().code(0);
    inviting.finish().code(0);

    // A third one finds the inviter by itself, and brings eight digits.
    let third = Home::new("phone");
    let mut inviting = network.start(
        0,
        &first,
        &["invite", SPACE, "--code", "--unattended", "--listen", "10.77.0.1:4005"],
    );
    let invitation = inviting.event("invitation");
    let code = invitation["text"].as_str().unwrap();
    let mut joining = network.start(1, &third, &["join", "--code", code]);
    assert_eq!(joining.event("joined")["space"], SPACE);
    joining.finish().code(0);
    inviting.finish().code(0);

    // Where neither was before: on one interface, and on all.
    let mut serving = network.start(0, &first, &["serve", "--listen", "10.77.0.1:4002"]);
    serving.event("listening");
    let mut serving_second = network.start(1, &second, &["serve", "--listen", "0.0.0.0:4003"]);
    serving.event("peer-connected");
    serving_second.event("peer-connected");
    first.run_with("{\"title\": \"Milk\"}", ["put", SPACE, "notes", "--file", "-"]).code(0);
    serving_second.event("received");
    let status = second.run(["status", "--json"]).code(0).lines();
    let at = status[0]["peers"][0]["addresses"].to_string();
    assert!(at.contains("10.77.0.1:4002"), "{at}");
    for serving in [serving, serving_second] {
        serving.interrupt();
        serving.finish().code(0);
    }
}
