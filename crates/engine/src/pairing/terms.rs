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
    /// The highest band it may read; an auditor's device reads nothing, whatever stands here.
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
        Self::usual_for(space, Whose::Own)
    }

    /// A device that may do what this one may, and read that too; for somebody else, no more than
    /// the space's policy says.
    ///
    /// # Errors
    /// As [`Terms::usual`].
    pub fn usual_for(space: &Space, of: Whose) -> Result<Self> {
        let own = space.own_record()?;
        let is_own = of == Whose::Own || of == Whose::Of(own.member);
        let up_to = if is_own { own.clearance } else { space.policy()?.clearance };
        Ok(Self { of, role: own.role, clearance: own.clearance.min(up_to) })
    }

    /// What the device is enrolled with.
    pub(crate) fn clearance(self) -> Band {
        if self.role.may_read() { self.clearance } else { Band::Green }
    }

    /// Whether the space's policy lets a device of this role invite on these terms.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if it does not.
    pub(crate) fn check_policy(&self, space: &Space, own: (Role, MemberId)) -> Result<()> {
        let invites = space.policy()?.invite;
        let is_own = matches!(self.of, Whose::Own) || self.of == Whose::Of(own.1);
        if is_own || invites.is_some_and(|least| own.0 <= least) {
            return Ok(());
        }
        Err(crate::Error::Invalid(format!(
            "this device is {} in {}, where only an owner invites other members: ask one, or have \
             them change that (larder space policy {1} --set invite=owners-and-admins)",
            own.0,
            space.name()
        )))
    }
}

impl Default for Terms {
    /// Another device of the member who invites, which may do everything.
    fn default() -> Self {
        Self { of: Whose::Own, role: Role::Owner, clearance: Band::Red }
    }
}
