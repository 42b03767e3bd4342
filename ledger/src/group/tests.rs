//! Groups: their bytes, what is refused, and that nothing else reads as one.

use proptest::prelude::*;

use super::*;

fn file(first: u64, entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<Entry<'_>> = entries
        .iter()
        .map(|(header, body)| Entry { header, body })
        .collect();
    let mut file = encode_head(LeafIndex(first), &entries).unwrap();
    entries
        .iter()
        .for_each(|entry| file.extend_from_slice(entry.body));
    file
}

#[test]
fn golden_group() {
    let file = file(
        1234,
        &[
            (b"header one".to_vec(), b"body one".to_vec()),
            (b"two".to_vec(), vec![]),
        ],
    );
    insta::assert_snapshot!(common::ids::hex(&file));
    assert_eq!(group_path(LeafIndex(1234)), "groups/x001/234");
    assert_eq!(parse_group_path("groups/x001/234"), Some(LeafIndex(1234)));
    assert_eq!(parse_group_path("groups/1234"), None);
}

#[test]
fn every_flipped_bit_of_a_head_is_named() {
    let good = file(7, &[(vec![1; 40], vec![2; 30]), (vec![3; 50], vec![4; 20])]);
    let head_bytes = to_usize(Prologue::parse(&good).unwrap().head_bytes());
    for at in 0..head_bytes {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(Head::parse(&bad, LeafIndex(7)).is_err(), "bit {bit} of byte {at}");
        }
    }
    for cut in 0..head_bytes {
        assert!(Head::parse(&good[..cut], LeafIndex(7)).is_err());
    }
    let misplaced = Head::parse(&good, LeafIndex(8));
    assert_eq!(
        misplaced,
        Err(GroupFault::Misplaced {
            expected: LeafIndex(8),
            found: LeafIndex(7)
        })
    );
}

#[test]
fn entries_that_fit_no_group_are_refused() {
    let long = vec![0; ENTRY_BYTES_MAX + 1];
    assert_eq!(encode_head(LeafIndex(0), &[]), Err(BadGroup::Empty));
    let entry = Entry {
        header: &long,
        body: b"",
    };
    assert_eq!(
        encode_head(LeafIndex(0), &[entry]),
        Err(BadGroup::HeaderTooLong {
            entry: 0,
            bytes: long.len()
        })
    );
    let small = Entry {
        header: b"",
        body: b"",
    };
    assert!(matches!(
        encode_head(LeafIndex(0), &vec![small; 65_537]),
        Err(BadGroup::TooMany(65_537))
    ));
    let body = vec![0; 64 << 20];
    let large = Entry {
        header: b"",
        body: &body,
    };
    assert!(matches!(
        encode_head(LeafIndex(0), &[large; 4]),
        Err(BadGroup::TooLong(_))
    ));
}

#[test]
fn lying_counts_reserve_no_memory() {
    let mut lying = file(0, &[(vec![1], vec![2])]);
    lying[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(
        Head::parse(&lying, LeafIndex(0)),
        Err(GroupFault::Field {
            what: "count",
            at: 12
        })
    );
}

proptest! {
    #[test]
    fn prop_groups_read_back(
        first in 0u64..1 << 40,
        entries in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..80), prop::collection::vec(any::<u8>(), 0..80)), 1..20),
    ) {
        let file = file(first, &entries);
        let head = Head::parse(&file, LeafIndex(first)).unwrap();
        prop_assert_eq!(head.file_bytes, file.len() as u64);
        for (place, (header, body)) in head.places.iter().zip(&entries) {
            prop_assert_eq!(slice(&file, &place.header), header);
            prop_assert_eq!(slice(&file, &place.body), body);
            prop_assert_eq!(place.body_crc, crc32fast::hash(body));
        }
    }

    #[test]
    fn prop_garbage_never_panics(mut bytes: Vec<u8>, keep_magic: bool) {
        if keep_magic && bytes.len() >= 10 {
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[8..10].copy_from_slice(&[0, 1]);
        }
        let _ = Head::parse(&bytes, LeafIndex(0));
    }
}
