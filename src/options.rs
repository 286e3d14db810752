use std::sync::Arc;
#[cfg(feature = "classify")]
use std::sync::LazyLock;
use std::time::Duration;

use larder_engine::{
    Argon2Params, Classifier, ContractAction, Embedder, PersonalKind, ProfileOptions, PrunePolicy,
};
use larder_types::CollectionName;
use larder_types::limits::{READERS_LIMIT, READERS_MIN};

/// How a profile is made or opened. [`Options::default`] is right for most apps.
#[derive(Clone, Default)]
#[must_use]
pub struct Options(ProfileOptions);

impl Options {
    /// What turns text into vectors, for [`Query::similar`](crate::Query::similar) and
    /// [`Query::both`](crate::Query::both). Unless told, it is
    /// [`HashedNgrams`](crate::HashedNgrams), which needs no model. With an id that is none
    /// ([`Embedder::id`]) no profile is made or opened:
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid).
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

    /// How many reads of one space run at once: 2 to 8, and 4 unless told. Each costs a connection
    /// with a page cache of [`limits::READER_CACHE_BYTES`](crate::limits::READER_CACHE_BYTES).
    pub fn readers(mut self, count: usize) -> Self {
        self.0.readers.count = count.clamp(READERS_MIN, READERS_LIMIT);
        self
    }

    /// How long a read waits for one of them before it fails with
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy): 30 s unless told.
    pub fn reader_wait(mut self, longest: Duration) -> Self {
        self.0.readers.wait = longest;
        self
    }

    /// Spaces prune by themselves, unless [`Options::prune_by_hand`] says otherwise. Once bodies of
    /// `bytes` could go (16 MiB unless told,
    /// [`limits::PRUNE_BYTES_MIN`](crate::limits::PRUNE_BYTES_MIN)), of each
    /// [`limits::PRUNE_LEAF_BYTES`](crate::limits::PRUNE_LEAF_BYTES) left aside, this device states
    /// what they came to. It states what others stated where it finds the same, and what all agree
    /// on goes. It looks at that when a space is opened and when something comes, never by a clock.
    pub fn prune_from(mut self, bytes: u64) -> Self {
        self.0.prunes = PrunePolicy::From { bytes };
        self
    }

    /// Nothing is pruned but by [`Space::prune`](crate::Space::prune). As nothing goes that not all
    /// devices have stated, the space is not pruned on any device then until that is called here.
    pub fn prune_by_hand(mut self) -> Self {
        self.0.prunes = PrunePolicy::ByHand;
        self
    }

    /// What tells what in a text is personal, for [`Options::contract`] and
    /// [`Space::set_contract`](crate::Space::set_contract). Unless told, it is `Patterns` with the
    /// feature `classify`, and nothing without: then no contract does anything, the space's
    /// neither. It is called for each text of a document that is written, on the thread that
    /// writes, if there is a contract for it.
    pub fn classifier(mut self, classifier: Arc<dyn Classifier>) -> Self {
        self.0.contracts.set_classifier(classifier);
        self
    }

    /// What becomes of personal data of a kind in documents of a collection, or, without one, of
    /// all that have no contract of their own for it, when this profile writes them. Each write in
    /// which some are found is told as [`Event::Personal`](crate::Event::Personal), and the
    /// section's metadata say what kinds ([`Space::personal`](crate::Space::personal)), never
    /// what. Blobs are not looked into, and what other devices write is not judged.
    pub fn contract(
        mut self,
        collection: Option<CollectionName>,
        kind: PersonalKind,
        action: ContractAction,
    ) -> Self {
        self.0.contracts.add(collection, kind, action);
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
        #[cfg(feature = "classify")]
        if !self.0.contracts.has_classifier() {
            return self.classifier(Arc::new(Usual)).0;
        }
        self.0
    }
}

/// [`Patterns`](larder_classify::Patterns), made when the first text is looked at.
#[cfg(feature = "classify")]
struct Usual;

#[cfg(feature = "classify")]
impl Classifier for Usual {
    fn classify(&self, text: &str) -> Vec<larder_engine::Personal> {
        static PATTERNS: LazyLock<larder_classify::Patterns> =
            LazyLock::new(larder_classify::Patterns::new);
        PATTERNS.classify(text)
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("label", &self.0.label).finish_non_exhaustive()
    }
}
