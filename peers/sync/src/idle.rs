//! How often a process wakes up that has nothing to do: ten open spaces, three connected peers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use larder::{Event, Options, Profile, SpaceName};

use crate::workloads::{Metrics, metrics};
use crate::writes::{small_number, unlock};

const SPACES: usize = 10;
const PEERS: usize = 3;
/// Wakeups closer to each other than this come from one event.
const BURST: Duration = Duration::from_millis(100);
/// From the last connection until it is quiet.
const SETTLE: Duration = Duration::from_secs(5);

fn names() -> Result<Vec<SpaceName>> {
    (0..SPACES).map(|n| Ok(format!("shared:space-{n}").parse()?)).collect()
}

pub(crate) async fn measure(dir: &Path, seconds: u64) -> Result<Metrics> {
    let here = Profile::create(dir.join("here"), unlock(), Options::default()).await?;
    for name in names()? {
        here.create_space(&name).await?;
    }
    here.listen(Some("127.0.0.1:0".parse()?)).await?;
    let mut neighbours = Command::new(std::env::current_exe()?)
        .arg("neighbours")
        .arg("--dir")
        .arg(dir.join("there"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = neighbours.stdin.take().context("no pipe")?;
    for _ in 0..PEERS {
        for name in names()? {
            writeln!(told, "{}", here.invite(&name).await?.unattended().text)?;
        }
    }
    let mut ready = String::new();
    BufReader::new(neighbours.stdout.take().context("no pipe")?).read_line(&mut ready)?;
    ensure!(ready == "ready\n", "the other devices did not start");
    let connected = here.status().await?.peers.iter().filter(|peer| peer.connected).count();
    ensure!(connected == PEERS, "{connected} of {PEERS} peers are connected");

    let watched = tokio::task::spawn_blocking(move || watch(Duration::from_secs(seconds)));
    let (wakeups, bursts) = watched.await??;
    let connected = here.status().await?.peers.iter().filter(|peer| peer.connected).count();
    ensure!(connected == PEERS, "a peer was lost meanwhile");
    drop(told);
    ensure!(neighbours.wait()?.success(), "the other devices failed");
    here.close().await?;
    let a_minute = 60.0 / small_number(seconds);
    Ok(metrics([
        ("wakeups", small_number(wakeups) * a_minute),
        ("bursts", small_number(bursts) * a_minute / small_number(PEERS as u64)),
    ]))
}

/// How often the threads of this process, but for this one, began to run; and in how many bursts.
fn watch(time: Duration) -> Result<(u64, u64)> {
    thread::sleep(SETTLE);
    let end = Instant::now() + time;
    let (mut wakeups, mut bursts) = (0, 0);
    let mut before = switches()?;
    let mut was_busy = false;
    while Instant::now() < end {
        thread::sleep(BURST);
        let now = switches()?;
        let new: u64 = now
            .iter()
            .map(|(task, count)| count - before.get(task).copied().unwrap_or_default().min(*count))
            .sum();
        wakeups += new;
        bursts += u64::from(new > 0 && !was_busy);
        was_busy = new > 0;
        before = now;
    }
    Ok((wakeups, bursts))
}

fn switches() -> Result<BTreeMap<String, u64>> {
    let me = fs::read_link("/proc/thread-self")?;
    let me = me.file_name().context("no thread")?.to_owned();
    let mut switches = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task")?.flatten().filter(|task| task.file_name() != me) {
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .and_then(|count| count.trim().parse().ok())
            .context("the system does not count switches")?;
        switches.insert(task.file_name().to_string_lossy().into_owned(), count);
    }
    Ok(switches)
}

/// The other devices, each in all the spaces, connected until standard input ends.
pub(crate) async fn neighbours(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut lines = std::io::stdin().lock().lines();
    let mut devices = Vec::new();
    for peer in 0..PEERS {
        let dir = dir.join(peer.to_string());
        let device = Profile::create(dir, unlock(), Options::default()).await?;
        for _ in 0..SPACES {
            let invitation = lines.next().context("too few invitations")??;
            device.join(&invitation).await?;
        }
        let mut events = device.events();
        let follower = device.clone();
        tokio::spawn(async move { follower.follow().await });
        let mut caught_up = BTreeSet::new();
        while caught_up.len() < SPACES {
            if let Event::CaughtUp { space, .. } = events.recv().await? {
                caught_up.insert(space);
            }
        }
        devices.push(device);
    }
    drop(lines);
    writeln!(std::io::stdout(), "ready")?;
    tokio::task::spawn_blocking(peers_side::until_told).await?;
    for device in devices {
        device.close().await?;
    }
    Ok(())
}
