//! What is BLACK of a space: in a space of its own on this device, which no other ever has, and
//! which is shown together with this one.
//!
//! Invariants: one unit is in one of the two, never in both; an id that is known there is that of
//! a BLACK document, whatever comes under it from other devices, so that no edit of one ends in a
//! space that syncs; a handle that shows less than BLACK knows nothing of it. While what is BLACK
//! cannot be read, what this space has can be read all the same; nothing is written then under an
//! id that might be that of a BLACK document.

use std::collections::BTreeSet;
use std::sync::Arc;

use larder_engine::{Band, Cursor, Page, Reason, SpaceState};
use larder_types::{BlobId, DeviceId, ObjectId, SpaceName};

use crate::error::apart;
use crate::node::{Node, OpenSpace};
use crate::{Error, ErrorKind, Result, Space, UnitOfWork};

/// Where a unit belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Own,
    Black,
}

impl Space {
    /// The space that has what is BLACK of this one, whether there is one yet or not. `None`: this
    /// handle shows nothing that is BLACK, or all.
    fn black_name(&self) -> Option<SpaceName> {
        let shows = self.clearance.is_none_or(|shown| shown == Band::Black);
        shows.then(|| self.name().companion()).flatten()
    }

    /// What is BLACK of this space, if there is any and this handle shows it.
    pub(crate) async fn black(&self) -> Result<Option<Self>> {
        let Some(name) = self.black_name() else { return Ok(None) };
        let node = self.handles.node()?;
        if !node.has_black(&name).await? {
            return Ok(None);
        }
        Ok(Some(self.beside(&*node.opened_black(&name, node.space(&name).await)?)))
    }

    /// This space, and the one beside it that has what is BLACK of it, if there is any yet and this
    /// handle shows it: for what is told of each by its own name, as checks, receipts, status and
    /// retention are.
    ///
    /// # Errors
    /// [`Error::Black`] if that one cannot be opened; the storage's.
    pub async fn parts(&self) -> Result<Vec<Self>> {
        let black = self.black().await?;
        Ok(std::iter::once(self.clone()).chain(black).collect())
    }

    /// The one of the two that new documents of this band are in; it is made if need be.
    ///
    /// # Errors
    /// As [`Space::parts`].
    pub async fn part(&self, band: Band) -> Result<Self> {
        if band != Band::Black {
            return Ok(self.clone());
        }
        self.read_seen(larder_engine::Space::check_reads).await?;
        self.black_made().await
    }

    /// What is asked of what is BLACK, if there is any; and where that is.
    pub(crate) async fn of_black<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&larder_engine::Space) -> larder_engine::Result<T> + Send + 'static,
    ) -> Result<Option<(Self, T)>> {
        let Some(black) = self.black().await? else { return Ok(None) };
        let answer = black.read_seen(ask).await.map_err(|error| of_black(black.name(), error))?;
        Ok(Some((black, answer)))
    }

    /// What this space has of what is listed, and what is BLACK of it behind that, or `first`.
    /// While that cannot be read: what there is here, if there is anything.
    pub(crate) async fn both<T: Send + 'static>(
        &self,
        first: bool,
        ask: impl FnOnce(&larder_engine::Space) -> larder_engine::Result<Vec<T>>
        + Clone
        + Send
        + 'static,
    ) -> Result<Vec<T>> {
        let mut own = self.read_seen(ask.clone()).await?;
        let mut black = match self.of_black(ask).await {
            Ok(black) => black.map(|(_, black)| black).unwrap_or_default(),
            Err(Error::Black { .. }) if !own.is_empty() => Vec::new(),
            Err(error) => return Err(error),
        };
        if first {
            std::mem::swap(&mut own, &mut black);
        }
        own.append(&mut black);
        Ok(own)
    }

    /// What this space's state is to whom it is shown together with what is BLACK of it.
    pub(crate) async fn state_with_black(&self, own: SpaceState) -> Result<SpaceState> {
        let black = match self.of_black(larder_engine::Space::state).await {
            Ok(None) => return Ok(own),
            Ok(Some((_, black))) => black.reasons,
            Err(Error::Black { source, .. }) => {
                vec![Reason::Damaged { what: source.to_string() }]
            }
            Err(error) => return Err(error),
        };
        // What is amiss with the profile is of both, and was said.
        let other = black.into_iter().filter(|reason| !own.reasons.contains(reason));
        let other: Vec<_> = other.map(|reason| reason.to_string()).collect();
        if other.is_empty() {
            return Ok(own);
        }
        Ok(own.with(Reason::Black { what: other.join("; ") }))
    }

    /// The same, made now if there is none.
    pub(crate) async fn black_made(&self) -> Result<Self> {
        let Some(name) = self.black_name() else { return Ok(self.clone()) };
        let node = self.handles.node()?;
        if !node.has_black(&name).await? {
            match node.create_space(&name, None).await {
                // Another unit came first.
                Err(Error::Engine(larder_engine::Error::AlreadyExists(_))) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.beside(&*node.opened_black(&name, node.space(&name).await)?))
    }

    fn beside(&self, space: &OpenSpace) -> Self {
        let mut beside = Self::new(space, Arc::clone(&self.handles));
        beside.clearance = self.clearance;
        beside
    }

    /// The one of the two that a document is in, or was: this one, if it is unknown in both.
    pub(crate) async fn home_of(&self, object: ObjectId) -> Result<Self> {
        self.home_where(move |space| space.knows(&object)).await
    }

    async fn home_where(
        &self,
        knows: impl FnOnce(&larder_engine::Space) -> larder_engine::Result<bool> + Send + 'static,
    ) -> Result<Self> {
        let black = self.of_black(knows).await?;
        let black = black.filter(|(_, is_there)| *is_there);
        Ok(black.map_or_else(|| self.clone(), |(black, _)| black))
    }

    /// The same for who only reads: while what is BLACK cannot be read, this one for what it knows.
    pub(crate) async fn home_to_read(&self, object: ObjectId) -> Result<Self> {
        self.home_to_read_where(move |space| space.knows(&object)).await
    }

    async fn home_to_read_where(
        &self,
        knows: impl FnOnce(&larder_engine::Space) -> larder_engine::Result<bool>
        + Clone
        + Send
        + 'static,
    ) -> Result<Self> {
        match self.home_where(knows.clone()).await {
            Err(error @ Error::Black { .. }) => {
                if self.read_seen(knows).await? {
                    Ok(self.clone())
                } else {
                    Err(error)
                }
            }
            home => home,
        }
    }

    /// The one of the two that a blob is in, for who reads.
    pub(crate) async fn home_of_blob(&self, id: BlobId) -> Result<Self> {
        self.home_to_read_where(move |space| Ok(space.blob(&id)?.is_some())).await
    }

    /// The one of the two whose log a device writes, for who reads.
    pub(crate) async fn home_of_device(&self, device: DeviceId) -> Result<Self> {
        self.home_to_read_where(move |space| space.has_log(&device)).await
    }

    /// The one of the two that a unit belongs into, which is made if need be.
    pub(crate) async fn home_of_unit(&self, unit: UnitOfWork) -> Result<(Self, UnitOfWork)> {
        // What is under ids that nothing has is where it says, whatever there is.
        if self.black_name().is_none() || (unit.is_all_new() && !unit.asks_black()) {
            return Ok((self.clone(), unit));
        }
        let black = self.black().await?;
        if black.is_none() && !unit.asks_black() {
            return Ok((self.clone(), unit));
        }
        let own = self.seen().await?;
        let there = match &black {
            Some(black) => Some(black.seen().await?),
            None => None,
        };
        let sorted = apart(move || {
            let home = home(&own, there.as_ref(), &unit)?;
            Ok((home, if home == Home::Black { unit.under(&own)? } else { unit }))
        });
        let (home, unit) = sorted.await?;
        Ok(match home {
            Home::Own => (self.clone(), unit),
            Home::Black => (self.black_made().await?, unit),
        })
    }

    /// The same for who blocks.
    pub(crate) fn home_of_unit_blocking(
        &self,
        node: &Node,
        unit: UnitOfWork,
    ) -> Result<(Arc<OpenSpace>, UnitOfWork)> {
        let own = node.space_blocking(self.name())?;
        let Some(name) = self.black_name() else { return Ok((own, unit)) };
        if unit.is_all_new() && !unit.asks_black() {
            return Ok((own, unit));
        }
        let is_there = node.has_black_blocking(&name)?;
        if !is_there && !unit.asks_black() {
            return Ok((own, unit));
        }
        let opened = is_there.then(|| node.opened_black(&name, node.space_blocking(&name)));
        let black = opened.transpose()?;
        if home(&own.reader, black.as_ref().map(|black| &black.reader), &unit)? == Home::Own {
            return Ok((own, unit));
        }
        let unit = unit.under(&own.reader)?;
        Ok((black.map_or_else(|| node.made_blocking(&name), Ok)?, unit))
    }

    /// Whether a contract may have what this unit writes on this device alone.
    pub(crate) fn may_be_raised(
        &self,
        own: &larder_engine::Space,
        unit: &UnitOfWork,
    ) -> Result<bool> {
        Ok(self.black_name().is_some() && !unit.asks_black() && own.raises_to_black()?)
    }

    /// A page of this space's documents, and behind the last of them those that are BLACK.
    pub(crate) async fn page(
        &self,
        which: Listed,
        collection: Option<&str>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        let list = |after: Option<Cursor>, limit: usize| {
            let collection = collection.map(str::to_owned);
            move |space: &larder_engine::Space| match which {
                Listed::Shown => space.list(collection.as_deref(), after, limit),
                Listed::Trashed => space.list_trash(collection.as_deref(), after, limit),
            }
        };
        let (mut documents, mut from) = (Vec::new(), after.and_then(Cursor::is_behind));
        if from.is_none() {
            let own = self.read_seen(list(after, limit)).await?;
            if own.next.is_some() {
                return Ok(own);
            }
            documents = own.documents;
            from = Some(Cursor::START);
        }
        let left = limit.saturating_sub(documents.len());
        if left == 0 && !documents.is_empty() {
            let has_black = match self.black().await {
                Ok(black) => black.is_some(),
                Err(Error::Black { .. }) => true,
                Err(error) => return Err(error),
            };
            return Ok(Page { documents, next: has_black.then(|| Cursor::START.behind()) });
        }
        match self.of_black(list(from, left)).await {
            Ok(None) => Ok(Page { documents, next: None }),
            Ok(Some((_, rest))) => {
                documents.extend(rest.documents);
                Ok(Page { documents, next: rest.next.map(Cursor::behind) })
            }
            // Whoever asks for the next page is told.
            Err(Error::Black { .. }) if !documents.is_empty() => {
                Ok(Page { documents, next: from.map(Cursor::behind) })
            }
            Err(error) => Err(error),
        }
    }
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Shown,
    Trashed,
}

/// What was said where what is BLACK was asked, to whoever asked another space.
pub(crate) fn of_black(name: &SpaceName, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Io => {
            Error::Black { space: name.clone(), source: Box::new(error) }
        }
        _ => error,
    }
}

/// Whether a contract has it on this device alone, so that nothing was written.
pub(crate) fn is_raised<T>(done: &Result<T>) -> bool {
    use larder_engine::Error::ContractAbove;
    matches!(done, Err(Error::Engine(ContractAbove { band: Band::Black, .. })))
}

/// Fails if others would become BLACK with the one that has to.
pub(crate) fn check_alone(unit: UnitOfWork) -> Result<UnitOfWork> {
    let objects: BTreeSet<ObjectId> = unit.documents().map(|(object, _)| object).collect();
    if objects.len() == 1 {
        return Ok(unit);
    }
    let message = "a contract of the space, or of the app, has what the unit holds in BLACK \
                   documents, on this device alone, and one unit cannot be in two files: commit \
                   each of its documents by itself; nothing of it was written";
    Err(larder_engine::Error::Invalid(message.to_owned()).into())
}

/// Where a unit belongs; `black`: what is BLACK of `own`, if there is any yet.
fn home(
    own: &larder_engine::Space,
    black: Option<&larder_engine::Space>,
    unit: &UnitOfWork,
) -> Result<Home> {
    let told = |error: larder_engine::Error| match black {
        Some(black) => of_black(black.name(), error.into()),
        None => error.into(),
    };
    let (mut is_black, mut is_own, mut new) = (false, false, BTreeSet::new());
    for (object, band) in unit.documents() {
        let is_known = match black {
            Some(black) => black.knows(&object).map_err(told)?,
            None => false,
        };
        // What is known here keeps its band, and is told so where it is written.
        let is_new = band == Some(Band::Black) && !own.knows(&object)?;
        if is_known || new.contains(&object) || is_new {
            is_black = true;
            new.insert(object);
        } else {
            is_own = true;
        }
    }
    // What is written beside this space has to be shown with it.
    own.check_reads()?;
    let invalid = |message: String| Err(larder_engine::Error::Invalid(message).into());
    if is_black && is_own {
        return invalid(
            "the unit has BLACK documents and others: what is BLACK is in a file of its own, and \
             one unit cannot be in two. Commit one for each; nothing of this one was written"
                .to_owned(),
        );
    }
    if !is_black {
        return Ok(Home::Own);
    }
    for id in unit.blobs() {
        let is_there = match black {
            Some(black) => black.blob(&id).map_err(told)?.is_some(),
            None => false,
        };
        if !is_there && let Some(blob) = own.blob(&id)? {
            return invalid(format!(
                "a BLACK document would name blob {id}, which is {}: add the file as BLACK too; \
                 nothing of the unit was written",
                blob.band
            ));
        }
    }
    Ok(Home::Black)
}

/// Which spaces for what is BLACK there are.
impl Node {
    /// What came of opening one.
    fn opened_black(
        &self,
        name: &SpaceName,
        open: Result<Arc<OpenSpace>>,
    ) -> Result<Arc<OpenSpace>> {
        let open = open.map_err(|error| of_black(name, error));
        self.note_unread(name, matches!(open, Err(Error::Black { .. })));
        open
    }

    /// Whether the profile has a space of this name.
    async fn has_black(self: &Arc<Self>, name: &SpaceName) -> Result<bool> {
        if let Some(all) = &*self.black() {
            return Ok(all.contains(name));
        }
        let (node, name) = (Arc::clone(self), name.clone());
        apart(move || node.has_black_blocking(&name)).await
    }

    fn has_black_blocking(&self, name: &SpaceName) -> Result<bool> {
        let mut known = self.black();
        if known.is_none() {
            *known = Some(self.engine.space_names()?.into_iter().collect());
        }
        Ok(known.as_ref().is_some_and(|all| all.contains(name)))
    }

    /// The space of this name, made now unless it is there.
    fn made_blocking(&self, name: &SpaceName) -> Result<Arc<OpenSpace>> {
        match self.create_space_blocking(name, None) {
            Err(Error::Engine(larder_engine::Error::AlreadyExists(_))) => self.space_blocking(name),
            made => made,
        }
    }
}
