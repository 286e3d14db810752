//! An auditor's device in a household that is live: it follows, and is sent no content.

use larder::{
    Error, ErrorKind, Event, Mode, Options, Query, Reason, Receipt, Role, Terms, UnitOfWork, Whose,
};

use crate::common::{Device, event, household, kind, note, soon};

async fn with_auditor() -> (Device, Device, Device) {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let usual = ana.space.usual_terms(Whose::New).await.unwrap();
    let terms = Terms { role: Role::Auditor, ..usual };
    let invitation = ana.profile.invite_on(&household(), terms).await.unwrap().unattended();
    let kim = Device::join("Kim", Options::default(), &invitation.text).await;
    (ana, ben, kim)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_follows_what_happens_and_reads_none_of_it() {
    let (ana, ben, kim) = with_auditor().await;
    let (before, by_ana) = ana.space.create("notes", &note("Soup", "zqcanary")).await.unwrap();
    kim.sync().await;
    let has = async |receipt: &Receipt| {
        let held = kim.space.receipt(receipt.device, receipt.seq).await;
        held.is_ok_and(|held| held.entry == receipt.entry && held.verify().is_ok())
    };
    assert!(has(&by_ana).await);

    // Live, and by way of a reader too.
    let mut events = kim.profile.events();
    let following = kim.profile.clone();
    let following = tokio::spawn(async move { following.follow().await });
    event(&mut events, |event| matches!(event, Event::CaughtUp { .. })).await;
    let (_, by_ben) = ben.space.create("notes", &note("Bread", "zqcanary")).await.unwrap();
    ben.sync_with(&ana).await;
    let arrived = async {
        while !has(&by_ben).await {
            event(&mut events, |event| matches!(event, Event::Received { .. })).await;
        }
    };
    soon("an entry", arrived).await;
    following.abort();

    let refused = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::NotAllowed);
        assert!(error.to_string().contains("receipts, not content"), "{error}");
    };
    refused(kim.space.document(before).await.unwrap_err());
    refused(kim.space.list(None, None, 10).await.unwrap_err());
    refused(kim.space.search(Query::text("zqcanary")).await.unwrap_err());
    assert_eq!(kind(kim.space.broadcast("here I am").await), ErrorKind::NotAllowed);
    let mut unit = UnitOfWork::new();
    unit.create("notes", &note("By Kim", "no")).unwrap();
    refused(kim.space.commit(unit).await.unwrap_err());
    let state = kim.space.state().await.unwrap();
    assert_eq!((state.mode, state.reasons), (Mode::ReadOnly, vec![Reason::Auditor]));
    for device in [&ana, &ben] {
        assert_eq!(device.space.state().await.unwrap().mode, Mode::Ready);
    }
    let [own, other] = [&ana, &kim].map(|device| device.space.fingerprint());
    assert_eq!(own.await.unwrap(), other.await.unwrap());
}
