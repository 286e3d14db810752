use std::sync::Mutex;

use crate::code::Code;
use crate::sync::locked;

/// Which frames of a database's WAL the power may still take.
///
/// Invariant: a frame that was written and is not known to be synced is at or behind `from`. It is
/// learnt from the syncs that were made, whatever `PRAGMA synchronous` says.
#[derive(Default)]
pub(crate) struct Unsynced(Mutex<State>);

#[derive(Default)]
struct State {
    from: Option<u32>,
    writes: u64,
    /// A sync failed. The next one may succeed though nothing reached the disk (Linux takes what it
    /// could not write for written), so none is believed until what it covered is written again.
    has_failed: bool,
    /// A sync failed that was to make committed frames durable, which nobody writes again.
    has_lost: bool,
}

impl Unsynced {
    /// A new WAL begins: nothing of the one before is needed any more.
    pub(crate) fn begin(&self) {
        let mut state = locked(&self.0);
        *state = State { writes: state.writes + 1, ..State::default() };
    }

    /// The frame at `index` is about to be written.
    pub(crate) fn note_write(&self, index: u32) {
        let mut state = locked(&self.0);
        state.from = Some(state.from.map_or(index, |from| from.min(index)));
        state.writes += 1;
    }

    /// The first frame that a failed sync covered and that was not written again since.
    pub(crate) fn failed_from(&self) -> Option<u32> {
        let state = locked(&self.0);
        state.from.filter(|_| state.has_failed)
    }

    /// All of those were.
    pub(crate) fn note_written_again(&self) {
        let mut state = locked(&self.0);
        *state = State { from: state.from, writes: state.writes + 1, ..State::default() };
    }

    /// Whether all frames before `index` are synced.
    pub(crate) fn is_synced_before(&self, index: u32) -> bool {
        locked(&self.0).from.is_none_or(|from| from >= index)
    }

    /// Runs `sync`, and believes it only as far as nothing was written meanwhile. `open_from` is
    /// the first frame that the caller's open transaction has written.
    ///
    /// Once one that failed may have lost frames of earlier transactions, every one fails until a
    /// new WAL begins or those frames are written again, by the next transaction or by opening
    /// anew: a later commit, though synced, would be behind a gap.
    pub(crate) fn sync(
        &self,
        open_from: Option<u32>,
        sync: impl FnOnce() -> Result<(), Code>,
    ) -> Result<(), Code> {
        let writes = {
            let state = locked(&self.0);
            if state.has_lost {
                return Err(Code::FSYNC);
            }
            state.writes
        };
        let synced = sync();
        let mut state = locked(&self.0);
        if synced.is_err() {
            state.has_failed = true;
            let lost = |from| open_from.is_none_or(|open_from| from < open_from);
            state.has_lost = state.has_lost || state.from.is_some_and(lost);
        } else if state.writes == writes && !state.has_failed {
            state.from = None;
        }
        synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sync_that_succeeds_makes_durable_what_was_written_before_it() {
        let frames = Unsynced::default();
        assert!(frames.is_synced_before(9));
        frames.note_write(5);
        frames.note_write(6);
        assert!(frames.is_synced_before(5) && !frames.is_synced_before(6));
        frames.sync(None, || Ok(())).unwrap();
        assert!(frames.is_synced_before(7));

        let meanwhile = || {
            frames.note_write(7);
            Ok(())
        };
        frames.sync(None, meanwhile).unwrap();
        assert!(!frames.is_synced_before(8), "written while the sync was under way");

        frames.sync(Some(7), || Err(Code::IOERR)).unwrap_err();
        frames.sync(Some(7), || Ok(())).unwrap();
        assert!(!frames.is_synced_before(8), "the failed sync may have lost it");
        frames.sync(Some(8), || Err(Code::IOERR)).unwrap_err();
        frames.sync(Some(8), || Ok(())).unwrap_err();
        assert_eq!(frames.failed_from(), Some(7));
        let lost = State { from: Some(7), writes: 9, has_failed: true, has_lost: true };

        frames.note_written_again();
        assert_eq!(frames.failed_from(), None);
        assert!(!frames.is_synced_before(8), "written, and not synced yet");
        frames.sync(Some(8), || Ok(())).unwrap();
        assert!(frames.is_synced_before(9));

        *locked(&frames.0) = lost;
        frames.begin();
        assert!(frames.is_synced_before(8));
        frames.sync(None, || Ok(())).unwrap();
    }
}
