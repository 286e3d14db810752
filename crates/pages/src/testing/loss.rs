use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use larder_types::Entropy;

use super::content::Content;
use super::dice::Dice;
use super::media::{Change, FileId, Media, set_names};

/// The unit in which a medium writes.
const SECTOR: u64 = 512;

/// Bytes of noise that one change of size uncovers at most.
const NOISE_MAX: u64 = 1 << 20;

/// What a power failure takes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Each sector of each write, each change of size and each change of a name is kept or lost
    /// by chance; a sector is old or new as a whole. Space that a file grew by without its bytes
    /// reads as zeros.
    Sectors(u64),
    /// As [`Self::Sectors`], but a sector may also be torn: it begins or ends new and is old
    /// elsewhere; and new space may read as noise.
    Torn(u64),
    /// Everything is lost.
    Everything,
    /// Nothing is lost.
    Nothing,
    /// Every write but the last is lost; names and changes of size are kept.
    AllWritesButLast,
    /// The first write is lost and nothing else.
    FirstWrite,
}

impl Media {
    /// Comes back from a power failure: what remains is durable, and nothing is open.
    pub(super) fn lose(&mut self, loss: Loss) {
        let log = std::mem::take(&mut self.log);
        let writes = log.iter().filter(|change| matches!(change, Change::Write { .. })).count();
        let mut survivor = Survivor::new(self, loss);
        let mut write = 0;
        for change in log {
            match change {
                Change::Names(names) => survivor.rename(names),
                Change::Resize { file, length } => survivor.resize(file, length),
                Change::Write { file, offset, bytes } => {
                    write += 1;
                    let place = Place { is_first: write == 1, is_last: write == writes };
                    survivor.write(file, offset, &bytes, &place);
                }
            }
        }
        let Survivor { names, contents, .. } = survivor;
        self.names_durable = BTreeMap::new();
        self.names = BTreeMap::new();
        // What is in a directory that is lost is lost with it. A directory comes before its files.
        for (path, id) in names {
            if self.has_directory_of(&path) {
                self.names.insert(path, id);
            }
        }
        self.names_durable.clone_from(&self.names);
        for (id, content) in contents {
            if let Some(file) = self.files.get_mut(&id) {
                file.cached = content.clone();
                file.durable = content;
            }
        }
        self.forget_handles();
    }
}

/// Where among the unsynced writes one stands.
struct Place {
    is_first: bool,
    is_last: bool,
}

struct Survivor {
    loss: Loss,
    dice: Dice,
    /// How likely a thing is kept, for this crash.
    kept_percent: u64,
    names: BTreeMap<PathBuf, FileId>,
    /// Names that a lost change was for: later changes to them are lost too.
    stale: BTreeSet<PathBuf>,
    contents: BTreeMap<FileId, Content>,
}

impl Survivor {
    fn new(media: &Media, loss: Loss) -> Self {
        let seed = match loss {
            Loss::Sectors(seed) | Loss::Torn(seed) => seed,
            _ => 0,
        };
        let mut dice = Dice::new(seed);
        // Few losses among many writes find other faults than many.
        let kept_percent = match dice.below(5) {
            0 => 5,
            1 => 25,
            2 => 60,
            3 => 90,
            _ => 98,
        };
        let contents = media.files.iter().map(|(id, file)| (*id, file.durable.clone())).collect();
        let names = media.names_durable.clone();
        Self { loss, dice, kept_percent, names, stale: BTreeSet::new(), contents }
    }

    /// Whether a change of a name or a size is kept.
    fn keeps(&mut self) -> bool {
        match self.loss {
            Loss::Sectors(_) | Loss::Torn(_) => self.dice.chance(self.kept_percent),
            Loss::Everything => false,
            Loss::Nothing | Loss::AllWritesButLast | Loss::FirstWrite => true,
        }
    }

    fn rename(&mut self, changes: Vec<(PathBuf, Option<FileId>)>) {
        let is_stale = changes.iter().any(|(path, _)| self.stale.contains(path));
        if is_stale || !self.keeps() {
            self.stale.extend(changes.into_iter().map(|(path, _)| path));
        } else {
            set_names(&mut self.names, changes);
        }
    }

    fn resize(&mut self, file: FileId, length: u64) {
        if self.keeps() {
            self.grow(file, length);
            if let Some(content) = self.contents.get_mut(&file) {
                content.resize(length);
            }
        }
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8], place: &Place) {
        match self.loss {
            Loss::Nothing => self.keep(file, offset, bytes),
            Loss::AllWritesButLast if place.is_last => self.keep(file, offset, bytes),
            Loss::FirstWrite if !place.is_first => self.keep(file, offset, bytes),
            Loss::Everything | Loss::AllWritesButLast | Loss::FirstWrite => {}
            Loss::Sectors(_) | Loss::Torn(_) => self.keep_some(file, offset, bytes),
        }
    }

    fn keep(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        self.grow(file, offset);
        if let Some(content) = self.contents.get_mut(&file) {
            content.write(offset, bytes);
        }
    }

    fn keep_some(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let room = usize::try_from(SECTOR - at % SECTOR).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at(room.min(rest.len()));
            if self.dice.chance(self.kept_percent) {
                self.keep(file, at, part);
            } else if matches!(self.loss, Loss::Torn(_)) && self.dice.chance(40) {
                self.tear(file, at, part);
            }
            at += part.len() as u64;
            rest = after;
        }
        // The new size may be there without the bytes.
        if self.dice.chance(50) {
            self.grow(file, at);
        }
    }

    fn tear(&mut self, file: FileId, at: u64, part: &[u8]) {
        let cut = usize::try_from(self.dice.below(part.len() as u64)).unwrap_or(0);
        let (start, end) = part.split_at(cut);
        if self.dice.chance(50) {
            self.keep(file, at, start);
        } else {
            self.keep(file, at + start.len() as u64, end);
        }
    }

    /// Space that the file did not have: zeros, or what lay on the medium before.
    fn grow(&mut self, file: FileId, length: u64) {
        let is_noisy = matches!(self.loss, Loss::Torn(_)) && self.dice.chance(30);
        let Some(content) = self.contents.get_mut(&file) else { return };
        let from = content.length();
        if from < length {
            let added = usize::try_from((length - from).min(NOISE_MAX)).unwrap_or(0);
            content.resize(length);
            if is_noisy {
                let mut noise = vec![0; added];
                self.dice.fill(&mut noise);
                content.write(from, &noise);
            }
        }
    }
}
