//! Both ends are killed at random moments under load, over and over: nothing acknowledged is ever missing.

use std::{collections::BTreeMap, thread, time::Duration};

use common::ids::{Hash, Sequence};
use rustix::process::Signal;

use crate::node::{Churn, World, check_chain};

/// Numbers that are the same in every run, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn kill_in_a_loop(settings: &[&str], rounds: u64) {
    let mut world = World::new(settings);
    let mut dice = Dice(42);
    let churn = Churn::start();
    // Every batch ever found whole in the spool after a kill: it was signed, and may have been seen.
    let mut signed: BTreeMap<Sequence, Hash> = BTreeMap::new();
    let mut stored_before = 0;
    world.start_collector();
    world.start_agent();
    for round in 0..rounds {
        thread::sleep(Duration::from_millis(50 + dice.below(500)));
        if let Some(shipping) = world.status().and_then(|report| report.shipping) {
            stored_before = stored_before.max(shipping.stored_before);
        }
        let whom = dice.below(3);
        if whom != 1 {
            world.end_agent(Signal::KILL);
            for (sequence, hash) in world.spooled() {
                let before = signed.insert(sequence, hash);
                assert!(
                    before.is_none_or(|before| before == hash),
                    "round {round}: batch {sequence} was signed twice with different content"
                );
            }
        }
        if whom != 0 {
            world.end_collector(Signal::KILL);
            world.start_collector();
        }
        if whom != 1 {
            world.start_agent();
        }
    }
    world.drain();
    drop(churn);
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());

    let entries = world.ledger();
    let events = check_chain(world.host, &entries);
    assert!(!events.is_empty());
    assert!(
        entries.len() as u64 >= stored_before,
        "{stored_before} batches were acknowledged, {} are in the ledger",
        entries.len()
    );
    assert!(!signed.is_empty());
    for (sequence, hash) in signed {
        let at = usize::try_from(sequence.0).unwrap();
        assert_eq!(
            entries[at].0.hash(),
            hash,
            "batch {sequence} is another one in the ledger"
        );
    }
}

#[test]
fn killing_both_ends_loses_nothing_acknowledged() {
    let settings = [
        "--sensors",
        "procfs",
        "--set",
        "sensors.scan_ms=50",
        "--set",
        "batch.seal_ms=20",
        "--set",
        "batch.heartbeat_ms=100",
    ];
    kill_in_a_loop(&settings, 30);
}

#[cfg(feature = "privileged")]
#[test]
fn killing_both_ends_on_kernel_sensors_loses_nothing_acknowledged() {
    kill_in_a_loop(&["--set", "batch.seal_ms=20"], 4);
}
