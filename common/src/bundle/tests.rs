//! Golden bytes, every altered byte, and what a bundle leaves open.

use alloc::{format, string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::{BodyView, ChainHead, UnverifiedHeader},
    checkpoint::Checkpoint,
    event::Envelope,
    ids::StatementNumber,
    journal::SealedBatch,
    ledger_keys::LedgerKeys,
    merkle::{leaf_hash, leaf_hashes, multi_proof, root_of},
    note::{SignerKey, WitnessSigner},
    statement::{Said, StatementChain},
    testing::{SECOND, batches, clock, host},
    text::Text,
    witness::{Policy, PolicyWitness, cosign, with_line},
};

fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
}

fn witness(seed: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.example/{seed}"), &[seed; 32]).unwrap()
}

fn statement() -> Vec<u8> {
    let said = Said::HostEnrolled {
        host: host(),
        name: Text(b"web-1".to_vec()),
        enrolled_at: WallNanos(5),
    };
    let written = StatementChain::default()
        .write(said, WallNanos(6), 7, &key())
        .unwrap();
    assert_eq!(written.fields().number, StatementNumber(0));
    written.bytes().to_vec()
}

/// A ledger of one statement, some batches, and leaves of others around them.
struct World {
    leaves: Vec<Hash>,
    sealed: Vec<SealedBatch>,
}

impl World {
    fn new(count: u64) -> Self {
        let sealed = batches(&ChainHead::genesis(host()), count, 0);
        let mut leaves = vec![leaf_hash(b"another host's"), leaf_hash(&statement())];
        for batch in &sealed {
            leaves.extend([leaf_hash(batch.header.bytes()), leaf_hash(b"another host's")]);
        }
        Self { leaves, sealed }
    }

    /// Batches `first..=last` with these contents, as an honest exporter puts them together.
    fn bundle(
        &self,
        selection: Selection,
        first: usize,
        last: usize,
        contents: impl Fn(&SealedBatch) -> Contents,
    ) -> Bundle {
        let part = |at: usize| BatchPart {
            leaf: LeafIndex(2 + 2 * at as u64),
            header: self.sealed[at].header.bytes().to_vec(),
            contents: contents(&self.sealed[at]),
        };
        let batches: Vec<BatchPart> = (first..=last).map(part).collect();
        let proven: Vec<u64> = core::iter::once(1)
            .chain(batches.iter().map(|batch| batch.leaf.0))
            .collect();
        let head = Checkpoint {
            origin: key().verifier().name().into(),
            size: self.leaves.len() as u64,
            root: root_of(&self.leaves),
            extensions: Vec::new(),
        };
        let note = with_line(
            &head.sign(&key()).unwrap(),
            &cosign(&witness(1), &head, 1_700_000_000),
        );
        Bundle {
            verifier_key: key().verifier().to_string(),
            ledger_keys: Vec::new(),
            checkpoint: note.into_bytes(),
            selection,
            hosts: vec![HostPart {
                host: host(),
                key_history: Vec::new(),
                batches,
            }],
            statements: vec![StatementPart {
                leaf: LeafIndex(1),
                statement: statement(),
            }],
            path: multi_proof(&self.leaves, &proven).unwrap(),
        }
    }
}

fn whole(batch: &SealedBatch) -> Contents {
    Contents::Body(batch.body.clone())
}

fn chosen(batch: &SealedBatch) -> Contents {
    let body = BodyView::parse(&batch.body).unwrap();
    let hashes = leaf_hashes(body.events());
    Contents::Events {
        events: vec![(0, body.events()[0].to_vec())],
        path: multi_proof(&hashes, &[0]).unwrap(),
    }
}

fn interval(since: u64, until: u64) -> Selection {
    let at = |boot| clock(boot).wall;
    Selection::Interval {
        since: at(since),
        until: at(until),
        hosts: vec![host()],
        entity: None,
    }
}

fn judged(bundle: &Bundle) -> Result<Report, BundleFault> {
    check(&bundle.encode().unwrap(), key().verifier(), None)
}

/// The file with a good hash at its end again.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let covered = bytes.len() - 32;
    let digest = Hash::of(&bytes[..covered]);
    bytes[covered..].copy_from_slice(&digest.0);
    bytes
}

fn small() -> Vec<u8> {
    World::new(2)
        .bundle(interval(0, 2 * SECOND), 0, 1, whole)
        .encode()
        .unwrap()
}

#[test]
fn golden_bundle() {
    insta::assert_snapshot!(crate::ids::hex(&small()));
}

#[test]
fn golden_report() {
    let report = check(&small(), key().verifier(), None).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn a_whole_interval_is_complete_and_a_longer_one_names_what_is_open() {
    let world = World::new(4);
    let report = judged(&world.bundle(interval(SECOND, 2 * SECOND), 0, 3, whole)).unwrap();
    assert!(report.complete, "{report:?}");
    assert_eq!((report.events.len(), report.statements.len()), (4, 1));
    let open = judged(&world.bundle(interval(SECOND, 9 * SECOND), 2, 3, whole)).unwrap();
    let whys: Vec<&str> = open.hosts[0].unwatched.iter().map(|hole| hole.why).collect();
    assert_eq!(
        (open.complete, whys),
        (false, vec!["not_in_bundle", "after_last_batch"])
    );
}

#[test]
fn what_is_held_back_is_named() {
    let world = World::new(3);
    for (contents, why) in [(Contents::Header, "left_out"), (Contents::Gone, "gone")] {
        let report = judged(&world.bundle(interval(SECOND, 2 * SECOND), 0, 2, |batch| {
            if batch.sequence().0 == 1 {
                contents.clone()
            } else {
                whole(batch)
            }
        }))
        .unwrap();
        assert!(!report.complete);
        assert_eq!(
            report.hosts[0]
                .withheld
                .iter()
                .map(|one| (one.batch.0, one.why))
                .collect::<Vec<_>>(),
            [(1, why)]
        );
    }
}

#[test]
fn named_events_and_an_entity_are_held_against_what_was_asked() {
    let world = World::new(3);
    let named = |index| Selection::Events(vec![(host(), EventIndex(index))]);
    let report = judged(&world.bundle(named(1), 1, 1, chosen)).unwrap();
    assert!(
        report.complete && report.hosts[0].choice == Choice::Named,
        "{report:?}"
    );
    let other = judged(&world.bundle(named(2), 1, 1, |_| Contents::Header)).unwrap();
    assert!(!other.complete && other.missing.events[0].index == EventIndex(2));
    let refused = judged(&world.bundle(named(2), 1, 1, chosen)).unwrap_err();
    assert_eq!(refused.reason(), "selection");
    assert_eq!(
        judged(&world.bundle(named(1), 1, 1, whole)).unwrap_err().reason(),
        "selection"
    );
    assert_eq!(
        judged(&world.bundle(interval(0, 1), 0, 0, chosen))
            .unwrap_err()
            .reason(),
        "selection"
    );

    let body = BodyView::parse(&world.sealed[1].body).unwrap();
    let envelope = Envelope::parse(body.events()[0]).unwrap();
    let entity = Some(EntityId {
        kind: envelope.kind,
        key: envelope.key.to_vec(),
    });
    let Selection::Interval {
        since, until, hosts, ..
    } = interval(SECOND, 2 * SECOND)
    else {
        return;
    };
    let about = Selection::Interval {
        since,
        until,
        hosts,
        entity,
    };
    let report = judged(&world.bundle(about, 0, 2, |batch| {
        if batch.sequence().0 == 1 {
            chosen(batch)
        } else {
            Contents::Header
        }
    }))
    .unwrap();
    assert!(
        report.complete && report.hosts[0].choice == Choice::Exporter,
        "{report:?}"
    );
}

#[test]
fn each_fault_has_its_reason() {
    let world = World::new(4);
    let good = world.bundle(interval(0, SECOND), 0, 3, whole);
    let check = |reason: &str, alter: &dyn Fn(&mut Bundle)| {
        let mut bad = good.clone();
        alter(&mut bad);
        assert_eq!(judged(&bad).unwrap_err().reason(), reason);
    };
    let flip = |bytes: &mut Vec<u8>, at: usize| bytes[at] ^= 1;
    check("checkpoint", &|bundle| bundle.verifier_key.push('A'));
    check("checkpoint", &|bundle| flip(&mut bundle.checkpoint, 3));
    check("header", &|bundle| {
        flip(&mut bundle.hosts[0].batches[1].header, 240)
    });
    check("chain", &|bundle| drop(bundle.hosts[0].batches.remove(1)));
    check("chain", &|bundle| bundle.hosts[0].batches.swap(1, 2));
    check("chain", &|bundle| {
        let first = bundle.hosts[0].batches[0].header.clone();
        bundle.hosts[0].key_history.push(first);
    });
    check("events", &|bundle| {
        if let Contents::Body(body) = &mut bundle.hosts[0].batches[2].contents {
            flip(body, 30);
        }
    });
    check("selection", &|bundle| bundle.hosts[0].host = HostId([1; 32]));
    check("statement", &|bundle| {
        flip(&mut bundle.statements[0].statement, 20)
    });
    check("ledger", &|bundle| bundle.hosts[0].batches[3].leaf.0 += 1);
    check("ledger", &|bundle| bundle.path[1].0[0] ^= 1);
    check("ledger", &|bundle| bundle.path.truncate(1));
    check("ledger", &|bundle| bundle.statements.clear());
    let cut = &good.encode().unwrap()[..99];
    assert_eq!(
        super::check(cut, key().verifier(), None).unwrap_err().reason(),
        "digest"
    );
    let mut long = good.encode().unwrap();
    long.extend_from_slice(&[0; 4]);
    assert_eq!(
        super::check(&resealed(long), key().verifier(), None)
            .unwrap_err()
            .reason(),
        "malformed"
    );
}

#[test]
fn a_changed_key_is_proven_by_the_history_in_the_bundle() {
    let world = World::new(2);
    let mut bundle = world.bundle(interval(0, SECOND), 0, 1, whole);
    let named = |name: &str, seed| SignerKey::from_seed(name, &[seed; 32]).unwrap();
    let (new, offline) = (named("ledger.example/one", 8), named("offline.example", 9));
    let genesis = LedgerKeys::genesis(&key(), &offline).unwrap();
    let root = root_of(&world.leaves[..2]);
    let keys = genesis.rotate(&key(), &new, &offline, 2, root).unwrap();
    let head = Checkpoint {
        origin: "ledger.example/one".into(),
        size: world.leaves.len() as u64,
        root: root_of(&world.leaves),
        extensions: Vec::new(),
    };
    bundle.checkpoint = head.sign(&new).unwrap().into_bytes();
    let reason = |bundle: &Bundle| judged(bundle).map_err(|fault| fault.reason());
    assert_eq!(reason(&bundle), Err("checkpoint"));
    bundle.ledger_keys = keys.encode();
    let report = reason(&bundle).unwrap();
    let bytes = bundle.encode().unwrap();
    assert_eq!(Bundle::decode(&bytes), Ok(bundle.clone()));
    assert_eq!(check(&bytes, &keys, None), Ok(report));
    // The old key is over, whoever has it.
    bundle.checkpoint = head.sign(&key()).unwrap().into_bytes();
    assert_eq!(reason(&bundle), Err("checkpoint"));
    bundle.checkpoint = head.sign(&new).unwrap().into_bytes();
    // A reader who holds another history, and a record that nobody signed.
    let thief = LedgerKeys::genesis(&key(), &named("offline.example", 6)).unwrap();
    assert_eq!(check(&bytes, &thief, None).unwrap_err().reason(), "keys");
    let last = bundle.ledger_keys.len() - 5;
    bundle.ledger_keys[last] ^= 1;
    assert_eq!(reason(&bundle), Err("keys"));
}

#[test]
fn witnesses_count_and_too_few_are_refused() {
    let bytes = small();
    let policy = |seeds: &[u8], quorum| {
        let keys = seeds.iter().map(|seed| PolicyWitness {
            key: witness(*seed).verifier().clone(),
            url: None,
        });
        Policy::of(keys.collect(), quorum).unwrap()
    };
    let report = check(&bytes, key().verifier(), Some(&policy(&[1, 2], 1))).unwrap();
    assert_eq!(
        (report.witnesses.len(), report.witnesses[0].posix_seconds),
        (1, 1_700_000_000)
    );
    let refused = check(&bytes, key().verifier(), Some(&policy(&[1, 2], 2))).unwrap_err();
    assert_eq!(refused.reason(), "witnesses");
}

#[test]
fn every_bit_of_every_byte_is_covered() {
    let bytes = small();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(
                check(&bad, key().verifier(), None).is_err(),
                "byte {at} bit {bit}"
            );
        }
        assert!(
            check(&bytes[..at], key().verifier(), None).is_err(),
            "cut at {at}"
        );
    }
}

/// Whoever makes the hash at the end anew can ask another question, or blot out a cosignature. The facts stay.
#[test]
fn a_forger_who_reseals_the_file_proves_nothing_else() {
    let bytes = small();
    let good = check(&bytes, key().verifier(), None).unwrap();
    let mut accepted = 0;
    for at in 0..bytes.len() - 32 {
        for bit in [0, 7] {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            if let Ok(report) = check(&resealed(bad), key().verifier(), None) {
                accepted += 1;
                assert_eq!(
                    (&report.events, &report.statements, &report.ledger),
                    (&good.events, &good.statements, &good.ledger)
                );
                assert!(
                    report.asked != good.asked || report.hosts == good.hosts,
                    "byte {at}"
                );
            }
        }
    }
    assert!((1..300).contains(&accepted), "{accepted}");
}

proptest! {
    #[test]
    fn prop_round_trip_and_one_encoding(count in 1_u64..5, first in 0_usize..5, since: u32, long: u32, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        let world = World::new(count);
        let first = first.min(usize::try_from(count).unwrap() - 1);
        let since = u64::from(since);
        let bundle = world.bundle(interval(since, since + u64::from(long)), first, usize::try_from(count).unwrap() - 1, whole);
        let bytes = bundle.encode().unwrap();
        prop_assert_eq!(Bundle::decode(&bytes).unwrap(), bundle.clone());
        prop_assert!(judged(&bundle).is_ok());
        let mut bad = bytes;
        for (at, with) in flips {
            let at = at.index(bad.len());
            bad[at] = with;
        }
        let bad = resealed(bad);
        if let Ok(read) = Bundle::decode(&bad) {
            prop_assert_eq!(read.encode().unwrap(), bad);
        }
    }

    #[test]
    fn prop_garbage_never_panics(bytes: Vec<u8>) {
        let mut bytes = [b"HLBUNDLE\0\x01\0\0".as_slice(), &bytes, &[0; 32]].concat();
        bytes = resealed(bytes);
        let _ = check(&bytes, key().verifier(), None);
    }
}

#[test]
fn the_fixture_is_what_it_seems() {
    let world = World::new(3);
    for (at, batch) in (0_u64..).zip(&world.sealed) {
        let header = UnverifiedHeader::parse(batch.header.bytes()).unwrap();
        assert_eq!(header.claimed().sequence.0, at);
        assert_eq!(header.claimed().event_count, 1);
    }
}
