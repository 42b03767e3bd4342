//! The state at random instants, held against an independent look at `/proc` at those instants.
//!
//! A look takes time, so it is bracketed by two readings of the wall clock. What was there all the time must be
//! in the answers before and after and in the look; what differs must have begun or ended within the bracket.
//! Only kernel sensors see everything, so this needs root.
#![cfg(feature = "privileged")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use common::event::{Event, Fact, process::ProcessState};
use rustix::process::Signal;

use crate::node::{Churn, World, check_chain, program, until};

/// Looks taken.
const LOOKS: usize = 200;
/// Nanoseconds of a clock tick, in which `/proc` tells when a process started.
const TICK_NS: u64 = 10_000_000;
/// A process is listed a little before the fork hook runs and a little after the exit hook ran, nanoseconds.
const EDGE_NS: u64 = 50_000_000;

/// A process as both sides name it: pid and the clock tick of its start.
type Name = (u64, u64);

/// The kernel's mark of a task that has begun to end (`include/linux/sched.h`).
const PF_EXITING: u64 = 0x4;

/// One look at `/proc`.
struct Look {
    before_ns: u64,
    after_ns: u64,
    /// What ran.
    found: BTreeSet<Name>,
    /// What was ending: the exit hook stands somewhere between the mark and the zombie, and a busy machine may
    /// pause a task there for seconds, so both answers are right for these.
    ending: BTreeSet<Name>,
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

fn look() -> Look {
    let before_ns = wall_ns();
    let mut found = BTreeSet::new();
    let mut ending = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if let Some((name, ends)) = entry.file_name().to_str().and_then(task) {
            let _ = if ends {
                ending.insert(name)
            } else {
                found.insert(name)
            };
        }
    }
    Look {
        before_ns,
        after_ns: wall_ns(),
        found,
        ending,
    }
}

/// A process of that pid and whether it is ending; `None` where there is none.
fn task(pid: &str) -> Option<(Name, bool)> {
    let number = pid.parse().ok()?;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = String::from_utf8_lossy(stat.get(end + 2..)?).into_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // proc_pid_stat(5): 3 is the state, 9 the flags, 20 the number of threads, 22 the start.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let marked = matches!(*fields.first()?, "Z" | "X") || field(9)? & PF_EXITING != 0;
    Some(((number, field(22)?), marked && field(20)? <= 1))
}

/// What `hostledger ps --at` prints for an instant; `None` while it cannot tell yet.
fn answer(world: &World, at_ns: u64) -> Option<BTreeSet<Name>> {
    let at = rfc3339(at_ns / 1_000_000_000, at_ns % 1_000_000_000);
    let output = Command::new(program("cli", "hostledger"))
        .args(["ps", "--at", &at, "--output", "json", "--collector", &world.api()])
        .output()
        .unwrap();
    let page: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let verdict = &page["hosts"][0]["verdict"];
    if verdict["is"] != "known" {
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    let names = verdict["value"].as_array()?.iter().map(|row| {
        let key = &row["fact"]["entity"]["key"];
        Some((key["tgid"].as_u64()?, key["started"].as_u64()? / TICK_NS))
    });
    names.collect()
}

/// An instant as RFC 3339 has it.
fn rfc3339(seconds: u64, nanos: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date: Howard Hinnant's algorithm for the civil calendar.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[test]
fn the_state_at_any_instant_is_what_proc_showed_then() {
    let mut world = World::new(&["--set", "batch.seal_ms=100"]);
    world.start_collector();
    world.start_agent();
    until("the baseline is proven", || {
        (world.status()?.shipping?.proven_before > 2).then_some(())
    });
    let churn = Churn::start();
    let looks: Vec<Look> = (0..LOOKS)
        .map(|turn| {
            // Uneven pauses, so that looks do not keep step with seals and churn.
            thread::sleep(Duration::from_millis(7 + (turn as u64 * 7919) % 60));
            look()
        })
        .collect();
    drop(churn);
    let last = looks.last().unwrap().after_ns + EDGE_NS;
    until("the collector covers the last look", || answer(&world, last));

    let answers: Vec<[BTreeSet<Name>; 2]> = looks
        .iter()
        .map(|look| [look.before_ns, look.after_ns].map(|at| answer(&world, at).unwrap()))
        .collect();
    assert!(world.end_agent(Signal::TERM).success());
    assert!(world.end_collector(Signal::TERM).success());
    let lives = lives(&check_chain(world.host, &world.ledger()));

    let mut differences = 0;
    for (turn, (look, [start, end])) in looks.iter().zip(&answers).enumerate() {
        for name in look
            .found
            .iter()
            .filter(|name| !start.contains(name) || !end.contains(name))
        {
            let life = lives.get(name);
            assert!(
                life.is_some_and(|(begun, ended)| {
                    *begun <= look.after_ns + EDGE_NS && *ended >= look.before_ns - EDGE_NS
                }),
                "look {turn} ({} to {}): /proc showed {name:?}, whose life in the ledger is {life:?}",
                look.before_ns,
                look.after_ns
            );
        }
        for name in start.intersection(end) {
            let (begun, ended) = lives[name];
            let whole = begun <= look.before_ns - EDGE_NS && ended >= look.after_ns + EDGE_NS;
            assert!(
                !whole || look.found.contains(name) || look.ending.contains(name),
                "look {turn}: the ledger says that {name:?} lived from before the look till after it, /proc showed none"
            );
        }
        differences += start.symmetric_difference(&look.found).count();
    }
    println!("{LOOKS} looks, {differences} differences, each begun or ended within its look or at its edge");
}

/// First and last instant of each process, by the events themselves.
fn lives(events: &[Event]) -> BTreeMap<Name, (u64, u64)> {
    let mut lives = BTreeMap::new();
    for event in events {
        if let Fact::Process { key, record } = &event.fact {
            let name = (u64::from(key.tgid), key.started.0 / TICK_NS);
            let life = lives.entry(name).or_insert((event.wall_ns.0, u64::MAX));
            life.0 = life.0.min(event.wall_ns.0);
            if record.state != ProcessState::Running {
                life.1 = event.wall_ns.0;
            }
        }
    }
    lives
}
