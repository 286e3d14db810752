use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// What the medium and the cache above it hold.
///
/// Invariant: `files[id].cached` is `files[id].durable` with the log's changes to it in order (and
/// those that were forgotten), and `names` is `names_durable` with the log's changes to names.
#[derive(Clone, Default)]
pub(super) struct Media {
    pub(super) files: BTreeMap<FileId, File>,
    pub(super) names: BTreeMap<PathBuf, FileId>,
    pub(super) names_durable: BTreeMap<PathBuf, FileId>,
    /// What no sync has covered yet, oldest first.
    pub(super) log: Vec<Change>,
    files_made: u64,
}

#[derive(Clone, Default)]
pub(super) struct File {
    /// As calls see it.
    pub(super) cached: Content,
    /// As of its last sync.
    pub(super) durable: Content,
    /// Handles on it.
    opened: usize,
    is_directory: bool,
}

#[derive(Clone)]
pub(super) enum Change {
    Write {
        file: FileId,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Resize {
        file: FileId,
        length: u64,
    },
    /// Names in one directory that now lead to these files, or to none: all of them or none.
    Names(Vec<(PathBuf, Option<FileId>)>),
}

impl Change {
    pub(super) fn file(&self) -> Option<FileId> {
        match self {
            Self::Write { file, .. } | Self::Resize { file, .. } => Some(*file),
            Self::Names(_) => None,
        }
    }

    fn is_in(&self, directory: Option<&Path>) -> bool {
        matches!(self, Self::Names(names) if names.iter().any(|(p, _)| p.parent() == directory))
    }
}

impl Media {
    pub(super) fn find(&self, path: &Path) -> Option<FileId> {
        self.names.get(path).copied()
    }

    pub(super) fn content(&self, file: FileId) -> Option<&Content> {
        self.files.get(&file).map(|file| &file.cached)
    }

    /// Bytes in all files that have a name or a handle.
    pub(super) fn used(&self) -> u64 {
        let in_use = |id: &FileId, file: &File| {
            file.opened > 0 || self.names.values().any(|named| named == id)
        };
        let used = self.files.iter().filter(|(id, file)| in_use(id, file));
        used.map(|(_, file)| file.cached.length()).sum()
    }

    pub(super) fn is_directory(&self, file: FileId) -> bool {
        self.files.get(&file).is_some_and(|file| file.is_directory)
    }

    /// Files can be put into what is directly below the root without making it first.
    pub(super) fn has_directory(&self, path: &Path) -> bool {
        let is_given = path.parent().is_none_or(|parent| parent.parent().is_none());
        match self.find(path) {
            Some(file) => self.is_directory(file),
            None => is_given,
        }
    }

    /// Whether a file of this path can be made.
    pub(super) fn has_directory_of(&self, path: &Path) -> bool {
        path.parent().is_some_and(|parent| self.has_directory(parent))
    }

    /// Whether the path leads to a file or a directory.
    pub(super) fn is_there(&self, path: &Path) -> bool {
        path.parent().is_none() || self.find(path).is_some()
    }

    pub(super) fn create(&mut self, path: &Path) -> FileId {
        self.add(path, File::default())
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> FileId {
        self.add(path, File { is_directory: true, ..File::default() })
    }

    fn add(&mut self, path: &Path, file: File) -> FileId {
        let id = FileId(self.files_made);
        self.files_made += 1;
        self.files.insert(id, file);
        self.name(path, Some(id));
        id
    }

    /// False if there is no such file, or a directory of that name.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let is_file = |id: &FileId| !self.is_directory(*id);
        let Some(file) = self.find(from).filter(is_file) else { return false };
        if !self.find(to).as_ref().is_none_or(is_file) {
            return false;
        }
        if from != to {
            self.names.remove(from);
            self.names.insert(to.to_owned(), file);
            let names = vec![(to.to_owned(), Some(file)), (from.to_owned(), None)];
            self.log.push(Change::Names(names));
        }
        true
    }

    /// False if there is no such file.
    pub(super) fn delete(&mut self, path: &Path) -> bool {
        let was_there = self.find(path).is_some_and(|file| !self.is_directory(file));
        if was_there {
            self.name(path, None);
        }
        was_there
    }

    fn name(&mut self, path: &Path, file: Option<FileId>) {
        match file {
            Some(id) => self.names.insert(path.to_owned(), id),
            None => self.names.remove(path),
        };
        self.log.push(Change::Names(vec![(path.to_owned(), file)]));
    }

    pub(super) fn write(&mut self, id: FileId, offset: u64, bytes: &[u8]) {
        if let Some(file) = self.files.get_mut(&id) {
            file.cached.write(offset, bytes);
            self.log.push(Change::Write { file: id, offset, bytes: bytes.into() });
        }
    }

    pub(super) fn resize(&mut self, id: FileId, length: u64) {
        if let Some(file) = self.files.get_mut(&id) {
            file.cached.resize(length);
            self.log.push(Change::Resize { file: id, length });
        }
    }

    /// Makes the file's content durable, not its name.
    pub(super) fn sync(&mut self, id: FileId) {
        let Self { files, log, .. } = self;
        let Some(File { cached, durable, .. }) = files.get_mut(&id) else { return };
        // Sizes first, in order, since cutting off and growing again leaves zeros; then blocks as
        // they are now.
        for change in log.iter().filter(|change| change.file() == Some(id)) {
            match change {
                Change::Resize { length, .. } => durable.resize(*length),
                Change::Write { offset, bytes, .. } => {
                    durable.resize(durable.length().max(offset + bytes.len() as u64));
                }
                Change::Names(_) => {}
            }
        }
        for change in log.iter() {
            if let Change::Write { file, offset, bytes } = change
                && *file == id
            {
                durable.share(cached, *offset, bytes.len());
            }
        }
        log.retain(|change| change.file() != Some(id));
    }

    /// What of the file is not durable never will be, unless it is written again.
    pub(super) fn forget(&mut self, id: FileId) {
        self.log.retain(|change| change.file() != Some(id));
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_directory(&mut self, directory: Option<&Path>) {
        let (synced, log) =
            std::mem::take(&mut self.log).into_iter().partition(|change| change.is_in(directory));
        self.log = log;
        let synced: Vec<Change> = synced;
        for change in synced {
            if let Change::Names(names) = change {
                set_names(&mut self.names_durable, names);
            }
        }
        self.forget_unreachable();
    }

    /// A file that is whole and durable at once, in place of what the path led to.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) {
        self.take_away(path);
        let missing = |dir: &&Path| !self.has_directory(dir);
        let dirs: Vec<&Path> = path.ancestors().skip(1).take_while(missing).collect();
        for dir in dirs.into_iter().rev() {
            let id = self.create_directory(dir);
            self.settle_name(dir, id);
        }
        let id = self.create(path);
        self.write(id, 0, bytes);
        self.sync(id);
        self.settle_name(path, id);
    }

    /// Changes what is on the medium, and what of it calls see.
    pub(super) fn damage(&mut self, path: &Path, offset: u64, bytes: &[u8]) {
        let file = self.find(path).and_then(|id| self.files.get_mut(&id));
        if let Some(File { cached, durable, .. }) = file {
            for content in [cached, durable] {
                let there = content.length().saturating_sub(offset);
                let there = usize::try_from(there).unwrap_or(usize::MAX).min(bytes.len());
                content.write(offset, bytes.get(..there).unwrap_or(bytes));
            }
        }
    }

    /// The name is durable now, whatever it was before.
    fn settle_name(&mut self, path: &Path, file: FileId) {
        self.drop_changes_of(path);
        self.names_durable.insert(path.to_owned(), file);
    }

    fn drop_changes_of(&mut self, path: &Path) {
        self.log.retain_mut(|change| match change {
            Change::Names(names) => {
                names.retain(|(name, _)| name != path);
                !names.is_empty()
            }
            _ => true,
        });
    }

    /// Deletes durably and at once.
    pub(super) fn take_away(&mut self, path: &Path) {
        self.names.remove(path);
        self.names_durable.remove(path);
        self.drop_changes_of(path);
        self.forget_unreachable();
    }

    pub(super) fn note_opened(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.opened += 1;
        }
    }

    pub(super) fn note_closed(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.opened = file.opened.saturating_sub(1);
        }
        self.forget_unreachable();
    }

    /// All handles are gone, without a word.
    pub(super) fn forget_handles(&mut self) {
        self.files.values_mut().for_each(|file| file.opened = 0);
        self.forget_unreachable();
    }

    /// Drops the files that no name and no handle leads to, nor could after a crash.
    fn forget_unreachable(&mut self) {
        let Self { files, names, names_durable, log, .. } = self;
        let in_log = |id: &FileId| {
            log.iter().any(|change| {
                matches!(change, Change::Names(names) if names.iter().any(|(_, f)| *f == Some(*id)))
            })
        };
        files.retain(|id, file| {
            file.opened > 0
                || names.values().chain(names_durable.values()).any(|named| named == id)
                || in_log(id)
        });
        log.retain(|change| change.file().is_none_or(|id| files.contains_key(&id)));
    }
}

pub(super) fn set_names(
    names: &mut BTreeMap<PathBuf, FileId>,
    changes: Vec<(PathBuf, Option<FileId>)>,
) {
    for (path, file) in changes {
        match file {
            Some(id) => names.insert(path, id),
            None => names.remove(&path),
        };
    }
}
