//! What holds in a space of each kind, and what its owners made of that.
//!
//! Invariant: these are what devices do where nobody says otherwise, the same on all that hold the
//! same acts. No act of somebody else's is void by them: what an enrolment counts for follows from
//! roles alone (`SECURITY.md`).

use larder_log::act::{Act, Role};
use larder_log::policy::{Policies, PolicyAct};
use larder_log::retention::Retention;
use larder_log::roster::Roster;
use larder_log::{Band, Header, Receipt, VERSION, kind};
use larder_store::space::{control, entries};
use larder_types::SpaceKind;
use larder_types::limits::TRASH_MS;
use rusqlite::Connection;
use serde::Serialize;

use crate::contract;
use crate::model::{as_optional_text, as_text};
use crate::space::{Shared, Space};
use crate::state::State;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// What devices do in a space where nobody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The least that a device has to be to invite other members' devices. Whoever may write
    /// invites further devices of its own member. None: nobody invites anybody.
    #[serde(serialize_with = "as_optional_text")]
    pub invite: Option<Role>,
    /// The band of new documents, or the device's clearance if that is lower.
    #[serde(serialize_with = "as_text")]
    pub band: Band,
    /// What a new member's device is cleared for, or what the one that invites is if that is less.
    #[serde(serialize_with = "as_text")]
    pub clearance: Band,
    /// How long documents are kept of collections that nothing is set for.
    #[serde(skip)]
    pub kept: Retention,
}

/// What holds in spaces of each kind before their owners set anything.
pub const POLICIES: [(SpaceKind, Policy); 5] = [
    (SpaceKind::Black, policy(None, Band::Black, Band::Black, TRASH_MS)),
    (SpaceKind::Personal, policy(Some(Role::Owner), Band::Amber, Band::Red, TRASH_MS)),
    (SpaceKind::Selective, policy(Some(Role::Owner), Band::Amber, Band::Amber, TRASH_MS)),
    (SpaceKind::Shared, policy(Some(Role::Admin), Band::Green, Band::Amber, TRASH_MS)),
    (SpaceKind::Extended, policy(Some(Role::Owner), Band::Green, Band::Green, 7 * DAY_MS)),
];

const DAY_MS: u64 = 86_400_000;

const fn policy(invite: Option<Role>, band: Band, clearance: Band, trash_ms: u64) -> Policy {
    let kept = Retention { age_ms: None, count: None, trash_ms };
    Policy { invite, band, clearance, kept }
}

impl Policy {
    /// What holds in spaces of this kind before their owners set anything.
    pub fn of_kind(kind: SpaceKind) -> Self {
        let of_kind = POLICIES.iter().find(|(known, _)| *known == kind);
        of_kind.map_or(POLICIES[0].1, |(_, policy)| *policy)
    }

    fn with(self, set: Policies) -> Self {
        Self {
            invite: set.invite().or(self.invite),
            band: set.band().unwrap_or(self.band),
            clearance: set.clearance().unwrap_or(self.clearance),
            kept: self.kept,
        }
    }
}

/// What an owner sets of a [`Policy`]; the rest stays. How long documents are kept is set for
/// itself ([`SpaceWriter::set_retention`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// [`Policy::invite`]: owner or admin.
    pub invite: Option<Role>,
    /// [`Policy::band`].
    pub band: Option<Band>,
    /// [`Policy::clearance`].
    pub clearance: Option<Band>,
}

impl Space {
    /// What devices do in this space where nobody says otherwise.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn policy(&self) -> Result<Policy> {
        Ok(self.shared.published()?.policy)
    }
}

impl SpaceWriter {
    /// Sets some of the space's policy, for every device.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what makes no sense, and if this device is no owner's;
    /// [`Error::MayNotWrite`]; the storage's errors.
    pub fn set_policy(&mut self, change: PolicyChange) -> Result<Receipt> {
        self.shared.check_leaves("there is no policy to set")?;
        self.transact(|tx, state| {
            state.check_may_write()?;
            let own = state.roster.device(&state.device()).map(|device| device.role);
            if own != Some(Role::Owner) {
                return Err(Error::Invalid("only an owner sets a space's policy".into()));
            }
            let revision = policies(tx, &state.roster)?.next_revision();
            let PolicyChange { invite, band, clearance } = change;
            let act = PolicyAct { v: VERSION, revision, invite, band, clearance };
            if let Some(why) = act.wrong() {
                return Err(Error::Invalid(format!("this cannot be set: {why}")));
            }
            state.append_act(tx, &Act::Policy(act))?;
            state.sign(tx)?;
            state.receipt(tx, state.frontier.size())
        })
    }
}

impl State {
    /// At the end of a transaction: what acts that came, or count no more, make of the policy and
    /// of contracts.
    pub(crate) fn settle_policy(&mut self, db: &Connection) -> Result<()> {
        if !self.is_published {
            self.policy = of(db, &self.roster, &self.shared)?;
            self.contracts = contract::of_space(db, &self.roster)?;
        }
        Ok(())
    }
}

/// What holds in a space by the acts that are here.
pub(crate) fn of(db: &Connection, roster: &Roster, shared: &Shared) -> Result<Policy> {
    Ok(Policy::of_kind(shared.name.kind()).with(policies(db, roster)?))
}

/// The acts that count, taken together: those of owners.
fn policies(db: &Connection, roster: &Roster) -> Result<Policies> {
    let mut all = Policies::default();
    for stored in control::acts_of_kind(db, kind::POLICY)? {
        let header = entries::find(db, stored.place.log, stored.place.seq)?
            .and_then(|entry| Header::decode(&entry.header).ok())
            .ok_or_else(|| Error::Corrupt("an act's entry is missing".into()))?;
        if let Ok(Some(Act::Policy(act))) = Act::from_body(stored.kind, &stored.body)
            && roster.owns_at(&header)
        {
            all.take(&act);
        }
    }
    Ok(all)
}
