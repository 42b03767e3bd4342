//! `cargo xtask test`: everything that can be checked on one machine, and how much of it there was.
//!
//! Owns the order of the stages and the closing line. Refuses to pass when a kind of test that
//! should have run ran none, and to leave a stage out without being asked to.

mod kinds;
mod libtest;
mod stages;
mod tally;

use anyhow::{Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::paths::Paths;
use crate::setup::{self, Purpose};
use crate::shell::{is_root, step};
use crate::tidy;
use kinds::Kind;
use tally::Tally;

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only this kind of test (can be given more than once), without the style checks.
    #[arg(long = "kind", value_enum)]
    kinds: Vec<Kind>,
    /// Run only tests whose name contains this.
    #[arg(long)]
    name: Option<String>,
}

/// The command.
pub(crate) fn command(paths: &Paths, options: &Options) -> Result<()> {
    let whole = options.kinds.is_empty() && options.name.is_none();
    let wanted = if options.kinds.is_empty() {
        Kind::ALL.to_vec()
    } else {
        options.kinds.clone()
    };
    if wanted.iter().any(|kind| kind.needs_root()) && !is_root() {
        bail!(
            "kernel, end-to-end and fault tests load eBPF programs and make network namespaces: run this \
             as root, or choose what needs no root: cargo xtask test --kind unit --kind property \
             --kind golden --kind simulation --kind oracle"
        );
    }
    let tools = setup::setup(paths, Purpose::Test)?;
    let mut tally = Tally::default();
    if whole {
        stages::style(paths, &mut tally)?;
    }
    let object = step("build: eBPF programs", || build::build_ebpf(paths, &tools))?;
    let programs = if wanted.iter().any(|kind| kind.needs_programs()) {
        Some(step("build: agent, collector, command line", || {
            build::build_programs(paths, &object, Profile::Dev)
        })?)
    } else {
        None
    };
    let binaries = step("build: tests", || libtest::build(paths, &object))?;
    let selection = libtest::Selection {
        kinds: wanted.clone(),
        name: options.name.clone(),
    };
    let environment = libtest::environment(paths, &object, programs.as_ref());
    for binary in &binaries {
        libtest::run(paths, binary, &selection, &environment, &mut tally)?;
    }
    if whole || wanted.contains(&Kind::Unit) {
        stages::documentation_examples(paths, &object, &mut tally)?;
    }
    if whole {
        stages::dependencies(paths, &mut tally)?;
        stages::fuzz_smoke(paths, &mut tally)?;
    }
    let required = if options.name.is_some() {
        Vec::new()
    } else {
        wanted
    };
    tally.close(&required)
}

/// The style checks as a stage of the run.
fn tidy_stage(paths: &Paths) -> Result<()> {
    tidy::command(paths)
}
