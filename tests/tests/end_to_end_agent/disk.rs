//! A full disk under the spool: it is stated, nothing sealed is lost, and sealing resumes when there is space.
#![cfg(feature = "privileged")]

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use common::event::{Event, Fact, SensorId, sensor::SensorState};
use rustix::process::Signal;

use crate::node::{Churn, World, check_chain, until};

/// A file system of its own that is small, until dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(mounted.success());
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn spool_states(events: &[Event]) -> Vec<SensorState> {
    events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Sensor { key, record } if *key == SensorId::SPOOL => Some(record.state),
            _ => None,
        })
        .collect()
}

#[test]
fn a_full_disk_is_stated_and_sealing_resumes_when_space_returns() {
    let mut world = World::new(&[
        "--sensors",
        "procfs",
        "--set",
        "sensors.scan_ms=50",
        "--set",
        "batch.seal_ms=50",
    ]);
    let spool = world.agent_dir().join("spool");
    let small = Small::mount(&spool);
    world.start_agent();
    let churn = Churn::start();
    until("batches are sealed", || {
        (world.status()?.chain.batches > 3).then_some(())
    });
    let filler = spool.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let stuck = until("the full disk is stated", || {
        let report = world.status()?;
        report.spool.no_space.then_some(report)
    });
    let signed = world.spooled();
    drop(file);
    fs::remove_file(&filler).unwrap();
    until("sealing resumes", || {
        let report = world.status()?;
        (!report.spool.no_space && report.chain.next_sequence > stuck.chain.next_sequence + 3).then_some(())
    });
    drop(churn);
    world.start_collector();
    world.drain();
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());
    drop(small);

    let entries = world.ledger();
    let states = spool_states(&check_chain(world.host, &entries));
    let full = states.iter().position(|state| *state == SensorState::Degraded);
    assert!(
        full.is_some_and(|at| states[at..].contains(&SensorState::Active)),
        "the chain says when the disk was full and when no more: {states:?}"
    );
    for (sequence, hash) in signed {
        let at = usize::try_from(sequence.0).unwrap();
        assert_eq!(
            entries[at].0.hash(),
            hash,
            "batch {sequence} was sealed before and is in the ledger"
        );
    }
}
