//! The files of a profile: their names, and which of them count.
//!
//! Invariants: `profile.key` names the profile's database, and its row for a space names the
//! space's; a file that neither names is what a cut left, and counts for nothing.

use std::collections::BTreeSet;

use larder_store::profile as table;
use larder_types::SpaceId;

use crate::dir::Dir;
use crate::storage::{Storage, wal_of};
use crate::{Error, Result, key_file};

/// Where a profile's first database is made, before it gets its name.
pub(crate) const PARTIAL: &str = "profile-new.db";
pub(crate) const SPACES: &str = "spaces";
/// Between the name that a file had and a number.
pub(crate) const SET_ASIDE: &str = ".set-aside-";

/// The profile's database of a generation: the first, and one for each purge.
pub(crate) fn profile_db(generation: u32) -> String {
    numbered("profile", generation)
}

/// A space's database; the number grows with each new at-rest key.
pub(crate) fn space_db(id: &SpaceId, number: u32) -> String {
    format!("{SPACES}/{}", numbered(&id.to_string(), number))
}

/// The name of a space's next database.
pub(crate) fn next_space_db(id: &SpaceId, file: &str) -> Result<String> {
    let name = file.strip_prefix(SPACES).and_then(|name| name.strip_prefix('/'));
    let number = name.and_then(|name| number_of(name, &id.to_string()));
    let next = number.and_then(|number| number.checked_add(1));
    let next =
        next.ok_or_else(|| Error::Corrupt(format!("'{file}' is no name of a space file")))?;
    Ok(space_db(id, next))
}

fn numbered(stem: &str, number: u32) -> String {
    if number == 0 { format!("{stem}.db") } else { format!("{stem}.{number}.db") }
}

/// The number in a name that [`numbered`] gives, of a database or of its WAL.
fn number_of(name: &str, stem: &str) -> Option<u32> {
    let name = name.strip_suffix("-wal").unwrap_or(name);
    let middle = name.strip_prefix(stem)?.strip_suffix(".db")?;
    let number = match middle.strip_prefix('.') {
        Some(digits) => digits.parse().ok()?,
        None => 0,
    };
    (numbered(stem, number) == name).then_some(number)
}

/// Removes what cut attempts left: databases of the profile of other generations, and other
/// databases of its spaces than those the rows name. Whatever has another name is left alone, and
/// so is everything of a space whose own file is not there.
pub(crate) fn sweep(storage: &Storage, generation: u32, rows: &[table::Space]) -> Result<()> {
    let Some(dir) = storage.dir() else { return Ok(()) };
    let mut left = BTreeSet::new();
    for name in dir.names("")? {
        let other = number_of(&name, "profile").filter(|number| *number != generation);
        left.extend(other.map(profile_db));
    }
    for name in dir.names(SPACES)? {
        let of_space = |row: &&table::Space| name.starts_with(&row.space.to_string());
        let Some(row) = rows.iter().find(of_space) else { continue };
        let file = number_of(&name, &row.space.to_string()).map(|n| space_db(&row.space, n));
        let is_there = dir.exists(&row.home.file)?;
        left.extend(file.filter(|file| is_there && *file != row.home.file));
    }
    if !left.is_empty() {
        // That `profile.key` names these no more must outlast a power failure once they are gone.
        dir.sync_names("")?;
    }
    for file in left {
        storage.remove(&file)?;
    }
    key_file::remove_partial(dir)
}

/// Gives a database, and its WAL, the name that it is set aside under, durably: neither ever opens
/// without the other's name.
pub(crate) fn move_aside(storage: &Storage, dir: &Dir, file: &str, aside: &str) -> Result<()> {
    if dir.exists(file)? {
        dir.rename(file, aside)?;
    }
    storage.sync_names(file)?;
    let (wal, wal_aside) = (wal_of(file), wal_of(aside));
    if dir.exists(&wal)? && !dir.exists(&wal_aside)? {
        dir.rename(&wal, &wal_aside)?;
    }
    storage.sync_names(file)
}

/// Moves what was to be set aside and is still under the name that it had, which no space has any
/// more: the next sweep would remove it.
pub(crate) fn finish_moves(
    storage: &Storage,
    asides: &[String],
    rows: &[table::Space],
) -> Result<()> {
    let Some(dir) = storage.dir() else { return Ok(()) };
    for aside in asides {
        let Some((file, _)) = aside.split_once(SET_ASIDE) else { continue };
        let is_named = rows.iter().any(|row| row.home.file == file);
        let (is_here, is_aside) = (dir.exists(file)?, dir.exists(aside)?);
        if !is_named && (is_here != is_aside) {
            move_aside(storage, dir, file, aside)?;
        }
    }
    Ok(())
}

/// The databases of a space that are there.
pub(crate) fn databases(dir: &Dir, id: &SpaceId) -> Result<BTreeSet<String>> {
    let names = dir.names(SPACES)?;
    let numbers = names.iter().filter_map(|name| number_of(name, &id.to_string()));
    Ok(numbers.map(|number| space_db(id, number)).collect())
}

/// The files of a space that were set aside, with their WALs.
pub(crate) fn set_aside(dir: &Dir, id: &SpaceId) -> Result<Vec<String>> {
    set_aside_of(dir, |known| known == id)
}

/// Those of all spaces, also of such as are in no row any more.
pub(crate) fn all_set_aside(dir: &Dir) -> Result<Vec<String>> {
    set_aside_of(dir, |_| true)
}

fn set_aside_of(dir: &Dir, is_of: impl Fn(&SpaceId) -> bool) -> Result<Vec<String>> {
    let is_aside = |name: &String| {
        let Some((stem, _)) = name.split_once(SET_ASIDE) else { return false };
        let id = stem.split('.').next().and_then(|id| id.parse::<SpaceId>().ok());
        id.is_some_and(|id| is_of(&id) && number_of(stem, &id.to_string()).is_some())
    };
    let names = dir.names(SPACES)?.into_iter().filter(is_aside);
    Ok(names.map(|name| format!("{SPACES}/{name}")).collect())
}

/// Refuses a directory that holds a profile, or the rest of one: its key file is what opens it.
pub(crate) fn check_vacant(dir: &Dir) -> Result<()> {
    let shown = dir.path.display();
    if key_file::exists(dir)? {
        let message = format!("there is a profile in {shown} already");
        return Err(Error::AlreadyExists(message));
    }
    if has_database(dir)? || has_spaces(dir)? {
        return Err(Error::Corrupt(format!(
            "there is a profile in {shown} without its profile.key, and nothing opens it without \
             that: restore the file from a backup, or choose another directory"
        )));
    }
    Ok(())
}

fn has_database(dir: &Dir) -> Result<bool> {
    Ok(dir.names("")?.iter().any(|name| number_of(name, "profile").is_some()))
}

pub(crate) fn has_spaces(dir: &Dir) -> Result<bool> {
    Ok(!dir.names(SPACES)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_and_read_back() {
        let id = SpaceId::new([0xab; 32]);
        let (stem, first) = (id.to_string(), space_db(&id, 0));
        assert_eq!(first, format!("spaces/{stem}.db"));
        let second = next_space_db(&id, &first).unwrap();
        assert_eq!(second, format!("spaces/{stem}.1.db"));
        assert_eq!(next_space_db(&id, &second).unwrap(), space_db(&id, 2));
        assert_eq!((profile_db(0), profile_db(7)), ("profile.db".into(), "profile.7.db".into()));
        for (name, number) in [
            ("profile.db", Some(0)),
            ("profile.db-wal", Some(0)),
            ("profile.12.db", Some(12)),
            ("profile.12.db-wal", Some(12)),
            ("profile.0.db", None),
            ("profile.01.db", None),
            ("profile.+1.db", None),
            ("profile..db", None),
            ("profile-new.db", None),
            ("profile.db.bak", None),
            ("profile.1.db-journal", None),
            ("profile.key", None),
            ("my profile.db", None),
            ("profile.99999999999.db", None),
        ] {
            assert_eq!(number_of(name, "profile"), number, "{name}");
        }
        for odd in ["", "spaces/x.db", &format!("{stem}.db"), &format!("spaces/{stem}.db.db")] {
            assert!(next_space_db(&id, odd).is_err(), "{odd}");
        }
        let last = space_db(&id, u32::MAX);
        assert!(next_space_db(&id, &last).is_err());
    }
}
