//! `run`: serve agents and readers until told to stop.

use std::{io::IsTerminal, process::ExitCode};

use tracing_subscriber::EnvFilter;

use super::{Dir, Outcome, settings::Settings};
use crate::{config::Config, service};

/// Arguments of `run`.
#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    dir: Dir,
    /// Which diagnostics go to standard error: error, warn, info, debug, trace, or a filter.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "HOSTLEDGER_COLLECTOR_LOG"
    )]
    log: String,
    #[command(flatten)]
    settings: Settings,
}

impl Run {
    pub(super) fn run(self) -> Outcome {
        let layout = self.dir.layout();
        let config = Config::load(&layout.config(), std::env::vars(), &self.settings.0)?;
        diagnostics(&self.log)?;
        service::run(&layout, config, |at| {
            if let Err(error) = super::say(&format!("listening ingest={} http={}", at.ingest, at.http)) {
                tracing::warn!(%error, "standard output takes nothing; serving all the same");
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Diagnostics that pass `filter` go to standard error.
pub(super) fn diagnostics(filter: &str) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
