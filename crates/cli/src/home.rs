//! Where the profile is, and how a command comes by it.

use std::ffi::OsString;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use larder::{Band, Options, Profile, Purged, RecoveryKit, Renewed, Space, SpaceName, Unlock};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::args::{Cost, Global, Place};
use crate::commands::{Passphrase, Purge};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::passphrase::{self, Which};
use crate::turns::{Keys, Turn, Turns};

/// The profile's directory: the option, `$LARDER_HOME`, or the platform's place.
pub(crate) fn profile_dir(global: &Global) -> anyhow::Result<PathBuf> {
    choose_dir(global.profile.clone(), std::env::var_os("LARDER_HOME"), || {
        // Not the roaming directory: device keys belong to this machine alone.
        directories::ProjectDirs::from("", "", "larder").map(|dirs| dirs.data_local_dir().into())
    })
    .ok_or_else(|| {
        Failure::error(
            Exit::Usage,
            "this system has no data directory: say where the profile is with --profile DIR",
        )
    })
}

fn choose_dir(
    option: Option<PathBuf>,
    variable: Option<OsString>,
    platform: impl FnOnce() -> Option<PathBuf>,
) -> Option<PathBuf> {
    option
        .or_else(|| variable.filter(|value| !value.is_empty()).map(PathBuf::from))
        .or_else(platform)
}

/// One run of the command: its global options, where its results go, and whether to stop.
pub(crate) struct Call<'a> {
    global: &'a Global,
    console: &'a Console,
    /// What is open here already.
    served: Option<Guest<'a>>,
    /// What documents are shown up to, if that is less than the device is cleared for.
    pub(crate) clearance: Option<Band>,
    pub(crate) stop: Interrupt,
    pub(crate) out: Output<'a>,
}

impl<'a> Call<'a> {
    /// This process's own command.
    pub(crate) fn own(global: &'a Global) -> Self {
        let (console, stop) = (&Console::Own, Interrupt::default());
        let (served, clearance) = (None, global.show_up_to.map(Band::from));
        let out = Output::new(global.json, console);
        Self { global, console, served, clearance, stop, out }
    }

    /// The command of another process, on a profile that is open here as long as it has its turn.
    #[cfg(unix)]
    pub(crate) fn served(
        global: &'a Global,
        console: &'a Console,
        stop: Interrupt,
        (served, turn): (Served, Turn),
        dir: &'a Path,
    ) -> Self {
        let asked = global.show_up_to.map(Band::from);
        let clearance = asked.into_iter().chain(served.clearance).min();
        let served = Some(Guest { served, turn: Mutex::new(Some(turn)), dir });
        Self { global, console, served, clearance, stop, out: Output::new(global.json, console) }
    }

    /// Where a path leads that somebody wrote.
    pub(crate) fn path(&self, place: &Place) -> PathBuf {
        place.within(self.served.as_ref().map_or(Path::new(""), |guest| guest.dir))
    }

    /// The next line of stdin, if there is one.
    pub(crate) async fn line(&self) -> std::io::Result<Option<Zeroizing<String>>> {
        self.console.line().await
    }

    /// What a person has typed until now answers nothing that is asked from here on.
    pub(crate) fn forget_typed(&self) -> std::io::Result<()> {
        self.console.forget_typed()
    }

    /// Whether a person types what comes on stdin.
    pub(crate) fn is_typed(&self) -> bool {
        self.console.is_typed()
    }

    pub(crate) fn stdin(&self) -> Box<dyn Read + 'a> {
        self.console.stdin()
    }

    /// Whether the profile is not this command's own.
    pub(crate) const fn is_served(&self) -> bool {
        self.served.is_some()
    }

    /// A passphrase, from where whoever gave the command has it.
    async fn passphrase(
        &self,
        which: Which,
        new_file: Option<&Path>,
    ) -> anyhow::Result<Zeroizing<String>> {
        tokio::select! {
            read = self.console.passphrase(self.global, which, new_file) => read,
            () = self.stop.asked() => {
                Err(Failure::error(Exit::Interrupted, "stopped before anything was done"))
            }
        }
    }

    /// From here on Ctrl-C is the command's to handle. While a person types a passphrase, it ends
    /// the process as ever.
    fn handle_interrupts(&self) {
        if !self.is_served() {
            self.stop.listen();
        }
    }

    /// Opens the profile, or says what to do.
    pub(crate) async fn open(&self) -> anyhow::Result<Opened> {
        if let Some(Guest { served, .. }) = &self.served {
            let (profile, clearance) = (served.profile.clone(), self.clearance);
            return Ok(Opened { profile, is_own: false, clearance });
        }
        let dir = self.existing()?;
        let unlock = Unlock::Passphrase(self.passphrase(Which::Present, None).await?);
        self.handle_interrupts();
        let profile = Profile::open(&dir, unlock, Options::default()).await?;
        Ok(Opened { profile, is_own: true, clearance: self.clearance })
    }

    /// Does `work` in the directory of the profile while nobody has it open: where it is served, it
    /// is closed for that, and opened again.
    async fn alone<T, D>(
        &self,
        (dir, keys): (PathBuf, Keys),
        work: impl FnOnce(PathBuf, Keys) -> D,
    ) -> anyhow::Result<T>
    where
        T: Send + 'static,
        D: Future<Output = larder::Result<T>> + Send + 'static,
    {
        let work = work(dir, keys.clone());
        let Some(Guest { served, turn, .. }) = &self.served else { return Ok(work.await?) };
        drop(turn.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (served, stop) = (served.clone(), self.stop.clone());
        // A task of its own: whoever asked may have stopped to read, and would keep it closed.
        let alone = async move { served.turns.alone(&served.profile, &keys, &stop, work).await };
        tokio::spawn(alone).await?
    }

    /// What it takes to work with the profile alone.
    async fn keys(&self) -> anyhow::Result<(PathBuf, Keys)> {
        let dir = self.existing()?;
        let old = self.passphrase(Which::Present, None).await?;
        self.handle_interrupts();
        Ok((dir, Keys { old, new: None }))
    }

    /// Purges the profile; whether it has a new passphrase is told as well. `progress` has how many
    /// of how many bytes are written.
    pub(crate) async fn purge(
        &self,
        args: &Purge,
        progress: watch::Sender<(u64, u64)>,
    ) -> anyhow::Result<(Purged, bool)> {
        let dir = self.existing()?;
        let old = self.passphrase(Which::Present, None).await?;
        let file = args.new_passphrase_file.as_deref();
        let new = if args.has_new_passphrase() {
            Some(self.passphrase(Which::New, file).await?)
        } else {
            None
        };
        self.handle_interrupts();
        let (leave, is_new) = (args.leave, new.is_some());
        let purge = async move |dir: PathBuf, keys: Keys| {
            if leave {
                let profile = Profile::open(&dir, keys.unlock(), Options::default()).await?;
                for space in profile.spaces().await? {
                    space.leave_behind().await?;
                }
                profile.close().await?;
            }
            let tell = move |done, total| {
                progress.send_replace((done, total));
            };
            Profile::purge(&dir, keys.unlock(), keys.next_unlock(), tell).await
        };
        Ok((self.alone((dir, Keys { old, new }), purge).await?, is_new))
    }

    /// Gives the profile new keys.
    pub(crate) async fn renew(&self) -> anyhow::Result<Renewed> {
        let renew = async move |dir, keys: Keys| Profile::renew(dir, keys.unlock()).await;
        self.alone(self.keys().await?, renew).await
    }

    /// Has a space go on that no other device has, or none that is not lost.
    pub(crate) async fn go_on_alone(
        &self,
        space: &SpaceName,
        kit: Option<RecoveryKit>,
    ) -> anyhow::Result<()> {
        let space = space.clone();
        let go_on = async move |dir: PathBuf, keys: Keys| match &kit {
            None => Profile::go_on_alone(&dir, keys.unlock(), &space).await,
            Some(kit) => Profile::recover_alone(&dir, keys.unlock(), &space, kit).await,
        };
        self.alone(self.keys().await?, go_on).await
    }

    /// Opens the profile, and answers with what opened it and with what is to.
    pub(crate) async fn open_to_change_passphrase(
        &self,
        args: &Passphrase,
    ) -> anyhow::Result<(Opened, Unlock, Unlock)> {
        let dir = self.existing()?;
        let old = self.passphrase(Which::Present, None).await?;
        let unlock = || Unlock::Passphrase(old.clone());
        // Before anybody thinks of a new one.
        let profile = if self.is_served() {
            let profile = self.open().await?;
            profile.check_unlock(unlock()).await?;
            profile
        } else {
            let profile = Profile::open(&dir, unlock(), Options::default()).await?;
            Opened { profile, is_own: true, clearance: None }
        };
        let file = args.new_passphrase_file.as_deref();
        let new = self.passphrase(Which::New, file).await?;
        self.handle_interrupts();
        Ok((profile, unlock(), Unlock::Passphrase(new)))
    }

    /// The profile's directory, if there is a profile in it.
    fn existing(&self) -> anyhow::Result<PathBuf> {
        let served = self.served.as_ref().and_then(|guest| guest.served.profile.dir());
        if let Some(dir) = served {
            return Ok(dir.to_owned());
        }
        let dir = profile_dir(self.global)?;
        if !Profile::exists(&dir) {
            return Err(Failure::error(
                Exit::NotFound,
                format!(
                    "there is no profile at {}: make one with `larder init`, or name another with \
                     --profile DIR",
                    dir.display()
                ),
            ));
        }
        Ok(dir)
    }

    /// Makes the profile.
    pub(crate) async fn create(
        &self,
        label: String,
        cost: Cost,
    ) -> anyhow::Result<(PathBuf, Profile)> {
        let dir = profile_dir(self.global)?;
        if Profile::exists(&dir) {
            return Err(Failure::error(
                Exit::Failed,
                format!(
                    "there is a profile at {} already: use it, or name another place with \
                     --profile DIR",
                    dir.display()
                ),
            ));
        }
        let unlock = Unlock::Passphrase(passphrase::present(self.global, true)?);
        self.handle_interrupts();
        let mut options = Options::default().label(label);
        if cost == Cost::Low {
            options = options.passphrase_cost(low_cost());
        }
        let profile = Profile::create(&dir, unlock, options).await?;
        Ok((dir, profile))
    }
}

/// A profile that a command works on.
pub(crate) struct Opened {
    profile: Profile,
    is_own: bool,
    clearance: Option<Band>,
}

/// A profile that is open in this process for the commands of others, and up to which band.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) profile: Profile,
    #[cfg(unix)]
    pub(crate) clearance: Option<Band>,
    pub(crate) turns: Turns,
}

/// A command of another process.
struct Guest<'a> {
    served: Served,
    /// Given up by a command that has the profile closed.
    turn: Mutex<Option<Turn>>,
    /// The current directory of whoever asks.
    dir: &'a Path,
}

impl Opened {
    /// A space, up to the band that the command is for.
    pub(crate) async fn space(&self, name: &SpaceName) -> larder::Result<Space> {
        let space = self.profile.space(name).await?;
        Ok(match self.clearance {
            Some(band) => space.at_clearance(band),
            None => space,
        })
    }

    /// Closes it, unless it is another command's.
    pub(crate) async fn close(&self) -> larder::Result<()> {
        if self.is_own { self.profile.close().await } else { Ok(()) }
    }
}

impl Deref for Opened {
    type Target = Profile;

    fn deref(&self) -> &Profile {
        &self.profile
    }
}

fn low_cost() -> larder::Argon2Params {
    larder::Argon2Params { memory_kib: 8 * 1024, passes: 1, lanes: 1 }
}

/// What this machine calls itself.
pub(crate) fn host_name() -> String {
    let file = |path| std::fs::read_to_string(path).ok();
    let name = file("/proc/sys/kernel/hostname")
        .or_else(|| file("/etc/hostname"))
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this device".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_variable_over_the_platform() {
        let platform = || Some(PathBuf::from("platform"));
        let choose = |option: Option<&str>, variable: Option<&str>| {
            choose_dir(option.map(PathBuf::from), variable.map(OsString::from), platform)
        };
        assert_eq!(choose(Some("option"), Some("variable")), Some("option".into()));
        assert_eq!(choose(None, Some("variable")), Some("variable".into()));
        assert_eq!(choose(None, Some("")), Some("platform".into()));
        assert_eq!(choose_dir(None, None, || None), None);
    }
}
