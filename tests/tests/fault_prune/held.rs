//! Certificates against legal holds: a collector that forges one is named, one that respects them never is.

use common::{
    ids::{HostId, StatementNumber, WallNanos},
    retention::{Holds, Plan, Policy},
    statement::{Hold, HoldLifted, Said},
    text::Text,
};
use ledger::{
    Ledger, Memory, StorageError, audit,
    fsck::Options,
    storage::{NewObject, Storage, Usage},
};
use tests::{
    chains::wall,
    pruning::{self, Turn},
};

use crate::{GROUPS, key, ledger_of, open, policy};

fn hold(host: Option<HostId>, from: u64, until: u64) -> Said {
    Said::Hold(Hold {
        host,
        from: wall(from),
        until: wall(until),
        reason: Text(b"case 7".to_vec()),
    })
}

fn state(ledger: &mut Ledger, said: Said) -> StatementNumber {
    let number = pruning::state(ledger, &key(), said, WallNanos(3)).unwrap();
    ledger.integrate_and_publish().unwrap();
    number
}

fn carry_out(ledger: &mut Ledger, plan: Plan) -> u64 {
    let report = pruning::carry_out(ledger, &key(), plan, WallNanos(5), &mut |_, _| true);
    report.unwrap().bodies()
}

fn faults(storage: &Memory) -> Vec<String> {
    let found = audit::run(storage, &Options::default());
    let against: Vec<String> = found.report.faults.iter().map(ToString::to_string).collect();
    assert!(
        against
            .iter()
            .all(|fault| fault.contains("forgery") && fault.contains("certificate")),
        "{against:?}"
    );
    against
}

#[test]
fn a_certificate_that_goes_against_a_hold_is_named_with_each_body() {
    let before = ledger_of(&GROUPS);
    // The plan as it is without holds; what the forger says of holds beside it.
    for claims_respect in [false, true] {
        let storage = before.storage.snapshot();
        let mut ledger = open(&storage).unwrap();
        let number = state(&mut ledger, hold(None, 20, 39));
        let mut plan = pruning::plan(&ledger, &policy(80), Holds::default()).unwrap();
        if claims_respect {
            plan.certificates[0].holds = vec![number];
        }
        assert!(carry_out(&mut ledger, plan) > 8);
        drop(ledger);
        let found = faults(&storage);
        // Of two hosts batches 2 and 3 lie in 20 to 39 ms.
        let named = found
            .iter()
            .filter(|fault| fault.contains("against the legal hold of statement 0"))
            .count();
        assert_eq!(named, 4, "{found:?}");
        let other = found
            .iter()
            .filter(|fault| fault.contains("names other legal holds"));
        assert_eq!(other.count(), usize::from(!claims_respect), "{found:?}");
        assert_eq!(found.len(), 4 + usize::from(!claims_respect));
    }
}

#[test]
fn a_forged_certificate_is_named_before_it_is_carried_out_and_by_host() {
    let before = ledger_of(&GROUPS);
    let host = tests::chains::Maker::new(2).host();
    let storage = before.storage.snapshot();
    let mut ledger = open(&storage).unwrap();
    let number = state(&mut ledger, hold(Some(host), 0, 1_000));
    let mut plan = pruning::plan(&ledger, &policy(60), Holds::default()).unwrap();
    plan.certificates[0].holds = vec![number];
    // It stops once the certificate is published.
    let stopped = pruning::carry_out(&mut ledger, &key(), plan, WallNanos(5), &mut |_, turn| {
        turn != Turn::Published
    });
    assert!(stopped.is_err());
    drop(ledger);
    let found = faults(&storage);
    assert!(
        found.len() > 2 && found.iter().all(|fault| fault.contains(&host.to_string())),
        "{found:?}"
    );
}

#[test]
fn what_respects_holds_is_sound_whatever_comes_before_and_after() {
    let before = ledger_of(&GROUPS);
    let storage = before.storage.snapshot();
    let mut ledger = open(&storage).unwrap();
    let by_policy = |ledger: &mut Ledger, policy: &Policy| {
        pruning::prune(ledger, &key(), policy, WallNanos(5), &mut |_, _| true)
            .unwrap()
            .bodies()
    };
    // A body that went before a hold over it was set is nobody's fault, though later ranges run on over it.
    let first = by_policy(&mut ledger, &policy(30));
    let number = state(&mut ledger, hold(None, 0, 49));
    let second = by_policy(&mut ledger, &policy(70));
    let reason = Text(Vec::new());
    state(&mut ledger, Said::HoldLifted(HoldLifted { hold: number, reason }));
    let third = by_policy(&mut ledger, &policy(80));
    // And one set after the last certificate binds nothing before it.
    state(&mut ledger, hold(None, 0, 1_000));
    drop(ledger);
    assert!(first > 0 && second > 0 && third > 0, "{first} {second} {third}");
    let found = faults(&storage);
    assert!(found.is_empty(), "{found:?}");
}

/// A ledger that was pruned while somebody checked it: checkpoint, tiles and names as they were when he began, groups
/// as he finds them.
#[derive(Debug)]
struct Meanwhile {
    early: Memory,
    late: Memory,
}

impl Meanwhile {
    fn at(&self, path: &str) -> &Memory {
        if path.starts_with("log/") {
            &self.early
        } else {
            &self.late
        }
    }
}

impl Storage for Meanwhile {
    fn create(&self, _: &[NewObject<'_>]) -> Result<(), StorageError> {
        panic!("a check writes nothing")
    }
    fn replace(&self, _: &str, _: &[u8]) -> Result<(), StorageError> {
        panic!("a check writes nothing")
    }
    fn settle(&self, _: &str) -> Result<(), StorageError> {
        panic!("a check writes nothing")
    }
    fn length(&self, path: &str) -> Result<Option<u64>, StorageError> {
        self.at(path).length(path)
    }
    fn read_range(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StorageError> {
        self.at(path).read_range(path, offset, length)
    }
    fn read_into(&self, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<bool, StorageError> {
        self.at(path).read_into(path, length_max, buffer)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.early.list(prefix)
    }
    fn remove(&self, _: &str) -> Result<(), StorageError> {
        panic!("a check writes nothing")
    }
    fn remove_durably(&self, _: &str) -> Result<(), StorageError> {
        panic!("a check writes nothing")
    }
    fn usage(&self, path: &str) -> Result<Usage, StorageError> {
        self.at(path).usage(path)
    }
}

#[test]
fn a_prune_while_the_ledger_is_checked_raises_no_alarm() {
    let before = ledger_of(&GROUPS);
    let late = before.storage.snapshot();
    let mut ledger = open(&late).unwrap();
    let report = pruning::prune(&mut ledger, &key(), &policy(80), WallNanos(5), &mut |_, _| true);
    let bodies = report.unwrap().bodies();
    drop(ledger);
    let early = before.storage.snapshot();
    let found = audit::run(&Meanwhile { early, late }, &Options::default());
    assert!(found.report.is_sound(), "{:?}", found.report.faults);
    assert_eq!(found.pruned, bodies);
    assert!(
        found
            .report
            .notes
            .iter()
            .any(|note| note.contains("stated while this was checked")),
        "{:?}",
        found.report.notes
    );
}
