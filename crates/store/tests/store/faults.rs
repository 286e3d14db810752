//! Every write that fails names its part and leaves nothing behind.

use crate::fixture::{batch, clock, device, dump, object, space, tables};
use larder_crypto::Secret;
use larder_log::security::{Kind, News, Scope};
use larder_log::snapshot::{LogEnd, SnapshotAct};
use larder_log::stability::Named;
use larder_log::{Band, Payload, blob};
use larder_store::migrate::{PROFILE, Run};
use larder_store::profile::{self, Home, Joining, Membership, Peer, Space};
use larder_store::security;
use larder_store::space::sections::{About, Place, State};
use larder_store::space::{
    self, blobs, carry_ends, control, copies, documents, erasures, logs, pieces, sections,
    snapshots, tombstones,
};
use larder_store::space::{transactions, units};
use larder_store::{ErrorKind, StoreError, begin, begin_anew, commit, savepoint};
use larder_types::{
    BlobId, EntryHash, EpochId, Hash, IdempotencyKey, ObjectId, SpaceId, Timestamp, TransportId,
};
use rusqlite::Connection;

/// One unit of work that writes to every table of a space; `n` makes it differ from others.
fn write_documents(
    conn: &Connection,
    n: u8,
    stamp: documents::Stamp,
    filler: &[u8],
) -> Result<(), StoreError> {
    let id = BlobId::new([n; 32]);
    let text = "x".repeat(9000);
    let json = format!(r#"{{"path":"{n}.md","photo":{{"$blob":"{id}"}},"text":"{text}"}}"#);
    documents::put(
        conn,
        &documents::NewDocument {
            object: &object(n),
            collection: &"notes".parse().unwrap(),
            generation: &EntryHash::new([n; 32]),
            created: stamp,
            updated: stamp,
            heads: &[n],
            json: &json,
            trashed: None,
            band: Band::Green,
            history: documents::History::Whole(filler),
        },
    )?;
    tombstones::put(
        conn,
        &tombstones::Tombstone {
            object: object(n),
            band: Band::Green,
            collection: None,
            clock: clock(1),
            device: device(n),
            seq: 1,
            index: 0,
        },
    )?;
    Ok(())
}

fn write_space(conn: &Connection, n: u8) -> Result<(), StoreError> {
    let filler = vec![n; 9000];
    space::set_value(conn, "name", &filler)?;
    let log = logs::find_or_add(conn, &device(n))?;
    let sealed = Payload::Sealed(filler.clone());
    let (batch, verified) =
        batch(&log, &[std::slice::from_ref(&sealed), &[Payload::Missing, sealed.clone()]]);
    transactions::store(conn, log.log, &batch, &verified, |_, payload| {
        (State::unopened(payload), None)
    })?;
    let place = Place { log: log.log, seq: 1, index: 0 };
    let about = About { kind: 1, object: Some(object(n)), clock: clock(1) };
    sections::settle(conn, place, State::Applied, Some(&about))?;
    let stamp = documents::Stamp { log: log.log, seq: 1, clock: clock(1) };
    let id = BlobId::new([n; 32]);
    write_documents(conn, n, stamp, &filler)?;
    units::add(
        conn,
        &IdempotencyKey::new([n; 16]),
        &units::Unit { digest: Hash::new([n; 32]), log: None, seq: 1 },
    )?;
    let of = carry_ends::Of {
        file: "old",
        object: object(n),
        band: 0,
        generation: EntryHash::new([n; 32]),
    };
    let end = carry_ends::End { at: Some(object(n)), old: vec![n], new: vec![n] };
    carry_ends::set(conn, &of, &end)?;
    let ack = control::Ack {
        acker: device(n),
        device: device(n),
        size: 2,
        root: Hash::new([n; 32]),
        time_s: 1,
        signature: [n; 64],
    };
    control::put_ack(conn, &ack)?;
    let new = blobs::NewBlob {
        id: &id,
        log: log.log,
        seq: 1,
        added: Timestamp(1),
        size: 9,
        media_type: "image/png",
        name: None,
        band: Band::Green,
    };
    let key = Secret::new([n; 32]);
    let chunk = |n: u8| blob::Chunk { len: 9, digest: Hash::new([n; 32]), key: key.clone() };
    blobs::insert(conn, &new, &[chunk(n), chunk(n.wrapping_add(100))])?;
    for (n, staged) in [(n, false), (n.wrapping_add(200), true)] {
        let digest = Hash::new([n; 32]);
        let new = blobs::NewChunk { digest, sealed: filler.clone(), opened: None };
        assert!(blobs::put_chunk(conn, &new, staged)?);
    }
    space::kept::keep_chunks(conn, n.into(), &id)?;
    space::retention::mark(conn, Timestamp(n.into()), 0)?;
    copies::set_path(conn, &ObjectId::new([n; 16]), &[ObjectId::new([n + 1; 16])])?;
    space::changes::add_late(conn, &object(n), None)?;
    space::unindexed::add(conn, i64::from(n), i64::from(n), None)?;
    let at = i64::from(n);
    let waiting = space::unindexed::Unembedded { place: at, first: at, last: at };
    space::unindexed::add_unembedded(conn, waiting)?;
    let end = LogEnd { device: device(n), size: 1, root: Hash::new([n; 32]) };
    let act = SnapshotAct { v: 0, frontier: vec![end], bands: Vec::new() };
    let snapshot = snapshots::add(conn, snapshots::State::Receiving, &act)?;
    let key = (Band::Green, ObjectId::new([n; 16]), EntryHash::new([n; 32]));
    snapshots::put_leaf(conn, snapshot, &key, &filler, true)?;
    let hash = Hash::new([n; 32]);
    pieces::begin(conn, snapshot, &key, &filler, &hash, &[hash])?;
    snapshots::add_named(conn, log.log, &Named::default())?;
    let epoch = control::Epoch {
        epoch: EpochId::new([n; 32]),
        opener: device(n),
        act: filler.clone(),
        wrapped: None,
    };
    control::add_epoch(conn, &epoch)?;
    control::add_act(conn, &control::Act { place, kind: 17, body: filler.clone() })?;
    let entry = EntryHash::new([n; 32]);
    erasures::add(conn, place, &entry, &object(n), erasures::State::Open)?;
    let stray = control::StrayAct { log: log.log, proof: filler.clone(), body: filler.clone() };
    control::add_stray_act(conn, &stray)?;
    control::set_secret(conn, "signing", &filler)
}

fn write_profile(conn: &Connection, n: u8) -> Result<(), StoreError> {
    let filler = vec![n; 9000];
    profile::set_setting(conn, "label", &filler)?;
    profile::set_key(conn, "transport", &filler)?;
    let id = Hash::new([n; 32]);
    let space = Space {
        space: SpaceId::new([n; 32]),
        name: format!("shared:s{n}").parse().unwrap(),
        home: Home {
            file: format!("{n}.db"),
            wrapped_key: filler.clone(),
            key_created_at: Timestamp(7),
            rekey_wished_at: None,
        },
        device: device(n),
        created_at: Timestamp(1),
        state: Membership::Joined,
        mirror_seq: 0,
        mirror_root: None,
    };
    profile::add_space(conn, &space)?;
    let peer = Peer {
        transport: TransportId::new([n; 32]),
        label: "phone".repeat(2000),
        addresses: vec!["[::1]:1".into()],
        last_seen: Timestamp(1),
    };
    profile::put_peer(conn, &peer)?;
    let wrapped = filler.clone();
    let joining = Joining { id, space: space.space, wrapped, started_at: Timestamp(1) };
    profile::put_joining(conn, &joining)?;
    let event = security::SignedEvent { event: filler, signature: [n; 64] };
    security::add(conn, Scope::Profile, u64::from(n), &event)?;
    let news = News::new(Kind::Exported, Some(device(n)), "fault");
    let count = security::Count { news, count: 1, last_at: Timestamp(1) };
    security::set_count(conn, Scope::Profile, &count)
}

fn profile_database() -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    PROFILE.migrate(&mut conn, Run::at(crate::fixture::NOW)).unwrap();
    conn
}

type Write = fn(&Connection, u8) -> Result<(), StoreError>;
type Make = fn() -> Connection;

const DATABASES: [(Make, Write); 2] = [(space, write_space), (profile_database, write_profile)];

fn unit(conn: &mut Connection, write: Write, n: u8) -> Result<(), StoreError> {
    let tx = begin(conn)?;
    write(&tx, n)?;
    commit(tx)
}

#[test]
fn a_write_that_any_table_refuses_leaves_nothing_and_names_the_table() {
    for (make, write) in DATABASES {
        let mut conn = make();
        unit(&mut conn, write, 1).unwrap();
        let before = dump(&conn);
        for table in tables(&conn) {
            let rows = before.iter().filter(|row| row.starts_with(&format!("{table} "))).count();
            assert!(rows > 0, "the unit writes nothing to {table}");
            conn.execute_batch(&format!(
                "CREATE TEMP TRIGGER fault BEFORE INSERT ON main.{table}
                 BEGIN SELECT RAISE(ABORT, 'fault'); END"
            ))
            .unwrap();
            let error = unit(&mut conn, write, 2).unwrap_err();
            assert!(matches!(error, StoreError::Write { .. }), "{error}");
            assert_eq!(error.part(), Some(table.as_str()));
            assert_eq!(error.kind(), ErrorKind::Constraint);
            assert!(error.to_string().contains(&table), "{error}");
            assert_eq!(dump(&conn), before);
            conn.execute_batch("DROP TRIGGER fault").unwrap();
        }
        unit(&mut conn, write, 2).unwrap();
        assert_ne!(dump(&conn), before);
    }
}

#[test]
fn a_disk_that_is_full_after_any_page_leaves_nothing() {
    for (make, write) in DATABASES {
        let mut conn = make();
        unit(&mut conn, write, 1).unwrap();
        let before = dump(&conn);
        let pages: u32 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let mut parts = std::collections::BTreeSet::new();
        let mut failures = 0;
        for limit in pages.. {
            conn.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(())).unwrap();
            let Err(error) = unit(&mut conn, write, 2) else { break };
            failures += 1;
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            assert!(error.to_string().contains("free some"), "{error}");
            parts.extend(error.part());
            assert!(conn.is_autocommit());
            assert_eq!(dump(&conn), before);
        }
        assert!(failures >= 3 && parts.len() >= 3, "{failures} {parts:?}");
        let integrity: String =
            conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok");
    }
}

#[test]
fn a_unit_that_fails_in_a_group_undoes_itself_alone() {
    let mut conn = space();
    let mut tx = begin(&mut conn).unwrap();
    savepoint(&mut tx, |part| write_space(part, 1)).unwrap();
    let between = dump(&tx);
    let error = savepoint(&mut tx, |part| {
        write_space(part, 2)?;
        units::add(
            part,
            &IdempotencyKey::new([1; 16]),
            &units::Unit { digest: Hash::new([0; 32]), log: None, seq: 1 },
        )
    })
    .unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("units"), ErrorKind::Constraint));
    assert_eq!(dump(&tx), between);
    savepoint(&mut tx, |part| write_space(part, 3)).unwrap();
    let all = dump(&tx);
    commit(tx).unwrap();
    assert_eq!(dump(&conn), all);
}

#[test]
fn a_transaction_that_is_begun_anew_has_changed_nothing_and_goes_on() {
    let mut conn = space();
    let tx = begin(&mut conn).unwrap();
    write_space(&tx, 1).unwrap();
    commit(tx).unwrap();
    let before = dump(&conn);
    let mut tx = begin(&mut conn).unwrap();
    write_space(&tx, 2).unwrap();
    assert_ne!(dump(&tx), before);
    begin_anew(&mut tx).unwrap();
    assert!(!tx.is_autocommit());
    assert_eq!(dump(&tx), before);
    savepoint(&mut tx, |part| write_space(part, 3)).unwrap();
    let all = dump(&tx);
    commit(tx).unwrap();
    assert_eq!(dump(&conn), all);
    let mut tx = begin(&mut conn).unwrap();
    tx.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(begin_anew(&mut tx), Err(StoreError::RolledBack)));
}

/// SQLite may undo a whole transaction on an error; what follows would be committed one by one.
#[test]
fn a_group_that_was_undone_takes_nothing_more() {
    let mut conn = space();
    conn.execute_batch(
        "CREATE TEMP TRIGGER fault BEFORE INSERT ON main.units WHEN NEW.seq = 7
         BEGIN SELECT RAISE(ROLLBACK, 'fault'); END",
    )
    .unwrap();
    let empty = dump(&conn);
    let mut tx = begin(&mut conn).unwrap();
    savepoint(&mut tx, |part| write_space(part, 1)).unwrap();
    let fatal = units::Unit { digest: Hash::new([0; 32]), log: None, seq: 7 };
    let key = IdempotencyKey::new([7; 16]);
    assert!(savepoint(&mut tx, |part| units::add(part, &key, &fatal)).is_err());
    let error = savepoint(&mut tx, |part| write_space(part, 2)).unwrap_err();
    assert!(matches!(error, StoreError::RolledBack), "{error}");
    assert!(matches!(commit(tx), Err(StoreError::RolledBack)));
    assert_eq!(dump(&conn), empty);
}

#[test]
fn a_lock_held_elsewhere_is_busy_and_a_foreign_file_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("space.db");
    let mut first = Connection::open(&path).unwrap();
    let mut second = Connection::open(&path).unwrap();
    second.busy_timeout(std::time::Duration::ZERO).unwrap();
    let held = begin(&mut first).unwrap();
    let error = begin(&mut second).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("transaction"), ErrorKind::Busy));
    assert!(error.to_string().contains("try again"), "{error}");
    drop(held);
    begin(&mut second).unwrap();

    let path = dir.path().join("other.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let conn = Connection::open(&path).unwrap();
    let error = larder_store::migrate::SPACE.verify(&conn).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let error = larder_store::migrate::SPACE
        .migrate(&mut Connection::open(&path).unwrap(), Run::at(crate::fixture::NOW))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[test]
fn numbers_that_no_database_holds_are_the_callers_mistake() {
    let conn = space();
    let unit = units::Unit { digest: Hash::new([0; 32]), log: None, seq: u64::MAX };
    let error = units::add(&conn, &IdempotencyKey::new([1; 16]), &unit).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("units"), ErrorKind::Misuse));
}
