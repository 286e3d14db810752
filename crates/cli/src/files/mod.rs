//! Files as documents, and documents as files.
//!
//! In the collection [`COLLECTION`], a text file is `{"path", "format": "markdown" | "text",
//! "text"}`, a JSON file `{"path", "format": "json", "value"}`, and each line of a JSONL file
//! `{"path": "FILE#LINE", "format": "jsonl", "line", "value"}`. An image or
//! a PDF is a blob, which a document `{"path", "format": "file", "media_type", "bytes", "content":
//! {"$blob"}}` names. A path is relative to the imported
//! folder, with `/` between its parts; it is what tells one document from another on re-import.
//!
//! Memory is bounded by one document, whatever the size of the folder or a file.

mod attachment;
mod export;
mod found;
mod parse;
mod path;
mod skip;
mod walk;

pub(crate) use attachment::{Attachment, attached_type, blob_of, media_type};
pub(crate) use export::{Outgoing, Target, Written, line_of, plan, same, sweep};
pub(crate) use found::{Found, open_found};
pub(crate) use parse::json;
pub(crate) use path::{Paths, check as check_path};
pub(crate) use skip::{Reason, Skip};
pub(crate) use walk::{Folder, Item, Step};

/// A document's value.
pub(crate) type Object = serde_json::Map<String, serde_json::Value>;

/// The collection that imported files belong to.
pub(crate) const COLLECTION: &str = "files";
