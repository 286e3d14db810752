//! Redaction: parts of a document go from its whole history, on every device.
//!
//! Invariants: the document with what is left, under an id of its own, and the erasure of the old
//! one are one transaction. What is edited in the old one beside that is made again in the new one
//! by who edited it, before the old one goes there, but for the parts that were taken out.

use std::collections::BTreeSet;

use larder_document::body::{Create, Redacted, Stood};
use larder_document::{Actor, Document, carry_over, take_out_part, up_to_list};
use larder_log::{Receipt, kind};
use larder_store::space::documents::{self, Document as Row};
use larder_store::space::erasures::{self, Erasure, State as Stage};
use larder_store::space::{copies, sections};
use larder_types::limits::{REDACTED_OBJECTS_MAX, REDACTED_PATHS_MAX};
use larder_types::{DeviceId, ObjectId};
use rusqlite::Connection;

use crate::copies::is_deleted;
use crate::erase::read_act;
use crate::keyring::Opening;
use crate::read::snapshot;
use crate::space::Space;
use crate::state::State as WriterState;
use crate::touched::{State, Touched, load};
use crate::unit::Base;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

#[cfg(test)]
mod tests;

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
        if paths.is_empty() || paths.iter().any(Vec::is_empty) {
            return Err(Error::Invalid("name the parts that are to go".into()));
        }
        self.transact(|tx, state| {
            state.check_may_write()?;
            let Some(row) = documents::find(tx, &object)? else {
                if is_deleted(tx, &object)? {
                    return Err(Error::Deleted(object));
                }
                return Err(Error::NotFound(format!("there is no document {object}")));
            };
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
            for path in paths {
                if !document.ever_had(path)? {
                    let path = path.join("/");
                    let message = format!("no version of document {object} has a part {path}");
                    return Err(Error::NotFound(message));
                }
            }
            state.ensure_epoch(tx)?;
            let (new, created, erased) = state.redact_now(tx, &row, &document, paths)?;
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
    ) -> Result<(ObjectId, u64, u64)> {
        let mut value = document.value()?;
        let redacted = self.redacted(db, row, document, paths)?;
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
        let listed = self.to_list(db, &row.object, self.clearance)?;
        let erased = self.append_erasure(db, row.object, listed, Some(object))?;
        Ok((object, created, erased))
    }

    fn redacted(
        &self,
        db: &Connection,
        row: &Row,
        document: &Document,
        paths: &[Vec<String>],
    ) -> Result<Redacted> {
        let before = self.created(db, &row.object)?.and_then(|create| create.redacted);
        let before = before.unwrap_or_default();
        let mut of = vec![Stood { object: row.object, heads: document.heads() }];
        of.extend(before.of);
        of.truncate(REDACTED_OBJECTS_MAX);
        let value = document.value()?;
        let mut all: BTreeSet<Vec<String>> = before.paths.into_iter().collect();
        all.extend(paths.iter().map(|path| up_to_list(&value, path)));
        if all.len() > REDACTED_PATHS_MAX {
            return Err(Error::Invalid(format!(
                "{} parts of this document would have been redacted, and {REDACTED_PATHS_MAX} may \
                 be: redact what they stand in",
                all.len()
            )));
        }
        Ok(Redacted { of, paths: all.into_iter().collect() })
    }

    /// How an object was created, if that is here and opens.
    fn created(&self, db: &Connection, object: &ObjectId) -> Result<Option<Create>> {
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

    /// Before an object goes: own edits that whoever redacted it did not know are made again in
    /// what is left of it. Who redacted it too takes out of its own what the other has.
    pub(crate) fn settle_redactions(
        &mut self,
        db: &Connection,
        object: ObjectId,
        acts: &[Erasure],
    ) -> Result<()> {
        let me = self.device();
        let may = self.shared.may_append()
            && self.check_may_write().is_ok()
            && !self.stopped.contains(&me);
        if !may {
            return Ok(());
        }
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for act in acts {
            let instead = read_act(db, act)?.and_then(|act| act.instead);
            let into = if act.place.log == self.log { &mut own } else { &mut others };
            into.extend(instead);
        }
        if let Some(first) = others.first() {
            self.carry_over(db, object, follow(db, first)?, me)?;
        }
        for own in own {
            for other in others.iter().filter(|other| **other != own) {
                self.take_out_others(db, &own, other)?;
            }
        }
        Ok(())
    }

    /// Makes own edits of `object` again in `new`.
    fn carry_over(
        &mut self,
        db: &Connection,
        object: ObjectId,
        new: ObjectId,
        me: DeviceId,
    ) -> Result<()> {
        let (Some(old), Some(row)) = (documents::find(db, &object)?, documents::find(db, &new)?)
        else {
            return Ok(());
        };
        let redacted = self.created(db, &new)?.and_then(|create| create.redacted);
        let Some(redacted) = redacted.filter(|_| old.band == row.band) else { return Ok(()) };
        let Some(known) = redacted.of.iter().find(|stood| stood.object == object) else {
            return Ok(());
        };
        let own = Actor::of(&me, &object, &old.generation);
        let Some((before, after)) = load(db, &old)?.edits_beside(&known.heads, own)? else {
            return Ok(());
        };
        let theirs = load(db, &row)?.value()?;
        // What there is no room for is lost, as the list of erasures says.
        let Ok(Some(value)) = carry_over(before, after, &theirs, &redacted.paths) else {
            return Ok(());
        };
        self.ensure_epoch(db)?;
        let now = self.shared.env.now();
        let mut touched = Touched::default();
        let part = touched.part(db, &mut self.cache, new)?;
        let of = (&row.collection, None, row.band);
        let actor = |root: &ObjectId, generation: &_| Actor::of(&me, root, generation);
        match part.put(new, of, &value, &Base::Latest, actor, now) {
            Ok(()) => {}
            Err(Error::Document(_) | Error::Trashed(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.finish(db, touched, Some(ACTOR), None)?;
        self.sign(db)
    }

    /// Two devices have redacted one document without knowing of each other: out of what this one
    /// left goes what the other took out too.
    fn take_out_others(&mut self, db: &Connection, own: &ObjectId, other: &ObjectId) -> Result<()> {
        let (own, other) = (follow(db, own)?, follow(db, other)?);
        let Some(row) = documents::find(db, &own)? else { return Ok(()) };
        let redacted = |id| Ok::<_, Error>(self.created(db, id)?.and_then(|c| c.redacted));
        let (Some(mine), Some(theirs)) = (redacted(&own)?, redacted(&other)?) else {
            return Ok(());
        };
        let mut paths = theirs.paths;
        paths.retain(|path| !mine.paths.contains(path));
        if own == other || paths.is_empty() {
            return Ok(());
        }
        let document = load(db, &row)?;
        self.ensure_epoch(db)?;
        match self.redact_now(db, &row, &document, &paths) {
            Ok(_) | Err(Error::Invalid(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Where what is left of an object is, as far as acts of redaction lead; else the object itself.
fn follow(db: &Connection, object: &ObjectId) -> Result<ObjectId> {
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
