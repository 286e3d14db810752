//! Spaces that never leave their device, in a copy of it.

use super::*;

fn diary() -> SpaceName {
    "black:diary".parse().unwrap()
}

fn opened(dir: &Path, seed: u64) -> Device {
    let profile =
        Profile::open(world(seed), dir, &unlock(), Access::ReadWrite, options("x")).unwrap();
    let (space, writer) = profile.open_space(&diary()).unwrap();
    Device { profile, space, writer: writer.unwrap() }
}

/// A laptop was restored from a backup, and given new keys. What is shared was to be joined again,
/// and so was the diary, to which nobody could invite. Nobody else can have it, so it goes on,
/// wherever that is cut, with all that the backup had.
#[test]
fn what_is_on_one_device_alone_goes_on_under_new_keys_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(world(1), dir.path(), &unlock(), options("laptop")).unwrap();
    let (space, writer) = profile.create_space(&diary()).unwrap();
    let mut laptop = Device { profile, space, writer };
    laptop.put(1, &json!({"title": "mine"}));
    let was = laptop.space.device();
    laptop.close();
    let mut cuts = 0;
    for at in 1.. {
        let tried = tempfile::tempdir().unwrap();
        let dir = {
            copy(dir.path(), tried.path());
            tried.path()
        };
        let was_cut = cut_at(at, || {
            let Ok(renewed) = renew(dir, 2) else { return };
            assert_eq!((renewed.here, renewed.alone), (vec![diary()], Vec::new()));
            let profile = Profile::open(world(3), dir, &unlock(), Access::ReadWrite, options("x"));
            if let Ok((space, writer)) = profile.unwrap().open_space(&diary()) {
                let mut writer = writer.unwrap();
                let _ = writer.carry_over();
                drop((writer, space));
            }
        });
        assert_eq!(renew(dir, 4).unwrap().here, [diary()], "cut at {at}");
        let mut laptop = opened(dir, 5);
        let carried = laptop.writer.carry_over().unwrap().unwrap();
        assert!(carried.is_done, "cut at {at}: {carried:?}");
        assert_ne!(laptop.space.device(), was);
        assert_eq!(laptop.space.devices().unwrap().len(), 1, "cut at {at}");
        assert_eq!(laptop.value(1), Some(json!({"title": "mine"})), "cut at {at}");
        laptop.put(2, &json!({"title": "goes on"}));
        let band = laptop.space.document(&object(1)).unwrap().unwrap().band;
        assert_eq!(band, Band::Black);
        laptop.close();
        if !was_cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts}");
}

/// Of a diary an older copy of its file alone was put back. It was read-only, and to write it the
/// whole profile had to get new keys, with an invitation for each other space: a person's word that
/// it is to go on with what the file has is enough, as nobody else has the rest.
#[test]
fn an_older_file_of_what_stays_here_goes_on_when_a_person_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::create(world(1), dir.path(), &unlock(), options("laptop")).unwrap();
    let shared = profile.create_space(&name()).unwrap();
    drop(shared);
    let (space, writer) = profile.create_space(&diary()).unwrap();
    let mut laptop = Device { profile, space, writer };
    laptop.put(1, &json!({"title": "kept"}));
    let file = dir.path().join(format!("spaces/{}.db", laptop.space.id()));
    laptop.close();
    let go_on =
        |space: &SpaceName, seed| Profile::go_on_alone(world(seed), dir.path(), &unlock(), space);
    assert!(matches!(go_on(&diary(), 9), Err(Error::Invalid(_))), "it can be written");
    for round in 0_u8..2 {
        let old = std::fs::read(file_of(dir.path(), &file)).unwrap();
        let mut laptop = opened(dir.path(), 2);
        for n in 0..70 {
            laptop.put(100 + n, &json!({"title": "lost with the newer file"}));
        }
        laptop.close();
        std::fs::write(file_of(dir.path(), &file), old).unwrap();
        let laptop = opened(dir.path(), 3);
        let state = laptop.space.state().unwrap();
        assert!(matches!(state.reasons[..], [Reason::RolledBack { .. }]), "{state:?}");
        let was = laptop.space.device();
        laptop.close();
        assert!(matches!(go_on(&name(), 9), Err(Error::Invalid(_))), "others may have that one");
        go_on(&diary(), 10 + u64::from(round)).unwrap();
        let mut laptop = opened(dir.path(), 4);
        assert!(laptop.writer.carry_over().unwrap().unwrap().is_done);
        assert_ne!(laptop.space.device(), was, "it signs as another one, in a log of its own");
        assert_eq!(laptop.space.devices().unwrap().len(), 1);
        assert_eq!(laptop.space.state().unwrap().reasons, []);
        assert_eq!(laptop.value(1), Some(json!({"title": "kept"})));
        assert_eq!(laptop.value(100), None);
        laptop.put(2 + round, &json!({"title": "goes on"}));
        laptop.close();
    }
}

/// The space's file now: each new set of keys means a new one.
fn file_of(dir: &Path, first: &Path) -> std::path::PathBuf {
    let stem = first.file_stem().unwrap().to_str().unwrap().to_owned();
    let names = std::fs::read_dir(dir.join("spaces")).unwrap().map(|entry| entry.unwrap().path());
    let is_of = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&stem) && path.extension().is_some_and(|e| e == "db")
    };
    let mut files: Vec<_> = names.filter(is_of).collect();
    files.sort();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}
