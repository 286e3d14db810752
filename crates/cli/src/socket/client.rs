//! The asking side.

use std::io::{self, IsTerminal, Read};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use zeroize::Zeroizing;

use super::Address;
use super::wire::{CHUNK_BYTES, Hello, Kind, Request, read_frame, write_frame};
use crate::args::{Cli, Global};
use crate::console::{Console, forget_typed};
use crate::exit::{Exit, Failure};
use crate::passphrase::{self, Which};

/// Runs this process's command in the one that serves the profile in `dir`. None: there is none.
///
/// # Errors
/// It is of another version or user, or ended before the command did.
pub(crate) async fn run_there(cli: &Cli, dir: &Path) -> anyhow::Result<Option<ExitCode>> {
    let Some(Serving { stream, .. }) = connect(dir)? else { return Ok(None) };
    greet(&stream)?;
    let stream = Arc::new(stream);
    let sending = Arc::new(Mutex::new(stream.try_clone()?));
    let width = terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| width.0);
    let dir = std::env::current_dir().context("the current directory is gone")?;
    let (typed, args) = (io::stdin().is_terminal(), std::env::args_os().collect());
    let request = Request { width, typed, dir, args };
    send(&sending, Kind::Run, &request.encode())?;

    let passphrases = Passphrases {
        global: cli.global.clone(),
        new_file: cli.command.new_passphrase_file().map(Path::to_owned),
        is_typing: AtomicBool::new(false),
    };
    let passphrases = Arc::new(passphrases);
    let (interrupting, asking) = (Arc::clone(&sending), Arc::clone(&passphrases));
    tokio::spawn(async move {
        let mut asked = false;
        while tokio::signal::ctrl_c().await.is_ok() {
            // If the command cannot be told, there is nothing to wait for either.
            let is_typing = asking.is_typing.load(Ordering::Acquire);
            if asked || is_typing || send(&interrupting, Kind::Interrupt, &[]).is_err() {
                std::process::exit(Exit::Interrupted as i32);
            }
            asked = true;
        }
    });
    let relaying = Arc::clone(&stream);
    let code =
        tokio::task::spawn_blocking(move || relay(&relaying, &sending, &passphrases)).await?;
    let code = code.map_err(|error| {
        if error.is::<Broken>() && cli.command.has_new_passphrase() {
            let advice = "either passphrase may open the profile now: try the old, then the new";
            return error.context(advice);
        }
        error
    })?;
    let _ = stream.shutdown(Shutdown::Both);
    Ok(Some(ExitCode::from(code)))
}

/// Fails if the profile in `dir` is being served, for whoever wants to serve it.
///
/// # Errors
/// It is.
pub(crate) fn refuse_while_served(dir: &Path) -> anyhow::Result<()> {
    let Ok(Some(Serving { process, .. })) = connect(dir) else { return Ok(()) };
    let process = process.map(|id| format!(" (process {id})")).unwrap_or_default();
    Err(Failure::error(
        Exit::InUse,
        format!(
            "`larder serve` runs on this profile{process} already, and one is enough: end that \
             with Ctrl-C first"
        ),
    ))
}

struct Serving {
    stream: UnixStream,
    process: Option<i32>,
}

fn connect(dir: &Path) -> anyhow::Result<Option<Serving>> {
    // Whatever else is wrong with the directory is better said when it is opened; a socket that
    // nobody answers on was left by a process that was killed.
    let Ok(address) = Address::of(dir) else { return Ok(None) };
    let Ok(stream) = UnixStream::connect(&address.path) else { return Ok(None) };
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let peer = stream.peer_cred()?;
    if peer.uid() != std::fs::metadata(dir)?.uid() {
        let message = "the process that serves this profile is not its owner's";
        return Err(Failure::error(Exit::InUse, message));
    }
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(Some(Serving { stream, process: peer.pid() }))
}

fn greet(stream: &UnixStream) -> anyhow::Result<()> {
    let (mut stream, own) = (stream, Hello::own());
    // A server that hangs up at once may still have said who it is.
    let told = own.write(&mut stream);
    let theirs = Hello::read(&mut stream).map_err(|error| {
        let message = format!(
            "`larder serve` does not answer ({error}): it takes commands of the user who runs it"
        );
        Failure::error(Exit::InUse, message)
    })?;
    if theirs != own {
        return Err(Failure::error(
            Exit::InUse,
            format!(
                "`larder serve` is version {}, and this command is {}: end it, and start it anew",
                theirs.version, own.version
            ),
        ));
    }
    Ok(told?)
}

fn send(stream: &Mutex<UnixStream>, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    write_frame(&mut *stream, kind, payload)
}

/// Where this process has its passphrases.
struct Passphrases {
    global: Global,
    new_file: Option<PathBuf>,
    /// While a person types one, Ctrl-C ends this process.
    is_typing: AtomicBool,
}

impl Passphrases {
    fn read(&self, which: &[u8]) -> anyhow::Result<Zeroizing<String>> {
        let all = [Which::Present, Which::New];
        let which = all.into_iter().find(|known| which == [*known as u8]);
        let which = which.context("`larder serve` asks for a passphrase of no known kind")?;
        self.is_typing.store(true, Ordering::Release);
        let read = passphrase::read(&self.global, which, self.new_file.as_deref());
        self.is_typing.store(false, Ordering::Release);
        read
    }
}

/// The connection ended before the command did.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "`larder serve` ended before this command did: what was reported is safe; run it again",
        )
    }
}

impl std::error::Error for Broken {}

/// Prints what the command prints until it has ended. Its exit code.
fn relay(
    mut stream: &UnixStream,
    sending: &Mutex<UnixStream>,
    passphrases: &Passphrases,
) -> anyhow::Result<u8> {
    loop {
        match read_frame(&mut stream) {
            Ok(Some((Kind::Out, bytes))) => Console::Own.write_out(&bytes)?,
            // If stderr is gone there is nobody to tell.
            Ok(Some((Kind::Err, bytes))) => drop(Console::Own.write_err(&bytes)),
            Ok(Some((Kind::WantStdin, _))) => {
                let mut chunk = Zeroizing::new(vec![0; CHUNK_BYTES]);
                let read = io::stdin().lock().read(&mut chunk).context("cannot read stdin")?;
                chunk.truncate(read);
                // Who wants it no more says next how it ended.
                let _ = send(sending, Kind::Stdin, &chunk);
            }
            Ok(Some((Kind::ForgetTyped, _))) => forget_typed()?,
            Ok(Some((Kind::Exit, code))) if code.len() == 1 => {
                return Ok(code.first().copied().unwrap_or(Exit::Failed as u8));
            }
            Ok(Some((Kind::WantPassphrase, which))) => {
                let text = passphrases.read(&which)?;
                let _ = send(sending, Kind::Passphrase, text.as_bytes());
            }
            _ => return Err(Broken.into()),
        }
    }
}
