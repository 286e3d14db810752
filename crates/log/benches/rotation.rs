//! What an epoch for 100 devices costs beside its 100 HPKE seals:
//! `cargo bench -p larder-log --bench rotation`.
#![allow(clippy::print_stdout, reason = "it is to be seen")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use larder_crypto::hash::sha256;
use larder_crypto::{SealingKey, SealingPublic, hpke_seal};
use larder_log::Band;
use larder_log::act::{Act, EpochReason};
use larder_log::epoch::open_epoch_act;
use larder_types::{DeviceId, Entropy, SpaceId};

const DEVICES: u8 = 100;
const ROUNDS: usize = 15;

struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            self.0 += 1;
            let hash = sha256(&[&self.0.to_be_bytes()]);
            chunk.copy_from_slice(hash.as_bytes().get(..chunk.len()).unwrap_or_default());
        }
    }
}

fn main() {
    let mut entropy = Counter(0);
    let recipients: Vec<(DeviceId, SealingPublic, Band)> = (0..DEVICES)
        .map(|n| {
            let key = SealingKey::generate(&mut entropy).public();
            (DeviceId::new([n; 32]), key, Band::Red)
        })
        .collect();
    let (space, opener) = (SpaceId::new([1; 32]), DeviceId::new([0; 32]));
    let mut times: Vec<[Duration; 2]> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            for (_, key, _) in &recipients {
                black_box(hpke_seal(&mut entropy, key, &[7; 120], &[], &[9; 32]).ok());
            }
            let seals = begun.elapsed();
            let begun = Instant::now();
            let (reason, supersedes) = (EpochReason::Age, Vec::new());
            let made =
                open_epoch_act(&mut entropy, &space, opener, &recipients, reason, supersedes);
            black_box(made.ok().map(|(act, secrets)| (Act::Epoch(act).to_body(), secrets)));
            [seals, begun.elapsed()]
        })
        .collect();
    times.sort_by_key(|[seals, epoch]| epoch.as_nanos() * 1_000_000 / seals.as_nanos().max(1));
    let Some([seals, epoch]) = times.get(ROUNDS / 2) else { return };
    let ratio = epoch.as_secs_f64() / seals.as_secs_f64();
    println!("100 HPKE seals {seals:.2?}, an epoch for 100 devices {epoch:.2?}: {ratio:.2} times");
}
