use larder_engine::SpaceWriter;
use larder_types::ObjectId;

use crate::{Heads, Receipt, Result, Space};

/// What came of [`Space::redact`].
#[derive(Debug, Clone)]
pub struct Redaction {
    /// The id under which what is left is.
    pub object: ObjectId,
    /// That it was created.
    pub created: Receipt,
    /// That the old document was erased.
    pub erased: Receipt,
}

impl Space {
    /// Takes parts out of a document: out of every version of it, on every device. What is left is
    /// a document with an id of its own and without a history; the old one is erased
    /// ([`Space::erase`]), with the blobs that only it names. Both happen, or nothing. Each path
    /// names a part by the members that lead there from the root; in a list, by its place there
    /// now. A part that only earlier versions have goes too.
    ///
    /// What another device edits beside that it makes again in the new document when it hears of
    /// it, as far as it fits there: nothing of the parts that are gone, nor of a list that one was
    /// taken out of. [`ErasureInfo::late`](crate::ErasureInfo) lists all such edits.
    /// What such an edit wrote elsewhere is not looked at, nor are other documents. Ids and vectors
    /// that an app keeps are its own to renew: [`Space::redacted_as`] leads from the old id to the
    /// new.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such document, or no
    /// version of it has such a part; [`ErrorKind::Deleted`](crate::ErrorKind::Deleted);
    /// [`ErrorKind::Trashed`](crate::ErrorKind::Trashed);
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for no path, too many, or one of several
    /// documents that were created under one id;
    /// [`ErrorKind::NotAllowed`](crate::ErrorKind::NotAllowed); the storage's.
    pub async fn redact(
        &self,
        object: ObjectId,
        paths: impl Into<Vec<Vec<String>>>,
    ) -> Result<Redaction> {
        self.redact_of(object, None, paths.into()).await
    }

    /// The same of the version that somebody has read, as [`Document::heads`](crate::Document) of
    /// it says: an edit that came since may have moved the places in a list, and then it would be
    /// another element that goes for ever.
    ///
    /// # Errors
    /// As [`Space::redact`]; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if it is not the
    /// current version any more.
    pub async fn redact_exactly(
        &self,
        object: ObjectId,
        heads: Heads,
        paths: impl Into<Vec<Vec<String>>>,
    ) -> Result<Redaction> {
        self.redact_of(object, Some(heads), paths.into()).await
    }

    async fn redact_of(
        &self,
        object: ObjectId,
        heads: Option<Heads>,
        paths: Vec<Vec<String>>,
    ) -> Result<Redaction> {
        let work = move |writer: &mut SpaceWriter| {
            let done = match &heads {
                Some(heads) => writer.redact_exactly(object, heads, &paths)?,
                None => writer.redact(object, &paths)?,
            };
            // What cannot be done now is done as soon as it can.
            let _ = writer.finish_erasures();
            Ok(done)
        };
        let home = self.home_of(object).await?;
        let done = home.open().await?.writer()?.run(true, work).await?;
        let (created, erased) = (done.created.try_into()?, done.erased.try_into()?);
        Ok(Redaction { object: done.object, created, erased })
    }

    /// Under which id what is left of a redacted document is; `None` if it was not redacted.
    ///
    /// # Errors
    /// The storage's.
    pub async fn redacted_as(&self, object: ObjectId) -> Result<Option<ObjectId>> {
        self.home_to_read(object).await?.read_seen(move |space| space.redacted_as(&object)).await
    }
}
