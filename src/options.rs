use std::sync::Arc;

use larder_engine::{Argon2Params, Embedder, ProfileOptions};

/// How a profile is made or opened. [`Options::default`] is right for most apps.
#[derive(Clone, Default)]
#[must_use]
pub struct Options(ProfileOptions);

impl Options {
    /// What turns text into vectors, for [`Query::similar`](crate::Query::similar) and
    /// [`Query::both`](crate::Query::both). Unless told, it is
    /// [`HashedNgrams`](crate::HashedNgrams), which needs no model.
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.0.embedder = Some(embedder);
        self
    }

    /// What it costs to turn a passphrase into a key, when a profile is made: 64 MiB and three
    /// passes unless told. An existing profile keeps the cost that it was made with.
    pub fn passphrase_cost(mut self, cost: Argon2Params) -> Self {
        self.0.passphrase_cost = cost;
        self
    }

    /// What people call this device, when a profile is made: `Ana's laptop`. At most 128 bytes.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.0.label = Some(label.into());
        self
    }

    /// Without encryption at rest, so that a check that looks for plain text in the files can
    /// show that it would find some. For nothing else.
    #[doc(hidden)]
    pub fn plain_control(mut self, plain: bool) -> Self {
        self.0.plain_control = plain;
        self
    }

    pub(crate) fn into_engine(self) -> ProfileOptions {
        self.0
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("label", &self.0.label).finish_non_exhaustive()
    }
}
