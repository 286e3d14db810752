//! A profile that was copied, and both copies used.

use std::fs;
use std::path::Path;

use crate::home::{Home, Ran, SPACE};
use crate::household::{pair, serve, stop};
use crate::members::{pair_as, with_kit};

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn put(home: &Home, title: &str) -> String {
    let value = format!("{{\"title\": \"{title}\"}}");
    let ran = home.run_with(&value, ["put", SPACE, "notes", "--file", "-", "--json"]);
    ran.code(0).event("put")["id"].as_str().unwrap().to_owned()
}

/// Nothing can be written.
fn refused(home: &Home) -> Ran {
    let ran = home.run_with("{}", ["put", SPACE, "notes", "--file", "-"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    ran
}

/// A folder with a profile was copied to another computer, and both were used. The one that synced
/// last could not be written any more, and there was nothing to be done but to type everything
/// again into a new profile.
#[test]
fn a_copied_profile_is_renewed_and_nothing_of_it_is_lost() {
    let (first, second, third) = (Home::with_space("laptop"), Home::new("tablet"), Home::empty());
    put(&first, "shared");
    pair(&first, &second);
    copy(&second.profile(), &third.profile());
    let on_second = put(&second, "on the tablet");
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    stop(serving);
    let on_third = put(&third, "on its copy");
    let (serving, address) = serve(&first);
    third.run(["sync", "--with", &address]);
    stop(serving);
    refused(&third).says("larder device renew");
    let status = third.run(["status"]).code(0);
    assert!(status.out.contains("was copied") || status.err.contains("was copied"), "{status:?}");

    let renewed = third.run(["device", "renew", "--json"]).code(0).event("renewed");
    assert_eq!(renewed["waiting"][0], SPACE);
    third.run(["get", SPACE, &on_third]).code(0);
    refused(&third).says("make an invitation on another device");
    let mut inviting = first.start(["invite", SPACE, "--unattended", "--listen", "127.0.0.1:0"]);
    let invitation = inviting.event("invitation");
    let text = invitation["text"].as_str().unwrap().to_owned();
    let joined = third.run(["join", &text, "--json"]).code(0);
    inviting.finish().code(0);
    let carried = joined.event("carried");
    assert_eq!(carried["carried"]["created"], 1, "{carried}");
    assert_eq!(carried["carried"]["is_done"], true, "{carried}");
    let (serving, address) = serve(&first);
    third.run(["sync", "--with", &address]).code(0);
    stop(serving);
    for id in [&on_second, &on_third] {
        first.run(["get", SPACE, id]).code(0);
        third.run(["get", SPACE, id]).code(0);
    }
    put(&third, "it can be written again");
}

/// The backup of a household's only laptop is all there is of it. Nobody can let it in again, and
/// it is to go on, once its person says that there is nobody.
#[test]
fn a_space_that_nobody_else_has_goes_on_when_its_person_says_so() {
    let (laptop, tablet) = (Home::with_space("laptop"), Home::new("tablet"));
    let kept = put(&laptop, "kept");
    laptop.run(["device", "renew", "--alone", SPACE]).code(1).says("does not wait");
    let renewed = laptop.run(["device", "renew"]).code(0);
    assert!(renewed.out.contains("larder device renew --alone"), "{renewed:?}");
    refused(&laptop).says("--alone");
    let ran = laptop.run(["device", "renew", "--alone", SPACE, "--json"]).code(0);
    assert_eq!(ran.event("alone")["space"], SPACE);
    put(&laptop, "it goes on");
    laptop.run(["get", SPACE, &kept]).code(0);
    pair(&laptop, &tablet);
    tablet.run(["get", SPACE, &kept]).code(0);
    tablet.run(["device", "renew"]).code(0);
    tablet.run(["device", "renew", "--alone", SPACE]).code(1).says("other devices belong to");
}

/// A writer's backup and the words on paper are all that is left of a household.
#[test]
fn a_backup_and_the_words_give_a_space_back() {
    let (first, second) = (Home::new("laptop"), Home::new("tablet"));
    let words = with_kit(&first);
    let before = put(&first, "before");
    pair_as(&first, &second, &["--new-member", "--role", "writer"]);
    let own = put(&second, "of the tablet");
    let (restored, new) = (Home::empty(), Home::new("tablet"));
    copy(&second.profile(), &restored.profile());
    drop((first, second));

    restored.run(["device", "renew"]).code(0).tells("--recovery");
    restored.run(["device", "renew", "--alone", SPACE]).code(1).says("--recovery");
    let by_words = ["device", "renew", "--alone", SPACE, "--recovery", "--json"];
    restored.run_with("zoo zoo", by_words).code(1).says("words");
    refused(&restored).says("--recovery");
    let ran = restored.run_with(&words, by_words).code(0);
    assert_eq!(ran.event("alone")["space"], SPACE);
    let after = put(&restored, "after");
    let listed = restored.run(["device", "list", SPACE, "--json"]).code(0).lines();
    let left: Vec<_> = listed.iter().filter(|line| line["shut_out"] == false).collect();
    assert_eq!((left.len(), &left[0]["device"]["role"]), (1, &"owner".into()), "{listed:?}");
    pair(&restored, &new);
    for id in [&before, &own, &after] {
        restored.run(["get", SPACE, id]).code(0);
        new.run(["get", SPACE, id]).code(0);
    }
    put(&new, "it lets others in");
}

/// A person moves to a new phone: the old one goes only once the new one has everything, files
/// among it, and the others hear of it. (Whether the new one had fetched a photograph was not
/// asked: the old one said that it had all, and was wiped.)
#[test]
fn an_old_device_gives_way_to_a_new_one() {
    let (old, new) = (Home::with_space("laptop"), Home::new("tablet"));
    put(&old, "before");
    pair(&old, &new);
    new.run(["blob", "policy", SPACE, "--up-to", "1000"]).code(0);
    let bytes: Vec<u8> = (0..90_000_u32).flat_map(u32::to_be_bytes).collect();
    let photo = old.file("photo.jpg", &bytes);
    old.run(["blob", "add", SPACE, photo.to_str().unwrap()]).code(0);
    let late = put(&old, "on the old one alone");
    old.run(["device", "retire", SPACE, "--to", "tablet"]).code(1).says("sync the two first");
    old.run(["device", "retire", SPACE, "--to", "nobody"]).code(5);
    let (serving, address) = serve(&new);
    old.run(["sync", "--with", &address]).code(0);
    let retire = ["device", "retire", SPACE, "--to", "tablet", "--json"];
    old.run(retire).code(1).says("nowhere else");
    stop(serving);
    let (serving, of_old) = serve(&old);
    new.run(["sync", "--with", &of_old]).code(0);
    let copy = new.path("copy.jpg");
    new.run(["blob", "get", SPACE, "photo.jpg", "-o", copy.to_str().unwrap()]).code(0);
    stop(serving);
    assert!(std::fs::read(&copy).unwrap() == bytes);
    let (serving, address) = serve(&new);
    old.run(["sync", "--with", &address]).code(0);
    let retired = old.run(retire).code(0);
    assert_eq!(retired.event("retired")["to"]["label"], "tablet");
    let _ = old.run(["sync", "--with", &address]);
    stop(serving);
    old.run(["get", SPACE, &late]).code(0);
    refused(&old).says("shut out");
    new.run(["get", SPACE, &late]).code(0);
    let left = new.run(["device", "list", SPACE, "--json"]).code(0).lines();
    let out = |label: &str| {
        left.iter().find(|one| one["device"]["label"] == label).unwrap()["shut_out"].clone()
    };
    assert_eq!((out("laptop"), out("tablet")), (true.into(), false.into()), "{left:?}");
}
