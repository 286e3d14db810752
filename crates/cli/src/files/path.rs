use std::collections::HashSet;

/// Whether a document's path may become a file's below some directory.
///
/// A path may come from a peer: it must not leave the directory, name a device, or mean one thing
/// here and another elsewhere. `Err` completes the sentence "its name …".
pub(crate) fn check(path: &str) -> Result<(), String> {
    check_for(path, cfg!(windows))
}

const PATH_BYTES_MAX: usize = 4096;
const PART_BYTES_MAX: usize = 255;

fn check_for(path: &str, windows: bool) -> Result<(), String> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err(format!("has {} bytes, not 1 to {PATH_BYTES_MAX}", path.len()));
    }
    if path.starts_with('/') {
        return Err("is absolute".to_owned());
    }
    let drive = |bytes: &[u8]| matches!(bytes, [letter, b':', ..] if letter.is_ascii_alphabetic());
    if drive(path.as_bytes()) {
        return Err("starts with a drive".to_owned());
    }
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") {
            return Err("has an empty part, `.` or `..`".to_owned());
        }
        if part.len() > PART_BYTES_MAX {
            return Err(format!("has a part of more than {PART_BYTES_MAX} bytes"));
        }
        if part.chars().any(|c| c.is_control() || c == '\\') {
            return Err("has a control character or a backslash".to_owned());
        }
        if windows && is_odd_on_windows(part) {
            return Err("is not one that Windows can hold".to_owned());
        }
    }
    Ok(())
}

fn is_odd_on_windows(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).trim_end();
    let device = ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .iter()
        .any(|name| stem.eq_ignore_ascii_case(name));
    let numbered = stem
        .get(..3)
        .is_some_and(|kind| kind.eq_ignore_ascii_case("com") || kind.eq_ignore_ascii_case("lpt"))
        && stem.chars().count() == 4;
    device
        || numbered
        || part.ends_with(['.', ' '])
        || part.contains(['<', '>', ':', '"', '|', '?', '*'])
}

/// The paths given out so far; a second document of the same path gets ` (2)`.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    taken: HashSet<String>,
}

impl Paths {
    pub(crate) fn take(&mut self, path: &str) -> String {
        if self.taken.insert(key(path)) {
            return path.to_owned();
        }
        let (folder, name) =
            path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
            _ => (name, String::new()),
        };
        let slash = if folder.is_empty() { "" } else { "/" };
        let mut number = 2_u64;
        loop {
            let other = format!("{folder}{slash}{stem} ({number}){extension}");
            if self.taken.insert(key(&other)) {
                return other;
            }
            number += 1;
        }
    }
}

/// Paths that one file system would hold as the same file have the same key.
fn key(path: &str) -> String {
    if cfg!(any(windows, target_os = "macos")) { path.to_lowercase() } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_directory() {
        for good in
            ["a.md", "recipes/soup.md", "..a/b..md", "Chapter 1: intro.md", "ä/ö.txt", "...x"]
        {
            assert_eq!(check_for(good, false), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            ".",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "..\\x",
            "a\\b",
            "C:\\x",
            "c:x",
            "C:/x",
            "//server/share",
        ] {
            assert!(check_for(bad, false).is_err(), "{bad:?}");
            assert!(check_for(bad, true).is_err(), "{bad:?}");
        }
        assert!(check_for(&"x".repeat(256), false).is_err());
    }

    #[test]
    fn windows_has_names_of_its_own() {
        for bad in ["NUL", "a/con.md", "COM1", "lpt9.txt", "x.", "x ", "a?b", "ab:c", "aux .txt"] {
            assert!(check_for(bad, true).is_err(), "{bad:?}");
            assert_eq!(check_for(bad, false), Ok(()), "{bad:?}");
        }
        for good in ["command.md", "nullable.txt", "com.md", "a/b.md"] {
            assert_eq!(check_for(good, true), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn a_second_document_of_one_path_gets_a_number() {
        let mut paths = Paths::default();
        let mut take = |path| paths.take(path);
        assert_eq!(take("a/soup.md"), "a/soup.md");
        assert_eq!(take("a/soup.md"), "a/soup (2).md");
        assert_eq!(take("a/soup (2).md"), "a/soup (2) (2).md");
        assert_eq!(take("a/soup.md"), "a/soup (3).md");
        assert_eq!((take("x"), take("x")), ("x".into(), "x (2)".into()));
        assert_eq!((take(".env"), take(".env")), (".env".into(), ".env (2)".into()));
    }
}
