//! Files of any kind beside notes.

use std::fs;
#[cfg(target_os = "linux")]
use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;

use crate::home::{Home, Ran, SPACE};
use crate::household::{pair, serve, stop};

/// Bytes without any pattern, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

fn import(home: &Home) -> Value {
    let folder = home.path("notes");
    home.run(["import", SPACE, folder.to_str().unwrap(), "--json"]).code(0).event("imported")
}

/// Every file below a directory, by its path in it.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn list(home: &Home) -> Vec<Value> {
    home.run(["blob", "list", SPACE, "--json"]).code(0).lines()
}

fn export(home: &Home) -> (Ran, Vec<(String, Vec<u8>)>) {
    let to = home.path("out");
    let ran = home.run(["export", SPACE, to.to_str().unwrap(), "--force"]);
    (ran, tree(&to))
}

#[test]
fn pictures_beside_notes_come_along_and_go_out_byte_for_byte() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    first.file("notes/cake.md", "# Cake\n![done](pictures/cake.jpg)\n[recipe](recipe.pdf)\n");
    first.file("notes/pictures/cake.jpg", noise(1, 700_000));
    first.file("notes/recipe.pdf", noise(2, 3000));
    first.file("notes/empty.png", b"");
    first.file("notes/program.exe", b"MZ");
    let imported = import(&first);
    assert_eq!((&imported["created"], &imported["ignored"]), (&4.into(), &1.into()));
    let again = import(&first);
    assert_eq!((&again["created"], &again["changed"]), (&0.into(), &0.into()));
    assert_eq!((again["unchanged"].as_u64(), list(&first).len()), (Some(4), 3));

    pair(&first, &second);
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    stop(serving);
    fs::remove_file(first.path("notes/program.exe")).unwrap();
    let (ran, exported) = export(&second);
    ran.code(0);
    assert!(exported == tree(&first.path("notes")), "an export is what was imported");

    // One byte more: only what changed of it is new.
    let mut cake = noise(1, 700_000);
    cake.insert(0, b'!');
    first.file("notes/pictures/cake.jpg", &cake);
    let changed = import(&first);
    assert_eq!((&changed["changed"], &changed["unchanged"]), (&1.into(), &3.into()));
    let (ran, exported) = export(&first);
    ran.code(0);
    assert!(exported == tree(&first.path("notes")));
    let unnamed = list(&first).into_iter().filter(|blob| blob["named"] == false).count();
    assert_eq!(unnamed, 1, "the version before");
    first.run(["blob", "collect", SPACE, "--json"]).code(0).event("collected");
    assert!(export(&first).1 == tree(&first.path("notes")), "what is shared stays");
}

#[test]
fn a_video_is_added_listed_and_fetched_where_it_is_wanted() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    let video = first.file("birthday.mp4", noise(3, 2_000_000));
    let added = first.run(["blob", "add", SPACE, video.to_str().unwrap(), "--json"]).code(0);
    let added = added.event("added");
    let id = added["blob"]["id"].as_str().unwrap();
    assert_eq!(added["blob"]["media_type"], "video/mp4");
    let table = first.run(["blob", "list", SPACE]).code(0).out;
    assert!(table.contains(id) && table.contains("birthday.mp4"), "{table}");

    pair(&first, &second);
    second.run(["blob", "policy", SPACE, "--up-to", "1000"]).code(0);
    let other = first.file("holiday.mp4", noise(4, 2_000_000));
    first.run(["blob", "add", SPACE, other.to_str().unwrap()]).code(0);
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    let missing = |home: &Home| {
        let blobs = list(home);
        let of = |name: &str| blobs.iter().find(|blob| blob["name"] == name).unwrap();
        (of("birthday.mp4")["missing"].as_u64(), of("holiday.mp4")["missing"].as_u64())
    };
    let (one, two) = missing(&second);
    assert!(one == Some(0) && two > Some(2), "{one:?} {two:?}");
    let out = second.path("holiday.mp4");
    let get = ["blob", "get", SPACE, "holiday.mp4", "-o", out.to_str().unwrap()];
    let ran = second.run(get).code(0);
    assert!(fs::read(&out).unwrap() == noise(4, 2_000_000), "{ran:?}");
    second.run(get).code(1).says("--force");
    let stdout = second.command(["blob", "get", SPACE, id, "-o", "-"]).output().unwrap();
    assert!(stdout.status.success() && stdout.stdout == noise(3, 2_000_000));
    stop(serving);

    let third = first.file("party.mp4", noise(5, 1_000_000));
    first.run(["blob", "add", SPACE, third.to_str().unwrap()]).code(0);
    second.run(["blob", "get", SPACE, "party.mp4"]).code(5).says("larder blob list");
    second.run(["blob", "get", SPACE, &"07".repeat(32)]).code(5);
    let status = second.run(["status", "--json"]).code(0).lines();
    assert_eq!(status[0]["spaces"][0]["blobs"]["waiting"], 0);
    first.run(["blob", "add", SPACE, "no such file"]).code(1).says("no such file");
}

/// A member of the household, or who has his laptop, adds a file that is called as a shell's
/// start-up file, or whose name moves the cursor. Whoever gets it in his home directory finds it
/// there under its id, and the terminal is not written to by its name.
#[cfg(unix)]
#[test]
fn a_name_from_a_peer_makes_no_hidden_file_and_moves_no_cursor() {
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let names = [".profile", "\u{1b}[2Jcake.png"];
    let ids = names.map(|name| {
        let file = first.file(name, noise(name.len() as u64, 1000));
        let added = first.run(["blob", "add", SPACE, file.to_str().unwrap(), "--json"]).code(0);
        added.event("added")["blob"]["id"].as_str().unwrap().to_owned()
    });
    let (serving, address) = serve(&first);
    second.run(["sync", "--with", &address]).code(0);
    stop(serving);
    let dir = second.path("downloads");
    fs::create_dir(&dir).unwrap();
    for (id, name) in ids.iter().zip(names) {
        let ran = second.command(["blob", "get", SPACE, id]).current_dir(&dir).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        assert!(!ran.stdout.contains(&0x1b) && !ran.stderr.contains(&0x1b), "{ran:?}");
        assert!(fs::read(dir.join(id)).unwrap() == noise(name.len() as u64, 1000));
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

/// The most memory that a process had resident, sampled while it runs. KiB.
#[cfg(target_os = "linux")]
fn peak_kib(command: &mut std::process::Command) -> u64 {
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        peak = peak.max(resident_kib(child.id()).unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success());
            return peak;
        }
        std::thread::yield_now();
    }
}

/// The most memory that a process which runs has had resident, in KiB.
#[cfg(target_os = "linux")]
fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `LARDER_FILM_MIB=4096 cargo test -p larder-cli --test cli -- --ignored a_film --nocapture`:
/// four times as much disk.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "minutes, and a gigabyte of disk"]
fn a_film_never_sits_in_memory() {
    const MIB: usize = 1 << 20;
    let mibs = std::env::var("LARDER_FILM_MIB").map_or(300, |mibs| mibs.parse().unwrap());
    let (first, second) = (Home::with_space("laptop"), Home::new("tablet"));
    pair(&first, &second);
    let film = first.path("film.mp4");
    let mut writing = fs::File::create(&film).unwrap();
    for seed in 0..mibs {
        writing.write_all(&noise(seed, MIB)).unwrap();
    }
    let small = first.file("small.mp4", noise(mibs, MIB));
    let add = |file: &Path| {
        let [blob, add, space] = ["blob", "add", SPACE].map(AsRef::as_ref);
        peak_kib(&mut first.command([blob, add, space, file.as_os_str()]))
    };
    let (base, adding) = (add(&small), add(&film));
    let (serving, address) = serve(&first);
    let syncing = peak_kib(&mut second.command(["sync", "--with", &address]));
    let giving = resident_kib(serving.id()).unwrap();
    stop(serving);
    let out = second.path("film.mp4");
    let to = out.to_str().unwrap();
    let getting = peak_kib(&mut second.command(["blob", "get", SPACE, "film.mp4", "-o", to]));
    let mib = |kib: u64| kib >> 10;
    eprintln!(
        "peak resident, MiB: add of 1 MiB {}, add of {mibs} MiB {}, serve {}, sync {}, get {}",
        mib(base),
        mib(adding),
        mib(giving),
        mib(syncing),
        mib(getting)
    );
    let mut reading = fs::File::open(&out).unwrap();
    assert_eq!(reading.metadata().unwrap().len(), mibs * MIB as u64);
    for seed in 0..mibs {
        let mut read = vec![0; MIB];
        reading.read_exact(&mut read).unwrap();
        assert!(read == noise(seed, MIB), "MiB {seed}");
    }
    for peak in [adding, giving, syncing, getting] {
        assert!(mib(peak) < 120, "{} MiB", mib(peak));
    }
}
