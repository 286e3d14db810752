//! Where the profile is, and the passphrase that opens it.
//!
//! A passphrase comes from a prompt, a file or a file descriptor; never from an argument or an
//! environment variable, which other processes can read.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::Context;
use larder::{Band, Options, Profile, Purged, RecoveryKit, Renewed, Space, SpaceName, Unlock};
use zeroize::Zeroizing;

use crate::args::{Cost, Global, Place};
use crate::commands::{Passphrase, Purge};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

const PASSPHRASE_BYTES_MAX: u64 = 4096;

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
    /// What is open here already, and the current directory of whoever asks.
    served: Option<(Profile, &'a Path)>,
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

    /// The command of another process, on a profile that is open here.
    #[cfg(unix)]
    pub(crate) fn served(
        global: &'a Global,
        console: &'a Console,
        stop: Interrupt,
        Served { profile, clearance }: Served,
        dir: &'a Path,
    ) -> Self {
        let served = Some((profile, dir));
        let asked = global.show_up_to.map(Band::from);
        let clearance = asked.into_iter().chain(clearance).min();
        Self { global, console, served, clearance, stop, out: Output::new(global.json, console) }
    }

    /// Where a path leads that somebody wrote.
    pub(crate) fn path(&self, place: &Place) -> PathBuf {
        place.within(self.served.as_ref().map_or(Path::new(""), |(_, dir)| dir))
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

    /// The passphrase; from here on Ctrl-C is the command's to handle. While a person types one, it
    /// ends the process as ever.
    fn unlock(&self, new: bool) -> anyhow::Result<Unlock> {
        let passphrase = passphrase(self.global, new)?;
        self.stop.listen();
        Ok(Unlock::Passphrase(passphrase))
    }

    /// Opens the profile, or says what to do.
    pub(crate) async fn open(&self) -> anyhow::Result<Opened> {
        if let Some((profile, _)) = &self.served {
            let (profile, clearance) = (profile.clone(), self.clearance);
            return Ok(Opened { profile, is_own: false, clearance });
        }
        let dir = self.existing()?;
        let unlock = self.unlock(false)?;
        let profile = Profile::open(&dir, unlock, Options::default()).await?;
        Ok(Opened { profile, is_own: true, clearance: self.clearance })
    }

    /// Purges the profile; whether it has a new passphrase is told as well.
    pub(crate) async fn purge(
        &self,
        args: &Purge,
        progress: impl FnMut(u64, u64) + Send,
    ) -> anyhow::Result<(Purged, bool)> {
        let dir = self.existing()?;
        let old = passphrase(self.global, false)?;
        let file = args.new_passphrase_file.as_deref();
        let new = (file.is_some() || args.new_passphrase).then(|| new_passphrase(file));
        let new = new.transpose()?;
        self.stop.listen();
        if args.leave {
            let unlock = Unlock::Passphrase(old.clone());
            let profile = Profile::open(&dir, unlock, Options::default()).await?;
            for space in profile.spaces().await? {
                space.leave_behind().await?;
            }
            profile.close().await?;
        }
        let is_new = new.is_some();
        let new = new.map(Unlock::Passphrase);
        Ok((Profile::purge(&dir, Unlock::Passphrase(old), new, progress).await?, is_new))
    }

    /// Gives the profile new keys.
    pub(crate) async fn renew(&self) -> anyhow::Result<Renewed> {
        let dir = self.existing()?;
        let unlock = self.unlock(false)?;
        Ok(Profile::renew(&dir, unlock).await?)
    }

    /// Has a space go on that no other device has, or none that is not lost.
    pub(crate) async fn go_on_alone(
        &self,
        space: &SpaceName,
        kit: Option<&RecoveryKit>,
    ) -> anyhow::Result<()> {
        let dir = self.existing()?;
        let unlock = self.unlock(false)?;
        let went_on = match kit {
            None => Profile::go_on_alone(&dir, unlock, space).await,
            Some(kit) => Profile::recover_alone(&dir, unlock, space, kit).await,
        };
        Ok(went_on?)
    }

    /// Opens the profile, and answers with what opened it and with what is to.
    pub(crate) async fn open_to_change_passphrase(
        &self,
        args: &Passphrase,
    ) -> anyhow::Result<(Profile, Unlock, Unlock)> {
        let dir = self.existing()?;
        let old = passphrase(self.global, false)?;
        // Before anybody thinks of a new one.
        let unlock = Unlock::Passphrase(old.clone());
        let profile = Profile::open(&dir, unlock, Options::default()).await?;
        let new = new_passphrase(args.new_passphrase_file.as_deref())?;
        self.stop.listen();
        Ok((profile, Unlock::Passphrase(old), Unlock::Passphrase(new)))
    }

    /// The profile's directory, if there is a profile in it.
    fn existing(&self) -> anyhow::Result<PathBuf> {
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
        let unlock = self.unlock(true)?;
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
#[cfg(unix)]
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) profile: Profile,
    pub(crate) clearance: Option<Band>,
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

fn passphrase(global: &Global, new: bool) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = if let Some(path) = &global.passphrase_file {
        from_file(path).with_context(|| format!("cannot read {}", path.display()))?
    } else if let Some(fd) = global.passphrase_fd {
        from_file(Path::new(&format!("/dev/fd/{fd}")))
            .with_context(|| format!("cannot read file descriptor {fd}"))?
    } else if new {
        prompt_twice("Passphrase: ")?
    } else {
        prompt("Passphrase: ")?
    };
    if new {
        check_new(&passphrase)?;
    }
    Ok(passphrase)
}

/// From the file, or from whom it is asked.
fn new_passphrase(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let new = match file {
        Some(path) => from_file(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => prompt_twice("New passphrase: ")?,
    };
    check_new(&new)?;
    Ok(new)
}

fn check_new(passphrase: &str) -> anyhow::Result<()> {
    if passphrase.is_empty() {
        let message = "the passphrase is empty: choose a longer one";
        return Err(Failure::error(Exit::Usage, message));
    }
    Ok(())
}

fn prompt_twice(text: &str) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = prompt(text)?;
    check_new(&passphrase)?;
    // Compared in the open: both came from the same person a moment ago.
    if *prompt("The same again: ")? != *passphrase {
        return Err(Failure::error(Exit::Usage, "the two passphrases differ: start again"));
    }
    Ok(passphrase)
}

fn prompt(text: &str) -> anyhow::Result<Zeroizing<String>> {
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|error| {
        Failure::error(
            Exit::Usage,
            format!(
                "there is no terminal to ask for the passphrase ({error}): use \
                 --passphrase-file or --passphrase-fd"
            ),
        )
    })
}

fn from_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    first_line(File::open(path)?)
}

/// The first line, without its line break and nothing else taken away.
fn first_line(reader: impl Read) -> anyhow::Result<Zeroizing<String>> {
    // Room for all of it at once, so that growing leaves no copies behind.
    let capacity = usize::try_from(PASSPHRASE_BYTES_MAX)? + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    reader.take(PASSPHRASE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    anyhow::ensure!(line.len() < capacity, "a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes");
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).context("the passphrase is not UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
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

    #[test]
    fn a_passphrase_is_the_first_line_and_keeps_its_blanks() {
        for (file, expect) in [
            ("correct horse\n", "correct horse"),
            (" a \r\nsecond line\n", " a "),
            ("no line break", "no line break"),
            ("", ""),
            ("\n", ""),
        ] {
            assert_eq!(*first_line(file.as_bytes()).unwrap(), expect);
        }
        assert!(first_line(&b"\xff\xfe"[..]).is_err());
        assert!(first_line("x".repeat(5000).as_bytes()).is_err());
        let longest = "x".repeat(4096);
        assert_eq!(*first_line(format!("{longest}\n{longest}").as_bytes()).unwrap(), longest);
    }
}
