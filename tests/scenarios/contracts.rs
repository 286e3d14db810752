//! Contracts on personal data: what an app's own writes may hold.
#![cfg(feature = "classify")]

use std::sync::Arc;

use larder::ContractAction::{Raise, Redact, Refuse, Warn};
use larder::PersonalKind::{Contact, Credentials, Financial, Health};
use larder::{
    Band, ErrorKind, Event, Options, Patterns, Profile, Query, Role, Terms, UnitOfWork, Whose,
};
use serde_json::json;

use crate::common::{Device, digests_equal, event, files, household, key, kind, note};

fn options() -> Options {
    Options::default()
        .classifier(Arc::new(Patterns::new()))
        .contract(None, Credentials, Refuse)
        .contract(None, Health, Warn)
        .contract(None, Financial, Redact)
        .contract(Some("letters".parse().unwrap()), Contact, Redact)
        .contract(Some("vault".parse().unwrap()), Credentials, Warn)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_warns_takes_out_or_refuses_and_the_receipt_says_what_kind() {
    let ana = Device::found_with("Ana", options()).await;
    let ben = ana.invite("Ben").await;
    let mut events = ana.profile.events();
    let told = |wanted: &Event| matches!(wanted, Event::Personal { .. });

    // Written, told, and named by kind in what the receipt commits to.
    let (object, receipt) =
        ana.space.create("notes", &note("Ella", "has tonsillitis again")).await.unwrap();
    let Event::Personal { object: about, kinds, redacted, .. } = event(&mut events, told).await
    else {
        panic!()
    };
    assert_eq!((about, kinds, redacted), (object, vec![Health], vec![]));
    let personal = ana.space.personal(receipt.device, receipt.seq).await.unwrap();
    assert_eq!(personal, [Health]);
    assert_eq!(ana.value(object).await, Some(note("Ella", "has tonsillitis again")));

    // Taken out before it is written.
    let iban = "DE89 3704 0044 0532 0130 00";
    let letter =
        json!({ "to": "ana@home.example", "iban": iban, "lines": [format!("an {iban}.")] });
    let (object, receipt) = ana.space.create("letters", &letter).await.unwrap();
    let Event::Personal { kinds, redacted, .. } = event(&mut events, told).await else { panic!() };
    assert_eq!((&kinds, &redacted), (&vec![Contact, Financial], &vec![Contact, Financial]));
    let expected = json!({
        "to": "[removed: contact]", "iban": "[removed: financial]",
        "lines": ["an [removed: financial]."],
    });
    assert_eq!(ana.value(object).await, Some(expected.clone()));
    assert_eq!(ana.space.personal(receipt.device, receipt.seq).await.unwrap(), kinds);
    assert!(ana.space.search(Query::text("0532")).await.unwrap().is_empty());
    // An edit is looked at as well, and what was taken out is nothing new.
    let mut edited = expected.clone();
    edited["lines"] = json!(["an", iban]);
    ana.space.put("letters", object, &edited).await.unwrap();
    assert_eq!(ana.value(object).await.unwrap()["lines"], json!(["an", "[removed: financial]"]));

    // Refused, with all of its unit; what others committed beside it stays.
    let secret = "tr0ub4dor&3";
    let mut unit = UnitOfWork::new();
    let fine = unit.create("notes", &note("Fine", "nothing")).unwrap();
    unit.create("notes", &json!({ "wifi": { "password": secret } })).unwrap();
    let value = note("Beside", "");
    let beside = ana.space.create("notes", &value);
    let (refused, beside) = tokio::join!(ana.space.commit(unit), beside);
    beside.unwrap();
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contract);
    let message = error.to_string();
    assert!(message.contains("credentials") && !message.contains(secret), "{message}");
    assert_eq!(ana.value(fine).await, None);
    // A collection of its own for them.
    let (object, _) = ana.space.create("vault", &json!({ "password": secret })).await.unwrap();
    assert_eq!(ana.value(object).await, Some(json!({ "password": secret })));

    // Another device has no contract: it writes what it likes, and reads the same.
    ben.sync().await;
    let (theirs, receipt) = ben.space.create("notes", &json!({ "pin": 4826 })).await.unwrap();
    assert_eq!(ben.space.personal(receipt.device, receipt.seq).await.unwrap(), []);
    ben.sync().await;
    digests_equal(&[&ana, &ben]).await;
    assert_eq!(ana.value(theirs).await, Some(json!({ "pin": 4826 })));
    let known = ben.space.receipts(None, 1000).await.unwrap();
    let mut found = Vec::new();
    for receipt in known {
        found.extend(ben.space.personal(receipt.device, receipt.seq).await.unwrap());
    }
    assert!(found.contains(&Health) && found.contains(&Financial), "{found:?}");

    // What an export shows to outsiders has the kinds hidden, and nothing of the values.
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("receipts");
    ana.space.export_receipts(&export, |_, _| ()).await.unwrap();
    let verdict = larder_audit::verify(&export).unwrap();
    assert!(verdict.logs.iter().any(|log| log.hidden_fields["personal"] > 0), "{verdict}");
    for (path, bytes) in files(&export) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("health") && !text.contains(secret), "{}", path.display());
    }
    assert_eq!(kind(ana.space.create("notes", &json!({ "pin": 4826 })).await), ErrorKind::Contract);
}

fn raising() -> Options {
    Options::default()
        .classifier(Arc::new(Patterns::new()))
        .contract(None, Health, Raise(Band::Amber))
        .contract(None, Financial, Raise(Band::Red))
        .contract(None, Contact, Warn)
}

/// A diagnosis in the shopping list's space is for the parents' phones, and not for the tablet in
/// the kitchen. A document keeps its band, so one that is GREEN already cannot take it in: what has
/// reached the tablet once would have gone there, and an edit would follow.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_contract_raises_never_reaches_who_is_cleared_for_less() {
    let ana = Device::found_with("Ana", raising()).await;
    let terms = Terms { of: Whose::New, role: Role::Writer, clearance: Band::Green };
    let invitation = ana.profile.invite_on(&household(), terms).await.unwrap().unattended();
    let tablet = Device::join("tablet", raising(), &invitation.text).await;
    tablet.sync().await;
    let band = async |object| {
        ana.space.document(object).await.unwrap().map(|document| document.band).unwrap()
    };

    let mut events = ana.profile.events();
    let told = |wanted: &Event| matches!(wanted, Event::Personal { .. });
    let ill = note("Ella", "has tonsillitis again");
    let (plain, _) = ana.space.create("notes", &note("Milk", "two litres")).await.unwrap();
    let (health, receipt) = ana.space.create("notes", &ill).await.unwrap();
    let Event::Personal { object: about, kinds, raised, .. } = event(&mut events, told).await
    else {
        panic!()
    };
    assert_eq!((about, kinds, raised), (health, vec![Health], Some(Band::Amber)));
    assert_eq!(ana.space.personal(receipt.device, receipt.seq).await.unwrap(), [Health]);
    let iban = "DE89 3704 0044 0532 0130 00";
    // Whatever the app asked for; several kinds go by the highest.
    let mut unit = UnitOfWork::new();
    unit.band(Band::Green);
    let both = unit.create("notes", &note("tonsillitis", iban)).unwrap();
    // Twice in one unit: plain first, and then not, and the other way round.
    let later = unit.create("notes", &note("Later", "")).unwrap();
    unit.put("notes", later, &ill).unwrap();
    unit.put("notes", both, &note("nothing", "any more")).unwrap();
    unit.band(Band::Red);
    let asked = unit.create("notes", &ill).unwrap();
    ana.space.commit(unit).await.unwrap();
    let mut bands = Vec::new();
    for object in [plain, health, both, later, asked] {
        bands.push(band(object).await);
    }
    assert_eq!(bands, [Band::Green, Band::Amber, Band::Red, Band::Amber, Band::Red]);

    // It is edited in its band, also by who asks for GREEN while it is what the contract wants.
    ana.space.put("notes", health, &note("Ella", "tonsillitis, better")).await.unwrap();
    let mut unit = UnitOfWork::new();
    unit.band(Band::Green);
    unit.put("notes", health, &note("Ella", "no tonsillitis")).unwrap();
    ana.space.commit(unit).await.unwrap();

    // A GREEN one stays what it is, with all of its unit.
    let mut unit = UnitOfWork::new();
    unit.put("notes", plain, &note("Milk", "for the tonsillitis")).unwrap();
    let beside = unit.create("notes", &note("Beside", "")).unwrap();
    let error = ana.space.commit(unit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contract);
    let message = error.to_string();
    for part in ["health", "AMBER", "GREEN", "another id"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("tonsillitis"), "{message}");
    assert_eq!(ana.value(plain).await, Some(note("Milk", "two litres")));
    assert_eq!(ana.value(beside).await, None);

    // Nothing of it comes to the tablet, which may write none either.
    tablet.sync().await;
    let listed = tablet.space.list(None, None, 100).await.unwrap().documents;
    assert_eq!(listed.iter().map(|document| document.object).collect::<Vec<_>>(), [plain]);
    assert!(tablet.space.search(Query::text("tonsillitis")).await.unwrap().is_empty());
    let error = tablet.space.create("notes", &ill).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contract);
    let message = error.to_string();
    assert!(message.contains("AMBER") && message.contains("cleared for GREEN"), "{message}");
}

/// A contract came after the note: what is there in a band that is too low now can be moved to
/// where it belongs, and a write that changes nothing is none.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_its_contract_can_still_be_moved_away() {
    let ana = Device::found("Ana").await;
    let ill = note("Ella", "has tonsillitis again");
    let (object, _) = ana.space.create("notes", &ill).await.unwrap();
    let secret = json!({ "password": "tr0ub4dor&3" });
    let (refused, _) = ana.space.create("notes", &secret).await.unwrap();
    ana.profile.close().await.unwrap();
    let dir = ana.dir;
    let options = raising().contract(None, Credentials, Refuse);
    let profile = Profile::open(dir.path(), key(), options).await.unwrap();
    let space = profile.space(&household()).await.unwrap();
    let health = profile.create_space(&"personal:health".parse().unwrap()).await.unwrap();
    space.put("notes", object, &ill).await.unwrap();
    space.put("notes", refused, &secret).await.unwrap();
    assert_eq!(
        kind(space.put("notes", object, &note("Ella", "has tonsillitis")).await),
        ErrorKind::Contract
    );
    let moved = space.move_to(object, &health, None).await.unwrap();
    let there = health.document(moved.object).await.unwrap().unwrap();
    assert_eq!((there.band, &there.value["body"]), (Band::Amber, &ill["body"]));
    assert!(space.document(object).await.unwrap().unwrap().trashed.is_some());
    profile.close().await.unwrap();
}

/// A household's rule would hold on one phone alone if it stood in that phone's app: what an owner
/// sets in the space is what the other device goes by, beside its own app's contracts.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_sets_is_what_the_other_devices_go_by() {
    let ana = Device::found("Ana").await;
    let ben = ana.admit_with("Ben", Options::default().contract(None, Contact, Refuse)).await;
    ben.sync().await;
    let ill = note("Ella", "has tonsillitis again");
    ana.space.set_contract(None, Health, Some(Raise(Band::Amber))).await.unwrap();
    ana.space.set_contract(None, Contact, Some(Warn)).await.unwrap();
    ana.space.set_contract(Some("vault"), Health, Some(Refuse)).await.unwrap();
    let band = async |device: &Device, object| {
        device.space.document(object).await.unwrap().map(|document| document.band).unwrap()
    };
    let (object, _) = ana.space.create("notes", &ill).await.unwrap();
    assert_eq!(band(&ana, object).await, Band::Amber);

    let (before, _) = ben.space.create("notes", &ill).await.unwrap();
    assert_eq!(band(&ben, before).await, Band::Green, "it has not heard of it");
    ben.sync().await;
    let (object, receipt) = ben.space.create("notes", &ill).await.unwrap();
    assert_eq!(band(&ben, object).await, Band::Amber);
    assert_eq!(ben.space.personal(receipt.device, receipt.seq).await.unwrap(), [Health]);
    assert_eq!(kind(ben.space.create("vault", &ill).await), ErrorKind::Contract);
    // Its own app is stricter, and stays so.
    let letter = json!({ "to": "ana@home.example" });
    assert_eq!(kind(ben.space.create("notes", &letter).await), ErrorKind::Contract);
    ana.space.create("notes", &letter).await.unwrap();

    // Another opening of the space goes by it too, until it is removed.
    let ben = ben.restart().await;
    assert_eq!(ben.space.contracts().await.unwrap().len(), 3);
    assert_eq!(kind(ben.space.create("vault", &ill).await), ErrorKind::Contract);
    ben.space.set_contract(Some("vault"), Health, None).await.unwrap();
    let (object, _) = ben.space.create("vault", &ill).await.unwrap();
    assert_eq!(band(&ben, object).await, Band::Amber, "what is set for all");
}

/// A diagnosis is to stay on the device that wrote it. It is still looked at as the household's
/// contracts have it: what another of them takes out is taken out there too.
#[tokio::test(flavor = "multi_thread")]
async fn a_contract_keeps_what_it_finds_on_this_device() {
    let ana = Device::found("Ana").await;
    let ben = ana.admit("Ben").await;
    ana.space.set_contract(None, Health, Some(Raise(Band::Black))).await.unwrap();
    ana.space.set_contract(None, Financial, Some(Redact)).await.unwrap();
    let open = ana.create(note("Soup", "with leeks")).await;
    let iban = "DE89 3704 0044 0532 0130 00";
    let ill = note("Ella has tonsillitis again", iban);
    let (object, receipt) = ana.space.create("notes", &ill).await.unwrap();
    let there = ana.space.document(object).await.unwrap().unwrap();
    assert_eq!((there.band, &there.value["body"]), (Band::Black, &json!("[removed: financial]")));
    let personal = ana.space.personal(receipt.device, receipt.seq).await.unwrap();
    assert_eq!(personal, [Health, Financial].into_iter().rev().collect::<Vec<_>>());
    let mut unit = UnitOfWork::new();
    let blocking = unit.create("notes", &ill).unwrap();
    ana.space.commit_blocking(unit).unwrap();
    assert_eq!(ana.space.document(blocking).await.unwrap().unwrap().band, Band::Black);
    // Not what is there already, nor with others in one unit.
    assert_eq!(kind(ana.space.put("notes", open, &ill).await), ErrorKind::Contract);
    let mut unit = UnitOfWork::new();
    unit.create("notes", &ill).unwrap();
    unit.create("notes", &note("Bread", "")).unwrap();
    assert_eq!(kind(ana.space.commit(unit).await), ErrorKind::Invalid);
    ben.sync().await;
    assert_eq!(ben.space.list(None, None, 9).await.unwrap().documents.len(), 1);
}
