//! A device that takes in what another wrote, stage by stage and without a network: durable,
//! readable, indexed. Beside it the very rows of the durable stage, inserted by themselves, and the
//! same words in FTS5.
//!
//! The batches come as a session sends them: read, encoded, decoded; that is not measured, for the
//! peer and the transport do it meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use larder_engine::{
    Access, Answer, Environment as _, Profile, ProfileOptions, Space, SpaceWriter, UnitOfWork,
    Unlock,
};
use larder_protocol::{Frame, Position, Reply, Request};
use larder_types::limits::{BATCH_BYTES_TARGET, GATHERED_BYTES_MAX, INDEX_DOCUMENTS_MAX};
use larder_types::{DeviceId, ObjectId, SpaceId, TransportId};
use peers_side::Record;
use rusqlite::params;

use crate::plain;
use crate::raw::Rows;
use crate::transfer::copy;
use crate::workloads::{Bench, Metrics, metrics};
use crate::writes::{COLLECTION, Edited, System, milliseconds, unlock};

/// What the durable stage writes.
const TABLES: [&str; 3] = ["entries", "sections", "transactions"];
const ROWS_IN_EACH: usize = 1000;

struct Device {
    profile: Profile,
    space: Space,
    writer: SpaceWriter,
}

impl Device {
    fn close(mut self) -> Result<()> {
        self.writer.close()?;
        self.space.close()?;
        Ok(self.profile.close()?)
    }
}

pub(crate) fn larder(bench: &Bench, records: u64) -> Result<Metrics> {
    let source = source(bench, records)?;
    let here = bench.dir.join("catch-up");
    copy(&source.join("receiver"), &here)?;
    let sender = open(&source.join("sender"), false)?;
    let mut receiver = open(&here, false)?;
    let mut times = take_in(&sender, &mut receiver)?;
    let begun = Clocks::start();
    while receiver.writer.index(INDEX_DOCUMENTS_MAX)? > 0 {}
    times.indexed.add(&begun);
    let begun = Clocks::start();
    while receiver.writer.embed(INDEX_DOCUMENTS_MAX)? > 0 {}
    times.vectors.add(&begun);
    let status = receiver.space.status()?;
    ensure!(status.documents == records && status.unindexed == 0, "not all of it is there");
    sender.close()?;
    receiver.close()?;
    let Times { durable, visible, indexed, vectors } = times;
    let mut stages = stages(&durable, &durable.and(&visible), &indexed);
    stages.extend(metrics([
        ("vectors_ms", milliseconds(vectors.time)),
        ("vectors_cpu_ms", milliseconds(vectors.cpu)),
    ]));
    Ok(stages)
}

/// One text that was edited again and again, a unit for each edit, taken in by a device that has
/// nothing of it; and how much longer each edit takes than with a tenth as many.
pub(crate) fn edits(bench: &Bench, count: usize) -> Result<Metrics> {
    let (few, all) = (taken_in(bench, count / 10)?, taken_in(bench, count)?);
    let (before, visible) = (few.durable.and(&few.visible), all.durable.and(&all.visible));
    Ok(metrics([
        ("durable_ms", milliseconds(all.durable.time)),
        ("visible_ms", milliseconds(visible.time)),
        ("growth", visible.time.as_secs_f64() / before.time.as_secs_f64() / 10.0),
    ]))
}

fn taken_in(bench: &Bench, count: usize) -> Result<Times> {
    let (mut sender, mut receiver) = pair(&bench.dir.join(format!("edits-{count}")), false)?;
    let (mut text, object) = (Edited::new(), ObjectId::new([7; 16]));
    let mut units = (0..=count).map(|edit| {
        let mut unit = UnitOfWork::new();
        unit.put(COLLECTION, object, &text.value())?;
        text.edit(edit);
        Ok(unit)
    });
    commit(&mut sender, &mut units)?;
    let times = take_in(&sender, &mut receiver)?;
    let shown =
        |device: &Device| device.space.document(&object).map(|row| row.map(|row| row.value));
    ensure!(shown(&sender)?.is_some() && shown(&sender)? == shown(&receiver)?, "they differ");
    sender.close()?;
    receiver.close()?;
    Ok(times)
}

fn stages(durable: &Spent, visible: &Spent, indexed: &Spent) -> Metrics {
    metrics([
        ("durable_ms", milliseconds(durable.time)),
        ("visible_ms", milliseconds(visible.time)),
        ("indexed_ms", milliseconds(indexed.time)),
        ("durable_cpu_ms", milliseconds(durable.cpu)),
        ("visible_cpu_ms", milliseconds(visible.cpu)),
        ("indexed_cpu_ms", milliseconds(indexed.cpu)),
        ("ms", milliseconds(visible.time + indexed.time)),
    ])
}

pub(crate) fn plain(bench: &Bench, records: u64) -> Result<Metrics> {
    let rows = Rows::of_tables(&raw_file(bench, records)?, &TABLES)?;
    let mut db = plain::open(&bench.dir.join("rows.db"), "FULL")?;
    let (mut durable, begun) = (Spent::default(), Clocks::start());
    rows.insert(&mut db, records, ROWS_IN_EACH)?;
    durable.add(&begun);
    let words = words(&bench.dir.join("words.db"), records)?;
    Ok(stages(&durable, &durable, &words))
}

/// The words of the same records, as many in each transaction as Larder indexes.
fn words(path: &Path, records: u64) -> Result<Spent> {
    let mut db = plain::open(path, "FULL")?;
    db.execute_batch(
        "CREATE VIRTUAL TABLE words USING fts5(
             title, body, content = '', tokenize = 'unicode61 remove_diacritics 2');",
    )?;
    let texts: Vec<(i64, Record)> =
        (0..records).map(|n| Ok((i64::try_from(n)?, Record::new(n)))).collect::<Result<_>>()?;
    let (mut spent, begun) = (Spent::default(), Clocks::start());
    for lot in texts.chunks(INDEX_DOCUMENTS_MAX) {
        let tx = db.transaction()?;
        for (number, record) in lot {
            let Record { title, author, body, .. } = record;
            tx.prepare_cached("INSERT INTO words (rowid, title, body) VALUES (?, ?, ?)")?
                .execute(params![number, title, format!("{author}\n{body}")])?;
        }
        tx.commit()?;
    }
    spent.add(&begun);
    Ok(spent)
}

#[derive(Default)]
struct Times {
    durable: Spent,
    visible: Spent,
    indexed: Spent,
    vectors: Spent,
}

/// Time by the clock, and of processors: on a machine with other work only the latter compares.
#[derive(Default)]
struct Spent {
    time: Duration,
    cpu: Duration,
}

struct Clocks(Instant, Duration);

impl Clocks {
    fn start() -> Self {
        Self(Instant::now(), peers_side::cpu())
    }
}

impl Spent {
    fn add(&mut self, begun: &Clocks) {
        self.time += begun.0.elapsed();
        self.cpu += peers_side::cpu().saturating_sub(begun.1);
    }

    fn and(&self, other: &Self) -> Self {
        Self { time: self.time + other.time, cpu: self.cpu + other.cpu }
    }
}

/// As a session does it while more batches wait: each is stored, and documents follow when there is
/// more than is kept in memory, and at the end.
fn take_in(sender: &Device, receiver: &mut Device) -> Result<Times> {
    let peer = receiver.profile.transport_id();
    let (space, have) = (sender.space.id(), have(&receiver.space, &peer)?);
    let epochs = epochs(&receiver.space, &peer)?;
    let (mut after, mut times, mut gathered) = (Position::default(), Times::default(), 0);
    loop {
        let bytes_target = BATCH_BYTES_TARGET;
        let request =
            Request::ReadBatch { after, have: have.clone(), epochs: epochs.clone(), bytes_target };
        let Reply::Batch { position, batch } = ask(&sender.space, &peer, request)? else {
            bail!("another reply than asked for")
        };
        after = position;
        let Some(batch) = batch else { break };
        // What is gathered beyond a bound would be made readable with the next batch.
        if gathered + BATCH_BYTES_TARGET > GATHERED_BYTES_MAX / 2 {
            gathered = 0;
            show(receiver, &mut times.visible)?;
        }
        let frame = Frame::Batch(batch).encode();
        let Frame::Batch(batch) = decoded(&frame, &space)? else { bail!("another frame") };
        gathered += frame.len();
        let begun = Clocks::start();
        receiver.writer.store(*batch)?;
        times.durable.add(&begun);
    }
    show(receiver, &mut times.visible)?;
    Ok(times)
}

fn show(device: &mut Device, spent: &mut Spent) -> Result<()> {
    let begun = Clocks::start();
    device.writer.show()?;
    spent.add(&begun);
    Ok(())
}

fn decoded(frame: &[u8], space: &SpaceId) -> Result<Frame> {
    Frame::decode(frame, space).map_err(|error| anyhow::anyhow!("{error}"))
}

/// Folders of a device that wrote the records, each a unit, and of one that it had let in before.
/// Made once.
fn source(bench: &Bench, records: u64) -> Result<PathBuf> {
    let dir = bench.fixtures.join(format!("catch-up-{records}"));
    if dir.exists() {
        return Ok(dir);
    }
    let making = dir.with_extension("making");
    let (mut sender, receiver) = pair(&making, false)?;
    write(&mut sender, records)?;
    sender.close()?;
    receiver.close()?;
    fs::rename(making, &dir)?;
    Ok(dir)
}

/// The file of a device that took the records in, without encryption.
fn raw_file(bench: &Bench, records: u64) -> Result<PathBuf> {
    let dir = bench.fixtures.join(format!("catch-up-raw-{records}"));
    if !dir.exists() {
        let making = dir.with_extension("making");
        let (mut sender, mut receiver) = pair(&making, true)?;
        write(&mut sender, records)?;
        take_in(&sender, &mut receiver)?;
        sender.close()?;
        receiver.close()?;
        fs::rename(making, &dir)?;
    }
    Rows::file_in(&dir.join("receiver"))
}

fn options(is_plain: bool) -> ProfileOptions {
    ProfileOptions { plain_control: is_plain, ..ProfileOptions::default() }
}

fn open(dir: &Path, is_plain: bool) -> Result<Device> {
    let Unlock::Key(key) = unlock() else { bail!("a key") };
    let profile = Profile::open(
        Arc::new(System),
        dir,
        &Unlock::Key(key),
        Access::ReadWrite,
        options(is_plain),
    )?;
    let (space, writer) = profile.open_space(&"shared:bench".parse()?)?;
    Ok(Device { profile, space, writer: writer.context("it may be written")? })
}

/// Two devices of one space.
fn pair(dir: &Path, is_plain: bool) -> Result<(Device, Device)> {
    fs::create_dir_all(dir)?;
    let create = |name: &str| {
        Profile::create(Arc::new(System), &dir.join(name), &unlock(), options(is_plain))
    };
    let (profile, other) = (create("sender")?, create("receiver")?);
    let (space, mut writer) = profile.create_space(&"shared:bench".parse()?)?;
    let exporter = [9; 32];
    let mut joining = other.begin_join(profile.invite(&space, Vec::new())?)?;
    let (agreed, admission) = other.ask_within(&mut joining, &profile, &exporter)?;
    writer.admit(admission.enrolment.clone())?;
    let reply = profile.welcome(&admission, &space)?;
    let joined = other.finish_join(joining, &agreed, &reply)?;
    let sender = Device { profile, space, writer };
    let mut receiver = Device { profile: other, space: joined.0, writer: joined.1 };
    take_in(&sender, &mut receiver)?;
    Ok((sender, receiver))
}

fn write(device: &mut Device, records: u64) -> Result<()> {
    let mut units = (0..records).map(|number| {
        let mut unit = UnitOfWork::new();
        let record = Record::new(number);
        unit.create(&mut *System.entropy(), COLLECTION, &record).map(|_| unit)
    });
    commit(device, &mut units)
}

fn commit(
    device: &mut Device,
    units: &mut dyn Iterator<Item = larder_engine::Result<UnitOfWork>>,
) -> Result<()> {
    loop {
        // As many at a time as wait for a writer at most.
        let lot: Vec<_> = (&mut *units).take(256).collect::<std::result::Result<_, _>>()?;
        if lot.is_empty() {
            return Ok(());
        }
        let mut lot = lot.into_iter();
        while lot.len() > 0 {
            for receipt in device.writer.commit(&mut lot) {
                receipt?;
            }
        }
    }
}

fn ask(space: &Space, peer: &TransportId, request: Request) -> Result<Reply> {
    match space.answer(peer, request) {
        Answer::Reply(Reply::Failed { message }) => bail!(message),
        Answer::Reply(reply) => Ok(reply),
        Answer::Write(_) => bail!("a reader was asked"),
    }
}

fn have(space: &Space, peer: &TransportId) -> Result<BTreeMap<DeviceId, u64>> {
    match ask(space, peer, Request::ReadFrontiers)? {
        Reply::Frontiers { logs, .. } => {
            Ok(logs.iter().map(|log| (log.device, log.size)).collect())
        }
        _ => bail!("no frontiers"),
    }
}

fn epochs(space: &Space, peer: &TransportId) -> Result<Vec<larder_types::EpochId>> {
    match ask(space, peer, Request::ReadFrontiers)? {
        Reply::Frontiers { epochs_held, .. } => Ok(epochs_held),
        _ => bail!("no frontiers"),
    }
}
