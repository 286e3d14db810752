//! What is BLACK: spaces of this device alone.
//!
//! Invariants: whatever goes to another device, or comes from one, is asked of a [`Source`], and a
//! space that stays here has none; no device but this one is ever admitted to it. Its sections are
//! sealed under the secrets of RED, the highest that there are: what makes them BLACK is where they
//! are, so that each of them is handed out as BLACK, and nothing in it is of another band.

use larder_log::Band;
use larder_protocol::{BlobRequest, Reply, Request};
use larder_types::{CloseCode, Hash, SpaceKind, SpaceName, TransportId};

use crate::contract::Noticed;
use crate::messages::Message;
use crate::space::Shared;
use crate::{Answer, BlobAnswer, Error, Found, Query, Result, Space};

/// What sessions have of a space: all that other devices ever get of it.
#[derive(Debug, Clone)]
pub struct Source(Space);

impl Space {
    /// What sessions have of it.
    ///
    /// # Errors
    /// [`Error::StaysHere`] for a space that never leaves this device.
    pub fn source(&self) -> Result<Source> {
        self.shared.check_leaves("it has no session with any")?;
        Ok(Source(self.clone()))
    }

    /// [`Source::answer`]; to whoever asks of a space that stays here, that it is not shared.
    pub fn answer(&self, peer: &TransportId, request: Request) -> Answer {
        match self.source() {
            Ok(source) => source.answer(peer, request),
            Err(_) => Answer::Reply(not_shared()),
        }
    }

    /// [`Source::answer_blobs`]; nothing of a space that stays here.
    pub fn answer_blobs(
        &self,
        peer: &TransportId,
        request: BlobRequest,
        eager: bool,
        is_free: &mut dyn FnMut(&Hash) -> bool,
    ) -> BlobAnswer {
        match self.source() {
            Ok(source) => source.answer_blobs(peer, request, eager, is_free),
            Err(_) => BlobAnswer::Reply(larder_protocol::BlobReply::Failed {
                message: NOT_SHARED.to_owned(),
            }),
        }
    }
}

impl Source {
    /// The secret by which devices of this space find out that they share it.
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn discovery(&self) -> Result<larder_crypto::Secret<32>> {
        Ok(self.0.shared.published()?.keyring.control().discovery())
    }

    /// A digest of what a session tells a peer, the same on every device that holds the same.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn held_digest(&self, peer: &TransportId) -> Result<Hash> {
        let Reply::Frontiers { logs, acks, .. } = self.0.frontiers(peer, None)?.0 else {
            return Err(Error::Internal("frontiers are answered by frontiers".into()));
        };
        Ok(larder_protocol::held_digest(&logs, &acks))
    }

    /// Answers a request of a session with the device that has this transport key, or says what
    /// the writer has to do for it. Blocks on the disk, but for [`Request::Apply`] and
    /// [`Request::StoreAcks`], which it hands on at once.
    pub fn answer(&self, peer: &TransportId, request: Request) -> Answer {
        self.0.answer_to(peer, request)
    }

    /// Answers a request of a blob session with the device that has this transport key. Only what
    /// was asked for is wanted unless `eager`, whatever the policy says. `is_free` says of a chunk
    /// that is wanted whether it is to be asked of this peer; another one may be sending it. Blocks
    /// on the disk.
    pub fn answer_blobs(
        &self,
        peer: &TransportId,
        request: BlobRequest,
        eager: bool,
        is_free: &mut dyn FnMut(&Hash) -> bool,
    ) -> BlobAnswer {
        self.0.answer_blobs_to(peer, request, eager, is_free)
    }

    /// Seals a message from this device to the others of the space.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is longer than
    /// [`MESSAGE_BYTES_MAX`](larder_types::limits::MESSAGE_BYTES_MAX); [`Error::NotYetEnrolled`]
    /// before this device has a secret to seal it under.
    pub fn seal_message(&self, body: Vec<u8>) -> Result<Vec<u8>> {
        self.0.seal_message_of(body)
    }

    /// Whether the device with this transport key may read, and so open what is said.
    pub fn may_hear(&self, peer: &TransportId) -> bool {
        self.0.may_read(peer).unwrap_or(false)
    }

    /// Opens a message that came on the connection of the device with this transport key. `None`:
    /// it is not that device's, came before, or cannot be opened here.
    pub fn open_message(&self, peer: &TransportId, sealed: &[u8]) -> Option<Message> {
        self.0.open_message_of(peer, sealed)
    }
}

impl Shared {
    /// Whether nothing of it ever leaves this device.
    pub(crate) fn stays_here(&self) -> bool {
        stays_here(&self.name)
    }

    /// Fails for what has no meaning in a space that stays here.
    ///
    /// # Errors
    /// [`Error::StaysHere`].
    pub(crate) fn check_leaves(&self, what: &'static str) -> Result<()> {
        if self.stays_here() {
            return Err(Error::StaysHere { space: self.name.clone(), what });
        }
        Ok(())
    }

    /// The band in which people see what is of this one here.
    pub(crate) fn shown(&self, band: Band) -> Band {
        if self.stays_here() { Band::Black } else { band }
    }

    /// The band that is written of what is asked to be of this one.
    ///
    /// # Errors
    /// [`Error::StaysHere`] for any but BLACK in a space that stays here.
    pub(crate) fn written(&self, asked: Option<Band>) -> Result<Option<Band>> {
        match asked {
            Some(Band::Black) if self.stays_here() => Ok(Some(Band::Red)),
            Some(_) => {
                self.check_leaves("what is written in it is BLACK, and of no other band")?;
                Ok(asked)
            }
            None => Ok(None),
        }
    }

    /// The band that something is set for: where all is BLACK, that is all.
    pub(crate) fn kept_by(&self, band: Option<Band>) -> Option<Band> {
        band.filter(|band| !(self.stays_here() && *band == Band::Black))
    }

    /// What contracts found, where nothing has to be raised because nothing could be higher.
    pub(crate) fn raised<T>(&self, found: Option<(Noticed, T)>) -> Option<(Noticed, T)> {
        found.map(|(mut noticed, new)| {
            noticed.raised = noticed.raised.filter(|_| !self.stays_here());
            (noticed, new)
        })
    }
}

impl Space {
    /// Whether contracts, the app's or the space's, have some documents on this device alone.
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn raises_to_black(&self) -> Result<bool> {
        let of_app = self.shared.profile.contracts.raises_to_black();
        Ok(of_app || self.shared.published()?.contracts.raises_to_black())
    }
}

impl Query {
    /// The best of what it found in two spaces, each best first, by their places there: how rare a
    /// word is in the one says nothing of the other.
    pub fn merged(&self, one: Vec<Found>, other: Vec<Found>) -> Vec<Found> {
        let (mut one, mut other) = (one.into_iter(), other.into_iter());
        let pairs = std::iter::from_fn(|| {
            let pair = [one.next(), other.next()];
            pair.iter().any(Option::is_some).then_some(pair)
        });
        pairs.flatten().flatten().take(self.limit).collect()
    }
}

/// Whether nothing of a space of this name ever leaves its device.
pub(crate) fn stays_here(name: &SpaceName) -> bool {
    name.kind() == SpaceKind::Black
}

pub(crate) fn not_shared() -> Reply {
    let (code, message) = (CloseCode::NotShared, NOT_SHARED.to_owned());
    Reply::Refused { code, message, fatal: true }
}

const NOT_SHARED: &str = "there is nothing to be had here";

#[cfg(test)]
mod tests;
