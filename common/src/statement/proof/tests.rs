//! Accusations across key epochs: a file proves whose key it is by the host's own headers, or says that it does not.

use alloc::{format, string::String, vec, vec::Vec};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::{
    batch::{ChainHead, UnverifiedHeader, sign_header},
    ids::{Hash, HostId, PublicKey, Sequence, StatementNumber, WallNanos},
    merkle::{inclusion_proof, leaf_hash, root_of},
    note::SignerKey,
    statement::StatementChain,
    testing::batches,
};

fn ledger_key() -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
}

/// The host's key of an epoch.
fn key_of(epoch: u64) -> SigningKey {
    SigningKey::from_bytes(&[42 + epoch.to_le_bytes()[0]; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn host() -> HostId {
    HostId::of_genesis_key(&public(&key_of(0)))
}

/// Header of batch `sequence` in a key epoch, announcing the next key; `salt` makes others of the same place.
fn header(epoch: u64, sequence: u64, salt: u8) -> Vec<u8> {
    header_by(&key_of(epoch), epoch, sequence, salt)
}

fn header_by(key: &SigningKey, epoch: u64, sequence: u64, salt: u8) -> Vec<u8> {
    let any = batches(&ChainHead::genesis(crate::testing::host()), 1, 0).remove(0);
    let mut fields = UnverifiedHeader::parse(any.header.bytes())
        .unwrap()
        .claimed()
        .clone();
    fields.host = host();
    fields.key_epoch = KeyEpoch(epoch);
    fields.public_key = public(key);
    fields.next_public_key = public(&key_of(epoch + 1));
    fields.sequence = Sequence(sequence);
    fields.previous = Hash([salt; 32]);
    sign_header(&fields, key).unwrap().bytes().to_vec()
}

/// The last header of each epoch before `epoch`, of batches 1, 2, 3, …
fn history(epoch: u64) -> Vec<Vec<u8>> {
    (0..epoch).map(|epoch| header(epoch, epoch + 1, 0)).collect()
}

fn proof(held: &[u8], offered: &[u8], key_history: Vec<Vec<u8>>) -> StatementProof {
    let said = Said::Equivocation(Equivocation {
        host: host(),
        held: held.to_vec(),
        offered: offered.to_vec(),
    });
    proof_that(said, key_history)
}

fn proof_that(said: Said, key_history: Vec<Vec<u8>>) -> StatementProof {
    let at = WallNanos(1_700_000_000_000_000_000);
    let statement = StatementChain::default()
        .write(said, at, 42, &ledger_key())
        .unwrap();
    let mut leaves: Vec<Hash> = (0..5_u8).map(|n| leaf_hash(&[n])).collect();
    leaves[2] = leaf_hash(statement.bytes());
    let head = Checkpoint {
        origin: ledger_key().verifier().name().into(),
        size: 5,
        root: root_of(&leaves),
        extensions: Vec::new(),
    };
    StatementProof {
        statement: statement.bytes().to_vec(),
        key_history,
        receipt: Receipt {
            leaf: LeafIndex(2),
            proof: inclusion_proof(&leaves, 2).unwrap(),
            checkpoint: head.sign(&ledger_key()).unwrap().into_bytes(),
        },
    }
}

/// Two headers of batch 9 in epoch 2, and what proves whose they are.
fn good() -> StatementProof {
    proof(&header(2, 9, 1), &header(2, 9, 2), history(2))
}

fn judged(proof: &StatementProof) -> Result<Option<Accusation>, StatementProofFault> {
    check(&proof.encode(), ledger_key().verifier()).map(|proven| proven.accusation)
}

fn proven(key_epoch: u64, by_host: bool) -> Result<Option<Accusation>, StatementProofFault> {
    let key_epoch = KeyEpoch(key_epoch);
    Ok(Some(Accusation { key_epoch, by_host }))
}

#[test]
fn golden_proof_file_with_key_history() {
    insta::assert_snapshot!(String::from_utf8(good().encode()).unwrap());
}

#[test]
fn whose_key_it_is_follows_from_the_history_or_is_left_open() {
    for epoch in 0..4 {
        let same = proof(&header(epoch, 9, 1), &header(epoch, 9, 2), history(epoch));
        assert_eq!(judged(&same), proven(epoch, true));
        // Across the end of an epoch: the copy went on in the next one, with the key it had announced.
        let across = proof(&header(epoch, 9, 1), &header(epoch + 1, 9, 1), history(epoch));
        assert_eq!(judged(&across), proven(epoch, true));
        let after = proof(&header(epoch, 9, 1), &header(epoch + 1, 10, 1), history(epoch));
        assert_eq!(
            judged(&after),
            proven(epoch, true),
            "the next batch names another past"
        );
    }
    // A file of format 1 says no more than it did.
    let open = StatementProof {
        key_history: Vec::new(),
        ..good()
    };
    assert!(open.encode().starts_with(b"hostledger/statement-proof/v1\n"));
    assert_eq!(judged(&open), proven(2, false));
    assert!(good().encode().starts_with(b"hostledger/statement-proof/v2\n"));
}

#[test]
fn what_accuses_nobody_is_refused_by_name() {
    let thief = SigningKey::from_bytes(&[1; 32]);
    let fault = |held: &[u8], offered: &[u8], history: Vec<Vec<u8>>| {
        let fault = judged(&proof(held, offered, history)).unwrap_err();
        format!("{fault:?}")
    };
    let [held, offered] = [header(2, 9, 1), header(2, 9, 2)];
    // A stranger's key in the place of the host's, with and without a history that was the host's.
    let [forged, other] = [1, 2].map(|salt| header_by(&thief, 2, 9, salt));
    assert!(fault(&forged, &other, history(2)).starts_with("Held("));
    let unproven = proof(&forged, &other, Vec::new());
    assert_eq!(
        judged(&unproven),
        proven(2, false),
        "one key, and nobody says whose"
    );
    assert!(fault(&held, &forged, history(2)).contains("Keys"));
    // Announced by the header offered, which anybody can write, and not by the one held.
    assert!(fault(&header(3, 9, 1), &header(2, 9, 1), history(3)).contains("Keys"));
    assert!(fault(&header(1, 9, 1), &header(3, 9, 1), history(1)).contains("Keys"));
    // The same key in another epoch than its own.
    let misused = header_by(&key_of(2), 3, 9, 1);
    assert!(fault(&held, &misused, history(2)).contains("Keys"));
    assert!(fault(&held, &held, history(2)).contains("NoContradiction"));

    let [first, second] = [header(0, 1, 0), header(1, 2, 0)];
    for (bad, name) in [
        (vec![first.clone()], "epoch: 2, cause: Count"),
        (vec![first.clone(), second.clone(), held.clone()], "Count"),
        (vec![second.clone(), first.clone()], "epoch: 0, cause: Misplaced"),
        (vec![first.clone(), header(1, 9, 0)], "epoch: 1, cause: Misplaced"),
        (
            vec![first.clone(), header_by(&thief, 1, 2, 0)],
            "epoch: 1, cause: Chain",
        ),
        (vec![first.clone(), vec![1, 2, 3]], "epoch: 1, cause: Header"),
    ] {
        let found = fault(&held, &offered, bad);
        assert!(found.contains(name), "{name}: {found}");
    }
    // Of epoch 0 the id says it; a history has nothing to add there, nor beside another statement.
    assert!(fault(&header(0, 9, 1), &header(0, 9, 2), vec![first.clone()]).contains("Count"));
    let lifted = Said::HoldLifted(crate::statement::HoldLifted {
        hold: StatementNumber(0),
        reason: crate::text::Text(b"over".to_vec()),
    });
    assert_eq!(judged(&proof_that(lifted.clone(), Vec::new())), Ok(None));
    assert_eq!(
        judged(&proof_that(lifted, vec![first])),
        Err(StatementProofFault::NoHistoryDue)
    );
}

#[test]
fn no_bit_of_a_file_with_a_history_can_be_changed() {
    let bytes = good().encode();
    for at in 0..bytes.len() {
        for bit in [0, 3, 5] {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(
                check(&bad, ledger_key().verifier()).is_err(),
                "byte {at} bit {bit}"
            );
        }
    }
}

proptest! {
    #[test]
    fn prop_a_file_has_one_encoding_and_a_history_proves_exactly_its_epoch(
        epoch in 0_u64..5, given in 0_u64..6, across: bool, cut in 0_usize..4_000,
    ) {
        let offered = header(epoch + u64::from(across), 9, 2);
        let proof = proof(&header(epoch, 9, 1), &offered, history(given));
        let bytes = proof.encode();
        prop_assert_eq!(StatementProof::decode(&bytes).unwrap(), proof.clone());
        let expect = match given {
            0 => proven(epoch, epoch == 0),
            _ if given == epoch => proven(epoch, true),
            _ => Err(StatementProofFault::History {
                epoch,
                cause: Box::new(HistoryFault::Count { expected: epoch, found: usize::try_from(given).unwrap() }),
            }),
        };
        prop_assert_eq!(judged(&proof), expect);
        let cut = cut.min(bytes.len() - 1);
        prop_assert!(check(&bytes[..cut], ledger_key().verifier()).is_err());
    }
}
