//! Files that are no text: kept as blobs, each with a document that names it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Found, Object};

/// A file of a folder that becomes a blob.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attachment {
    /// The document's `path` field.
    pub(crate) path: String,
    /// Where it is to be read.
    pub(crate) file: PathBuf,
    pub(crate) media_type: &'static str,
    /// Which file that was when it was found; none if a person named it, by a link perhaps.
    pub(crate) found: Option<Found>,
    /// Its size when it was found.
    pub(crate) bytes: u64,
}

impl Attachment {
    /// Its name without folders; none that a blob could not have.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The document that names the blob.
    pub(crate) fn document(&self, blob: &larder::BlobInfo) -> Object {
        let value = json!({
            "path": self.path,
            "format": FORMAT,
            "media_type": blob.media_type,
            "bytes": blob.size,
            "content": {"$blob": blob.id.to_string()},
        });
        match value {
            Value::Object(object) => object,
            _ => Object::new(),
        }
    }
}

/// The blob that a document of an imported file names.
pub(crate) fn blob_of(value: &Object) -> Option<larder::BlobId> {
    if value.get("format")?.as_str()? != FORMAT {
        return None;
    }
    value.get("content")?.get("$blob")?.as_str()?.parse().ok()
}

/// What a file is, by the end of its name: images and PDFs.
pub(crate) fn attached_type(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "avif" => "image/avif",
        "bmp" => "image/bmp",
        "gif" => "image/gif",
        "heic" | "heif" => "image/heic",
        "jpeg" | "jpg" => "image/jpeg",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "tif" | "tiff" => "image/tiff",
        "webp" => "image/webp",
        _ => return None,
    })
}

/// The same for a file of any kind.
pub(crate) fn media_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    attached_type(path).unwrap_or(match extension.to_ascii_lowercase().as_str() {
        "flac" => "audio/flac",
        "m4a" => "audio/mp4",
        "mkv" => "video/x-matroska",
        "mov" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "ogg" => "audio/ogg",
        "txt" => "text/plain",
        "wav" => "audio/wav",
        "webm" => "video/webm",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    })
}

const FORMAT: &str = "file";
