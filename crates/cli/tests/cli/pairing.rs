//! Two screens, one code, and a person who says yes.

#[cfg(unix)]
use std::fs::File;
#[cfg(unix)]
use std::io::{BufRead, BufReader, Read, Write};
#[cfg(unix)]
use std::process::Stdio;

use crate::home::{Home, Running, SPACE};
use crate::household::{pair, serve, stop};

/// An invitation that is open, and its text.
fn invite(home: &Home, more: &[&str]) -> (Running, String) {
    let mut inviting = home.start_typing([&["invite", SPACE], more].concat());
    let text = inviting.event("invitation")["text"].as_str().unwrap().to_owned();
    (inviting, text)
}

const HERE: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn a_device_is_let_in_by_the_code_that_it_shows() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let (mut inviting, text) = invite(&first, &HERE);
    let mut joining = second.start(["join", &text]);
    let shown = joining.event("check-code")["check_code"].as_str().unwrap().to_owned();
    let request = inviting.event("request");
    assert_eq!(
        (&request["check_code"], &request["label"]),
        (&shown.clone().into(), &"tablet".into())
    );
    inviting.types(&shown.replace(' ', ""));
    assert_eq!(joining.event("joined")["space"], SPACE);
    joining.finish().code(0);
    assert_eq!(inviting.event("joined")["label"], "tablet");
    inviting.finish().code(0);
}

/// A program that says yes to everything has compared nothing: only the code counts.
#[test]
fn another_code_or_a_yes_of_a_program_lets_nobody_in() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let (mut inviting, text) = invite(&first, &HERE);
    for answer in ["y", "", "000 00"] {
        let mut joining = second.start(["join", &text]);
        inviting.event("request");
        inviting.types(answer);
        inviting.event("refused");
        joining.event("check-code");
        joining.finish().code(9).says("did not approve");
    }
    // It is burned.
    inviting.finish().code(9).says("too often");
    assert_eq!(second.run(["space", "list", "--json"]).code(0).lines().len(), 0);
    let listed = first.run(["device", "list", SPACE, "--json"]).code(0).lines();
    assert_eq!(listed.len(), 1, "{listed:?}");
    // And a new one works, with the keys of the tries before.
    let (mut inviting, text) = invite(&first, &HERE);
    let mut joining = second.start(["join", &text]);
    let shown = joining.event("check-code")["check_code"].as_str().unwrap().to_owned();
    inviting.event("request");
    inviting.types(&shown);
    joining.finish().code(0);
    inviting.finish().code(0);
}

#[cfg(unix)]
/// What an inviter that talks to people has said on stderr until now, and `text`.
fn read_until(errors: &mut impl Read, text: &str) -> String {
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(text.as_bytes()) {
        assert_eq!(errors.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    String::from_utf8(said).unwrap()
}

/// `yes | larder invite` said yes to whoever came: a yes counts on a keyboard only, and only after
/// the question.
#[cfg(unix)]
#[test]
fn a_yes_is_a_persons_who_has_seen_the_question() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    for is_served in [false, true] {
        let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
        let serving = is_served.then(|| serve(&first).0);
        let start = |stdin: Stdio| {
            let place = if is_served { &[][..] } else { &HERE };
            let mut command = first.command([&["invite", SPACE], place].concat());
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut text = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut text).unwrap();
            (child, text.trim().to_owned())
        };

        let (mut inviting, text) = start(Stdio::piped());
        inviting.stdin.as_mut().unwrap().write_all(b"y\nyes\nY\n").unwrap();
        second.run(["join", &text]).code(9).says("did not approve");
        let said = read_until(inviting.stderr.as_mut().unwrap(), "It called itself: tablet");
        assert!(said.contains("\nCheck code: "), "{said}");
        inviting.kill().unwrap();
        inviting.wait().unwrap();

        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let mut keyboard = File::from(keyboard);
        let stdin = File::options().read(true).write(true).open(name).unwrap();
        let (mut inviting, text) = start(stdin.into());
        keyboard.write_all(b"y\n").unwrap();
        let mut joining = second.start(["join", &text]);
        joining.event("check-code");
        let errors = inviting.stderr.as_mut().unwrap();
        read_until(errors, "It calls itself: tablet");
        keyboard.write_all(b"n\n").unwrap();
        // The yes of before it would have been taken first.
        read_until(errors, "Not let in");
        joining.finish().code(9);
        let joining = second.start(["join", &text]);
        read_until(errors, "It calls itself: tablet");
        keyboard.write_all(b"y\n").unwrap();
        joining.finish().code(0);
        assert!(inviting.wait().unwrap().success());
        if let Some(serving) = serving {
            stop(serving);
        }
    }
}

#[test]
fn nobody_at_the_keyboard_lets_nobody_in() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let mut inviting = first.start([&["invite", SPACE], HERE.as_slice()].concat());
    let text = inviting.event("invitation")["text"].as_str().unwrap().to_owned();
    second.run(["join", &text]).code(9);
    inviting.event("refused");
    inviting.interrupt();
    inviting.finish().code(130);
}

#[test]
fn a_code_is_typed_while_the_inviter_serves() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let (serving, _) = serve(&first);
    let (mut inviting, text) = invite(&first, &[]);
    let mut joining = second.start(["join", &text]);
    let shown = joining.event("check-code")["check_code"].as_str().unwrap().to_owned();
    inviting.event("request");
    inviting.types(&shown);
    joining.finish().code(0);
    inviting.finish().code(0);
    stop(serving);
}

/// When one of the two processes is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    /// Both show the code, and nobody has said anything yet.
    Shown,
    /// Right after somebody said yes: the enrolment is being written, or the welcome is on its way.
    Approving,
    /// The inviter has said that the device is in.
    Joined,
}

/// Whichever is killed, and when: another invitation brings the device in if it is not, and the
/// roster has nobody besides.
#[test]
fn a_kill_at_any_step_leaves_no_half_member() {
    for moment in [Moment::Shown, Moment::Approving, Moment::Joined] {
        for of_inviter in [true, false] {
            let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
            let (mut inviting, text) = invite(&first, &HERE);
            let mut joining = second.start(["join", &text]);
            let shown = joining.event("check-code")["check_code"].as_str().unwrap().to_owned();
            inviting.event("request");
            if moment != Moment::Shown {
                inviting.types(&shown);
            }
            if moment == Moment::Joined {
                inviting.event("joined");
            }
            // The other one is given no time to get over it.
            if of_inviter {
                inviting.kill();
                drop(joining);
            } else {
                joining.kill();
                drop(inviting);
            }
            if second.run(["space", "list", "--json"]).code(0).lines().is_empty() {
                pair(&first, &second);
            }
            let (serving, address) = serve(&first);
            second.run(["sync", "--with", &address]).code(0);
            stop(serving);
            for home in [&first, &second] {
                let listed = home.run(["device", "list", SPACE, "--json"]).code(0).lines();
                assert_eq!(listed.len(), 2, "{moment:?}, of the inviter: {of_inviter}: {listed:?}");
                home.run(["check"]).code(0);
            }
        }
    }
}

#[test]
fn a_device_joins_by_eight_digits_at_an_address() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let mut inviting = first.start_typing([&["invite", SPACE, "--code"], HERE.as_slice()].concat());
    let invitation = inviting.event("invitation");
    let [code, address] = ["text", "address"].map(|key| invitation[key].as_str().unwrap());
    second.run(["join", "--code", "1234-567", address]).code(9).says("eight digits");
    second.run(["join", "--code", code, "somewhere"]).code(2).says("192.0.2.7");
    let mut joining = second.start(["join", "--code", code, address]);
    let shown = joining.event("check-code")["check_code"].as_str().unwrap().to_owned();
    inviting.event("request");
    inviting.types(&shown);
    joining.finish().code(0);
    inviting.finish().code(0);
}

#[test]
fn an_invitation_is_shown_as_a_picture_and_nobody_elses_to_read() {
    let home = Home::with_space("laptop");
    let file = home.path("invitation.png");
    let picture = ["--qr-png", file.to_str().unwrap()];
    let (inviting, _) = invite(&home, &[HERE, picture].concat());
    let image = std::fs::read(&file).unwrap();
    assert!(image.starts_with(b"\x89PNG"), "{} bytes", image.len());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(inviting);
    // It takes the place of nothing.
    home.run([&["invite", SPACE, "--json"], &HERE[..], &picture[..]].concat())
        .code(1)
        .says("cannot write");
}
