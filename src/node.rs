//! One open profile: its spaces, each with its reading side and its writer thread, and its
//! connections. Every public handle and every background task has a part in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use larder_engine::{Ack, Message, SetAside};
use larder_types::{SpaceId, SpaceName, TransportId};
use tokio::sync::{broadcast, watch};

use crate::blobs::Traffic;
use crate::connections::Network;
use crate::error::{apart, blocking, to_the_end};
use crate::metrics;
use crate::writer::{Ticks, Writer};
use crate::{Error, Event, NetworkPolicy, RecoveryKit, Result};

pub(crate) struct Node {
    pub(crate) engine: larder_engine::Profile,
    pub(crate) channels: Arc<Channels>,
    /// True once: everything that runs in the background ends.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) network: Network,
    spaces: RwLock<BTreeMap<SpaceName, Arc<OpenSpace>>>,
    /// Held while a space is opened, so that none is opened twice; never while waiting for a task.
    opening: Mutex<()>,
    /// The names of the profile's spaces, once somebody has asked for what is BLACK.
    names: Mutex<Option<BTreeSet<SpaceName>>>,
    /// Those of what is BLACK that could not be read when they were asked last.
    unread: Mutex<BTreeSet<SpaceName>>,
}

/// What an app listens on, and goes on with when the profile is opened anew.
pub(crate) struct Channels {
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) policy: watch::Sender<NetworkPolicy>,
    changed: Mutex<BTreeMap<SpaceId, watch::Sender<u64>>>,
    shown: Mutex<BTreeMap<SpaceName, watch::Sender<u64>>>,
    heard: Mutex<BTreeMap<SpaceId, broadcast::Sender<Message>>>,
}

impl Channels {
    pub(crate) fn new() -> Self {
        Self {
            events: broadcast::Sender::new(EVENTS_KEPT),
            policy: watch::Sender::default(),
            changed: Mutex::default(),
            shown: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    /// Messages from other devices in a space.
    pub(crate) fn heard(&self, space: SpaceId) -> broadcast::Sender<Message> {
        let mut all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(space).or_insert_with(|| broadcast::Sender::new(MESSAGES_KEPT)).clone()
    }

    /// Ticks with every change of what a handle of the space shows: of what is BLACK of it too, of
    /// which no session hears.
    pub(crate) fn shown(&self, space: &SpaceName) -> watch::Sender<u64> {
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(space.clone()).or_default().clone()
    }

    /// Ticks with every change of a space.
    fn changed(&self, space: SpaceId) -> watch::Sender<u64> {
        let mut all = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(space).or_default().clone()
    }
}

/// A space that is open.
pub(crate) struct OpenSpace {
    pub(crate) reader: larder_engine::Space,
    pub(crate) changed: watch::Sender<u64>,
    /// New acknowledgements, each with the number of the session that took them in, for all other
    /// sessions of the space.
    pub(crate) acks: broadcast::Sender<(u64, Vec<Ack>)>,
    /// Sealed messages for all sessions of the space.
    pub(crate) said: broadcast::Sender<Arc<Vec<u8>>>,
    /// Messages that came on them.
    pub(crate) heard: broadcast::Sender<Message>,
    pub(crate) blobs: Traffic,
    writer: Option<Writer>,
}

impl OpenSpace {
    fn start(
        reader: larder_engine::Space,
        writer: Option<larder_engine::SpaceWriter>,
        channels: &Channels,
    ) -> Result<Arc<Self>> {
        let changed = channels.changed(reader.id());
        let heard = channels.heard(reader.id());
        let beside = reader.name().companion_of();
        let told = channels.events.clone();
        let of: Vec<_> = beside.iter().chain([reader.name()]).cloned().collect();
        reader.on_state_change(move || {
            for space in of.iter().cloned() {
                let _ = told.send(Event::StateChanged { space });
            }
        });
        let shown = [Some(reader.name()), beside.as_ref()].into_iter().flatten();
        let ticks = shown.map(|name| channels.shown(name)).chain([changed.clone()]).collect();
        let start = |writer| Writer::start(writer, Ticks(ticks), channels.events.clone());
        let writer = writer.map(start).transpose()?;
        let acks = broadcast::Sender::new(ACKS_KEPT);
        let said = broadcast::Sender::new(MESSAGES_KEPT);
        let blobs = Traffic::default();
        Ok(Arc::new(Self { reader, changed, acks, said, heard, blobs, writer }))
    }

    pub(crate) fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or(Error::Engine(larder_engine::Error::ReadOnly))
    }
}

impl Node {
    pub(crate) fn new(engine: larder_engine::Profile, channels: Arc<Channels>) -> Arc<Self> {
        let told = channels.events.clone();
        engine.on_security(move || drop(told.send(Event::Security)));
        Arc::new(Self {
            engine,
            channels,
            stop: watch::Sender::new(false),
            network: Network::default(),
            spaces: RwLock::default(),
            opening: Mutex::default(),
            names: Mutex::default(),
            unread: Mutex::default(),
        })
    }

    pub(crate) fn black(&self) -> MutexGuard<'_, Option<BTreeSet<SpaceName>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is BLACK of a space could be read, or not: whoever asks for the space's state is told
    /// of a change.
    pub(crate) fn note_unread(&self, black: &SpaceName, is_unread: bool) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = if is_unread { unread.insert(black.clone()) } else { unread.remove(black) };
        drop(unread);
        if let Some(space) = black.companion_of().filter(|_| is_new) {
            self.tell(Event::StateChanged { space });
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        // Fails only if nobody listens.
        let _ = self.channels.events.send(event);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves once the profile is closed or dropped.
    pub(crate) async fn stopped(&self) {
        // Fails only if the sender is gone, and that is in `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_stopped() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Fails unless other devices can be spoken to.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.engine.is_read_only() {
            return Err(Error::Engine(larder_engine::Error::ReadOnly));
        }
        Ok(())
    }
}

/// Spaces.
impl Node {
    pub(crate) fn open_spaces(&self) -> Vec<Arc<OpenSpace>> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.values().cloned().collect()
    }

    fn find(&self, name: &SpaceName) -> Option<Arc<OpenSpace>> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.get(name).cloned()
    }

    pub(crate) fn space_by_id(&self, id: &SpaceId) -> Option<Arc<OpenSpace>> {
        self.open_spaces().into_iter().find(|space| space.reader.id() == *id)
    }

    fn keep(&self, space: &Arc<OpenSpace>) {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        spaces.insert(space.reader.name().clone(), space.clone());
    }

    fn forget(&self, name: &SpaceName) {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        spaces.remove(name);
    }

    /// Closes a space, if it is open; who asks for it next has it opened anew.
    pub(crate) async fn let_go_of(&self, id: &SpaceId) -> Result<()> {
        let Some(space) = self.space_by_id(id) else { return Ok(()) };
        self.forget(space.reader.name());
        if let Ok(writer) = space.writer() {
            writer.close().await?;
        }
        blocking(move || space.reader.close()).await
    }

    pub(crate) async fn space(self: &Arc<Self>, name: &SpaceName) -> Result<Arc<OpenSpace>> {
        self.check_open()?;
        if let Some(space) = self.find(name) {
            return Ok(space);
        }
        let (node, name) = (Arc::clone(self), name.clone());
        apart(move || node.space_blocking(&name)).await
    }

    /// [`Node::space`] on the caller's own thread.
    pub(crate) fn space_blocking(&self, name: &SpaceName) -> Result<Arc<OpenSpace>> {
        self.check_open()?;
        if let Some(space) = self.find(name) {
            return Ok(space);
        }
        self.take_in_blocking(|node| match node.find(name) {
            Some(space) => Ok(Taken::Open(space)),
            None => node
                .engine
                .open_space(name)
                .map(|(reader, writer)| Taken::New(reader, Box::new(writer))),
        })
    }

    pub(crate) async fn create_space(
        self: &Arc<Self>,
        name: &SpaceName,
        kit: Option<&RecoveryKit>,
    ) -> Result<Arc<OpenSpace>> {
        self.check_open()?;
        let (node, name, kit) = (Arc::clone(self), name.clone(), kit.cloned());
        apart(move || node.create_space_blocking(&name, kit.as_ref())).await
    }

    /// [`Node::create_space`] on the caller's own thread.
    pub(crate) fn create_space_blocking(
        &self,
        name: &SpaceName,
        kit: Option<&RecoveryKit>,
    ) -> Result<Arc<OpenSpace>> {
        let made = self.take_in_blocking(|node| {
            let kit = kit.map(RecoveryKit::secret);
            let (reader, writer) = node.engine.create_space_with(name, kit)?;
            Ok(Taken::New(reader, Box::new(Some(writer))))
        })?;
        if let Some(all) = &mut *self.black() {
            all.insert(name.clone());
        }
        Ok(made)
    }

    /// Opens a space by `work`, one at a time, and keeps it, even if the caller stops waiting: the
    /// engine gives out a space's writer once.
    pub(crate) async fn take_in(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> larder_engine::Result<Taken> + Send + 'static,
    ) -> Result<Arc<OpenSpace>> {
        let node = Arc::clone(self);
        apart(move || node.take_in_blocking(work)).await
    }

    fn take_in_blocking(
        &self,
        work: impl FnOnce(&Self) -> larder_engine::Result<Taken>,
    ) -> Result<Arc<OpenSpace>> {
        let _one_at_a_time = self.one_at_a_time()?;
        let begun = Instant::now();
        let taken = work(self)?;
        metrics::opened("space", begun);
        match taken {
            Taken::Open(space) => Ok(space),
            Taken::New(reader, writer) => {
                let space = OpenSpace::start(reader, *writer, &self.channels)?;
                self.keep(&space);
                Ok(space)
            }
        }
    }

    /// Nothing else is opened meanwhile, and the profile is not closed.
    fn one_at_a_time(&self) -> Result<MutexGuard<'_, ()>> {
        let guard = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_open()?;
        Ok(guard)
    }

    /// Makes a space anew whose file cannot be read.
    pub(crate) async fn set_aside(
        self: &Arc<Self>,
        name: &SpaceName,
        is_gone: bool,
    ) -> Result<SetAside> {
        self.check_writable()?;
        let (node, name) = (Arc::clone(self), name.clone());
        apart(move || {
            let _one_at_a_time = node.one_at_a_time()?;
            if node.find(&name).is_some() {
                let message = format!("the space '{name}' is open: nothing is set aside");
                return Err(larder_engine::Error::Invalid(message).into());
            }
            let engine = &node.engine;
            Ok(if is_gone { engine.begin_anew(&name) } else { engine.set_aside(&name) }?)
        })
        .await
    }

    /// Opens every space of the profile. One that fails keeps no other from being opened; each
    /// failure is told once as an event and returned.
    pub(crate) async fn open_all(self: &Arc<Self>) -> Result<Vec<(SpaceName, Error)>> {
        let node = Arc::clone(self);
        let names = blocking(move || node.engine.space_names()).await?;
        let mut failed = Vec::new();
        for name in names {
            if let Err(error) = self.space(&name).await {
                self.tell(Event::SyncFailed {
                    space: Some(name.clone()),
                    peer: None,
                    message: error.to_string(),
                });
                failed.push((name, error));
            }
        }
        Ok(failed)
    }

    /// What the owner of the device with this transport key calls it; empty if nobody knows.
    pub(crate) fn label_of(&self, peer: &TransportId) -> String {
        let spaces = self.open_spaces();
        spaces.iter().find_map(|space| space.reader.device_label(peer)).unwrap_or_default()
    }
}

pub(crate) enum Taken {
    Open(Arc<OpenSpace>),
    New(larder_engine::Space, Box<Option<larder_engine::SpaceWriter>>),
}

/// Closing.
impl Node {
    pub(crate) async fn close(self: &Arc<Self>) -> Result<()> {
        let node = Arc::clone(self);
        to_the_end(async move {
            if node.stop.send_replace(true) {
                return Ok(());
            }
            node.network.close().await;
            // What is being opened now is open then, and nothing else is opened from then on.
            let opening = Arc::clone(&node);
            let opened = apart(move || {
                drop(opening.opening.lock());
                Ok(())
            });
            let mut result = opened.await;
            for space in node.open_spaces() {
                if let Ok(writer) = space.writer() {
                    result = result.and(writer.close().await);
                }
                let reader = space.reader.clone();
                result = result.and(blocking(move || reader.close()).await);
            }
            let engine = node.engine.clone();
            result.and(blocking(move || engine.close()).await)
        })
        .await
    }
}

/// Messages kept for a receiver that is behind.
const MESSAGES_KEPT: usize = 64;
/// Events kept for a receiver that is behind.
const EVENTS_KEPT: usize = 1024;
/// Lots of acknowledgements kept for a session that is behind; what it misses goes out with the
/// next session.
const ACKS_KEPT: usize = 64;
