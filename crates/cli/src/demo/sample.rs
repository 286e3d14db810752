//! The sample household, as it was when the program was built.

use std::path::Path;
use std::{fs, io};

/// Path and bytes of each file.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/household.rs"));

/// Writes the household below a directory.
pub(crate) fn write_to(dir: &Path) -> io::Result<()> {
    for (path, bytes) in FILES {
        let path = dir.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Folder, Step};

    #[test]
    fn the_household_is_a_few_dozen_files_that_all_import() {
        let dir = tempfile::tempdir().unwrap();
        write_to(dir.path()).unwrap();
        assert!(FILES.len() >= 36, "{}", FILES.len());
        let formats = |format: &str| {
            let steps = Folder::open(dir.path()).unwrap();
            steps
                .filter(|step| match step {
                    Step::Item(item) => item.value["format"] == format,
                    Step::Attachment(_) | Step::Skip(_) | Step::Ignored => panic!("{step:?}"),
                })
                .count()
        };
        for format in ["markdown", "text", "json", "jsonl"] {
            assert!(formats(format) >= 5, "{format}");
        }
    }
}
