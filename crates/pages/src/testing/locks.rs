use std::collections::BTreeMap;
use std::ffi::c_int;

use rusqlite::ffi;

use super::disk::HandleId;
use super::media::FileId;
use crate::code::Code;

/// SQLite's locks on files, between handles.
#[derive(Default)]
pub(super) struct Locks(BTreeMap<FileId, BTreeMap<HandleId, c_int>>);

impl Locks {
    /// Raises the lock of `handle` to `level` (`SQLITE_LOCK_*`).
    ///
    /// # Errors
    /// Busy. Then who wanted it exclusively may hold it pending: no new reader gets in.
    pub(super) fn lock(
        &mut self,
        file: FileId,
        handle: HandleId,
        level: c_int,
    ) -> Result<(), Code> {
        let held = self.0.entry(file).or_default();
        let mine = held.get(&handle).copied().unwrap_or(ffi::SQLITE_LOCK_NONE);
        if mine >= level {
            return Ok(());
        }
        let others = held.iter().filter(|(other, _)| **other != handle);
        let strongest = others.map(|(_, level)| *level).max().unwrap_or(ffi::SQLITE_LOCK_NONE);
        let allowed = match level {
            ffi::SQLITE_LOCK_SHARED => strongest < ffi::SQLITE_LOCK_PENDING,
            ffi::SQLITE_LOCK_RESERVED => strongest < ffi::SQLITE_LOCK_RESERVED,
            _ => strongest < ffi::SQLITE_LOCK_SHARED,
        };
        if allowed {
            held.insert(handle, level);
            return Ok(());
        }
        if level == ffi::SQLITE_LOCK_EXCLUSIVE && strongest < ffi::SQLITE_LOCK_RESERVED {
            held.insert(handle, ffi::SQLITE_LOCK_PENDING);
        }
        Err(Code::BUSY)
    }

    pub(super) fn unlock(&mut self, file: FileId, handle: HandleId, level: c_int) {
        if let Some(held) = self.0.get_mut(&file) {
            if level == ffi::SQLITE_LOCK_NONE {
                held.remove(&handle);
            } else if let Some(mine) = held.get_mut(&handle) {
                *mine = level.min(*mine);
            }
        }
        self.0.retain(|_, held| !held.is_empty());
    }

    pub(super) fn is_reserved(&self, file: FileId) -> bool {
        let held = self.0.get(&file);
        held.is_some_and(|held| held.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED))
    }
}

#[cfg(test)]
mod tests {
    use super::super::media::Media;
    use super::*;
    use ffi::{SQLITE_LOCK_EXCLUSIVE, SQLITE_LOCK_NONE, SQLITE_LOCK_RESERVED, SQLITE_LOCK_SHARED};

    #[test]
    fn readers_beside_one_writer_until_it_has_the_file_alone() {
        let file = Media::default().create("/a".as_ref());
        let (a, b, c) = (HandleId(0), HandleId(1), HandleId(2));
        let mut locks = Locks::default();
        locks.lock(file, a, SQLITE_LOCK_SHARED).unwrap();
        locks.lock(file, b, SQLITE_LOCK_SHARED).unwrap();
        locks.lock(file, a, SQLITE_LOCK_RESERVED).unwrap();
        assert_eq!(locks.lock(file, b, SQLITE_LOCK_RESERVED), Err(Code::BUSY));
        assert!(locks.is_reserved(file));
        assert_eq!(locks.lock(file, a, SQLITE_LOCK_EXCLUSIVE), Err(Code::BUSY));
        assert_eq!(locks.lock(file, c, SQLITE_LOCK_SHARED), Err(Code::BUSY), "a is waiting");
        locks.unlock(file, b, SQLITE_LOCK_NONE);
        locks.lock(file, a, SQLITE_LOCK_EXCLUSIVE).unwrap();
        assert_eq!(locks.lock(file, b, SQLITE_LOCK_SHARED), Err(Code::BUSY));
        locks.unlock(file, a, SQLITE_LOCK_SHARED);
        locks.lock(file, b, SQLITE_LOCK_SHARED).unwrap();
        assert!(!locks.is_reserved(file));
    }
}
