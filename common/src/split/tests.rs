//! Split views are proven, and nothing else is.

use proptest::prelude::*;

use super::*;
use crate::{
    merkle::{consistency_proof, leaf_hash, root_of},
    note::SignerKey,
};

fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
}

/// Leaves of a history that differs from the true one from `fork` on.
fn leaves(size: usize, fork: usize) -> Vec<Hash> {
    (0..size)
        .map(|i| leaf_hash(&[u8::try_from(i).unwrap(), u8::from(i >= fork)]))
        .collect()
}

fn note(leaves: &[Hash]) -> Vec<u8> {
    let head = Checkpoint {
        origin: "ledger.example/one".into(),
        size: leaves.len() as u64,
        root: root_of(leaves),
        extensions: Vec::new(),
    };
    head.sign(&key()).unwrap().into_bytes()
}

/// What is found when `small` true leaves meet `large` ones that fork at `fork`.
fn proof(small: usize, large: usize, fork: usize) -> SplitProof {
    let other = leaves(large, fork);
    SplitProof {
        smaller: note(&leaves(small, usize::MAX)),
        larger: note(&other),
        root: root_of(&other[..small]),
        proof: consistency_proof(&other, small, large).unwrap(),
    }
}

#[test]
fn golden_split_view() {
    let file = proof(5, 9, 3).encode();
    insta::assert_snapshot!(alloc::string::String::from_utf8(file).unwrap());
}

#[test]
fn consistent_views_other_keys_and_made_up_roots_prove_nothing() {
    let key = key();
    assert_eq!(proof(5, 9, 7).check(key.verifier()), Err(SplitFault::Consistent));
    assert!(
        proof(5, 5, 2).check(key.verifier()).is_ok(),
        "one size, two roots"
    );
    let stranger = SignerKey::from_seed("ledger.example/one", &[8; 32]).unwrap();
    assert!(matches!(
        proof(5, 9, 3).check(stranger.verifier()),
        Err(SplitFault::Checkpoint(_))
    ));
    // Whoever accuses an honest ledger would have to make up a root that the larger tree does not give.
    let mut false_accusation = proof(5, 9, 9);
    false_accusation.root = root_of(&leaves(5, 1));
    assert!(matches!(
        false_accusation.check(key.verifier()),
        Err(SplitFault::Proof(_))
    ));
    let mut swapped = proof(5, 9, 3);
    core::mem::swap(&mut swapped.smaller, &mut swapped.larger);
    assert!(swapped.check(key.verifier()).is_err());
}

#[test]
fn the_checkpoint_is_found_at_the_end_of_every_kind_of_file() {
    let bare = note(&leaves(5, 9));
    assert_eq!(checkpoint_at_end(&bare), Some(&bare[..]));
    for before in [
        "c2sp.org/tlog-proof@v1\nindex 3\n\n",
        "a\nb\n\nc\n\n",
        "old 3\n\n",
    ] {
        let file = [before.as_bytes(), &bare].concat();
        assert_eq!(checkpoint_at_end(&file), Some(&bare[..]));
    }
    assert_eq!(checkpoint_at_end(b"nothing\n"), None);
}

proptest! {
    #[test]
    fn prop_a_fork_below_the_smaller_size_is_proven_and_no_other(small in 1usize..40, more in 0usize..40, fork in 0usize..80) {
        let found = proof(small, small + more, fork);
        prop_assert_eq!(SplitProof::decode(&found.encode()).unwrap(), found.clone());
        prop_assert_eq!(found.check(key().verifier()).is_ok(), fork < small);
    }

    /// A consistency proof that does not hold gives the same proof away, but where the smaller size is a power of
    /// two: there it starts from the very root in question. Nobody honest is accused.
    #[test]
    fn prop_a_refused_consistency_proof_tells_of_the_fork(small in 1usize..40, more in 0usize..40, fork in 0usize..80) {
        let wanted = proof(small, small + more, fork);
        let found = SplitProof::from_consistency(&wanted.smaller, &wanted.larger, &wanted.proof, key().verifier());
        let telling = fork < small && (more == 0 || !small.is_power_of_two());
        prop_assert_eq!(found, telling.then_some(wanted.clone()));
        let backwards = SplitProof::from_consistency(&wanted.larger, &wanted.smaller, &wanted.proof, key().verifier());
        prop_assert!(more == 0 || backwards.is_none());
    }

    #[test]
    fn prop_every_flipped_bit_is_refused(at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = proof(5, 9, 3).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let refused = SplitProof::decode(&bytes).map_or(true, |read| read.check(key().verifier()).is_err());
        prop_assert!(refused);
    }

    #[test]
    fn prop_garbage_never_panics(bytes: Vec<u8>) {
        let _ = (SplitProof::decode(&bytes), checkpoint_at_end(&bytes));
    }
}
