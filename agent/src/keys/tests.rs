//! What each step of a replacement leaves on the disk.

use common::{
    ids::{BootId, BootNanos, KeyEpoch, Sequence},
    keyring::Seed,
};

use super::*;

fn seed(byte: u8) -> Seed {
    Seed::filled(|seed| {
        *seed = [byte; 32];
        Ok::<(), ()>(())
    })
    .unwrap()
}

fn began(sequence: u64) -> EpochBegan {
    EpochBegan {
        sequence: Sequence(sequence),
        boot: BootId([1; 16]),
        at: BootNanos(7),
    }
}

fn store() -> (tempfile::TempDir, KeyStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = KeyStore::at(dir.path().join("signing.keys"));
    let record = KeyRecord::first(seed(1), seed(2), BootId([1; 16]), BootNanos(1));
    store.create(&record).unwrap();
    (dir, store)
}

#[test]
fn keys_follow_one_another_and_the_old_bytes_are_overwritten() {
    let (dir, store) = store();
    let (mut ring, _) = store.open().unwrap();
    let mut gone: Vec<[u8; 32]> = Vec::new();
    for epoch in 1..6_u64 {
        let bytes = std::fs::read(&store.path).unwrap();
        let at = usize::from(epoch % 2 == 1) * KEY_SLOT_STRIDE;
        gone.push(bytes[at + 56..at + 88].try_into().unwrap());
        let next = store.ratchet(ring.held(), began(epoch)).unwrap();
        assert_eq!(next.held().key, ring.held().next);
        assert_eq!(next.held().previous, Some(ring.held().key));
        assert_eq!(next.held().epoch, KeyEpoch(epoch));
        let findings;
        (ring, findings) = store.open().unwrap();
        assert_eq!(findings, []);
        assert_eq!(ring.held(), next.held());
        let bytes = std::fs::read(&store.path).unwrap();
        assert_eq!(bytes.len(), KEY_FILE_BYTES);
        for old in &gone {
            assert!(!bytes.windows(32).any(|window| window == old));
        }
    }
    assert_eq!(gone[0], [1; 32], "the search looks at private keys");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let mode = std::fs::metadata(&store.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

/// Killed between the two steps: both pairs lie there. The next start goes on with the new one, and the old
/// private key is gone before anything can be signed.
#[test]
fn a_start_finishes_the_erasure_that_a_kill_cut_short() {
    let (_dir, store) = store();
    let (old, _) = store.read().unwrap();
    let next = old.successor(seed(3), began(9)).unwrap();
    store.write(next.slot(), &next.encode()).unwrap();
    let has_old = || {
        std::fs::read(&store.path)
            .unwrap()
            .windows(32)
            .any(|window| window == [1; 32])
    };
    assert!(has_old());
    assert_eq!(store.open().unwrap().0.held(), &next.held());
    assert!(!has_old());
}

/// The sync of the zeros failed: what is read is zeros, and the disk may hold the old key until they are written again.
#[test]
fn a_start_writes_zeros_over_zeros() {
    let (_dir, store) = store();
    let before = std::fs::read(&store.path).unwrap();
    let file = open_private(&store.path, true).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    store.open().unwrap();
    assert_ne!(
        file.metadata().unwrap().modified().unwrap(),
        std::time::SystemTime::UNIX_EPOCH
    );
    assert_eq!(std::fs::read(&store.path).unwrap(), before);
}

/// Killed within the first step: the new pair is torn, and nothing announced it.
#[test]
fn a_torn_first_step_changes_nothing() {
    let (_dir, store) = store();
    let (old, _) = store.read().unwrap();
    let next = old.successor(seed(3), began(9)).unwrap();
    let mut torn = next.encode();
    torn[150..].zeroize();
    store.write(next.slot(), &torn).unwrap();
    let (keyring, findings) = store.open().unwrap();
    assert_eq!(keyring.held(), &old.held());
    assert_eq!(findings, [KeyFileFinding::Leftover { slot: next.slot() }]);
    assert_eq!(store.read().unwrap().1, OtherSlot::Erased);
}

/// Bytes beside the keys were read over: a thief, or a rotting disk, could put there what he liked.
#[test]
fn what_lies_beside_the_keys_is_told_once_and_overwritten() {
    let (_dir, store) = store();
    let good = std::fs::read(&store.path).unwrap();
    let held = store.read().unwrap().0;
    let at = held.slot() * KEY_SLOT_STRIDE + 300;
    let mut bad = good.clone();
    bad[at] = 7;
    bad.push(0);
    std::fs::write(&store.path, &bad).unwrap();
    let found = [
        KeyFileFinding::Length {
            bytes: KEY_FILE_BYTES + 1,
        },
        KeyFileFinding::Stray { offset: at },
    ];
    assert_eq!(store.examine().unwrap(), found);
    let (keyring, findings) = store.open().unwrap();
    assert_eq!((keyring.held(), &findings[..]), (&held.held(), &found[..]));
    assert_eq!(std::fs::read(&store.path).unwrap(), good);
    assert_eq!(store.open().unwrap().1, []);
}

#[test]
fn a_file_that_was_swapped_or_taken_away_is_not_replaced() {
    let (_dir, store) = store();
    let (ring, _) = store.open().unwrap();
    let other = KeyRecord::first(seed(8), seed(9), BootId([1; 16]), BootNanos(1));
    store.create(&other).unwrap();
    assert!(matches!(
        store.ratchet(ring.held(), began(1)),
        Err(IdentityError::Replaced(_))
    ));
    std::fs::write(&store.path, b"short").unwrap();
    assert!(matches!(store.open(), Err(IdentityError::Keys { .. })));
    std::fs::remove_file(&store.path).unwrap();
    assert!(matches!(
        store.ratchet(ring.held(), began(1)),
        Err(IdentityError::Missing(_))
    ));
}
