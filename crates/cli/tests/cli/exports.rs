//! What is written out, before and after something was erased.

use std::fs;

use crate::home::{Home, SPACE};
use crate::household::{serve, stop};
use crate::members::pair_as;

/// Of the letter its words, those that it had before, and its name; of the picture its content.
const CANARIES: [&str; 4] = ["zqwords", "zqbefore", "zqletter", "zqpixels"];

/// Writes out all that can be: documents, what a member wrote, receipts. Which canaries are in the
/// files of each, or their names.
fn exported(home: &Home, to: &str) -> [Vec<&'static str>; 3] {
    let at = |what: &str| home.path(&format!("{to}-{what}")).to_str().unwrap().to_owned();
    let [documents, subject, receipts] = ["documents", "subject", "receipts"].map(at);
    home.run(["export", SPACE, &documents]).code(0);
    home.run(["subject", "export", "--member", "laptop", "--out", &subject]).code(0);
    home.run(["receipts", SPACE, "--export", &receipts]).code(0);
    [documents, subject, receipts].map(|dir| {
        let files = Home::files(dir.as_ref());
        assert!(!files.is_empty(), "{dir}: nothing is written");
        let is_in =
            |text: &[u8], word: &str| text.windows(word.len()).any(|w| w == word.as_bytes());
        let mut found = CANARIES.to_vec();
        found.retain(|word| {
            files.iter().any(|(name, bytes)| is_in(name.as_bytes(), word) || is_in(bytes, word))
        });
        found
    })
}

#[test]
fn what_was_erased_is_in_no_export_that_is_made_later_and_receipts_never_have_it() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair_as(&first, &second, &[]);
    let (serving, address) = serve(&first);
    let notes = first.path("notes");
    let import = || first.run(["import", SPACE, notes.to_str().unwrap()]).code(0);
    first.file("notes/zqletter.md", "zqbefore");
    first.file("notes/stays.md", "stays");
    let pixels = [&b"\x89PNG\r\n\x1a\n"[..], &b"zqpixels".repeat(200)].concat();
    first.file("notes/picture.png", pixels);
    import();
    fs::write(notes.join("zqletter.md"), "zqwords").unwrap();
    import();
    second.run(["sync", "--with", &address]).code(0);
    let [documents, subject, receipts] = exported(&first, "before");
    // A history says who changed what and when, and not what it was.
    let control = ["zqwords", "zqletter", "zqpixels"];
    assert_eq!((documents.as_slice(), subject.as_slice()), (&control[..], &control[..]));
    assert_eq!(receipts, [""; 0]);
    let [documents, ..] = exported(&second, "before");
    assert_eq!(documents, control);

    for document in ["zqletter.md", "picture.png"] {
        first.run(["erase", SPACE, document, "--for-ever"]).code(0);
    }
    for _ in 0..3 {
        second.run(["sync", "--with", &address]).code(0);
    }
    for home in [&first, &second] {
        for erasure in home.run(["erasures", SPACE, "--json"]).code(0).lines() {
            let devices = erasure["devices"].as_array().unwrap();
            assert!(devices.iter().all(|by| by["stage"] == "done"), "{erasure}");
        }
        assert_eq!(exported(home, "after"), [const { Vec::<&str>::new() }; 3]);
        // Receipts of before and of now verify.
        for receipts in ["before-receipts", "after-receipts"] {
            let receipts = home.path(receipts);
            home.run(["audit", "verify", receipts.to_str().unwrap()]).code(0);
        }
    }
    stop(serving);
    // What was written out before is somebody's own file, and nobody touches it.
    let kept = first.path("before-documents").join("zqletter.md");
    assert_eq!(fs::read_to_string(kept).unwrap(), "zqwords");
}
