//! Where a space's database is, what opens it, and what happens to it once another took its place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use larder_crypto::Secret;
use larder_store::profile as table;
use larder_store::{Access, Opener, StoreError};
use larder_types::SpaceId;
use rusqlite::Connection;

use crate::Result;
use crate::storage::Storage;
use crate::vault::{self, Vault};

/// A space's database file with what opens it and what is sealed in it.
pub(crate) struct Home {
    /// As the profile has it.
    pub(crate) row: table::Home,
    pub(crate) vault: Vault,
    key: Secret<32>,
    file: Arc<HomeFile>,
}

/// The file itself: removed with the last connection to it, once it is retired.
struct HomeFile {
    storage: Storage,
    name: String,
    retired: AtomicBool,
    /// A database in memory is gone with its last connection: this one is in nobody's use.
    anchor: OnceLock<Mutex<Connection>>,
}

impl Home {
    pub(crate) fn new(
        storage: &Storage,
        id: &SpaceId,
        row: table::Home,
        secret: &Secret<32>,
    ) -> Self {
        let file = HomeFile {
            storage: storage.clone(),
            name: row.file.clone(),
            retired: AtomicBool::new(false),
            anchor: OnceLock::new(),
        };
        Self {
            row,
            vault: Vault::of_space(secret, id),
            key: vault::space_db_key(secret, id),
            file: Arc::new(file),
        }
    }

    /// Bytes that it takes on disk; none for a space in memory.
    pub(crate) fn bytes(&self) -> Result<Option<u64>> {
        self.file.storage.bytes_of(&self.file.name)
    }

    /// Bytes of its WAL.
    pub(crate) fn wal_bytes(&self) -> Result<u64> {
        self.file.storage.wal_bytes_of(&self.file.name)
    }

    /// Whether its WAL has anything, as far as is known.
    pub(crate) fn may_have_wal(&self) -> bool {
        self.file.storage.may_have_wal(&self.file.name)
    }

    /// Whether it is on disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.file.storage.dir().is_some()
    }

    /// Its file's name and what opens that, for who looks beneath.
    #[cfg(test)]
    pub(crate) fn beneath(&self) -> (&str, &Secret<32>) {
        (&self.file.name, &self.key)
    }

    /// Opens a connection to it.
    pub(crate) fn open(&self, access: Access) -> Result<Connection> {
        self.file.storage.open(&self.file.name, &self.key, false, access)
    }

    /// Opens connections to it, for a pool.
    pub(crate) fn opener(&self, create: bool) -> Opener {
        let (file, key) = (Arc::clone(&self.file), self.key.clone());
        Box::new(move |access| {
            let opened = file.open(&key, create, access);
            #[cfg(test)]
            let opened = opened.map(crate::steps::count);
            opened.map_err(StoreError::open)
        })
    }

    /// Another file took its place: this one goes as soon as nobody has it open.
    pub(crate) fn retire(&self) {
        self.file.retired.store(true, Ordering::Release);
    }
}

impl HomeFile {
    fn open(&self, key: &Secret<32>, create: bool, access: Access) -> Result<Connection> {
        if self.storage.dir().is_none() && self.anchor.get().is_none() {
            let anchor = self.storage.open(&self.name, key, create, Access::Read)?;
            let _ = self.anchor.set(Mutex::new(anchor));
        }
        self.storage.open(&self.name, key, create, access)
    }
}

impl Drop for HomeFile {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire) {
            // What cannot be removed now is removed when the profile is opened next.
            let _ = self.storage.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::prune::tests::Device;
    use crate::{Error, Result};

    /// An app's test had its disk full once, in a profile in memory. The connection that had failed
    /// was closed, as it should be, and it was the only one: with it the whole space went, and the
    /// next unit found a database without tables.
    #[test]
    fn a_space_in_memory_outlives_a_transaction_that_fails() {
        let mut a = Device::found(1);
        a.put(1, &json!({"n": 1}));
        let failed: Result<()> =
            a.writer.transact(|_, _| Err(Error::Internal("the disk is full".into())));
        failed.unwrap_err();
        a.put(2, &json!({"n": 2}));
        let there = a.space.list(None, None, 10).unwrap().documents;
        assert_eq!(there.len(), 2);
    }
}
