//! Contracts on personal data: what an app's own writes may hold.
#![cfg(feature = "classify")]

use std::sync::Arc;

use larder::ContractAction::{Redact, Refuse, Warn};
use larder::PersonalKind::{Contact, Credentials, Financial, Health};
use larder::{ErrorKind, Event, Options, Patterns, Query, UnitOfWork};
use serde_json::json;

use crate::common::{Device, digests_equal, event, files, kind, note};

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
