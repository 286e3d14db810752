//! Edits that were made beside a redaction, and whose authors cannot make them again.

use larder_log::Band;
use larder_log::act::Role;

use super::bands::household;
use super::prune::{meet, settle};
use super::*;

const BODY: &str = "A first line.\nA second line.\n";

/// A founder and three others, each with a RED letter that has a diagnosis.
fn with_letter(dirs: &[tempfile::TempDir]) -> [Device; 4] {
    let (mut ana, [mut ben, mut cleo, mut dora]) = household(dirs, [Band::Red; 3]);
    ana.put_in(Band::Red, object(1), &json!({"diagnosis": "zqsecret", "body": BODY})).unwrap();
    for device in [&mut ben, &mut cleo, &mut dora] {
        meet(device, &mut ana);
    }
    [ana, ben, cleo, dora]
}

fn dirs() -> Vec<tempfile::TempDir> {
    (0..4).map(|_| tempfile::tempdir().unwrap()).collect()
}

fn write_line(device: &mut Device, line: &str) {
    device.edit(object(1), |value| {
        value["body"] = format!("{}{line}\n", value["body"].as_str().unwrap()).into();
        value["diagnosis"] = format!("zqsecret, {line}").into();
    });
}

fn redact(device: &mut Device) -> ObjectId {
    device.writer.redact(object(1), &[vec!["diagnosis".to_owned()]]).unwrap().object
}

/// Ben wrote a line into a letter out of which Ana took the diagnosis. Before he heard of that he
/// was cleared for less, or shut out, or his tablet never came back: the line was committed, Cleo
/// had it, and it was gone with the old letter, since only its author made it again.
#[test]
fn an_edit_beside_a_redaction_does_not_need_its_author() {
    for end in ["lowered", "shut out", "lost"] {
        let dirs = dirs();
        let [mut ana, mut ben, mut cleo, mut dora] = with_letter(&dirs);
        write_line(&mut ben, "Ben's line.");
        cleo.pull(&ben);
        let left = redact(&mut ana);
        // What Ana holds of Ben's counts, whatever comes.
        ana.pull(&ben);
        match end {
            "lowered" => {
                let device = ben.space.device();
                ana.writer.change_role(device, Role::Writer, Band::Green).unwrap();
                meet(&mut ben, &mut ana);
            }
            "shut out" => drop(ana.writer.revoke(&[ben.space.device()]).unwrap()),
            _ => drop(ben),
        }
        for device in [&mut cleo, &mut dora, &mut ana] {
            device.writer.finish_erasures().unwrap();
        }
        meet(&mut cleo, &mut ana);
        meet(&mut dora, &mut ana);
        meet(&mut cleo, &mut ana);
        for device in [&mut ana, &mut cleo, &mut dora] {
            let body = format!("{BODY}Ben's line.\n");
            assert_eq!(device.value(left), json!({"body": body}), "{end}");
            assert!(device.space.document(&object(1)).unwrap().is_none());
            device.sound();
        }
    }
}

/// All that Ana had of Ben's line she had by way of a hub that may not read it, and that had stated
/// what the entries came to, up to what it may read. Ben's device took the line for known to her,
/// and let go of it with the letter before what is left of that had come.
#[test]
fn what_came_without_its_bytes_is_not_known_to_who_redacts() {
    let dirs = dirs();
    let (mut ana, [mut ben, mut hub]) = household(&dirs, [Band::Red, Band::Green]);
    ana.put_in(Band::Red, object(1), &json!({"diagnosis": "zqsecret", "body": BODY})).unwrap();
    ana.put_in(Band::Green, object(2), &json!({"text": "for all"})).unwrap();
    meet(&mut ben, &mut ana);
    write_line(&mut ben, "Ben's line.");
    hub.pull(&ben);
    assert_eq!(hub.writer.prune(true, &mut |_| {}).unwrap().stated, 1);
    ana.pull(&hub);
    let left = redact(&mut ana);
    hub.pull(&ana);
    ben.pull(&hub);
    let body = format!("{BODY}Ben's line.\n");
    assert_eq!(ben.value(object(1))["body"], json!(body), "it is kept");
    ben.fill(&ana);
    ana.pull(&ben);
    for device in [&mut ana, &mut ben] {
        assert_eq!(device.value(left), json!({"body": body}));
        assert!(device.space.document(&object(1)).unwrap().is_none());
        device.sound();
    }
}

/// Ben wrote a line on a tablet that was away for so long that it was set aside. Meanwhile Ana took
/// the diagnosis out of the letter, and what is left of it was pruned: when the tablet came back
/// nothing told what had been taken out, and the line went with the old letter.
#[test]
fn a_line_of_a_tablet_that_was_set_aside_finds_what_was_pruned_of_its_letter() {
    let dirs = dirs();
    let [mut ana, mut ben, mut cleo, dora] = with_letter(&dirs);
    write_line(&mut ben, "Ben's line.");
    for away in [&ben, &dora] {
        ana.writer.quarantine(away.space.device()).unwrap();
    }
    let left = redact(&mut ana);
    ana.edit(left, |value| value["name"] = "Ella".into());
    for _ in 0..3 {
        settle(&mut [&mut ana, &mut cleo]);
        for device in [&mut ana, &mut cleo] {
            device.writer.finish_erasures().unwrap();
        }
    }
    for device in [&ana, &cleo] {
        let history = device.space.history(&left).unwrap();
        assert!(history.iter().all(|version| version.kind != "redact"), "it is pruned");
    }
    ben.pull(&ana);
    assert_eq!(ben.value(object(1))["body"], json!(format!("{BODY}Ben's line.\n")), "it is kept");
    ben.fill(&ana);
    ana.pull(&ben);
    cleo.pull(&ana);
    for device in [&mut ana, &mut cleo, &mut ben] {
        let body = format!("{BODY}Ben's line.\n");
        assert_eq!(device.value(left), json!({"body": body, "name": "Ella"}));
        assert!(device.space.document(&object(1)).unwrap().is_none());
        device.sound();
    }
}

/// Each of three devices wrote a line beside a redaction, one of them upon the other two, and each
/// heard of it by itself. Every line is in what is left once, however many made it
/// again; and what they wrote where the diagnosis stood is nowhere.
#[test]
fn what_several_make_again_is_there_once() {
    let dirs = dirs();
    let [mut ana, mut ben, mut cleo, mut dora] = with_letter(&dirs);
    let lines = ["Ben's line.", "Cleo's line.", "Dora's line."];
    write_line(&mut ben, lines[0]);
    write_line(&mut cleo, lines[1]);
    dora.pull(&cleo);
    dora.pull(&ben);
    write_line(&mut dora, lines[2]);
    let left = redact(&mut ana);
    for device in [&mut dora, &mut ben, &mut cleo] {
        device.pull(&ana);
    }
    let texts = |device: &Device| device.value(left)["body"].as_str().unwrap().to_owned();
    let once = |text: &str| lines.iter().all(|line| text.matches(line).count() == 1);
    assert!(once(&texts(&dora)));
    assert_eq!(texts(&ben), format!("{BODY}{}\n", lines[0]));
    for _ in 0..2 {
        for device in [&mut dora, &mut ben, &mut cleo] {
            meet(device, &mut ana);
        }
    }
    for device in [&mut ana, &mut ben, &mut cleo, &mut dora] {
        let text = texts(device);
        assert!(once(&text) && text.lines().count() == 5, "{text}");
        assert_eq!(device.value(left), json!({"body": text}));
        assert!(device.search(&Query::text("zqsecret")).is_empty());
        device.sound();
    }
    let digest = ana.space.digest().unwrap();
    assert!([ben, cleo, dora].iter().all(|device| device.space.digest().unwrap() == digest));
}
