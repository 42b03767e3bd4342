//! An orderly stop: the last batch says so, everything is shipped, and a later start goes on behind it.

use common::event::{Fact, SensorId, baseline::Phase, process::ProcessCause, sensor::SensorState};
use rustix::process::Signal;

use crate::node::{World, check_chain, until};

const SETTINGS: [&str; 6] = [
    "--sensors",
    "procfs",
    "--set",
    "sensors.scan_ms=50",
    "--set",
    "batch.seal_ms=50",
];

#[test]
fn a_stop_seals_the_last_batch_and_ships_it() {
    let mut world = World::new(&SETTINGS);
    world.start_collector();
    for _ in 0..2 {
        world.start_agent();
        until("batches are proven", || {
            (world.status()?.shipping?.proven_before > 0).then_some(())
        });
        assert!(world.end_agent(Signal::TERM).success());
    }
    assert!(world.end_collector(Signal::TERM).success());
    let entries = world.ledger();
    let events = check_chain(world.host, &entries);
    let flags: Vec<_> = entries.iter().map(|(header, _)| header.claimed().flags).collect();
    assert!(flags[0].first_since_start);
    assert!(
        flags.last().unwrap().last_before_stop,
        "the last batch was shipped"
    );
    assert_eq!(flags.iter().filter(|flags| flags.first_since_start).count(), 2);
    assert_eq!(flags.iter().filter(|flags| flags.last_before_stop).count(), 2);

    // Statuses, host and boot come first, then the baseline between its marks.
    assert!(matches!(&events[0].fact, Fact::Sensor { key, .. } if *key == SensorId::AGENT));
    let place = |wanted: &dyn Fn(&Fact) -> bool| events.iter().position(|event| wanted(&event.fact)).unwrap();
    let begun = place(&|fact| matches!(fact, Fact::Baseline { record, .. } if record.phase == Phase::Begun));
    let complete = place(
        &|fact| matches!(fact, Fact::Baseline { record, .. } if matches!(record.phase, Phase::Complete { .. })),
    );
    assert!(place(&|fact| matches!(fact, Fact::Host { .. })) < begun);
    assert!(place(&|fact| matches!(fact, Fact::Boot { .. })) < begun);
    let me = std::process::id();
    let own = place(&|fact| {
        matches!(fact, Fact::Process { key, record }
            if key.tgid == me && record.cause == ProcessCause::Baseline)
    });
    assert!((begun..complete).contains(&own));
    assert!(events.iter().any(|event| matches!(&event.fact,
        Fact::Sensor { key, record } if *key == SensorId::AGENT && record.state == SensorState::Stopped)));
}

#[test]
fn a_second_agent_in_the_same_directory_is_refused() {
    let mut world = World::new(&SETTINGS);
    world.start_agent();
    let second = std::process::Command::new(crate::node::program("agent", "hostledger-agent"))
        .args(["run", "--dir"])
        .arg(world.agent_dir())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent runs"));
    assert!(world.status().is_some(), "the first one goes on");
}

#[test]
fn settings_faults_are_all_told_with_code_78() {
    let dir = tempfile::tempdir().unwrap();
    let refused = std::process::Command::new(crate::node::program("agent", "hostledger-agent"))
        .args(["run", "--set", "batch.seal_ms=x", "--set", "nmae=1", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("batch.seal_ms") && said.contains("nmae"), "{said}");
}
