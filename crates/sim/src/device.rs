//! One device: a whole engine on a disk and in a world of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use larder_engine::{
    Access, ChunkBytes, Embedded, Environment, Error, NewChunk, PartBytes, Profile, ProfileOptions,
    PrunePolicy, Pruning, Result, Secret, Space, SpaceWriter, Task, Unlock,
};
use larder_log::Band;
use larder_log::act::Role;
use larder_pages::testing::{Loss, Snapshot};
use larder_types::{BlobId, DeviceId, SpaceName, TransportId};

use crate::blobs::Adding;
use crate::disk::{Fused, PROFILE};
use crate::environment::{Clock, DeviceWorld};
use crate::joining::Admission;
use crate::network::End;

/// Which device; its place in [`crate::world::World::devices`].
pub(crate) type Slot = usize;

#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub(crate) struct Device {
    pub(crate) slot: Slot,
    pub(crate) world: Arc<DeviceWorld>,
    pub(crate) fused: Fused,
    pub(crate) running: Option<Running>,
    /// What was open before the device was suspended: its app may still have it.
    pub(crate) asleep: Option<Running>,
    /// Grows with every start, so that what was meant for an earlier one is passed over.
    pub(crate) life: u64,
    /// Its key in the space, once it has joined.
    pub(crate) id: Option<DeviceId>,
    pub(crate) transport: TransportId,
    /// Which device it asked last to be let in.
    pub(crate) inviter: Option<Slot>,
    /// What waits for the writer.
    pub(crate) jobs: VecDeque<Job>,
    /// A pruning under way.
    pub(crate) pruning: Option<Pruning>,
    pub(crate) likes: Likes,
    /// The writer's next turn is due.
    pub(crate) is_writing: bool,
    /// So is its next look at what waits to be indexed.
    pub(crate) is_indexing: bool,
    pub(crate) standing: Standing,
    /// Whether it is or was [`Standing::Copied`]: its log stays what it is when it is given up.
    pub(crate) was_copied: bool,
    /// How its disk was at some times.
    pub(crate) snapshots: Vec<Snapshot>,
    /// How much of each log it has said to hold durably.
    pub(crate) held: BTreeMap<DeviceId, u64>,
    /// What it has heard since it was started.
    pub(crate) heard: BTreeSet<(DeviceId, String)>,
    /// What it has shown to be deleted.
    pub(crate) buried: BTreeSet<larder_types::ObjectId>,
    /// Faults that excuse failures of storage.
    pub(crate) is_full: bool,
    pub(crate) is_rotten: bool,
    /// In a row.
    pub(crate) starts_failed: u32,
}

/// How a device's profile is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Likes {
    pub(crate) prunes: PrunePolicy,
    pub(crate) part_bytes: PartBytes,
    pub(crate) chunk_bytes: ChunkBytes,
    /// Of the blobs that it fetches by itself.
    pub(crate) blob_bytes_max: u64,
    /// The most that it is to be cleared for.
    pub(crate) clearance: Band,
    /// Whether it is an auditor's.
    pub(crate) audits: bool,
}

impl Likes {
    pub(crate) fn options(self) -> ProfileOptions {
        let Self { prunes, part_bytes, chunk_bytes, .. } = self;
        ProfileOptions { prunes, part_bytes, chunk_bytes, ..Default::default() }
    }
}

/// What is expected of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everything.
    Honest,
    /// Its log may have lost its end or have two histories: its disk is an old or a second copy.
    Copied,
    /// Nothing: it is not used any more.
    Gone,
}

/// An engine that is open.
pub(crate) struct Running {
    pub(crate) profile: Profile,
    /// None before it has joined.
    pub(crate) space: Option<(Space, SpaceWriter)>,
    /// What stays on this device, if it has any of it.
    pub(crate) black: Option<(Space, SpaceWriter)>,
    /// Vectors that the embedder made, and that are not stored yet.
    pub(crate) embedded: Option<Embedded>,
}

impl Running {
    fn close(&mut self) -> Result<()> {
        let mut closed = Ok(());
        for (space, writer) in self.space.iter_mut().chain(&mut self.black) {
            closed = closed.and(writer.close()).and(space.close());
        }
        closed.and(self.profile.close())
    }
}

/// Work for a space's writer.
pub(crate) enum Job {
    /// A unit of the model's.
    Unit(usize),
    /// One that erases a document, or a part of one.
    Erase(usize),
    /// A document that is BLACK.
    Black,
    /// For a session.
    Session(End, Task),
    /// Another device wants to join.
    Admit(Box<Admission>),
    /// Bytes that all agree on may go. Whether the device may be the first to say so.
    Prune(bool),
    /// A device is to be shut out.
    Revoke(DeviceId),
    /// A device is not to be waited for until it is back.
    SetAside(DeviceId),
    /// A device is to be cleared for something else.
    Clear(DeviceId, Role, Band),
    /// The next step of the pruning under way.
    PruneStep,
    /// Another key at rest: a wish first, then step by step.
    Rekey,
    /// All is closed, and opened again later.
    Suspend,
    /// A blob, step by step.
    StageBlob(Vec<NewChunk>, Box<Adding>),
    CommitBlob(Box<Adding>),
    /// A chunk that came.
    StoreChunk(End, Box<NewChunk>),
    WantBlob(BlobId),
    BlobPolicy,
    /// Whether a person wants it.
    CollectBlobs(bool),
}

pub(crate) fn space_name() -> SpaceName {
    "shared:household".parse().expect("a name")
}

pub(crate) fn unlock() -> Unlock {
    Unlock::Key(Secret::new([7; 32]))
}

impl Device {
    /// A device with a new profile on a new disk.
    pub(crate) fn new(slot: Slot, clock: &Clock, seed: u64, likes: Likes) -> Self {
        let fused = Fused::new();
        let world = DeviceWorld::new(clock.clone(), seed, fused.disk.clone());
        let env: Arc<dyn Environment> = Arc::clone(&world) as _;
        let label = Some(format!("device {slot}"));
        let options = ProfileOptions { label, ..likes.options() };
        let profile = Profile::create(env, Path::new(PROFILE), &unlock(), options);
        let profile = profile.expect("a profile on an empty disk");
        let transport = profile.transport_id();
        Self {
            slot,
            world,
            fused,
            running: Some(Running { profile, space: None, black: None, embedded: None }),
            asleep: None,
            life: 0,
            id: None,
            transport,
            inviter: None,
            jobs: VecDeque::new(),
            pruning: None,
            likes,
            is_writing: false,
            is_indexing: false,
            standing: Standing::Honest,
            was_copied: false,
            snapshots: Vec::new(),
            held: BTreeMap::new(),
            heard: BTreeSet::new(),
            buried: BTreeSet::new(),
            is_full: false,
            is_rotten: false,
            starts_failed: 0,
        }
    }

    /// Opens the profile that is on its disk.
    pub(crate) fn open(&mut self) -> Result<()> {
        let env: Arc<dyn Environment> = Arc::clone(&self.world) as _;
        let (options, access) = (self.likes.options(), Access::ReadWrite);
        let profile = Profile::open(env, Path::new(PROFILE), &unlock(), access, options)?;
        let space = match profile.open_space(&space_name()) {
            Ok((space, writer)) => writer.map(|writer| (space, writer)),
            Err(Error::NotFound(_)) if self.id.is_none() => None,
            Err(error) => return Err(error),
        };
        let mut running = Running { profile, space, black: None, embedded: None };
        running.open_black()?;
        self.running = Some(running);
        self.life += 1;
        Ok(())
    }

    /// The power failed during a call, or fails now.
    pub(crate) fn lose_power(&mut self, loss: Loss) {
        if !self.fused.is_blown() {
            // Nothing that is still open may write any more.
            self.fused.disk.kill();
        }
        self.forget_process();
        self.fused.disk.crash(loss);
        self.fused.put_out();
    }

    /// The process is killed; what it wrote is with the system.
    pub(crate) fn kill(&mut self) {
        self.fused.disk.kill();
        self.forget_process();
        if self.fused.is_blown() {
            self.fused.disk.crash(Loss::Nothing);
        }
        self.fused.put_out();
    }

    /// Closes the profile in order. The power may fail meanwhile.
    pub(crate) fn close(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let closed = running.close();
        self.forget_process();
        closed
    }

    /// The same, and whoever has it open keeps what is of no use any more.
    pub(crate) fn suspend(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let closed = running.close();
        self.forget_process();
        self.asleep = Some(running);
        closed
    }

    /// Its disk is an old or a second copy from now on.
    pub(crate) fn note_copied(&mut self) {
        self.standing = Standing::Copied;
        self.was_copied = true;
    }

    fn forget_process(&mut self) {
        (self.running, self.asleep) = (None, None);
        self.jobs.clear();
        self.heard.clear();
        self.pruning = None;
        (self.is_writing, self.is_indexing) = (false, false);
        self.life += 1;
    }

    pub(crate) fn space(&self) -> Option<&Space> {
        self.running.as_ref()?.space.as_ref().map(|(space, _)| space)
    }

    pub(crate) fn writer(&mut self) -> Option<&mut SpaceWriter> {
        self.running.as_mut()?.space.as_mut().map(|(_, writer)| writer)
    }

    /// A step of indexing: words, or vectors that were made meanwhile, or more of those are made.
    /// Returns how many documents had their words indexed.
    pub(crate) fn index(&mut self, documents_max: usize) -> Result<usize> {
        let Some(Running { space: Some((_, writer)), embedded, .. }) = &mut self.running else {
            return Ok(0);
        };
        let dealt = writer.index(documents_max)?;
        match embedded.take() {
            made if dealt > 0 => *embedded = made,
            Some(made) => writer.store_vectors(&made)?,
            None => {
                let texts = writer.next_unembedded(documents_max)?;
                *embedded = Some(texts.embed(&*writer.embedder()));
            }
        }
        Ok(dealt)
    }

    /// Whether it has joined and runs.
    pub(crate) fn is_up(&self) -> bool {
        self.space().is_some()
    }

    pub(crate) fn is_honest(&self) -> bool {
        self.standing == Standing::Honest
    }
}
