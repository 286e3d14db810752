//! The old file, as it is read.
//!
//! What of it is damaged is told apart from what this device's own storage says: the first is named
//! and passed over ([`Error::Invalid`]), for the second there is another time.

use std::collections::HashMap;

use larder_document::{Actor, Document, body};
use larder_log::{Band, Header, Opened, Payload, kind};
use larder_store::Access as ConnAccess;
use larder_store::migrate::{Run, SPACE};
use larder_store::profile as table;
use larder_store::space::logs::{self, Log};
use larder_store::space::sections::{self, Section, State as SectionState};
use larder_store::space::{entries, units};
use larder_types::{EntryHash, Hash, IdempotencyKey, ObjectId, SpaceId};
use rusqlite::Connection;

use super::Source;
use super::ends::Of;
use crate::copies::{Creation, Found, locate};
use crate::files;
use crate::keyring::{Keyring, Opening};
use crate::profile::Inner;
use crate::renew::{asides, renewed_purpose};
use crate::space::Shared;
use crate::state::load_keyring;
use crate::touched::load;
use crate::trouble::is_damage;
use crate::vault::Vault;
use crate::{Error, Result};

/// The old file.
pub(super) struct Old {
    pub(super) db: Connection,
    keyring: Keyring,
    pub(super) log: Log,
    /// Documents as they were there, with what counts no more in them.
    documents: HashMap<Of, Document>,
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
        let keyring = match load_keyring(&db, &vault) {
            // This device was given most of them anew.
            Err(error) if is_damage(&error) => shared.published()?.keyring.clone(),
            loaded => loaded?,
        };
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

    /// The same; nothing as well if it cannot be read.
    fn readable(&self, section: &Section) -> Result<Option<OldSection>> {
        match self.read(section) {
            Err(error) if is_damage(&error) => Ok(None),
            read => read,
        }
    }

    /// A document as it was there, whole: what is void there too is put into it.
    pub(super) fn document(&mut self, of: Of) -> Result<Option<&mut Document>> {
        let (object, band, generation) = of;
        if !self.documents.contains_key(&of) {
            let found = match self.stored(&object, (band, generation)) {
                Err(error) if is_damage(&error) => None,
                found => found?,
            };
            let found = match found {
                Some(found) => Some(found),
                None => of_content(self.made_from_log(&object, &generation))?,
            };
            let Some(found) = found else { return Ok(None) };
            self.documents.insert(of, found);
        }
        Ok(self.documents.get_mut(&of))
    }

    fn stored(&self, object: &ObjectId, of: Creation) -> Result<Option<Document>> {
        match locate(&self.db, object, of)? {
            Found::At(row) => load(&self.db, &row).map(Some),
            Found::Buried | Found::Unknown => Ok(None),
        }
    }

    /// A document that does not stand there, or cannot be read: what its sections make of it.
    fn made_from_log(&self, object: &ObjectId, generation: &EntryHash) -> Result<Option<Document>> {
        let (mut created, mut changes) = (None, Vec::new());
        for section in sections::of_object(&self.db, object)? {
            let Some(read) = self.readable(&section)? else { continue };
            let metadata = &read.opened.metadata;
            if metadata.kind == kind::DOCUMENT_CREATE && read.entry == *generation {
                let create = body::Create::decode(&read.opened.body)?;
                created = Some(Document::flat(create.value()?));
            } else if metadata.kind == kind::DOCUMENT_CHANGE
                && metadata.generation == Some(*generation)
            {
                let device = logs::by_number(&self.db, section.place.log)?.device;
                let author = Actor::of(&device, object, generation);
                changes.push((section.section, author, read.opened.body));
            }
        }
        let Some(mut document) = created else { return Ok(None) };
        changes.sort_by_key(|(section, ..)| *section);
        for (_, author, bytes) in &changes {
            for change in body::Change::decode(bytes)?.changes()? {
                document.apply(&[(*author, change)]);
            }
        }
        Ok(Some(document))
    }

    /// What of an entry is to be done again; what cannot be read of it.
    pub(super) fn entry(&self, seq: u64) -> Result<(Vec<OldSection>, u64)> {
        let (mut found, mut unread) = (Vec::new(), 0);
        let sections = sections::of_entry(&self.db, self.log.log, seq).map_err(Error::from);
        for section in of_content(sections)? {
            if section.state == SectionState::Erased {
                continue;
            }
            match self.readable(&section)? {
                Some(read) => found.push(read),
                None => unread += 1,
            }
        }
        Ok((found, unread))
    }

    /// The idempotency keys of an entry, with the digests of what was written under them. None:
    /// they cannot be read.
    pub(super) fn keys_of(&self, seq: u64) -> Result<Option<Vec<(IdempotencyKey, Hash)>>> {
        match units::of_entry(&self.db, seq).map_err(Error::from) {
            Err(error) if is_damage(&error) => Ok(None),
            keys => keys.map(Some),
        }
    }

    /// Where the entries of this log that are `here` part from those of the old one: the first that
    /// is not the same. What cannot be read is taken for another.
    pub(super) fn first_unlike(&self, db: &Connection, here: &Log) -> Result<u64> {
        let (mut like, mut unlike) =
            (0, here.frontier.size().min(self.log.frontier.size()).saturating_add(1));
        // Where two histories have parted no entry of one is in the other.
        while like + 1 < unlike {
            let mut at = like + (unlike - like) / 2;
            let theirs = loop {
                match entries::hash(&self.db, self.log.log, at).map_err(Error::from) {
                    Err(error) if is_damage(&error) => at += 1,
                    read => break read?,
                }
                if at == unlike {
                    break None;
                }
            };
            if at == unlike {
                unlike = like + (unlike - like) / 2;
            } else if theirs == entries::hash(db, here.log, at)? {
                like = at;
            } else {
                unlike = at;
            }
        }
        Ok(like + 1)
    }
}

/// An error that says that the old file is damaged is about what was to be carried over.
pub(super) fn of_content<T>(read: Result<T>) -> Result<T> {
    match read {
        Err(error) if is_damage(&error) => {
            Err(Error::Invalid(format!("it cannot be read: {error}")))
        }
        read => read,
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
        // An earlier version may have set it aside. What is damaged is read as far as it can be.
        let open = |access| self.storage.open(file, &key, false, access);
        let migrated = open(ConnAccess::Write)
            .and_then(|mut db| Ok(SPACE.migrate(&mut db, Run::at(self.env.now()))?));
        match migrated {
            Err(error) if !is_damage(&error) => return Err(error),
            _ => {}
        }
        let db = open(ConnAccess::Read)?;
        Ok((db, Vault::of_space(&secret, id)))
    }
}
