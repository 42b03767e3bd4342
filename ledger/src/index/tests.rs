//! The index: what it finds, what it forgets, what it refuses.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::group::{Entry, encode_head};

fn host(number: u8) -> HostId {
    HostId([number; 32])
}

fn facts(of: u8, sequence: u64) -> Option<EntryFacts> {
    Some(EntryFacts {
        host: host(of),
        sequence: Sequence(sequence),
    })
}

fn head(first: u64, entries: usize) -> Head {
    let entries = vec![
        Entry {
            header: b"h",
            body: b"bb",
        };
        entries
    ];
    Head::parse(
        &encode_head(LeafIndex(first), &entries).unwrap(),
        LeafIndex(first),
    )
    .unwrap()
}

fn leaf_of(index: &Index, of: u8, sequence: u64) -> Option<u64> {
    let found = index.find(&host(of), Sequence(sequence)).unwrap();
    found.map(|found| {
        assert_eq!(found.sequence, Sequence(sequence));
        found.leaf.0
    })
}

#[test]
fn batches_are_found_by_host_and_sequence() {
    let mut index = Index::in_memory();
    let (one, two) = (
        [facts(1, 0), facts(2, 0), None, facts(1, 1), facts(1, 2)],
        [facts(2, 1), facts(1, 1), facts(2, 3), facts(2, 2), facts(1, 3)],
    );
    index.add_group(&head(0, 5), &one).unwrap();
    index.add_group(&head(5, 5), &two).unwrap();
    assert_eq!(index.leaves(), 10);
    // Leaf 6 repeats a sequence: the first stays. Leaf 8 comes after a later one: it continues no chain.
    assert_eq!(leaf_of(&index, 1, 1), Some(3));
    assert_eq!(leaf_of(&index, 2, 2), None);
    assert_eq!(leaf_of(&index, 2, 9), None);
    assert_eq!(leaf_of(&index, 3, 0), None);
    assert_eq!(index.head(&host(2)).unwrap().unwrap().sequence, Sequence(3));
    assert_eq!(index.hosts(), [host(1), host(2)]);
    let run = |of, first, last| -> Vec<(u64, u64)> {
        let found = index.run(&host(of), Sequence(first), Sequence(last)).unwrap();
        found
            .iter()
            .map(|found| (found.sequence.0, found.leaf.0))
            .collect()
    };
    assert_eq!(run(1, 0, 3), [(0, 0), (1, 3), (2, 4), (3, 9)]);
    assert_eq!(run(1, 1, 2), [(1, 3), (2, 4)]);
    assert_eq!(run(2, 0, 1), [(0, 1), (1, 5)]);
    for (of, first, last) in [(2, 0, 3), (2, 2, 3), (1, 2, 4), (3, 0, 0)] {
        let found = index.run(&host(of), Sequence(first), Sequence(last));
        assert!(found.is_err(), "one is missing");
    }
    let location = index.location(LeafIndex(7)).unwrap().unwrap();
    assert_eq!(
        (location.group, location.place),
        (LeafIndex(5), head(5, 5).places[2].clone())
    );
    assert_eq!(index.location(LeafIndex(10)).unwrap(), None);
    assert!(index.add_group(&head(11, 1), &[None]).is_err());
}

#[test]
fn a_long_chain_is_searched_in_few_steps() {
    let mut index = Index::in_memory();
    let batches = 100_000;
    for at in 0..batches / 100 {
        let sequences: Vec<_> = (at * 100..at * 100 + 100)
            .map(|sequence| facts(1, sequence))
            .collect();
        index.add_group(&head(at * 100, 100), &sequences).unwrap();
    }
    let mut steps_most = 0;
    for sequence in (0..batches).step_by(997) {
        assert_eq!(leaf_of(&index, 1, sequence), Some(sequence));
        let (mut at, mut steps) = (LeafIndex(batches - 1), 0);
        while at.0 > sequence {
            let link = index.record(at).unwrap().link.unwrap();
            at = if link.jump.0 >= sequence {
                link.jump
            } else {
                link.previous
            };
            steps += 1;
        }
        steps_most = steps_most.max(steps);
    }
    // Three times the logarithm bounds it.
    assert!(steps_most <= 51, "{steps_most}");
}

#[test]
fn what_was_saved_is_taken_up_and_the_rest_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Index::open(dir.path(), "key").unwrap();
    let (mut index, why) = open();
    assert_eq!(why.unwrap().0, "there is none");
    index.add_group(&head(0, 2), &[facts(1, 0), facts(2, 0)]).unwrap();
    index.save().unwrap();
    index.add_group(&head(2, 1), &[facts(1, 1)]).unwrap();
    drop(index);
    let (mut index, why) = open();
    assert_eq!((why, index.leaves()), (None, 2));
    assert_eq!((leaf_of(&index, 1, 0), leaf_of(&index, 1, 1)), (Some(0), None));
    // Another group than before may follow: what was not saved is written over.
    index.add_group(&head(2, 2), &[facts(2, 1), facts(1, 1)]).unwrap();
    assert_eq!((leaf_of(&index, 2, 1), leaf_of(&index, 1, 1)), (Some(2), Some(3)));
    index.save().unwrap();
    let (_, why) = Index::open(dir.path(), "another key").unwrap();
    assert_eq!(why.unwrap().0, "it is of another ledger");
    assert!(open().1.is_some(), "what was refused is gone");
}

#[test]
fn every_flipped_bit_of_tips_and_records_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path(), "key").unwrap().0;
    index
        .add_group(&head(0, 3), &[facts(1, 0), None, facts(1, 1)])
        .unwrap();
    index.save().unwrap();
    drop(index);
    for name in ["tips", "leaves"] {
        let path = dir.path().join(name);
        let good = fs::read(&path).unwrap();
        let tips = fs::read(dir.path().join("tips")).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            let (index, why) = Index::open(dir.path(), "key").unwrap();
            let seen = why.is_some()
                || (0..3).any(|leaf| index.location(LeafIndex(leaf)).is_err())
                || index.find(&host(1), Sequence(0)).is_err();
            assert!(seen, "bit {bit} of {name}");
            drop(index);
            fs::write(dir.path().join("tips"), &tips).unwrap();
            fs::write(&path, &good).unwrap();
        }
    }
}

#[test]
fn golden_index() {
    let mut index = Index::in_memory();
    index
        .add_group(&head(0, 3), &[facts(1, 7), None, facts(1, 8)])
        .unwrap();
    let Records::Memory(records) = &index.records else {
        panic!("in memory");
    };
    let tips = Tips {
        ledger: Hash::of(b"key"),
        leaves: 3,
        hosts: vec![(host(1), LeafIndex(2))],
    };
    let rows: Vec<String> = records.chunks(RECORD_BYTES).map(common::ids::hex).collect();
    insta::assert_snapshot!(format!(
        "{}\n{}",
        rows.join("\n"),
        common::ids::hex(&tips.encode())
    ));
}

proptest! {
    #[test]
    fn prop_tips_read_back_and_nothing_else_does(
        leaves in 1..u64::MAX,
        rows in proptest::collection::btree_map(any::<[u8; 32]>(), any::<u64>(), 0..20),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let hosts = rows.into_iter().map(|(id, leaf)| (HostId(id), LeafIndex(leaf % leaves))).collect();
        let tips = Tips { ledger: Hash::of(b"key"), leaves, hosts };
        let bytes = tips.encode();
        prop_assert_eq!(Tips::decode(&bytes), Ok(tips));
        let mut bad = bytes.clone();
        bad[flip.0.index(bytes.len())] ^= flip.1 | 1;
        prop_assert!(Tips::decode(&bad).is_err());
        prop_assert!(Tips::decode(&bytes[..flip.0.index(bytes.len())]).is_err());
    }

    #[test]
    fn prop_garbage_is_no_record(leaf in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(Record::decode(LeafIndex(leaf), &bytes).is_err());
    }
}
