//! The real agent where it demands that witnesses cosigned what it trusts its batches to.

use std::fs;

use agent::ship::WitnessStatus;
use rustix::process::Signal;

use crate::{
    node::{World, until},
    witness::{Witness, policy},
};

const SETTINGS: [&str; 10] = [
    "--sensors",
    "procfs",
    "--set",
    "sensors.scan_ms=50",
    "--set",
    "batch.seal_ms=50",
    "--set",
    "batch.heartbeat_ms=100",
    "--set",
    "witness_policy=witnesses.policy",
];

/// Two witnesses, and a collector that asks them and goes on without them.
pub(crate) fn world() -> (World, Vec<Witness>) {
    let mut world = World::new(&SETTINGS);
    let key = fs::read_to_string(world.agent_dir().join("ledger.vkey")).unwrap();
    let names = ["witness.example/w0", "witness.example/w1"];
    let witnesses: Vec<Witness> = names
        .iter()
        .map(|name| Witness::start(name, key.trim()))
        .collect();
    fs::write(world.collector_dir().join("asked.policy"), policy(&witnesses)).unwrap();
    world.collector_settings = [
        "--witness-policy",
        "asked.policy",
        "--witness-quorum-missing",
        "open",
        "--witness-timeout",
        "10s",
    ]
    .map(str::to_owned)
    .to_vec();
    (world, witnesses)
}

pub(crate) fn judged(world: &World) -> Option<WitnessStatus> {
    world.status()?.shipping?.witnesses
}

/// Waits until only the second witness is missing; returns what is proven then.
fn missing_one(world: &World) -> u64 {
    until("the missing witness is named", || {
        let judged = judged(world)?;
        let alone = judged.missing == ["witness.example/w1"] && judged.signed.len() == 1;
        (!judged.satisfied && alone).then_some(())
    });
    world.status().unwrap().shipping.unwrap().proven_before
}

#[test]
fn without_enough_cosignatures_nothing_leaves_the_spool_and_with_them_everything_does() {
    let (mut world, mut witnesses) = world();
    fs::write(world.agent_dir().join("witnesses.policy"), policy(&witnesses)).unwrap();
    world.start_collector();
    world.start_agent();
    world.drain();
    let seen = judged(&world).unwrap();
    assert!(seen.satisfied && seen.signed.len() == 2, "{seen:?}");
    assert!(seen.signed.iter().all(|one| one.posix_seconds > 1_700_000_000));

    witnesses[1].kill();
    let proven = missing_one(&world);
    until("batches are stored and wait", || {
        let report = world.status()?;
        let stored = report.shipping.as_ref()?.stored_before;
        (stored > proven + 5 && report.spool.batches > 5).then_some(())
    });
    let shipping = world.status().unwrap().shipping.unwrap();
    assert_eq!(shipping.proven_before, proven, "trimmed without its witnesses");
    assert!(shipping.connected && !shipping.halted && shipping.faults["witnesses"] >= 1);
    let said = shipping.last_fault.unwrap();
    assert!(said.contains("missing: witness.example/w1"), "{said}");

    // A restart opens nothing.
    world.end_agent(Signal::TERM);
    let held = world.spooled().len();
    assert!(held > 5, "{held} batches");
    world.start_agent();
    missing_one(&world);
    until("the spool grows on", || {
        (world.spooled().len() > held).then_some(())
    });

    witnesses[1].run();
    world.drain();
    assert!(judged(&world).unwrap().satisfied);
    println!("evidence: {held} batches waited for a witness and left the spool when it was back");
}

#[test]
fn a_policy_that_cannot_be_used_keeps_everything_in_the_spool() {
    let (mut world, witnesses) = world();
    world.start_collector();
    world.start_agent();
    let said = until("the missing policy is named", || {
        let shipping = world.status()?.shipping?;
        (*shipping.faults.get("files")? > 0).then_some(shipping.last_fault?)
    });
    assert!(said.contains("witnesses.policy, the witness policy"), "{said}");
    assert!(!world.status().unwrap().shipping.unwrap().connected);
    fs::write(world.agent_dir().join("witnesses.policy"), policy(&witnesses)).unwrap();
    world.drain();
}
