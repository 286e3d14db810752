use std::collections::VecDeque;

use larder_engine::{Change, ChangesCursor};
use tokio::sync::watch;

use crate::{Result, Space};

/// The changes of a space as they take effect, from a place on: first those that happened since,
/// then each as it comes. From [`Space::changes`].
///
/// They are read from the database as they are asked for, so that a receiver may be as slow as it
/// likes, or away for a month, and misses nothing: [`Changes::behind`] says how far it is behind,
/// and whoever is too far behind to care for each may read the documents instead and go on from
/// [`Space::changes_end`]. Memory: 256 changes.
#[derive(Debug)]
pub struct Changes {
    space: Space,
    ticks: watch::Receiver<u64>,
    read: VecDeque<Change>,
    /// How far was read, and how far was given out.
    ahead: ChangesCursor,
    cursor: ChangesCursor,
}

/// What [`Changes::next`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed {
    /// A document changed.
    Document(Change),
    /// The cursor it began from is not one of this device's present database, which was made anew
    /// or is an older copy: what was missed is not known. Read all documents; the changes go on
    /// from here.
    Lost,
}

impl Changes {
    pub(crate) fn new(space: Space, from: ChangesCursor) -> Self {
        let ticks = space.changed();
        Self { space, ticks, read: VecDeque::new(), ahead: from, cursor: from }
    }

    /// The next change; waits for it if there is none yet. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed) once the profile is closed; the storage's, after
    /// which it can be called again.
    pub async fn next(&mut self) -> Result<Changed> {
        loop {
            if let Some(change) = self.read.pop_front() {
                self.cursor = change.cursor;
                return Ok(Changed::Document(change));
            }
            self.cursor = self.ahead;
            // Before reading: what is committed meanwhile ticks again.
            self.ticks.mark_unchanged();
            let page = self.space.changes_page(self.ahead, PAGE).await?;
            self.ahead = page.cursor;
            if page.lost {
                self.cursor = page.cursor;
                return Ok(Changed::Lost);
            }
            self.read = page.changes.into();
            if self.read.is_empty() && !page.more {
                self.cursor = self.ahead;
                self.space.ticked(&mut self.ticks).await?;
            }
        }
    }

    /// The place behind what was given out last. Keep it as text, with what was made of the
    /// changes, and begin there the next time.
    pub const fn cursor(&self) -> ChangesCursor {
        self.cursor
    }

    /// How many changes there are that were not given out yet, counted up to `most`.
    ///
    /// # Errors
    /// The storage's.
    pub async fn behind(&self, most: usize) -> Result<usize> {
        let mut count = self.read.len();
        let mut from = self.ahead;
        while count < most {
            let page = self.space.changes_page(from, PAGE).await?;
            count += page.changes.len();
            from = page.cursor;
            if !page.more {
                break;
            }
        }
        Ok(count.min(most))
    }
}

/// Changes read at once.
const PAGE: usize = 256;
