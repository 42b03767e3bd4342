//! Checkpoints that are shown before they are stored: whole for every reader of the running ledger, and kept by the
//! next start.

use std::sync::{Arc, Mutex};

use common::{
    merkle::leaf_hash,
    note::WitnessSigner,
    tile::{Kind, TilePath, entries},
    witness::cosign,
};
use ledger::{
    Ledger, Memory, Published, Reader,
    frontier::Frontier,
    fsck::{self, Cause, Options, Seen},
    split::{Compared, compare},
    storage::Storage,
};

use crate::support::{append, check_all, check_extends, check_ledger, describe, header, key, open};

/// Everything a C2SP client fetches for this head, in the widths it asks for, gives its root.
fn served(reader: &Reader, head: &Published) {
    let size = head.checkpoint.size;
    let mut tree = Frontier::new();
    for block in 0..size.div_ceil(256) {
        let path = TilePath::in_tree(Kind::Entries, block, size).unwrap();
        // Whoever finds a partial form gone takes the full one.
        let bytes = [path, path.full()]
            .iter()
            .find_map(|path| reader.resource(&path.to_string()).unwrap())
            .unwrap_or_else(|| panic!("{path} of {size} leaves is not served"));
        for entry in entries(&bytes).map(Result::unwrap).take(usize::from(path.width)) {
            tree.push(entry.1, &mut Vec::new()).unwrap();
        }
    }
    assert_eq!((tree.size(), tree.root()), (size, head.checkpoint.root));
    for resource in tree.partials() {
        let found = reader.resource(&resource.path.to_string()).unwrap();
        assert!(
            found.is_none_or(|found| found == resource.bytes),
            "{} is served with other bytes",
            resource.path
        );
    }
}

#[test]
fn what_is_shown_is_served_and_proven_before_and_after_it_is_stored() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    let reader = ledger.reader();
    let (mut heads, mut next) = (Vec::new(), 0);
    for (round, count) in [3_u64, 250, 5, 40, 260, 1].into_iter().enumerate() {
        append(&mut ledger, next, count).unwrap();
        next += count;
        let shown = ledger.show().unwrap();
        assert_eq!(shown.checkpoint.size, next);
        assert_eq!(reader.published(), shown);
        assert!(reader.stored_size() < next);
        check_all(&reader, next);
        heads.push(shown);
        for head in &heads {
            served(&reader, head);
            check_extends(&reader, head, &reader.published());
        }
        if round % 2 == 1 {
            assert_eq!(ledger.integrate_and_publish().unwrap(), heads[round]);
            assert_eq!((reader.stored_size(), ledger.waiting()), (next, 0));
            assert!(check_ledger(&memory).is_sound());
            heads.iter().for_each(|head| served(&reader, head));
        }
    }
    // Not every width that was shown was stored; a wider one of the same tile has it.
    for (at, old) in heads.iter().enumerate() {
        for new in &heads[at + 1..] {
            let found = compare(
                &old.note,
                &new.note,
                reader.keys(),
                Some(Arc::new(memory.clone())),
            );
            assert!(matches!(found, Ok(Compared::Consistent { .. })), "{found:?}");
        }
    }
    // A store that ends after more was shown takes nothing back.
    append(&mut ledger, next, 10).unwrap();
    let draft = ledger.draft().unwrap().unwrap();
    append(&mut ledger, next + 10, 300).unwrap();
    let shown = ledger.show().unwrap();
    let stored = draft.integrate().unwrap().store("").unwrap();
    assert_eq!(ledger.reveal(stored), shown);
    assert_eq!(reader.stored_size(), next + 10);
    served(&reader, &shown);
    check_all(&reader, next + 310);
}

#[test]
fn a_checkpoint_that_was_shown_is_kept_by_the_next_start() {
    for asks_witnesses in [false, true] {
        let memory = Memory::new();
        let (mut ledger, _) = open(memory.clone()).unwrap();
        append(&mut ledger, 0, 300).unwrap();
        ledger.integrate_and_publish().unwrap();
        append(&mut ledger, 300, 77).unwrap();
        let shown = ledger.show().unwrap();
        drop(ledger);
        memory.crash(7);
        let dir = tempfile::tempdir().unwrap();
        let opened = |storage: Arc<dyn Storage>| {
            let open = if asks_witnesses {
                Ledger::open_held
            } else {
                Ledger::open_indexed
            };
            open(storage, key(), describe, dir.path(), Box::new(|_| ()))
        };
        let (ledger, found) = opened(Arc::new(memory.clone())).unwrap();
        assert_eq!(
            (found.found_size, found.leaves, found.published),
            (300, 377, true)
        );
        assert_eq!(ledger.reader().published().checkpoint, shown.checkpoint);
        assert_eq!(ledger.reader().stored_size(), 377);
    }
}

#[test]
fn what_follows_a_cosigned_checkpoint_was_shown_to_nobody_and_waits_for_witnesses() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    append(&mut ledger, 0, 5).unwrap();
    let candidate = ledger.integrate().unwrap().unwrap();
    let witness = WitnessSigner::from_seed("witness.example/w", &[9; 32]).unwrap();
    let line = cosign(&witness, &candidate.head().checkpoint, 1);
    ledger.publish(candidate, &line).unwrap();
    append(&mut ledger, 5, 5).unwrap();
    drop(ledger);
    let dir = tempfile::tempdir().unwrap();
    let (ledger, found) =
        Ledger::open_held(Arc::new(memory), key(), describe, dir.path(), Box::new(|_| ())).unwrap();
    assert_eq!((found.found_size, found.leaves, found.published), (5, 10, false));
    assert_eq!(ledger.reader().published().checkpoint.size, 5);
}

#[test]
fn a_receipt_ahead_of_the_disk_is_no_alarm_where_a_writer_stores_it() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    append(&mut ledger, 0, 20).unwrap();
    ledger.integrate_and_publish().unwrap();
    append(&mut ledger, 20, 20).unwrap();
    let seen = [Seen {
        at: "a receipt".to_owned(),
        head: ledger.show().unwrap().checkpoint,
    }];
    let sound = |_, found: &[u8], _: &[u8]| {
        assert!((0..40).any(|i| leaf_hash(found) == leaf_hash(&header(i))));
        Ok(())
    };
    let ledger = Mutex::new(ledger);
    let stores = |looked: u32| {
        if looked == 2 {
            ledger.lock().unwrap().integrate_and_publish().unwrap();
        }
        looked < 3
    };
    let check = |wait: Option<&(dyn Fn(u32) -> bool + Sync)>| {
        let options = Options {
            seen: &seen,
            wait,
            ..Options::default()
        };
        fsck::run(&memory, &options, &sound)
    };
    // Nobody stores it: that is said, with what is there.
    for report in [check(None), check(Some(&|looked| looked < 3))] {
        assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
        assert_eq!(report.faults[0].cause, Cause::Missing);
        assert!(
            report.faults[0].what.contains("its leaves are there"),
            "{:?}",
            report.faults
        );
    }
    let report = check(Some(&stores));
    assert!(report.is_sound(), "{:?}", report.faults);
}
