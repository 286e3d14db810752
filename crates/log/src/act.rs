//! Acts: the bodies of CONTROL sections.

use larder_crypto::kdf::hkdf_sha256;
use larder_crypto::{
    AckPublic, RecoveryKey, RecoveryPublic, SUITE, SealingPublic, Secret, check_signing_key,
};
use larder_types::limits::{ACT_BYTES_MAX, ACT_PARENTS_MAX, NAME_BYTES_MAX};
use larder_types::{
    DeviceId, EntryHash, EpochId, Hash, MemberId, SpaceId, SpaceName, TransportId, canonical,
};

use crate::adoption::{AdoptionAct, LackAct};
use crate::contract::ContractAct;
use crate::erasure::{EraseAct, ErasedAct};
use crate::error::VoidReason;
use crate::header::VERSION;
use crate::labels;
use crate::metadata::{Opened, kind};
use crate::policy::PolicyAct;
use crate::quarantine::QuarantineAct;
use crate::retention::RetentionAct;
use crate::section::{Band, Class};
use crate::snapshot::SnapshotAct;

/// A device's public keys in one space, bound to each other by its enrolment.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct DeviceKeys {
    /// [`larder_crypto::SUITE`].
    #[n(0)]
    pub suite: u16,
    /// The signing key, which is the device's id.
    #[n(1)]
    pub signing: DeviceId,
    /// For acknowledgements.
    #[n(2)]
    pub ack: AckPublic,
    /// For receiving secrets.
    #[n(3)]
    pub sealing: SealingPublic,
    /// The profile's, for TLS.
    #[n(4)]
    pub transport: TransportId,
}

/// What a member's device may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Role {
    /// Everything.
    #[n(0)]
    Owner,
    /// Everything but over owners, and to make some.
    #[n(1)]
    Admin,
    /// Reads and writes.
    #[n(2)]
    Writer,
    /// Reads.
    #[n(3)]
    Reader,
    /// Gets headers and disclosed metadata, never content.
    #[n(4)]
    Auditor,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Auditor => "auditor",
        })
    }
}

impl Role {
    /// Whether entries with content count.
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Writer)
    }

    /// Whether it may give the role `other`, and take it away.
    pub const fn rules(self, other: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => !matches!(other, Self::Owner),
            Self::Writer | Self::Reader | Self::Auditor => false,
        }
    }

    /// The lesser of two.
    #[must_use]
    pub fn lesser(self, other: Self) -> Self {
        self.max(other)
    }

    /// The greater of two.
    #[must_use]
    pub fn greater(self, other: Self) -> Self {
        self.min(other)
    }

    /// Whether it is given content secrets.
    pub const fn may_read(self) -> bool {
        !matches!(self, Self::Auditor)
    }
}

/// The beginning of a space: the first section of its genesis entry.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Genesis {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// [`larder_crypto::SUITE`].
    #[n(1)]
    pub suite: u16,
    /// The space's name.
    #[n(2)]
    pub name: SpaceName,
    /// The first device.
    #[n(3)]
    pub founder: Enrolment,
    /// The recovery key's public half, if there is one.
    #[n(4)]
    pub recovery: Option<RecoveryPublic>,
    /// [`crate::epoch::ControlSecret::commitment`].
    #[n(5)]
    pub control_commitment: Hash,
    /// Random, so that two spaces are never the same.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
}

/// A device's record: whose it is, what it may do, its keys.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Enrolment {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// Whose device it is.
    #[n(1)]
    pub member: MemberId,
    /// The device's name for people. At most [`NAME_BYTES_MAX`] bytes.
    #[n(2)]
    pub label: String,
    /// What it may do.
    #[n(3)]
    pub role: Role,
    /// The highest band it may read.
    #[n(4)]
    pub clearance: Band,
    /// Its keys.
    #[n(5)]
    pub keys: DeviceKeys,
}

/// Admits a device.
///
/// It and the acts below name the acts of membership that their author knew and that no other of
/// those names: all together are what it knew, and what its authority is judged by.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct EnrolmentAct {
    /// The entries of those acts; in order, each once.
    #[n(0)]
    pub parents: Vec<EntryHash>,
    /// Who is admitted.
    #[n(1)]
    pub enrolment: Enrolment,
}

/// Gives an enrolled device another role or clearance.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct ChangeAct {
    /// As in [`EnrolmentAct`].
    #[n(0)]
    pub parents: Vec<EntryHash>,
    /// [`VERSION`].
    #[n(1)]
    pub v: u8,
    /// Whose.
    #[n(2)]
    pub device: DeviceId,
    /// Its first entry that is judged by the new role.
    #[n(3)]
    pub from_seq: u64,
    /// What it may do from then on.
    #[n(4)]
    pub role: Role,
    /// The highest band it may read from then on.
    #[n(5)]
    pub clearance: Band,
}

/// What a revocation leaves of a device's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Cut {
    /// Whose log.
    #[n(0)]
    pub device: DeviceId,
    /// How many of its entries count.
    #[n(1)]
    pub keeps: u64,
}

/// Shuts devices out, for good: whoever comes back is enrolled under new keys.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct RevocationAct {
    /// As in [`EnrolmentAct`].
    #[n(0)]
    pub parents: Vec<EntryHash>,
    /// [`VERSION`].
    #[n(1)]
    pub v: u8,
    /// The devices; in order, each once.
    #[n(2)]
    pub cuts: Vec<Cut>,
    /// Members who are shut out with every device: those that their author did not know of too.
    /// In order, each once.
    #[n(3)]
    pub members: Vec<MemberId>,
}

/// Gives the space back to who holds its recovery key. It counts whoever carries it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct RecoveryAct {
    /// As in [`EnrolmentAct`]; those of all acts that revoke somebody at the time.
    #[n(0)]
    pub parents: Vec<EntryHash>,
    /// The new owner's device.
    #[n(1)]
    pub enrolment: Enrolment,
    /// The devices that are shut out; in order, each once.
    #[n(2)]
    pub cuts: Vec<Cut>,
    /// By the recovery key, over [`RecoveryAct::signed_bytes`].
    #[cbor(n(3), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// The recovery key that a kit's 256 bits give a space, whose genesis has this nonce: each space
/// its own, so that nobody sees by them that two spaces have the same kit.
pub fn recovery_key(kit: &Secret<32>, nonce: &[u8; 16]) -> RecoveryKey {
    let info = [labels::RECOVERY_KEY, nonce].concat();
    RecoveryKey::from_secret(&hkdf_sha256(kit.expose(), &[], &info))
}

impl RecoveryAct {
    /// What the recovery key signs: a label, the space, and the act with a signature of zeros.
    pub fn signed_bytes(&self, space: &SpaceId) -> Vec<u8> {
        let unsigned = Self { signature: [0; 64], ..self.clone() };
        [labels::RECOVERY, space.as_bytes(), &canonical::encode(&unsigned)].concat()
    }
}

/// Why an epoch was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum EpochReason {
    /// The space's first.
    #[n(0)]
    Genesis,
    /// A device was admitted.
    #[n(1)]
    Enrolment,
    /// A device was shut out.
    #[n(2)]
    Revocation,
    /// A device's clearance changed.
    #[n(3)]
    Clearance,
    /// The last one was old.
    #[n(4)]
    Age,
}

/// Opens an epoch. Its name is the hash of the entry that holds this act.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct EpochAct {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// [`larder_crypto::SUITE`].
    #[n(1)]
    pub suite: u16,
    /// Why.
    #[n(2)]
    pub reason: EpochReason,
    /// The epochs that are no longer written to, in order.
    #[n(3)]
    pub supersedes: Vec<EpochId>,
    /// For each band that has a secret, its commitment at step 0; in order of band.
    #[n(4)]
    pub commitments: Vec<(Band, Hash)>,
    /// One for each device that is to have the secrets; in order of device.
    #[n(5)]
    pub envelopes: Vec<Envelope>,
}

/// An epoch's secret of one band, sealed to one device.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Envelope {
    /// For whom.
    #[n(0)]
    pub recipient: DeviceId,
    /// The band that the device is cleared for; lower ones derive from its secret.
    #[n(1)]
    pub band: Band,
    /// HPKE's encapsulated key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub enc: Vec<u8>,
    /// HPKE's ciphertext of the secret.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub ciphertext: Vec<u8>,
}

/// Announces the key that secrets are to be sealed to for its author from now on. The last one in a
/// device's log counts.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct SealingKeyAct {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// [`larder_crypto::SUITE`].
    #[n(1)]
    pub suite: u16,
    /// The key.
    #[n(2)]
    pub sealing: SealingPublic,
}

/// Any act that this version knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Begins a space.
    Genesis(Genesis),
    /// Admits a device.
    Enrolment(EnrolmentAct),
    /// Changes what a device may do.
    Change(ChangeAct),
    /// Shuts devices out.
    Revocation(RevocationAct),
    /// Gives the space back.
    Recovery(RecoveryAct),
    /// Opens an epoch.
    Epoch(EpochAct),
    /// States what entries come to.
    Snapshot(SnapshotAct),
    /// Erases an object.
    Erase(EraseAct),
    /// Says what is erased.
    Erased(ErasedAct),
    /// Announces another sealing key of its author's.
    SealingKey(SealingKeyAct),
    /// Takes over what another device wrote where it might not.
    Adoption(AdoptionAct),
    /// Sets how long documents are kept.
    Retention(RetentionAct),
    /// Sets a device aside that stays away.
    Quarantine(QuarantineAct),
    /// Says of what its author has no bytes.
    Lack(LackAct),
    /// Sets what devices do where nobody says otherwise.
    Policy(PolicyAct),
    /// Sets what becomes of personal data.
    Contract(ContractAct),
}

impl Act {
    /// The kinds of acts that say who belongs to a space, but for the genesis. No body of one reads
    /// as one of another.
    pub const MEMBERSHIP: [u16; 4] =
        [kind::ENROLMENT, kind::CHANGE, kind::REVOCATION, kind::RECOVERY];

    /// The section's kind.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Genesis(_) => kind::GENESIS,
            Self::Enrolment(_) => kind::ENROLMENT,
            Self::Change(_) => kind::CHANGE,
            Self::Revocation(_) => kind::REVOCATION,
            Self::Recovery(_) => kind::RECOVERY,
            Self::Epoch(_) => kind::EPOCH,
            Self::Snapshot(_) => kind::SNAPSHOT,
            Self::Erase(_) => kind::ERASE,
            Self::Erased(_) => kind::ERASED,
            Self::SealingKey(_) => kind::SEALING_KEY,
            Self::Adoption(_) => kind::ADOPTION,
            Self::Lack(_) => kind::LACK,
            Self::Retention(_) => kind::RETENTION,
            Self::Quarantine(_) => kind::QUARANTINE,
            Self::Policy(_) => kind::POLICY,
            Self::Contract(_) => kind::CONTRACT,
        }
    }

    /// The section's body.
    pub fn to_body(&self) -> Vec<u8> {
        match self {
            Self::Genesis(act) => canonical::encode(act),
            Self::Enrolment(act) => canonical::encode(act),
            Self::Change(act) => canonical::encode(act),
            Self::Revocation(act) => canonical::encode(act),
            Self::Recovery(act) => canonical::encode(act),
            Self::Epoch(act) => canonical::encode(act),
            Self::Snapshot(act) => canonical::encode(act),
            Self::Erase(act) => canonical::encode(act),
            Self::Erased(act) => canonical::encode(act),
            Self::SealingKey(act) => canonical::encode(act),
            Self::Adoption(act) => canonical::encode(act),
            Self::Lack(act) => canonical::encode(act),
            Self::Retention(act) => canonical::encode(act),
            Self::Quarantine(act) => canonical::encode(act),
            Self::Policy(act) => canonical::encode(act),
            Self::Contract(act) => canonical::encode(act),
        }
    }

    /// Reads the act of an opened section of this class; none if the section is no act, or one
    /// of a kind that this version does not know.
    ///
    /// # Errors
    /// [`VoidReason`], if the section is an act that is void whoever wrote it.
    pub fn read(class: u8, opened: &Opened) -> Result<Option<Self>, VoidReason> {
        let kind = opened.metadata.kind;
        if !kind::is_control(kind) {
            return Ok(None);
        }
        if class != Class::Control as u8 {
            return Err(VoidReason::NotControl);
        }
        Self::from_body(kind, &opened.body)
    }

    /// Reads an act of this kind; none for a kind that this version does not know.
    ///
    /// # Errors
    /// [`VoidReason`].
    pub fn from_body(kind: u16, body: &[u8]) -> Result<Option<Self>, VoidReason> {
        let act = Self::from_body_unchecked(kind, body)?;
        if let Some(act) = &act {
            act.check()?;
        }
        Ok(act)
    }

    /// The same of what [`Act::from_body`] has read before, and so kept: its keys are not checked
    /// again, which takes most of the time of reading it.
    ///
    /// # Errors
    /// [`VoidReason`], if the bytes are no act.
    pub fn from_body_unchecked(kind: u16, body: &[u8]) -> Result<Option<Self>, VoidReason> {
        Ok(Some(match kind {
            kind::GENESIS => Self::Genesis(read(body)?),
            kind::ENROLMENT => Self::Enrolment(read(body)?),
            kind::CHANGE => Self::Change(read(body)?),
            kind::REVOCATION => Self::Revocation(read(body)?),
            kind::RECOVERY => Self::Recovery(read(body)?),
            kind::EPOCH => Self::Epoch(read(body)?),
            kind::SNAPSHOT => Self::Snapshot(read(body)?),
            kind::ERASE => Self::Erase(read(body)?),
            kind::ERASED => Self::Erased(read(body)?),
            kind::SEALING_KEY => Self::SealingKey(read(body)?),
            kind::ADOPTION => Self::Adoption(read(body)?),
            kind::RETENTION => Self::Retention(read(body)?),
            kind::QUARANTINE => Self::Quarantine(read(body)?),
            kind::LACK => Self::Lack(read(body)?),
            kind::POLICY => Self::Policy(read(body)?),
            kind::CONTRACT => Self::Contract(read(body)?),
            _ => return Ok(None),
        }))
    }

    fn check(&self) -> Result<(), VoidReason> {
        match self {
            Self::Genesis(act) => {
                check_versions(act.v, act.suite)?;
                act.founder.check()
            }
            Self::Enrolment(act) => {
                check_parents(&act.parents)?;
                act.enrolment.check()
            }
            Self::Change(act) => {
                check_parents(&act.parents)?;
                check_versions(act.v, SUITE)
            }
            Self::Revocation(act) => {
                check_parents(&act.parents)?;
                check_versions(act.v, SUITE)?;
                if !act.members.is_sorted_by(|a, b| a < b) {
                    return Err(VoidReason::Malformed("members not in order, each once".into()));
                }
                check_cuts(&act.cuts)
            }
            Self::Recovery(act) => {
                check_parents(&act.parents)?;
                check_cuts(&act.cuts)?;
                act.enrolment.check()
            }
            Self::Epoch(act) => act.check(),
            Self::Snapshot(act) => act.check(),
            Self::Erase(act) => act.check(),
            Self::Erased(act) => act.check(),
            Self::Adoption(act) => act.check(),
            Self::Lack(act) => act.check(),
            Self::Retention(act) => act.check(),
            Self::Quarantine(act) => act.check(),
            Self::Policy(act) => act.check(),
            Self::Contract(act) => act.check(),
            Self::SealingKey(act) => {
                check_versions(act.v, act.suite)?;
                act.sealing.check().map_err(|_| VoidReason::WeakKey)
            }
        }
    }
}

impl Enrolment {
    fn check(&self) -> Result<(), VoidReason> {
        check_versions(self.v, self.keys.suite)?;
        if self.label.len() > NAME_BYTES_MAX {
            return Err(VoidReason::Malformed("a label longer than a name may be".to_owned()));
        }
        let usable = check_signing_key(&self.keys.signing)
            .and_then(|()| self.keys.ack.check())
            .and_then(|()| self.keys.sealing.check());
        usable.map_err(|_| VoidReason::WeakKey)
    }
}

impl EpochAct {
    fn check(&self) -> Result<(), VoidReason> {
        check_versions(self.v, self.suite)?;
        if !self.supersedes.is_sorted_by(|a, b| a < b) {
            return Err(VoidReason::Epoch("superseded epochs not in order, each once"));
        }
        if !self.envelopes.is_sorted_by(|a, b| a.recipient < b.recipient) {
            return Err(VoidReason::Epoch("recipients not in order, each once"));
        }
        if !self.commitments.iter().map(|(band, _)| *band).eq(Band::SHARED) {
            return Err(VoidReason::Epoch("commitments are for GREEN, AMBER and RED, in order"));
        }
        if self.envelopes.iter().any(|envelope| envelope.band == Band::Black) {
            return Err(VoidReason::Epoch("an envelope for BLACK"));
        }
        Ok(())
    }
}

fn check_parents(parents: &[EntryHash]) -> Result<(), VoidReason> {
    if parents.is_empty() || parents.len() > ACT_PARENTS_MAX {
        return Err(VoidReason::Malformed(format!("it names {} parents", parents.len())));
    }
    if !parents.is_sorted_by(|a, b| a < b) {
        return Err(VoidReason::Malformed("parents not in order, each once".to_owned()));
    }
    Ok(())
}

fn check_cuts(cuts: &[Cut]) -> Result<(), VoidReason> {
    if cuts.is_sorted_by(|a, b| a.device < b.device) {
        Ok(())
    } else {
        Err(VoidReason::Malformed("devices not in order, each once".to_owned()))
    }
}

fn check_versions(v: u8, suite: u16) -> Result<(), VoidReason> {
    check_version(v)?;
    if suite == SUITE { Ok(()) } else { Err(VoidReason::Suite(suite)) }
}

pub(crate) fn check_version(v: u8) -> Result<(), VoidReason> {
    if v == VERSION {
        return Ok(());
    }
    Err(VoidReason::Malformed(format!("version {v}, this program reads version {VERSION}")))
}

fn read<T>(body: &[u8]) -> Result<T, VoidReason>
where
    T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    canonical::decode(body, ACT_BYTES_MAX).map_err(|e| VoidReason::Malformed(e.to_string()))
}
