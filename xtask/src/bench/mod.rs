//! `cargo xtask bench`: measures, and writes docs/bench/REPORT.md with the machine it ran on.
//!
//! Owns the plan of the measurements. Every figure stands beside one of the same run: plain SHA-256,
//! or auditd recording the same calls. A benchmark is no test: nothing here passes or fails.

mod auditd;
mod cpu;
mod ingest;
mod load;
mod report;
mod sealing;
mod watch;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::build::{self, Profile};
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
}

/// Fixed rates, a second.
const RATES: [u32; 2] = [50, 300];
/// Repetitions at the machine's maximum.
const FULL_SPEED_COUNT: u32 = 8_000;
/// How long an idle watcher is watched, and how long a busy one may catch up.
const SETTLE: Duration = Duration::from_secs(3);

/// The command.
pub(crate) fn command(paths: &Paths, options: &Options) -> Result<()> {
    if !is_root() {
        bail!("the bench loads eBPF programs and runs auditd: run it as root");
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
    step("bench: the price of a batch", || {
        sealing::measure(&programs, &folder, options.seconds, &mut report)
    })?;
    let file = paths.root.join(&options.report);
    std::fs::write(&file, report.text())?;
    println!("report written to {}", options.report);
    Ok(())
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
    sleep(SETTLE);
    let after = watcher.cost()?;
    Ok(after.total().saturating_sub(before.total()).as_secs_f64() / SETTLE.as_secs_f64())
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
