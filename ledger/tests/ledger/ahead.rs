//! What is read of a group at once is what is read of it leaf by leaf, or nothing.

use common::ids::LeafIndex;
use ledger::{Memory, Reader, storage::Storage};

use crate::support::{append, body, header, open};

/// Longer than any group here.
const ALL: u64 = 1 << 20;

/// How many entries are had from `leaf` on; each is the one that was appended.
fn had(reader: &Reader, leaf: u64, bytes_max: u64) -> u64 {
    let ahead = reader.ahead(LeafIndex(leaf), bytes_max);
    let mut next = leaf;
    for (found_header, found_body) in ahead.iter() {
        assert_eq!((found_header, found_body), (&*header(next), &*body(next)));
        next += 1;
    }
    next - leaf
}

#[test]
fn a_group_is_had_to_its_end_as_far_as_a_checkpoint_reaches() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    append(&mut ledger, 0, 300).unwrap();
    ledger.integrate_and_publish().unwrap();
    append(&mut ledger, 300, 20).unwrap();
    let reader = ledger.reader();
    assert_eq!([0, 7, 299].map(|leaf| had(&reader, leaf, ALL)), [300, 293, 1]);
    assert_eq!([300, 319, 320].map(|leaf| had(&reader, leaf, ALL)), [0; 3]);
    ledger.integrate_and_publish().unwrap();
    assert_eq!(
        [299, 300, 319, 320].map(|leaf| had(&reader, leaf, ALL)),
        [1, 20, 1, 0]
    );
    let group = memory.length("groups/000").unwrap().unwrap();
    assert_eq!([group - 1, group].map(|max| had(&reader, 0, max)), [0, 300]);
}

#[test]
fn nothing_that_rotted_is_had() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    append(&mut ledger, 0, 20).unwrap();
    ledger.integrate_and_publish().unwrap();
    let good = memory.read("groups/000", ALL).unwrap().unwrap();
    let mut cut = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        memory.tamper("groups/000", Some(&bad));
        let all = had(&ledger.reader(), 0, ALL);
        assert!(all < 20, "byte {at}");
        cut += u64::from(all > 0);
    }
    // A spoiled body hides what is behind it, a spoiled head all.
    assert!(cut > 1000, "{cut}");
    memory.tamper("groups/000", None);
    assert_eq!(had(&ledger.reader(), 0, ALL), 0);
}
