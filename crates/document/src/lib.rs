//! JSON documents with an Automerge history behind them from their first edit on.
//!
//! A document is created as a flat JSON object and logged as such. At its first edit every device
//! derives the same Automerge change from that object ([`DERIVATION`] names the rules), so that
//! first edits made apart share a root and merge. This is the only crate that names Automerge.
//!
//! Invariants:
//! - A call that fails leaves the document as it was; every mutation works on a copy that shares
//!   structure with the original (30 µs at any size) and takes its place when it has succeeded.
//! - Whether a received change counts depends on its bytes, its author and its causal past alone,
//!   never on the order in which concurrent changes arrive.
//! - Bytes from a peer are bounded before Automerge sees them. Where Automerge asserts on a change
//!   that is well-formed and yet senseless, the panic is caught and the change is void.
//!   This needs `panic = "unwind"`. The process's panic hook is not told of such a panic: it is set
//!   once, around the one that is there, for threads that are in such work.
//! - Nothing here reads a clock; the random actor that Automerge draws for every new value is
//!   replaced before anything is written with it.

mod again;
mod apply;
pub mod body;
mod cache;
mod chunk;
mod compare;
mod contained;
mod derive;
mod diff;
mod document;
mod error;
mod heads;
mod history;
mod json;
mod put;
mod read;
mod redact;
mod tree;

pub use apply::{Outcome, VoidReason, trash_of};
pub use cache::Cache;
pub use compare::{ChangedLines, Difference, changed_lines, differences};
pub use derive::DERIVATION;
pub use document::{Document, Storing};
pub use error::DocumentError;
pub use heads::{Actor, Heads};
pub use history::{HeadsFold, Link};
pub use json::{Object, canonical, check, parse};
pub use read::Conflict;
pub use redact::{carry_over, leads_to_list, resolved, take_out_part, up_to_list};
