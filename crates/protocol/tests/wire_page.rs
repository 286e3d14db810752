//! `docs/format/wire.md` says what the code does.
#![allow(clippy::unwrap_used, reason = "tests")]

use larder_crypto::Secret;
use larder_protocol::pairing::{LABEL_BYTES_MAX, PAIRING_BYTES_MAX, PAIRING_EXPORTER, Refusal};
use larder_protocol::{
    ADDRESSES_MAX, EPOCHS_MAX, Frame, GREETING_BYTES_MAX, GREETING_EXPORTER, Invitation, TAG_BYTES,
    VERSIONS,
};
use larder_types::{CloseCode, Timestamp, TransportId};

const PAGE: &str = include_str!("../../../docs/format/wire.md");

#[test]
fn the_table_of_close_codes_is_complete() {
    let (_, rest) = PAGE.split_once("## Close codes").unwrap();
    let (table, _) = rest.split_once("\n## ").unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.contains('`')).collect();
    let expected: Vec<_> = CloseCode::ALL
        .iter()
        .map(|code| format!("| {} | `{code:?}` | {code} |", code.to_wire()))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_table_of_refusals_is_complete() {
    let (_, table) = PAGE.split_once("| refusal |").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).count();
    let known = (0..100).filter(|n| !matches!(Refusal::from_wire(*n), Refusal::Other(_))).count();
    assert_eq!(rows, known);
}

#[test]
fn kinds_labels_and_bounds_are_as_drawn() {
    let caught_up = Frame::CaughtUp.encode();
    let close = Frame::Close { code: CloseCode::Malformed, message: "x".to_owned() }.encode();
    assert_eq!((caught_up, close), (vec![4], vec![5, 0x82, 18, 0x61, b'x']));
    for text in [
        format!("label \"{GREETING_EXPORTER}\""),
        format!("label \"{PAIRING_EXPORTER}\""),
        format!("Versions of this page: {}.", VERSIONS.last().unwrap()),
        format!("at most {EPOCHS_MAX}: sections"),
        format!("[address, …≤{ADDRESSES_MAX}]"),
        format!("one frame of at most {} KiB and", GREETING_BYTES_MAX >> 10),
        format!("connector's tag: {TAG_BYTES} bytes"),
        format!("each of at most {} KiB", PAIRING_BYTES_MAX >> 10),
    ] {
        assert!(PAGE.contains(&text), "{text}");
    }
    assert_eq!(LABEL_BYTES_MAX, larder_types::limits::NAME_BYTES_MAX);
}

#[test]
fn the_invitation_shown_is_one() {
    let invitation = Invitation {
        inviter: TransportId::new([7; 32]),
        addresses: vec!["192.168.1.20:4711".parse().unwrap()],
        secret: Secret::new([9; 16]),
        expires: Timestamp(1_800_000_000_000),
    };
    let text = invitation.to_string();
    assert!(PAGE.lines().any(|line| line == text), "{text}");
}
