//! Statements as leaves between batches: found, proven offline, and checked with the rest of the ledger.

use std::sync::Arc;

use collector::{pipeline::describe, projection::Projection, query::Query};
use common::{
    ids::{HostId, LeafIndex, StatementNumber, WallNanos},
    note::SignerKey,
    statement::{self, Said, StatementChain, VerifiedStatement},
    text::Text,
};
use ledger::{
    Entry, Ledger, Memory,
    audit::{self, Audit},
    fsck::{Cause, Options},
    storage::Storage,
};
use tests::chains::{LEDGER_KEY_SEED, story};

fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap()
}

/// Four statements, each behind the one before, signed by `key`.
fn statements(key: &SignerKey) -> Vec<VerifiedStatement> {
    let mut chain = StatementChain::default();
    (0..4_u64)
        .map(|number| {
            let said = Said::HostEnrolled {
                host: HostId([7; 32]),
                name: Text(b"node-7".to_vec()),
                enrolled_at: WallNanos(number),
            };
            let statement = chain.write(said, WallNanos(number), 5, key).unwrap();
            chain.follow(&statement).unwrap();
            statement
        })
        .collect()
}

/// A ledger in which these entries stand between the batches of the story.
fn ledger_with(entries: &[&[u8]]) -> (Memory, Ledger) {
    let memory = Memory::new();
    let (mut ledger, _) = Ledger::open(Arc::new(memory.clone()), key(), describe).unwrap();
    let (one, _) = story();
    let batches = one.sealed.iter().map(|(header, body)| Entry { header, body });
    let between = entries.iter().map(|header| Entry { header, body: &[] });
    let mixed: Vec<Entry<'_>> = batches
        .clone()
        .take(2)
        .chain(between)
        .chain(batches.skip(2))
        .collect();
    for entry in mixed {
        ledger.append_group(&[entry]).unwrap();
    }
    ledger.integrate_and_publish().unwrap();
    (memory, ledger)
}

fn bytes_of(statements: &[VerifiedStatement]) -> Vec<&[u8]> {
    statements.iter().map(VerifiedStatement::bytes).collect()
}

fn check(storage: &dyn Storage) -> Audit {
    audit::run(storage, &Options::default())
}

#[test]
fn a_ledger_with_statements_is_sound_and_answers_as_before() {
    let made = statements(&key());
    let (memory, ledger) = ledger_with(&bytes_of(&made));
    let audit = check(&memory);
    assert!(audit.report.is_sound(), "{:?}", audit.report.faults);
    assert_eq!((audit.statements, audit.hosts.len()), (4, 1));
    let reader = ledger.reader();
    assert_eq!(reader.hosts().len(), 1, "the collector is no host");
    assert_eq!(
        reader.host_head(&HostId::COLLECTOR).unwrap().unwrap().leaf,
        LeafIndex(5),
        "recovery takes the statements up where the last one left them"
    );
    let query = Query::new(Arc::new(Projection::new(Arc::new(reader), None)));
    query.catch_up().unwrap();
    assert_eq!(query.status().hosts, 1);
}

#[test]
fn each_statement_is_proven_offline() {
    let made = statements(&key());
    let (_, ledger) = ledger_with(&bytes_of(&made));
    let query = Query::new(Arc::new(Projection::new(Arc::new(ledger.reader()), None)));
    query.catch_up().unwrap();
    for (leaf, statement) in (2..).zip(&made) {
        let number = statement.fields().number;
        let file = query.statement_proof(number).unwrap().encode();
        let proven = statement::check(&file, key().verifier()).unwrap();
        assert_eq!((proven.leaf, &proven.statement), (LeafIndex(leaf), statement));
    }
    assert!(query.statement_proof(StatementNumber(4)).is_err());
}

#[test]
fn an_altered_statement_is_rot_and_a_forged_one_forgery() {
    let made = statements(&key());
    let (memory, _) = ledger_with(&bytes_of(&made));
    let path = "groups/003";
    let good = memory.read(path, u64::MAX).unwrap().unwrap();
    let mut bad = good.clone();
    // Somewhere in the payload: behind the group's fixed fields and its one row.
    bad[36 + 12 + 120] ^= 1;
    memory.tamper(path, Some(&bad));
    let found = check(&memory);
    assert!(!found.report.is_sound());
    assert!(
        found
            .report
            .faults
            .iter()
            .all(|fault| fault.object == path && fault.cause == Cause::Rot),
        "{:?}",
        found.report.faults
    );
    assert!(
        found
            .report
            .faults
            .iter()
            .any(|fault| fault.what.contains("statement 1")),
        "{:?}",
        found.report.faults
    );

    let stranger = SignerKey::from_seed("ledger.example/test", &[99; 32]).unwrap();
    let (memory, _) = ledger_with(&bytes_of(&statements(&stranger))[..1]);
    let faults = check(&memory).report.faults;
    assert_eq!((faults.len(), faults[0].cause), (1, Cause::Forgery), "{faults:?}");
    assert!(faults[0].what.contains("not signed by the key"), "{faults:?}");
    assert_eq!(faults[0].leaf, Some(LeafIndex(2)));
}

#[test]
fn a_missing_a_repeated_and_an_unknown_leaf_are_named() {
    let made = statements(&key());
    let all = bytes_of(&made);
    for (entries, cause, leaf) in [
        (vec![all[0], all[2], all[3]], Cause::Missing, 3),
        (vec![all[1], all[2]], Cause::Missing, 2),
        (vec![all[0], all[1], all[1], all[2]], Cause::Forgery, 4),
        (vec![all[0], b"HLXX", all[1]], Cause::Forgery, 3),
    ] {
        let (memory, _) = ledger_with(&entries);
        let faults = check(&memory).report.faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(
            (faults[0].cause, faults[0].leaf),
            (cause, Some(LeafIndex(leaf))),
            "{faults:?}"
        );
    }
}
