use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use larder_types::limits::{BLOB_BYTES_MAX, DOCUMENT_JSON_BYTES_MAX};
use serde_json::{Value, json};
use walkdir::{DirEntry, WalkDir};

use super::{
    Attachment, Found, Object, Reason, Skip, attached_type, check_path, open_found, parse,
};

/// One document's worth of a folder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// The document's `path` field.
    pub(crate) path: String,
    pub(crate) value: Object,
    /// Size of the file, or of the line.
    pub(crate) bytes: u64,
}

/// What comes next in a folder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Item(Item),
    Attachment(Attachment),
    Skip(Skip),
    /// A file of some other kind, or a hidden one.
    Ignored,
}

/// A folder, or one file, read in the order of its names: an iterator over its [`Step`]s.
pub(crate) struct Folder {
    root: PathBuf,
    walk: walkdir::IntoIter,
    lines: Option<Lines>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Markdown,
    Text,
    Json,
    JsonLines,
    /// Kept as a blob, of this media type.
    Attached(&'static str),
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "md" | "markdown" => Self::Markdown,
            "txt" => Self::Text,
            "json" => Self::Json,
            "jsonl" | "ndjson" => Self::JsonLines,
            _ => return attached_type(path).map(Self::Attached),
        })
    }
}

impl Folder {
    /// # Errors
    /// The folder is missing or cannot be read at all.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        if std::fs::metadata(root)?.is_dir() {
            std::fs::read_dir(root)?;
        }
        let walk = WalkDir::new(root).follow_links(false).sort_by_file_name().into_iter();
        Ok(Self { root: root.to_owned(), walk, lines: None })
    }

    fn visit(&mut self, entry: &DirEntry) -> Option<Step> {
        let hidden = entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type().is_dir() {
            if hidden {
                self.walk.skip_current_dir();
                return Some(Step::Ignored);
            }
            return None;
        }
        let format = Format::of(entry.path());
        let (Some(format), false) = (format, hidden) else { return Some(Step::Ignored) };
        let path = match self.relative(entry.path()) {
            Ok(path) => path,
            Err(skip) => return Some(Step::Skip(skip)),
        };
        let step = self.read(entry, format, &path);
        step.unwrap_or_else(|reason| Some(Step::Skip(Skip { path, line: None, reason })))
    }

    /// `Ok(None)`: its lines come one by one.
    fn read(
        &mut self,
        entry: &DirEntry,
        format: Format,
        path: &str,
    ) -> Result<Option<Step>, Reason> {
        // The root may be a link: the person named it. Nothing below is followed.
        let metadata = if entry.depth() == 0 {
            std::fs::metadata(entry.path()).map_err(|error| unreadable(&error))?
        } else {
            entry.metadata().map_err(|error| Reason::Unreadable(plain(&error)))?
        };
        if metadata.file_type().is_symlink() {
            return Err(Reason::Symlink);
        }
        if !metadata.is_file() {
            return Err(Reason::NotAFile);
        }
        let found = (entry.depth() > 0).then(|| Found::of(&metadata));
        if format == Format::JsonLines {
            let file = open_found(entry.path(), found).map_err(|error| unreadable(&error))?;
            self.lines = Some(Lines::new(file, path));
            return Ok(None);
        }
        if let Format::Attached(media_type) = format {
            let bytes = metadata.len();
            if bytes > BLOB_BYTES_MAX {
                return Err(Reason::TooLarge { bytes, bytes_max: BLOB_BYTES_MAX });
            }
            let (path, file) = (path.to_owned(), entry.path().to_owned());
            return Ok(Some(Step::Attachment(Attachment { path, file, media_type, found, bytes })));
        }
        let bytes_max = DOCUMENT_JSON_BYTES_MAX as u64;
        if metadata.len() > bytes_max {
            return Err(Reason::TooLarge { bytes: metadata.len(), bytes_max });
        }
        let bytes = read_at_most(entry.path(), found, bytes_max)?;
        let size = bytes.len() as u64;
        let text = parse::text(bytes)?;
        let value = match format {
            Format::Markdown => json!({"path": path, "format": "markdown", "text": text}),
            Format::Text => json!({"path": path, "format": "text", "text": text}),
            _ => json!({"path": path, "format": "json", "value": parse::json(&text)?}),
        };
        item(path.to_owned(), value, size).map(|item| Some(Step::Item(item)))
    }

    fn relative(&self, path: &Path) -> Result<String, Skip> {
        let skip = |why: &str| Skip {
            path: path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned(),
            line: None,
            reason: Reason::Name(why.to_owned()),
        };
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let named = if below.as_os_str().is_empty() { path.file_name() } else { None };
        let parts: Option<Vec<&str>> = match named {
            Some(name) => name.to_str().map(|name| vec![name]),
            None => below.iter().map(|part| part.to_str()).collect(),
        };
        let relative = parts.ok_or_else(|| skip("is not UTF-8"))?.join("/");
        match check_path(&relative) {
            Ok(()) => Ok(relative),
            Err(why) => Err(skip(&why)),
        }
    }

    fn walk_error(&self, error: &walkdir::Error) -> Step {
        let path = error.path().unwrap_or(&self.root);
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        Step::Skip(Skip {
            path: path.to_string_lossy().into_owned(),
            line: None,
            reason: Reason::Unreadable(plain(error)),
        })
    }
}

impl Iterator for Folder {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(lines) = &mut self.lines {
                match lines.next() {
                    Some(step) => return Some(step),
                    None => self.lines = None,
                }
            }
            let step = match self.walk.next()? {
                Ok(entry) => self.visit(&entry),
                Err(error) => Some(self.walk_error(&error)),
            };
            if step.is_some() {
                return step;
            }
        }
    }
}

fn plain(error: &walkdir::Error) -> String {
    error.io_error().map_or_else(|| error.to_string(), ToString::to_string)
}

fn unreadable(error: &io::Error) -> Reason {
    Reason::Unreadable(error.to_string())
}

/// The file may have grown since it was measured.
fn read_at_most(path: &Path, found: Option<Found>, bytes_max: u64) -> Result<Vec<u8>, Reason> {
    let file = open_found(path, found).map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Reason::TooLarge { bytes: bytes.len() as u64, bytes_max });
    }
    Ok(bytes)
}

fn item(path: String, value: Value, bytes: u64) -> Result<Item, Reason> {
    let Value::Object(value) = value else {
        return Err(Reason::Unreadable("no object".to_owned()));
    };
    // Escapes can make the document larger than its file.
    let mut size = Counter(0);
    serde_json::to_writer(&mut size, &value)
        .map_err(|error| Reason::Unreadable(error.to_string()))?;
    let bytes_max = DOCUMENT_JSON_BYTES_MAX as u64;
    if size.0 > bytes_max {
        return Err(Reason::TooLarge { bytes: size.0, bytes_max });
    }
    Ok(Item { path, value, bytes })
}

struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of a JSONL file; a bad line is skipped alone.
struct Lines {
    reader: BufReader<File>,
    path: String,
    number: u64,
    done: bool,
}

impl Lines {
    fn new(file: File, path: &str) -> Self {
        Self { reader: BufReader::new(file), path: path.to_owned(), number: 0, done: false }
    }

    /// The next line without its end, and its whole length; at most a document's bytes are held.
    fn line(&mut self) -> io::Result<Option<(Vec<u8>, u64)>> {
        let bytes_max = DOCUMENT_JSON_BYTES_MAX as u64;
        let mut bytes = Vec::new();
        let mut size = (&mut self.reader).take(bytes_max + 1).read_until(b'\n', &mut bytes)? as u64;
        if size == 0 {
            return Ok(None);
        }
        if size > bytes_max && bytes.last() != Some(&b'\n') {
            size += discard_line(&mut self.reader)?;
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Ok(Some((bytes, size)))
    }

    fn document(&self, bytes: Vec<u8>, size: u64) -> Result<Option<Item>, Reason> {
        let bytes_max = DOCUMENT_JSON_BYTES_MAX as u64;
        if bytes.len() as u64 > bytes_max {
            return Err(Reason::TooLarge { bytes: size, bytes_max });
        }
        let text = parse::text(bytes)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let value = parse::json(&text)?;
        let path = format!("{}#{}", self.path, self.number);
        let document =
            json!({"path": path, "format": "jsonl", "line": self.number, "value": value});
        item(path, document, size).map(Some)
    }
}

fn discard_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut discarded = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(discarded);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        discarded += used as u64;
        if end.is_some() {
            return Ok(discarded);
        }
    }
}

impl Iterator for Lines {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        while !self.done {
            let read = self.line();
            self.number += 1;
            let found = match read {
                Ok(None) => return None,
                Ok(Some((bytes, size))) => self.document(bytes, size),
                Err(error) => {
                    self.done = true;
                    Err(unreadable(&error))
                }
            };
            let reason = match found {
                Ok(None) => continue,
                Ok(Some(item)) => return Some(Step::Item(item)),
                Err(reason) => reason,
            };
            // A binary file with this extension: one report, not one for each of its "lines".
            self.done |= matches!(reason, Reason::Binary { .. });
            let reason = match reason {
                Reason::Malformed { column, message, .. } => {
                    Reason::Malformed { line: self.number, column, message }
                }
                other => other,
            };
            let path = self.path.clone();
            return Some(Step::Skip(Skip { path, line: Some(self.number), reason }));
        }
        None
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
