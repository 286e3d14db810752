//! The points at which a crash or a failure makes a difference, so that tests can be there.

/// A point in the renewal of a key or in a purge, named by what was just done.
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
pub(crate) use hook::{hooked, reached};

#[cfg(test)]
mod hook {
    use std::cell::RefCell;

    use super::Step;

    type Hook = Box<dyn FnMut(Step) -> std::io::Result<()>>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

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
