//! Every automation of the project, one command each.
//!
//! Owns the command line only: each command's work is in the module of its name.

mod bench;
mod bless;
mod build;
mod demo;
mod fleet;
mod paths;
mod setup;
mod shell;
mod test;
mod tidy;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use paths::Paths;

/// Automation of the hostledger project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing (idempotent), or say what to install where that cannot be done.
    Setup(setup::Options),
    /// Run every test and check, and count them by kind.
    Test(test::Options),
    /// Show it: real kernel events, a workload, answers about the past, a proof.
    Demo(demo::Options),
    /// Measure, beside auditd and plain SHA-256, and write the report.
    Bench(bench::Options),
    /// Run the demo's workload alone, or one of its roles.
    Workload(workload::Options),
    /// Accept the present bytes as golden ones.
    Bless,
    /// Check the rules of the house.
    Tidy,
}

fn main() -> ExitCode {
    match perform(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes in one line each; a stack trace would say nothing to the person at fault.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: Arguments) -> Result<()> {
    let paths = Paths::find()?;
    match arguments.command {
        Task::Setup(options) => setup::command(&paths, &options),
        Task::Test(options) => test::command(&paths, &options),
        Task::Demo(options) => demo::command(&paths, &options),
        Task::Bench(options) => bench::command(&paths, &options),
        Task::Workload(options) => workload::command(&options),
        Task::Bless => bless::command(&paths),
        Task::Tidy => tidy::command(&paths),
    }
}
