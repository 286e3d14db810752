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
