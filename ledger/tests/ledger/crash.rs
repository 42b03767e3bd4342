//! Faults at every storage step: nothing acknowledged is lost, no size gets two roots, `fsck` finds nothing.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    checkpoint,
    ids::{Hash, LeafIndex},
    limits::NOTE_BYTES_MAX,
};
use ledger::{
    AppendError, Ledger, Memory, PublishError, ReadError,
    storage::{Fault, Storage},
    tiles::TileError,
};

use crate::support::{append, check_all, check_ledger, describe, key};

/// Group sizes of the workload; each is appended, every second one is followed by a checkpoint.
const GROUPS: [u64; 6] = [3, 250, 5, 2, 260, 1];

/// What the outside world has been told, and must find again.
#[derive(Default)]
struct Told {
    /// Leaves acknowledged.
    leaves: u64,
    /// Root of each size that was ever published or left on disk.
    roots: BTreeMap<u64, Hash>,
    /// Most leaves under a checkpoint that was returned.
    published: u64,
    /// Whether a checkpoint ever lay on disk.
    stored: bool,
}

impl Told {
    fn head(&mut self, size: u64, root: Hash) {
        let known = *self.roots.entry(size).or_insert(root);
        assert_eq!(known, root, "two roots for {size} leaves");
    }

    /// Whatever checkpoint lies there counts: somebody may have fetched it.
    fn look(&mut self, storage: &Memory) {
        if let Ok(Some(note)) = storage.read("log/checkpoint", NOTE_BYTES_MAX as u64) {
            let head = checkpoint::open(&note, key().verifier()).unwrap();
            self.head(head.size, head.root);
            self.stored = true;
        }
    }
}

/// Runs the workload from where the ledger stands until it is done or fatal. `true` when done.
fn work(storage: &Memory, told: &mut Told) -> bool {
    let Ok((mut ledger, _)) = Ledger::open(Arc::new(storage.clone()), key(), describe) else {
        return false;
    };
    let at_start = ledger.reader().leaves();
    assert!(
        at_start >= told.leaves,
        "{} acknowledged leaves, {at_start} found",
        told.leaves
    );
    // Recovered but unacknowledged leaves are as good as acknowledged now: agents will see receipts.
    told.leaves = at_start;
    let mut next = 0;
    for (round, count) in GROUPS.into_iter().enumerate() {
        next += count;
        while told.leaves < next {
            let count = next - told.leaves;
            match append(&mut ledger, told.leaves, count) {
                Ok(_) => told.leaves = next,
                // A clean refusal: the same again, now that the fault is spent.
                Err(AppendError::NoSpace(_)) => {}
                Err(_) => return false,
            }
        }
        if !show(&mut ledger, told) || (round % 2 == 1 && !publish(&mut ledger, told)) {
            return false;
        }
    }
    true
}

/// Shows what is durable before it is stored: from now on somebody has seen it.
fn show(ledger: &mut Ledger, told: &mut Told) -> bool {
    let Ok(shown) = ledger.show() else {
        return false;
    };
    assert_eq!(shown.checkpoint.size, told.leaves);
    // Checked as it is made; the process may be dead, and what is full is read from the disk.
    for leaf in [0, told.leaves / 2, told.leaves - 1] {
        if let Err(error) = ledger.reader().receipt(LeafIndex(leaf)) {
            assert!(matches!(error, ReadError::Tile(TileError::Storage(_))), "{error}");
        }
    }
    told.head(shown.checkpoint.size, shown.checkpoint.root);
    told.published = told.published.max(shown.checkpoint.size);
    true
}

/// Publishes, again where the refusal was clean. `false` when fatal.
fn publish(ledger: &mut Ledger, told: &mut Told) -> bool {
    loop {
        match ledger.integrate_and_publish() {
            Ok(published) => {
                told.head(published.checkpoint.size, published.checkpoint.root);
                told.published = told.published.max(published.checkpoint.size);
                told.stored = true;
                return true;
            }
            Err(PublishError::NoSpace(_)) => {}
            Err(PublishError::Fatal(_)) => {
                // Poisoned: nothing more is accepted.
                assert!(matches!(
                    append(ledger, told.leaves, 1),
                    Err(AppendError::Fatal(_))
                ));
                return false;
            }
        }
    }
}

/// The last word: open without faults, finish the work, and look at everything.
fn settle(storage: &Memory, told: &mut Told, context: &str) {
    told.look(storage);
    let before = check_ledger(storage);
    // Before recovery the very first objects may be missing, as long as no checkpoint was ever stored; nothing
    // else may be wrong.
    assert!(
        before
            .faults
            .iter()
            .all(|f| !told.stored && f.what == "is missing"),
        "{context}: {:?}",
        before.faults
    );
    assert!(work(storage, told), "{context}: work does not end without faults");
    let (ledger, _) = Ledger::open(Arc::new(storage.clone()), key(), describe).unwrap();
    let head = ledger.reader().published().checkpoint;
    told.head(head.size, head.root);
    assert!(head.size >= told.published, "{context}: the checkpoint went back");
    assert_eq!(head.size, told.leaves);
    // What was published may rest on nothing that a power cut could still take.
    storage.crash(told.leaves);
    let report = check_ledger(storage);
    assert!(report.is_sound(), "{context}: {:?}", report.faults);
    assert_eq!(report.counts.leaves, told.leaves, "{context}");
}

fn steps_without_faults() -> u64 {
    let storage = Memory::new();
    let mut told = Told::default();
    assert!(work(&storage, &mut told));
    check_all(
        &Ledger::open(Arc::new(storage.clone()), key(), describe)
            .unwrap()
            .0
            .reader(),
        told.leaves,
    );
    storage.steps()
}

const FAULTS: [Fault; 5] = [
    Fault::NoSpace,
    Fault::Error,
    Fault::ErrorButDone,
    Fault::Kill,
    Fault::KillAfter,
];

#[test]
fn every_fault_at_every_step_then_restart_or_power_cut() {
    let steps = steps_without_faults();
    assert!(steps > 40, "{steps}");
    let mut runs = 0;
    for step in 0..steps {
        for fault in FAULTS {
            for power_cut in [None, Some(1), Some(2)] {
                let storage = Memory::new();
                let mut told = Told::default();
                storage.fail_at(step, fault);
                work(&storage, &mut told);
                match power_cut {
                    Some(seed) => storage.crash(seed * 1000 + step),
                    None => storage.restart(),
                }
                settle(
                    &storage,
                    &mut told,
                    &format!("{fault:?} at step {step}, power cut {power_cut:?}"),
                );
                runs += 1;
            }
        }
    }
    println!(
        "{runs} runs: {} faults at each of {steps} steps, with and without power cut",
        FAULTS.len()
    );
}

/// Each pair of steps: a fault at the first, then another at the second, counted from where the first left the
/// work (after a clean refusal) or from the start of the recovery (after anything else). Which two faults meet
/// at a pair follows from its numbers; over all pairs each meets each.
#[test]
fn every_pair_of_steps_fails() {
    let steps = steps_without_faults();
    let (mut runs, mut met) = (0, BTreeMap::<String, u32>::new());
    for first in 0..steps {
        for second in 0..steps {
            let pick = |number: u64| FAULTS[usize::try_from(number % 5).unwrap()];
            let faults = (pick(first + second), pick(first * 3 + second * 2 + second / 5));
            let context = format!("{:?} at step {first}, then {:?} {second} on", faults.0, faults.1);
            let storage = Memory::new();
            let mut told = Told::default();
            storage.fail_at(first, faults.0);
            if faults.0 == Fault::NoSpace {
                storage.fail_at(first + 1 + second, faults.1);
            }
            work(&storage, &mut told);
            end(&storage, first + second, &mut told);
            if faults.0 != Fault::NoSpace {
                storage.fail_at(storage.steps() + second, faults.1);
                work(&storage, &mut told);
                end(&storage, first * 17 + second, &mut told);
            }
            settle(&storage, &mut told, &context);
            *met.entry(format!("{faults:?}")).or_default() += 1;
            runs += 1;
        }
    }
    println!("{runs} pairs of {steps} steps");
    assert_eq!(met.len(), FAULTS.len() * FAULTS.len(), "{met:?}");
}

/// The process ends, or the machine with it.
fn end(storage: &Memory, seed: u64, told: &mut Told) {
    if seed.is_multiple_of(2) {
        storage.restart();
    } else {
        storage.crash(seed);
    }
    told.look(storage);
}

/// A test of the tests: a store that says durable and is not must be caught by the checks above.
#[test]
fn a_store_that_acknowledges_before_syncing_is_caught() {
    let caught = (0..20).any(|seed| {
        let storage = Memory::new();
        storage.plant_skip_sync();
        let mut told = Told::default();
        assert!(work(&storage, &mut told));
        storage.crash(seed);
        match Ledger::open(Arc::new(storage.clone()), key(), describe) {
            Ok((ledger, _)) => ledger.reader().leaves() < told.leaves,
            Err(_) => true,
        }
    });
    assert!(caught);
}
