//! What is written to a space's database is read back, and found without scanning tables.

use std::sync::mpsc;

use crate::fixture::{append, batch, clock, device, object, space};
use larder_log::merkle::{self, Frontier, Node, Nodes as _};
use larder_log::{Band, Payload};
use larder_store::space::documents::Which;
use larder_store::space::entries::NewEntry;
use larder_store::space::sections::{About, Place, State};
use larder_store::space::{self as tables, control, documents, entries, logs, sections};
use larder_store::space::{tombstones, transactions, units};
use larder_store::{ErrorKind, StoreError};
use larder_types::{CollectionName, EntryHash, EpochId, Hash, IdempotencyKey, ObjectId, Timestamp};
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

fn sealed(bytes: &[u8]) -> Payload {
    Payload::Sealed(bytes.to_vec())
}

fn name(text: &str) -> CollectionName {
    text.parse().unwrap()
}

fn put_document(conn: &Connection, object: ObjectId, collection: &str, json: &str) -> i64 {
    let log = logs::find_or_add(conn, &device(1)).unwrap().log;
    let stamp = documents::Stamp { log, seq: 1, clock: clock(5) };
    let new = documents::NewDocument {
        object: &object,
        collection: &name(collection),
        generation: &EntryHash::new([3; 32]),
        created: stamp,
        updated: stamp,
        heads: &[0x80],
        json,
        trashed: None,
        band: Band::Green,
        history: documents::History::None,
    };
    documents::put(conn, &new).unwrap()
}

#[test]
fn a_batch_comes_back_as_it_was_stored() {
    let conn = space();
    let opened = Payload::Opened(vec![5; 3]);
    let big = sealed(&vec![6; 10 << 20]);
    let first = append(&conn, &device(1), &[&[sealed(b"a"), Payload::Missing], &[]]);
    append(&conn, &device(2), &[&[sealed(b"other")]]);
    let second = append(&conn, &device(1), &[&[opened, big], &[sealed(b"")], &[sealed(b"z")]]);

    let log = logs::find(&conn, &device(1)).unwrap().unwrap();
    assert_eq!(log.frontier.size(), 5);
    let last = transactions::last_of(&conn, log.log).unwrap().unwrap();
    assert_eq!((last.position, last.first_seq, last.last_seq), (3, 3, 5));
    assert_eq!(transactions::batch(&conn, &last, 3).unwrap(), second);
    let covering = transactions::covering(&conn, log.log, 1).unwrap().unwrap();
    assert_eq!(transactions::batch(&conn, &covering, 1).unwrap(), first);
    assert_eq!(transactions::position_of(&conn, log.log, 4).unwrap(), Some(3));
    assert_eq!(transactions::position_of(&conn, log.log, 6).unwrap(), None);

    let rest = transactions::batch(&conn, &last, 4).unwrap();
    assert_eq!((rest.first_seq, &rest.entries[..]), (4, &second.entries[1..]));
    assert_eq!((rest.size(), rest.signature), (5, second.signature));

    conn.execute("DELETE FROM entries WHERE seq = 4", []).unwrap();
    let error = transactions::batch(&conn, &last, 3).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("entries"), ErrorKind::Corrupt));
}

#[test]
fn roots_and_proofs_come_from_the_stored_nodes() {
    let conn = space();
    for length in [1_usize, 3, 1, 8, 20] {
        append(&conn, &device(1), &vec![&[] as &[Payload]; length]);
        append(&conn, &device(2), &[&[]]);
    }
    let log = logs::find(&conn, &device(1)).unwrap().unwrap();
    let tree = logs::Tree::new(&conn, log.log);
    let entries = entries::range(&conn, log.log, 1, 33).unwrap();
    let leaves: Vec<Hash> = entries.iter().map(|entry| entry.hash.into()).collect();
    assert_eq!(leaves.len(), 33);
    let mut frontier = Frontier::new();
    for (leaf, size) in leaves.iter().zip(1..) {
        frontier.append(*leaf, &mut |_| ());
        assert_eq!(merkle::root_at(&tree, size).unwrap(), frontier.root());
        assert_eq!(merkle::frontier_at(&tree, size).unwrap(), frontier);
        let proof = merkle::inclusion_proof(&tree, size - 1, 33).unwrap();
        let root = log.frontier.root();
        merkle::verify_inclusion(leaf, size - 1, 33, &proof, &root).unwrap();
    }
    let cut = "UPDATE entries SET nodes = substr(nodes, 1, 64) WHERE log = ?1 AND seq = 8";
    conn.execute(cut, [log.log]).unwrap();
    let error = merkle::root_at(&tree, 8).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("entries"), ErrorKind::Corrupt));
    // Made again from below, as a repair does.
    conn.execute("UPDATE entries SET nodes = x'' WHERE log = ?1", [log.log]).unwrap();
    let mut frontier = Frontier::new();
    for leaf in &leaves {
        frontier.append(*leaf, &mut |node| {
            if node.level > 0 {
                logs::set_node(&conn, log.log, &node).unwrap();
            }
        });
    }
    assert_eq!(merkle::frontier_at(&tree, 33).unwrap(), frontier);
    assert_eq!(merkle::frontier_at(&tree, 32).unwrap().size(), 32);
    logs::set_node(&conn, log.log, &Node { level: 2, index: 1, hash: Hash::new([7; 32]) }).unwrap();
    assert_eq!(tree.node(2, 1).unwrap(), Hash::new([7; 32]));
    assert_eq!(tree.node(1, 3).unwrap(), merkle::root_of(&leaves[6..8]));
    assert_eq!(tree.node(3, 0).unwrap(), merkle::root_of(&leaves[..8]));
}

#[test]
fn a_log_ends_where_its_entries_do() {
    let conn = space();
    append(&conn, &device(1), &[&[], &[]]);
    let log = logs::find(&conn, &device(1)).unwrap().unwrap();
    let (_, verified) = batch(&log, &[&[]]);
    let append_from = |first_seq, frontier: &Frontier| {
        transactions::append(&conn, log.log, first_seq, frontier, &[0; 64]).unwrap_err()
    };
    for first_seq in [1, 2, 3, 4] {
        let error = append_from(first_seq, &verified.after);
        assert!(matches!(error, StoreError::Misuse { part: "transactions", .. }), "{error}");
    }
    // An entry is of the next transaction, whose ever that is.
    let (batch, verified) = batch(&log, &[&[]]);
    let (header, nodes) = (&batch.entries[0].header, &verified.nodes);
    let entry = NewEntry { seq: 3, hash: &verified.entries[0].hash, header, nodes, sections: &[] };
    let mut next = transactions::next(&conn).unwrap();
    entries::insert(&conn, log.log, &mut next, &entry).unwrap();
    let error = append_from(3, &log.frontier);
    assert!(error.to_string().contains("a frontier of 2 entries, where 3 are"), "{error}");
    append(&conn, &device(2), &[&[]]);
    let error = append_from(3, &verified.after);
    assert!(matches!(error, StoreError::Misuse { part: "transactions", .. }), "{error}");
    logs::stop(&conn, log.log, b"evidence").unwrap();
    assert_eq!(logs::by_number(&conn, log.log).unwrap().stopped.unwrap(), b"evidence");
}

#[test]
fn sections_are_settled_supplied_and_found_by_object() {
    let conn = space();
    append(&conn, &device(1), &[&[sealed(b"a"), Payload::Missing], &[sealed(b"b")]]);
    let log = logs::find(&conn, &device(1)).unwrap().unwrap().log;
    let at = |seq, index| Place { log, seq, index };
    let places = |sections: Vec<sections::Section>| -> Vec<Place> {
        sections.into_iter().map(|section| section.place).collect()
    };
    let waiting = |after| {
        let waiting = sections::waiting(&conn, after, 10).unwrap().into_iter();
        places(waiting.filter_map(|number| sections::numbered(&conn, number).unwrap()).collect())
    };
    assert_eq!(waiting(0), [at(1, 0), at(2, 0)]);
    // What is here sealed and was never opened lacks something, too.
    let lacking = |after| places(sections::lacking(&conn, after, 10).unwrap());
    assert_eq!(lacking(0), [at(1, 0), at(1, 1), at(2, 0)]);
    assert_eq!(lacking(1), [at(1, 1), at(2, 0)]);
    assert_eq!(sections::lacking(&conn, 0, 2).unwrap().len(), 2);
    assert!(sections::any_unread(&conn).unwrap());

    let about = About { kind: 2, object: Some(object(4)), clock: clock(77) };
    sections::settle(&conn, at(2, 0), State::Applied, Some(&about)).unwrap();
    sections::settle(&conn, at(1, 0), State::Void, Some(&about)).unwrap();
    assert_eq!(waiting(0), []);
    assert_eq!(lacking(0), [at(1, 1)]);
    assert!(!sections::any_unread(&conn).unwrap());
    let history = sections::of_object(&conn, &object(4)).unwrap();
    assert_eq!(history.iter().map(|s| s.state).collect::<Vec<_>>(), [State::Void, State::Applied]);
    assert_eq!(history[1].about, Some(about));
    assert_eq!(history[1].commitment, crate::fixture::commitment(0, 0));
    assert_eq!(places(history), [at(1, 0), at(2, 0)]);

    sections::set_payload(&conn, at(1, 1), &sealed(b"late")).unwrap();
    sections::settle(&conn, at(1, 1), State::Waiting, None).unwrap();
    assert_eq!(waiting(0), [at(1, 1)]);
    let last = sections::waiting(&conn, 0, 10).unwrap();
    assert_eq!((last.len(), waiting(last[0])), (1, vec![]));
    assert_eq!(sections::payload(&conn, at(1, 1)).unwrap(), sealed(b"late"));
    let opened = Payload::Opened(b"form".to_vec());
    for payload in [opened, Payload::Missing] {
        sections::set_payload(&conn, at(1, 1), &payload).unwrap();
        assert_eq!(sections::payload(&conn, at(1, 1)).unwrap(), payload);
    }
    assert_eq!(sections::of_entry(&conn, log, 1).unwrap().len(), 2);
    assert_eq!(sections::find(&conn, at(3, 0)).unwrap(), None);
    for error in [
        sections::settle(&conn, at(3, 0), State::Void, None).unwrap_err(),
        sections::set_payload(&conn, at(1, 2), &Payload::Missing).unwrap_err(),
    ] {
        assert_eq!((error.part(), error.kind()), (Some("sections"), ErrorKind::Misuse));
    }
}

#[test]
fn documents_are_put_paged_and_removed() {
    let conn = space();
    let numbers: Vec<i64> = (0..5)
        .map(|n| {
            let (collection, path) = (["notes", "lists"][usize::from(n % 2)], n / 2);
            put_document(&conn, object(n), collection, &format!(r#"{{"path":"{path}.md"}}"#))
        })
        .collect();
    let found = documents::find(&conn, &object(2)).unwrap().unwrap();
    assert_eq!((found.document, found.json.as_str()), (numbers[2], r#"{"path":"1.md"}"#));
    assert_eq!(documents::by_number(&conn, numbers[2]).unwrap(), Some(found.clone()));
    assert_eq!(documents::by_path(&conn, &name("notes"), "1.md").unwrap()[0], found);
    assert_eq!(documents::by_path(&conn, &name("notes"), "9.md").unwrap(), []);
    assert_eq!(documents::history(&conn, numbers[2]).unwrap(), None);

    let edit = documents::NewDocument {
        object: &found.object,
        collection: &found.collection,
        generation: &found.generation,
        created: documents::Stamp { seq: 99, ..found.created },
        updated: documents::Stamp { seq: 7, ..found.updated },
        heads: &[1, 2],
        json: r#"{"path":["not","text"]}"#,
        trashed: None,
        band: Band::Green,
        history: documents::History::Whole(b"history"),
    };
    assert_eq!(documents::put(&conn, &edit).unwrap(), numbers[2]);
    let edited = documents::find(&conn, &object(2)).unwrap().unwrap();
    assert_eq!((edited.created, edited.updated), (found.created, edit.updated));
    let history = || documents::history(&conn, numbers[2]).unwrap().unwrap();
    assert_eq!(history(), b"history");
    for part in [&b" and"[..], b"\0more"] {
        let more = documents::NewDocument { history: documents::History::More(part), ..edit };
        documents::put(&conn, &more).unwrap();
    }
    assert_eq!(history(), b"history and\0more");
    documents::renumber(&conn, numbers[2], 99).unwrap();
    assert_eq!(documents::history(&conn, numbers[2]).unwrap(), None);
    documents::renumber(&conn, 99, numbers[2]).unwrap();
    assert_eq!(history(), b"history and\0more");
    documents::put(&conn, &edit).unwrap();
    assert_eq!(history(), b"history");
    assert_eq!(documents::by_path(&conn, &name("notes"), "1.md").unwrap(), []);

    let walk = |collection: Option<&CollectionName>| {
        let (mut after, mut walked) = (0, Vec::new());
        loop {
            let page =
                documents::page(&conn, (Which::All, collection, Band::Black), after, 2).unwrap();
            let Some(last) = page.last() else { return walked };
            after = last.document;
            walked.extend(page.into_iter().map(|document| document.document));
        }
    };
    let each = |collection: Option<&CollectionName>| {
        let mut visited = Vec::new();
        documents::each(&conn, collection, |document| {
            visited.push(document.document);
            Ok::<_, StoreError>(())
        })
        .unwrap();
        visited
    };
    let notes = name("notes");
    assert_eq!((walk(None), each(None)), (numbers.clone(), numbers.clone()));
    let of_notes = vec![numbers[0], numbers[2], numbers[4]];
    assert_eq!((walk(Some(&notes)), each(Some(&notes))), (of_notes.clone(), of_notes));
    assert_eq!(documents::count(&conn, Some(&notes)).unwrap(), 3);
    let collections = documents::collections(&conn).unwrap();
    assert_eq!(collections, [(name("lists"), 2), (name("notes"), 3)]);

    let trashed = documents::NewDocument { trashed: Some(Timestamp(5)), ..edit };
    documents::put(&conn, &trashed).unwrap();
    assert_eq!(documents::find(&conn, &object(2)).unwrap().unwrap().trashed, Some(Timestamp(5)));
    assert_eq!(documents::count_trashed(&conn).unwrap(), 1);
    let numbers_of = |which, collection| {
        let page =
            documents::page(&conn, (which, collection, Band::Black), 0, 9).unwrap().into_iter();
        page.map(|document| document.document).collect::<Vec<_>>()
    };
    assert_eq!(numbers_of(Which::Shown, Some(&notes)), [numbers[0], numbers[4]]);
    assert_eq!(numbers_of(Which::Trashed, None), [numbers[2]]);
    assert_eq!(numbers_of(Which::All, None), numbers);
    let collections = |which| tables::retention::collections(&conn, which).unwrap();
    assert_eq!(collections(Which::Trashed), [name("notes")]);
    assert_eq!(collections(Which::Shown), [name("lists"), name("notes")]);
    documents::put(&conn, &edit).unwrap();
    assert_eq!(documents::count_trashed(&conn).unwrap(), 0);
    assert_eq!(collections(Which::Trashed), []);

    assert_eq!(documents::remove(&conn, &object(2)).unwrap(), Some(numbers[2]));
    assert_eq!(documents::remove(&conn, &object(2)).unwrap(), None);
    assert_eq!(documents::find(&conn, &object(2)).unwrap(), None);
    assert_eq!(documents::count(&conn, None).unwrap(), 4);
}

#[test]
fn a_visitor_that_fails_ends_the_walk_with_its_error() {
    let conn = space();
    for n in 0..3 {
        put_document(&conn, object(n), "notes", "{}");
    }
    let mut visited = 0;
    let result = documents::each(&conn, None, |_| {
        visited += 1;
        Err(StoreError::Closed)
    });
    assert!(matches!(result, Err(StoreError::Closed)));
    assert_eq!(visited, 1);
}

#[test]
fn of_several_deletions_every_order_keeps_the_same_one() {
    let tombstone = |ms, author, seq| tombstones::Tombstone {
        object: object(1),
        band: Band::Green,
        collection: Some(name("notes")),
        clock: clock(ms),
        device: device(author),
        seq,
        index: 0,
    };
    let all = [tombstone(5, 2, 9), tombstone(5, 1, 30), tombstone(5, 1, 4), tombstone(6, 0, 1)];
    for first in 0..4 {
        for second in 0..4 {
            let conn = space();
            let rest = 0..4;
            for n in [first, second].into_iter().chain(rest) {
                tombstones::put(&conn, &all[n]).unwrap();
            }
            assert_eq!(tombstones::of_object(&conn, &object(1)).unwrap(), [all[2].clone()]);
            assert_eq!(tombstones::erased_up_to(&conn, &object(1)).unwrap(), None);
        }
    }
    // Those that erase it come before all others, and among them the first counts.
    let erases = |n: usize| tombstones::Tombstone { collection: None, ..all[n].clone() };
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let conn = space();
        for n in order {
            let of = [all[0].clone(), erases(1), all[2].clone(), erases(3)];
            tombstones::put(&conn, &of[n]).unwrap();
        }
        assert_eq!(tombstones::of_object(&conn, &object(1)).unwrap(), [erases(1)]);
        assert_eq!(tombstones::erased_up_to(&conn, &object(1)).unwrap(), Some(Band::Green));
    }
    let conn = space();
    for n in [3, 1, 2] {
        let mut tombstone = tombstone(1, 1, 1);
        tombstone.object = object(n);
        tombstones::put(&conn, &tombstone).unwrap();
    }
    assert!(tombstones::contains(&conn, &object(2)).unwrap());
    assert!(!tombstones::contains(&conn, &object(4)).unwrap());
    // In another band it is another object.
    let amber = tombstones::Tombstone { band: Band::Amber, ..tombstone(7, 1, 1) };
    tombstones::put(&conn, &amber).unwrap();
    assert!(tombstones::contains_in(&conn, &object(1), Band::Amber).unwrap());
    assert!(!tombstones::contains_in(&conn, &object(2), Band::Amber).unwrap());
    assert_eq!(tombstones::of_object(&conn, &object(1)).unwrap().len(), 2);
    tombstones::forget_above(&conn, Some(Band::Green)).unwrap();
    assert!(!tombstones::contains_in(&conn, &object(1), Band::Amber).unwrap());
    let page = |after: Option<u8>| -> Vec<ObjectId> {
        let after = after.map(|n| (object(n), Band::Green));
        let page = tombstones::page(&conn, after, 2).unwrap();
        page.into_iter().map(|tombstone| tombstone.object).collect()
    };
    assert_eq!(page(None), [object(1), object(2)]);
    assert_eq!(page(Some(2)), [object(3)]);
    // What was erased stays so, whatever band it was in.
    let of_erasure = tombstones::Tombstone { collection: None, ..tombstone(1, 1, 1) };
    tombstones::put(&conn, &tombstones::Tombstone { object: object(4), ..of_erasure }).unwrap();
    tombstones::forget_above(&conn, None).unwrap();
    assert_eq!(page(None), [object(4)]);
}

#[test]
fn an_idempotency_key_counts_once() {
    let conn = space();
    let key = IdempotencyKey::new([1; 16]);
    let unit = units::Unit { digest: Hash::new([2; 32]), log: None, seq: 3 };
    assert_eq!(units::find(&conn, &key).unwrap(), None);
    units::add(&conn, &key, &unit).unwrap();
    assert_eq!(units::find(&conn, &key).unwrap(), Some(unit));
    let error = units::add(&conn, &key, &unit).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("units"), ErrorKind::Constraint));
}

#[test]
fn only_a_larger_acknowledgement_replaces_one() {
    let conn = space();
    let ack = |acker, size| control::Ack {
        acker: device(acker),
        device: device(9),
        size,
        root: Hash::new([size as u8; 32]),
        time_s: 100 - size,
        signature: [size as u8; 64],
    };
    assert!(control::put_ack(&conn, &ack(1, 5)).unwrap());
    assert!(!control::put_ack(&conn, &ack(1, 5)).unwrap());
    assert!(!control::put_ack(&conn, &ack(1, 4)).unwrap());
    assert!(control::put_ack(&conn, &ack(1, 6)).unwrap());
    assert!(control::put_ack(&conn, &ack(2, 1)).unwrap());
    assert_eq!(control::acks(&conn).unwrap(), [ack(1, 6), ack(2, 1)]);
    assert_eq!(control::acks_of(&conn, &device(9)).unwrap(), [ack(1, 6), ack(2, 1)]);
    assert_eq!(control::acks_of(&conn, &device(1)).unwrap(), []);
}

#[test]
fn epochs_acts_secrets_and_values_come_back() {
    let conn = space();
    let epoch = |n: u8, wrapped: Option<&[u8]>| control::Epoch {
        epoch: EpochId::new([n; 32]),
        opener: device(n),
        act: vec![n],
        wrapped: wrapped.map(<[u8]>::to_vec),
    };
    control::add_epoch(&conn, &epoch(9, None)).unwrap();
    control::add_epoch(&conn, &epoch(2, Some(b"w"))).unwrap();
    assert_eq!(control::epochs(&conn).unwrap(), [epoch(9, None), epoch(2, Some(b"w"))]);
    control::set_epoch_secrets(&conn, &EpochId::new([9; 32]), Some(b"x")).unwrap();
    control::set_epoch_secrets(&conn, &EpochId::new([2; 32]), None).unwrap();
    assert_eq!(control::epoch(&conn, &EpochId::new([9; 32])).unwrap(), Some(epoch(9, Some(b"x"))));
    assert_eq!(control::epoch(&conn, &EpochId::new([2; 32])).unwrap(), Some(epoch(2, None)));

    let log = logs::find_or_add(&conn, &device(1)).unwrap().log;
    let act =
        |seq| control::Act { place: Place { log, seq, index: 1 }, kind: 17, body: vec![seq as u8] };
    for seq in [3, 1, 2] {
        control::add_act(&conn, &act(seq)).unwrap();
    }
    assert_eq!(control::acts_but(&conn, [0, 0]).unwrap(), [act(3), act(1), act(2)]);

    for value in [b"one".as_slice(), b"two"] {
        control::set_secret(&conn, "signing", value).unwrap();
        assert_eq!(control::secret(&conn, "signing").unwrap().unwrap(), value);
        tables::set_value(&conn, "name", value).unwrap();
        assert_eq!(tables::value(&conn, "name").unwrap().unwrap(), value);
    }
    control::remove_secret(&conn, "signing").unwrap();
    assert_eq!(control::secret(&conn, "signing").unwrap(), None);
    assert_eq!(tables::value(&conn, "other").unwrap(), None);
}

#[test]
fn the_status_counts() {
    let conn = space();
    append(&conn, &device(1), &[&[sealed(b"a"), Payload::Missing], &[sealed(b"b")]]);
    append(&conn, &device(2), &[&[]]);
    put_document(&conn, object(1), "notes", "{}");
    let status = tables::status(&conn).unwrap();
    assert_eq!((status.logs, status.entries, status.transactions), (2, 3, 2));
    assert_eq!((status.sections, status.sections_missing, status.sections_waiting), (3, 1, 2));
    let counts = tables::counts_up_to(&conn, Band::Black).unwrap();
    assert_eq!((counts.documents, counts.trashed, counts.tombstones), (1, 0, 0));
    assert!(status.database_bytes > status.free_bytes);
}

#[test]
fn a_row_that_nobody_wrote_is_damage() {
    let conn = space();
    put_document(&conn, object(1), "notes", "{}");
    conn.execute("UPDATE documents SET collection = 'no such/name'", []).unwrap();
    let error = documents::find(&conn, &object(1)).unwrap_err();
    assert_eq!((error.part(), error.kind()), (Some("documents"), ErrorKind::Corrupt));
    conn.execute("UPDATE logs SET frontier = x'00'", []).unwrap();
    assert_eq!(logs::every(&conn).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Looks at the plan of every query that takes a key: none may scan a table.
#[test]
fn what_has_a_key_is_found_by_an_index() {
    let mut conn = space();
    append(&conn, &device(1), &[&[sealed(b"a")]]);
    put_document(&conn, object(1), "notes", r#"{"path":"a"}"#);
    let log = logs::find(&conn, &device(1)).unwrap().unwrap().log;
    let place = Place { log, seq: 1, index: 0 };
    let (sender, statements) = mpsc::channel();
    let record = move |event: TraceEvent<'_>| {
        if let TraceEvent::Stmt(statement, _) = event {
            sender.send(statement.expanded_sql().unwrap()).unwrap();
        }
    };
    conn.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(record)).unwrap();
    logs::by_number(&conn, log).unwrap();
    entries::find(&conn, log, 1).unwrap();
    entries::range(&conn, log, 1, 2).unwrap();
    sections::find(&conn, place).unwrap();
    sections::payload(&conn, place).unwrap();
    sections::of_entry(&conn, log, 1).unwrap();
    sections::of_object(&conn, &object(1)).unwrap();
    sections::waiting(&conn, 0, 1).unwrap();
    sections::lacking(&conn, 0, 1).unwrap();
    sections::any_unread(&conn).unwrap();
    sections::settle(&conn, place, State::Applied, None).unwrap();
    let last = transactions::last_of(&conn, log).unwrap().unwrap();
    transactions::end(&conn).unwrap();
    transactions::Walk::new(&conn, []).unwrap().next(&conn).unwrap();
    transactions::covering(&conn, log, 1).unwrap();
    transactions::batch(&conn, &last, 1).unwrap();
    documents::find(&conn, &object(1)).unwrap();
    assert_eq!(documents::by_path(&conn, &name("notes"), "a").unwrap().len(), 1);
    documents::page(&conn, (Which::Shown, Some(&name("notes")), Band::Black), 0, 1).unwrap();
    documents::page(&conn, (Which::Shown, None, Band::Black), 0, 1).unwrap();
    documents::each(&conn, Some(&name("notes")), |_| Ok::<_, StoreError>(())).unwrap();
    documents::count(&conn, Some(&name("notes"))).unwrap();
    documents::page(&conn, (Which::Trashed, None, Band::Black), 0, 1).unwrap();
    documents::page(&conn, (Which::Trashed, Some(&name("notes")), Band::Black), 0, 1).unwrap();
    for which in [Which::Shown, Which::Trashed] {
        let until = tables::retention::Until::Position(1);
        tables::retention::old(&conn, which, (&name("notes"), Band::Green), until, 1).unwrap();
    }
    documents::remove(&conn, &object(1)).unwrap();
    tombstones::page(&conn, Some((object(1), Band::Green)), 1).unwrap();
    logs::set_frontier(&conn, log, &logs::by_number(&conn, log).unwrap().frontier).unwrap();
    conn.trace_v2(TraceEventCodes::empty(), None::<fn(TraceEvent<'_>)>).unwrap();
    let statements: Vec<String> = statements.try_iter().collect();
    assert!(statements.len() > 24, "{}", statements.len());
    for sql in statements {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            explain.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        for step in plan {
            let of_all_logs = step == "SCAN logs";
            let slow = step.starts_with("SCAN") || step.contains("TEMP B-TREE");
            assert!(of_all_logs || !slow, "{step}: {sql}");
        }
    }
}
