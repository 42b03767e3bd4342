//! `hold`: legal holds, set, listed and lifted on a stopped collector.

use std::process::ExitCode;

use anyhow::Context;
use common::{
    answer::Moment,
    ids::{HostId, StatementNumber, WallNanos},
    statement::Hold,
    text::Text,
};
use serde_json::json;

use super::{Dir, Outcome, now, open_retention, print};

/// Arguments of `hold`.
#[derive(clap::Args)]
pub(super) struct HoldCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Keep bodies from now on, whatever retention says; recorded as a statement of the ledger.
    Add {
        #[command(flatten)]
        dir: Dir,
        /// Of this host only.
        #[arg(long, value_name = "HOST_ID")]
        host: Option<HostId>,
        /// Batches that watched anything from this instant on (RFC 3339).
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        since: Option<WallNanos>,
        /// And up to this one.
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        until: Option<WallNanos>,
        /// Why; stands in the ledger.
        #[arg(long)]
        reason: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The holds in force.
    List {
        #[command(flatten)]
        dir: Dir,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a hold; recorded as a statement of the ledger.
    Lift {
        #[command(flatten)]
        dir: Dir,
        /// Number of the statement that set it, as `hold list` shows it.
        number: u64,
        /// Why; stands in the ledger.
        #[arg(long)]
        reason: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// An instant in RFC 3339.
pub(super) fn instant(text: &str) -> Result<WallNanos, String> {
    text.parse::<Moment>()
        .map(|moment| moment.0)
        .map_err(|bad| bad.to_string())
}

impl HoldCommand {
    pub(super) fn run(self) -> Outcome {
        match self.what {
            What::Add {
                dir,
                host,
                since,
                until,
                reason,
                json,
            } => {
                let hold = Hold {
                    host,
                    from: since.unwrap_or_default(),
                    until: until.unwrap_or(WallNanos(u64::MAX)),
                    reason: Text(reason.into_bytes()),
                };
                let number = open_retention(&dir)?.add_hold(hold.clone(), now())?;
                let value = json!({"statement": number, "hold": hold});
                print(json, &value, || format!("statement {number}: {hold}"))?;
            }
            What::List { dir, json } => {
                let holds = open_retention(&dir)?.holds()?;
                let rows: Vec<_> = holds.in_force().iter().collect();
                let value = json!(
                    rows.iter()
                        .map(|(number, hold)| json!({"statement": number, "hold": hold}))
                        .collect::<Vec<_>>()
                );
                print(json, &value, || match rows.is_empty() {
                    true => "no legal hold is in force".to_owned(),
                    false => rows
                        .iter()
                        .map(|(number, hold)| format!("statement {number}: {hold}"))
                        .collect::<Vec<_>>()
                        .join("\n"),
                })?;
            }
            What::Lift {
                dir,
                number,
                reason,
                json,
            } => {
                let hold = StatementNumber(number);
                let lifted = open_retention(&dir)?
                    .lift_hold(hold, Text(reason.into_bytes()), now())
                    .context("hold not lifted")?;
                let value = json!({"statement": lifted, "lifted": hold});
                print(json, &value, || {
                    format!("statement {lifted} lifts the hold of statement {hold}")
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
