//! Anchored checkpoints against the ledger they came from, an older copy, a shortened one, another history, another
//! ledger, and tiles that were made to agree.

use std::sync::Arc;

use common::{
    ids::{Hash, HostId, Sequence},
    merkle::leaf_hash,
    note::SignerKey,
};

use super::*;
use crate::{Entry, EntryFacts, Ledger, Memory};

fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/test", &[7; 32]).unwrap()
}

fn describe(header: &[u8]) -> Option<EntryFacts> {
    Some(EntryFacts {
        host: HostId([1; 32]),
        sequence: Sequence(u64::from_be_bytes(header.first_chunk().copied()?)),
    })
}

/// A ledger of `sizes` leaves each published; leaves from `fork` on are others. Its storage and checkpoints.
fn ledger(sizes: &[u64], fork: u64) -> (Memory, Vec<Vec<u8>>) {
    let memory = Memory::new();
    let (mut ledger, _) = Ledger::open(Arc::new(memory.clone()), key(), describe).unwrap();
    let (mut next, mut notes) = (0, Vec::new());
    for size in sizes {
        let headers: Vec<[u8; 9]> = (next..*size)
            .map(|leaf| {
                let mut header = [u8::from(leaf >= fork); 9];
                header[..8].copy_from_slice(&leaf.to_be_bytes());
                header
            })
            .collect();
        let entries: Vec<Entry<'_>> = headers
            .iter()
            .map(|header| Entry { header, body: b"b" })
            .collect();
        ledger.append_group(&entries).unwrap();
        ledger.integrate_and_publish().unwrap();
        notes.push(memory.read("log/checkpoint", 1 << 16).unwrap().unwrap());
        next = *size;
    }
    (memory, notes)
}

fn judge(memory: &Memory, note: &[u8]) -> Standing {
    let trusted = key();
    Held::open(Arc::new(memory.clone()), trusted.verifier())
        .unwrap()
        .judge(note)
        .1
}

const SIZES: [u64; 5] = [1, 255, 300, 700, 66_000];
const NO_FORK: u64 = u64::MAX;

#[test]
fn each_checkpoint_that_was_published_is_a_prefix() {
    let (memory, notes) = ledger(&SIZES, NO_FORK);
    for note in &notes {
        assert!(matches!(judge(&memory, note), Standing::Prefix));
    }
}

#[test]
fn an_older_copy_and_another_history_are_told_apart() {
    let (_, notes) = ledger(&SIZES[..4], NO_FORK);
    let (older, _) = ledger(&SIZES[..2], NO_FORK);
    assert!(matches!(judge(&older, &notes[3]), Standing::Gone { leaves: 255 }));
    assert!(matches!(judge(&older, &notes[1]), Standing::Prefix));
    let (other, _) = ledger(&SIZES, 280);
    assert!(
        matches!(judge(&other, &notes[1]), Standing::Prefix),
        "before the fork"
    );
    for note in &notes[2..] {
        let Standing::Split(split) = judge(&other, note) else {
            panic!("not seen")
        };
        let again = SplitProof::decode(&split.0.encode()).unwrap();
        assert_eq!(again.check(key().verifier()).unwrap(), split.1);
    }
}

#[test]
fn an_anchor_of_another_ledger_is_not_held_against_this_one() {
    let (memory, notes) = ledger(&SIZES[..2], NO_FORK);
    let mut altered = notes[0].clone();
    altered[21] ^= 1;
    assert!(matches!(judge(&memory, &altered), Standing::NotOurs(_)));
    assert!(matches!(judge(&memory, b"nothing"), Standing::NotOurs(_)));
}

#[test]
fn a_truncated_ledger_is_told() {
    let trusted = key();
    let open = |memory: &Memory| Held::open(Arc::new(memory.clone()), trusted.verifier());
    let (memory, _) = ledger(&SIZES[..3], NO_FORK);
    memory.tamper("log/tile/0/001.p/44", None);
    assert!(matches!(open(&memory), Err(HeadError::Tile(_))));
    let (memory, _) = ledger(&SIZES[..3], NO_FORK);
    memory.tamper("log/checkpoint", None);
    assert!(matches!(open(&memory), Err(HeadError::Missing)));
}

/// An inner node is read from its tile, so a tile below can say what it likes of a smaller tree; only the proof of
/// consistency ties the two together.
#[test]
fn tiles_that_were_made_to_agree_prove_nothing() {
    let (memory, notes) = ledger(&[255, 600], NO_FORK);
    let (_, forked) = ledger(&[255], 3);
    let path = "log/tile/0/000";
    let mut tile = memory.read(path, 1 << 20).unwrap().unwrap();
    let mut header = [1; 9];
    for leaf in 3_u64..255 {
        header[..8].copy_from_slice(&leaf.to_be_bytes());
        let hash: Hash = leaf_hash(&header);
        let at = usize::try_from(leaf).unwrap() * 32;
        tile[at..at + 32].copy_from_slice(&hash.0);
    }
    memory.tamper(path, Some(&tile[..]));
    assert!(matches!(judge(&memory, &forked[0]), Standing::Unreadable(_)));
    assert!(
        matches!(judge(&memory, &notes[1]), Standing::Prefix),
        "the top of the tree is still there"
    );
}
