//! The key file under every torn write, and the keys against every state of a chain.

use alloc::{format, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::{KeyHead, KeysDiffer},
    ids::{KeyEpoch, hex},
};

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
        boot: BootId([3; 16]),
        at: BootNanos(1_000),
    }
}

fn first() -> KeyRecord {
    KeyRecord::first(seed(1), seed(2), BootId([3; 16]), BootNanos(5))
}

/// The key of epoch `n` comes from seed `n + 1`.
fn at_epoch(epoch: u8) -> KeyRecord {
    (0..epoch).fold(first(), |record, past| {
        record.successor(seed(past + 3), began(u64::from(past))).unwrap()
    })
}

fn put(file: &mut [u8], record: &KeyRecord) {
    let at = record.slot() * KEY_SLOT_STRIDE;
    file[at..at + KEY_SLOT_STRIDE].copy_from_slice(&record.encode());
}

fn file_of(record: &KeyRecord) -> Vec<u8> {
    let mut file = vec![0; KEY_FILE_BYTES];
    put(&mut file, record);
    file
}

#[test]
fn golden_key_slot() {
    insta::assert_snapshot!(format!("slot: {}\n", hex(&at_epoch(1).encode()[..216])));
}

#[test]
fn what_was_written_is_read_back() {
    for epoch in 0..4 {
        let written = at_epoch(epoch);
        let (read, other) = read_key_file(&file_of(&written)).unwrap();
        assert_eq!(read.held(), written.held());
        assert_eq!((read.began, read.generation), (written.began, written.generation));
        assert_eq!(other, OtherSlot::Erased);
        assert_eq!(read.held().epoch, KeyEpoch(u64::from(epoch)));
        assert_eq!(read.held().key, seed(epoch + 1).public());
        assert_eq!(
            read.held().previous,
            epoch.checked_sub(1).map(|e| seed(e + 1).public())
        );
    }
}

/// The process may be killed, or the power cut, after any byte of either write.
#[test]
fn a_kill_anywhere_in_a_replacement_leaves_the_old_keys_or_the_new() {
    let (old, new) = (at_epoch(2), at_epoch(3));
    let (before, bytes) = (file_of(&old), new.encode());
    let at = new.slot() * KEY_SLOT_STRIDE;
    for written in 0..=KEY_SLOT_STRIDE {
        let mut file = before.clone();
        file[at..at + written].copy_from_slice(&bytes[..written]);
        let (found, other) = read_key_file(&file).unwrap();
        // A slot is whole when its check is: the zeros behind it say nothing.
        let expected = if written < 216 { &old } else { &new };
        assert_eq!(found.held(), expected.held(), "{written} bytes written");
        assert_eq!(
            other == OtherSlot::Erased,
            written == 0,
            "{written} bytes written"
        );
    }
    let mut file = before;
    put(&mut file, &new);
    let old_at = old.slot() * KEY_SLOT_STRIDE;
    for erased in 0..=KEY_SLOT_STRIDE {
        file[old_at..old_at + erased].fill(0);
        let (found, other) = read_key_file(&file).unwrap();
        assert_eq!(found.held(), new.held(), "{erased} bytes erased");
        let rest_is_zero = file[old_at..old_at + KEY_SLOT_STRIDE]
            .iter()
            .all(|byte| *byte == 0);
        assert_eq!(other == OtherSlot::Erased, rest_is_zero);
    }
    // Nothing of the old private key is left, and the keys that are in force are there: the search can find.
    let holds = |needle: &Seed| file.windows(32).any(|window| window == needle.bytes());
    assert!(!holds(&seed(3)) && holds(&seed(4)) && holds(&seed(5)));
}

#[test]
fn a_ruined_file_and_one_of_a_later_format_are_refused() {
    assert_eq!(read_key_file(&[]).unwrap_err(), KeyFileFault::NoKeys);
    let record = first();
    let file = file_of(&record);
    let at = record.slot() * KEY_SLOT_STRIDE;
    for byte in 0..216 {
        let mut bad = file.clone();
        bad[at + byte] ^= 1;
        assert_eq!(
            read_key_file(&bad).unwrap_err(),
            KeyFileFault::NoKeys,
            "byte {byte}"
        );
    }
    let mut later = record.encode();
    later[5] = 9;
    let check = crate::ids::Hash::of(&later[..184]).0;
    later[184..216].copy_from_slice(&check);
    let mut both = file_of(&at_epoch(1));
    both[at..at + KEY_SLOT_STRIDE].copy_from_slice(&later);
    assert_eq!(read_key_file(&both).unwrap_err(), KeyFileFault::Version(9));
}

#[test]
fn keys_that_belong_to_another_moment_of_the_chain_are_refused_by_name() {
    let chain = |epoch: u8| KeyHead {
        epoch: KeyEpoch(u64::from(epoch)),
        key: Some(seed(epoch + 1).public()),
        announced: Some(seed(epoch + 2).public()),
    };
    let none = KeyHead::default();
    for epoch in 0..5 {
        let held = at_epoch(epoch).held();
        assert_eq!(held.fits(&chain(epoch)), Ok(()));
        if let Some(before) = epoch.checked_sub(1) {
            assert_eq!(
                held.fits(&chain(before)),
                Ok(()),
                "replaced, and nothing sealed since"
            );
            assert_eq!(held.fits(&none), Err(KeysDiffer::SpoolOlder { keys: held.epoch }));
        } else {
            assert_eq!(held.fits(&none), Ok(()));
        }
        if let Some(long_before) = epoch.checked_sub(2) {
            let older = Err(KeysDiffer::SpoolOlder { keys: held.epoch });
            assert_eq!(held.fits(&chain(long_before)), older);
        }
        let newer = Err(KeysDiffer::KeysOlder {
            keys: held.epoch,
            chain: KeyEpoch(u64::from(epoch) + 1),
        });
        assert_eq!(held.fits(&chain(epoch + 1)), newer);
        let other = Err(KeysDiffer::Other(held.epoch));
        let (key, announced) = (Some(seed(99).public()), Some(seed(98).public()));
        assert_eq!(held.fits(&KeyHead { key, ..chain(epoch) }), other);
        assert_eq!(
            held.fits(&KeyHead {
                announced,
                ..chain(epoch)
            }),
            other
        );
    }
    // A chain begun before keys were announced goes on under its first key.
    let silent = KeyHead {
        announced: None,
        ..chain(0)
    };
    assert_eq!(first().held().fits(&silent), Ok(()));
}

#[test]
fn an_epoch_ends_by_age_by_count_and_with_its_boot() {
    let policy = EpochPolicy {
        age_ns: 100,
        batches: 10,
    };
    let ring = at_epoch(1).successor(seed(9), began(40)).unwrap().keyring();
    let boot = BootId([3; 16]);
    let over = |now, next| ring.over(&policy, &boot, BootNanos(now), Sequence(next));
    assert!(!over(1_099, 49));
    assert!(over(1_100, 41) && over(1_000, 50));
    assert!(ring.over(&policy, &BootId([4; 16]), BootNanos(1), Sequence(41)));
}

proptest! {
    #[test]
    fn prop_garbage_gives_no_keys(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert_eq!(read_key_file(&bytes).unwrap_err(), KeyFileFault::NoKeys);
    }
}
