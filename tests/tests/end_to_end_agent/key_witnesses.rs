//! The ledger's key changed under a real agent that demands witnesses: told beforehand they are never missing, and
//! where they were not told the agent keeps its batches until they are.

use std::{fs, process::Command};

use common::{
    ids::hex,
    note::{SignerKey, VerifierKey},
};
use rustix::process::Signal;

use crate::{
    cosigned::{judged, world},
    keys::{change, follows, keys},
    node::{World, program, until},
    witness::policy,
};

/// A key made beforehand, and the file it is in.
fn make(world: &World) -> (VerifierKey, String) {
    let file = world.path("next.key");
    let made = Command::new(program("collector", "hostledger-collector"))
        .args(["key", "make", "--dir"])
        .arg(world.collector_dir())
        .arg("--out")
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let key = SignerKey::parse(fs::read_to_string(&file).unwrap().trim()).unwrap();
    (key.verifier().clone(), file.to_str().unwrap().to_owned())
}

/// How often the agent met a checkpoint that too few had cosigned.
fn too_few(world: &World) -> u64 {
    let shipping = world.status().unwrap().shipping.unwrap();
    shipping.faults.get("witnesses").copied().unwrap_or(0)
}

#[test]
fn an_agent_that_demands_witnesses_goes_through_changes_of_key() {
    let (mut world, mut witnesses) = world();
    let settings = world.collector_dir().join("collector.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let asked = "witness_policy = \"asked.policy\"\nwitness_quorum_missing = \"open\"\n";
    fs::write(settings, format!("{text}\n{asked}")).unwrap();
    let demand = |world: &World, log: &VerifierKey, listed: String| {
        let text = format!("log {log}\n{listed}");
        fs::write(world.agent_dir().join("witnesses.policy"), text).unwrap();
    };
    let first = keys(&world).first().clone();
    demand(&world, &first, policy(&witnesses));
    world.start_collector();
    world.start_agent();
    world.drain();
    assert!(judged(&world).unwrap().satisfied);

    // Told beforehand: no checkpoint comes that too few have cosigned.
    let (next, file) = make(&world);
    for witness in &mut witnesses {
        witness.follow(&[&first, &next]);
    }
    until("both cosign again", || judged(&world)?.satisfied.then_some(()));
    world.drain();
    let before = too_few(&world);
    change(&mut world, &["rotate", "--new-key", &file]);
    follows(&world, "the key that the witnesses were told of");
    world.drain();
    let seen = judged(&world).unwrap();
    assert!(seen.satisfied && seen.signed.len() == 2, "{seen:?}");
    assert!(seen.checkpoint_size > keys(&world).changes()[0].after);
    assert_eq!(too_few(&world), before, "a witness was missing at the change");

    // Not told: the collector goes on, as configured (open), and the agent trims nothing.
    demand(&world, &next, policy(&witnesses));
    let stolen = hex(&next.id());
    change(&mut world, &["revoke", "--key", &stolen, "--reason", "stolen"]);
    follows(&world, "a key of which no witness knows");
    let waits = |world: &World| {
        until("batches are stored and wait", || {
            let report = world.status()?;
            let shipping = report.shipping.as_ref()?;
            assert!(!shipping.halted, "{:?}", shipping.last_fault);
            let judged = shipping.witnesses.as_ref()?;
            let wait = !judged.satisfied && judged.missing.len() == 2 && report.spool.batches > 5;
            (wait && shipping.stored_before > shipping.proven_before + 5).then_some(())
        });
    };
    waits(&world);
    // Its policy names the ledger by a key that is neither the first nor in force.
    world.end_agent(Signal::TERM);
    let held = world.spooled().len();
    world.start_agent();
    waits(&world);
    assert!(world.spooled().len() >= held, "trimmed without its witnesses");
    let third = keys(&world).in_force().clone();
    for witness in &mut witnesses {
        witness.follow(&[&third]);
    }
    world.drain();
    assert!(judged(&world).unwrap().satisfied);
    println!("evidence: two changes of key; {held} batches waited for witnesses that had not been told");
}
