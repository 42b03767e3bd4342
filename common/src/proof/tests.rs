//! A proof file holds, and none of its bytes can be changed.

use alloc::{vec, vec::Vec};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::{
    batch::{ClockSource, HeaderFields, HeaderFlags, encode_body, sign_header},
    ids::{BootId, BootNanos, KeyEpoch, Nonce, PublicKey, Sequence, WallNanos},
    merkle::{inclusion_proof, root_of},
    note::SignerKey,
};

fn ledger_key() -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
}

/// The proof of event `position` of a batch of `count`, at leaf 2 of a ledger of 5.
fn proof(count: u32, position: u32) -> EventProof {
    let host_key = SigningKey::from_bytes(&[42; 32]);
    let public_key = PublicKey(host_key.verifying_key().to_bytes());
    let events: Vec<Vec<u8>> = (0..count).map(|n| vec![n.to_le_bytes()[0]; 5]).collect();
    let (body, events_root, tags_hash) = encode_body(&events).unwrap();
    let fields = HeaderFields {
        flags: HeaderFlags::default(),
        host: HostId::of_genesis_key(&public_key),
        key_epoch: KeyEpoch(0),
        public_key,
        next_public_key: PublicKey::default(),
        sequence: Sequence(4),
        first_event: EventIndex(100),
        event_count: count,
        body_bytes: u32::try_from(body.len()).unwrap(),
        previous: Hash::of(b"before"),
        events_root,
        tags_hash,
        boot: BootId([3; 16]),
        from_boot: BootNanos(1),
        until_boot: BootNanos(2),
        from_wall: WallNanos(1),
        until_wall: WallNanos(2),
        clock_error_ns: 0,
        clock_source: ClockSource::Synchronised,
        nonce: Nonce::default(),
        sensors: Vec::new(),
    };
    let header = sign_header(&fields, &host_key).unwrap();
    let mut leaves: Vec<Hash> = (0..5_u8).map(|n| leaf_hash(&[n])).collect();
    leaves[2] = leaf_hash(header.bytes());
    let head = Checkpoint {
        origin: ledger_key().verifier().name().into(),
        size: 5,
        root: root_of(&leaves),
        extensions: Vec::new(),
    };
    let hashes: Vec<Hash> = events.iter().map(|event| leaf_hash(event)).collect();
    EventProof {
        event: events[position as usize].clone(),
        position,
        path: inclusion_proof(&hashes, position as usize).unwrap(),
        header: header.bytes().to_vec(),
        receipt: Receipt {
            leaf: LeafIndex(2),
            proof: inclusion_proof(&leaves, 2).unwrap(),
            checkpoint: head.sign(&ledger_key()).unwrap().into_bytes(),
        },
    }
}

#[test]
fn golden_proof_file() {
    let text = alloc::string::String::from_utf8(proof(3, 1).encode()).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn a_proof_holds_and_says_which_event_it_proves() {
    for count in 1..9 {
        for position in 0..count {
            let bytes = proof(count, position).encode();
            let proven = check(&bytes, ledger_key().verifier()).unwrap();
            assert_eq!(proven.index, EventIndex(100 + u64::from(position)));
            assert_eq!((proven.leaf, proven.checkpoint.size), (LeafIndex(2), 5));
            assert_eq!(proven.event, vec![position.to_le_bytes()[0]; 5]);
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = proof(3, 1).encode();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(
                check(&bad, ledger_key().verifier()).is_err(),
                "byte {at} bit {bit}"
            );
        }
        assert!(
            check(&bytes[..at], ledger_key().verifier()).is_err(),
            "cut at {at}"
        );
    }
}

#[test]
fn another_ledgers_key_and_another_event_are_refused() {
    let other = SignerKey::from_seed("ledger.example/two", &[8; 32]).unwrap();
    let good = proof(3, 1);
    assert!(matches!(
        check(&good.encode(), other.verifier()),
        Err(ProofFault::Ledger(_))
    ));
    let swapped = EventProof {
        event: proof(3, 2).event,
        ..good.clone()
    };
    assert!(matches!(
        check(&swapped.encode(), ledger_key().verifier()),
        Err(ProofFault::Event(_))
    ));
    let mut header = good.header.clone();
    *header.last_mut().unwrap() ^= 1;
    assert!(matches!(
        EventProof { header, ..good }.check(ledger_key().verifier()),
        Err(ProofFault::Signature(_))
    ));
}

proptest! {
    #[test]
    fn prop_garbage_never_panics(bytes: Vec<u8>) {
        prop_assert!(check(&bytes, ledger_key().verifier()).is_err());
    }
}
