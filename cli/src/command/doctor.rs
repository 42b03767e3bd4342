//! `doctor`: whether questions can be answered, and what to do where not.

use common::answer::{HostRow, Status};
use serde::Serialize;

use crate::{
    Exit, Failure, World,
    args::{HostArgs, Output},
    client::Client,
};

/// A host that has not been heard of for this long is remarked on, nanoseconds.
const SILENT_NS: u64 = 30_000_000_000;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Fine,
    Warning,
    Failed,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    level: Level,
    what: String,
    remedy: Option<String>,
}

impl Check {
    fn new(level: Level, what: impl Into<String>, remedy: Option<&str>) -> Self {
        Self {
            level,
            what: what.into(),
            remedy: remedy.map(str::to_owned),
        }
    }
}

/// Checks and reports.
pub(crate) fn run(collector: &str, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let client = Client::new(collector)?;
    let checks = match client.get::<Status>("status", &Vec::new()) {
        Err(failure) => vec![Check::new(
            Level::Failed,
            failure.to_string(),
            failure.remedy().as_deref(),
        )],
        Ok(status) => {
            let hosts = super::status::hosts(&client, &HostArgs { host: Vec::new() })?;
            checks(&client, &status, &hosts, world)
        }
    };
    for check in &checks {
        match output {
            Output::Json | Output::Jsonl => {
                serde_json::to_writer(&mut *world.out, check)?;
                writeln!(world.out)?;
            }
            Output::Table | Output::Wide => {
                let level = match check.level {
                    Level::Fine => "fine   ",
                    Level::Warning => "warning",
                    Level::Failed => "FAILED ",
                };
                writeln!(world.out, "{level}  {}", check.what)?;
                if let Some(remedy) = &check.remedy {
                    writeln!(world.out, "         {remedy}")?;
                }
            }
        }
    }
    let failed = checks.iter().any(|check| check.level == Level::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

fn checks(client: &Client, status: &Status, hosts: &[HostRow], world: &World<'_>) -> Vec<Check> {
    let mut checks = vec![Check::new(
        Level::Fine,
        format!(
            "collector at {} answers for ledger {}",
            client.url(),
            status.origin
        ),
        None,
    )];
    checks.push(if status.indexed < status.size {
        let behind = status.size - status.indexed;
        Check::new(
            Level::Warning,
            format!("answers leave out {behind} leaves that are published"),
            Some("ask again in a moment; if it stays, see the collector's log"),
        )
    } else {
        Check::new(
            Level::Fine,
            format!("all {} leaves are taken into account", status.size),
            None,
        )
    });
    if hosts.is_empty() {
        checks.push(Check::new(
            Level::Warning,
            "no host has sent anything yet",
            Some("run `hostledger-agent doctor` on the host; it says what keeps the agent from watching or sending"),
        ));
    }
    let now = u64::try_from(world.now.as_nanosecond()).unwrap_or_default();
    checks.extend(hosts.iter().map(|host| check_host(host, now)));
    checks
}

fn check_host(host: &HostRow, now: u64) -> Check {
    let name = host
        .hostname
        .as_ref()
        .map_or_else(|| "?".to_owned(), ToString::to_string);
    let name = format!("host {name} ({})", host.host.short());
    let silent = now.saturating_sub(host.until.0.0);
    if host.misplaced > 0 {
        return Check::new(
            Level::Failed,
            format!("{name}: {} headers do not continue its chain", host.misplaced),
            Some("run `hostledger verify --ledger DIR`, and see the collector's evidence directory"),
        );
    }
    if host.stopped {
        return Check::new(
            Level::Warning,
            format!("{name}: its agent was stopped; watched until {}", host.until),
            Some("start the agent again"),
        );
    }
    if silent > SILENT_NS {
        return Check::new(
            Level::Warning,
            format!(
                "{name}: nothing for {} s; watched until {}",
                silent / 1_000_000_000,
                host.until
            ),
            Some("run `hostledger-agent doctor` on the host"),
        );
    }
    if host.lost > 0 {
        return Check::new(
            Level::Warning,
            format!(
                "{name}: {} of {} events of this run were lost",
                host.lost, host.happened
            ),
            Some("answers say where; larger ring buffers on the agent help"),
        );
    }
    Check::new(Level::Fine, format!("{name}: watched until {}", host.until), None)
}
