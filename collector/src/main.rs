//! The `hostledger-collector` command: parses, runs, exits.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    collector::command::Cli::parse().run()
}
