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

/// The host's key of an epoch.
fn key_of(epoch: u64) -> (SigningKey, PublicKey) {
    let key = SigningKey::from_bytes(&[42 + epoch.to_le_bytes()[0]; 32]);
    let public = PublicKey(key.verifying_key().to_bytes());
    (key, public)
}

/// The proof of event `position` of a batch of `count`, at leaf 2 of a ledger of 5.
fn proof(count: u32, position: u32) -> EventProof {
    proof_in(0, count, position)
}

/// The same of a batch in a later key epoch.
fn proof_in(epoch: u64, count: u32, position: u32) -> EventProof {
    let key_history = (0..epoch).map(|epoch| header(epoch, epoch + 1, 2).0).collect();
    let (header, events) = header(epoch, 4, count);
    let mut leaves: Vec<Hash> = (0..5_u8).map(|n| leaf_hash(&[n])).collect();
    leaves[2] = leaf_hash(&header);
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
        header,
        key_history,
        receipt: Receipt {
            leaf: LeafIndex(2),
            proof: inclusion_proof(&leaves, 2).unwrap(),
            checkpoint: head.sign(&ledger_key()).unwrap().into_bytes(),
        },
    }
}

/// The signed header of batch `sequence` in a key epoch, and its `count` events. Nothing is announced where
/// nobody would look: in epoch 0 of batch 4.
fn header(epoch: u64, sequence: u64, count: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (host_key, public_key) = key_of(epoch);
    let announces = epoch > 0 || sequence != 4;
    let events: Vec<Vec<u8>> = (0..count).map(|n| vec![n.to_le_bytes()[0]; 5]).collect();
    let (body, events_root, tags_hash) = encode_body(&events).unwrap();
    let fields = HeaderFields {
        flags: HeaderFlags::default(),
        host: HostId::of_genesis_key(&key_of(0).1),
        key_epoch: KeyEpoch(epoch),
        public_key,
        next_public_key: if announces {
            key_of(epoch + 1).1
        } else {
            PublicKey::default()
        },
        sequence: Sequence(sequence),
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
    (sign_header(&fields, &host_key).unwrap().bytes().to_vec(), events)
}

#[test]
fn golden_proof_file() {
    let text = alloc::string::String::from_utf8(proof(3, 1).encode()).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn golden_proof_file_with_key_history() {
    let text = alloc::string::String::from_utf8(proof_in(2, 3, 1).encode()).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn a_proof_of_a_later_key_epoch_holds_by_its_history_alone() {
    for epoch in 1..4 {
        let bytes = proof_in(epoch, 3, 1).encode();
        let proven = check(&bytes, ledger_key().verifier()).unwrap();
        assert_eq!(proven.host, HostId::of_genesis_key(&key_of(0).1));
        assert_eq!(proven.header.fields().key_epoch, KeyEpoch(epoch));
    }
}

#[test]
fn a_history_that_proves_no_key_is_refused_by_name() {
    let good = proof_in(2, 3, 1);
    let fault = |history: Vec<Vec<u8>>| {
        let proof = EventProof {
            key_history: history,
            ..good.clone()
        };
        match check(&proof.encode(), ledger_key().verifier()).unwrap_err() {
            ProofFault::History { epoch, cause } => (epoch, alloc::format!("{cause:?}")),
            other => panic!("{other}"),
        }
    };
    let [first, second] = [good.key_history[0].clone(), good.key_history[1].clone()];
    for (history, epoch, name) in [
        (vec![], 2, "Count"),
        (vec![first.clone()], 2, "Count"),
        (vec![first.clone(), second.clone(), second.clone()], 2, "Count"),
        (vec![second.clone(), first.clone()], 0, "Misplaced"),
        (vec![first.clone(), first.clone()], 1, "Misplaced"),
        // Sealed after the batch that is to be proven.
        (vec![first.clone(), header(1, 5, 0).0], 1, "Misplaced"),
        (vec![header(0, 4, 0).0, second.clone()], 0, "Misplaced"),
        (vec![vec![1, 2, 3], second.clone()], 0, "Header"),
    ] {
        let found = fault(history);
        assert!(found.0 == epoch && found.1.starts_with(name), "{name}: {found:?}");
    }
    // Whoever holds a key of his own cannot put it in the place of one that was announced.
    let mut fields = UnverifiedHeader::parse(&second).unwrap().claimed().clone();
    let (thief, public) = key_of(77);
    fields.public_key = public;
    let forged = crate::batch::sign_header(&fields, &thief)
        .unwrap()
        .bytes()
        .to_vec();
    assert!(fault(vec![first, forged]).1.contains("Key {"));
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
    every_flipped_bit(&proof(3, 1).encode(), &[0, 1, 2, 3, 4, 5, 6, 7]);
    every_flipped_bit(&proof_in(2, 3, 1).encode(), &[0, 5]);
}

fn every_flipped_bit(bytes: &[u8], bits: &[u8]) {
    for at in 0..bytes.len() {
        for bit in bits {
            let mut bad = bytes.to_vec();
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
