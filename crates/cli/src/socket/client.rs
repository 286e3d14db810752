//! The asking side.

use std::io::{self, IsTerminal, Read};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use zeroize::Zeroizing;

use super::Address;
use super::wire::{CHUNK_BYTES, Hello, Kind, Request, read_frame, write_frame};
use crate::console::{Console, forget_typed};
use crate::exit::{Exit, Failure};

/// Runs this process's command in the one that serves the profile in `dir`. None: there is none.
///
/// # Errors
/// It is of another version or user, or ended before the command did.
pub(crate) async fn run_there(dir: &Path) -> anyhow::Result<Option<ExitCode>> {
    let Some(Serving { stream, .. }) = connect(dir)? else { return Ok(None) };
    greet(&stream)?;
    let stream = Arc::new(stream);
    let sending = Arc::new(Mutex::new(stream.try_clone()?));
    let width = terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| width.0);
    let dir = std::env::current_dir().context("the current directory is gone")?;
    let (typed, args) = (io::stdin().is_terminal(), std::env::args_os().collect());
    let request = Request { width, typed, dir, args };
    send(&sending, Kind::Run, &request.encode())?;

    let interrupting = Arc::clone(&sending);
    tokio::spawn(async move {
        let mut asked = false;
        while tokio::signal::ctrl_c().await.is_ok() {
            // If the command cannot be told, there is nothing to wait for either.
            if asked || send(&interrupting, Kind::Interrupt, &[]).is_err() {
                std::process::exit(Exit::Interrupted as i32);
            }
            asked = true;
        }
    });
    let relaying = Arc::clone(&stream);
    let code = tokio::task::spawn_blocking(move || relay(&relaying, &sending)).await??;
    let _ = stream.shutdown(Shutdown::Both);
    Ok(Some(ExitCode::from(code)))
}

/// Fails if the profile in `dir` is being served, for a command that needs it to itself.
///
/// # Errors
/// It is.
pub(crate) fn refuse_while_served(dir: &Path) -> anyhow::Result<()> {
    let Ok(Some(Serving { process, .. })) = connect(dir) else { return Ok(()) };
    let process = process.map(|id| format!(" (process {id})")).unwrap_or_default();
    Err(Failure::error(
        Exit::InUse,
        format!(
            "`larder serve` runs on this profile{process}, and this command needs it to itself: \
             end that with Ctrl-C first"
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

/// Prints what the command prints until it has ended. Its exit code.
fn relay(mut stream: &UnixStream, sending: &Mutex<UnixStream>) -> anyhow::Result<u8> {
    loop {
        match read_frame(&mut stream) {
            Ok(Some((Kind::Out, bytes))) => Console::Own.write_out(&bytes)?,
            // If stderr is gone there is nobody to tell.
            Ok(Some((Kind::Err, bytes))) => drop(Console::Own.write_err(&bytes)),
            Ok(Some((Kind::WantStdin, _))) => {
                let mut chunk = Zeroizing::new(vec![0; CHUNK_BYTES]);
                let read = io::stdin().lock().read(&mut chunk).context("cannot read stdin")?;
                chunk.truncate(read);
                send(sending, Kind::Stdin, &chunk)?;
            }
            Ok(Some((Kind::ForgetTyped, _))) => forget_typed()?,
            Ok(Some((Kind::Exit, code))) if code.len() == 1 => {
                return Ok(code.first().copied().unwrap_or(Exit::Failed as u8));
            }
            _ => anyhow::bail!(
                "`larder serve` ended before this command did: what was reported is safe; run it \
                 again"
            ),
        }
    }
}
