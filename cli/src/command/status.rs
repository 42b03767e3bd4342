//! `status`: the ledger and its hosts.

use common::answer::{HostRow, Page, Status};
use serde::Serialize;

use super::list::host_params;
use crate::{
    Exit, Failure, World,
    args::{HostArgs, Output},
    client::Client,
    show::table,
};

/// What JSON output holds.
#[derive(Serialize)]
struct Whole {
    ledger: Status,
    hosts: Vec<HostRow>,
}

/// The hosts, page after page.
pub(super) fn hosts(client: &Client, args: &HostArgs) -> Result<Vec<HostRow>, Failure> {
    let params = host_params(args);
    let mut page: Page<HostRow> = client.get("hosts", &params)?;
    let mut hosts = std::mem::take(&mut page.rows);
    while let Some(cursor) = page.next.take() {
        let mut params = params.clone();
        params.push(("cursor", cursor));
        page = client.get("hosts", &params)?;
        hosts.append(&mut page.rows);
    }
    Ok(hosts)
}

/// Asks and shows.
pub(crate) fn run(
    client: &Client,
    args: &HostArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let whole = Whole {
        ledger: client.get("status", &Vec::new())?,
        hosts: hosts(client, args)?,
    };
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *world.out, &whole)?;
            writeln!(world.out)?;
        }
        Output::Jsonl => {
            for host in &whole.hosts {
                serde_json::to_writer(&mut *world.out, host)?;
                writeln!(world.out)?;
            }
        }
        Output::Table | Output::Wide => lines(&whole, output == Output::Wide, world)?,
    }
    Ok(Exit::Fine)
}

fn lines(whole: &Whole, wide: bool, world: &mut World<'_>) -> Result<(), Failure> {
    let ledger = &whole.ledger;
    writeln!(world.out, "ledger    {}", ledger.origin)?;
    writeln!(world.out, "leaves    {}", ledger.size)?;
    writeln!(world.out, "root      {}", ledger.root)?;
    writeln!(world.out, "verifier  {}", ledger.verifier_key)?;
    if let Some(key) = &ledger.key_in_force {
        writeln!(world.out, "in force  {key}")?;
    }
    writeln!(world.out)?;
    let heading = [
        "HOST",
        "NAME",
        "AGENT",
        "WATCHED UNTIL",
        "BATCHES",
        "EVENTS",
        "RUNS",
        "LOST",
        "CLOCK ERROR",
    ];
    let rows: Vec<Vec<String>> = whole
        .hosts
        .iter()
        .map(|host| {
            vec![
                if wide {
                    host.host.to_string()
                } else {
                    host.host.short()
                },
                host.hostname
                    .as_ref()
                    .map_or_else(|| "?".into(), ToString::to_string),
                if host.stopped {
                    "stopped".into()
                } else {
                    "running or broken off".into()
                },
                host.until.to_string(),
                host.batches.to_string(),
                host.events.to_string(),
                host.runs.to_string(),
                format!("{} of {}", host.lost, host.happened),
                match host.clock.error_ns {
                    Some(ns) => format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000),
                    None => "unbounded".into(),
                },
            ]
        })
        .collect();
    table::write(world.out, &heading, &rows)?;
    for host in whole.hosts.iter().filter(|host| host.misplaced > 0) {
        writeln!(
            world.out,
            "# host {}: {} headers in the ledger do not continue its chain",
            host.host.short(),
            host.misplaced
        )?;
    }
    Ok(())
}
