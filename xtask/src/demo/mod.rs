//! `cargo xtask demo`: from real kernel events to proven answers, in one command.
//!
//! Owns the story: what is started, when the instants are taken, what is asked. Refuses to end well when an
//! answer does not hold what the workload knows to be true. Everything made lies in one folder
//! ([`crate::fleet`] says what is where); nothing is left running unless asked.

mod tour;

use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::build::{self, Profile, shown};
use crate::fleet::{self, Fleet, Lifetime};
use crate::paths::Paths;
use crate::setup::{self, Purpose};
use crate::shell::{is_root, output, step};
use crate::workload::Workload;
use tour::Instants;

/// Options of `cargo xtask demo`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder for everything that is made.
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
    /// Leave collector and agent running, and say how to query and how to stop them.
    #[arg(long, conflicts_with = "stop")]
    keep: bool,
    /// Stop what an earlier `--keep` left running.
    #[arg(long)]
    stop: bool,
}

/// How long each state of the host is left standing, so that an instant lies well inside of it.
const STANDING: Duration = Duration::from_millis(1500);

/// The command.
pub(crate) fn command(paths: &Paths, options: &Options) -> Result<()> {
    if options.stop {
        return fleet::stop_kept(&options.dir);
    }
    if !is_root() {
        bail!(
            "the demo loads eBPF programs and makes network namespaces: run it as root (sudo -E cargo xtask demo)"
        );
    }
    let tools = setup::setup(paths, Purpose::Demo)?;
    let object = step("build: eBPF programs", || build::build_ebpf(paths, &tools))?;
    let programs = step("build: agent, collector, command line", || {
        build::build_programs(paths, &object, Profile::Dev)
    })?;
    let lifetime = if options.keep {
        Lifetime::Kept
    } else {
        Lifetime::Ours
    };
    std::fs::create_dir_all(&options.dir)?;
    let folder = options.dir.canonicalize()?;
    let fleet = step(
        &format!("demo: keys, collector and agent under {}", shown(paths, &folder)),
        || Fleet::start(&programs, &folder, lifetime, &[]),
    )?;
    let story = step("demo: a quiet moment, a workload, and quiet again", work)?;
    step("demo: everything seen is in the ledger", || {
        fleet.wait_until_drained()
    })?;
    tour::show(paths, &fleet, &story)?;
    if options.keep {
        tour::how_to_go_on(paths, &fleet, options);
    } else {
        step("demo: stop agent and collector", || fleet.stop())?;
        println!(
            "\neverything made lies in {}; nothing is left running",
            shown(paths, &folder)
        );
    }
    Ok(())
}

/// Runs the workload and notes the instants before, during and after.
fn work() -> Result<tour::Story> {
    sleep(STANDING);
    let before = now()?;
    let workload = Workload::start()?;
    sleep(STANDING);
    let during = now()?;
    let story = |instants| tour::Story {
        instants,
        exchanges: workload.exchanges.clone(),
        processes: workload.processes.clone(),
    };
    let mut story = story(Instants {
        before,
        during,
        after: String::new(),
    });
    workload.stop()?;
    sleep(STANDING);
    story.instants.after = now()?;
    // One more sealed batch, so that the last instant is known to be covered.
    sleep(STANDING);
    Ok(story)
}

/// The present instant in RFC 3339, to the millisecond.
fn now() -> Result<String> {
    let text = output(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]))?;
    Ok(text.trim().to_owned())
}
