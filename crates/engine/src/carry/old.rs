//! The old file, as it is read.

use std::collections::HashMap;

use larder_document::{Document, body};
use larder_log::{Band, Header, Opened, Payload, kind};
use larder_store::Access as ConnAccess;
use larder_store::profile as table;
use larder_store::space::entries;
use larder_store::space::logs::{self, Log};
use larder_store::space::sections::{self, Section, State as Of};
use larder_types::{EntryHash, ObjectId, SpaceId};
use rusqlite::Connection;

use super::Source;
use crate::copies::{Found, locate};
use crate::files;
use crate::keyring::{Keyring, Opening};
use crate::profile::Inner;
use crate::renew::{asides, renewed_purpose};
use crate::space::Shared;
use crate::state::load_keyring;
use crate::touched::load;
use crate::vault::Vault;
use crate::{Error, Result};

/// The old file.
pub(super) struct Old {
    pub(super) db: Connection,
    keyring: Keyring,
    pub(super) log: Log,
    /// Documents as they were there, with what counts no more in them.
    documents: HashMap<(ObjectId, Band, EntryHash), Document>,
}

/// A section of the old log, opened.
pub(super) struct OldSection {
    pub(super) index: u32,
    pub(super) entry: EntryHash,
    pub(super) band: Band,
    pub(super) opened: Opened,
}

impl Old {
    pub(super) fn open(profile: &Inner, shared: &Shared, source: &Source) -> Result<(Self, Vault)> {
        let (db, vault) = profile.open_renewed(&shared.id, &source.file)?;
        let missing = || Error::Corrupt("the old log is missing".into());
        let log = logs::find(&db, &source.device)?.ok_or_else(missing)?;
        let keyring = load_keyring(&db, &vault)?;
        Ok((Self { db, keyring, log, documents: HashMap::new() }, vault))
    }

    fn read(&self, section: &Section) -> Result<Option<OldSection>> {
        let place = section.place;
        let missing = || Error::Corrupt("its entry is missing".into());
        let entry = entries::find(&self.db, place.log, place.seq)?.ok_or_else(missing)?;
        let header = Header::decode(&entry.header).map_err(|_| missing())?;
        let opened = match sections::payload(&self.db, place)? {
            Payload::Missing => return Ok(None),
            Payload::Sealed(sealed) => {
                match self.keyring.open(&header, place.index, &section.commitment, &sealed) {
                    Opening::Opened(opened) => *opened,
                    Opening::NoSecret | Opening::Void => return Ok(None),
                }
            }
            Payload::Opened(bytes) => {
                larder_log::unpack(&bytes).map_err(|e| Error::Corrupt(e.to_string()))?
            }
        };
        let band = self.keyring.band(&section.commitment).unwrap_or(Band::Green);
        Ok(Some(OldSection { index: place.index, entry: entry.hash, band, opened }))
    }

    /// A document as it was there, whole: what is void there too is put into it.
    pub(super) fn document(
        &mut self,
        of: (ObjectId, Band, EntryHash),
    ) -> Result<Option<&mut Document>> {
        let (object, band, generation) = of;
        if !self.documents.contains_key(&of) {
            let found = match locate(&self.db, &object, (band, generation))? {
                Found::At(row) => Some(load(&self.db, &row)?),
                Found::Buried | Found::Unknown => self.created(&object, &generation)?,
            };
            let Some(found) = found else { return Ok(None) };
            self.documents.insert(of, found);
        }
        Ok(self.documents.get_mut(&of))
    }

    fn created(&self, object: &ObjectId, generation: &EntryHash) -> Result<Option<Document>> {
        for section in sections::of_object(&self.db, object)? {
            let Some(read) = self.read(&section)? else { continue };
            if read.opened.metadata.kind == kind::DOCUMENT_CREATE && read.entry == *generation {
                let create = body::Create::decode(&read.opened.body)?;
                return Ok(Some(Document::flat(create.value()?)));
            }
        }
        Ok(None)
    }

    /// What of an entry is to be done again; what cannot be read of it.
    pub(super) fn entry(&self, seq: u64) -> Result<(Vec<OldSection>, u64)> {
        let (mut found, mut unread) = (Vec::new(), 0);
        for section in sections::of_entry(&self.db, self.log.log, seq)? {
            if section.state == Of::Erased {
                continue;
            }
            match self.read(&section)? {
                Some(read) => found.push(read),
                None => unread += 1,
            }
        }
        Ok((found, unread))
    }
}

impl Inner {
    /// Opens a file that was set aside for new keys, and what its secrets are sealed under.
    fn open_renewed(&self, id: &SpaceId, file: &str) -> Result<(Connection, Vault)> {
        // A cut may have left it under the name that it had.
        let (asides, rows) = self.with_db(|db| Ok((asides(db)?, table::spaces(db)?)))?;
        files::finish_moves(&self.storage, &asides, &rows)?;
        let purpose = renewed_purpose(id, file);
        let wrapped = self.with_db(|db| Ok(table::key(db, &purpose)?))?;
        let missing = || Error::Corrupt("the key of the old file is missing".into());
        let secret: larder_crypto::Secret<32> =
            self.unseal(&purpose, &wrapped.ok_or_else(missing)?)?;
        let key = crate::vault::space_db_key(&secret, id);
        let db = self.storage.open(file, &key, false, ConnAccess::Read)?;
        Ok((db, Vault::of_space(&secret, id)))
    }
}
