//! Faults at every step of a prune: no body goes that no durable certificate names, none stays once the next start
//! is through, and everything that is kept verifies.
#![cfg(test)]

mod held;
mod spoiled;

use std::{collections::BTreeSet, sync::Arc};

use collector::pipeline::describe;
use common::{
    event::process::ProcessCause,
    ids::{LeafIndex, WallNanos},
    note::SignerKey,
    receipt::Receipt,
    retention::Policy,
};
use ledger::{
    AppendError, Entry, Ledger, Memory, PublishError, ReadError, audit,
    fsck::Options,
    kept::parse_kept_path,
    prune::{self, PRUNING, PruneError, Report},
    storage::{Fault, Storage},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tests::{
    chains::{GOES_ON, Maker, STARTS, event, process, process_key, run_begins, wall},
    pruning::{self, Failed, Turn},
};

fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/prune", &[9; 32]).unwrap()
}

fn open(storage: &Memory) -> Option<Ledger> {
    Ledger::open(Arc::new(storage.clone()), key(), describe)
        .ok()
        .map(|(ledger, _)| ledger)
}

/// What the world holds of a ledger before it is pruned.
struct Before {
    storage: Memory,
    /// Header and body of each leaf.
    leaves: Vec<(Vec<u8>, Vec<u8>)>,
    /// Batches that go on from there, for whoever writes while it is pruned.
    later: Vec<(Vec<u8>, Vec<u8>)>,
    receipts: Vec<Receipt>,
}

/// A ledger of two hosts, each batch with one event and every fourth a heartbeat without any, in groups of these
/// sizes.
fn ledger_of(groups: &[usize]) -> Before {
    let count = groups.iter().sum::<usize>();
    let total = count as u64;
    let mut makers = [Maker::new(1), Maker::new(2)];
    for at in 0..total.div_ceil(2) + LATER {
        for (maker, pid) in makers.iter_mut().zip([100, 200]) {
            let fact = process(process_key(pid, at), None, &[b"/bin/true"], ProcessCause::Exec);
            let begun = run_begins(maker.host(), "node", 0);
            let events = match at {
                0 => begun,
                _ if at % 4 == 3 => Vec::new(),
                _ => vec![event(at * 10 + 1, fact)],
            };
            let flags = if at == 0 { STARTS } else { GOES_ON };
            maker.seal(flags, at * 10, at * 10 + 9, &events);
        }
    }
    let [one, two] = &makers;
    let mut leaves: Vec<(Vec<u8>, Vec<u8>)> = one
        .sealed
        .iter()
        .zip(&two.sealed)
        .flat_map(|(one, two)| [one.clone(), two.clone()])
        .collect();
    // Of an odd number the last belongs to the second host, whose next one then comes first.
    let later = leaves.split_off(count);
    let storage = Memory::new();
    let mut ledger = open(&storage).unwrap();
    let mut rest = leaves.as_slice();
    for size in groups {
        let (group, later) = rest.split_at(*size);
        rest = later;
        let entries: Vec<Entry<'_>> = group
            .iter()
            .map(|(header, body)| Entry { header, body })
            .collect();
        ledger.append_group(&entries).unwrap();
    }
    ledger.integrate_and_publish().unwrap();
    let reader = ledger.reader();
    let receipts = (0..total)
        .map(|leaf| reader.receipt(LeafIndex(leaf)).unwrap())
        .collect();
    Before {
        storage,
        leaves,
        later,
        receipts,
    }
}

/// Prunes a ledger to which nobody writes meanwhile. A fault ends it anywhere.
fn run(storage: &Memory, policy: &Policy) -> Result<Report, Failed> {
    let mut ledger = open(storage).ok_or("does not open")?;
    pruning::prune(&mut ledger, &key(), policy, WallNanos(5), &mut |_, _| true)
}

/// Prunes a ledger that goes on growing: a group is appended at every turn, and every third time all is published.
/// Returns the batches that were acknowledged meanwhile, by leaf.
fn run_live(
    before: &Before,
    storage: &Memory,
    policy: &Policy,
) -> (Result<Report, Failed>, Vec<(LeafIndex, usize)>) {
    let (mut acknowledged, mut next, mut turns) = (Vec::new(), 0, 0);
    let Some(mut ledger) = open(storage) else {
        return (Err("does not open".into()), acknowledged);
    };
    let mut beside = |ledger: &mut Ledger, turn: Turn| {
        turns += 1;
        if let Some((header, body)) = before.later.get(next) {
            match ledger.append_group(&[Entry { header, body }]) {
                Ok(leaf) => {
                    acknowledged.push((leaf, next));
                    next += 1;
                }
                Err(AppendError::NoSpace(_)) => {}
                Err(_) => return false,
            }
        }
        // What publishes may be what the certificate waits for, or come long after.
        turn != Turn::Group
            || turns % 3 != 0
            || !matches!(ledger.integrate_and_publish(), Err(PublishError::Fatal(_)))
    };
    let result = pruning::prune(&mut ledger, &key(), policy, WallNanos(5), &mut beside);
    (result, acknowledged)
}

/// What was acknowledged while the ledger was pruned is there, whole.
fn check_acknowledged(before: &Before, storage: &Memory, acknowledged: &[(LeafIndex, usize)], context: &str) {
    let ledger = open(storage).unwrap_or_else(|| panic!("{context}: does not open"));
    let reader = ledger.reader();
    for (leaf, at) in acknowledged {
        let (header, body) = &before.later[*at];
        assert_eq!(&reader.header(*leaf).unwrap(), header, "{context}");
        assert_eq!(&reader.body(*leaf).unwrap(), body, "{context}");
        let receipt = reader.receipt(*leaf).unwrap();
        receipt.verify(header, key().verifier()).unwrap();
    }
}

fn sound(storage: &Memory, context: &str) -> audit::Audit {
    let found = audit::run(storage, &Options::default());
    assert!(found.report.is_sound(), "{context}: {:?}", found.report.faults);
    found
}

/// Everything that was proved before is proved still, and what is there of bodies is what was there. Returns which
/// are gone.
fn check(before: &Before, storage: &Memory, context: &str) -> Vec<u64> {
    let ledger = open(storage).unwrap_or_else(|| panic!("{context}: does not open"));
    let reader = ledger.reader();
    let mut gone = Vec::new();
    for (leaf, ((header, body), old)) in (0..).zip(before.leaves.iter().zip(&before.receipts)) {
        assert_eq!(&reader.header(LeafIndex(leaf)).unwrap(), header, "{context}");
        match reader.body(LeafIndex(leaf)) {
            Ok(found) => assert_eq!(&found, body, "{context}: leaf {leaf}"),
            Err(ReadError::Pruned { .. }) => gone.push(leaf),
            Err(other) => panic!("{context}: leaf {leaf}: {other}"),
        }
        old.verify(header, key().verifier()).unwrap();
        reader
            .receipt(LeafIndex(leaf))
            .unwrap()
            .verify(header, key().verifier())
            .unwrap();
    }
    gone
}

/// Carries out what a crash left; the bodies removed.
fn finish(ledger: &Ledger) -> Result<u64, PruneError> {
    let mut bodies = 0;
    let mut count = |change: Option<prune::Change>| {
        bodies += change.map_or(0, |change| change.bodies);
        true
    };
    prune::finish(&ledger.reader(), true, &mut count)?;
    Ok(bodies)
}

/// The next start: finishes, and leaves nothing of what it was to remove.
fn settle(before: &Before, storage: &Memory, expected: &[u64], context: &str) -> bool {
    let unfinished = sound(storage, context);
    let ledger = open(storage).unwrap_or_else(|| panic!("{context}: does not open"));
    finish(&ledger).unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(ledger);
    let gone = check(before, storage, context);
    assert!(gone.is_empty() || gone == expected, "{context}: {gone:?}");
    assert!(
        unfinished.pruned <= gone.len() as u64,
        "{context}: a body came back"
    );
    // Done for good: no power cut brings anything back.
    storage.crash(7);
    let found = sound(storage, context);
    assert_eq!(found.pruned, gone.len() as u64, "{context}");
    // But for the mark, whose end may have been the step that failed: the next start finds nothing to do.
    let ledger = open(storage).unwrap_or_else(|| panic!("{context}: does not open again"));
    let again = finish(&ledger).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(again, 0, "{context}");
    let found = sound(storage, context);
    let both = storage.list("groups").unwrap().into_iter().any(|path| {
        parse_kept_path(&path).is_some() && storage.length(path.trim_end_matches(".kept")).unwrap().is_some()
    });
    assert!(
        !both && storage.length(PRUNING).unwrap().is_none(),
        "{context}: not finished"
    );
    assert!(
        found.report.notes.is_empty(),
        "{context}: {:?}",
        found.report.notes
    );
    !gone.is_empty()
}

fn policy(older_than: u64) -> Policy {
    Policy {
        older_than: Some(wall(older_than)),
        ..Policy::default()
    }
}

/// Rounds of batches sealed beyond those in the ledger.
const LATER: u64 = 10;
const GROUPS: [usize; 5] = [3, 6, 1, 8, 4];
const FAULTS: [Fault; 5] = [
    Fault::NoSpace,
    Fault::Error,
    Fault::ErrorButDone,
    Fault::Kill,
    Fault::KillAfter,
];

#[test]
fn every_fault_at_every_step_of_a_prune_then_restart_or_power_cut() {
    let before = ledger_of(&GROUPS);
    let clean = before.storage.snapshot();
    let report = run(&clean, &policy(80)).unwrap();
    let expected = check(&before, &clean, "no fault");
    assert_eq!(report.bodies(), expected.len() as u64);
    assert!(expected.len() > 8, "{expected:?}");
    let steps = clean.steps();
    assert!(steps > 25, "{steps}");
    let (mut runs, mut pruned) = (0, 0);
    for step in 0..steps {
        for fault in FAULTS {
            for power_cut in [None, Some(1), Some(2), Some(3)] {
                let storage = before.storage.snapshot();
                storage.fail_at(step, fault);
                let context = format!("{fault:?} at step {step}, power cut {power_cut:?}");
                let _ = run(&storage, &policy(80));
                match power_cut {
                    Some(seed) => storage.crash(seed * 1000 + step),
                    None => storage.restart(),
                }
                pruned += u32::from(settle(&before, &storage, &expected, &context));
                runs += 1;
            }
        }
    }
    assert!(pruned > 0 && pruned < runs);
    println!(
        "{runs} runs, {pruned} of which ended pruned: {} faults at each of {steps} steps",
        FAULTS.len()
    );
}

#[test]
fn every_fault_at_every_step_of_a_prune_beside_a_writer() {
    let before = ledger_of(&GROUPS);
    let clean = before.storage.snapshot();
    let (report, acknowledged) = run_live(&before, &clean, &policy(80));
    let expected = check(&before, &clean, "no fault");
    assert_eq!(report.unwrap().bodies(), expected.len() as u64);
    assert!(acknowledged.len() > 6, "{}", acknowledged.len());
    check_acknowledged(&before, &clean, &acknowledged, "no fault");
    let steps = clean.steps();
    let (mut runs, mut pruned, mut grown) = (0, 0, 0);
    for step in 0..steps {
        for fault in FAULTS {
            for power_cut in [None, Some(1)] {
                let storage = before.storage.snapshot();
                storage.fail_at(step, fault);
                let context = format!("live, {fault:?} at step {step}, power cut {power_cut:?}");
                let (_, acknowledged) = run_live(&before, &storage, &policy(80));
                match power_cut {
                    Some(seed) => storage.crash(seed * 1000 + step),
                    None => storage.restart(),
                }
                pruned += u32::from(settle(&before, &storage, &expected, &context));
                check_acknowledged(&before, &storage, &acknowledged, &context);
                grown += acknowledged.len();
                runs += 1;
            }
        }
    }
    assert!(pruned > 0 && pruned < runs);
    println!(
        "{runs} runs beside a writer, {pruned} of which ended pruned, {grown} batches acknowledged meanwhile: {} faults at \
         each of {steps} steps",
        FAULTS.len()
    );
}

#[test]
fn a_second_fault_while_a_prune_is_finished() {
    let before = ledger_of(&GROUPS);
    let clean = before.storage.snapshot();
    run(&clean, &policy(80)).unwrap();
    let expected = check(&before, &clean, "no fault");
    for step in 0..clean.steps() {
        for second in 0..16 {
            let storage = before.storage.snapshot();
            storage.fail_at(step, Fault::Kill);
            let _ = run(&storage, &policy(80));
            storage.crash(step * 31 + second);
            storage.fail_at(
                storage.steps() + second,
                FAULTS[usize::try_from((step + second) % 5).unwrap()],
            );
            if let Some(ledger) = open(&storage) {
                let _ = finish(&ledger);
            }
            storage.crash(step * 17 + second);
            settle(
                &before,
                &storage,
                &expected,
                &format!("kill at {step}, then a fault {second} steps on"),
            );
        }
    }
}

/// A test of the tests: a store that says durable and is not makes bodies go before their certificate is, and so
/// does a pruner that begins with the groups. Both are caught by the checks above.
#[test]
fn bodies_that_go_before_their_certificate_is_durable_are_caught() {
    let before = ledger_of(&GROUPS);
    let caught = (0..20).any(|seed| {
        let storage = before.storage.snapshot();
        storage.plant_skip_sync();
        run(&storage, &policy(80)).unwrap();
        storage.crash(seed);
        !audit::run(&storage, &Options::default()).report.is_sound()
    });
    assert!(caught);
    let done = before.storage.snapshot();
    run(&done, &policy(80)).unwrap();
    let early = before.storage.snapshot();
    let kept = done.read("groups/000.kept", u64::MAX).unwrap().unwrap();
    early.tamper("groups/000.kept", Some(&kept));
    early.tamper("groups/000", None);
    let faults = audit::run(&early, &Options::default()).report.faults;
    assert!(
        faults
            .iter()
            .any(|fault| fault.what.contains("no certificate that names it")),
        "{faults:?}"
    );
}

#[test]
fn a_kept_object_that_rots_or_goes_is_named() {
    let before = ledger_of(&GROUPS);
    run(&before.storage, &policy(80)).unwrap();
    let path = "groups/003.kept";
    let good = before.storage.read(path, u64::MAX).unwrap().unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        before.storage.tamper(path, Some(&bad));
        let faults = audit::run(&before.storage, &Options::default()).report.faults;
        assert!(
            faults.iter().any(|fault| fault.object == path),
            "flip at {at}: {faults:?}"
        );
    }
    before.storage.tamper(path, None);
    let faults = audit::run(&before.storage, &Options::default()).report.faults;
    assert!(
        faults
            .iter()
            .any(|fault| fault.what.contains("no readable group")),
        "{faults:?}"
    );
}

#[test]
fn prop_random_prunes_of_random_ledgers_keep_every_other_body_and_every_proof() {
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let prunes = prop::collection::vec((prop::option::of(0_u64..150), prop::option::of(0_u64..12)), 1..4);
    let strategy = (prop::collection::vec(1_usize..9, 1..6), prunes);
    runner
        .run(&strategy, |(groups, prunes)| {
            let before = ledger_of(&groups);
            let mut gone_before = Vec::new();
            let mut by_report = 0;
            for (older, keep) in prunes {
                let policy = Policy {
                    older_than: older.map(wall),
                    keep_batches: keep,
                    ..Policy::default()
                };
                let report = run(&before.storage, &policy).unwrap();
                by_report += report.bodies();
                let groups: BTreeSet<_> = report.changes.iter().map(|change| &change.object).collect();
                assert_eq!(groups.len(), report.changes.len(), "each group once");
                let gone = check(&before, &before.storage, "random prune");
                assert!(
                    gone_before.iter().all(|leaf| gone.contains(leaf)),
                    "none comes back"
                );
                gone_before = gone;
            }
            assert_eq!(by_report, gone_before.len() as u64);
            let found = sound(&before.storage, "random prune");
            assert_eq!(found.pruned, by_report);
            Ok(())
        })
        .unwrap();
}
