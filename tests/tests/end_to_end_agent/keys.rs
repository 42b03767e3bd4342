//! The ledger's key replaced and revoked under a real agent: it follows by itself, running or restarted, enrolled
//! with a history or before there were any.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use common::{
    ids::hex,
    ledger_keys::{LedgerKeys, LedgerTrust},
    note::VerifierKey,
};
use rustix::process::Signal;

use crate::node::{World, check_chain, program, until};

const SETTINGS: [&str; 6] = [
    "--sensors",
    "procfs",
    "--set",
    "sensors.scan_ms=50",
    "--set",
    "batch.seal_ms=50",
];

pub(crate) fn key(world: &World, words: &[&str]) -> Output {
    Command::new(program("collector", "hostledger-collector"))
        .arg("key")
        .args(words)
        .arg("--dir")
        .arg(world.collector_dir())
        .arg("--offline-key")
        .arg(world.collector_dir().join("pki/offline.key"))
        .output()
        .unwrap()
}

/// The collector stops, its key is changed, and it starts again; the agent runs or not.
pub(crate) fn change(world: &mut World, words: &[&str]) {
    assert!(world.end_collector(Signal::TERM).success());
    let done = key(world, words);
    assert!(done.status.success(), "{done:?}");
    world.start_collector();
}

/// All that the collector's directory says of its keys.
pub(crate) fn keys(world: &World) -> LedgerKeys {
    LedgerKeys::given(&fs::read(world.collector_dir().join("ledger/ledger.keys")).unwrap()).unwrap()
}

fn learnt(world: &World) -> PathBuf {
    world.agent_dir().join("state/ledger.keys")
}

/// Waits until receipts came that the key in force has signed.
pub(crate) fn follows(world: &World, what: &str) {
    let keys = keys(world);
    let after = keys.changes().last().map_or(0, |change| change.after);
    until(what, || {
        let shipping = world.status()?.shipping?;
        assert!(!shipping.halted, "{:?}", shipping.last_fault);
        (shipping.checkpoint_size > after + 1).then_some(())
    });
    let note = fs::read(world.agent_dir().join("state/checkpoint")).unwrap();
    assert!(keys.open_checkpoint(&note).unwrap().size > after);
    let held = fs::read(learnt(world)).or_else(|_| fs::read(world.agent_dir().join("ledger.keys")));
    assert_eq!(LedgerKeys::given(&held.unwrap()).unwrap(), keys, "{what}");
}

#[test]
fn an_agent_follows_new_keys_without_a_restart_and_with_one() {
    let mut world = World::new(&SETTINGS);
    // As one that was enrolled before there were histories: it knows the first key alone.
    fs::remove_file(world.agent_dir().join("ledger.keys")).unwrap();
    world.start_collector();
    world.start_agent();
    follows(&world, "the beginning of the history is learnt");
    let first = fs::read_to_string(world.agent_dir().join("ledger.vkey")).unwrap();
    let first = VerifierKey::parse(first.trim()).unwrap();
    let early = fs::read(world.agent_dir().join("state/checkpoint")).unwrap();
    change(&mut world, &["rotate"]);
    follows(&world, "a running agent follows a rotation");
    // What was signed before, by the first key with the history and by the first key alone.
    assert!(keys(&world).open_checkpoint(&early).is_ok());
    assert!(first.open_checkpoint(&early).is_ok());

    assert!(world.end_agent(Signal::TERM).success());
    change(&mut world, &["rotate"]);
    world.start_agent();
    follows(&world, "a restarted agent follows a rotation it did not see");

    world.end_agent(Signal::KILL);
    world.start_agent();
    let stolen = hex(&keys(&world).in_force().id());
    change(&mut world, &["revoke", "--key", &stolen, "--reason", "stolen"]);
    follows(&world, "a running agent follows a revocation");
    assert!(
        world.agent_log().contains("is revoked after"),
        "{}",
        world.agent_log()
    );

    world.drain();
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());
    assert_eq!(keys(&world).changes().len(), 3);
    check_chain(world.host, &world.ledger());
    println!("evidence: three changes of key, followed by one agent");
}

#[test]
fn an_agent_refuses_a_second_history_and_keeps_both() {
    let mut world = World::new(&SETTINGS);
    world.start_collector();
    world.start_agent();
    follows(&world, "receipts come");
    assert!(world.end_collector(Signal::TERM).success());
    let path = world.collector_dir().join("ledger/ledger.keys");
    let one = fs::read(&path).unwrap();
    // A thief of the first key begins a history of his own.
    fs::remove_file(&path).unwrap();
    fs::remove_file(world.collector_dir().join("pki/offline.key")).unwrap();
    let begun = key(&world, &["init-history"]);
    assert!(begun.status.success(), "{begun:?}");
    assert_ne!(fs::read(&path).unwrap(), one);
    world.start_collector();
    until("the agent refuses", || {
        let halted = world.status()?.shipping?.halted;
        (halted && world.agent_log().contains("two histories were signed")).then_some(())
    });
    let kept: Vec<Vec<u8>> = fs::read_dir(world.agent_dir().join("state/evidence"))
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(kept.contains(&one) && kept.contains(&fs::read(&path).unwrap()));
}
