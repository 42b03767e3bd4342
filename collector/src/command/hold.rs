//! `hold`: legal holds, set, listed and lifted, whether or not the collector runs.

use std::process::ExitCode;

use anyhow::Context;
use common::{
    ids::{HostId, StatementNumber, WallNanos},
    statement::{Hold, HoldLifted},
    text::Text,
};
use jiff::{Timestamp, civil, tz::TimeZone};

use super::{Dir, Outcome, ask_or_do, print};
use crate::{control::Question, pipeline::Retain, retention};

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

/// An instant in RFC 3339, or a date or date and time in UTC.
pub(super) fn instant(text: &str) -> Result<WallNanos, String> {
    let civil = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    let at = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| Some(civil()?.timestamp()))
        .ok_or("write an instant like 2026-01-02T03:04:05Z, or a date (midnight UTC)")?;
    u64::try_from(at.as_nanosecond())
        .map(WallNanos)
        .map_err(|_| "no host was watched before 1970".to_owned())
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
                let question = Question::AddHold { hold: hold.clone() };
                let told = ask_or_do(&dir, &question, |stopped| {
                    let stated = stopped.pruner().retain(Retain::Hold(hold.clone()))?;
                    Ok(retention::hold_added(stated.number, &hold))
                })?;
                print(json, &told.value, || told.text.clone())?;
            }
            What::List { dir, json } => {
                let told = ask_or_do(&dir, &Question::ListHolds, |stopped| {
                    let holds = stopped.pruner().retain(Retain::Holds)?.holds;
                    Ok(retention::holds_listed(&holds))
                })?;
                print(json, &told.value, || told.text.clone())?;
            }
            What::Lift {
                dir,
                number,
                reason,
                json,
            } => {
                let hold = StatementNumber(number);
                let reason = Text(reason.into_bytes());
                let lifted = HoldLifted { hold, reason };
                let question = Question::LiftHold {
                    lifted: lifted.clone(),
                };
                let told = ask_or_do(&dir, &question, |stopped| {
                    let stated = stopped.pruner().retain(Retain::Lift(lifted));
                    let number = stated.context("hold not lifted")?.number;
                    Ok(retention::hold_lifted(number, hold))
                })?;
                print(json, &told.value, || told.text.clone())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        let second = 1_767_225_600_000_000_000;
        for text in [
            "2026-01-01",
            "2026-01-01T00:00:00Z",
            "2026-01-01T01:00:00.000+01:00",
        ] {
            assert_eq!(instant(text), Ok(WallNanos(second)), "{text}");
        }
        for text in ["", "soon", "2026-13-01", "1969-12-31"] {
            assert!(instant(text).is_err(), "{text}");
        }
    }
}
