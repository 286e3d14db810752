use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use larder_audit::format::{AckLine, ExportWriter, SectionLine, disclose_by_default};
use larder_audit::verify;
use larder_log::ack::Ack;
use larder_types::Timestamp;

use crate::World;

/// A valid export on disk, and what its files hold.
struct Export {
    root: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    log_root: String,
}

/// An export of which one file (the first byte says which) was replaced. It is refuted, or the
/// verdict is about the very same log.
pub fn export(data: &[u8]) {
    static EXPORT: OnceLock<Export> = OnceLock::new();
    let export = EXPORT.get_or_init(write);
    let Some((which, replaced)) = data.split_first() else { return };
    let (path, original) = &export.files[usize::from(*which) % export.files.len()];
    fs::write(path, replaced).expect("the file is replaced");
    let verdict = verify(&export.root);
    fs::write(path, original).expect("and put back");
    if let Ok(verdict) = verdict {
        assert_eq!(verdict.logs.len(), 1);
        assert_eq!((verdict.logs[0].entries, &verdict.logs[0].root), (3, &export.log_root));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let files = write().files;
    (0..).zip(files).map(|(which, (_, bytes))| [vec![which], bytes].concat()).collect()
}

fn write() -> Export {
    let world = World::new();
    let device = world.signing.device_id();
    let root = std::env::temp_dir().join(format!("larder-fuzz-export-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let at = Timestamp(1_700_000_000_000);
    let mut writer = ExportWriter::create(&root, &world.space, &device, at).expect("a folder");
    let mut log = writer.log(&device).expect("a log");
    let mut opened = world.opened.iter();
    for (index, entry) in world.entries.iter().enumerate() {
        let sections: Vec<_> = (0..)
            .zip(&entry.commitments)
            .map(|(section, commitment)| {
                let shown = opened.next().map(disclose_by_default);
                SectionLine::new(entry.header.seq, section, commitment, shown.as_ref())
            })
            .collect();
        log.entry(&world.receipt(index), &sections).expect("an entry");
    }
    let (checkpoint, signature) = world.checkpoint(world.entries.len());
    let ack = Ack::sign(&checkpoint, device, &world.ack, 1_700_000_000);
    let acks = [AckLine::new(&ack, &world.ack.public())];
    log.finish(&checkpoint, &signature, &acks).expect("a checkpoint");
    writer.finish().expect("a manifest");
    verify(&root).expect("the seed is not valid");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    Export { root, files, log_root: checkpoint.root.to_string() }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
}
