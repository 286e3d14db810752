use std::sync::Mutex;

use crate::code::Code;
use crate::sync::locked;

/// How strongly one connection holds the database file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Exclusive,
}

/// The file locks of one database among the connections of this process.
///
/// Other processes are kept out as a whole (see [`crate::database::Guard`]), so these need not
/// reach the operating system.
#[derive(Default)]
pub(crate) struct FileLocks(Mutex<State>);

#[derive(Default)]
struct State {
    /// Connections at [`Level::Shared`] or above.
    holders: usize,
    reserved: bool,
    exclusive: bool,
}

impl FileLocks {
    /// Raises `held` to `wanted`.
    ///
    /// # Errors
    /// Busy, with `held` unchanged.
    pub(crate) fn lock(&self, held: &mut Level, wanted: Level) -> Result<(), Code> {
        if wanted <= *held {
            return Ok(());
        }
        let mut state = locked(&self.0);
        if *held == Level::None {
            if state.exclusive {
                return Err(Code::BUSY);
            }
            state.holders += 1;
            *held = Level::Shared;
        }
        if wanted >= Level::Reserved && *held < Level::Reserved {
            if state.reserved || (wanted == Level::Exclusive && state.holders > 1) {
                return Err(Code::BUSY);
            }
            state.reserved = true;
            *held = Level::Reserved;
        }
        if wanted == Level::Exclusive {
            if state.holders > 1 {
                return Err(Code::BUSY);
            }
            state.exclusive = true;
            *held = Level::Exclusive;
        }
        Ok(())
    }

    /// Lowers `held` to `wanted` (`Shared` or `None`).
    pub(crate) fn unlock(&self, held: &mut Level, wanted: Level) {
        if wanted >= *held {
            return;
        }
        let mut state = locked(&self.0);
        state.exclusive &= *held != Level::Exclusive;
        state.reserved &= *held < Level::Reserved;
        if wanted == Level::None {
            state.holders -= 1;
        }
        *held = wanted;
    }

    pub(crate) fn is_reserved(&self) -> bool {
        locked(&self.0).reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_and_no_exclusive_beside_readers() {
        let locks = FileLocks::default();
        let (mut a, mut b) = (Level::None, Level::None);
        locks.lock(&mut a, Level::Shared).unwrap();
        locks.lock(&mut b, Level::Shared).unwrap();
        locks.lock(&mut a, Level::Reserved).unwrap();
        assert_eq!(locks.lock(&mut b, Level::Reserved), Err(Code::BUSY));
        assert_eq!(locks.lock(&mut a, Level::Exclusive), Err(Code::BUSY));
        assert_eq!((a, b), (Level::Reserved, Level::Shared));
        locks.unlock(&mut b, Level::None);
        locks.lock(&mut a, Level::Exclusive).unwrap();
        assert_eq!(locks.lock(&mut b, Level::Shared), Err(Code::BUSY));
        locks.unlock(&mut a, Level::Shared);
        locks.lock(&mut b, Level::Reserved).unwrap();
        assert!(locks.is_reserved());
        locks.unlock(&mut b, Level::None);
        locks.unlock(&mut a, Level::None);
        assert!(!locks.is_reserved());
        locks.lock(&mut b, Level::Exclusive).unwrap();
    }
}
