use larder_crypto::{AckKey, DeviceSigningKey, SUITE, SealingKey, Secret, TransportKey};
use larder_log::act::{Act, DeviceKeys, Enrolment, EnrolmentAct, EpochReason, Genesis, Role};
use larder_log::checkpoint::Checkpoint;
use larder_log::epoch::{ControlSecret, open_epoch_act};
use larder_log::merkle::{Frontier, MemoryNodes, inclusion_proof};
use larder_log::{
    Band, Batch, Class, Entry, EntryBuilder, Metadata, ObjectProof, Opened, Receipt, kind,
    seal_section,
};
use larder_types::{
    Clock, Entropy, EntryHash, EpochId, Hash, MemberId, ObjectId, SpaceId, Timestamp,
};

/// A small space with one device and three entries, the same in every run.
pub struct World {
    pub space: SpaceId,
    pub signing: DeviceSigningKey,
    pub ack: AckKey,
    pub sealing: SealingKey,
    pub keys: DeviceKeys,
    pub control: ControlSecret,
    pub acts: Vec<Act>,
    pub opened: Vec<Opened>,
    pub entries: Vec<Entry>,
}

/// Bytes that look random and are always the same.
pub struct Counting(pub u64);

impl Entropy for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            // Knuth's MMIX generator.
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = self.0.to_be_bytes()[0];
        }
    }
}

impl World {
    pub fn new() -> Self {
        let entropy = &mut Counting(1);
        let signing = DeviceSigningKey::generate(entropy);
        let (ack, sealing) = (AckKey::generate(entropy), SealingKey::generate(entropy));
        let keys = DeviceKeys {
            suite: SUITE,
            signing: signing.device_id(),
            ack: ack.public(),
            sealing: sealing.public(),
            transport: TransportKey::generate(entropy).public(),
        };
        let control = ControlSecret::random(entropy);
        let mut world = Self {
            space: SpaceId::new([0; 32]),
            signing,
            ack,
            sealing,
            keys,
            control,
            acts: Vec::new(),
            opened: Vec::new(),
            entries: Vec::new(),
        };
        world.found(entropy);
        for body in [&b"the boiler is called Bertha"[..], &[7; 300]] {
            world.write(entropy, body);
        }
        world
    }

    fn found(&mut self, entropy: &mut Counting) {
        let device = self.signing.device_id();
        let founder = Enrolment {
            v: 0,
            member: MemberId::random(entropy),
            label: "kitchen".to_owned(),
            role: Role::Owner,
            clearance: Band::Red,
            keys: self.keys.clone(),
        };
        let genesis = Genesis {
            v: 0,
            suite: SUITE,
            name: "shared:household".parse().unwrap(),
            founder: founder.clone(),
            recovery: None,
            control_commitment: self.control.commitment(),
            nonce: [5; 16],
        };
        let recipients = [(device, self.sealing.public(), Band::Red)];
        let (epoch, _) = open_epoch_act(
            entropy,
            &self.space,
            device,
            &recipients,
            EpochReason::Genesis,
            Vec::new(),
        )
        .unwrap();
        let acts = vec![Act::Genesis(genesis), Act::Epoch(epoch)];
        let opened = acts.iter().map(|act| opened(entropy, act.kind(), act.to_body())).collect();
        self.append(entropy, Class::Control, opened);
        self.space = SpaceId::new(*self.entries[0].hash.as_bytes());
        self.acts = acts;
        let parents = vec![self.entries[0].hash];
        self.acts.push(Act::Enrolment(EnrolmentAct { parents, enrolment: founder }));
    }

    fn write(&mut self, entropy: &mut Counting, body: &[u8]) {
        let sections = vec![opened(entropy, kind::DOCUMENT_CREATE, body.to_vec())];
        self.append(entropy, Class::Data, sections);
    }

    fn append(&mut self, entropy: &mut Counting, class: Class, sections: Vec<Opened>) {
        let seq = self.entries.len() as u64 + 1;
        let epoch = self.entries.first().map_or([0; 32], |entry| *entry.hash.as_bytes());
        let device = self.signing.device_id();
        let mut builder = EntryBuilder::new(self.space, device, seq, EpochId::new(epoch), 0);
        for opened in sections {
            let address = builder.address(Band::Green).unwrap();
            let secret = self.control.section_secret();
            let (commitment, sealed) =
                seal_section(entropy, &address, &secret, class, &self.control, &opened).unwrap();
            builder.push(commitment, sealed);
            self.opened.push(opened);
        }
        self.entries.push(builder.finish().unwrap());
    }

    pub fn checkpoint(&self, size: usize) -> (Checkpoint, [u8; 64]) {
        let mut frontier = Frontier::new();
        for entry in &self.entries[..size] {
            frontier.append(Hash::new(*entry.hash.as_bytes()), &mut |_| ());
        }
        let checkpoint = Checkpoint {
            space: self.space,
            device: self.signing.device_id(),
            size: frontier.size(),
            root: frontier.root(),
        };
        let signature = checkpoint.sign(&self.signing);
        (checkpoint, signature)
    }

    pub fn batch(&self) -> Batch {
        Batch {
            device: self.signing.device_id(),
            first_seq: 1,
            entries: self.entries.iter().cloned().map(Into::into).collect(),
            signature: self.checkpoint(self.entries.len()).1,
        }
    }

    pub fn receipt(&self, index: usize) -> Receipt {
        let nodes =
            MemoryNodes::new(self.entries.iter().map(|entry| Hash::new(*entry.hash.as_bytes())));
        let (checkpoint, signature) = self.checkpoint(self.entries.len());
        let Ok(proof) = inclusion_proof(&nodes, index as u64, checkpoint.size);
        let entry = &self.entries[index];
        Receipt {
            header: entry.header_bytes.clone(),
            index: index as u64,
            proof,
            checkpoint,
            signature,
            object: ObjectProof::new(&entry.commitments, 0),
        }
    }

    pub fn secret(&self) -> Secret<32> {
        self.control.section_secret()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn opened(entropy: &mut Counting, kind: u16, body: Vec<u8>) -> Opened {
    let mut meta_salt = [0; 16];
    entropy.fill(&mut meta_salt);
    Opened {
        meta_salt,
        metadata: Metadata {
            kind,
            collection: Some("recipes".parse().unwrap()),
            object: Some(ObjectId::random(entropy)),
            generation: Some(EntryHash::new([9; 32])),
            actor: Some("Inês".to_owned()),
            correlation: None,
            clock: Clock { wall: Timestamp(1_700_000_000_000), count: 2 },
            personal: Some(5),
        },
        body,
    }
}
