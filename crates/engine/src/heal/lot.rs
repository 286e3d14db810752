//! What one step of a check looks at.

use larder_log::Band;
use larder_store::space::documents::{self, Document};
use larder_store::space::sections::{self, Section};
use larder_store::{ErrorKind, StoreError};
use larder_types::ObjectId;
use rusqlite::Connection;

use super::blobs::Looked;
use super::{
    CheckedPart, Checking, DOCUMENTS, Outcome, STEP, Stage, blobs, documents as objects,
    is_document, is_unreadable, log, search,
};
use crate::state::State as WriterState;
use crate::{Error, Result};

/// Things that are looked at in one transaction.
pub(super) enum Lot {
    /// What is wrong with the file as a whole.
    File(Option<String>),
    Log(usize),
    Acts,
    Sections(Vec<Section>),
    Objects(Vec<ObjectId>),
    Rows(Vec<Document>),
    Blobs(Looked),
    Words,
    Indexed(Vec<Document>, bool),
    Nothing,
}

/// A lot, and what comes after it.
pub(super) struct Listed {
    pub(super) lot: Lot,
    pub(super) then: Stage,
}

/// What is next. What cannot even be listed is said to be lost.
pub(super) fn list(db: &Connection, stage: Stage, checking: &mut Checking) -> Result<Listed> {
    let (lot, then) = match stage {
        Stage::Database => (Lot::File(damage_of_file(db)?), Stage::Logs(0)),
        Stage::Logs(at) => {
            let is_one = at < larder_store::space::logs::every(db)?.len();
            if is_one { (Lot::Log(at), Stage::Logs(at + 1)) } else { (Lot::Nothing, Stage::Acts) }
        }
        Stage::Acts => (Lot::Acts, Stage::Sections(0)),
        Stage::Sections(after) => {
            let read = |after, limit| sections::page(db, after, limit);
            let (page, last) = page(read, |row| row.section, after, (checking, "sections"))?;
            (Lot::Sections(page), last.map_or(Stage::Documents(None), Stage::Sections))
        }
        Stage::Documents(after) => {
            let page = objects(db, after.as_ref(), checking)?;
            let then = page.last().map_or(Stage::Strays(0), |last| Stage::Documents(Some(*last)));
            (Lot::Objects(page), then)
        }
        Stage::Strays(after) => {
            let (page, last) = rows(db, after, checking)?;
            (Lot::Rows(page), last.map_or(Stage::Blobs(0), Stage::Strays))
        }
        Stage::Blobs(after) => {
            let looked = match blobs::look(db, after) {
                Err(error) if is_unreadable(&error) => {
                    checking.lost(CheckedPart::Blob, error.to_string());
                    return Ok(Listed { lot: Lot::Nothing, then: Stage::Words });
                }
                looked => looked?,
            };
            let then = looked.last().map_or(Stage::Words, Stage::Blobs);
            (Lot::Blobs(looked), then)
        }
        Stage::Words => (Lot::Words, Stage::Indexed(0, false)),
        Stage::Indexed(after, is_bad) => {
            let (page, last) = rows(db, after, checking)?;
            let then = last.map_or(Stage::Done, |last| Stage::Indexed(last, false));
            (Lot::Indexed(page, is_bad), then)
        }
        Stage::Done => (Lot::Nothing, Stage::Done),
    };
    Ok(Listed { lot, then })
}

/// Every page authenticates, tables and indexes agree. The indexes of words check themselves on
/// their own.
fn damage_of_file(db: &Connection) -> Result<Option<String>> {
    match larder_store::check(db) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            Ok(Some(error.to_string()).filter(|what| !what.to_lowercase().contains("fts5")))
        }
        Err(error) => Err(error.into()),
    }
}

fn rows(
    db: &Connection,
    after: i64,
    checking: &mut Checking,
) -> Result<(Vec<Document>, Option<i64>)> {
    let read = |after, limit| {
        documents::page(db, (documents::Which::All, None, Band::Black), after, limit)
    };
    page(read, |row| row.document, after, (checking, "documents"))
}

/// Some rows behind a number, and the last number that was looked at, if there is more. Where a
/// page of the table cannot be read, number by number.
fn page<T>(
    read: impl Fn(i64, u32) -> std::result::Result<Vec<T>, StoreError>,
    number: impl Fn(&T) -> i64,
    after: i64,
    (checking, table): (&mut Checking, &str),
) -> Result<(Vec<T>, Option<i64>)> {
    let is_damage = |error: &StoreError| error.kind() == ErrorKind::Corrupt;
    match read(after, STEP) {
        Err(error) if is_damage(&error) => {}
        page => {
            let page = page?;
            let last = page.last().map(number);
            return Ok((page, last));
        }
    }
    let (mut page, mut at, mut unread) = (Vec::new(), after, 0);
    while unread < UNREAD_MAX {
        match read(at, 1) {
            Ok(mut one) => {
                let Some(row) = one.pop() else { break };
                at = number(&row);
                page.push(row);
                if unread > 0 || page.len() == STEP as usize {
                    break;
                }
            }
            Err(error) if is_damage(&error) => {
                at += 1;
                unread += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if unread > 0 {
        let what = format!("{table} numbered from {} to {at} cannot be read", at - unread + 1);
        checking.lost(CheckedPart::Database, what);
    }
    // Behind what cannot be read there may be nothing more: that cannot be told.
    let is_more = !page.is_empty();
    Ok((page, is_more.then_some(at)))
}

/// Some objects behind one. Where a page of the sections cannot be read, by their index alone.
fn objects(
    db: &Connection,
    after: Option<&ObjectId>,
    checking: &mut Checking,
) -> Result<Vec<ObjectId>> {
    let is_damage = |error: &StoreError| error.kind() == ErrorKind::Corrupt;
    match sections::objects(db, after, DOCUMENTS, STEP) {
        Err(error) if is_damage(&error) => {}
        page => return Ok(page?),
    }
    let (mut page, mut at) = (Vec::new(), after.copied());
    while page.len() < STEP as usize {
        match sections::next_object(db, at.as_ref()) {
            Ok(Some(object)) => {
                at = Some(object);
                let sections = sections::of_object(db, &object);
                if sections.is_ok_and(|all| !all.iter().any(is_document)) {
                    continue;
                }
                page.push(object);
            }
            Ok(None) => break,
            Err(error) if is_damage(&error) => {
                checking.lost(CheckedPart::Document, format!("some are not known: {error}"));
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(page)
}

impl Lot {
    /// Whether something is as bad as [`Stage::if_bad`] says.
    pub(super) fn check(
        &self,
        db: &Connection,
        state: &mut WriterState,
        checking: &mut Checking,
    ) -> Result<bool> {
        match self {
            Self::File(None) | Self::Nothing => {}
            Self::File(Some(what)) => file(db, checking, what)?,
            Self::Log(at) => return log::check_log(db, state, checking, *at),
            Self::Acts => log::check_strays(db, state, checking)?,
            Self::Sections(page) => log::check_sections(db, state, checking, page)?,
            Self::Objects(page) => objects::check_objects(db, state, checking, page)?,
            Self::Rows(page) => objects::check_strays(db, state, checking, page)?,
            Self::Blobs(looked) => blobs::settle(db, checking, looked)?,
            Self::Words => {
                return Ok(!larder_search::is_sound(db)? || larder_search::strays(db)? > 0);
            }
            Self::Indexed(page, is_bad) => {
                return search::check(db, state, checking, page, *is_bad);
            }
        }
        Ok(false)
    }

    /// Each thing by itself; the lot if it is one.
    pub(super) fn split(self) -> std::result::Result<Vec<Self>, Self> {
        match self {
            Self::Sections(all) if all.len() > 1 => {
                Ok(all.into_iter().map(|one| Self::Sections(vec![one])).collect())
            }
            Self::Objects(all) if all.len() > 1 => {
                Ok(all.into_iter().map(|one| Self::Objects(vec![one])).collect())
            }
            Self::Rows(all) if all.len() > 1 => {
                Ok(all.into_iter().map(|one| Self::Rows(vec![one])).collect())
            }
            Self::Indexed(all, false) if all.len() > 1 => {
                Ok(all.into_iter().map(|one| Self::Indexed(vec![one], false)).collect())
            }
            one => Err(one),
        }
    }

    /// It could not be looked at, or not be mended.
    pub(super) fn is_lost(&self, checking: &mut Checking, damage: &Error) {
        let of_file = |what: &Option<String>| what.clone().unwrap_or_else(|| damage.to_string());
        match self {
            Self::File(what) => drop(checking.lost(CheckedPart::Database, of_file(what))),
            Self::Log(_) | Self::Acts => drop(checking.lost(CheckedPart::Log, damage.to_string())),
            Self::Sections(page) => {
                let finding = checking.lost(CheckedPart::Section, damage.to_string());
                finding.seq = page.first().map(|section| section.place.seq);
                finding.object = page.first().and_then(|section| section.about?.object);
            }
            Self::Objects(page) => {
                let finding = checking.lost(CheckedPart::Document, damage.to_string());
                finding.object = page.first().copied();
            }
            Self::Rows(page) => {
                let finding = checking.lost(CheckedPart::Document, damage.to_string());
                finding.object = page.first().map(|row| row.object);
            }
            Self::Blobs(_) => drop(checking.lost(CheckedPart::Blob, damage.to_string())),
            Self::Words | Self::Indexed(..) | Self::Nothing => {
                checking.lost(CheckedPart::Search, damage.to_string());
            }
        }
    }
}

/// Indexes of tables are made again from these.
fn file(db: &Connection, checking: &mut Checking, what: &str) -> Result<()> {
    if checking.repair {
        larder_store::rebuild_indexes(db)?;
    }
    let is_mended = checking.repair && damage_of_file(db)?.is_none();
    let repair = checking.repair;
    let finding = checking.found(CheckedPart::Database, what);
    if repair && !is_mended {
        finding.outcome = Outcome::Lost;
    }
    Ok(())
}

/// Numbers one behind the other that are tried where a page cannot be read.
const UNREAD_MAX: i64 = 4096;
