//! A small export is verified; the same export with anything changed is refuted, by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../../log/tests/fixture/mod.rs"]
mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::{Device, Space};
use larder_audit::format::{AckLine, ExportWriter, LogWriter, SectionLine, disclose_by_default};
use larder_audit::{AuditError, verify};
use larder_log::ack::Ack;
use larder_log::act::EpochReason;
use larder_log::checkpoint::Checkpoint;
use larder_log::epoch::{open_epoch_act, receive_epoch};
use larder_log::{Address, Band, Class, Entry, EntryBuilder, Opened, open_section};
use larder_types::{EpochId, Timestamp};
use tempfile::TempDir;

const EXPORTED_AT: Timestamp = Timestamp(1_700_000_999_000);

/// Three entries of the founder, three of the second device; the last entry of the founder names
/// the second's. Each acknowledges the other's log.
fn household() -> Space {
    let mut space = Space::new(1);
    space.second_writes(b"third note");
    let dep = space.second.last();
    space.second_writes(b"fourth note");
    let (device, seq) = (space.founder.id(), space.founder.next_seq());
    let mut builder = EntryBuilder::new(space.id, device, seq, space.epoch, 0).deps(vec![dep]);
    space.push_data(&mut builder, b"fifth note");
    space.founder.append(builder.finish().unwrap());
    space
}

/// Opens a section as any device of the space can.
fn open(space: &Space, entry: &Entry, index: u32) -> Opened {
    let at = usize::try_from(index).unwrap();
    let header = &entry.header;
    let address = Address {
        space: header.space,
        device: header.device,
        seq: header.seq,
        index,
        epoch: header.epoch,
        step: header.step,
        band: Band::Green,
    };
    let commitment = &entry.commitments[at];
    if commitment.class == Class::Control as u8 {
        let secret = space.control.section_secret();
        return open_section(&address, &secret, commitment, &entry.sealed[at]).unwrap();
    }
    let secrets = space
        .acts()
        .into_iter()
        .filter(|(header, ..)| EpochId::from(header.hash()) == address.epoch)
        .find_map(|(header, _, act)| {
            let larder_log::act::Act::Epoch(act) = act else { return None };
            let key = &space.founder.sealing;
            receive_epoch(&header.space, header.device, &act, space.founder.id(), key).unwrap()
        })
        .unwrap();
    let secret = secrets.at(Band::Green, address.step).unwrap();
    open_section(&address, secret.secret(), commitment, &entry.sealed[at]).unwrap()
}

fn write_entries(space: &Space, device: &Device, log: &mut LogWriter) {
    for entry in &device.entries {
        let lines: Vec<SectionLine> = (0..entry.header.n)
            .map(|index| {
                let disclosure = disclose_by_default(&open(space, entry, index));
                let commitment = &entry.commitments[usize::try_from(index).unwrap()];
                SectionLine::new(entry.header.seq, index, commitment, Some(&disclosure))
            })
            .collect();
        log.entry(&device.receipt(space.id, entry.header.seq), &lines).unwrap();
    }
}

fn ack(space: &Space, of: &Device, size: u64, by: &Device) -> AckLine {
    let mut root = larder_log::merkle::Frontier::new();
    for entry in &of.entries[..usize::try_from(size).unwrap()] {
        root.append(entry.hash.into(), &mut |_| {});
    }
    let held = Checkpoint { space: space.id, device: of.id(), size, root: root.root() };
    AckLine::new(&Ack::sign(&held, by.id(), &by.ack, 1_700_000_555), &by.ack.public())
}

fn export(space: &Space, root: &Path) {
    let mut writer =
        ExportWriter::create(root, &space.id, &space.founder.id(), EXPORTED_AT).unwrap();
    for (device, other) in [(&space.founder, &space.second), (&space.second, &space.founder)] {
        let mut log = writer.log(&device.id()).unwrap();
        write_entries(space, device, &mut log);
        let checkpoint = device.checkpoint(space.id);
        let acks = [ack(space, device, 2, other), ack(space, device, checkpoint.size, other)];
        log.finish(&checkpoint, &checkpoint.sign(&device.signing), &acks).unwrap();
    }
    writer.finish().unwrap();
}

fn exported() -> (Space, TempDir) {
    let space = household();
    let dir = TempDir::new().unwrap();
    export(&space, dir.path());
    (space, dir)
}

fn log_dir(root: &Path, device: &Device) -> PathBuf {
    root.join("logs").join(device.id().to_string())
}

/// Every file under `root`, relative to it.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn refuted(root: &Path) -> String {
    match verify(root) {
        Ok(_) => panic!("verified though it was changed"),
        Err(AuditError::Refuted { file, line, reason }) => {
            format!("{}:{line:?}: {reason}", file.display())
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_honest_export_is_verified_and_says_what_it_shows() {
    let (space, dir) = exported();
    let verdict = verify(dir.path()).unwrap();
    assert!(verdict.verified);
    assert_eq!(verdict.name, "shared:household");
    assert_eq!(verdict.space, space.id.to_string());
    assert_eq!(verdict.logs.len(), 2);
    for (device, entries, label) in [(&space.founder, 4, "first"), (&space.second, 3, "second")] {
        let id = device.id().to_string();
        let log = verdict.logs.iter().find(|log| log.device == id).unwrap();
        assert_eq!((log.entries, log.label.as_str()), (entries, label));
        assert_eq!(log.founder, label == "first");
        assert_eq!(log.acknowledgements.len(), 2);
        assert_eq!(log.acknowledgements[1].entries, entries);
        assert_eq!(log.sections_undisclosed, 0);
        assert_eq!(log.clock_ms_claim, Some((1_700_000_000_000, 1_700_000_000_000)));
    }
    let founder = verdict.logs.iter().find(|log| log.founder).unwrap();
    assert_eq!(founder.kinds["space founded"], 1);
    assert_eq!(founder.kinds["epoch opened"], 2);
    assert_eq!(founder.kinds["document created"], 2);
    assert_eq!(founder.hidden_fields["actor"], 4, "shown in genesis and enrolment alone");
    assert_eq!(founder.bodies, 2);
    let text = verdict.to_string();
    assert!(text.contains("later entries"), "{text}");
    assert!(text.contains("claims"), "{text}");
}

#[test]
fn sections_may_stay_undisclosed() {
    let space = household();
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let mut writer =
        ExportWriter::create(root, &space.id, &space.founder.id(), EXPORTED_AT).unwrap();
    for device in [&space.founder, &space.second] {
        let mut log = writer.log(&device.id()).unwrap();
        for entry in &device.entries {
            let lines: Vec<SectionLine> = (0..entry.header.n)
                .map(|index| {
                    let commitment = &entry.commitments[usize::try_from(index).unwrap()];
                    let control = commitment.class == Class::Control as u8;
                    let shown = control.then(|| disclose_by_default(&open(&space, entry, index)));
                    SectionLine::new(entry.header.seq, index, commitment, shown.as_ref())
                })
                .collect();
            log.entry(&device.receipt(space.id, entry.header.seq), &lines).unwrap();
        }
        let checkpoint = device.checkpoint(space.id);
        log.finish(&checkpoint, &checkpoint.sign(&device.signing), &[]).unwrap();
    }
    writer.finish().unwrap();
    let verdict = verify(root).unwrap();
    let hidden: u64 = verdict.logs.iter().map(|log| log.sections_undisclosed).sum();
    assert_eq!(hidden, 5);
}

/// A claim that nothing signs can be changed by anyone, and is shown as a claim.
fn is_in_an_unsigned_claim(file: &Path, text: &[u8], at: usize) -> bool {
    if file != Path::new("export.json") {
        return false;
    }
    let text = String::from_utf8(text.to_vec()).unwrap();
    let digits = text.find("1700000999000").unwrap();
    (digits..digits + 13).contains(&at)
}

#[test]
fn every_file_with_any_byte_flipped_is_refuted_and_named() {
    let (_, dir) = exported();
    let root = dir.path();
    let all = files(root);
    assert_eq!(all.len(), 1 + 2 * 4 + 7);
    for file in all {
        let path = root.join(&file);
        let good = fs::read(&path).unwrap();
        // Every byte of short files; of long ones enough to meet each part of each line.
        let stride = if good.len() > 2048 { 41 } else { 5 };
        for at in (0..good.len()).step_by(stride).chain([good.len() - 1]) {
            if is_in_an_unsigned_claim(&file, &good, at) {
                continue;
            }
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 7);
            fs::write(&path, &bad).unwrap();
            let message = refuted(root);
            let named = message.contains(file.file_name().unwrap().to_str().unwrap())
                || file == Path::new("export.json");
            assert!(named, "byte {at} of {}: {message}", file.display());
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(verify(root).is_ok(), "as it was before");
}

#[test]
fn a_missing_or_added_file_is_refuted() {
    let (space, dir) = exported();
    let root = dir.path();
    for file in files(root).into_iter().filter(|file| file != Path::new("export.json")) {
        let path = root.join(&file);
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let message = refuted(root);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(message.contains(name) || message.contains("is not here"), "{message}");
        fs::write(&path, good).unwrap();
    }
    let added = log_dir(root, &space.second).join("4.tlog-proof");
    fs::copy(log_dir(root, &space.second).join("3.tlog-proof"), &added).unwrap();
    assert!(refuted(root).contains("belong to no entry"));
}

#[test]
fn swapped_receipts_are_refuted() {
    let (space, dir) = exported();
    let (first, second) = (
        log_dir(dir.path(), &space.second).join("1.tlog-proof"),
        log_dir(dir.path(), &space.second).join("2.tlog-proof"),
    );
    let (one, two) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
    fs::write(&first, two).unwrap();
    fs::write(&second, one).unwrap();
    assert!(refuted(dir.path()).contains("tlog-proof"));
}

#[test]
fn a_log_cut_short_with_a_true_checkpoint_is_refuted_by_who_knows_more() {
    // The second device signs again over its first two entries only, and the export drops the
    // third: everything in its folder holds, but the founder acknowledged three entries.
    let (space, dir) = exported();
    let mut cut = household();
    cut.second.entries.pop();
    cut.second.frontier = larder_log::merkle::Frontier::new();
    for entry in &cut.second.entries {
        cut.second.frontier.append(entry.hash.into(), &mut |_| {});
    }
    let folder = log_dir(dir.path(), &space.second);
    let acks = fs::read(folder.join("acks.jsonl")).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    export(&cut, dir.path());
    assert!(verify(dir.path()).is_ok(), "a log that ends earlier is a true log");
    fs::write(folder.join("acks.jsonl"), acks).unwrap();
    let message = refuted(dir.path());
    assert!(message.contains("entry 3 was acknowledged"), "{message}");
    assert!(message.contains("acks.jsonl"), "{message}");
}

#[test]
fn an_entry_that_others_rest_on_cannot_be_left_out() {
    let mut cut = household();
    cut.second.entries.truncate(1);
    cut.second.frontier = larder_log::merkle::Frontier::new();
    cut.second.frontier.append(cut.second.entries[0].hash.into(), &mut |_| {});
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let mut writer = ExportWriter::create(root, &cut.id, &cut.founder.id(), EXPORTED_AT).unwrap();
    for device in [&cut.founder, &cut.second] {
        let mut log = writer.log(&device.id()).unwrap();
        write_entries(&cut, device, &mut log);
        let checkpoint = device.checkpoint(cut.id);
        log.finish(&checkpoint, &checkpoint.sign(&device.signing), &[]).unwrap();
    }
    writer.finish().unwrap();
    let message = refuted(root);
    assert!(message.contains("rests on entry 2"), "{message}");
    assert!(message.contains("4.tlog-proof"), "{message}");
}

#[test]
fn a_device_that_nobody_admitted_is_refuted() {
    let mut space = household();
    let mut stranger = Device::new(&mut fixture::Seeded(77));
    let dep = space.founder.last();
    let mut builder = EntryBuilder::new(space.id, stranger.id(), 1, space.epoch, 0).deps(vec![dep]);
    space.push_data(&mut builder, b"let me in");
    stranger.append(builder.finish().unwrap());
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let mut writer =
        ExportWriter::create(root, &space.id, &space.founder.id(), EXPORTED_AT).unwrap();
    for device in [&space.founder, &space.second, &stranger] {
        let mut log = writer.log(&device.id()).unwrap();
        write_entries(&space, device, &mut log);
        let checkpoint = device.checkpoint(space.id);
        log.finish(&checkpoint, &checkpoint.sign(&device.signing), &[]).unwrap();
    }
    writer.finish().unwrap();
    let message = refuted(root);
    assert!(message.contains(&stranger.id().to_string()), "{message}");
    assert!(message.contains("not enrolled"), "{message}");
}

#[test]
fn another_spaces_founder_cannot_pose_as_this_ones() {
    let (space, dir) = exported();
    let other = Space::new(2);
    let path = dir.path().join("export.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(&space.id.to_string(), &other.id.to_string())).unwrap();
    assert!(refuted(dir.path()).contains("checkpoint"));
    let (founder, second) = (space.founder.id().to_string(), space.second.id().to_string());
    let manifest = text
        .replace(&format!("\"genesis_device\": \"{founder}\""), "GENESIS")
        .replace("GENESIS", &format!("\"genesis_device\": \"{second}\""));
    fs::write(&path, manifest).unwrap();
    assert!(refuted(dir.path()).contains("genesis act"));
}

#[test]
fn a_disclosure_that_the_author_did_not_commit_to_is_refuted() {
    let (space, dir) = exported();
    let path = log_dir(dir.path(), &space.second).join("disclosed.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    // kind 1, created, made into kind 3, deleted
    let lie = text.replacen("\"value\":\"01\"", "\"value\":\"03\"", 1);
    assert_ne!(lie, text);
    fs::write(&path, lie).unwrap();
    let message = refuted(dir.path());
    assert!(message.contains("disclosed.jsonl:Some(1)"), "{message}");
}

#[test]
fn an_epoch_for_strangers_does_not_admit_them() {
    let space = household();
    let stranger = Device::new(&mut fixture::Seeded(77));
    let recipients = [(stranger.id(), stranger.sealing.public(), Band::Green)];
    let mut entropy = fixture::Seeded(5);
    let (id, founder) = (space.id, space.founder.id());
    let reason = EpochReason::Age;
    let (act, _) =
        open_epoch_act(&mut entropy, &id, founder, &recipients, reason, Vec::new()).unwrap();
    let mut roster = space.roster();
    let header = space.founder.entries[3].header.clone();
    roster.apply(&header, 0, &larder_log::act::Act::Epoch(act)).unwrap();
    assert!(roster.device(&stranger.id()).is_none());
    assert_eq!(roster.epoch_for_writing(Band::Green, &|_| true), Some(space.epoch));
}

#[test]
fn the_program_says_by_its_exit_code_what_it_found() {
    let (space, dir) = exported();
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_larder-audit")).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let path = dir.path().to_str().unwrap();
    let (code, text) = run(&[path]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("VERIFIED"), "{text}");
    let (code, json) = run(&["--json", path]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["verified"]), (0, &serde_json::Value::Bool(true)));
    fs::write(log_dir(dir.path(), &space.founder).join("2.tlog-proof"), "x\n").unwrap();
    let (code, text) = run(&[path]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("2.tlog-proof"), "{text}");
    let (code, json) = run(&[path, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["refuted"]), (1, &serde_json::Value::Bool(true)));
    assert_eq!(run(&[]).0, 2);
    assert_eq!(run(&["--bogus"]).0, 2);
    assert_eq!(run(&[dir.path().join("nothing").to_str().unwrap()]).0, 2);
    assert_eq!(run(&["--help"]).0, 0);
}

/// A member may write an enrolment that no device of today can read: on devices it is void, and
/// the export is no worse for it.
#[test]
fn an_act_of_another_version_admits_nobody_and_refutes_nothing() {
    let mut space = household();
    let (device, seq) = (space.founder.id(), space.founder.next_seq());
    let mut builder = EntryBuilder::new(space.id, device, seq, space.epoch, 0);
    let opened = space.opened(larder_log::kind::ENROLMENT, b"of a later version".to_vec());
    let address = builder.address(Band::Green).unwrap();
    let secret = space.control.section_secret();
    let (commitment, sealed) = larder_log::seal_section(
        &mut space.entropy,
        &address,
        &secret,
        Class::Control,
        &space.control,
        &opened,
    )
    .unwrap();
    builder.push(commitment, sealed);
    space.founder.append(builder.finish().unwrap());
    let dir = TempDir::new().unwrap();
    export(&space, dir.path());
    let verdict = verify(dir.path()).unwrap();
    let founder = verdict.logs.iter().find(|log| log.founder).unwrap();
    assert_eq!((founder.entries, founder.kinds["device enrolled"]), (5, 2));
}

#[test]
fn who_acknowledges_another_tree_proves_nothing_against_the_author() {
    let (space, dir) = exported();
    let held = Checkpoint {
        space: space.id,
        device: space.founder.id(),
        size: 2,
        root: larder_types::Hash::new([9; 32]),
    };
    let ack = Ack::sign(&held, space.second.id(), &space.second.ack, 1);
    let line = serde_json::to_string(&AckLine::new(&ack, &space.second.ack.public())).unwrap();
    fs::write(log_dir(dir.path(), &space.founder).join("acks.jsonl"), line + "\n").unwrap();
    let message = refuted(dir.path());
    assert!(message.contains("acks.jsonl") && message.contains("another tree"), "{message}");
    assert!(!message.contains("fork"), "{message}");
}

#[test]
fn a_device_without_a_log_is_named() {
    let mut space = household();
    // Its last entry names the second device's log.
    space.founder.entries.truncate(3);
    space.founder.frontier = larder_log::merkle::Frontier::new();
    for entry in space.founder.entries.clone() {
        space.founder.frontier.append(entry.hash.into(), &mut |_| {});
    }
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let founder = &space.founder;
    let mut writer = ExportWriter::create(root, &space.id, &founder.id(), EXPORTED_AT).unwrap();
    let mut log = writer.log(&founder.id()).unwrap();
    write_entries(&space, founder, &mut log);
    let checkpoint = founder.checkpoint(space.id);
    log.finish(&checkpoint, &checkpoint.sign(&founder.signing), &[]).unwrap();
    writer.finish().unwrap();
    let verdict = verify(root).unwrap();
    let left_out = space.second.id().to_string();
    assert!(verdict.not_proven.iter().any(|line| line.contains(&left_out)), "{verdict}");
    let (_, whole) = exported();
    let verdict = verify(whole.path()).unwrap();
    assert!(!verdict.not_proven.iter().any(|line| line.contains(&left_out)), "{verdict}");
}
