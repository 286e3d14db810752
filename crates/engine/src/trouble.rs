//! What went wrong with a space's storage lately, for whoever asks about its state.

use std::sync::{Mutex, OnceLock, PoisonError};

use larder_pages::Error as PagesError;
use larder_store::{ErrorKind, StoreError};

use crate::Error;
use crate::status::Reason;

type Told = Box<dyn Fn() + Send + Sync>;

/// The storage's last failures. Cheap where nothing fails.
#[derive(Default)]
pub(crate) struct Trouble {
    now: Mutex<Now>,
    told: OnceLock<Told>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Now {
    /// Of the last try to write, until one works.
    write: Option<Reason>,
    /// Damage that was met, until a check finds none.
    damage: Option<Reason>,
    /// The WAL could not be written back, until it can.
    wal: Option<Reason>,
}

impl Trouble {
    /// `tell` is called after each change. The first to say so is the only one.
    pub(crate) fn tell(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.told.set(Box::new(tell));
    }

    /// Something about the space's state changed elsewhere.
    pub(crate) fn changed(&self) {
        if let Some(told) = self.told.get() {
            told();
        }
    }

    pub(crate) fn reasons(&self) -> Vec<Reason> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        [now.write, now.damage, now.wal].into_iter().flatten().collect()
    }

    /// A transaction was committed.
    pub(crate) fn wrote(&self) {
        self.update(|now| now.write = None);
    }

    /// The WAL was written back into the file, or could not be.
    pub(crate) fn wrote_back(&self, failed: Option<(String, u64)>) {
        let wal = failed.map(|(what, bytes)| Reason::NotWrittenBack { what, bytes });
        self.update(|now| now.wal = wal);
    }

    /// A check found nothing wrong.
    pub(crate) fn is_whole(&self) {
        self.update(|now| now.damage = None);
    }

    /// A read failed.
    pub(crate) fn read_failed(&self, error: &Error) {
        if kind_of(error) == Some(ErrorKind::Corrupt) {
            let damage = Some(Reason::Damaged { what: error.to_string() });
            self.update(|now| now.damage = damage);
        }
    }

    /// A transaction failed.
    pub(crate) fn write_failed(&self, error: &Error) {
        let what = error.to_string();
        match kind_of(error) {
            Some(ErrorKind::Full) => self.update(|now| now.write = Some(Reason::DiskFull)),
            Some(ErrorKind::Corrupt) => {
                self.update(|now| now.damage = Some(Reason::Damaged { what }));
            }
            Some(ErrorKind::Io) => {
                self.update(|now| now.write = Some(Reason::WriteFailed { what }));
            }
            _ => {}
        }
    }

    fn update(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let before = now.clone();
        change(&mut now);
        let is_new = *now != before;
        drop(now);
        if is_new {
            self.changed();
        }
    }
}

/// Whether an error says that something stored is damaged.
pub(crate) fn is_damage(error: &Error) -> bool {
    kind_of(error) == Some(ErrorKind::Corrupt)
}

/// What kind of failure of the storage an error is, if it is one.
fn kind_of(error: &Error) -> Option<ErrorKind> {
    match error {
        Error::Store(StoreError::Open { source }) => source.downcast_ref().and_then(kind_of),
        Error::Store(error) => Some(error.kind()),
        Error::Search(error) if error.is_damage() => Some(ErrorKind::Corrupt),
        Error::Corrupt(_)
        | Error::Pages(
            PagesError::Corrupt { .. }
            | PagesError::NotADatabase { .. }
            | PagesError::WrongKey { .. },
        ) => Some(ErrorKind::Corrupt),
        Error::Pages(PagesError::Full(_)) => Some(ErrorKind::Full),
        Error::Pages(PagesError::Io(_)) => Some(ErrorKind::Io),
        _ => None,
    }
}
