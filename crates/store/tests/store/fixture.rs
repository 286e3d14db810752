//! Databases and batches to test with. Nothing is signed: the store does not look.

use larder_log::merkle::{leaf_hash, root_of};
use larder_log::{
    Batch, BatchEntry, Header, Payload, SectionCommitment, VerifiedBatch, VerifiedEntry,
    checkpoint::Checkpoint,
};
use larder_store::migrate::{Run, SPACE};
use larder_store::space::logs::{self, Log};
use larder_store::space::sections::State;
use larder_store::space::transactions;
use larder_types::{Clock, DeviceId, EpochId, Hash, ObjectId, SpaceId, Timestamp};
use rusqlite::Connection;

pub(crate) const NOW: Timestamp = Timestamp(1_000);

pub(crate) fn device(n: u8) -> DeviceId {
    DeviceId::new([n; 32])
}

pub(crate) fn object(n: u8) -> ObjectId {
    ObjectId::new([n; 16])
}

pub(crate) fn clock(ms: u64) -> Clock {
    Clock { wall: Timestamp(ms), count: 0 }
}

pub(crate) fn space() -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    larder_store::configure(&conn, larder_store::Access::Write).unwrap();
    SPACE.migrate(&mut conn, Run::at(NOW)).unwrap();
    conn
}

pub(crate) fn commitment(n: u8, len: usize) -> SectionCommitment {
    SectionCommitment {
        class: 0,
        masked_band: n,
        meta: Hash::new([n; 32]),
        sealed: Hash::new([n; 32]),
        len: len as u64,
        key_salt: [n; 16],
    }
}

/// A batch that follows on `log`, of one entry for each item; an item lists its sections' payloads.
pub(crate) fn batch(log: &Log, entries: &[&[Payload]]) -> (Batch, VerifiedBatch) {
    let first_seq = log.frontier.size() + 1;
    let mut after = log.frontier.clone();
    let (mut nodes, mut verified, mut travelling) = (Vec::new(), Vec::new(), Vec::new());
    for (payloads, seq) in entries.iter().zip(first_seq..) {
        let commitments: Vec<_> =
            (0..payloads.len()).map(|n| commitment(n as u8, 10 * n)).collect();
        let leaves: Vec<_> = commitments.iter().map(SectionCommitment::leaf).collect();
        let header = Header {
            v: 0,
            space: SpaceId::new([9; 32]),
            device: log.device,
            seq,
            deps: Vec::new(),
            epoch: EpochId::new([8; 32]),
            step: 0,
            n: payloads.len() as u32,
            sections_root: root_of(&leaves),
        };
        let bytes = header.encode();
        let hash = leaf_hash(&bytes);
        after.append(hash, &mut |node| nodes.push(node));
        verified.push(VerifiedEntry { header, hash: hash.into() });
        travelling.push(BatchEntry { header: bytes, commitments, payloads: payloads.to_vec() });
    }
    let checkpoint = Checkpoint {
        space: SpaceId::new([9; 32]),
        device: log.device,
        size: after.size(),
        root: after.root(),
    };
    let signature = [after.size() as u8; 64];
    (
        Batch { device: log.device, first_seq, entries: travelling, signature },
        VerifiedBatch { entries: verified, after, nodes, checkpoint },
    )
}

/// Appends a batch with these payloads to a device's log; returns it.
pub(crate) fn append(conn: &Connection, device: &DeviceId, entries: &[&[Payload]]) -> Batch {
    let log = logs::find_or_add(conn, device).unwrap();
    let (batch, verified) = batch(&log, entries);
    transactions::store(conn, log.log, &batch, &verified, |_, payload| {
        (State::unopened(payload), None)
    })
    .unwrap();
    batch
}

/// Everything in the tables, for comparisons.
pub(crate) fn dump(conn: &Connection) -> Vec<String> {
    let mut all = Vec::new();
    for table in tables(conn) {
        let mut statement = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..columns).map(|i| row.get_ref(i).unwrap()).collect();
            all.push(format!("{table} {values:?}"));
        }
    }
    all
}

/// The tables this crate writes: not the history of migrations, and not those of search.
pub(crate) fn tables(conn: &Connection) -> Vec<String> {
    conn.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'
             AND name NOT LIKE 'search%' AND name <> 'migrations' ORDER BY name",
    )
    .unwrap()
    .query_map([], |row| row.get(0))
    .unwrap()
    .collect::<Result<_, _>>()
    .unwrap()
}
