//! Golden bytes, chain rules and proofs of statements.

use alloc::{format, string::String, vec, vec::Vec};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::{
    batch::{ChainHead, UnverifiedHeader, sign_header},
    checkpoint::Checkpoint,
    entry::UnverifiedEntry,
    ids::{Hash, HostId, KeyEpoch, LeafIndex, Sequence, StatementNumber, WallNanos, hex},
    ledger_keys::LedgerKeys,
    merkle::{inclusion_proof, leaf_hash, root_of},
    note::SignerKey,
    receipt::Receipt,
    testing::{batches, host, key as host_key},
    text::Text,
};

fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
}

fn point() -> BatchPoint {
    BatchPoint {
        sequence: Sequence(4),
        header: Hash([5; 32]),
    }
}

/// Two batches that the host signed under one sequence.
fn two_headers() -> (UnverifiedHeader, UnverifiedHeader) {
    let header = |salt| {
        let batch = batches(&ChainHead::genesis(host()), 1, salt).remove(0);
        UnverifiedHeader::parse(batch.header.bytes()).unwrap()
    };
    (header(0), header(1))
}

fn one_of_each() -> Vec<Said> {
    let (held, offered) = two_headers();
    let host = host();
    vec![
        Said::HostEnrolled {
            host,
            name: Text(b"web-1".to_vec()),
            enrolled_at: WallNanos(1_700_000_000_000_000_001),
        },
        Said::HostEnded {
            host,
            ended_at: WallNanos(1_700_000_000_000_000_002),
            reason: Text(b"taken out of service\n".to_vec()),
            last: Some(point()),
        },
        Said::Silent {
            host,
            last: None,
            since: WallNanos(3),
            watching_since: WallNanos(4),
            threshold_ns: 20_000_000_000,
        },
        Said::Back {
            host,
            silence: StatementNumber(2),
            first: point(),
            seen_at: WallNanos(5),
        },
        Said::Rollback(Divergence {
            host,
            differs: true,
            agent_next: Sequence(3),
            agent_head: Hash([1; 32]),
            held_next: Sequence(9),
            held_head: Hash([2; 32]),
        }),
        Said::Equivocation(Equivocation {
            host,
            held: held.bytes().to_vec(),
            offered: offered.bytes().to_vec(),
        }),
        Said::ClockAnomaly(ClockAnomaly {
            host,
            batch: point(),
            fault: ClockFault::Behind,
            shows: WallNanos(6),
            shows_error_ns: u64::MAX,
            against: WallNanos(7),
            against_error_ns: 8,
            tolerance_ns: 9,
            unstated: 10,
        }),
        Said::Other {
            kind: Kind(4711),
            payload: vec![1, 2, 3],
        },
        Said::Prune(PruneCertificate {
            policy: Text(b"older_than=2026-01-01T00:00:00.000000000Z".to_vec()),
            bodies: 7,
            bytes: 8000,
            holds: vec![StatementNumber(2), StatementNumber(5)],
            hosts_total: 1,
            hosts: vec![PrunedHost {
                host,
                first: Sequence(0),
                last: Sequence(9),
                batches: 7,
                bytes: 8000,
            }],
            ranges: vec![
                LeafRange {
                    first: LeafIndex(0),
                    count: 3,
                },
                LeafRange {
                    first: LeafIndex(4),
                    count: 6,
                },
            ],
        }),
        Said::Hold(Hold {
            host: Some(host),
            from: WallNanos(1),
            until: WallNanos(2),
            reason: Text(b"case 7".to_vec()),
        }),
        Said::Hold(Hold {
            host: None,
            from: WallNanos(0),
            until: WallNanos(u64::MAX),
            reason: Text(Vec::new()),
        }),
        Said::HoldLifted(HoldLifted {
            hold: StatementNumber(10),
            reason: Text(b"closed".to_vec()),
        }),
        Said::KeyChange {
            record: Text(key_change()),
        },
    ]
}

/// A record of a key history that says of a change.
fn key_change() -> Vec<u8> {
    let named = |name, seed| SignerKey::from_seed(name, &[seed; 32]).unwrap();
    let (new, offline) = (named("ledger.example/one", 8), named("offline.example/one", 9));
    let genesis = LedgerKeys::genesis(&key(), &offline).unwrap();
    let rotated = genesis.rotate(&key(), &new, &offline, 5, Hash([3; 32])).unwrap();
    rotated.change_at(LeafIndex(5)).unwrap().1.to_vec()
}

fn written(chain: &mut StatementChain, said: Said) -> VerifiedStatement {
    let statement = chain
        .write(said, WallNanos(1_700_000_000_000_000_000), 42, &key())
        .unwrap();
    chain.follow(&statement).unwrap();
    statement
}

fn proof_of(statement: &VerifiedStatement) -> StatementProof {
    let mut leaves: Vec<Hash> = (0..5_u8).map(|n| leaf_hash(&[n])).collect();
    leaves[2] = leaf_hash(statement.bytes());
    let head = Checkpoint {
        origin: key().verifier().name().into(),
        size: 5,
        root: root_of(&leaves),
        extensions: Vec::new(),
    };
    StatementProof {
        statement: statement.bytes().to_vec(),
        key_history: Vec::new(),
        receipt: Receipt {
            leaf: LeafIndex(2),
            proof: inclusion_proof(&leaves, 2).unwrap(),
            checkpoint: head.sign(&key()).unwrap().into_bytes(),
        },
    }
}

#[test]
fn golden_one_statement_of_each_kind() {
    let mut chain = StatementChain::default();
    let mut text = String::new();
    for said in one_of_each() {
        let shown = format!("{said}");
        let json = serde_json::to_string(&said).unwrap();
        let statement = written(&mut chain, said);
        text.push_str(&format!("{shown}\n{json}\n{}\n\n", hex(statement.bytes())));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn golden_proof_file() {
    let statement = written(&mut StatementChain::default(), one_of_each().remove(2));
    insta::assert_snapshot!(String::from_utf8(proof_of(&statement).encode()).unwrap());
}

#[test]
fn what_is_said_reads_back_from_bytes_and_json() {
    let mut chain = StatementChain::default();
    for (number, said) in (0..).zip(one_of_each()) {
        let statement = written(&mut chain, said.clone());
        let UnverifiedEntry::Statement(read) = UnverifiedEntry::parse(statement.bytes()).unwrap() else {
            panic!("a statement is told from a batch");
        };
        assert_eq!(read.claimed().number, StatementNumber(number));
        assert_eq!(read.claimed().said, said);
        assert_eq!(
            VerifiedStatement::alone(read, key().verifier()).unwrap(),
            statement
        );
        let json = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Said>(&json).unwrap(), said);
    }
}

#[test]
fn every_altered_byte_is_refused() {
    let mut chain = StatementChain::default();
    for said in one_of_each() {
        let statement = written(&mut chain, said);
        for at in 0..statement.bytes().len() {
            for bit in 0..8 {
                let mut bad = statement.bytes().to_vec();
                bad[at] ^= 1 << bit;
                let refused = UnverifiedStatement::parse(&bad)
                    .map(|bad| VerifiedStatement::alone(bad, key().verifier()).is_err())
                    .unwrap_or(true);
                assert!(refused, "byte {at} bit {bit} of {:?}", statement.fields().said);
            }
        }
    }
}

#[test]
fn a_gap_a_repetition_and_another_history_are_named() {
    let mut chain = StatementChain::default();
    let first = written(&mut chain, one_of_each().remove(0));
    let second = written(&mut chain, one_of_each().remove(1));
    let third = chain
        .write(one_of_each().remove(2), WallNanos(0), 0, &key())
        .unwrap();
    let behind_first = StatementChain::after(&first).unwrap();
    assert!(matches!(
        behind_first.clone().follow(&third),
        Err(StatementFault::Number { .. })
    ));
    assert!(matches!(
        chain.follow(&second),
        Err(StatementFault::Number { .. })
    ));
    let other = StatementChain {
        hash: Hash([9; 32]),
        ..behind_first
    };
    assert!(matches!(
        other.clone().follow(&second),
        Err(StatementFault::Previous { .. })
    ));
}

#[test]
fn a_kind_that_is_known_cannot_be_said_in_other_words() {
    let said = Said::Other {
        kind: Kind::SILENT,
        payload: vec![],
    };
    assert!(
        StatementChain::default()
            .write(said, WallNanos(0), 0, &key())
            .is_err()
    );
}

#[test]
fn another_key_is_refused_though_it_signed_well() {
    let other = SignerKey::from_seed("ledger.example/one", &[8; 32]).unwrap();
    let statement = StatementChain::default()
        .write(one_of_each().remove(0), WallNanos(0), 0, &other)
        .unwrap();
    let read = UnverifiedStatement::parse(statement.bytes()).unwrap();
    assert!(matches!(
        VerifiedStatement::alone(read, key().verifier()),
        Err(StatementFault::Signature { .. })
    ));
}

#[test]
fn a_statement_is_no_checkpoint_and_a_checkpoint_no_statement() {
    let statement = written(&mut StatementChain::default(), one_of_each().remove(2));
    let signed = [
        b"hostledger/statement/v1\n".as_slice(),
        &statement.bytes()[..statement.bytes().len() - 64],
    ]
    .concat();
    // As a note's text it holds bytes that no note may hold, and as a checkpoint's its second line is no size.
    let line = signed.split(|byte| *byte == b'\n').nth(1).unwrap();
    assert!(line.starts_with(b"HLST\0"));
    let lossy = String::from_utf8_lossy(&signed).into_owned();
    assert!(Checkpoint::parse_body(&lossy).is_err());
    assert!(crate::note::sign(&lossy, &[&key()]).is_err());
}

#[test]
fn two_headers_of_one_sequence_prove_equivocation_to_anybody() {
    let (held, offered) = two_headers();
    let proof = Equivocation {
        host: host(),
        held: held.bytes().to_vec(),
        offered: offered.bytes().to_vec(),
    };
    assert_eq!(proof.check(), Ok(()));
    let twice = Equivocation {
        offered: proof.held.clone(),
        ..proof.clone()
    };
    assert_eq!(twice.check(), Err(EquivocationFault::NoContradiction));
    let mut forged = proof.clone();
    *forged.offered.last_mut().unwrap() ^= 1;
    assert_eq!(forged.check(), Err(EquivocationFault::Signature("offered")));
    let of_another = Equivocation {
        host: HostId([1; 32]),
        ..proof.clone()
    };
    assert_eq!(of_another.check(), Err(EquivocationFault::Host("held")));
    let stranger = SigningKey::from_bytes(&[1; 32]);
    let mut fields = offered.claimed().clone();
    fields.public_key.0 = stranger.verifying_key().to_bytes();
    let by_stranger = Equivocation {
        offered: sign_header(&fields, &stranger).unwrap().bytes().to_vec(),
        ..proof.clone()
    };
    assert_eq!(by_stranger.check(), Err(EquivocationFault::Keys));
    assert_eq!(proof.key_epoch(), Some(KeyEpoch(0)));
    // Of a later epoch anybody's key does: whoever shows such an accusation says that it is not all.
    let later = |header: &UnverifiedHeader| {
        let mut fields = header.claimed().clone();
        fields.public_key.0 = stranger.verifying_key().to_bytes();
        fields.key_epoch = KeyEpoch(3);
        sign_header(&fields, &stranger).unwrap().bytes().to_vec()
    };
    let unproven = Equivocation {
        held: later(&held),
        offered: later(&offered),
        ..proof
    };
    assert_eq!(
        (unproven.check(), unproven.key_epoch()),
        (Ok(()), Some(KeyEpoch(3)))
    );
}

#[test]
fn a_successor_of_another_history_proves_equivocation_as_well() {
    let held = batches(&ChainHead::genesis(host()), 2, 0);
    let other = batches(&ChainHead::genesis(host()), 2, 1);
    let proof = |held: &UnverifiedHeader, offered: &UnverifiedHeader| Equivocation {
        host: host(),
        held: held.bytes().to_vec(),
        offered: offered.bytes().to_vec(),
    };
    let parse = |bytes: &[u8]| UnverifiedHeader::parse(bytes).unwrap();
    let (first, second) = (parse(held[0].header.bytes()), parse(held[1].header.bytes()));
    assert_eq!(proof(&first, &parse(other[1].header.bytes())).check(), Ok(()));
    assert_eq!(
        proof(&first, &second).check(),
        Err(EquivocationFault::NoContradiction)
    );
    let mut skipped = second.claimed().clone();
    skipped.sequence = Sequence(7);
    let skipped = sign_header(&skipped, &host_key()).unwrap();
    assert_eq!(
        proof(&first, &skipped).check(),
        Err(EquivocationFault::NoContradiction)
    );
}

#[test]
fn a_proof_holds_and_none_of_its_bits_can_be_changed() {
    let statement = written(&mut StatementChain::default(), one_of_each().remove(2));
    let bytes = proof_of(&statement).encode();
    assert!(StatementProof::begins(&bytes));
    let proven = check(&bytes, key().verifier()).unwrap();
    assert_eq!((proven.leaf, proven.checkpoint.size), (LeafIndex(2), 5));
    assert_eq!(proven.statement, statement);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(check(&bad, key().verifier()).is_err(), "byte {at} bit {bit}");
        }
        assert!(check(&bytes[..at], key().verifier()).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn prop_texts_and_numbers_round_trip(
        name in proptest::collection::vec(any::<u8>(), 0..513), at: u64, error: u64, pick in 0_usize..8,
    ) {
        let said = if pick == 0 {
            Said::HostEnrolled { host: host(), name: Text(name), enrolled_at: WallNanos(at) }
        } else {
            one_of_each().remove(pick)
        };
        let chain = StatementChain { next: StatementNumber(at), hash: Hash([3; 32]) };
        let written = chain.write(said.clone(), WallNanos(at), error, &key());
        let written = written.unwrap();
        let read = UnverifiedStatement::parse(written.bytes()).unwrap();
        prop_assert_eq!(&read.claimed().said, &said);
        prop_assert_eq!((read.claimed().number.0, read.claimed().clock_error_ns), (at, error));
        prop_assert!(read.is_signed_by(key().verifier()));
    }

    #[test]
    fn prop_garbage_never_panics(kind: u16, payload: Vec<u8>) {
        let mut bytes = b"HLST\0\x01".to_vec();
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0; 88]);
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&[0; 64]);
        if let Ok(read) = UnverifiedStatement::parse(&bytes) {
            prop_assert_eq!(read.bytes(), bytes.as_slice());
            prop_assert!(!read.is_signed_by(key().verifier()));
        }
        let _ = UnverifiedStatement::parse(&payload);
        let _ = StatementProof::decode(&payload);
    }
}
