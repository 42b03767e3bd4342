//! What the real collector keeps of its statements for the next start, through kills and damage: it neither forgets what
//! it said nor says it again.

use std::{fs, path::PathBuf, time::Instant};

use common::{
    ids::{Hash, HostId},
    watchman::UnverifiedStanding,
};
use rustix::process::Signal;

use crate::process::{Collector, PATIENCE};

const HOSTS: u64 = 1_100;

/// Registers a host, as `enrol` would but for its certificates; the collector states that.
fn register(collector: &Collector, number: u64) {
    let host = HostId(Hash::of(&number.to_be_bytes()).0);
    let text = format!("host = \"{host}\"\nname = \"n-{number}\"\nenrolled_at = \"2026-01-01T00:00:00Z\"\n");
    fs::write(collector.layout.host(&host), text).unwrap();
}

/// Waits until so many leaves are durable, all of them statements here.
fn await_statements(collector: &Collector, count: u64) {
    let begun = Instant::now();
    while collector.metric("hostledger_ledger_leaves") < count {
        assert!(begun.elapsed() < PATIENCE, "{count} statements awaited");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(collector.metric("hostledger_ledger_leaves"), count);
}

/// How many statements the file covers.
fn covered(collector: &Collector) -> Option<u64> {
    let bytes = fs::read(collector.layout.standing()).ok()?;
    let read = UnverifiedStanding::parse(&bytes).unwrap();
    Some(read.danger_unverified().1.count())
}

/// A collector whose diagnostics go to a file.
fn collector() -> (Collector, PathBuf) {
    let mut collector = Collector::start_with(&["--silence-after", "1h"]);
    collector.end(Signal::TERM);
    let said = collector.layout.root().join("said.txt");
    let script = format!("exec \"$@\" 2>>{}", said.display());
    collector.wrapper = ["sh", "-c", &script, "sh"].map(str::to_owned).into();
    (collector, said)
}

#[test]
fn what_was_stated_is_taken_up_from_its_file_through_kills_and_damage_and_never_repeated() {
    let (mut collector, said) = collector();
    (0..HOSTS).for_each(|number| register(&collector, number));
    collector.run();
    await_statements(&collector, HOSTS);
    let begun = Instant::now();
    while covered(&collector).is_none() {
        assert!(begun.elapsed() < PATIENCE, "it is not kept");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // What the thread had not come to is read from the ledger.
    collector.end(Signal::KILL);
    let said_of = |text: &str| fs::read_to_string(&said).unwrap().matches(text).count();
    for again in 0..2 {
        collector.run();
        // One more host is stated, and none of the others again.
        register(&collector, HOSTS + again);
        await_statements(&collector, HOSTS + again + 1);
        collector.end(Signal::KILL);
    }
    let thrown = "is thrown away and read again from the ledger";
    assert_eq!(said_of(thrown), 0);

    let path = collector.layout.standing();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, &bytes).unwrap();
    collector.run();
    register(&collector, HOSTS + 2);
    await_statements(&collector, HOSTS + 3);
    assert_eq!(said_of(thrown), 1);
    collector.end(Signal::TERM);
    // It was written anew, so nothing is said any more.
    collector.run();
    register(&collector, HOSTS + 3);
    await_statements(&collector, HOSTS + 4);
    assert_eq!(said_of(thrown), 1);
    assert!(covered(&collector).is_some_and(|count| count >= HOSTS));
    collector.end(Signal::TERM);
    let (code, report) = collector.verify();
    assert_eq!(code, Some(0), "{report}");
}
