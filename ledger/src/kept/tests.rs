//! Kept objects: golden bytes, every bit covered, bodies found.

use proptest::prelude::*;

use super::*;
use crate::group::{Entry, encode_head, slice};

fn made(lengths: &[usize], gone: &[bool]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let bodies: Vec<Vec<u8>> = lengths
        .iter()
        .zip(1_u8..)
        .map(|(length, n)| vec![n; *length])
        .collect();
    let entries: Vec<Entry<'_>> = bodies
        .iter()
        .map(|body| Entry {
            header: b"header",
            body,
        })
        .collect();
    let head = encode_head(LeafIndex(1234), &entries).unwrap();
    let marks: Vec<_> = gone
        .iter()
        .zip(&bodies)
        .map(|(gone, body)| (*gone && !body.is_empty()).then_some(StatementNumber(9)))
        .collect();
    let sizes: Vec<u32> = lengths
        .iter()
        .map(|length| u32::try_from(*length).unwrap())
        .collect();
    let mut file = encode_kept(&head, &sizes, &marks);
    for (body, mark) in bodies.iter().zip(&marks) {
        if mark.is_none() {
            file.extend_from_slice(body);
        }
    }
    (file, bodies)
}

#[test]
fn names_are_told_from_groups() {
    assert_eq!(kept_path(LeafIndex(1234)), "groups/x001/234.kept");
    assert_eq!(parse_kept_path("groups/x001/234.kept"), Some(LeafIndex(1234)));
    assert_eq!(parse_kept_path("groups/x001/234"), None);
    assert_eq!(parse_group_path("groups/x001/234.kept"), None);
}

#[test]
fn golden_a_kept_object() {
    let (file, _) = made(&[3, 0, 4], &[true, true, false]);
    let text: String = file.chunks(16).map(|row| format!("{}\n", hex(row))).collect();
    insta::assert_snapshot!(text);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_bit_before_the_bodies_is_covered() {
    let (file, _) = made(&[3, 0, 4, 1], &[true, true, false, true]);
    let kept = Kept::parse(&file, LeafIndex(1234)).unwrap();
    assert_eq!(kept.file_bytes, file.len() as u64);
    assert!(Kept::parse(&file, LeafIndex(1235)).is_err());
    for at in 0..kept.bodies[0].start as usize {
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(Kept::parse(&bad, LeafIndex(1234)).is_err(), "flip at {at}");
        assert!(Kept::parse(&file[..at], LeafIndex(1234)).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn prop_bodies_that_stay_are_found_and_others_say_who_removed_them(
        rows in prop::collection::vec((0_usize..50, any::<bool>()), 1..40)
    ) {
        let (lengths, gone): (Vec<usize>, Vec<bool>) = rows.into_iter().unzip();
        let (file, bodies) = made(&lengths, &gone);
        let kept = Kept::parse(&file, LeafIndex(1234)).unwrap();
        prop_assert_eq!(kept.file_bytes, file.len() as u64);
        for (at, body) in bodies.iter().enumerate() {
            let went = gone[at] && !body.is_empty();
            prop_assert_eq!(kept.gone[at], went.then_some(StatementNumber(9)));
            let found = slice(&file, &kept.bodies[at]);
            prop_assert_eq!(found, if went { &[][..] } else { body });
        }
    }

    #[test]
    fn prop_arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Kept::parse(&bytes, LeafIndex(0));
    }
}
