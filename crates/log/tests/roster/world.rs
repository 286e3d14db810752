//! Acts of made-up devices: their keys are only names here, but for the recovery key.

use larder_crypto::{AckPublic, RecoveryKey, SUITE, SealingPublic, Secret};
use larder_log::act::{
    Act, ChangeAct, Cut, DeviceKeys, Enrolment, EnrolmentAct, Genesis, RecoveryAct, RevocationAct,
    Role,
};
use larder_log::roster::Roster;
use larder_log::{Band, Dep, Header};
use larder_types::{DeviceId, EntryHash, EpochId, Hash, MemberId, SpaceId, TransportId};

/// An act in the entry that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Stated {
    pub(crate) header: Header,
    pub(crate) act: Act,
}

impl Stated {
    pub(crate) fn entry(&self) -> EntryHash {
        self.header.hash()
    }
}

pub(crate) fn device(n: u8) -> DeviceId {
    DeviceId::new([n + 1; 32])
}

pub(crate) fn member(n: u8) -> MemberId {
    MemberId::new([n + 1; 16])
}

pub(crate) fn enrolment(n: u8, of: u8, role: Role, clearance: Band) -> Enrolment {
    Enrolment {
        v: 0,
        member: member(of),
        label: format!("device {n}"),
        role,
        clearance,
        keys: DeviceKeys {
            suite: SUITE,
            signing: device(n),
            ack: AckPublic::new([n + 1; 32]),
            sealing: SealingPublic::new([n + 1; SealingPublic::BYTES]),
            transport: TransportId::new([n + 1; 32]),
        },
    }
}

/// A space whose founder is device 0 of member 0, and what was stated in it.
pub(crate) struct World {
    pub(crate) space: SpaceId,
    pub(crate) recovery: RecoveryKey,
    pub(crate) acts: Vec<Stated>,
    sizes: [u64; 16],
}

impl World {
    pub(crate) fn new() -> Self {
        let recovery = RecoveryKey::from_secret(&Secret::new([42; 32]));
        let genesis = Act::Genesis(Genesis {
            v: 0,
            suite: SUITE,
            name: "shared:household".parse().unwrap(),
            founder: enrolment(0, 0, Role::Owner, Band::Red),
            recovery: Some(recovery.public()),
            control_commitment: Hash::new([0; 32]),
            nonce: [4; 16],
        });
        let zero = SpaceId::new([0; 32]);
        let mut world = Self { space: zero, recovery, acts: Vec::new(), sizes: [0; 16] };
        world.state(0, genesis);
        world.space = SpaceId::from(world.acts[0].entry());
        world
    }

    /// States an act in the author's next entry. Gives its number.
    pub(crate) fn state(&mut self, author: u8, act: Act) -> usize {
        let size = &mut self.sizes[usize::from(author)];
        *size += 1;
        let at = u8::try_from(self.acts.len()).unwrap();
        let header = Header {
            v: 0,
            space: self.space,
            device: device(author),
            seq: *size,
            deps: Vec::<Dep>::new(),
            epoch: EpochId::new([0; 32]),
            step: 0,
            n: 1,
            sections_root: Hash::new([at; 32]),
        };
        self.acts.push(Stated { header, act });
        self.acts.len() - 1
    }

    /// The author writes so many entries that hold no act.
    pub(crate) fn writes(&mut self, author: u8, entries: u64) {
        self.sizes[usize::from(author)] += entries;
    }

    pub(crate) fn size(&self, author: u8) -> u64 {
        self.sizes[usize::from(author)]
    }

    fn parents(&self, known: &[usize]) -> Vec<EntryHash> {
        let mut parents: Vec<EntryHash> = known.iter().map(|at| self.acts[*at].entry()).collect();
        parents.sort();
        parents.dedup();
        parents
    }

    pub(crate) fn enrol(&mut self, author: u8, known: &[usize], new: Enrolment) -> usize {
        let parents = self.parents(known);
        self.state(author, Act::Enrolment(EnrolmentAct { parents, enrolment: new }))
    }

    pub(crate) fn change(
        &mut self,
        author: u8,
        known: &[usize],
        (of, from_seq): (u8, u64),
        role: Role,
        clearance: Band,
    ) -> usize {
        let parents = self.parents(known);
        let device = device(of);
        let act = ChangeAct { parents, v: 0, device, from_seq, role, clearance };
        self.state(author, Act::Change(act))
    }

    pub(crate) fn revoke(
        &mut self,
        author: u8,
        known: &[usize],
        cuts: &[(u8, u64)],
        members: &[u8],
    ) -> usize {
        let parents = self.parents(known);
        let members = members.iter().map(|n| member(*n)).collect();
        let act = RevocationAct { parents, v: 0, cuts: all(cuts), members };
        self.state(author, Act::Revocation(act))
    }

    pub(crate) fn recover(
        &mut self,
        author: u8,
        known: &[usize],
        new: Enrolment,
        cuts: &[(u8, u64)],
        is_signed: bool,
    ) -> usize {
        let parents = self.parents(known);
        let cuts = all(cuts);
        let mut act = RecoveryAct { parents, enrolment: new, cuts, signature: [0; 64] };
        if is_signed {
            act.signature = self.recovery.sign(&act.signed_bytes(&self.space));
        }
        self.state(author, Act::Recovery(act))
    }

    /// Carries the first recovery once more, as it was; whether there is one.
    pub(crate) fn replays(&mut self, author: u8) -> bool {
        let is_recovery = |stated: &&Stated| matches!(stated.act, Act::Recovery(_));
        let Some(act) = self.acts.iter().find(is_recovery).map(|stated| stated.act.clone()) else {
            return false;
        };
        self.state(author, act);
        true
    }

    /// The roster of these acts, applied one by one in this order.
    pub(crate) fn roster_of(&self, order: impl IntoIterator<Item = usize>) -> Roster {
        let mut roster = Roster::new(self.space);
        for at in order {
            let Stated { header, act } = &self.acts[at];
            let _void_or_not = roster.apply(header, 0, act);
        }
        roster
    }

    pub(crate) fn roster(&self) -> Roster {
        self.roster_of(0..self.acts.len())
    }
}

fn all(cuts: &[(u8, u64)]) -> Vec<Cut> {
    let mut cuts: Vec<Cut> =
        cuts.iter().map(|(n, keeps)| Cut { device: device(*n), keeps: *keeps }).collect();
    cuts.sort_by_key(|cut| cut.device);
    cuts.dedup_by_key(|cut| cut.device);
    cuts
}
