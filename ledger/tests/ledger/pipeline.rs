//! The whole pipeline on both storages: sequence, integrate, publish, read, reopen.

use std::sync::Arc;

use crate::support::{self, append, check_all, check_extends, describe, key, open};
use common::ids::LeafIndex;
use ledger::{AppendError, Ledger, Local, Memory, OpenError, ReadError, Reader, storage::Storage};

/// Group sizes that cross tile boundaries in several ways.
const GROUPS: [u64; 9] = [1, 2, 250, 3, 1, 255, 256, 600, 40];

#[test]
fn what_is_appended_is_published_read_back_and_proven() {
    let dir = tempfile::tempdir().unwrap();
    for local in [false, true] {
        let memory = Memory::new();
        let storage = || -> Arc<dyn Storage> {
            if local {
                Arc::new(Local::open_writer(dir.path()).unwrap())
            } else {
                Arc::new(memory.clone())
            }
        };
        let (mut ledger, recovered) = Ledger::open(storage(), key(), describe).unwrap();
        assert_eq!((recovered.leaves, recovered.published), (0, true));
        let mut seen = vec![ledger.reader().published()];
        assert_eq!(seen[0].checkpoint.size, 0);
        let mut next = 0;
        for count in GROUPS {
            assert_eq!(append(&mut ledger, next, count).unwrap(), LeafIndex(next));
            let unpublished = ledger.reader().receipt(LeafIndex(next));
            assert!(matches!(unpublished, Err(ReadError::NotPublished { .. })));
            next += count;
            let published = ledger.integrate_and_publish().unwrap();
            assert_eq!(published.checkpoint.size, next);
            for old in &seen {
                check_extends(&ledger.reader(), old, &published);
            }
            seen.push(published);
        }
        check_all(&ledger.reader(), next);
        assert!(matches!(
            ledger.reader().receipt(LeafIndex(next)),
            Err(ReadError::NoSuchLeaf { .. })
        ));
        assert!(matches!(
            ledger.reader().consistency(next, next - 1),
            Err(ReadError::NoSuchSize { .. })
        ));
        assert_eq!(ledger.integrate_and_publish().unwrap(), seen[GROUPS.len()]);
        drop(ledger);

        let (mut ledger, recovered) = Ledger::open(storage(), key(), describe).unwrap();
        assert_eq!((recovered.found_size, recovered.replayed_groups), (next, 0));
        check_all(&ledger.reader(), next);
        append(&mut ledger, next, 10).unwrap();
        drop(ledger);
        // Not published before the end: recovery does it.
        let (ledger, recovered) = Ledger::open(storage(), key(), describe).unwrap();
        assert_eq!(
            (recovered.found_size, recovered.replayed_groups, recovered.leaves),
            (next, 1, next + 10)
        );
        check_all(&ledger.reader(), next + 10);
        for old in &seen {
            check_extends(&ledger.reader(), old, &ledger.reader().published());
        }
    }
}

#[test]
fn partials_go_once_the_full_tile_is_there() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    for i in 0..30 {
        append(&mut ledger, i * 10, 10).unwrap();
        ledger.integrate_and_publish().unwrap();
    }
    let partials = |prefix: &str| memory.list(prefix).unwrap().len();
    assert_eq!(partials("log/tile/0/000.p"), 0);
    assert_eq!(partials("log/tile/entries/000.p"), 0);
    // 256 lies inside the 26th group: sizes 260 to 300 left partials of the second tile.
    assert_eq!(partials("log/tile/0/001.p"), 5);
    assert!(ledger.reader().resource("tile/0/000").unwrap().is_some());
    assert_eq!(ledger.reader().resource("tile/0/../checkpoint").unwrap(), None);
    assert!(ledger.reader().resource("checkpoint").unwrap().is_some());
    assert_eq!(ledger.reader().resource("groups/000").unwrap(), None);
}

#[test]
fn another_key_and_missing_or_damaged_objects_are_named() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    append(&mut ledger, 0, 5).unwrap();
    append(&mut ledger, 5, 5).unwrap();
    ledger.integrate_and_publish().unwrap();
    append(&mut ledger, 10, 5).unwrap();
    let check = |tamper: &dyn Fn(&Memory), expect: &dyn Fn(&OpenError) -> bool, text: &str| {
        let copy = memory.snapshot();
        tamper(&copy);
        let error = open(copy).map(|_| ()).unwrap_err();
        assert!(expect(&error) && error.to_string().contains(text), "{error}");
    };
    let other = common::note::SignerKey::from_seed("ledger.example/test", &[8; 32]).unwrap();
    let error = Ledger::open(Arc::new(memory.snapshot()), other, describe)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, OpenError::OtherKey { .. }));
    let flip = |path: &'static str, at: usize| {
        move |memory: &Memory| {
            let mut bytes = memory.read(path, 1 << 20).unwrap().unwrap();
            bytes[at] ^= 1;
            memory.tamper(path, Some(&bytes));
        }
    };
    check(
        &|m| m.tamper("ledger.vkey", None),
        &|e| matches!(e, OpenError::NoKey),
        "missing",
    );
    check(
        &flip("ledger.vkey", 3),
        &|e| matches!(e, OpenError::OtherKey { .. }),
        "ledger.vkey",
    );
    check(
        &flip("log/checkpoint", 30),
        &|e| matches!(e, OpenError::Checkpoint(_)),
        "log/checkpoint",
    );
    check(
        &flip("groups/000", 60),
        &|e| matches!(e, OpenError::Group { .. }),
        "groups/000",
    );
    // The body of a group that no checkpoint covers yet is checked as well.
    let last = memory.read("groups/010", 1 << 20).unwrap().unwrap().len() - 1;
    check(
        &flip("groups/010", last),
        &|e| matches!(e, OpenError::Group { .. }),
        "body 4",
    );
    check(
        &|m| m.tamper("groups/005", None),
        &|e| matches!(e, OpenError::MissingGroup { .. }),
        "leaf 5",
    );
    check(
        &|m| {
            m.tamper("groups/010", None);
            m.tamper("groups/005", None);
        },
        &|e| matches!(e, OpenError::MissingGroup { .. }),
        "10 leaves",
    );
    check(
        &|m| m.tamper("groups/x", Some(b"")),
        &|e| matches!(e, OpenError::StrayObject(_)),
        "groups/x",
    );
    check(
        &flip("log/tile/0/000.p/10", 7),
        &|e| matches!(e, OpenError::Resource { .. }),
        "entries/000.p/10",
    );
    check(
        &flip("log/tile/entries/000.p/10", 7),
        &|e| matches!(e, OpenError::Resource { .. }),
        "entry 0",
    );
    check(
        &|m| m.tamper("log/tile/0/000.p/10", None),
        &|e| matches!(e, OpenError::Resource { .. }),
        "tile/0/000.p/10: missing",
    );
}

#[test]
fn a_backlog_is_refused_before_anything_is_written() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    let entry = ledger::Entry {
        header: b"h",
        body: b"",
    };
    let group = vec![entry; 65_536];
    for _ in 0..4 {
        ledger.append_group(&group).unwrap();
    }
    let steps = memory.steps();
    assert!(matches!(
        ledger.append_group(&[entry]),
        Err(AppendError::Backlog(_))
    ));
    assert_eq!(memory.steps(), steps);
    ledger.integrate_and_publish().unwrap();
    ledger.append_group(&[entry]).unwrap();
}

#[test]
fn reading_names_what_rotted() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    append(&mut ledger, 0, 20).unwrap();
    ledger.integrate_and_publish().unwrap();
    let good = memory.read("groups/000", 1 << 20).unwrap().unwrap();
    let mut flipped = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        memory.tamper("groups/000", Some(&bad));
        let reader = ledger.reader();
        let faults = (0..20).filter(|i| {
            let (header, body) = (reader.header(LeafIndex(*i)), reader.body(LeafIndex(*i)));
            let rotten = |r: &Result<Vec<u8>, ReadError>| matches!(r, Err(ReadError::Rotten { leaf, .. }) if leaf.0 == *i);
            assert!(header.is_ok() || rotten(&header));
            assert!(body.is_ok() || rotten(&body));
            header.is_err() || body.is_err()
        });
        flipped += faults.count();
    }
    // Each byte of each header and body, and nothing else, spoils exactly its own entry.
    let expected: usize = (0..20)
        .map(|i| support::header(i).len() + support::body(i).len())
        .sum();
    assert_eq!(flipped, expected);
    memory.tamper("groups/000", None);
    assert!(matches!(
        ledger.reader().body(LeafIndex(3)),
        Err(ReadError::Missing { .. })
    ));
}

#[test]
fn proofs_over_rotten_tiles_do_not_leave() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    append(&mut ledger, 0, 20).unwrap();
    ledger.integrate_and_publish().unwrap();
    // The writer has its edge in memory; who comes later reads what is stored.
    let reader = || Reader::open(Arc::new(memory.clone()), describe).unwrap();
    reader().receipt(LeafIndex(9)).unwrap();
    reader().consistency(7, 20).unwrap();
    let mut tile = memory.read("log/tile/0/000.p/20", 1 << 20).unwrap().unwrap();
    tile[5] ^= 1;
    memory.tamper("log/tile/0/000.p/20", Some(&tile));
    assert!(matches!(
        reader().receipt(LeafIndex(9)),
        Err(ReadError::Unprovable { .. })
    ));
    assert!(matches!(
        reader().consistency(7, 20),
        Err(ReadError::Inconsistent { .. })
    ));
    memory.tamper("log/tile/0/000.p/20", None);
    assert!(matches!(reader().receipt(LeafIndex(9)), Err(ReadError::Tile(_))));
    ledger.reader().receipt(LeafIndex(9)).unwrap();
}
