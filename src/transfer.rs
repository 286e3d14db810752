//! Copying and moving documents from one space to another: nothing of the one's keys is used in the
//! other. What is cut in between leaves the document in both, never in none, and the same call
//! again completes it.

use std::collections::BTreeMap;

use larder_engine::{
    Band, Base, COPIED, Document, HistoryItem, MOVED, NewBlob, Object, SpaceWriter, Version,
    blobs_in, copy_id,
};
use larder_types::limits::DOCUMENT_DEPTH_MAX;
use larder_types::{BlobId, CorrelationId, ObjectId, SpaceKind};
use serde_json::Value;

use crate::{Error, Receipt, Result, Space, UnitOfWork};

/// What came of [`Space::copy_to`] and [`Space::move_to`].
#[derive(Debug, Clone)]
pub struct Transferred {
    /// The document's id in the other space.
    pub object: ObjectId,
    /// That it was created there.
    pub created: Receipt,
    /// That the one here is in the trash, if it was moved.
    pub trashed: Option<Receipt>,
    /// What both entries have as their correlation, sealed: it ties the receipts to each other.
    pub correlation: CorrelationId,
    /// Whether it had been there before, by an earlier call.
    pub was_there: bool,
    /// Blobs that it names of which nothing is known on this device, so they were not copied. Never
    /// any of a move.
    pub lacking: Vec<BlobId>,
}

impl Space {
    /// Copies a document into another space of this profile, with the blobs that it names: as a new
    /// document there, sealed under that space's keys, with its present value and no history.
    /// Called again, it is the same copy: as long as nobody has edited that, it gets this one's
    /// value of then. `band` is that of the copy; `None`: as sensitive as this one, or as that
    /// space's new documents are if that is more; its blobs are as it is. What is BLACK goes to a
    /// space that other devices may have only if a band is said: somebody wants that it leaves this
    /// device.
    ///
    /// Of a blob that this device does not know (it has not arrived, or is above its clearance) the
    /// id alone is copied: [`Transferred::lacking`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound);
    /// [`ErrorKind::Deleted`](crate::ErrorKind::Deleted);
    /// [`ErrorKind::Trashed`](crate::ErrorKind::Trashed);
    /// [`ErrorKind::NotHere`](crate::ErrorKind::NotHere) if content of a blob has to be fetched
    /// first, or if such a blob stands against bringing an earlier copy up to date;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) within one space, if both the document and
    /// its copy were edited since, if an earlier copy was redacted or erased, for another band than
    /// an earlier copy has, and for a lower one than that of a blob which is above the document;
    /// [`ErrorKind::NotAllowed`](crate::ErrorKind::NotAllowed) where this device may not write; the
    /// storage's.
    pub async fn copy_to(
        &self,
        object: ObjectId,
        target: &Self,
        band: Option<Band>,
    ) -> Result<Transferred> {
        self.transfer(object, target, band, false).await
    }

    /// The same, and then puts the document into the trash here, if it is what was copied: only
    /// once the copy is durable. If it is cut in between, the document is in both spaces; the same
    /// call again completes it.
    ///
    /// # Errors
    /// As [`Space::copy_to`]; [`ErrorKind::NotHere`](crate::ErrorKind::NotHere) for any blob that
    /// this device does not know; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the
    /// document was edited meanwhile: it stays here then, and the same call again takes that over.
    pub async fn move_to(
        &self,
        object: ObjectId,
        target: &Self,
        band: Option<Band>,
    ) -> Result<Transferred> {
        self.transfer(object, target, band, true).await
    }

    async fn transfer(
        &self,
        object: ObjectId,
        target: &Self,
        band: Option<Band>,
        moves: bool,
    ) -> Result<Transferred> {
        let black = match band {
            Some(Band::Black) if target.name().kind() != SpaceKind::Black => {
                Some(target.black_made().await?)
            }
            _ => None,
        };
        let target = black.as_ref().unwrap_or(target);
        let home = self.home_of(object).await?;
        home.transfer_own(object, target, band, moves).await
    }

    async fn transfer_own(
        &self,
        object: ObjectId,
        target: &Self,
        band: Option<Band>,
        moves: bool,
    ) -> Result<Transferred> {
        if self.id() == target.id() {
            return Err(invalid("a document is copied to another space than its own".to_owned()));
        }
        let Some(document) = self.document(object).await? else {
            return Err(if self.is_deleted(object).await? {
                larder_engine::Error::Deleted(object).into()
            } else {
                not_found(format!("there is no document {object} in {}", self.name()))
            });
        };
        let (copy, correlation, there) = self.copy_of(object, target).await?;
        if document.trashed.is_some() {
            // Moved before: told once more.
            let trashed = match there {
                Some(_) if moves => self.trashed_with(object, correlation).await?,
                _ => None,
            };
            let Some(trashed) = trashed else {
                return Err(larder_engine::Error::Trashed(object).into());
            };
            let created = target.created_by(copy).await?;
            let (trashed, was_there, lacking) = (Some(trashed), true, Vec::new());
            let object = copy;
            return Ok(Transferred { object, created, trashed, correlation, was_there, lacking });
        }
        if moves {
            // Else the copy would be left behind on every try.
            let check = |writer: &mut SpaceWriter| writer.check_may_write();
            self.open_seen().await?.writer()?.with(check).await?;
        }
        let band = target.band_of_copy(&document, there.as_ref(), band).await?;
        let (value, lacking) = self.value_there(&document, target, band).await?;
        if let Some(id) = lacking.first()
            && (moves || there.as_ref().is_some_and(|there| there.value != value))
        {
            return Err(larder_engine::Error::BlobNotKnown(*id).into());
        }
        let collection = document.collection.as_str();
        let was_there = there.is_some();
        let unit = match there {
            None => {
                let mut unit = UnitOfWork::new();
                unit.band(band);
                unit.put_json(collection, copy, value)?;
                Some(unit)
            }
            Some(there) => target.renewal(object, &there, value, correlation).await?,
        };
        if let Some(mut unit) = unit {
            unit.correlation(correlation);
            unit.actor(if moves { MOVED } else { COPIED });
            target.commit(unit).await?;
        }
        let created = target.created_by(copy).await?;
        let mut trashed = None;
        if moves {
            let mut unit = UnitOfWork::new();
            // Nothing is written by it: it fails if this is not what was copied any more.
            let base = Base::Exactly(document.heads.clone());
            unit.put_at(collection, object, &document.value, base)?;
            unit.trash(object);
            unit.correlation(correlation);
            unit.actor(MOVED);
            trashed = Some(self.commit(unit).await?);
        }
        Ok(Transferred { object: copy, created, trashed, correlation, was_there, lacking })
    }

    /// How sensitive a copy of a document is here.
    async fn band_of_copy(
        &self,
        document: &Document,
        there: Option<&Document>,
        asked: Option<Band>,
    ) -> Result<Band> {
        if let Some(there) = there {
            if let Some(asked) = asked.filter(|asked| *asked != there.band) {
                return Err(invalid(format!(
                    "its copy in {} is there already, as {}: {}. A document keeps its band, so it \
                     cannot be {asked} as well",
                    self.name(),
                    there.object,
                    there.band
                )));
            }
            return Ok(there.band);
        }
        let leaves = document.band == Band::Black && self.name().kind() != SpaceKind::Black;
        if leaves && asked.is_none_or(|asked| asked == Band::Black) {
            return Err(invalid(format!(
                "document {} is BLACK, and other devices get what is in {}: to have it leave this \
                 device, say of which band it is to be there",
                document.object,
                self.name()
            )));
        }
        let usual = self.policy().await?.band.min(self.clearance().await?);
        Ok(asked.unwrap_or(document.band.max(usual)))
    }

    /// What a document's copy is there, with its blobs, which are there then; and those of which
    /// nothing is known here.
    async fn value_there(
        &self,
        document: &Document,
        target: &Self,
        band: Band,
    ) -> Result<(Object, Vec<BlobId>)> {
        let mut value = document.value.clone();
        let (mut renamed, mut lacking) = (BTreeMap::new(), Vec::new());
        for id in blobs_in(&value) {
            match self.copy_blob(id, target, document.band, band).await? {
                Some(new) => drop(renamed.insert(id.to_string(), new.to_string())),
                None => lacking.push(id),
            }
        }
        rename(&mut value, &renamed, DOCUMENT_DEPTH_MAX);
        Ok((value, lacking))
    }

    /// What brings a copy that is there up to date; none: it is, or only it was edited since.
    async fn renewal(
        &self,
        object: ObjectId,
        there: &Document,
        value: Object,
        correlation: CorrelationId,
    ) -> Result<Option<UnitOfWork>> {
        if there.value == value {
            return Ok(None);
        }
        let history = self.history(there.object).await?;
        let is_copied = |item: &HistoryItem| item.correlation == Some(correlation);
        if history.iter().all(is_copied) {
            let mut unit = UnitOfWork::new();
            let base = Base::Exactly(there.heads.clone());
            unit.put_at(there.collection.as_str(), there.object, &value, base)?;
            return Ok(Some(unit));
        }
        let last = history.into_iter().rev().find(is_copied).and_then(|item| item.version);
        if let Some(last) = last
            && self.value_at(there.object, Version::Heads(last)).await?.as_ref() == Some(&value)
        {
            return Ok(None);
        }
        Err(invalid(format!(
            "document {} was copied to {} as {} before, and both were edited since: bring the copy \
             up to date by hand, or delete it and copy anew",
            object,
            self.name(),
            there.object
        )))
    }

    /// The id of a document's copy in another space, and the copy if it is there.
    async fn copy_of(
        &self,
        object: ObjectId,
        target: &Self,
    ) -> Result<(ObjectId, CorrelationId, Option<Document>)> {
        let mut n = 0;
        loop {
            let (copy, correlation) = copy_id((&self.id(), &object), &target.id(), n);
            if target.is_erased(copy).await? {
                return Err(target.erased(object, copy).await?);
            }
            match target.document(copy).await? {
                None if !target.is_deleted(copy).await? => return Ok((copy, correlation, None)),
                Some(there) if there.trashed.is_none() => {
                    return Ok((copy, correlation, Some(there)));
                }
                // Somebody did not want that one.
                _ => n += 1,
            }
        }
    }

    /// Why a document is not copied anew whose copy here somebody took something out of, or erased:
    /// that would bring it back.
    async fn erased(&self, object: ObjectId, copy: ObjectId) -> Result<Error> {
        let what = match self.redacted_as(copy).await? {
            Some(left) => format!("parts were taken out of that since, and what is left is {left}"),
            None => "that was erased since".to_owned(),
        };
        Ok(invalid(format!(
            "document {object} was copied to {} as {copy} before, and {what}. To copy it again \
             would bring back what somebody wanted gone",
            self.name()
        )))
    }

    /// `from`: the band of the document that names it.
    async fn copy_blob(
        &self,
        id: BlobId,
        target: &Self,
        from: Band,
        band: Band,
    ) -> Result<Option<BlobId>> {
        let blob = match self.blob(id).await {
            Ok(blob) => blob,
            Err(error) if error.kind() == crate::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Somebody who did not know the blob named it in a document that is less sensitive.
        let of = blob.info().band;
        if of > from && of > band {
            return Err(invalid(format!(
                "blob {id}, which the document names, is {of}, and the document is {from}: as \
                 {band} more devices would get the blob than may read it here. Copy or move it as \
                 {of}, or take the blob out of it first"
            )));
        }
        let about = NewBlob {
            media_type: blob.info().media_type.clone(),
            name: blob.info().name.clone(),
            band: Some(band),
        };
        Ok(Some(target.add_blob(blob.reader().await?, about).await?.id))
    }

    /// The receipt of a document's creation.
    async fn created_by(&self, object: ObjectId) -> Result<Receipt> {
        let history = self.history(object).await?;
        let first = history.first();
        let first = first.ok_or_else(|| not_found(format!("there is no document {object}")))?;
        self.receipt(first.device, first.seq).await
    }

    /// The receipt of what put a document into the trash last, if that was this move.
    async fn trashed_with(
        &self,
        object: ObjectId,
        correlation: CorrelationId,
    ) -> Result<Option<Receipt>> {
        let history = self.history(object).await?;
        let last = history.iter().rev().find(|item| item.kind == "trash");
        match last.filter(|item| item.correlation == Some(correlation)) {
            Some(item) => self.receipt(item.device, item.seq).await.map(Some),
            None => Ok(None),
        }
    }
}

fn invalid(message: String) -> Error {
    larder_engine::Error::Invalid(message).into()
}

fn not_found(message: String) -> Error {
    larder_engine::Error::NotFound(message).into()
}

const BLOB: &str = "$blob";

fn rename(value: &mut Object, renamed: &BTreeMap<String, String>, levels: usize) {
    for (name, value) in value.iter_mut() {
        if let (BLOB, Value::String(text)) = (name.as_str(), &mut *value)
            && let Some(new) = renamed.get(text)
        {
            text.clone_from(new);
        }
        rename_in(value, renamed, levels);
    }
}

fn rename_in(value: &mut Value, renamed: &BTreeMap<String, String>, levels: usize) {
    // No stored document is nested deeper.
    let Some(levels) = levels.checked_sub(1) else { return };
    match value {
        Value::Object(members) => rename(members, renamed, levels),
        Value::Array(items) => items.iter_mut().for_each(|it| rename_in(it, renamed, levels)),
        _ => {}
    }
}
