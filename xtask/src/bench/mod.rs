//! `cargo xtask bench`: measures, and writes docs/bench/REPORT.md with the machine it ran on.
//!
//! Owns the plan of the measurements. Every figure stands beside one of the same run: plain SHA-256,
//! or auditd recording the same calls. A benchmark is no test: nothing here passes or fails.

mod auditd;
mod cpu;
mod durable;
mod ingest;
mod load;
mod peers;
mod report;
mod sealing;
mod watch;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::build::{self, Profile, Programs};
use crate::paths::Paths;
use crate::setup::{self, Purpose};
use crate::shell::{is_root, note, seconds, step};
use load::{Kind, Load};
use report::{Report, Row};
use watch::Watcher;

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long each load at a fixed rate lasts, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Where the report goes, from the root of the checkout.
    #[arg(long, default_value = "docs/bench/REPORT.md")]
    report: String,
    /// Only this part; its section replaces the one in the report that there is.
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Leaves durable and under a checkpoint, beside NATS JetStream and PostgreSQL.
    Durable,
    /// What a sealed batch costs the agent.
    Sealing,
    /// Verifying a ledger beside plain SHA-256, on one CPU and on more.
    Verification,
}

/// Fixed rates, a second.
const RATES: [u32; 2] = [50, 300];
/// Repetitions at the machine's maximum.
const FULL_SPEED_COUNT: u32 = 8_000;
/// How long a busy watcher may catch up.
const SETTLE: Duration = Duration::from_secs(3);
/// How long an idle watcher is watched: CPU time comes in ticks of 10 ms, and the share found here is taken off every
/// load's.
const IDLE: Duration = Duration::from_secs(15);

/// The command.
pub(crate) fn command(paths: &Paths, options: &Options) -> Result<()> {
    if !is_root() {
        bail!("the bench loads eBPF programs and runs auditd: run it as root");
    }
    if let Some(part @ (Part::Durable | Part::Verification)) = options.only {
        // Neither agent nor eBPF is needed, which take longest to build.
        setup::setup(paths, Purpose::Bench)?;
        let programs = step("build: collector, optimised", || build::build_collector(paths))?;
        return only(paths, &programs, part, options);
    }
    let tools = setup::setup(paths, Purpose::Bench)?;
    let object = step("build: eBPF programs", || build::build_ebpf(paths, &tools))?;
    let programs = step("build: agent, collector, command line, optimised", || {
        build::build_programs(paths, &object, Profile::Release)
    })?;
    let folder = paths.target.join("bench");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    if let Some(part) = options.only {
        return only(paths, &programs, part, options);
    }
    let file = paths.root.join(&options.report);
    let mut report = Report::new(options.seconds);
    let statistics = cpu::Statistics::on()?;
    step("bench: the load alone", || {
        measure(&Watcher::nobody(), options, &mut report)
    })?;
    let auditd = step("bench: start auditd", || {
        Watcher::auditd(paths, &folder.join("auditd"))
    })?;
    step("bench: the load under auditd", || {
        measure(&auditd, options, &mut report)
    })?;
    drop(auditd);
    let ours = step("bench: start collector and agent", || {
        Watcher::ours(&programs, &folder.join("ours"))
    })?;
    step("bench: the load under hostledger", || {
        measure(&ours, options, &mut report)
    })?;
    drop(statistics);
    let Watcher::Ours(fleet) = ours else {
        bail!("the watcher changed its kind")
    };
    step("bench: a backlog taken in, verification, storage", || {
        ingest::measure(paths, fleet, &mut report)
    })?;
    for part in [Part::Sealing, Part::Durable] {
        // What was measured stays if a later part fails.
        std::fs::write(&file, report.text())?;
        one_part(paths, &programs, part, options, &mut report)?;
    }
    std::fs::write(&file, report.text())?;
    println!("report written to {}", options.report);
    Ok(())
}

/// One part by itself: its sections take their place in the report that there is.
fn only(paths: &Paths, programs: &Programs, part: Part, options: &Options) -> Result<()> {
    let file = paths.root.join(&options.report);
    let mut report = Report::new(options.seconds);
    one_part(paths, programs, part, options, &mut report)?;
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, report.replaced_in(&text))?;
    println!("sections written to {}", options.report);
    Ok(())
}

fn one_part(
    paths: &Paths,
    programs: &Programs,
    part: Part,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let folder = paths.target.join("bench");
    match part {
        Part::Sealing => step("bench: the price of a batch", || {
            sealing::measure(programs, &folder, options.seconds, report)
        }),
        Part::Durable => step("bench: durable, beside NATS JetStream and PostgreSQL", || {
            let collector = programs.directory.join("hostledger-collector");
            durable::measure(paths, &collector, &folder.join("durable"), report)
        }),
        Part::Verification => step("bench: verification", || {
            ingest::verify(paths, &folder.join("verification"), report)
        }),
    }
}

/// Applies every load under one watcher.
fn measure(watcher: &Watcher, options: &Options, report: &mut Report) -> Result<()> {
    let idle = idle(watcher)?;
    for kind in [Kind::Process, Kind::Connection] {
        for rate in RATES.map(Some).into_iter().chain([None]) {
            let count = rate.map_or(FULL_SPEED_COUNT, |rate| rate * options.seconds);
            let row = one(watcher, Load { kind, rate, count }, idle)?;
            note(&row.line());
            report.rows.push(row);
        }
    }
    report.memory.extend(watcher.memory()?);
    report.recorded.extend(watcher.recorded()?);
    Ok(())
}

/// What a watcher costs while nothing is asked of it, as a share of one CPU.
fn idle(watcher: &Watcher) -> Result<f64> {
    sleep(SETTLE);
    let before = watcher.cost()?;
    sleep(IDLE);
    let after = watcher.cost()?;
    Ok(after.total().saturating_sub(before.total()).as_secs_f64() / IDLE.as_secs_f64())
}

/// One load, once: the watcher's cost until it has caught up, and the load's own.
fn one(watcher: &Watcher, load: Load, idle: f64) -> Result<Row> {
    let (watcher_before, own_before) = (watcher.cost()?, cpu::of_us_and_children()?);
    let (lost_before, forks_before) = (watcher.lost()?, cpu::forks()?);
    let taken = load.apply()?;
    let own = cpu::of_us_and_children()?.saturating_sub(own_before);
    sleep(SETTLE);
    let cost = watcher.cost()?.since(&watcher_before);
    let own_forks = if load.kind == Kind::Process {
        u64::from(load.count)
    } else {
        0
    };
    let row = Row {
        watcher: watcher.name(),
        load,
        taken,
        own,
        cost,
        idle: Duration::from_secs_f64(idle * (taken + SETTLE).as_secs_f64()),
        lost: watcher.lost()?.saturating_sub(lost_before),
        other_forks: cpu::forks()?
            .saturating_sub(forks_before)
            .saturating_sub(own_forks),
    };
    if load
        .rate
        .is_some_and(|rate| taken.as_secs_f64() > 1.1 * f64::from(load.count) / f64::from(rate))
    {
        note(&format!(
            "the machine did not keep up this rate: it took {}",
            seconds(taken)
        ));
    }
    Ok(row)
}
