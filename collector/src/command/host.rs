//! `host`: what an operator declares of a registered host.

use std::process::ExitCode;

use clap::Subcommand;
use common::ids::HostId;
use serde_json::json;

use super::{Dir, Outcome, now, print, rfc3339};
use crate::registry;

/// Arguments of `host`.
#[derive(clap::Args)]
pub(super) struct Host {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Subcommand)]
enum HostCommand {
    /// Declare that a host has ended: nothing is taken from it any more, and the ledger says so.
    End(End),
}

#[derive(clap::Args)]
struct End {
    #[command(flatten)]
    dir: Dir,
    /// The host's id, 64 hex digits.
    host: HostId,
    /// Why, for whoever reads the ledger.
    #[arg(long, default_value = "")]
    reason: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Host {
    pub(super) fn run(self) -> Outcome {
        let HostCommand::End(end) = self.command;
        let at = rfc3339((now().0 / 1_000_000_000).cast_signed());
        let registration = registry::end(&end.dir.layout(), &end.host, &at, &end.reason)?;
        let value = json!({ "host": registration.host, "name": registration.name, "ended_at": at });
        print(end.json, &value, || {
            format!(
                "Declared at {at} that {} ({:?}) has ended; the collector states it in its ledger as soon as it runs",
                registration.host, registration.name
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
