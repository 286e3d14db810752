use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use larder_engine::{
    Access, CheckReport, CheckedPart, Finding, Outcome, ProfileOptions, PurgeProgress, Purged,
    Renewed, SetAside, Terms, Unlock,
};
use larder_types::{SpaceKind, SpaceName, TransportId};
use tokio::sync::{broadcast, watch};

use crate::connections;
use crate::error::{blocking, to_the_end, told};
use crate::metrics;
use crate::node::{Channels, Node, OpenSpace};
use crate::space::PAGE_BYTES;
use crate::status::{Checked, PeerStatus, Status, Unopened};
use crate::system::System;
use crate::{
    Error, ErrorKind, Event, Invitation, Joining, NetworkPolicy, Options, PeerReport, RecoveryKit,
    Result, Space, SpaceReport,
};

/// One installation's local home: its keys, its spaces, and its connections with other devices.
/// Cheap to clone.
///
/// One process at a time owns a profile. Everything it does in the background ends with
/// [`Profile::close`], or when the last handle, this or a [`Space`], is dropped; what was committed
/// is safe either way.
#[derive(Clone)]
pub struct Profile {
    handles: Arc<Handles>,
}

/// What all public handles of one profile share. When the last of them is dropped, everything that
/// runs in the background ends.
pub(crate) struct Handles {
    /// None while the profile is closed: nothing of it is in memory then, keys least of all.
    node: RwLock<Option<Arc<Node>>>,
    channels: Arc<Channels>,
    /// How it was opened.
    options: ProfileOptions,
    label: String,
    /// As it was opened last: it is another once the keys were renewed.
    transport: RwLock<TransportId>,
    read_only: bool,
    dir: Option<PathBuf>,
    /// Held while it is opened anew.
    reopening: tokio::sync::Mutex<()>,
}

impl Handles {
    fn new(engine: larder_engine::Profile, options: ProfileOptions) -> Arc<Self> {
        let channels = Arc::new(Channels::new());
        Arc::new(Self {
            label: engine.label().to_owned(),
            transport: RwLock::new(engine.transport_id()),
            read_only: engine.is_read_only(),
            dir: engine.dir().map(Path::to_owned),
            node: RwLock::new(Some(Node::new(engine, Arc::clone(&channels)))),
            channels,
            options,
            reopening: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn node(&self) -> Result<Arc<Node>> {
        let node = self.node.read().unwrap_or_else(PoisonError::into_inner);
        node.clone().ok_or(Error::Closed)
    }

    pub(crate) fn shown(&self, space: &SpaceName) -> watch::Sender<u64> {
        self.channels.shown(space)
    }

    fn set_transport(&self, id: TransportId) {
        *self.transport.write().unwrap_or_else(PoisonError::into_inner) = id;
    }

    fn set_node(&self, node: Option<Arc<Node>>) -> Option<Arc<Node>> {
        let mut place = self.node.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, node)
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        if let Some(node) = self.set_node(None) {
            node.stop.send_replace(true);
            node.network.abandon();
        }
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("label", &self.handles.label).finish_non_exhaustive()
    }
}

/// Making, opening and closing.
impl Profile {
    /// Makes a profile in `dir`, which is created if it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is one; [`ErrorKind::Io`].
    pub async fn create(dir: impl AsRef<Path>, unlock: Unlock, options: Options) -> Result<Self> {
        let dir = dir.as_ref().to_owned();
        let options = options.into_engine();
        let given = options.clone();
        let made = blocking(move || {
            larder_engine::Profile::create(Arc::new(System), &dir, &unlock, given)
        });
        Ok(Self { handles: Handles::new(made.await?, options) })
    }

    /// Opens the profile in `dir`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::WrongPassphrase`], and nothing was
    /// touched; [`ErrorKind::InUse`] if another process has it open; [`ErrorKind::Corrupt`],
    /// [`ErrorKind::Io`].
    pub async fn open(dir: impl AsRef<Path>, unlock: Unlock, options: Options) -> Result<Self> {
        Self::open_as(dir.as_ref(), unlock, Access::ReadWrite, options).await
    }

    /// Opens the profile in `dir` for reading only: nothing in it is changed, and it speaks to no
    /// other device.
    ///
    /// # Errors
    /// As [`Profile::open`].
    pub async fn open_read_only(dir: impl AsRef<Path>, unlock: Unlock) -> Result<Self> {
        Self::open_as(dir.as_ref(), unlock, Access::ReadOnly, Options::default()).await
    }

    /// A profile that is gone when it is closed: for tests and for trying things out. It can do
    /// all that others can, sync included.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`].
    pub async fn in_memory(options: Options) -> Result<Self> {
        let options = options.into_engine();
        let given = options.clone();
        let made = blocking(move || larder_engine::Profile::in_memory(Arc::new(System), given));
        Ok(Self { handles: Handles::new(made.await?, options) })
    }

    /// Whether there is a profile in `dir`. A directory that cannot be looked into has none.
    pub fn exists(dir: impl AsRef<Path>) -> bool {
        larder_engine::Profile::exists(&System, dir.as_ref()).unwrap_or(false)
    }

    /// Ends what runs in the background, tells the peers, and closes every file and socket, as
    /// systems for phones ask before they suspend an app. What was committed is safe with or
    /// without this. All handles then fail with [`Error::Closed`](crate::Error::Closed), until
    /// [`Profile::reopen`]; no key is kept for that.
    ///
    /// # Errors
    /// The storage's, of writing its journals back; they are kept and read at the next opening.
    pub async fn close(&self) -> Result<()> {
        let handles = Arc::clone(&self.handles);
        to_the_end(async move {
            // Only one closes it; who comes later waits for that.
            let _one_at_a_time = handles.reopening.lock().await;
            match handles.set_node(None) {
                Some(node) => node.close().await,
                None => Ok(()),
            }
        })
        .await
    }

    /// Opens the profile anew after [`Profile::close`], as it was opened before. All handles of it
    /// and of its spaces work again, and so do receivers of [`Profile::events`] and
    /// [`Space::changed`]; what had ended goes on when it is asked for: [`Profile::listen`],
    /// [`Profile::follow`], [`Profile::discover`]. A profile that is open stays as it is.
    ///
    /// # Errors
    /// As [`Profile::open`]; [`ErrorKind::NotFound`] for a profile in memory, which is gone.
    pub async fn reopen(&self, unlock: Unlock) -> Result<()> {
        let handles = Arc::clone(&self.handles);
        to_the_end(async move {
            let _one_at_a_time = handles.reopening.lock().await;
            if handles.node().is_ok() {
                return Ok(());
            }
            let Some(dir) = &handles.dir else {
                let message = "a profile in memory is gone once it is closed".to_owned();
                return Err(larder_engine::Error::NotFound(message).into());
            };
            let access = if handles.read_only { Access::ReadOnly } else { Access::ReadWrite };
            let engine = open_engine(dir, unlock, access, &handles.options).await?;
            handles.set_transport(engine.transport_id());
            handles.set_node(Some(Node::new(engine, Arc::clone(&handles.channels))));
            Ok(())
        })
        .await
    }

    /// Writes everything of the profile in `dir`, which must not be open anywhere, anew under new
    /// keys, and removes the old files: what is left of those on the medium, in free blocks of a
    /// flash memory for one, opens with nothing that is kept. `new` replaces what opens the
    /// profile. `progress` is told how many of how many bytes are written. Needs as much room
    /// again as the profile has on disk, until it is done.
    ///
    /// If it is cut, all is as it was, and [`Status::purge_wished`] says so until it is done.
    ///
    /// A copy of the whole profile that was made before still opens with what opened it then.
    ///
    /// # Errors
    /// As [`Profile::open`]; [`ErrorKind::Invalid`] if what was set aside of a space may hold what
    /// is nowhere else ([`Space::leave_behind`]); [`ErrorKind::DiskFull`] and the storage's. All is
    /// as it was then.
    pub async fn purge(
        dir: impl AsRef<Path>,
        unlock: Unlock,
        new: Option<Unlock>,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Purged> {
        let dir = dir.as_ref().to_owned();
        let (telling, tells) = watch::channel((0, 0));
        let purge = blocking(move || {
            let tell = &mut |progress: PurgeProgress| {
                telling.send_replace((progress.pages, progress.pages_total));
            };
            larder_engine::Profile::purge(Arc::new(System), &dir, &unlock, new.as_ref(), tell)
        });
        told(purge, tells, |done, total| progress(done * PAGE_BYTES, total * PAGE_BYTES)).await
    }

    /// Gives the profile in `dir`, which must not be open anywhere, new keys: for a copy of a
    /// profile, or one that was restored from an older copy, which would sign otherwise what the
    /// other one has signed. It is a device of its own from then on. Each of its spaces can be
    /// read, and written once it was joined again by an invitation ([`Profile::begin_join`]); what
    /// only this copy has is carried over then, by itself, as soon as it has heard all that another
    /// device has ([`Event::Carried`], [`Space::carried`]). Of a space that nobody else had when
    /// this copy was made, a person who knows that nobody joined since may say that it goes on
    /// ([`Profile::go_on_alone`]).
    ///
    /// If it is cut, either nothing was changed or all of it.
    ///
    /// # Errors
    /// As [`Profile::open`]; the storage's.
    pub async fn renew(dir: impl AsRef<Path>, unlock: Unlock) -> Result<Renewed> {
        let dir = dir.as_ref().to_owned();
        blocking(move || larder_engine::Profile::renew(Arc::new(System), &dir, &unlock)).await
    }

    /// Has a space of the profile in `dir`, which must not be open anywhere, go on after
    /// [`Profile::renew`] without being joined again: because no other device has it, which a
    /// person has to say. If one has joined it since this copy was made, the two have two histories
    /// of the space from then on, and do not hear of each other; [`Profile::renew`] once more, and
    /// an invitation from that one, carry over to it what was written here.
    ///
    /// # Errors
    /// As [`Profile::open`]; [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] if the space does not
    /// wait to be joined again, if other devices belong to it, or if this one was no owner of it;
    /// the storage's.
    pub async fn go_on_alone(
        dir: impl AsRef<Path>,
        unlock: Unlock,
        space: &SpaceName,
    ) -> Result<()> {
        let (dir, space) = (dir.as_ref().to_owned(), space.clone());
        let work =
            move || larder_engine::Profile::go_on_alone(Arc::new(System), &dir, &unlock, &space);
        blocking(work).await
    }

    /// The same of a space that other devices belong to, all of which are lost, whatever this one
    /// may do in it: by the words of its recovery kit. It is an owner then, and they are shut out.
    ///
    /// # Errors
    /// As [`Profile::go_on_alone`], but for the role and the others; [`ErrorKind::Invalid`] if it
    /// is another kit, or the space has none. Nothing is written then.
    pub async fn recover_alone(
        dir: impl AsRef<Path>,
        unlock: Unlock,
        space: &SpaceName,
        kit: &RecoveryKit,
    ) -> Result<()> {
        let (dir, space, kit) = (dir.as_ref().to_owned(), space.clone(), kit.clone());
        let work = move || {
            let env = Arc::new(System);
            larder_engine::Profile::recover_alone(env, &dir, &unlock, &space, kit.secret())
        };
        blocking(work).await
    }

    /// Has `new` open the profile from now on, and `old` no longer, which is asked for once more.
    /// Only the key file is written anew: if it is cut, either the old or the new opens it.
    /// What is on disk stays sealed under the same keys, so that an old copy of the key file still
    /// opens it with `old`: against who has one and knows `old`, there is [`Profile::purge`].
    ///
    /// # Errors
    /// [`ErrorKind::WrongPassphrase`] if `old` does not open it, [`ErrorKind::ReadOnly`],
    /// [`ErrorKind::Invalid`] for a profile in memory: nothing is changed. [`ErrorKind::Io`]: which
    /// of the two opens it is seen when it is opened next.
    pub async fn change_unlock(&self, old: Unlock, new: Unlock) -> Result<()> {
        let node = self.node()?;
        blocking(move || node.engine.change_unlock(&old, &new)).await
    }

    /// Fails unless `unlock` opens the profile: to be asked before [`Profile::close`] by who is to
    /// open it again.
    ///
    /// # Errors
    /// [`ErrorKind::WrongPassphrase`]; [`ErrorKind::Invalid`] for a profile in memory;
    /// [`ErrorKind::Corrupt`] if its key file was replaced.
    pub async fn check_unlock(&self, unlock: Unlock) -> Result<()> {
        let node = self.node()?;
        blocking(move || node.engine.check_unlock(&unlock)).await
    }

    async fn open_as(dir: &Path, unlock: Unlock, access: Access, options: Options) -> Result<Self> {
        let options = options.into_engine();
        let engine = open_engine(dir, unlock, access, &options).await?;
        Ok(Self { handles: Handles::new(engine, options) })
    }

    pub(crate) fn node(&self) -> Result<Arc<Node>> {
        self.handles.node()
    }

    pub(crate) fn handle(&self, space: &OpenSpace) -> Space {
        Space::new(space, Arc::clone(&self.handles))
    }
}

/// Opens a profile, and waits a moment for one that was dropped and not closed: that is let go of
/// as soon as its threads have ended.
async fn open_engine(
    dir: &Path,
    unlock: Unlock,
    access: Access,
    options: &ProfileOptions,
) -> Result<larder_engine::Profile> {
    let unlock = Arc::new(unlock);
    let begun = Instant::now();
    let mut patience = InUse::TRIES;
    loop {
        let (dir, unlock, options) = (dir.to_owned(), Arc::clone(&unlock), options.clone());
        let opened = blocking(move || {
            larder_engine::Profile::open(Arc::new(System), &dir, &unlock, access, options)
        });
        match opened.await {
            Err(error) if error.kind() == ErrorKind::InUse && patience > 0 => patience -= 1,
            result => {
                metrics::opened("profile", begun);
                return result;
            }
        }
        tokio::time::sleep(InUse::WAIT).await;
    }
}

/// Itself and its spaces.
impl Profile {
    /// What people call this device.
    pub fn label(&self) -> String {
        self.handles.label.clone()
    }

    /// Its transport key, by which its peers know it.
    pub fn transport_id(&self) -> TransportId {
        *self.handles.transport.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its directory; none for a profile in memory.
    pub fn dir(&self) -> Option<&Path> {
        self.handles.dir.as_deref()
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.handles.read_only
    }

    /// Founds a space, whose only device is this one.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the profile has a space of this name;
    /// [`ErrorKind::ReadOnly`]; the storage's.
    pub async fn create_space(&self, name: &SpaceName) -> Result<Space> {
        Ok(self.handle(&*self.node()?.create_space(name, None).await?))
    }

    /// The same, with a recovery kit: its words, with any device's copy of the space, give the
    /// space back if no owner's device is left ([`Space::recover`]). Have them written down, and
    /// some of them typed back, before. A space that was made without one gets none later.
    ///
    /// # Errors
    /// As [`Profile::create_space`].
    pub async fn create_space_with_kit(
        &self,
        name: &SpaceName,
        kit: &RecoveryKit,
    ) -> Result<Space> {
        Ok(self.handle(&*self.node()?.create_space(name, Some(kit)).await?))
    }

    /// A space of the profile.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has none of this name; [`ErrorKind::Corrupt`] and the
    /// storage's.
    pub async fn space(&self, name: &SpaceName) -> Result<Space> {
        Ok(self.handle(&*self.node()?.space(name).await?))
    }

    /// All spaces of the profile.
    ///
    /// # Errors
    /// As [`Profile::space`], if any of them cannot be opened.
    pub async fn spaces(&self) -> Result<Vec<Space>> {
        let node = self.node()?;
        if let Some((_, error)) = node.open_all().await?.into_iter().next() {
            return Err(error);
        }
        Ok(self.open_spaces(&node))
    }

    /// The spaces of the profile that can be opened, and those that cannot.
    ///
    /// # Errors
    /// The storage's, if not even their names can be read.
    pub async fn spaces_and_unopened(&self) -> Result<(Vec<Space>, Vec<Unopened>)> {
        let node = self.node()?;
        let failed = node.open_all().await?.into_iter();
        let unopened = failed.map(|(name, error)| Unopened { name, what: error.to_string() });
        Ok((self.open_spaces(&node), unopened.collect()))
    }

    fn open_spaces(&self, node: &Arc<Node>) -> Vec<Space> {
        node.open_spaces().iter().map(|space| self.handle(space)).collect()
    }

    /// Reads every file of the profile and checks it: its own first, then each space's, against its
    /// log ([`Space::check`]). What is damaged does not keep the rest from being checked.
    ///
    /// # Errors
    /// The storage's, if not even the spaces' names can be read.
    pub async fn check(&self) -> Result<Vec<Checked>> {
        self.check_all(None, false).await
    }

    /// [`Profile::check`] of one space, and of what is BLACK of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; as [`Profile::check`].
    pub async fn check_space(&self, name: &SpaceName) -> Result<Vec<Checked>> {
        self.check_all(Some(name), false).await
    }

    /// [`Profile::repair`] of one space, and of what is BLACK of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; as [`Profile::repair`].
    pub async fn repair_space(&self, name: &SpaceName) -> Result<Vec<Checked>> {
        self.node()?.check_writable()?;
        self.check_all(Some(name), true).await
    }

    /// [`Profile::check`], and mends what can be mended ([`Space::repair`]). A space whose file
    /// cannot be read is set aside and made anew ([`Profile::set_aside`]).
    ///
    /// # Errors
    /// As [`Profile::check`]; [`ErrorKind::ReadOnly`].
    pub async fn repair(&self) -> Result<Vec<Checked>> {
        self.node()?.check_writable()?;
        self.check_all(None, true).await
    }

    /// Sets a space's file aside that cannot be read: it gets another name, which is returned. The
    /// space is made anew with all that can be read in the file, and for the rest with what other
    /// devices send. It is read-only until this device holds all again that it has signed, so that
    /// its log gets no second history; [`Space::state`] says what it waits for.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the space can be opened, or its file is not there
    /// ([`Profile::begin_anew`]); [`ErrorKind::ReadOnly`]; [`ErrorKind::Corrupt`] if the profile
    /// has not what it takes: then this device has to be invited again.
    pub async fn set_aside(&self, name: &SpaceName) -> Result<SetAside> {
        self.node()?.set_aside(name, false).await
    }

    /// [`Profile::set_aside`] for a space whose file is gone for good. One that is only elsewhere
    /// for now would count for nothing, and be removed, when it is back.
    ///
    /// # Errors
    /// As [`Profile::set_aside`]; [`ErrorKind::Invalid`] if there is another file of the space.
    pub async fn begin_anew(&self, name: &SpaceName) -> Result<SetAside> {
        self.node()?.set_aside(name, true).await
    }

    async fn replaced(&self, name: &SpaceName) -> Result<CheckReport> {
        let aside = self.set_aside(name).await?;
        let mut report = self.space(name).await?.repair().await?;
        let kept = match &aside.file {
            Some(file) => format!("the file was kept as {file}"),
            None => "the file was not there any more".to_owned(),
        };
        let (why, entries) = (aside.why, aside.entries);
        let (rest, outcome) = match name.kind() {
            SpaceKind::Black => ("what could not be is nowhere else", Outcome::Mended),
            _ => ("the rest is asked for", Outcome::Wanted),
        };
        let what = format!("{why}; {kept}; {entries} entries were read in it, {rest}");
        let part = CheckedPart::Database;
        let whole = Finding { part, device: None, seq: None, object: None, what, outcome };
        report.findings.insert(0, whole);
        Ok(report)
    }

    async fn check_all(&self, only: Option<&SpaceName>, repair: bool) -> Result<Vec<Checked>> {
        let node = self.node()?;
        let (own, mut names) =
            blocking(move || Ok((node.engine.check(), node.engine.space_names()?))).await?;
        let own = own.map(|()| CheckReport::default()).map_err(Into::into);
        let mut checked = vec![Checked { space: None, result: own }];
        if let Some(only) = only {
            if !names.contains(only) {
                let message = format!("there is no space '{only}' here");
                return Err(larder_engine::Error::NotFound(message).into());
            }
            checked.clear();
            names.retain(|name| name == only || name.companion_of().as_ref() == Some(only));
        }
        for name in names {
            let result = match self.space(&name).await {
                Ok(space) if repair => space.repair().await,
                Ok(space) => space.check().await,
                // A file that is not there was perhaps about to be set aside.
                Err(error)
                    if repair
                        && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
                {
                    self.replaced(&name).await
                }
                Err(error) => Err(error),
            };
            checked.push(Checked { space: Some(name), result });
        }
        Ok(checked)
    }

    /// What there is in the profile, as far as it can be opened.
    ///
    /// # Errors
    /// The storage's.
    pub async fn status(&self) -> Result<Status> {
        let node = self.node()?;
        let (open, unopened) = self.spaces_and_unopened().await?;
        let mut spaces = Vec::new();
        for space in open {
            spaces.push(space.status().await?);
        }
        metrics::holds(&spaces);
        let asked = Arc::clone(&node);
        let (known, key_created, purge_wished) = blocking(move || {
            let profile = &asked.engine;
            Ok((profile.peers()?, profile.key_created()?, profile.purge_wished()?))
        })
        .await?;
        let peers = known.into_iter().map(|peer| PeerStatus {
            label: connections::label(&node, &peer),
            connected: node.network.is_connected(&peer.transport),
            transport: peer.transport,
            addresses: peer.addresses,
            last_seen: peer.last_seen,
        });
        Ok(Status {
            dir: self.handles.dir.clone(),
            label: self.label(),
            transport: self.transport_id(),
            read_only: self.is_read_only(),
            key_created,
            purge_wished,
            security: self.security_summary().await?,
            listening: node.network.listening().await,
            peers: peers.collect(),
            spaces,
            unopened,
        })
    }
}

/// Other devices.
impl Profile {
    /// Begins to accept connections of devices that share a space, in the background, until the
    /// profile is closed. Returns the address, with the port that was chosen. Without one it is
    /// the port of the last time on all of this machine's addresses, of IPv6 and IPv4. A profile
    /// that listens already keeps its address, unless told another one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the address cannot be listened on; [`ErrorKind::ReadOnly`].
    pub async fn listen(&self, address: Option<SocketAddr>) -> Result<SocketAddr> {
        let node = self.node()?;
        to_the_end(async move { connections::listen(&node, address).await }).await
    }

    /// Where it listens, if it does.
    pub async fn listening(&self) -> Option<SocketAddr> {
        self.node().ok()?.network.listening().await
    }

    /// Offers a space to one more device. Listens, if the profile does not yet. Whoever comes with
    /// the invitation is let in only if [`Invitation::request`] is approved.
    ///
    /// # Errors
    /// As [`Profile::space`] and [`Profile::listen`].
    pub async fn invite(&self, space: &SpaceName) -> Result<Invitation> {
        let node = self.node()?;
        let space = node.space(space).await?;
        to_the_end(async move { connections::invite(&node, &space, None).await }).await
    }

    /// The same on other terms than that it is another device of this member, with this device's
    /// role: for somebody else, say, or for a tablet that may only read.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if this device has no right to it; those of [`Profile::invite`].
    pub async fn invite_on(&self, space: &SpaceName, terms: Terms) -> Result<Invitation> {
        let node = self.node()?;
        let space = node.space(space).await?;
        to_the_end(async move { connections::invite(&node, &space, Some(terms)).await }).await
    }

    /// Offers a space to one more device in the same network by eight digits, which stand in
    /// [`Invitation::text`]; other than that it is as [`Profile::invite_on`]. While the profile is
    /// [announced](Profile::discover), the other device finds it by itself. Three wrong guesses
    /// burn it. One such invitation is open at a time.
    ///
    /// # Errors
    /// As [`Profile::invite_on`].
    pub async fn invite_by_code(
        &self,
        space: &SpaceName,
        terms: Option<Terms>,
    ) -> Result<Invitation> {
        let node = self.node()?;
        let space = node.space(space).await?;
        to_the_end(async move { connections::invite_by_code(&node, &space, terms).await }).await
    }

    /// Asks to be let in by eight digits: of the device at this address, or of one that is found
    /// on the local network within half a minute. Goes on as [`Profile::begin_join`].
    ///
    /// # Errors
    /// [`ErrorKind::Invitation`] if the digits are wrong, or not honoured any more;
    /// [`ErrorKind::Unreachable`] if nobody answers, or nobody is found;
    /// [`ErrorKind::AlreadyExists`] if the profile has the space, or one of this name.
    pub async fn begin_join_by_code(
        &self,
        code: &str,
        address: Option<SocketAddr>,
    ) -> Result<Joining> {
        let code = code.parse().map_err(Error::ShortCode)?;
        let node = self.node()?;
        let joining = connections::begin_join_by_code(&node, &code, address).await?;
        Ok(Joining::new(self.clone(), joining))
    }

    /// Asks to be let in with an invitation. Both devices show the same code then, and a person
    /// compares them; the inviting one is told, and approves.
    ///
    /// # Errors
    /// [`ErrorKind::Invitation`] if the text is none, or is not honoured any more;
    /// [`ErrorKind::Unreachable`] if the inviting device does not answer;
    /// [`ErrorKind::AlreadyExists`] if the profile has the space, or one of this name.
    pub async fn begin_join(&self, invitation: &str) -> Result<Joining> {
        let invitation = invitation.parse()?;
        let node = self.node()?;
        let joining = connections::begin_join(&node, &invitation).await?;
        Ok(Joining::new(self.clone(), joining))
    }

    /// Uses an invitation: this device becomes a device of the space, whose content comes with the
    /// next [`Profile::sync`]. It shows no code, and waits until the inviting device approves. If
    /// it was cut, the same invitation again completes it.
    ///
    /// # Errors
    /// Those of [`Profile::begin_join`] and [`Joining::approved`].
    pub async fn join(&self, invitation: &str) -> Result<Space> {
        self.begin_join(invitation).await?.approved().await
    }

    /// One pass: connects to every known peer at once, exchanges what is missing in every common
    /// space, and returns once all are done or have failed; what came from one peer meanwhile has
    /// then gone to the others, too. A peer that does not answer is given up after
    /// [`limits::HANDSHAKE_MS_MAX`](crate::limits::HANDSHAKE_MS_MAX).
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`], and the storage's; what goes wrong with one peer is in its report.
    pub async fn sync(&self) -> Result<Vec<PeerReport>> {
        connections::sync(&self.node()?, None).await
    }

    /// [`Profile::sync`] with an end, for what a phone grants an app in the background. At the
    /// deadline each session ends between two batches: what has come is durable, the reports say
    /// what is left ([`PeerReport::is_complete`]), and the next pass goes on from there. It returns
    /// within a second of the deadline.
    ///
    /// # Errors
    /// As [`Profile::sync`]; a peer that had not answered by then has
    /// [`Error::OutOfTime`](crate::Error::OutOfTime) in its report.
    pub async fn sync_until(&self, deadline: Instant) -> Result<Vec<PeerReport>> {
        connections::sync(&self.node()?, Some(deadline.into())).await
    }

    /// Says what the network may be used for from now on, and that it is another one: peers that
    /// did not answer are tried again at once.
    pub fn set_network(&self, policy: NetworkPolicy) {
        self.handles.channels.policy.send_replace(policy);
    }

    /// One pass with the device at an address, whichever of the known spaces' devices it is.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`]; [`ErrorKind::Refused`] if it is no device of any of this
    /// profile's spaces; what went wrong in the first space that failed.
    pub async fn sync_with(&self, address: SocketAddr) -> Result<Vec<SpaceReport>> {
        connections::sync_with(&self.node()?, address).await
    }

    /// Keeps a connection with every known peer, so that changes go to and fro as they are made;
    /// with back-off while a peer does not answer. Runs until the profile is closed, or until the
    /// future is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`], and the storage's.
    pub async fn follow(&self) -> Result<()> {
        let node = self.node()?;
        match connections::follow(&node).await {
            // It was asked of what is closed by now.
            Err(_) if node.is_stopped() => Ok(()),
            ended => ended,
        }
    }

    /// Finds the devices of this profile's spaces on the local network, by multicast DNS, and
    /// remembers where they are, so that [`Profile::follow`] finds them there. If the profile
    /// listens, it is announced as well, under random names that change every hour: who it is shows
    /// only to those who connect. Runs until the profile is closed, or until the future is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system has no thread or socket to give;
    /// [`ErrorKind::ReadOnly`], and the storage's.
    pub async fn discover(&self) -> Result<()> {
        connections::discover(&self.node()?).await
    }

    /// What happens between this device and others from now on. A receiver that does not keep up
    /// misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.handles.channels.events.subscribe()
    }
}

/// How long a profile that is in use is waited for.
struct InUse;

impl InUse {
    const TRIES: u32 = 20;
    const WAIT: Duration = Duration::from_millis(50);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_a_handle<T: Clone + Send + Sync>() {}
    fn is_an_error<T: std::error::Error + Send + Sync>() {}

    #[test]
    fn handles_go_to_any_task() {
        is_a_handle::<Profile>();
        is_a_handle::<Space>();
        is_an_error::<crate::Error>();
    }
}
