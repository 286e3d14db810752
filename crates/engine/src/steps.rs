//! The points at which a crash or a failure makes a difference, so that tests can be there.

/// A point in the renewal of keys, in a purge or in an erasure, named by what was just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    Wished,
    Begun,
    Copied,
    Whole,
    Rewrapped,
    /// The transaction that names the new file is about to be committed.
    Naming,
    Named,
    Moved,
    PurgeWished,
    ProfileCopied,
    ProfileRewrapped,
    KeyFileNamed,
    KeyFileWritten,
    Removed,
    /// An act of erasure has had its effect, in a transaction that is about to be committed.
    Erasing,
    /// The disk has nothing of it any more.
    ErasedFromDisk,
    /// A profile's new keys are about to be committed; they are.
    Renewing,
    Renewed,
    /// That a space goes on alone is about to be noted; the space knows the new device.
    GoingOn,
    RenewedAlone,
    /// A space's new file is made, about to be named by the profile, named; the old one is moved.
    RenewedMade,
    RenewedNaming,
    RenewedNamed,
    RenewedMoved,
    /// A space that is founded is noted, and does not count yet; its file is whole.
    Founding,
    Founded,
    /// Entries of an old log are about to be committed in the new one; all are.
    Carrying,
    Carried,
}

/// Pages copied in one step; in tests fewer, so that small databases take several.
pub(crate) const STEP_PAGES: u32 =
    if cfg!(test) { 16 } else { larder_types::limits::REKEY_STEP_PAGES };

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "as in tests, where it can fail")]
pub(crate) fn reached(_: Step) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use hook::{count, counted, hooked, reached};

#[cfg(test)]
mod hook {
    use std::cell::{Cell, RefCell};

    use rusqlite::Connection;

    use super::Step;

    type Hook = Box<dyn FnMut(Step) -> std::io::Result<()>>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
        static INSTRUCTIONS: Cell<u64> = const { Cell::new(0) };
    }

    /// Has [`counted`] count what this connection does.
    pub(crate) fn count(mut db: Connection) -> Connection {
        let tick = || {
            INSTRUCTIONS.set(INSTRUCTIONS.get() + u64::from(EVERY.unsigned_abs()));
            false
        };
        db.progress_handler(EVERY, Some(tick)).unwrap();
        db
    }

    /// About how many instructions of SQLite's machine `work` takes on this thread.
    pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = INSTRUCTIONS.get();
        let done = work();
        (done, INSTRUCTIONS.get() - before)
    }

    const EVERY: i32 = 10;

    pub(crate) fn reached(step: Step) -> std::io::Result<()> {
        // Taken out meanwhile: what it does may come by here as well.
        let Some(mut hook) = HOOK.take() else { return Ok(()) };
        let result = hook(step);
        HOOK.set(Some(hook));
        result
    }

    /// Does `work` while `hook` sees each step that this thread reaches.
    pub(crate) fn hooked<T>(
        hook: impl FnMut(Step) -> std::io::Result<()> + 'static,
        work: impl FnOnce() -> T,
    ) -> T {
        HOOK.set(Some(Box::new(hook)));
        let done = work();
        HOOK.set(None);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use larder_types::ObjectId;
    use serde_json::json;

    use super::counted;
    use crate::durability_tests::World;
    use crate::prune::tests::Device;
    use crate::{Access, Profile, ProfileOptions, Secret, UnitOfWork, Unlock};

    fn to_open(entries: u16) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let (env, unlock) =
            (|| Arc::new(World(AtomicU64::new(1))), Unlock::Key(Secret::new([7; 32])));
        let options = ProfileOptions::default;
        let profile = Profile::create(env(), dir.path(), &unlock, options()).unwrap();
        let mut a = Device::found_by(profile);
        let mut others = [a.invite(2), a.invite(3), a.invite(4)];
        for (device, of) in others.iter_mut().chain([&mut a]).zip(1..) {
            let units = (0..entries).map(|n| {
                let [high, low] = n.to_be_bytes();
                let mut id = [of; 16];
                (id[0], id[1]) = (high, low);
                let mut unit = UnitOfWork::new();
                unit.put("notes", ObjectId::new(id), &json!({ "n": n })).unwrap();
                unit
            });
            for lot in units.collect::<Vec<_>>().chunks(4) {
                let done = device.writer.commit(&mut lot.iter().cloned());
                assert!(done.iter().all(Result::is_ok));
            }
        }
        for other in &others {
            a.pull(other);
        }
        while a.writer.index(256).unwrap() > 0 {}
        while a.writer.embed(256).unwrap() > 0 {}
        a.writer.close().unwrap();
        let Device { profile, space, writer } = a;
        drop(writer);
        space.close().unwrap();
        profile.close().unwrap();
        drop((profile, space));
        let open = || {
            let opened = Profile::open(env(), dir.path(), &unlock, Access::ReadWrite, options());
            opened.unwrap().open_space(&"shared:test".parse().unwrap()).unwrap()
        };
        let ((space, _writer), steps) = counted(open);
        assert!(space.status().unwrap().entries > 4 * u64::from(entries));
        steps
    }

    /// Whatever is gone through from one end to the other is felt at each start, and by no test
    /// with a short log.
    #[test]
    fn a_space_with_a_long_log_opens_with_as_few_steps_as_one_with_a_short_log() {
        let (few, many) = (to_open(40), to_open(800));
        assert!(few > 100 && many < few * 3 / 2, "{few} steps, {many} with a long log");
    }
}
