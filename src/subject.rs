use larder_engine::{Restorable, Version, WrittenBy};
use larder_types::{MemberId, ObjectId};

use crate::{Result, Space};

impl Space {
    /// What a member's devices have written in this space, as far as this device knows and is
    /// cleared for: which documents, how often, and who else wrote in them. For a person's right to
    /// see that, or to have it erased ([`Space::erase`]). Goes once over the whole log.
    ///
    /// # Errors
    /// The storage's.
    pub async fn written_by(&self, member: MemberId) -> Result<WrittenBy> {
        self.read(move |space| space.written_by(member)).await
    }

    /// What a document was, of a deleted one too as long as that is still here.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there never was such a document, it
    /// was erased, or what it was is not on this device any more; the storage's.
    pub async fn restorable(&self, object: ObjectId, version: Version) -> Result<Restorable> {
        let home = self.home_to_read(object).await?;
        home.read_seen(move |space| space.restorable(&object, &version)).await
    }
}
