//! Simulation: the real session machines, journal, spool, sequencer and ledger in virtual time, under a
//! seeded network and disks that crash, tear, fill up and lie, with witnesses that are asked and demanded under some of the
//! seeds, beside a host that misbehaves under the watchman's eyes.
//! After each seed an independent verifier is the judge, and what was stated of hosts is held against what happened. A failing seed is printed; run it alone with `HOSTLEDGER_SEED=<n> cargo test -p tests --test
//! simulation`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a simulation fails by panicking, with the seed in its message"
)]

mod accused;
mod agent;
mod collector;
mod cosigned;
mod disk;
mod intake;
mod oracle;
mod rng;
mod rogue;
mod shipper;
mod watch;
mod witnesses;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use world::{Plant, Run, run};

/// Seeds of the normal run.
const SEEDS: u64 = 2_000;
/// Seeds within which every planted bug must be found.
const PLANTED_SEEDS: u64 = 600;

/// A panic inside the machines is a finding like any other, and names its seed.
fn outcome(seed: u64, plant: Plant) -> Result<Run, String> {
    std::panic::catch_unwind(|| run(seed, plant)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn seeds() -> std::ops::Range<u64> {
    let given = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    match given("HOSTLEDGER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..given("HOSTLEDGER_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn every_promise_holds_under_every_seed() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let totals: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let failures: Mutex<Vec<String>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().unwrap().len() >= 5 {
                        return;
                    }
                    match outcome(seed, Plant::None) {
                        Ok(run) => {
                            let mut totals = totals.lock().unwrap();
                            for (what, count) in run.counts {
                                *totals.entry(what).or_default() += count;
                            }
                            *totals.entry("leaves").or_default() += run.held.leaves;
                            *totals.entry("keys replaced").or_default() += run.held.ratchets;
                            *totals.entry("statements").or_default() += run.held.statements;
                            *totals.entry("events").or_default() += run.held.events;
                            *totals.entry("batches acknowledged").or_default() += run.held.acknowledged;
                            *totals.entry("batches trimmed").or_default() += run.held.trimmed;
                            *totals.entry("checkpoints").or_default() += run.held.checkpoints;
                        }
                        Err(error) => failures.lock().unwrap().push(format!(
                            "seed {seed}: {error}\n  rerun: HOSTLEDGER_SEED={seed} cargo test -p tests --test simulation every_promise"
                        )),
                    }
                }
            });
        }
    });
    let (totals, failures) = (totals.into_inner().unwrap(), failures.into_inner().unwrap());
    println!("simulation: {} seeds", seeds.end - seeds.start);
    for (what, count) in &totals {
        println!("  {count:>9} {what}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if seeds.end - seeds.start >= SEEDS {
        // A simulation in which nothing happens proves nothing.
        for what in [
            "agent power cuts",
            "agent kills",
            "agent without space",
            "collector power cuts",
            "collector ends after ledger fault",
            "no space",
            "stale connections closed",
            "sent again",
            "batches trimmed",
            "silent",
            "back",
            "rollback",
            "equivocation",
            "clock ahead",
            "clock behind",
            "clock set back",
            "stored after it was shown",
            "cosigned by enough",
            "withheld",
            "published though too few cosigned",
        ] {
            assert!(
                totals.get(what).is_some_and(|count| *count > 0),
                "no {what} in any seed"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in seeds().take(40) {
        let first = outcome(seed, Plant::None).expect("seed fails");
        let second = outcome(seed, Plant::None).expect("seed fails");
        assert_eq!(first.trace, second.trace, "seed {seed} differs between two runs");
        assert_eq!(first.held, second.held);
    }
}

/// Finds the planted bug, and for the right reason.
fn must_find(plant: Plant, reasons: &[&str]) {
    for seed in 0..PLANTED_SEEDS {
        if let Err(error) = outcome(seed, plant) {
            assert!(
                reasons.iter().any(|reason| error.contains(reason)),
                "seed {seed} found {plant:?} by something unexpected: {error}"
            );
            println!("{plant:?} found by seed {seed}: {error}");
            return;
        }
    }
    panic!("{plant:?} was not found within {PLANTED_SEEDS} seeds");
}

#[test]
fn acknowledging_before_fsync_is_found() {
    must_find(
        Plant::AckBeforeFsync,
        &[
            "asks for batch",
            "not in the ledger",
            "no prefix",
            "missing",
            "ledger",
        ],
    );
}

#[test]
fn trimming_before_the_receipt_is_found() {
    must_find(
        Plant::TrimBeforeReceipt,
        &["did not prove it", "damaged or missing in the spool"],
    );
}

#[test]
fn trimming_before_the_checkpoint_is_remembered_is_found() {
    must_find(Plant::TrimBeforeRemember, &["did not prove it"]);
}

#[test]
fn publishing_before_the_tiles_are_written_is_found() {
    must_find(Plant::CheckpointBeforeTiles, &["missing under a checkpoint"]);
}

#[test]
fn sending_before_the_spool_is_synced_is_found() {
    must_find(
        Plant::SendBeforeSync,
        &[
            "two contents",
            "rolled back",
            "are damaged",
            "are missing",
            "the spool was lost",
        ],
    );
}

#[test]
fn trimming_without_a_quorum_is_found() {
    must_find(Plant::TrimWithoutQuorum, &["when enough witnesses had cosigned"]);
}

#[test]
fn a_watchman_who_takes_his_own_absence_for_silence_is_found() {
    must_find(
        Plant::WatchmanOfHisOwnAbsence,
        &[
            "the collector did not listen all the while",
            "its batches came all the while",
        ],
    );
}

#[test]
fn a_watchman_who_forgets_what_he_said_is_found() {
    must_find(
        Plant::WatchmanForgets,
        &["is stated", "already", "it was not silent", "nothing came since"],
    );
}
