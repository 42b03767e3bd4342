//! Later baselines: they list what lives and take nothing away from what was known, and what was lost is put right by
//! them. Only kernel sensors take them, so this needs root.
#![cfg(feature = "privileged")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use common::{
    event::{Event, Fact, Field, Kind, Process, SensorId, baseline::Phase, process::ProcessCause},
    fold::{End, Run, State},
    ids::{BootId, EventIndex, HostId, WallNanos},
};
use rustix::process::Signal;

use crate::node::{World, check_chain, program, until};

/// Ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn complete_baselines(events: &[Event]) -> usize {
    let is_complete = |event: &&Event| matches!(&event.fact, Fact::Baseline { record, .. } if matches!(record.phase, Phase::Complete { .. }));
    events.iter().filter(is_complete).count()
}

fn records_of(events: &[Event], pid: u32) -> Vec<&Process> {
    let record = |event| match event {
        &Event {
            fact: Fact::Process { ref key, ref record },
            ..
        } if key.tgid == pid => Some(record),
        _ => None,
    };
    events.iter().filter_map(record).collect()
}

/// The state at the end of a chain of one run.
fn fold(host: HostId, events: &[Event]) -> State {
    let mut state = State::new(host);
    state.begin_run(Run {
        first_event: EventIndex(0),
        boot: BootId::default(),
        from: WallNanos(0),
        previous_until: None,
    });
    for (index, event) in (0..).zip(events) {
        state.apply(EventIndex(index), &event.encode().unwrap()).unwrap();
    }
    state
}

/// Pids of the processes that a baseline, not an exit, ended.
fn vanished(state: &State) -> BTreeSet<u32> {
    let pid = |event: &[u8]| match Event::decode(event).unwrap().fact {
        Fact::Process { key, .. } => key.tgid,
        _ => 0,
    };
    state
        .of_kind(Kind::Process)
        .filter(|(_, entry)| matches!(entry.end, Some(End::Vanished { .. })))
        .map(|(_, entry)| pid(&entry.event))
        .collect()
}

#[test]
fn later_baselines_list_what_lives_and_take_nothing_away() {
    let mut world = World::new(&["--set", "batch.seal_ms=100", "--set", "sensors.baseline_s=1"]);
    world.start_collector();
    world.start_agent();
    until("the baseline is proven", || {
        (world.status()?.shipping?.proven_before > 2).then_some(())
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    fs::write(&path, "#!/bin/sh\nsleep 1000 & wait\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let script = Running::start(Command::new(&path).arg("an argument").process_group(0));
    // Several baselines, while processes come and go.
    for _ in 0..400 {
        drop(Running::start(&mut Command::new("true")));
        thread::sleep(Duration::from_millis(10));
    }
    let pid = script.0.id();
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());
    let events = check_chain(world.host, &world.ledger());

    assert!(
        complete_baselines(&events) >= 3,
        "{} baselines",
        complete_baselines(&events)
    );
    let records = records_of(&events, pid);
    let (exec, last) = (
        records
            .iter()
            .find(|record| record.cause == ProcessCause::Exec)
            .unwrap(),
        records.last().unwrap(),
    );
    assert_eq!(last.cause, ProcessCause::Baseline);
    assert!(matches!(&exec.script, Field::Known(_)), "{exec:?}");
    assert_eq!(
        (&last.script, &last.exe, &last.argv, &last.cwd),
        (&exec.script, &exec.exe, &exec.argv, &exec.cwd)
    );
    let keys: BTreeSet<_> = events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Process { key, .. } if key.tgid == pid || key.tgid == 1 => Some((key.tgid, key.started)),
            _ => None,
        })
        .collect();
    assert_eq!(
        keys.len(),
        2,
        "one key for the script, one for the first process: {keys:?}"
    );
    // Nothing was lost, so every end was seen.
    assert_eq!(vanished(&fold(world.host, &events)), BTreeSet::new());
    let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(&script.0), Signal::KILL);
}

#[test]
fn after_losses_a_baseline_puts_the_state_right() {
    let mut world = World::new(&["--set", "batch.seal_ms=100"]);
    world.start_collector();
    world.start_agent();
    until("the baseline is proven", || {
        (world.status()?.shipping?.proven_before > 2).then_some(())
    });
    let sleepers: Vec<Running> = (0..20)
        .map(|_| Running::start(Command::new("sleep").arg("1000")))
        .collect();
    let pids: BTreeSet<u32> = sleepers.iter().map(|sleeper| sleeper.0.id()).collect();
    let lives = |world: &World| {
        let output = Command::new(program("cli", "hostledger"))
            .args([
                "ps",
                "--exe",
                "sleep",
                "--output",
                "json",
                "--collector",
                &world.api(),
            ])
            .output()
            .unwrap();
        let page: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let rows = page["hosts"][0]["verdict"]["value"].as_array()?.clone();
        let pid = |row: &serde_json::Value| row["fact"]["entity"]["key"]["tgid"].as_u64();
        Some(
            rows.iter()
                .filter_map(pid)
                .filter(|pid| pids.iter().any(|ours| u64::from(*ours) == *pid))
                .count(),
        )
    };
    until("the sleepers are in the ledger", || {
        (lives(&world)? == 20).then_some(())
    });
    // The agent stands still while the ring fills up; then the sleepers end unseen.
    world.signal_agent(Signal::STOP);
    let flood = "i=0; while [ $i -lt 30000 ]; do (:); i=$((i+1)); done";
    assert!(Command::new("sh").args(["-c", flood]).status().unwrap().success());
    drop(sleepers);
    world.signal_agent(Signal::CONT);
    until("a baseline has put the state right", || {
        (lives(&world)? == 0).then_some(())
    });
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());

    let events = check_chain(world.host, &world.ledger());
    assert!(complete_baselines(&events) >= 2);
    let lost = |event: &Event| matches!(&event.fact, Fact::Loss { key, .. } if key.sensor == SensorId::EXIT);
    assert!(events.iter().any(lost), "the ring did not overflow");
    let vanished = vanished(&fold(world.host, &events));
    assert!(
        !vanished.is_disjoint(&pids),
        "each sleeper's end was seen: nothing was put right"
    );
    println!(
        "{} of {} unseen ends were put right",
        vanished.intersection(&pids).count(),
        pids.len()
    );
}
