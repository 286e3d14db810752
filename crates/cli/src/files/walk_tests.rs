use super::*;
use std::fmt::Write;
use std::fs;

struct Zoo(tempfile::TempDir);

impl Zoo {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn steps(&self) -> Vec<Step> {
        Folder::open(self.0.path()).unwrap().collect()
    }

    /// `path` of each document, `path: reason` of each skip, `-` of each ignored file.
    fn outline(&self) -> Vec<String> {
        self.steps()
            .into_iter()
            .map(|step| match step {
                Step::Item(item) => item.path,
                Step::Attachment(file) => format!("{} ({})", file.path, file.media_type),
                Step::Skip(skip) => match skip.line {
                    Some(line) => format!("{}:{line}: {}", skip.path, skip.reason.kind()),
                    None => format!("{}: {}", skip.path, skip.reason.kind()),
                },
                Step::Ignored => "-".to_owned(),
            })
            .collect()
    }
}

#[test]
fn files_become_documents_by_their_extension() {
    let zoo = Zoo::new();
    zoo.file("b/soup.MD", "\u{feff}# Soup\r\n")
        .file("a.txt", "")
        .file("c.json", "[1, {\"x\": null}]")
        .file("d.ndjson", "{\"n\": 1}\r\n\n  \n2")
        .file("e.exe", "no")
        .file("f/photo.PNG", "\u{89}PNG")
        .file(".git/x.md", "no");
    let items: Vec<Value> = zoo
        .steps()
        .into_iter()
        .filter_map(|step| match step {
            Step::Item(item) => Some(Value::Object(item.value)),
            _ => None,
        })
        .collect();
    let expect = [
        json!({"path": "a.txt", "format": "text", "text": ""}),
        json!({"path": "b/soup.MD", "format": "markdown", "text": "\u{feff}# Soup\r\n"}),
        json!({"path": "c.json", "format": "json", "value": [1, {"x": null}]}),
        json!({"path": "d.ndjson#1", "format": "jsonl", "line": 1, "value": {"n": 1}}),
        json!({"path": "d.ndjson#4", "format": "jsonl", "line": 4, "value": 2}),
    ];
    assert_eq!(items, expect);
    assert_eq!(zoo.outline().iter().filter(|line| *line == "-").count(), 2);
    assert!(zoo.outline().contains(&"f/photo.PNG (image/png)".to_owned()));
}

#[test]
fn one_file_is_a_folder_of_one() {
    let zoo = Zoo::new();
    zoo.file("deep/a.txt", "x");
    let mut folder = Folder::open(&zoo.0.path().join("deep/a.txt")).unwrap();
    let Some(Step::Item(item)) = folder.next() else { panic!() };
    assert_eq!((item.path.as_str(), item.bytes), ("a.txt", 1));
    assert_eq!(folder.next(), None);
    assert!(Folder::open(&zoo.0.path().join("missing")).is_err());
}

#[test]
fn each_bad_file_is_skipped_for_its_own_reason_and_the_rest_is_read() {
    let zoo = Zoo::new();
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    zoo.file("binary.md", b"a\0b")
        .file("deep.json", deep)
        .file("escapes.txt", "\u{1}".repeat(DOCUMENT_JSON_BYTES_MAX / 2))
        .file("latin1.txt", b"caf\xe9")
        .file("long.json", "{\"pi\": 3.14159265358979323846}")
        .file("malformed.json", "{\"a\": }")
        .file("zz.md", "good");
    // A file of 1 GB costs nothing: its size is looked at first, and it has no blocks here.
    File::create(zoo.0.path().join("huge.md")).unwrap().set_len(1 << 30).unwrap();
    assert_eq!(
        zoo.outline(),
        [
            "binary.md: binary",
            "deep.json: too-deep",
            "escapes.txt: too-large",
            "huge.md: too-large",
            "latin1.txt: not-utf-8",
            "long.json: lossy-number",
            "malformed.json: malformed",
            "zz.md",
        ]
    );
}

#[cfg(unix)]
#[test]
fn links_pipes_odd_names_and_closed_doors_are_reported() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    let zoo = Zoo::new();
    zoo.file("a.md", "a").file("back\\slash.md", "b").file("closed/c.md", "c").file("d.md", "d");
    symlink(zoo.0.path(), zoo.0.path().join("loop.md")).unwrap();
    symlink("missing", zoo.0.path().join("nowhere.md")).unwrap();
    symlink(zoo.0.path(), zoo.0.path().join("loop")).unwrap();
    fs::write(zoo.0.path().join(std::ffi::OsStr::from_bytes(b"x\xff.md")), "x").unwrap();
    std::os::unix::net::UnixListener::bind(zoo.0.path().join("socket.md")).unwrap();
    let doors = ["closed", "d.md"].map(|name| zoo.0.path().join(name));
    for door in &doors {
        fs::set_permissions(door, fs::Permissions::from_mode(0o000)).unwrap();
    }
    // Root opens every door.
    let root = fs::read_dir(&doors[0]).is_ok();
    let outline = zoo.outline();
    for door in &doors {
        fs::set_permissions(door, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut expect = vec!["a.md", "back\\slash.md: name"];
    expect.extend(if root {
        ["closed/c.md", "d.md"]
    } else {
        ["closed: unreadable", "d.md: unreadable"]
    });
    expect.extend([
        "-",
        "loop.md: symlink",
        "nowhere.md: symlink",
        "socket.md: not-a-file",
        "x\u{fffd}.md: name",
    ]);
    assert_eq!(outline, expect);
}

#[test]
fn a_bad_line_is_skipped_alone() {
    let zoo = Zoo::new();
    let mut lines = String::new();
    for number in 1..=100_000 {
        match number {
            40_000 => lines.push_str("{\"n\": 40000\n"),
            50_000 => lines.push_str("{\"n\": 1e999}\n"),
            _ => writeln!(lines, "{{\"n\": {number}}}").unwrap(),
        }
    }
    zoo.file("notes.jsonl", lines);
    let steps = zoo.steps();
    assert_eq!(steps.len(), 100_000);
    let skips: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Skip(skip) => Some(skip.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(skips.len(), 2);
    let expect = "notes.jsonl:40000: malformed JSON at line 40000, column 11: ";
    assert!(skips[0].starts_with(expect), "{}", skips[0]);
    let Some(Step::Item(last)) = steps.last() else { panic!() };
    assert_eq!(last.path, "notes.jsonl#100000");
}

#[test]
fn a_line_beyond_the_limit_is_passed_over_and_a_binary_file_reported_once() {
    let zoo = Zoo::new();
    let long = "x".repeat(3 * DOCUMENT_JSON_BYTES_MAX);
    zoo.file("a.jsonl", format!("1\n\"{long}\"\n3"));
    zoo.file("b.jsonl", [b"1\n".to_vec(), b"\0\n".repeat(1000)].concat());
    let exact = "y".repeat(DOCUMENT_JSON_BYTES_MAX - 2);
    zoo.file("c.jsonl", format!("\"{exact}\"\n4"));
    let expect = [
        "a.jsonl#1",
        "a.jsonl:2: too-large",
        "a.jsonl#3",
        "b.jsonl#1",
        "b.jsonl:2: binary",
        "c.jsonl:1: too-large",
        "c.jsonl#2",
    ];
    assert_eq!(zoo.outline(), expect);
}
