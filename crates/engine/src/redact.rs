//! Redaction: parts of a document go from its whole history, on every device.
//!
//! Invariants: the document with what is left, under an id of its own, and the erasure of the old
//! one are one transaction. What is edited in the old one beside that is made again in the new one
//! by each device that has it, before the old one goes there, but for the parts that were taken
//! out: by changes that are the same on each.

use std::collections::BTreeSet;

use larder_document::body::{Create, Redacted, Stood};
use larder_document::{Document, Heads, Object, resolved, take_out_part, up_to_list};
use larder_log::snapshot::Leaf;
use larder_log::{Receipt, kind};
use larder_store::space::documents::{self, Document as Row};
use larder_store::space::erasures::{self, State as Stage};
use larder_store::space::snapshots::{self, State as Stands};
use larder_store::space::{copies, sections};
use larder_types::ObjectId;
use larder_types::limits::{REDACTED_OBJECTS_MAX, REDACTED_PATHS_ASKED_MAX};
use rusqlite::Connection;

use crate::copies::root;
use crate::erase::read_act;
use crate::history::live;
use crate::keyring::Opening;
use crate::read::snapshot;
use crate::space::Space;
use crate::state::State as WriterState;
use crate::touched::{State, Touched, check_current, load};
use crate::writer::SpaceWriter;
use crate::{Error, Result};

mod settle;
#[cfg(test)]
mod tests;

pub(crate) use self::settle::{Redacts, awaited, of_redactions};

/// A document that parts were taken out of.
#[derive(Debug, Clone)]
pub struct Redaction {
    /// The id under which the rest is.
    pub object: ObjectId,
    /// The receipt of its creation.
    pub created: Receipt,
    /// The receipt of the erasure of the old one.
    pub erased: Receipt,
}

impl Space {
    /// Where what is left of a redacted document is by now; `None` if it was not redacted. Of one
    /// that was redacted by two devices that did not know of each other there are two: the one with
    /// the lower id.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn redacted_as(&self, object: &ObjectId) -> Result<Option<ObjectId>> {
        let db = self.shared.pool.reader()?;
        let found = follow(&*snapshot(&db)?, object)?;
        Ok((found != *object).then_some(found))
    }
}

impl SpaceWriter {
    /// Takes parts out of a document's whole history, everywhere: what is left is created under an
    /// id of its own, and the old document is erased ([`SpaceWriter::erase`]), as one. Each path
    /// leads from member to member, from the root on; in a list, to the element with that place
    /// now. A part that only an earlier version has goes too. Vectors that an app gave the old
    /// document are not given to the new one.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such document, or no version of it had such a part;
    /// [`Error::Deleted`]; [`Error::Trashed`]; [`Error::Invalid`] if more than one document was
    /// created under its id, or too many parts were taken out; [`Error::MayNotWrite`]; the
    /// storage's errors. Nothing is done then.
    pub fn redact(&mut self, object: ObjectId, paths: &[Vec<String>]) -> Result<Redaction> {
        self.redact_of(object, paths, None)
    }

    /// The same of the version that somebody has read: what came since may have moved the places
    /// in a list, and another element would go for ever.
    ///
    /// # Errors
    /// As [`SpaceWriter::redact`]; [`Error::Conflict`] if it is not the current version any more.
    pub fn redact_exactly(
        &mut self,
        object: ObjectId,
        heads: &Heads,
        paths: &[Vec<String>],
    ) -> Result<Redaction> {
        self.redact_of(object, paths, Some(heads))
    }

    fn redact_of(
        &mut self,
        object: ObjectId,
        paths: &[Vec<String>],
        read: Option<&Heads>,
    ) -> Result<Redaction> {
        if paths.is_empty() || paths.iter().any(Vec::is_empty) {
            return Err(Error::Invalid("name the parts that are to go".into()));
        }
        self.transact(|tx, state| {
            state.check_may_write()?;
            let row = live(tx, &object)?;
            state.check_cleared(row.band)?;
            WriterState::check_known(tx, &object)?;
            if !copies::through(tx, &object)?.is_empty() {
                return Err(Error::Invalid(format!(
                    "more than one document was created under the id {object}, and all of them \
                     would go: write them anew under ids of their own, and erase this one"
                )));
            }
            let document = load(tx, &row)?;
            if document.trashed()?.is_some() {
                return Err(Error::Trashed(object));
            }
            if let Some(read) = read {
                check_current(object, &document, read)?;
            }
            let value = document.value()?;
            // Named twice, another element of a list would go too.
            let paths: BTreeSet<_> = paths.iter().map(|path| resolved(&value, path)).collect();
            let paths: Vec<_> = paths.into_iter().collect();
            for path in &paths {
                if !document.ever_had(path)? {
                    let path = path.join("/");
                    let message = format!("no version of document {object} has a part {path}");
                    return Err(Error::NotFound(message));
                }
            }
            state.ensure_epoch(tx)?;
            let redacted = state.redacted(tx, &row, &document, &paths, REDACTED_PATHS_ASKED_MAX)?;
            let (new, created, erased) = state.redact_now(tx, &row, &document, &paths, redacted)?;
            let (created, erased) = (state.receipt(tx, created)?, state.receipt(tx, erased)?);
            Ok(Redaction { object: new, created, erased })
        })
    }
}

impl WriterState {
    /// Creates what is left of a document, and erases it. The new id, and the entries of both.
    fn redact_now(
        &mut self,
        db: &Connection,
        row: &Row,
        document: &Document,
        paths: &[Vec<String>],
        redacted: Redacted,
    ) -> Result<(ObjectId, u64, u64)> {
        let mut value = document.value()?;
        // From the back: each place in a list is that of now.
        let mut in_order = paths.to_vec();
        let key = |path: &Vec<String>| path.iter().map(|name| place_last(name)).collect::<Vec<_>>();
        in_order.sort_by_cached_key(key);
        for path in in_order.iter().rev() {
            take_out_part(&mut value, path);
        }
        let object = ObjectId::random(&mut *self.shared.env.entropy());
        let mut touched = Touched::default();
        let part = touched.part(db, &mut self.cache, object)?;
        part.state = State::New {
            collection: row.collection.clone(),
            value,
            from: Some(row.object),
            redacted: Some(Box::new(redacted)),
            band: row.band,
        };
        let created = self.finish(db, touched, Some(ACTOR), None)?.seq;
        let listed = self.to_list(db, &row.object, self.reads_up_to()?)?;
        let erased = self.append_erasure(db, row.object, listed, Some(object))?;
        Ok((object, created, erased))
    }

    /// What a document stands for once these parts are taken out of it, if they come to no more
    /// than so many with those of before.
    fn redacted(
        &self,
        db: &Connection,
        row: &Row,
        document: &Document,
        paths: &[Vec<String>],
        paths_max: usize,
    ) -> Result<Redacted> {
        let before = self.left(db, &row.object)?.map(|left| left.stands_for).unwrap_or_default();
        let mut of = vec![Stood { object: row.object, heads: document.heads() }];
        of.extend(before.of);
        of.truncate(REDACTED_OBJECTS_MAX);
        let value = document.value()?;
        let mut all: BTreeSet<Vec<String>> = before.paths.into_iter().collect();
        all.extend(paths.iter().map(|path| up_to_list(&value, path)));
        // In this order, what a part stands in comes right before it.
        let mut paths: Vec<Vec<String>> = Vec::new();
        for path in all {
            if !paths.last().is_some_and(|last| path.starts_with(last)) {
                paths.push(path);
            }
        }
        if paths.len() > paths_max {
            return Err(Error::Invalid(format!(
                "{} parts of this document would have been redacted, and {paths_max} may be: \
                 redact what they stand in",
                paths.len()
            )));
        }
        Ok(Redacted { of, paths })
    }

    /// What an object is that is left of redacted ones, if that is known here: as its creation
    /// says, or the leaf of a snapshot that stands for that.
    fn left(&self, db: &Connection, object: &ObjectId) -> Result<Option<Left>> {
        if let Some(create) = self.created(db, object)? {
            let value = create.value()?;
            return Ok(create.redacted.map(|stands_for| Left { value, stands_for }));
        }
        let Some(row) = documents::find(db, object)? else { return Ok(None) };
        let key = (row.band, root(db, object)?, row.generation);
        for stage in [Stands::Held, Stands::Receiving] {
            let Some(of) = snapshots::in_state(db, stage)? else { continue };
            let leaf = snapshots::leaf(db, &of, &key)?.map(|leaf| leaf.read()).transpose()?;
            let Some(Leaf::Document(leaf)) = leaf else { continue };
            if let Some(stands_for) = leaf.redacted.and_then(|of| Redacted::decode(&of).ok()) {
                let value = load(db, &row)?.value_at(&Heads::FLAT)?;
                return Ok(Some(Left { value, stands_for }));
            }
        }
        Ok(None)
    }

    /// How an object was created, if that is here and opens.
    pub(crate) fn created(&self, db: &Connection, object: &ObjectId) -> Result<Option<Create>> {
        for section in sections::of_object(db, object)? {
            if section.about.is_none_or(|about| about.kind != kind::DOCUMENT_CREATE) {
                continue;
            }
            if let Some((_, Opening::Opened(opened))) = self.open_stored(db, &section)? {
                return Ok(Create::decode(&opened.body).ok());
            }
        }
        Ok(None)
    }
}

/// What is left of redacted documents.
struct Left {
    /// The value that it was created with.
    value: Object,
    stands_for: Redacted,
}

/// Where what is left of an object is, as far as acts of redaction lead; else the object itself.
pub(crate) fn follow(db: &Connection, object: &ObjectId) -> Result<ObjectId> {
    let (mut at, mut seen) = (*object, BTreeSet::from([*object]));
    loop {
        let mut next: Option<ObjectId> = None;
        for act in erasures::of_object(db, &at)?.iter().filter(|act| act.stage != Stage::Void) {
            let instead = read_act(db, act)?.and_then(|act| act.instead);
            next = instead.into_iter().chain(next).min();
        }
        match next.filter(|next| seen.len() <= HOPS_MAX && seen.insert(*next)) {
            Some(next) => at = next,
            None => return Ok(at),
        }
    }
}

/// A name of a member, or a place in a list: places by number.
fn place_last(name: &str) -> (usize, String) {
    (name.parse().unwrap_or(0), name.to_owned())
}

/// Who did it, in the log.
const ACTOR: &str = "redaction";
const HOPS_MAX: usize = 1024;
