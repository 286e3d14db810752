//! Full-text and vector indexes and their fusion, over a transaction.
//!
//! Everything here is a function over a connection, so that the engine commits index and document
//! together. Documents are named by their row numbers. The tables are those of
//! `migrations/space/0002_search.up.sql`; [`larder_pages::load_vectors`] must have been called on
//! a connection that touches vectors.
//!
//! Invariants:
//! - What a person types is never query syntax, whatever its bytes.
//! - A removed document leaves neither its words nor its vector behind in the database's pages,
//!   on a connection with `PRAGMA secure_delete = ON`. The counts of its words go with it.
//! - No function here commits, and none looks at a document's table.

mod check;
mod embed;
mod error;
mod fuse;
mod size;
mod snippet;
mod text;
mod vectors;

pub use check::{Standing, is_sound, standing, strays};
pub use embed::{EmbedError, Embedder, HashedNgrams};
pub use error::SearchError;
pub use fuse::fuse;
pub use size::{Sizes, sizes};
pub use snippet::snippet;
pub use text::{Text, clear, indexed, put_text, query_text, remove_text, text_of};
pub use vectors::{
    check_embedder, has_vector, put_vector, query_vector, remove_embedders_but, remove_vector,
    remove_vectors, remove_vectors_but,
};

/// Among which documents is looked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Among<'a> {
    /// Those of this collection; none: of all.
    pub collection: Option<&'a str>,
    /// Those with these row numbers, a JSON list; none: all.
    pub documents: Option<&'a str>,
}

/// A document that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its row number.
    pub document: i64,
    /// How well it fits; more is better. Comparable within one list only.
    pub score: f64,
}
