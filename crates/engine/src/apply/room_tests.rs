//! Puppets: devices that somebody lets in to be many.

use std::collections::BTreeSet;

use larder_crypto::{AckKey, DeviceSigningKey, SealingKey, TransportKey};
use larder_log::act::{Act, DeviceKeys, Enrolment, EpochReason, Role};
use larder_log::checkpoint::Checkpoint;
use larder_log::{Band, Dep, EntryBuilder, ForkProof, merkle};
use larder_protocol::{Fork, Position, Reply, Request};
use larder_types::limits::{BATCH_BYTES_TARGET, FORKS_PER_FRAME_MAX};
use larder_types::{EntryHash, Hash, MemberId, canonical};
use serde_json::json;

use super::*;
use crate::prune::tests::Device;
use crate::{Answer, Terms, Whose};

struct Puppet {
    signing: DeviceSigningKey,
    enrolled_by: Dep,
}

impl Puppet {
    fn let_in_by(by: &mut Device) -> Self {
        let mut entropy = by.space.shared.env.entropy();
        let entropy = &mut *entropy;
        let signing = DeviceSigningKey::generate(entropy);
        let keys = DeviceKeys {
            suite: larder_crypto::SUITE,
            signing: signing.device_id(),
            ack: AckKey::generate(entropy).public(),
            sealing: SealingKey::generate(entropy).public(),
            transport: TransportKey::generate(entropy).public(),
        };
        let enrolment = Enrolment {
            v: larder_log::VERSION,
            member: MemberId::random(entropy),
            label: "a puppet".into(),
            role: Role::Writer,
            clearance: Band::Green,
            keys,
        };
        let receipt = by.writer.admit(enrolment).unwrap();
        let (device, entry) = (by.space.device(), larder_log::entry_hash(&receipt.header));
        Self { signing, enrolled_by: Dep { device, seq: receipt.index + 1, entry } }
    }

    /// Its first entry, of nothing.
    fn batch(&self, of: &Device) -> Batch {
        self.batch_naming(of, None)
    }

    /// The same, which names one more log.
    fn batch_naming(&self, of: &Device, named: Option<DeviceId>) -> Batch {
        let (space, device) = (of.space.id(), self.signing.device_id());
        let epoch = larder_types::EpochId::new([0; 32]);
        let named = named.map(|device| Dep { device, seq: 1, entry: EntryHash::new([1; 32]) });
        let deps = named.into_iter().chain([self.enrolled_by]).collect();
        let builder = EntryBuilder::new(space, device, 1, epoch, 0).deps(deps);
        let entry = builder.finish().unwrap();
        let mut after = merkle::Frontier::new();
        after.append(entry.hash.into(), &mut |_| {});
        let checkpoint = Checkpoint { space, device, size: 1, root: after.root() };
        let signature = checkpoint.sign(&self.signing);
        Batch { device, first_seq: 1, entries: vec![entry.into()], signature }
    }

    /// A proof that its log has two histories.
    fn fork(&self, of: &Device) -> Fork {
        let (space, device) = (of.space.id(), self.signing.device_id());
        let note = |root: [u8; 32]| {
            let checkpoint = Checkpoint { space, device, size: 1, root: Hash::new(root) };
            checkpoint.to_note(&checkpoint.sign(&self.signing))
        };
        let proof = (note([1; 32]), note([2; 32]), Hash::new([2; 32]), Vec::<Hash>::new());
        Fork { device, evidence: canonical::encode(&proof), acts: Vec::new() }
    }
}

fn terms(role: Role) -> Terms {
    Terms { of: Whose::New, role, clearance: Band::Red }
}

/// What `of` has written last.
fn last_of(of: &Device, peer: &Device) -> Batch {
    let have = of.space.status().unwrap().logs.into_iter().map(|log| {
        let is_own = log.device == of.space.device();
        (log.device, if is_own { log.size - 1 } else { log.size })
    });
    let request = Request::ReadBatch {
        after: Position::default(),
        have: have.collect(),
        epochs: Vec::new(),
        bytes_target: BATCH_BYTES_TARGET,
    };
    let answer = of.space.answer(&peer.profile.transport_id(), request);
    let Answer::Reply(Reply::Batch { batch: Some(batch), .. }) = answer else { panic!() };
    *batch
}

/// Whether there is no room for the log of a puppet.
fn is_refused(device: &mut Device, puppet: &Puppet) -> bool {
    let batch = puppet.batch(device);
    match device.writer.apply(batch) {
        Ok(_) => false,
        Err(Error::Refused { code: CloseCode::Gap, message }) => {
            assert!(message.contains("too many"), "{message}");
            true
        }
        Err(other) => panic!("{other}"),
    }
}

/// Takes in what `of` has written last, which names what is not here.
fn hear_of(device: &mut Device, of: &Device) -> Batch {
    let named = last_of(of, device);
    is_gap(device, named.clone());
    named
}

fn is_gap(device: &mut Device, batch: Batch) {
    let gap = device.writer.apply(batch).unwrap_err();
    let Error::Refused { code: CloseCode::Gap, message } = gap else { panic!("{gap}") };
    assert!(message.contains("is not here"), "{message}");
}

/// An admin's stolen device lets puppets in, as many as a frontier may name logs. Who had not heard
/// that it is stolen took all of their logs in, and after that its frontiers were refused by
/// everybody: that was the end of all sync. Then there was a bound, and the thief's own entries
/// named the puppets beyond it, as if another had vouched for them; or hundreds of devices that
/// there are not, after which nobody else's word was remembered.
#[test]
fn of_whom_one_device_lets_in_a_bounded_number_has_logs_unless_others_name_them() {
    let mut a = Device::found(1);
    let mut thief = a.invite_on(crate::prune::tests::profile(2), terms(Role::Admin));
    let mut b = a.invite(3);
    let puppets: Vec<_> = (0..LOGS_BRANCH_MAX + 2).map(|_| Puppet::let_in_by(&mut thief)).collect();
    a.pull(&thief);
    b.pull(&a);
    let (last, others) = puppets.split_last().unwrap();
    let refused: Vec<_> = others.iter().map(|puppet| is_refused(&mut a, puppet)).collect();
    let first = refused.iter().position(|is_refused| *is_refused);
    assert_eq!(first, Some(LOGS_BRANCH_MAX));
    assert!(is_refused(&mut a, last));
    // The thief's own word gives none of them room, nor a puppet's for another.
    assert!(!is_refused(&mut thief, last));
    thief.put(3, &json!({"n": 3}));
    hear_of(&mut a, &thief);
    assert!(is_refused(&mut a, last));
    let puppet = &others[LOGS_BRANCH_MAX];
    let by_puppet = puppet.batch_naming(&a, Some(last.signing.device_id()));
    is_gap(&mut a, by_puppet);
    assert!(is_refused(&mut a, last));
    let made_up = |n: u16| {
        let mut id = [7; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        DeviceId::new(id)
    };
    for n in 0..u16::try_from(LOGS_BRANCH_MAX).unwrap() {
        let batch = last.batch_naming(&a, Some(made_up(n)));
        is_gap(&mut a, batch);
    }
    assert_eq!(a.space.shared.vouched().values().map(BTreeSet::len).sum::<usize>(), 0);
    // Whom others let in has room, and so has what another device took in before it could know.
    let mut c = b.invite(4);
    c.put(1, &json!({"n": 1}));
    b.pull(&c);
    a.pull(&b);
    assert!(!is_refused(&mut b, last));
    b.put(2, &json!({"n": 2}));
    let named = hear_of(&mut a, &b);
    assert_eq!(a.space.shared.vouched().values().map(BTreeSet::len).sum::<usize>(), 1);
    assert!(!is_refused(&mut a, last));
    assert!(a.space.shared.vouched().values().all(BTreeSet::is_empty), "it is in");
    a.writer.apply(named).unwrap();
    // The same once all of it is void.
    a.writer.revoke(&[thief.space.device()]).unwrap();
    let late = Puppet::let_in_by(&mut thief);
    a.pull(&thief);
    assert!(a.space.devices().unwrap().iter().all(|it| it.device != late.signing.device_id()));
    assert!(is_refused(&mut a, &late));
}

/// An epoch's secrets are sealed to every device in one act. Of more than a mebibyte it was read by
/// nobody but who wrote it, and went on under secrets that no other device had.
#[test]
fn an_act_that_nobody_else_would_read_is_not_written() {
    let mut a = Device::found(1);
    let act = {
        let mut entropy = a.space.shared.env.entropy();
        let entropy = &mut *entropy;
        let key = SealingKey::generate(entropy).public();
        let mut new = || DeviceSigningKey::generate(entropy).device_id();
        let recipients: Vec<_> = (0..900).map(|_| (new(), key.clone(), Band::Green)).collect();
        let (space, me, reason) = (a.space.id(), a.space.device(), EpochReason::Enrolment);
        let opened =
            larder_log::epoch::open_epoch_act(entropy, &space, me, &recipients, reason, Vec::new());
        Act::Epoch(opened.unwrap().0)
    };
    assert!(Act::from_body(act.kind(), &act.to_body()).is_err());
    let refused = a.writer.transact(|tx, state| {
        let before = state.frontier.size();
        let refused = state.append_act(tx, &act).unwrap_err();
        assert_eq!(state.frontier.size(), before, "nothing was signed");
        Ok(refused)
    });
    let message = refused.unwrap().to_string();
    assert!(message.contains("sealed to 900 devices"), "{message}");
    assert!(message.contains("shut out the devices that are not used"), "{message}");
    a.put(1, &json!({"n": 1}));
}

/// Seventeen logs with two histories, and a frontier has room for sixteen proofs: the last was
/// never told to anybody.
#[test]
fn all_proofs_of_two_histories_are_told_in_the_end() {
    let mut a = Device::found(1);
    let puppets: Vec<_> = (0..=FORKS_PER_FRAME_MAX).map(|_| Puppet::let_in_by(&mut a)).collect();
    let b = a.invite(2);
    let forks: Vec<_> = puppets.iter().map(|puppet| puppet.fork(&a)).collect();
    a.writer.stop_logs(&forks).unwrap();
    let told = |peer: &Device| {
        let answer = a.space.answer(&peer.profile.transport_id(), Request::ReadFrontiers);
        let Answer::Reply(Reply::Frontiers { forks, .. }) = answer else { panic!() };
        let space = a.space.id();
        let sound = |fork: &Fork| ForkProof::check(&fork.evidence, &space) == Some(fork.device);
        assert!(forks.iter().all(sound));
        forks.into_iter().map(|fork| fork.device).collect::<Vec<_>>()
    };
    let (first, second) = (told(&b), told(&b));
    assert_eq!(first.len(), FORKS_PER_FRAME_MAX);
    let all: BTreeSet<_> = first.iter().chain(&second).collect();
    assert_eq!(all.len(), puppets.len());
    assert_eq!(told(&a), first, "each peer for itself");
}
