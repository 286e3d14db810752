//! Who gets in, and who does not.

use std::net::{SocketAddr, UdpSocket};

use larder::{
    ErasureStage, ErrorKind, Event, Invitation, Joining, Options, PairingRequest, Profile,
    SpaceName, Standing,
};

use crate::common::{
    Device, digests_equal, event, household, key, kind, loopback, new_profile, note, soon,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_inviter_learns_who_joined() {
    let ana = Device::found("Ana").await;
    let mut events = ana.profile.events();
    let mut invitation = ana.profile.invite(&household()).await.unwrap().unattended();
    assert!(!format!("{invitation:?}").contains(&invitation.text[20..40]));
    let (_dir, ben) = new_profile("Ben").await;
    let space = ben.join(&invitation.text).await.unwrap();
    let joined = soon("being told", invitation.joined()).await.unwrap();
    assert_eq!((joined.label.as_str(), joined.device), ("Ben", space.device()));
    let told = event(&mut events, |event| matches!(event, Event::Joined { .. })).await;
    let expect =
        Event::Joined { space: household(), device: space.device(), label: "Ben".to_owned() };
    assert_eq!(told, expect);
    assert_eq!(kind(invitation.joined().await), ErrorKind::Invitation);
    assert_eq!(space.id(), ana.space.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_works_once() {
    let ana = Device::found("Ana").await;
    let invitation = ana.profile.invite(&household()).await.unwrap().unattended();
    let (_ben_dir, ben) = new_profile("Ben").await;
    ben.join(&invitation.text).await.unwrap();
    let (_carol_dir, carol) = new_profile("Carol").await;
    assert_eq!(kind(carol.join(&invitation.text).await), ErrorKind::Invitation);
    assert_eq!(kind(carol.space(&household()).await), ErrorKind::NotFound);
    assert_eq!(ana.space.devices().await.unwrap().len(), 2);
    // Another one works.
    let invitation = ana.profile.invite(&household()).await.unwrap().unattended();
    carol.join(&invitation.text).await.unwrap();
    assert_eq!(ana.space.devices().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_ends_with_the_process_that_made_it() {
    let ana = Device::found("Ana").await;
    let text = ana.profile.invite(&household()).await.unwrap().unattended().text;
    let port = ana.address().await.port();
    ana.profile.close().await.unwrap();
    let Device { dir, profile, space } = ana;
    drop((profile, space));
    let ana = Profile::open(dir.path(), key(), Options::default()).await.unwrap();
    ana.listen(Some(([127, 0, 0, 1], port).into())).await.unwrap();
    let (_dir, ben) = new_profile("Ben").await;
    assert_eq!(kind(soon("refusal", ben.join(&text)).await), ErrorKind::Invitation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_no_invitation_is_told_apart() {
    let ana = Device::found("Ana").await;
    let text = ana.profile.invite(&household()).await.unwrap().unattended().text;
    let (_dir, ben) = new_profile("Ben").await;
    let mut mangled = text.clone();
    let last = mangled.pop().unwrap();
    mangled.push(if last == 'a' { 'b' } else { 'a' });
    let texts = ["", "hello", &text[..text.len() / 2], &mangled, "larder2-abcdef", "larder1-"];
    for wrong in texts {
        let error = ben.join(wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invitation, "{wrong}: {error}");
    }
    let version = ben.join("larder2-abcdef").await.unwrap_err().to_string();
    assert!(version.contains("version 2"), "{version}");
    // None of that used it up, and white space does no harm.
    let (head, tail) = text.split_at(30);
    ben.join(&format!(" {head}\n{tail}\n")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_was_cut_is_completed_by_the_same_invitation() {
    let ana = Device::found("Ana").await;
    let invitation = ana.profile.invite(&household()).await.unwrap().unattended();
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::default().label("Ben");
    let mut ben = Profile::create(dir.path(), key(), options()).await.unwrap();
    let mut waiting = invitation;
    // Killed as soon as Ana has enrolled it: the welcome may or may not have arrived.
    let (joiner, text) = (ben.clone(), waiting.text.clone());
    let joining = tokio::spawn(async move { joiner.join(&text).await.map(drop) });
    soon("enrolment", waiting.joined()).await.unwrap();
    joining.abort();
    let _ = joining.await;
    drop(ben);
    ben = Profile::open(dir.path(), key(), options()).await.unwrap();
    match soon("joining again", ben.join(&waiting.text)).await {
        Ok(_) => {}
        // It had been completed before the abort: the space is there, and the invitation used.
        Err(error) => {
            let completed = [ErrorKind::AlreadyExists, ErrorKind::Invitation];
            assert!(completed.contains(&error.kind()), "{error}");
        }
    }
    for report in soon("the sync", ben.sync()).await.unwrap() {
        report.outcome.unwrap();
    }
    let space = ben.space(&household()).await.unwrap();
    assert_eq!(space.devices().await.unwrap().len(), 2);
    assert_eq!(space.digest().await.unwrap(), ana.space.digest().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_enrolled_is_refused() {
    let ana = Device::found("Ana").await;
    ana.create(note("Private", "")).await;
    ana.profile.close().await.unwrap();
    let before = crate::common::files(ana.dir.path());
    let ana = ana.restart().await;
    let ben = ana.invite("Ben").await;
    // Ana as she was before she let Ben in.
    ana.profile.close().await.unwrap();
    let old = tempfile::tempdir().unwrap();
    for (path, bytes) in before {
        let path = old.path().join(path.strip_prefix(ana.dir.path()).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let old = Device::reopen(old).await;
    let address = old.address().await;
    let refused = soon("refusal", ben.profile.sync_with(address)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.to_string().contains("does not know this device"), "{refused}");
    // A device of another household does not even ask.
    let carol = Device::found("Carol").await;
    let stranger = carol.profile.sync_with(address).await;
    assert_eq!(kind(stranger), ErrorKind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_disturbs_nobody() {
    let ana = Device::found("Ana").await;
    let object = ana.create(note("Bread", "Flour")).await;
    let address = ana.address().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1_u32;
    let mut throw = |count: usize| {
        for length in (0..count).map(|n| n * 37 % 1400) {
            let datagram: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                })
                .collect();
            socket.send_to(&datagram, address).unwrap();
        }
    };
    throw(500);
    let ben = ana.invite("Ben").await;
    throw(500);
    ben.sync().await;
    assert_eq!(ben.value(object).await, Some(note("Bread", "Flour")));
    digests_equal(&[&ana, &ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_unreachable() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let address = ana.address().await;
    ana.profile.close().await.unwrap();
    let silent = UdpSocket::bind(address).unwrap();
    assert_eq!(kind(ben.profile.sync_with(address).await), ErrorKind::Unreachable);
    let reports = ben.try_sync().await;
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].label, "Ana");
    assert_eq!(reports[0].outcome.as_ref().unwrap_err().kind(), ErrorKind::Unreachable);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_space_is_shared_over_the_same_connection() {
    let ana = Device::found("Ana").await;
    let ben = ana.invite("Ben").await;
    let follower = ben.profile.clone();
    tokio::spawn(async move { follower.follow().await });
    let garden: SpaceName = "selective:garden".parse().unwrap();
    let space = ana.profile.create_space(&garden).await.unwrap();
    let invitation = ana.profile.invite(&garden).await.unwrap().unattended();
    let joined = soon("joining", ben.profile.join(&invitation.text)).await.unwrap();
    let (object, _) = space.create("beds", &note("Beans", "")).await.unwrap();
    let mut changed = joined.changed();
    soon("the push", async {
        while joined.document(object).await.unwrap().is_none() {
            changed.changed().await.unwrap();
        }
    })
    .await;
    let reports = ben.sync().await;
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert_eq!(reports[0].space, garden);
    digests_equal(&[&ana, &ben]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_again_keeps_the_address_and_the_port_is_remembered() {
    let (dir, profile) = new_profile("Ana").await;
    profile.create_space(&household()).await.unwrap();
    let first = profile.listen(loopback()).await.unwrap();
    assert_eq!(profile.listen(None).await.unwrap(), first);
    assert_eq!(profile.listen(loopback()).await.unwrap(), first);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bound = profile.listen(Some(taken.local_addr().unwrap())).await;
    assert_eq!(kind(bound), ErrorKind::Io);
    profile.close().await.unwrap();
    drop(profile);
    let profile = Profile::open(dir.path(), key(), Options::default()).await.unwrap();
    let again = profile.listen(None).await.unwrap();
    assert!(again.ip().is_unspecified());
    assert_eq!(again.port(), first.port());
}

/// Both ends of a talk that waits for a person.
async fn asked(invitation: &mut Invitation, joiner: &Profile) -> (PairingRequest, Joining) {
    asked_by(Way::Text, None, invitation, joiner).await
}

async fn asked_by(
    way: Way,
    at: Option<SocketAddr>,
    invitation: &mut Invitation,
    joiner: &Profile,
) -> (PairingRequest, Joining) {
    let joining = soon("asking", way.begin(joiner, &invitation.text, at)).await.unwrap();
    (soon("being asked", invitation.request()).await.unwrap(), joining)
}

/// How an invitation is handed over: as a text with all that it takes, or as eight digits.
#[derive(Debug, Clone, Copy)]
enum Way {
    Text,
    Code,
}

impl Way {
    async fn invite(self, device: &Device) -> Invitation {
        match self {
            Self::Text => device.profile.invite(&household()).await.unwrap(),
            Self::Code => by_code(device).await,
        }
    }

    async fn begin(
        self,
        joiner: &Profile,
        text: &str,
        at: Option<SocketAddr>,
    ) -> larder::Result<Joining> {
        match self {
            Self::Text => joiner.begin_join(text).await,
            Self::Code => joiner.begin_join_by_code(text, at).await,
        }
    }
}

async fn devices(device: &Device) -> usize {
    device.space.devices().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_enrolled_before_a_person_approves() {
    let ana = Device::found("Ana").await;
    let entries = ana.space.status().await.unwrap().entries;
    let mut invitation = ana.profile.invite(&household()).await.unwrap();
    let (_dir, ben) = new_profile("Ben").await;
    let (request, joining) = asked(&mut invitation, &ben).await;
    assert_eq!((request.label.as_str(), request.check_code), ("Ben", joining.check_code()));
    // Nothing was signed for it, and so nothing sealed: an epoch is an entry.
    assert_eq!(ana.space.status().await.unwrap().entries, entries);
    assert_eq!(kind(ben.space(&household()).await), ErrorKind::NotFound);
    let (joined, space) = tokio::join!(request.approve(), joining.approved());
    assert_eq!(joined.unwrap().device, space.unwrap().device());
    assert_eq!(devices(&ana).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tries_that_a_person_refuses_burn_an_invitation() {
    let ana = Device::found("Ana").await;
    let mut invitation = ana.profile.invite(&household()).await.unwrap();
    let (_dir, ben) = new_profile("Ben").await;
    for attempt in 0..larder::limits::INVITATION_TRIES_MAX {
        let (request, joining) = asked(&mut invitation, &ben).await;
        // Saying nothing is saying no.
        if attempt == 0 {
            drop(request);
        } else {
            request.refuse();
        }
        let refused = soon("the refusal", joining.approved()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invitation);
        assert!(refused.to_string().contains("did not approve"), "{refused}");
    }
    let burned = ben.join(&invitation.text).await.unwrap_err();
    assert!(burned.to_string().contains("too often"), "{burned}");
    assert_eq!(devices(&ana).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_join_at_once_one_gets_in() {
    for way in [Way::Text, Way::Code] {
        let ana = Device::found("Ana").await;
        let at = Some(ana.address().await);
        let mut invitation = way.invite(&ana).await;
        let ((_b, ben), (_c, carol)) = (new_profile("Ben").await, new_profile("Carol").await);
        let (request, joining) = asked_by(way, at, &mut invitation, &ben).await;
        let busy = way.begin(&carol, &invitation.text, at).await.unwrap_err();
        assert!(busy.to_string().contains("busy"), "{way:?}: {busy}");
        let (joined, space) = tokio::join!(request.approve(), joining.approved());
        assert_eq!(joined.unwrap().label, "Ben");
        space.unwrap();
        let used = way.begin(&carol, &invitation.text, at).await.unwrap_err();
        assert!(used.to_string().contains("used before"), "{way:?}: {used}");
        assert_eq!(devices(&ana).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_is_let_go_of_is_withdrawn() {
    let ana = Device::found("Ana").await;
    let text = ana.profile.invite(&household()).await.unwrap().text;
    let (_dir, ben) = new_profile("Ben").await;
    assert_eq!(kind(ben.join(&text).await), ErrorKind::Invitation);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_about_which_nobody_is_asked_is_withdrawn_when_told_so() {
    let ana = Device::found("Ana").await;
    let (_dir, ben) = new_profile("Ben").await;
    let unattended = || async { ana.profile.invite(&household()).await.unwrap().unattended() };
    let invitation = unattended().await;
    let text = invitation.text.clone();
    invitation.withdraw();
    assert_eq!(kind(ben.join(&text).await), ErrorKind::Invitation);
    assert_eq!(devices(&ana).await, 1);
    // Let go of, it goes on, and whom it let in stays.
    ben.join(&unattended().await.text).await.unwrap();
    assert_eq!(devices(&ana).await, 2);
}

/// Strangers may connect while an invitation is open: they could take all the connections there
/// are, and keep the devices of the space from each other.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_only_so_many_connections() {
    let ana = Device::found("Ana").await;
    let open = || async { ana.profile.invite(&household()).await.unwrap() };
    let mut waiting = Vec::new();
    for number in 0..larder::limits::PAIRING_CONNECTIONS_MAX {
        let (dir, joiner) = new_profile(&format!("{number}")).await;
        let invitation = open().await;
        let joining = soon("asking", joiner.begin_join(&invitation.text)).await.unwrap();
        waiting.push((dir, joiner, invitation, joining));
    }
    let (_dir, ben) = new_profile("Ben").await;
    let mut invitation = open().await;
    assert_eq!(kind(soon("asking", ben.begin_join(&invitation.text)).await), ErrorKind::Busy);
    // Who comes anew takes its own place: the connection before is closed.
    let (_dir, again, _kept, before) = waiting.pop().unwrap();
    let other = open().await;
    let joining = soon("asking anew", again.begin_join(&other.text)).await.unwrap();
    soon("the end", before.approved()).await.unwrap_err();
    assert_eq!(kind(soon("asking", ben.begin_join(&invitation.text)).await), ErrorKind::Busy);
    // And who goes leaves it to others.
    drop(joining);
    let joining = loop {
        match soon("asking", ben.begin_join(&invitation.text)).await {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
            Ok(joining) => break joining,
        }
    };
    let request = soon("being asked", invitation.request()).await.unwrap();
    let (joined, space) = tokio::join!(request.approve(), joining.approved());
    assert_eq!(joined.unwrap().device, space.unwrap().device());
}

/// Mallory has read the invitation, and hands the phone another one, with his own key in it: it
/// talks to him. He passes on what he can; but each end talks to him under its own keys, and so
/// the codes differ. He may as well let the phone into a space of his.
#[tokio::test(flavor = "multi_thread")]
async fn who_stands_between_is_told_by_the_codes() {
    let ana = Device::found("Ana").await;
    let mut invitation = ana.profile.invite(&household()).await.unwrap();
    let mallory = Device::found("Ben").await;
    let mut his = mallory.profile.invite(&household()).await.unwrap();
    let (_dir, ben) = new_profile("Ben").await;

    let (at_mallory, bens) = asked(&mut his, &ben).await;
    let (_dir, as_ben) = new_profile("Ben").await;
    let (at_ana, mallorys) = asked(&mut invitation, &as_ben).await;
    assert_eq!(at_ana.label, "Ben");
    assert_eq!(at_mallory.check_code, bens.check_code());
    assert_eq!(at_ana.check_code, mallorys.check_code());
    assert_ne!(at_ana.check_code, bens.check_code(), "what the two people compare");
    at_ana.refuse();
    assert_eq!(kind(mallorys.approved().await), ErrorKind::Invitation);
    assert_eq!(devices(&ana).await, 1);
}

/// Cut at each step, by the end of either process, and both opened again: whatever it was, another
/// invitation brings the device in, and the roster has nobody besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_step_leaves_no_half_member() {
    for way in [Way::Text, Way::Code] {
        for step in 0..5 {
            for of_inviter in [false, true] {
                cut_at(way, step, of_inviter).await;
            }
        }
    }
}

async fn cut_at(way: Way, step: u8, of_inviter: bool) {
    let what = format!("{way:?}, step {step}, of the inviter: {of_inviter}");
    let mut ana = Device::found("Ana").await;
    let at = Some(ana.address().await);
    let mut invitation = way.invite(&ana).await;
    let (dir, mut ben) = new_profile("Ben").await;
    // 0: invited; 1: both wait; 2: approved, and the joiner is gone; 3: approved, nobody listens;
    // 4: in.
    let cut = match step {
        0 => None,
        1 => Some(asked_by(way, at, &mut invitation, &ben).await),
        2 => {
            let (request, joining) = asked_by(way, at, &mut invitation, &ben).await;
            drop(joining);
            let _ = request.approve().await;
            None
        }
        3 => {
            let (request, joining) = asked_by(way, at, &mut invitation, &ben).await;
            request.approve().await.unwrap();
            drop(joining);
            None
        }
        _ => {
            let (request, joining) = asked_by(way, at, &mut invitation, &ben).await;
            let (joined, space) = tokio::join!(request.approve(), joining.approved());
            joined.unwrap();
            space.unwrap();
            None
        }
    };
    if of_inviter {
        drop((cut, invitation));
        ana = ana.restart().await;
    } else {
        drop((cut, ben));
        ben = Profile::open(dir.path(), key(), Options::default()).await.unwrap();
        drop(invitation);
    }
    if ben.space(&household()).await.is_err() {
        let at = Some(ana.address().await);
        let mut invitation = way.invite(&ana).await;
        let (request, joining) = asked_by(way, at, &mut invitation, &ben).await;
        let (joined, space) = tokio::join!(request.approve(), joining.approved());
        joined.unwrap_or_else(|error| panic!("{what}: {error}"));
        space.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let at = ana.address().await;
    soon("the sync", ben.sync_with(at)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(devices(&ana).await, 2, "{what}");
    let space = ben.space(&household()).await.unwrap();
    assert_eq!(space.devices().await.unwrap().len(), 2, "{what}");
    let (object, _) = space.create("notes", &note("From Ben", "")).await.unwrap();
    soon("the sync", ben.sync_with(at)).await.unwrap();
    assert_eq!(ana.value(object).await, Some(note("From Ben", "")), "{what}");
}

/// A phone was approved, and its battery died before it heard so: it never came back, and is a
/// device of the space all the same, which everything waits for until somebody shuts it out.
#[tokio::test(flavor = "multi_thread")]
async fn who_never_came_back_after_being_approved_is_listed_and_waited_for_until_shut_out() {
    for way in [Way::Text, Way::Code] {
        let ana = Device::found_with("Ana", Options::default().prune_by_hand()).await;
        let ben = ana.invite("Ben").await;
        let at = Some(ana.address().await);
        let mut invitation = way.invite(&ana).await;
        let (_dir, carol) = new_profile("Carol").await;
        let (request, joining) = asked_by(way, at, &mut invitation, &carol).await;
        let joined = request.approve().await.unwrap().device;
        drop((joining, carol));

        let [gone, kept] = [ana.create(note("Gone", "")).await, ana.create(note("Kept", "")).await];
        ana.put(kept, note("Kept", "edited")).await;
        ana.space.erase(gone).await.unwrap();
        meet_and_prune(&ana, &ben).await;
        for device in [&ana, &ben] {
            let listed = device.space.devices().await.unwrap();
            assert!(listed.iter().any(|one| one.device == joined && one.label == "Carol"));
            let status = device.space.status().await.unwrap();
            let carols = status.progress.iter().find(|one| one.device == joined).unwrap();
            let known = (carols.standing, carols.signed, carols.holds);
            assert_eq!(known, (Standing::Unknown, None, 0), "{way:?}: {carols:?}");
            // Whoever paired with it has spoken to it.
            let is_anas = device.space.device() == ana.space.device();
            assert_eq!(carols.last_seen.is_some(), is_anas, "{way:?}: {carols:?}");
            assert_eq!(status.pruned, 0, "{way:?}: it is waited for");
            let erasures = device.space.erasures().await.unwrap();
            let stages = erasures[0].devices.iter().filter(|one| one.stage != ErasureStage::Done);
            let left: Vec<_> = stages.map(|one| (one.device, one.stage)).collect();
            assert_eq!(left, [(joined, ErasureStage::NotHeard)], "{way:?}");
        }

        ana.space.revoke([joined]).await.unwrap();
        meet_and_prune(&ana, &ben).await;
        for device in [&ana, &ben] {
            assert_eq!(device.space.devices().await.unwrap().len(), 2, "{way:?}");
            assert!(device.space.status().await.unwrap().pruned > 0, "{way:?}");
            assert!(device.space.erasures().await.unwrap()[0].is_done(), "{way:?}");
            assert_eq!(device.value(kept).await, Some(note("Kept", "edited")));
        }
    }
}

/// Until both have stated what the other has, and heard that the other has erased what is to be.
async fn meet_and_prune(one: &Device, other: &Device) {
    for _ in 0..3 {
        for device in [one, other] {
            device.space.prune(|_| ()).await.unwrap();
            other.sync_with(one).await;
        }
    }
    let both = [one.space.device(), other.space.device()];
    let have_erased = async || {
        let known = [one.space.erasures().await.unwrap(), other.space.erasures().await.unwrap()];
        let devices = known.iter().flatten().flat_map(|erasure| &erasure.devices);
        let mut of_both = devices.filter(|one| both.contains(&one.device));
        of_both.all(|one| one.stage == ErasureStage::Done)
    };
    soon("erasing", async {
        while !have_erased().await {
            other.sync_with(one).await;
        }
    })
    .await;
}

async fn by_code(device: &Device) -> Invitation {
    device.profile.invite_by_code(&household(), None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_digits_bring_a_device_in() {
    let ana = Device::found("Ana").await;
    let mut invitation = by_code(&ana).await;
    let (_dir, ben) = new_profile("Ben").await;
    let at = Some(ana.address().await);
    let joining = ben.begin_join_by_code(&invitation.text, at).await.unwrap();
    let request = soon("being asked", invitation.request()).await.unwrap();
    assert_eq!(request.check_code, joining.check_code());
    let (joined, space) = tokio::join!(request.approve(), joining.approved());
    assert_eq!(joined.unwrap().device, space.unwrap().device());
    soon("the sync", ben.sync_with(ana.address().await)).await.unwrap();
    // Used up.
    let (_dir, carol) = new_profile("Carol").await;
    let used = carol.begin_join_by_code(&invitation.text, at).await.unwrap_err();
    assert!(used.to_string().contains("used before"), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_wrong_guesses_burn_eight_digits() {
    let ana = Device::found("Ana").await;
    let mut invitation = by_code(&ana).await;
    let at = Some(ana.address().await);
    let digits: u32 = invitation.text.replace('-', "").parse().unwrap();
    let (_dir, ben) = new_profile("Ben").await;
    for wrong in 1..=larder::limits::INVITATION_TRIES_MAX {
        let guess = format!("{:08}", (digits + wrong) % 100_000_000);
        let refused = ben.begin_join_by_code(&guess, at).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invitation);
        assert!(refused.to_string().contains("another one"), "{refused}");
    }
    // The right ones do not help any more, and nobody was asked about any of it.
    let burned = ben.begin_join_by_code(&invitation.text, at).await.unwrap_err();
    assert!(burned.to_string().contains("too often"), "{burned}");
    let asked = tokio::time::timeout(std::time::Duration::ZERO, invitation.request()).await;
    assert!(asked.is_err(), "{asked:?}");
    assert_eq!(devices(&ana).await, 1);
    // New ones do.
    let invitation = by_code(&ana).await.unattended();
    ben.begin_join_by_code(&invitation.text, at).await.unwrap().approved().await.unwrap();
}

/// Mallory announces himself where Ana is looked for. He has no digits: with any that he makes up,
/// Ben hears that the code is another one, and of Ana's he spends a guess with each.
#[tokio::test(flavor = "multi_thread")]
async fn who_stands_between_without_the_digits_gets_nowhere() {
    let ana = Device::found("Ana").await;
    let invitation = by_code(&ana).await;
    let mallory = Device::found("Mallory").await;
    let his = by_code(&mallory).await;
    let (_dir, ben) = new_profile("Ben").await;
    let at_his = Some(mallory.address().await);
    let refused = ben.begin_join_by_code(&invitation.text, at_his).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invitation, "{refused}");
    let at_ana = Some(ana.address().await);
    let refused = mallory.profile.begin_join_by_code(&his.text, at_ana).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invitation, "{refused}");
    assert_eq!((devices(&ana).await, devices(&mallory).await), (1, 1));
    assert_eq!(kind(ben.begin_join_by_code("1234-567", at_ana).await), ErrorKind::Invitation);
}
