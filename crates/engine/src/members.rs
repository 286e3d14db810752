//! Who belongs to a space: admitting devices, changing what they may do, shutting them out, and
//! what that does to what they wrote.

use std::collections::BTreeSet;

use larder_crypto::Secret;
use larder_log::act::{
    Act, ChangeAct, Cut, Enrolment, EnrolmentAct, RecoveryAct, RevocationAct, Role, recovery_key,
};
use larder_log::roster::Device;
use larder_log::{Band, Receipt, VERSION};
use larder_store::space::{control, logs};
use larder_types::limits::{ACT_PARENTS_MAX, ACTS_DEVICE_KEPT, ACTS_DEVICE_MAX};
use larder_types::{DeviceId, MemberId};
use rusqlite::Connection;

use crate::state::State as WriterState;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

impl SpaceWriter {
    /// Admits a device: signs its enrolment and opens an epoch for all devices, the new one too.
    /// A device that is enrolled already is not enrolled again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the roster does not allow it, or knows the device by other keys; the
    /// storage's errors.
    pub fn admit(&mut self, enrolment: Enrolment) -> Result<Receipt> {
        self.shared.check_leaves("no other device can be let in")?;
        self.admit_device(enrolment)
    }

    /// [`SpaceWriter::admit`], of this device under other keys too.
    pub(crate) fn admit_device(&mut self, enrolment: Enrolment) -> Result<Receipt> {
        self.transact(|tx, state| {
            let device = enrolment.keys.signing;
            match state.roster.device(&device) {
                // Whoever asks would be given the space's secrets under keys that nobody enrolled.
                Some(known) if known.keys != enrolment.keys => {
                    let message = format!("the device {device} is enrolled with other keys");
                    return Err(Error::Invalid(message));
                }
                Some(_) => {}
                None => {
                    if enrolment.role != Role::Owner {
                        state.check_room_for_acts(tx)?;
                    }
                    let parents = state.parents();
                    let act = EnrolmentAct { parents, enrolment };
                    state.append_act(tx, &Act::Enrolment(act))?;
                    state.ensure_epoch(tx)?;
                    state.sign(tx)?;
                }
            }
            state.receipt(tx, state.frontier.size())
        })
    }

    /// Shuts devices out of the space, for good, and seals what is written from now on to the
    /// others alone. What is held here of their logs counts, and nothing that they write besides.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a device that does not belong to the space; [`Error::Invalid`] if
    /// this device has no right to it, or if no owner would be left; the storage's errors.
    pub fn revoke(&mut self, devices: &[DeviceId]) -> Result<Receipt> {
        self.transact(|tx, state| state.revoke(tx, devices, Vec::new()))
    }

    /// Shuts a member out with every device, those too that nobody here has heard of yet.
    ///
    /// # Errors
    /// As [`SpaceWriter::revoke`].
    pub fn revoke_member(&mut self, member: MemberId) -> Result<Receipt> {
        self.transact(|tx, state| {
            let all = state.roster.devices().filter(|(_, device)| device.member == member);
            let devices: Vec<DeviceId> = all.map(|(id, _)| *id).collect();
            if devices.is_empty() {
                return Err(Error::NotFound(format!("no device here belongs to member {member}")));
            }
            state.revoke(tx, &devices, vec![member])
        })
    }

    /// Makes this device an owner by the recovery kit, and shuts the lost devices out, all in one
    /// act: what is written from now on is sealed to the others alone. That it was given a lesser
    /// role, was shut out, or had left stands no more, as far as this device has heard of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the space has no recovery key or another kit's, or if the device
    /// would not be an owner by it; [`Error::NotFound`] for a lost device that does not belong to
    /// the space; [`Error::NotYetEnrolled`] and the storage's.
    pub fn recover(&mut self, kit: &Secret<32>, lost: &[DeviceId]) -> Result<Receipt> {
        self.transact(|tx, state| {
            let me = state.device();
            // One that was shut out may have the words as well.
            let own = state.roster.known(&me).cloned().ok_or(Error::NotYetEnrolled)?;
            let Some(genesis) = state.roster.genesis() else {
                return Err(Error::NotYetEnrolled);
            };
            let key = recovery_key(kit, &genesis.nonce);
            match &genesis.recovery {
                None => {
                    let message = "this space was made without a recovery kit: no words open it";
                    return Err(Error::Invalid(message.to_owned()));
                }
                Some(right) if *right != key.public() => {
                    let message = "these are the words of another kit, not of this space's";
                    return Err(Error::Invalid(message.to_owned()));
                }
                Some(_) => {}
            }
            if lost.contains(&me) {
                let message = "this device cannot be one of the lost ones";
                return Err(Error::Invalid(message.to_owned()));
            }
            let cuts = state.cuts(tx, lost)?;
            let enrolment = Enrolment {
                v: VERSION,
                member: own.member,
                label: own.label.clone(),
                role: Role::Owner,
                clearance: Band::Red,
                keys: own.keys.clone(),
            };
            let parents = state.parents();
            let mut act = RecoveryAct { parents, enrolment, cuts, signature: [0; 64] };
            act.signature = key.sign(&act.signed_bytes(&state.shared.id));
            let receipt = state.append_membership(tx, &Act::Recovery(act))?;
            let is_owner = |device: &Device| device.role == Role::Owner;
            if !state.roster.device(&me).is_some_and(is_owner) {
                let message = format!(
                    "this device was shut out by another recovery, and so many acts of membership \
                     stand beside each other that it is not among the {ACT_PARENTS_MAX} that one \
                     can name: sync, or recover from another device that has the space"
                );
                return Err(Error::Invalid(message));
            }
            Ok(receipt)
        })
    }

    /// Gives a device another role and clearance, from the next of its entries on that is not held
    /// here.
    ///
    /// # Errors
    /// As [`SpaceWriter::revoke`]; [`Error::Invalid`] to or from an auditor's.
    pub fn change_role(
        &mut self,
        device: DeviceId,
        role: Role,
        clearance: Band,
    ) -> Result<Receipt> {
        self.shared.check_leaves("its one device may do and read all in it")?;
        self.transact(|tx, state| {
            state.check_belongs(&device)?;
            let is_auditor = state.roster.device(&device).is_some_and(|it| !it.role.may_read());
            if is_auditor || !role.may_read() {
                let message = "an auditor's device stays one, and no other becomes one: shut it \
                               out, and invite it anew";
                return Err(Error::Invalid(message.into()));
            }
            state.check_room_for_acts(tx)?;
            let from_seq = size_of(tx, &device)?.saturating_add(1);
            let parents = state.parents();
            let act = ChangeAct { parents, v: VERSION, device, from_seq, role, clearance };
            state.append_membership(tx, &Act::Change(act))
        })
    }
}

fn size_of(db: &Connection, device: &DeviceId) -> Result<u64> {
    Ok(logs::find(db, device)?.map_or(0, |log| log.frontier.size()))
}

impl WriterState {
    /// Whether this device may write an act of membership that another one can as well. The last of
    /// those that count are kept for shutting devices out, and for letting in one that takes this
    /// one's place.
    fn check_room_for_acts(&self, db: &Connection) -> Result<()> {
        let next = self.frontier.size().saturating_add(1);
        let written = control::count_acts(db, self.log, next, Act::MEMBERSHIP)?;
        if written < ACTS_DEVICE_MAX.saturating_sub(ACTS_DEVICE_KEPT) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "this device has written {written} acts of membership of the {ACTS_DEVICE_MAX} that \
             count, and the last {ACTS_DEVICE_KEPT} are kept for shutting devices out and for \
             letting in owners: do this on another device of an owner, and let one in if there is \
             none"
        )))
    }

    pub(crate) fn check_belongs(&self, device: &DeviceId) -> Result<()> {
        if self.roster.device(device).is_some() {
            return Ok(());
        }
        Err(Error::NotFound(match self.roster.known(device) {
            Some(_) => format!("the device {device} was shut out already"),
            None => format!("no device {device} belongs to the space: `larder status` lists them"),
        }))
    }

    /// Cuts of these devices' logs at what is held here of them.
    fn cuts(&self, db: &Connection, devices: &[DeviceId]) -> Result<Vec<Cut>> {
        let devices: BTreeSet<DeviceId> = devices.iter().copied().collect();
        let mut cuts = Vec::with_capacity(devices.len());
        for device in devices {
            self.check_belongs(&device)?;
            let is_own = device == self.device();
            // The entry that holds the act counts too.
            let keeps = size_of(db, &device)?.saturating_add(u64::from(is_own));
            cuts.push(Cut { device, keeps });
        }
        Ok(cuts)
    }

    pub(crate) fn revoke(
        &mut self,
        db: &Connection,
        devices: &[DeviceId],
        members: Vec<MemberId>,
    ) -> Result<Receipt> {
        let cuts = self.cuts(db, devices)?;
        let parents = self.parents();
        let act = RevocationAct { parents, v: VERSION, cuts, members };
        self.append_membership(db, &Act::Revocation(act))
    }

    /// Appends an act of membership, and opens the epoch that follows from it.
    fn append_membership(&mut self, db: &Connection, act: &Act) -> Result<Receipt> {
        let appended = self.append_act(db, act)?;
        let has_owner = self.roster.devices().any(|(_, device)| device.role == Role::Owner);
        let has_recovery = self.roster.genesis().is_some_and(|act| act.recovery.is_some());
        if !has_owner && !has_recovery {
            let message = "that would leave the space without an owner: make another device one \
                           first";
            return Err(Error::Invalid(message.into()));
        }
        if self.check_may_write().is_ok() {
            self.ensure_epoch(db)?;
        }
        self.sign(db)?;
        self.receipt(db, appended.seq)
    }
}
