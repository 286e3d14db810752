//! How a space begins: its genesis entry, which names the founder and opens the first epoch.

use std::sync::Arc;

use larder_crypto::Secret;
use larder_log::act::{Act, DeviceKeys, Enrolment, EpochReason, Genesis, Role, recovery_key};
use larder_log::epoch::{ControlSecret, open_epoch_act};
use larder_log::{Band, Entry, EntryBuilder, VERSION};
use larder_store::migrate::{Run, SPACE};
use larder_store::space::control;
use larder_types::{Clock, EpochId, SpaceId, SpaceName};

use crate::black::stays_here;
use crate::commit::Draft;
use crate::keyring::{Keyring, OwnKeys};
use crate::profile::Profile;
use crate::rekey::step;
use crate::space::Shared;
use crate::state::CONTROL;
use crate::steps::Step;
use crate::writer::End;
use crate::{Error, Result, Space, SpaceWriter};

impl Profile {
    /// Founds a space, with this device as its first owner.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::ReadOnly`]; the storage's errors.
    pub fn create_space(&self, name: &SpaceName) -> Result<(Space, SpaceWriter)> {
        self.create_space_with(name, None)
    }

    /// The same, with a recovery kit that gives the space back if all its owners' devices are lost.
    /// One kit may serve several spaces. It is kept nowhere.
    ///
    /// # Errors
    /// As [`Profile::create_space`].
    pub fn create_space_with(
        &self,
        name: &SpaceName,
        kit: Option<&Secret<32>>,
    ) -> Result<(Space, SpaceWriter)> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if kit.is_some() && stays_here(name) {
            let what = "a recovery kit lets another device in, so it has none";
            return Err(Error::StaysHere { space: name.clone(), what });
        }
        self.inner.make_room(name)?;
        let mut entropy = self.inner.env.entropy();
        let keys = OwnKeys::generate(&mut *entropy);
        let control = ControlSecret::random(&mut *entropy);
        let clock = Clock::ZERO.tick(self.inner.env.now());
        let founder = self.enrolment(keys.public(self.transport_id()), self.label());
        let acts = genesis_acts(&mut *entropy, name, &keys, founder, &control, kit)?;
        let drafts: Vec<Draft> = acts.iter().map(Draft::of_act).collect::<Result<_>>()?;
        let entry = genesis_entry(&mut *entropy, &keys, &control, &drafts, clock)?;
        let id = SpaceId::from(entry.hash);

        let row = self.inner.add_space(id, name, &keys)?;
        step(Step::Founding)?;
        let shared = self.inner.shared(&row, keys)?;
        let mut writer = prepare(self, &shared, &control)?;
        let header = entry.header.clone();
        writer.transact(|tx, state| {
            state.clock = clock;
            let drafts: Vec<&Draft> = drafts.iter().collect();
            state.insert_own(tx, entry, &drafts)?;
            for (index, act) in (0..).zip(&acts) {
                let log = state.log;
                state.take_in(tx, log, &header, index, act)?.map_err(|reason| {
                    Error::Internal(format!("the space's own genesis is void: {reason}"))
                })?;
            }
            state.sign(tx)
        })?;
        step(Step::Founded)?;
        self.inner.joined(&id, &control)?;
        Ok((writer.space(), writer))
    }

    /// The act that enrols a device of this profile's member as an owner.
    pub(crate) fn enrolment(&self, keys: DeviceKeys, label: &str) -> Enrolment {
        Enrolment {
            v: VERSION,
            member: self.inner.member,
            label: label.to_owned(),
            role: Role::Owner,
            clearance: Band::Red,
            keys,
        }
    }
}

/// Sets up a space's database and stores its control secret.
pub(crate) fn prepare(
    profile: &Profile,
    shared: &Arc<Shared>,
    control: &ControlSecret,
) -> Result<SpaceWriter> {
    let env = &profile.inner.env;
    {
        let mut db = shared.pool.writer()?;
        SPACE.migrate(&mut db, Run::at(env.now()))?;
        let secret = control.secret().expose();
        let wrapped = shared.home().vault.seal(&mut *env.entropy(), CONTROL, secret);
        let tx = larder_store::begin(&mut db)?;
        control::set_secret(&tx, CONTROL, &wrapped)?;
        crate::changes::new_incarnation(&tx, &mut *env.entropy())?;
        larder_store::commit(tx)?;
    }
    SpaceWriter::open(shared, End::NONE)
}

/// The header of a genesis entry cannot name the space, whose id is its hash: zero stands for it.
const NO_SPACE: SpaceId = SpaceId::new([0; 32]);
const NO_EPOCH: EpochId = EpochId::new([0; 32]);

fn genesis_acts(
    entropy: &mut dyn larder_types::Entropy,
    name: &SpaceName,
    keys: &OwnKeys,
    founder: Enrolment,
    control: &ControlSecret,
    kit: Option<&Secret<32>>,
) -> Result<[Act; 2]> {
    let mut nonce = [0; 16];
    entropy.fill(&mut nonce);
    let recipients = [(keys.device(), founder.keys.sealing.clone(), founder.clearance)];
    let (epoch, _) = open_epoch_act(
        entropy,
        &NO_SPACE,
        keys.device(),
        &recipients,
        EpochReason::Genesis,
        Vec::new(),
    )
    .map_err(|e| Error::Internal(format!("an epoch could not be opened: {e}")))?;
    let genesis = Genesis {
        v: VERSION,
        suite: larder_crypto::SUITE,
        name: name.clone(),
        founder,
        recovery: kit.map(|kit| recovery_key(kit, &nonce).public()),
        control_commitment: control.commitment(),
        nonce,
    };
    Ok([Act::Genesis(genesis), Act::Epoch(epoch)])
}

fn genesis_entry(
    entropy: &mut dyn larder_types::Entropy,
    keys: &OwnKeys,
    control: &ControlSecret,
    drafts: &[Draft],
    clock: Clock,
) -> Result<Entry> {
    let keyring = Keyring::new(control.clone());
    let mut builder = EntryBuilder::new(NO_SPACE, keys.device(), 1, NO_EPOCH, 0);
    for draft in drafts {
        let opened = draft.opened(entropy, None, None, clock);
        keyring.seal(entropy, &mut builder, (draft.class, draft.band), &opened)?;
    }
    builder.finish().map_err(|e| Error::Internal(format!("no genesis entry: {e}")))
}
