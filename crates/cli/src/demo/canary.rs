//! Looks for the input's own strings in the bytes on disk.
//!
//! Canaries are lines, words and paths of imported documents, sampled evenly over the folder in
//! constant memory. They hold nothing that JSON would escape, so that a database that keeps
//! documents in the open has them as they are; the control run shows that the search finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use walkdir::WalkDir;

use crate::files::Item;

const DOCUMENTS_MAX: usize = 64;
const CANARY_BYTES_MIN: usize = 8;
const LINE_BYTES_MIN: usize = 24;
const LINE_BYTES_MAX: usize = 64;

/// Words of the program itself, which its files may well name.
const OWN_WORDS: [&str; 6] = ["larder", "sqlite", "encrypt", "format", "version", "database"];

/// Strings of one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Strings {
    path: Option<String>,
    line: Option<String>,
    word: Option<String>,
}

/// A reservoir of documents' strings (Vitter's algorithm R).
#[derive(Debug)]
pub(crate) struct Sampler {
    kept: Vec<Strings>,
    seen: u64,
    state: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { kept: Vec::new(), seen: 0, state: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Sampler {
    pub(crate) fn see(&mut self, item: &Item) {
        self.seen += 1;
        if self.kept.len() < DOCUMENTS_MAX {
            self.kept.push(strings_of(item));
            return;
        }
        let chosen = usize::try_from(self.random() % self.seen);
        if let Some(slot) = chosen.ok().and_then(|chosen| self.kept.get_mut(chosen)) {
            *slot = strings_of(item);
        }
    }

    /// xorshift64: an even choice, the same in every run.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub(crate) fn canaries(self) -> Canaries {
        let strings = self.kept.into_iter();
        Canaries::new(strings.flat_map(|s| [s.path, s.line, s.word]).flatten())
    }
}

fn strings_of(item: &Item) -> Strings {
    let mut texts = Vec::new();
    for key in ["text", "value"] {
        collect(item.value.get(key), &mut texts);
    }
    let escaped = |c: char| c.is_control() || matches!(c, '"' | '\\');
    let pieces = || texts.iter().flat_map(|text| text.split(escaped)).map(str::trim);
    let line = pieces().filter(|line| line.len() >= LINE_BYTES_MIN).max_by_key(|line| line.len());
    let words = pieces().flat_map(|line| line.split(|c: char| !c.is_alphanumeric()));
    let word = words.filter(|word| !is_own(word)).max_by_key(|word| word.len());
    Strings {
        path: Some(item.path.clone()).filter(|path| !is_own(path) && !path.contains(escaped)),
        line: line.map(|line| floor(line, LINE_BYTES_MAX).to_owned()),
        word: word.map(ToOwned::to_owned),
    }
}

fn is_own(text: &str) -> bool {
    let text = text.to_lowercase();
    OWN_WORDS.iter().any(|word| text.contains(word))
}

/// At most so many bytes from the start, whole characters.
pub(crate) fn floor(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn collect<'a>(value: Option<&'a Value>, texts: &mut Vec<&'a str>) {
    match value {
        Some(Value::String(text)) => texts.push(text),
        Some(Value::Array(list)) => list.iter().for_each(|item| collect(Some(item), texts)),
        Some(Value::Object(map)) => map.values().for_each(|item| collect(Some(item), texts)),
        _ => {}
    }
}

/// Strings to look for, found by their first eight bytes.
#[derive(Debug)]
pub(crate) struct Canaries {
    by_prefix: BTreeMap<[u8; CANARY_BYTES_MIN], Vec<Vec<u8>>>,
    /// By the first two bytes: most positions in a file are passed over on these alone.
    starts: Vec<bool>,
    bytes_max: usize,
}

/// What a search came to.
#[derive(Debug, Default)]
pub(crate) struct Sighting {
    pub(crate) found: BTreeSet<Vec<u8>>,
    /// The first file with a canary in it.
    pub(crate) place: Option<String>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Canaries {
    pub(crate) fn new(strings: impl IntoIterator<Item = String>) -> Self {
        let mut by_prefix: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        let mut starts = vec![false; 1 << 16];
        let mut bytes_max = CANARY_BYTES_MIN;
        let strings: BTreeSet<String> = strings.into_iter().collect();
        for string in strings {
            // A shorter string could be there by chance.
            let Some(prefix) = string.as_bytes().first_chunk::<CANARY_BYTES_MIN>() else {
                continue;
            };
            if let Some(start) = starts.get_mut(start_of(*prefix)) {
                *start = true;
            }
            bytes_max = bytes_max.max(string.len());
            by_prefix.entry(*prefix).or_default().push(string.into_bytes());
        }
        Self { by_prefix, starts, bytes_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_prefix.values().map(Vec::len).sum()
    }

    /// Reads every file below a directory, byte by byte.
    pub(crate) fn search(&self, dir: &Path) -> io::Result<Sighting> {
        let mut sighting = Sighting::default();
        for entry in WalkDir::new(dir) {
            let entry = entry.map_err(io::Error::other)?;
            if entry.file_type().is_file() {
                let before = sighting.found.len();
                self.search_file(File::open(entry.path())?, &mut sighting)?;
                sighting.files += 1;
                if sighting.found.len() > before && sighting.place.is_none() {
                    sighting.place = Some(entry.path().display().to_string());
                }
            }
        }
        Ok(sighting)
    }

    fn search_file(&self, mut file: impl Read, sighting: &mut Sighting) -> io::Result<()> {
        const READ_BYTES: usize = 1 << 20;
        let mut buffer = Vec::with_capacity(READ_BYTES + self.bytes_max);
        loop {
            let read = (&mut file).take(READ_BYTES as u64).read_to_end(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            sighting.bytes += read as u64;
            self.search_bytes(&buffer, &mut sighting.found);
            // A canary may lie across two reads.
            let done = buffer.len().saturating_sub(self.bytes_max - 1);
            buffer.drain(..done);
        }
    }

    fn search_bytes(&self, bytes: &[u8], found: &mut BTreeSet<Vec<u8>>) {
        for (at, window) in bytes.windows(CANARY_BYTES_MIN).enumerate() {
            let Some(prefix) = window.first_chunk::<CANARY_BYTES_MIN>() else { return };
            if !self.starts.get(start_of(*prefix)).copied().unwrap_or(false) {
                continue;
            }
            for canary in self.by_prefix.get(prefix).into_iter().flatten() {
                if bytes.get(at..).is_some_and(|rest| rest.starts_with(canary)) {
                    found.insert(canary.clone());
                }
            }
        }
    }
}

fn start_of([first, second, ..]: [u8; CANARY_BYTES_MIN]) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(path: &str, value: &Value) -> Item {
        Item { path: path.to_owned(), value: value.as_object().unwrap().clone(), bytes: 0 }
    }

    #[test]
    fn canaries_are_whole_lines_words_and_paths_without_escapes() {
        let text = "short\nThe quince by the back door says \"stop\" and ripens in October\n";
        let strings = strings_of(&item("garden/quince.md", &json!({"text": text})));
        assert_eq!(strings.line.as_deref(), Some("The quince by the back door says"));
        assert_eq!(strings.word.as_deref(), Some("October"));
        assert_eq!(strings.path.as_deref(), Some("garden/quince.md"));
        let nested = json!({"value": {"a": [1, {"b": "Buttermilk, from the goat farm"}]}});
        assert_eq!(strings_of(&item("larder.json", &nested)).path, None);
        let umlauts = "ü".repeat(100);
        let line = strings_of(&item("x", &json!({"text": umlauts}))).line.unwrap();
        assert_eq!(line, "ü".repeat(LINE_BYTES_MAX / 2));
    }

    #[test]
    fn a_sample_is_bounded_and_reaches_the_end_of_a_large_folder() {
        let mut sampler = Sampler::default();
        for number in 0..10_000 {
            sampler.see(&item(&format!("folder/note-{number:05}.md"), &json!({"text": ""})));
        }
        assert_eq!(sampler.kept.len(), DOCUMENTS_MAX);
        let late = sampler.kept.iter().filter(|s| s.path.as_deref() > Some("folder/note-05000.md"));
        assert!((10..=54).contains(&late.count()));
        assert!(sampler.canaries().len() > DOCUMENTS_MAX / 2);
    }

    #[test]
    fn a_canary_is_found_wherever_it_lies_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let canaries = Canaries::new(["quince jelly", "quince jam for", "tiny"].map(String::from));
        assert_eq!(canaries.len(), 2, "short strings would be found by chance");
        for at in [0, 5, (1 << 20) - 6, (1 << 20) - 1, 1 << 20, (2 << 20) + 3] {
            let mut bytes = vec![b'q'; at];
            bytes.extend_from_slice(b"quince jellyquince jam fo");
            std::fs::write(dir.path().join("file"), &bytes).unwrap();
            let sighting = canaries.search(dir.path()).unwrap();
            let found: Vec<_> = sighting.found.into_iter().collect();
            assert_eq!(found, [b"quince jelly".to_vec()], "at {at}");
            assert_eq!((sighting.files, sighting.bytes), (1, bytes.len() as u64));
        }
        std::fs::write(dir.path().join("file"), "Quince Jelly").unwrap();
        assert!(canaries.search(dir.path()).unwrap().found.is_empty());
    }
}
