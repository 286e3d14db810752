//! The serving side: a thread for each command that another process asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressDrawTarget, TermLike};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::wire::{CHUNK_BYTES, Hello, Kind, Payload, Request, read_frame, write_frame};
use super::{Address, NAME};
use crate::args::Cli;
use crate::commands;
use crate::console::Console;
use crate::exit::Exit;
use crate::home::{Call, Served};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::passphrase::Which;
use crate::turns::Turns;

/// Commands that run at once; whoever comes then is told to try again.
const CLIENTS_MAX: usize = 32;
/// Clients at once, those included that have not said yet what they want, or are told to try again.
/// Any more find the connection closed.
const CONNECTIONS_MAX: usize = CLIENTS_MAX + 16;
/// For a client to say what it wants.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// For commands to finish what they have in hand when serving ends.
const END_WAIT: Duration = Duration::from_secs(5);
/// After the system had no file descriptor left, or the like.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The socket of a profile that is open here; gone when dropped.
pub(crate) struct Server {
    path: PathBuf,
    accepting: JoinHandle<()>,
    clients: Arc<Clients>,
    turns: Turns,
}

impl Server {
    /// Takes commands for the profile, which is in `dir` and owned by this process: a socket that
    /// is there is one that a process left when it was killed.
    ///
    /// # Errors
    /// The file system has no sockets, or the path is too long for one.
    pub(crate) fn start(dir: &Path, served: &Served) -> io::Result<Self> {
        let path = dir.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = {
            let address = Address::of(dir)?;
            UnixListener::bind(&address.path)?
        };
        // The directory is private, too, and the kernel is asked who connects.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let owner = fs::metadata(&path)?.uid();
        let clients = Arc::new(Clients::default());
        let taking = accept_all(listener, owner, served.clone(), Arc::clone(&clients));
        let turns = served.turns.clone();
        Ok(Self { path, accepting: tokio::spawn(taking), clients, turns })
    }

    /// Takes no more commands, and lets those that run finish what they have in hand.
    pub(crate) async fn end(self) {
        self.accepting.abort();
        self.clients.is_ending.store(true, Ordering::SeqCst);
        for (stop, _) in self.clients.all().values() {
            stop.ask();
        }
        // One for which the profile is closed is done with it first, however long that takes.
        let turn = self.turns.beside(|| {}).await;
        drop(turn);
        let mut count = self.clients.count.subscribe();
        let _ = tokio::time::timeout(END_WAIT, count.wait_for(|count| *count == 0)).await;
        // Those that still wait for a client that does not read.
        for (_, stream) in self.clients.all().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Those whose commands run.
#[derive(Default)]
struct Clients {
    all: Mutex<BTreeMap<u64, (Interrupt, UnixStream)>>,
    count: watch::Sender<usize>,
    /// Whether those that come now are to stop at once.
    is_ending: AtomicBool,
}

impl Clients {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, (Interrupt, UnixStream)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those whose commands run; given up when dropped.
struct Place {
    clients: Arc<Clients>,
    number: u64,
}

impl Place {
    fn take(clients: &Arc<Clients>, stop: Interrupt, stream: UnixStream) -> Option<Self> {
        let mut all = clients.all();
        if all.len() >= CLIENTS_MAX {
            return None;
        }
        if clients.is_ending.load(Ordering::SeqCst) {
            stop.ask();
        }
        let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(number, (stop, stream));
        clients.count.send_replace(all.len());
        Some(Self { clients: Arc::clone(clients), number })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.clients.all();
        all.remove(&self.number);
        self.clients.count.send_replace(all.len());
    }
}

async fn accept_all(listener: UnixListener, owner: u32, served: Served, clients: Arc<Clients>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == owner) {
            continue;
        }
        let Ok(stream) = stream.into_std() else { continue };
        // Counted before it says anything: whoever only connects takes a thread too.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let (served, clients, handle) = (served.clone(), Arc::clone(&clients), Handle::current());
        // What a command prints is written where it is printed: on a thread of its own, so that a
        // client that does not read holds up nobody else.
        let thread = std::thread::Builder::new().name("larder-command".to_owned());
        // Without a thread the client finds the connection closed.
        let _ = thread.spawn(move || {
            let _permit = permit;
            converse(&stream, served, &clients, &handle)
        });
    }
}

fn converse(
    stream: &UnixStream,
    served: Served,
    clients: &Arc<Clients>,
    handle: &Handle,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HANDSHAKE))?;
    let mut from = stream;
    Hello::own().write(&mut from)?;
    if Hello::read(&mut from)? != Hello::own() {
        // It tells its person what to do.
        return Ok(());
    }
    let Some((Kind::Run, payload)) = read_frame(&mut from)? else { return Ok(()) };
    let request = Request::decode(&payload)?;
    stream.set_read_timeout(None)?;

    let stop = Interrupt::default();
    let ((stdin, chunks), (passphrase, passphrases)) = (sync_channel(1), sync_channel(1));
    let client = Arc::new(Client {
        stream: Mutex::new(stream.try_clone()?),
        width: request.width,
        typed: request.typed,
        stdin: Mutex::new(Input { chunks, chunk: Payload::default(), at: 0 }),
        passphrases: Mutex::new(passphrases),
    });
    let Some(_place) = Place::take(clients, stop.clone(), stream.try_clone()?) else {
        client.write_err(b"larder: `larder serve` runs many commands now: try again\n")?;
        return client.write(Kind::Exit, &[Exit::InUse as u8]);
    };
    let mut reading = stream.try_clone()?;
    let stopping = stop.clone();
    let reader = std::thread::Builder::new()
        .name("larder-client".to_owned())
        .spawn(move || listen(&mut reading, &stdin, &passphrase, &stopping))?;
    let console = Console::Client(Arc::clone(&client));
    let exit = handle.block_on(run(&request, &console, stop, served));
    let told = client.write(Kind::Exit, &[exit as u8]);
    let _ = stream.shutdown(Shutdown::Both);
    // It ends with the connection.
    let _ = reader.join();
    told
}

/// Hears what the client says while its command runs. A client that is gone wants nothing more.
fn listen(
    from: &mut UnixStream,
    stdin: &SyncSender<Payload>,
    passphrase: &SyncSender<Payload>,
    stop: &Interrupt,
) {
    loop {
        // More than it was asked for is not waited with.
        let goes_on = match read_frame(from) {
            Ok(Some((Kind::Stdin, chunk))) => stdin.try_send(chunk).is_ok(),
            Ok(Some((Kind::Passphrase, text))) => passphrase.try_send(text).is_ok(),
            Ok(Some((Kind::Interrupt, _))) => {
                stop.ask();
                true
            }
            _ => false,
        };
        if !goes_on {
            break;
        }
    }
    stop.ask();
}

async fn run(request: &Request, console: &Console, stop: Interrupt, served: Served) -> Exit {
    let cli = match Cli::try_parse_from(&request.args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = console.write_err(error.to_string().as_bytes());
            return Exit::Usage;
        }
    };
    let out = Output::new(cli.global.json, console);
    let turn = tokio::select! {
        turn = served.turns.beside(|| out.note("Waiting for a command that has the profile.")) => {
            turn
        }
        () = stop.asked() => return Exit::Interrupted,
    };
    let call = Call::served(&cli.global, console, stop, (served, turn), &request.dir);
    commands::run_to_exit(&cli, &call).await
}

/// Another process, on whose behalf a command runs here.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Mutex<UnixStream>,
    width: Option<u16>,
    typed: bool,
    stdin: Mutex<Input>,
    passphrases: Mutex<Receiver<Payload>>,
}

impl Client {
    fn write(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *stream, kind, payload)
    }

    pub(crate) fn write_out(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK_BYTES).try_for_each(|chunk| self.write(Kind::Out, chunk))
    }

    pub(crate) fn write_err(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK_BYTES).try_for_each(|chunk| self.write(Kind::Err, chunk))
    }

    pub(crate) fn terminal(self: &Arc<Self>) -> Option<ProgressDrawTarget> {
        let width = self.width?;
        let screen = Screen { client: Arc::clone(self), width };
        Some(ProgressDrawTarget::term_like(Box::new(screen)))
    }

    /// Whether its stdin is a terminal.
    pub(crate) const fn is_typed(&self) -> bool {
        self.typed
    }

    /// If it is one: what was typed and not read yet is dropped, there and here.
    pub(crate) fn forget_typed(&self) -> io::Result<()> {
        if self.typed {
            let mut input = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
            input.at = input.chunk.len();
            self.write(Kind::ForgetTyped, &[])?;
        }
        Ok(())
    }

    /// One of its passphrases; waits until it has one.
    pub(crate) fn passphrase(&self, which: Which) -> io::Result<Zeroizing<String>> {
        let passphrases = self.passphrases.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(Kind::WantPassphrase, &[which as u8])?;
        let text = passphrases.recv().map_err(gone)?;
        let text = std::str::from_utf8(&text).map_err(io::Error::other)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    pub(crate) fn stdin(&self) -> Stdin<'_> {
        Stdin { client: self }
    }
}

fn gone(_: RecvError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone")
}

/// The client's stdin, asked for as it is read.
pub(crate) struct Stdin<'a> {
    client: &'a Client,
}

/// What came of it, and was not read yet.
#[derive(Debug)]
struct Input {
    chunks: Receiver<Payload>,
    chunk: Payload,
    at: usize,
}

impl Read for Stdin<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut input = self.client.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        if input.at == input.chunk.len() {
            self.client.write(Kind::WantStdin, &[])?;
            input.chunk = input.chunks.recv().map_err(gone)?;
            input.at = 0;
        }
        let mut rest = input.chunk.get(input.at..).unwrap_or_default();
        let read = rest.read(buffer)?;
        input.at += read;
        Ok(read)
    }
}

/// The client's terminal, by the control sequences of ECMA-48.
#[derive(Debug)]
struct Screen {
    client: Arc<Client>,
    width: u16,
}

impl Screen {
    fn control(&self, count: usize, letter: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.write_str(&format!("\u{1b}[{count}{letter}")) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.width
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.control(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.control(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.control(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.control(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.write_str(&format!("{s}\n"))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.client.write_err(s.as_bytes())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
