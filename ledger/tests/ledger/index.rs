//! The index on disk: deleted, damaged, behind, ahead or plainly wrong, the answers stay right.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use common::ids::{HostId, LeafIndex, Sequence};
use ledger::{
    IndexNews, Ledger, Memory, OpenError, ReadError,
    index::record::{RECORD_BYTES, Record},
    storage::Storage,
};

use crate::support::{append, check_all, describe, header, key};

type News = Arc<Mutex<Vec<IndexNews>>>;

/// Opens the ledger in `memory` with its index in `directory`, and what is told of that index.
fn open(memory: &Memory, directory: &Path) -> Result<(Ledger, News), OpenError> {
    let news = News::default();
    let heard = Arc::clone(&news);
    let tell = Box::new(move |news| heard.lock().unwrap().push(news));
    let storage = Arc::new(memory.clone());
    let (ledger, _) = Ledger::open_indexed(storage, key(), describe, directory, tell)?;
    Ok((ledger, news))
}

/// Why the index was built again, each time.
fn reasons(news: &News) -> Vec<String> {
    let mut found = Vec::new();
    for news in news.lock().unwrap().iter() {
        if let IndexNews::Building(why) = news {
            found.push(why.clone());
        }
    }
    found
}

/// A ledger of 300 leaves in six groups, all but the last under a checkpoint.
fn made(memory: &Memory, directory: &Path) {
    let (mut ledger, _) = open(memory, directory).unwrap();
    for group in 0..5 {
        append(&mut ledger, group * 50, 50).unwrap();
    }
    ledger.integrate_and_publish().unwrap();
    append(&mut ledger, 250, 50).unwrap();
}

/// Replaces the record of `leaf` by what `change` makes of it, checksum included.
fn forge(directory: &Path, leaf: u64, change: impl FnOnce(&mut Record)) {
    let path = directory.join("leaves");
    let mut bytes = fs::read(&path).unwrap();
    let at = usize::try_from(leaf).unwrap() * RECORD_BYTES;
    let mut record = Record::decode(LeafIndex(leaf), &bytes[at..at + RECORD_BYTES]).unwrap();
    change(&mut record);
    let mut forged = Vec::new();
    record.encode(LeafIndex(leaf), &mut forged);
    bytes[at..at + RECORD_BYTES].copy_from_slice(&forged);
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_index_that_was_kept_is_taken_up_without_reading_groups() {
    let (memory, dir) = (Memory::new(), tempfile::tempdir().unwrap());
    made(&memory, dir.path());
    // Nothing but the last group is needed to start: a damaged one is named when it is read.
    let mut bytes = memory.read("groups/050", 1 << 20).unwrap().unwrap();
    bytes[60] ^= 1;
    memory.tamper("groups/050", Some(&bytes));
    let (ledger, news) = open(&memory, dir.path()).unwrap();
    assert_eq!(reasons(&news), [""; 0]);
    assert_eq!(ledger.reader().header(LeafIndex(40)).unwrap(), header(40));
    assert_eq!(ledger.reader().published().checkpoint.size, 300);
}

#[test]
fn an_index_deleted_cut_or_flipped_is_built_again_and_never_wrong() {
    let (memory, dir) = (Memory::new(), tempfile::tempdir().unwrap());
    made(&memory, dir.path());
    let files: Vec<_> = ["leaves", "tips"].map(|name| dir.path().join(name)).into();
    let good: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let (mut rebuilt, mut spoilt) = (0, 0);
    for (which, bytes) in good.iter().enumerate() {
        let cuts = (0..bytes.len())
            .step_by(bytes.len() / 12)
            .map(|end| bytes[..end].to_vec());
        let flips = (0..bytes.len()).step_by(bytes.len() / 24).map(|at| {
            let mut bad = bytes.clone();
            bad[at] ^= 0x20;
            bad
        });
        for bad in cuts.chain(flips) {
            for (path, bytes) in files.iter().zip(&good) {
                fs::write(path, bytes).unwrap();
            }
            fs::write(&files[which], &bad).unwrap();
            let (ledger, news) = open(&memory, dir.path()).unwrap();
            check_all(&ledger.reader(), 300);
            rebuilt += reasons(&news).len();
            spoilt += 1;
        }
    }
    assert!(rebuilt == spoilt && spoilt > 60, "{rebuilt} of {spoilt}");
    fs::remove_dir_all(dir.path()).unwrap();
    let (ledger, news) = open(&memory, dir.path()).unwrap();
    check_all(&ledger.reader(), 300);
    assert_eq!(reasons(&news), ["there is none"]);
    assert_eq!(
        news.lock().unwrap().last(),
        Some(&IndexNews::Built { leaves: 300 })
    );
}

#[test]
fn an_index_that_lies_is_found_out_said_and_built_again() {
    let (memory, dir) = (Memory::new(), tempfile::tempdir().unwrap());
    made(&memory, dir.path());
    type Change = fn(&mut Record);
    let lies: [(u64, Change); 6] = [
        (100, |record| record.header_at += 1),
        (100, |record| record.entry += 1),
        (101, |record| record.body_crc ^= 1),
        (101, |record| record.body_at += 1),
        // Leaf 100 passes for another batch of its host, and for one of another host.
        (100, |record| record.link.as_mut().unwrap().sequence.0 -= 1),
        (100, |record| record.link = None),
    ];
    for (leaf, change) in lies {
        let (ledger, news) = open(&memory, dir.path()).unwrap();
        assert_eq!(reasons(&news), [""; 0]);
        forge(dir.path(), leaf, change);
        let reader = ledger.reader();
        reader.find(&HostId([1; 32]), Sequence(32)).unwrap();
        check_all(&reader, 300);
        assert_eq!(reasons(&news).len(), 1, "leaf {leaf}: {:?}", reasons(&news));
    }
}

#[test]
fn rot_in_a_group_is_not_blamed_on_the_index() {
    let (memory, dir) = (Memory::new(), tempfile::tempdir().unwrap());
    made(&memory, dir.path());
    let (ledger, news) = open(&memory, dir.path()).unwrap();
    let good = memory.read("groups/050", 1 << 20).unwrap().unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    memory.tamper("groups/050", Some(&bad));
    let reader = ledger.reader();
    assert!(matches!(
        reader.body(LeafIndex(99)),
        Err(ReadError::Rotten { .. })
    ));
    memory.tamper("groups/050", None);
    assert!(matches!(
        reader.header(LeafIndex(99)),
        Err(ReadError::Missing { .. })
    ));
    assert_eq!(reasons(&news), [""; 0]);
}

#[test]
fn an_index_ahead_of_an_older_copy_is_thrown_away() {
    let (memory, dir) = (Memory::new(), tempfile::tempdir().unwrap());
    let (mut ledger, _) = open(&memory, dir.path()).unwrap();
    append(&mut ledger, 0, 50).unwrap();
    ledger.integrate_and_publish().unwrap();
    let older = memory.snapshot();
    drop(ledger);
    let (mut ledger, _) = open(&memory, dir.path()).unwrap();
    append(&mut ledger, 50, 50).unwrap();
    ledger.integrate_and_publish().unwrap();
    drop(ledger);
    let (mut ledger, news) = open(&older, dir.path()).unwrap();
    assert_eq!(reasons(&news).len(), 1);
    check_all(&ledger.reader(), 50);
    append(&mut ledger, 50, 3).unwrap();
    drop(ledger);
    let (ledger, news) = open(&older, dir.path()).unwrap();
    assert_eq!(reasons(&news), [""; 0]);
    check_all(&ledger.reader(), 53);
}

#[test]
fn an_index_behind_catches_up_and_a_checkpoint_behind_it_is_brought_up() {
    let (memory, dir) = (Memory::new(), tempfile::tempdir().unwrap());
    made(&memory, dir.path());
    let kept = tempfile::tempdir().unwrap();
    for name in ["leaves", "tips"] {
        fs::copy(dir.path().join(name), kept.path().join(name)).unwrap();
    }
    let note = memory.read("log/checkpoint", 1 << 16).unwrap().unwrap();
    let (mut ledger, _) = open(&memory, dir.path()).unwrap();
    append(&mut ledger, 300, 700).unwrap();
    ledger.integrate_and_publish().unwrap();
    drop(ledger);
    let (ledger, news) = open(&memory, kept.path()).unwrap();
    assert_eq!(reasons(&news), [""; 0]);
    check_all(&ledger.reader(), 1000);
    drop(ledger);
    // The index has 1000 leaves, the checkpoint 250: those between are published again, to the same root.
    let root = |memory: &Memory| memory.read("log/checkpoint", 1 << 16).unwrap().unwrap();
    let last = root(&memory);
    memory.tamper("log/checkpoint", Some(&note));
    let partials: Vec<String> = memory.list("log").unwrap();
    assert!(!partials.is_empty());
    let (ledger, news) = open(&memory, dir.path()).unwrap();
    assert_eq!(reasons(&news), [""; 0]);
    assert_eq!(root(&memory), last);
    check_all(&ledger.reader(), 1000);
}

#[test]
fn a_damaged_index_over_a_rotten_group_answers_nothing_wrong() {
    let (memory, dir) = (Memory::new(), tempfile::tempdir().unwrap());
    made(&memory, dir.path());
    let (mut ledger, _) = open(&memory, dir.path()).unwrap();
    let mut bytes = memory.read("groups/050", 1 << 20).unwrap().unwrap();
    bytes[60] ^= 1;
    memory.tamper("groups/050", Some(&bytes));
    fs::write(dir.path().join("leaves"), vec![0; 300 * RECORD_BYTES]).unwrap();
    let reader = ledger.reader();
    for _ in 0..5 {
        assert!(matches!(reader.header(LeafIndex(200)), Err(ReadError::Index(_))));
        assert!(matches!(
            reader.find(&HostId([1; 32]), Sequence(3)),
            Err(ReadError::Index(_))
        ));
    }
    assert!(append(&mut ledger, 300, 1).is_err());
    drop(ledger);
    assert!(matches!(open(&memory, dir.path()), Err(OpenError::Group { .. })));
}
