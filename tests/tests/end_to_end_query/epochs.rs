//! Chains over several key epochs: taken up, audited, answered from and proven like any other.

use std::sync::Arc;

use collector::{projection::Projection, query::Query};
use common::{
    batch::{UnverifiedHeader, sign_header},
    event::{Kind, process::ProcessCause},
    ids::{EventIndex, KeyEpoch, PublicKey, StatementNumber, WallNanos},
    note::SignerKey,
    statement::{self, Accusation, Equivocation, Said, StatementChain, StatementProof},
};
use ed25519_dalek::SigningKey;
use ledger::{Entry, Memory, audit, fsck::Options, last_header};
use tests::chains::{
    GOES_ON, LEDGER_KEY_SEED, Maker, STARTS, event, ledger_of, process, process_key, run_begins,
};

use crate::{list, pids, query_of};

/// Epochs of 1, 2, 3, … batches, one process started in each batch.
fn aged(epochs: u64) -> Maker {
    let mut maker = Maker::new(6);
    let mut begins = run_begins(maker.host(), "node-6", 0);
    begins.push(event(
        10,
        tests::chains::baseline(0, common::event::baseline::Phase::Complete { events: 0 }),
    ));
    maker.seal(STARTS, 0, 100, &begins);
    let mut at = 100;
    for epoch in 1..epochs {
        maker.ratchet();
        for _ in 0..=epoch {
            let pid = u32::try_from(at).unwrap();
            let started = process(process_key(pid, at + 50), None, &[b"/bin/a"], ProcessCause::Fork);
            maker.seal(GOES_ON, at, at + 100, &[event(at + 50, started)]);
            at += 100;
        }
    }
    maker
}

#[test]
fn events_of_every_epoch_are_proven_offline_and_answered_from() {
    let maker = aged(5);
    let query = query_of(&[&maker]);
    let key = SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap();
    let mut latest = KeyEpoch(0);
    let mut count = 0;
    while let Ok(proof) = query.proof(&format!("{}:{count}", maker.host())) {
        let proven = common::proof::check(&proof.encode(), key.verifier()).unwrap();
        assert_eq!((proven.host, proven.index), (maker.host(), EventIndex(count)));
        latest = latest.max(proven.header.fields().key_epoch);
        assert_eq!(proof.key_history.len() as u64, proven.header.fields().key_epoch.0);
        count += 1;
    }
    assert_eq!(latest, KeyEpoch(4), "{count} events");
    let started = list(&query, Kind::Process, "node-6", Some(1_000));
    assert!(pids(&started).len() > 5, "{started:?}");
}

#[test]
fn a_chain_is_taken_up_in_whatever_epoch_it_stands() {
    let whole = aged(6);
    let mut seen = KeyEpoch(0);
    for batches in 1..=whole.sealed.len() {
        let mut maker = whole.clone();
        maker.sealed.truncate(batches);
        let storage = Arc::new(Memory::new());
        let ledger = ledger_of(storage.clone(), &[&maker]);
        let last = last_header(&ledger.reader(), &maker.host()).unwrap().unwrap();
        assert_eq!(last.bytes(), maker.sealed[batches - 1].0);
        seen = last.fields().key_epoch;
        let audit = audit::run(&*storage, &Options::default());
        assert!(audit.report.is_sound(), "{:?}", audit.report.faults);
    }
    assert_eq!(seen, KeyEpoch(5));
}

/// A ledger into which somebody brought batches of an epoch whose key the host never announced.
#[test]
fn a_stranger_in_the_ledger_is_named_and_never_believed() {
    let mut maker = aged(3);
    maker.ratchet().seal(GOES_ON, 10_000, 10_100, &[]);
    let key = SigningKey::from_bytes(&[99; 32]);
    let (header, _) = maker.sealed.last_mut().unwrap();
    let mut fields = UnverifiedHeader::parse(header).unwrap().claimed().clone();
    fields.key_epoch = KeyEpoch(4);
    fields.public_key = PublicKey(key.verifying_key().to_bytes());
    *header = sign_header(&fields, &key).unwrap().bytes().to_vec();
    let storage = Arc::new(Memory::new());
    let ledger = ledger_of(storage.clone(), &[&maker]);
    let taken_up = last_header(&ledger.reader(), &maker.host());
    assert!(
        taken_up
            .unwrap_err()
            .to_string()
            .contains("cannot follow epoch 2"),
        "recovery refuses"
    );
    let audit = audit::run(&*storage, &Options::default());
    assert_eq!(audit.report.faults.len(), 1, "{:?}", audit.report.faults);
    assert!(audit.report.faults[0].what.contains("cannot follow epoch 2"));
    let projection = Arc::new(Projection::new(Arc::new(ledger.reader()), None));
    let query = Query::new(Arc::clone(&projection));
    query.catch_up().unwrap();
    let leaf = common::ids::LeafIndex(maker.sealed.len() as u64 - 1);
    let refused = projection.verified(leaf).unwrap_err().to_string();
    assert!(refused.contains("no key was announced"), "{refused}");
}

/// A copied host goes on beside the original, in the same epoch or in the next one: the file that proves it holds the
/// headers that say whose keys those are.
#[test]
fn an_accusation_of_a_later_epoch_is_proven_by_the_hosts_own_headers() {
    let (mut held, mut same) = (aged(4), aged(4));
    let mut next = aged(4);
    held.seal(GOES_ON, 10_000, 10_100, &[]);
    same.seal(GOES_ON, 10_000, 10_200, &[]);
    next.ratchet().seal(GOES_ON, 10_000, 10_100, &[]);
    let last = |maker: &Maker| maker.sealed.last().unwrap().0.clone();
    let key = SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap();
    let storage = Arc::new(Memory::new());
    let mut ledger = ledger_of(storage.clone(), &[&held]);
    let mut chain = StatementChain::default();
    for twin in [&same, &next] {
        let said = Said::Equivocation(Equivocation {
            host: held.host(),
            held: last(&held),
            offered: last(twin),
        });
        let statement = chain.write(said, WallNanos(1), 0, &key).unwrap();
        chain.follow(&statement).unwrap();
        let header = statement.bytes();
        ledger.append_group(&[Entry { header, body: &[] }]).unwrap();
    }
    ledger.integrate_and_publish().unwrap();
    let audit = audit::run(&*storage, &Options::default());
    assert!(audit.report.is_sound(), "{:?}", audit.report.faults);
    let query = Query::new(Arc::new(Projection::new(Arc::new(ledger.reader()), None)));
    query.catch_up().unwrap();
    for number in 0..2 {
        let file = query.statement_proof(StatementNumber(number)).unwrap();
        assert_eq!(file.key_history.len(), 3);
        let judged = |file: &StatementProof| {
            let proven = statement::check(&file.encode(), key.verifier()).unwrap();
            proven.accusation.unwrap()
        };
        let key_epoch = KeyEpoch(3);
        assert_eq!(
            judged(&file),
            Accusation {
                key_epoch,
                by_host: true
            }
        );
        let open = StatementProof {
            key_history: Vec::new(),
            ..file
        };
        assert_eq!(
            judged(&open),
            Accusation {
                key_epoch,
                by_host: false
            }
        );
    }
}
