use larder_log::Band;
use larder_log::act::Role;
use larder_types::MemberId;

use crate::Result;
use crate::space::Space;

/// As whose device, and as what, somebody is invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whose device it will be.
    pub of: Whose,
    /// What it may do.
    pub role: Role,
    /// The highest band it may read.
    pub clearance: Band,
}

/// Whose device an invitation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of the member who invites.
    Own,
    /// That of somebody who has no device in the space yet.
    New,
    /// That of this member.
    Of(MemberId),
}

impl Terms {
    /// Another device of the member who invites, which may do and read what this one may.
    ///
    /// # Errors
    /// [`Error::NotYetEnrolled`](crate::Error::NotYetEnrolled),
    /// [`Error::ShutOut`](crate::Error::ShutOut).
    pub fn usual(space: &Space) -> Result<Self> {
        let own = space.own_record()?;
        Ok(Self { of: Whose::Own, role: own.role, clearance: own.clearance })
    }
}

impl Default for Terms {
    /// Another device of the member who invites, which may do everything.
    fn default() -> Self {
        Self { of: Whose::Own, role: Role::Owner, clearance: Band::Red }
    }
}
