use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use larder_types::{BlobId, CollectionName, ObjectId};
use serde_json::Value;
use walkdir::WalkDir;

use super::{COLLECTION, Object, Reason, blob_of, check_path};

/// Where a document goes, and as what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file of its own with these bytes.
    File { path: String, bytes: Vec<u8> },
    /// A file whose content is a blob.
    Blob { path: String, id: BlobId },
    /// One line of a JSONL file; see [`line_of`].
    Line { path: String, number: u64 },
}

/// What a document's export comes to, before anything is written.
pub(crate) fn plan(
    collection: &CollectionName,
    object: ObjectId,
    value: &Object,
) -> serde_json::Result<Target> {
    let imported = if collection.as_str() == COLLECTION { imported(value)? } else { None };
    if let Some(target) = imported {
        return Ok(target);
    }
    let path = format!("{collection}/{object}.json");
    Ok(Target::File { path, bytes: pretty(value)? })
}

/// `None`: not of the shape that import makes.
fn imported(value: &Object) -> serde_json::Result<Option<Target>> {
    let text = |key| value.get(key).and_then(Value::as_str);
    let (Some(path), Some(format)) = (text("path"), text("format")) else { return Ok(None) };
    let path = path.to_owned();
    Ok(match format {
        "markdown" | "text" => {
            text("text").map(|text| Target::File { path, bytes: text.as_bytes().to_vec() })
        }
        "file" => blob_of(value).map(|id| Target::Blob { path, id }),
        "json" => match value.get("value") {
            Some(value) => Some(Target::File { path, bytes: pretty(value)? }),
            None => None,
        },
        "jsonl" => {
            let number = value.get("line").and_then(Value::as_u64);
            let file = number.and_then(|number| path.strip_suffix(&format!("#{number}")));
            let line = number.zip(file).filter(|_| value.contains_key("value"));
            line.map(|(number, file)| Target::Line { path: file.to_owned(), number })
        }
        _ => None,
    })
}

/// The line of a document that was planned as one.
pub(crate) fn line_of(value: &Object) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value.get("value").unwrap_or(&Value::Null))?;
    line.push(b'\n');
    Ok(line)
}

fn pretty(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    New,
    Same,
    Replaced,
}

/// A file on its way below an export's directory: written beside its place, then moved there, so
/// that no reader ever sees half of it and no link is written through.
#[derive(Debug)]
pub(crate) struct Outgoing {
    target: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    is_moved: bool,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.is_moved {
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// The name of a file that is not in its place yet.
const PART: &str = ".larder-export.part";

/// Removes what exports into this directory left behind that were cut short. What cannot be
/// removed now stays.
pub(crate) fn sweep(root: &Path) {
    for entry in WalkDir::new(root).follow_links(false).into_iter().flatten() {
        if entry.file_name() == PART && entry.file_type().is_file() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Outgoing {
    pub(crate) fn create(root: &Path, path: &str) -> Result<Self, Reason> {
        check_path(path).map_err(Reason::Name)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = make_folders(root, folder)?;
        let part = folder.join(PART);
        let file = create_new(&part).or_else(|error| match error.kind() {
            // Left by an export that was cut short.
            io::ErrorKind::AlreadyExists => fs::remove_file(&part).and_then(|()| create_new(&part)),
            _ => Err(error),
        });
        let file = BufWriter::new(file.map_err(|error| unwritable(&error))?);
        Ok(Self { target: folder.join(name), part, file, is_moved: false })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.file.write_all(bytes).map_err(|error| unwritable(&error))
    }

    /// Moves the file to its place, unless one that differs is there and `force` is not given.
    pub(crate) fn finish(mut self, force: bool) -> Result<Written, Reason> {
        let settled = self.settle(force);
        self.is_moved = matches!(settled, Ok(Written::New | Written::Replaced));
        settled
    }

    fn settle(&mut self, force: bool) -> Result<Written, Reason> {
        self.file.flush().map_err(|error| unwritable(&error))?;
        let there = match fs::symlink_metadata(&self.target) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unwritable(&error)),
        };
        let written = match there {
            None => Written::New,
            Some(there) if there.is_dir() => {
                return Err(Reason::Exists("a directory is there".to_owned()));
            }
            Some(there) if there.is_file() && same(&self.target, &self.part) => {
                return Ok(Written::Same);
            }
            Some(_) if force => Written::Replaced,
            Some(_) => return Err(Reason::Exists("a file that differs is there".to_owned())),
        };
        fs::rename(&self.part, &self.target).map_err(|error| unwritable(&error))?;
        Ok(written)
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Makes the folders of a path one by one; a link among them could lead out of the directory.
fn make_folders(root: &Path, folders: &str) -> Result<PathBuf, Reason> {
    fs::create_dir_all(root).map_err(|error| unwritable(&error))?;
    let mut at = root.to_owned();
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(Reason::Exists(format!("{part} is there and no directory"))),
            Err(_) => fs::create_dir(&at).map_err(|error| unwritable(&error))?,
        }
    }
    Ok(at)
}

/// Whether both files can be read and hold the same bytes.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    let lengths = [one, other].map(|path| fs::metadata(path).map(|metadata| metadata.len()).ok());
    let (Ok(one), Ok(other), true) = (File::open(one), File::open(other), lengths[0] == lengths[1])
    else {
        return false;
    };
    let (mut one, mut other) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(Ok(a)), Some(Ok(b))) if a == b => {}
            _ => return false,
        }
    }
}

fn unwritable(error: &io::Error) -> Reason {
    Reason::Exists(format!("cannot be written ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn planned(collection: &str, value: &Value) -> Target {
        let object = ObjectId::new([7; 16]);
        plan(&collection.parse().unwrap(), object, value.as_object().unwrap()).unwrap()
    }

    fn file(path: &str, bytes: &str) -> Target {
        Target::File { path: path.to_owned(), bytes: bytes.as_bytes().to_vec() }
    }

    #[test]
    fn documents_become_the_files_they_were() {
        let text = json!({"path": "a/b.md", "format": "markdown", "text": "\u{feff}x\r\n"});
        assert_eq!(planned("files", &text), file("a/b.md", "\u{feff}x\r\n"));
        let value = json!({"path": "c.json", "format": "json", "value": [1]});
        assert_eq!(planned("files", &value), file("c.json", "[\n  1\n]\n"));
        let line =
            json!({"path": "d#1.jsonl#12", "format": "jsonl", "line": 12, "value": {"x": 1}});
        assert_eq!(
            planned("files", &line),
            Target::Line { path: "d#1.jsonl".to_owned(), number: 12 }
        );
        assert_eq!(line_of(line.as_object().unwrap()).unwrap(), b"{\"x\":1}\n");
    }

    #[test]
    fn other_documents_are_named_by_collection_and_id() {
        let id = "07".repeat(16);
        assert_eq!(planned("notes", &json!({})), file(&format!("notes/{id}.json"), "{}\n"));
        for odd in [
            json!({"path": "x.md"}),
            json!({"path": "x.md", "format": "markdown", "text": 7}),
            json!({"path": "x.json", "format": "json"}),
            json!({"path": "x.jsonl#2", "format": "jsonl", "line": 3, "value": 1}),
        ] {
            let Target::File { path, .. } = planned("files", &odd) else { panic!("{odd}") };
            assert_eq!(path, format!("files/{id}.json"));
        }
    }

    fn write(root: &Path, path: &str, text: &str, force: bool) -> Result<Written, Reason> {
        let mut outgoing = Outgoing::create(root, path)?;
        outgoing.write(text.as_bytes())?;
        outgoing.finish(force)
    }

    #[test]
    fn a_differing_file_is_kept_unless_forced_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = &dir.path().join("out");
        assert_eq!(write(root, "a/b/c.md", "one", false), Ok(Written::New));
        assert_eq!(write(root, "a/b/c.md", "one", false), Ok(Written::Same));
        assert_eq!(write(root, "a/b/c.md", "two", false).unwrap_err().kind(), "exists");
        assert_eq!(fs::read_to_string(root.join("a/b/c.md")).unwrap(), "one");
        assert_eq!(write(root, "a/b/c.md", "two", true), Ok(Written::Replaced));
        assert_eq!(fs::read_to_string(root.join("a/b/c.md")).unwrap(), "two");
        assert!(write(root, "a/b", "x", true).is_err(), "a directory is no file");
        assert!(write(root, "a/b/c.md/d", "x", true).is_err(), "a file is no directory");
        fs::write(root.join("a/b/.larder-export.part"), "cut short").unwrap();
        assert_eq!(write(root, "a/b/e.md", "e", false), Ok(Written::New));
        // An export that fails, or whose disk is full, in the middle of a film.
        let mut cut = Outgoing::create(root, "a/b/film.mp4").unwrap();
        cut.write(b"half of it").unwrap();
        assert!(root.join("a/b").join(PART).exists());
        drop(cut);
        // One that was killed, in a folder that nothing is written to any more.
        fs::create_dir(root.join("old")).unwrap();
        fs::write(root.join("old").join(PART), "cut short").unwrap();
        sweep(root);
        assert!(!root.join("old").join(PART).exists());
        let names: Vec<_> =
            fs::read_dir(root.join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[cfg(unix)]
    #[test]
    fn no_link_is_written_through() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (&dir.path().join("out"), dir.path().join("outside"));
        fs::create_dir_all(root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        symlink(&outside, root.join("link")).unwrap();
        symlink(outside.join("kept"), root.join("file.md")).unwrap();
        symlink(outside.join("new"), root.join(".larder-export.part")).unwrap();
        assert!(write(root, "link/x.md", "x", true).is_err());
        assert!(write(root, "../outside/x.md", "x", true).is_err());
        assert!(write(root, "file.md", "kept", false).is_err());
        assert_eq!(write(root, "file.md", "mine", true), Ok(Written::Replaced));
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
