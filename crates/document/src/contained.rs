//! Work that may panic on senseless input.
//!
//! Rust tells the process's panic hook before it unwinds, whoever catches that. So a hostile peer
//! could fill an app's standard error, or end an app whose hook does. A library has no business
//! with that hook but this: at the first call a hook is set around the one that is there. It says
//! nothing while work that is contained runs on the same thread, and passes on all else.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

static HOOKED: Once = Once::new();

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs what may assert on senseless input. None if it did; nobody else hears of it.
///
/// Where an app sets its hook later without calling the one before, that one is told.
pub(crate) fn contained<T>(f: impl FnOnce() -> T) -> Option<T> {
    HOOKED.call_once(|| {
        // A hook cannot be set while one runs.
        if !std::thread::panicking() {
            let others = take_hook();
            set_hook(Box::new(move |panic| {
                if !IS_CONTAINED.get() {
                    others(panic);
                }
            }));
        }
    });
    let before = IS_CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(f)).ok();
    IS_CONTAINED.set(before);
    done
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// An app reported crashes from its panic hook, and ended there. A peer sent it a change that
    /// Automerge asserts on: the panic was caught, but the hook had been told by then.
    #[test]
    fn an_apps_panic_hook_hears_of_no_panic_that_is_contained() {
        let test = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "contained::tests::in_a_process_of_its_own", "--ignored"])
            .arg("--nocapture")
            .output()
            .unwrap();
        let said = String::from_utf8(test.stderr).unwrap();
        assert!(test.status.success(), "{said}");
        assert!(!said.contains("senseless") && said.contains("the app's own"), "{said}");
    }

    #[test]
    #[ignore = "part of the other one: a process has one hook"]
    fn in_a_process_of_its_own() {
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        let default = take_hook();
        set_hook(Box::new(move |panic| {
            HEARD.fetch_add(1, Ordering::SeqCst);
            default(panic);
        }));
        for _ in 0..3 {
            assert_eq!(contained(|| panic!("senseless")), None::<()>);
        }
        assert_eq!(contained(|| contained(|| panic!("senseless")).is_some()), Some(false));
        assert_eq!(HEARD.load(Ordering::SeqCst), 0);
        // On another thread, and on this one before and after, the hook hears of everything.
        let apart = contained(|| {
            let own = std::thread::spawn(|| panic!("the app's own"));
            own.join().is_err()
        });
        assert_eq!((apart, HEARD.load(Ordering::SeqCst)), (Some(true), 1));
        assert!(catch_unwind(|| panic!("the app's own")).is_err());
        assert_eq!(HEARD.load(Ordering::SeqCst), 2);
    }
}
