//! The tour: the questions that the demo asks, their answers as printed, and the check that they are
//! right.
//!
//! Owns what is shown. What the workload knows (who talked to whom, with how many bytes) is looked up in
//! the answers; an answer without it fails the demo.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Options;
use crate::build::shown;
use crate::fleet::Fleet;
use crate::paths::Paths;
use crate::shell::{note, output, step};
use crate::workload::Exchange;

/// Instants in RFC 3339.
#[derive(Debug, Clone)]
pub(super) struct Instants {
    /// Before the workload.
    pub(super) before: String,
    /// While it stood.
    pub(super) during: String,
    /// After it.
    pub(super) after: String,
}

/// What happened, as the workload knows it.
#[derive(Debug, Clone)]
pub(super) struct Story {
    /// When.
    pub(super) instants: Instants,
    /// Who talked to whom.
    pub(super) exchanges: Vec<Exchange>,
    /// Processes and what they were.
    pub(super) processes: Vec<(u32, String)>,
}

/// Asks everything, prints the answers, checks them.
pub(super) fn show(paths: &Paths, fleet: &Fleet, story: &Story) -> Result<()> {
    let Instants {
        before,
        during,
        after,
    } = &story.instants;
    println!("\nWhat is in the ledger?");
    ask(paths, fleet, &["status"])?;
    println!("\nWhich processes of the workload ran before it, while it stood, and after it?");
    for at in [before, during, after] {
        ask(
            paths,
            fleet,
            &["ps", "--at", at, "--exe", "xtask", "--exe", "sleep", "--tree"],
        )?;
    }
    let ports: Vec<String> = story
        .exchanges
        .iter()
        .map(|e| e.server.port().to_string())
        .collect();
    let with_ports = |first: &[&str]| -> Vec<String> {
        let flags = ports.iter().flat_map(|port| ["--port".to_owned(), port.clone()]);
        first.iter().map(|word| (*word).to_owned()).chain(flags).collect()
    };
    println!("\nWho talked to whom, and how much?");
    let flows = with_ports(&["flows", "--since", before, "--until", after]);
    let flows: Vec<&str> = flows.iter().map(String::as_str).collect();
    ask(paths, fleet, &flows)?;
    println!("\nWho was listening then?");
    let listeners = with_ports(&["listeners", "--at", during]);
    ask(
        paths,
        fleet,
        &listeners.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    let rows = rows(fleet, &flows)?;
    let (host, event) = step("demo: the answers hold what the workload knows", || {
        check_processes(fleet, story)?;
        check_flows(story, &rows)
    })?;
    println!("\nCan one of these events be proven to somebody who trusts nobody here?");
    prove(paths, fleet, &format!("{host}:{event}"))?;
    println!("\nIs the whole ledger sound?");
    let ledger = fleet.ledger();
    ask(
        paths,
        fleet,
        &[
            "verify",
            "--ledger",
            &shown(paths, &ledger),
            "--vkey",
            &vkey(paths, fleet),
        ],
    )?;
    println!("\nDoes software that nobody here wrote agree?");
    others(paths, fleet)
}

/// Has Tessera's fsck judge the ledger as it lies on disk; where it is not installed, says how to.
fn others(paths: &Paths, fleet: &Fleet) -> Result<()> {
    let log = fleet.ledger().join("log");
    let (url, key) = (format!("file://{}/", log.display()), vkey(paths, fleet));
    let fsck = paths.tools_bin().join("fsck");
    println!(
        "\n$ fsck --storage_url file://{}/ --public_key {key} --ui=false",
        shown(paths, &log)
    );
    if !fsck.is_file() {
        println!("(not run: `cargo xtask setup` installs it, which needs Go)");
        return Ok(());
    }
    // It may hang on a broken ledger instead of failing.
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(fsck)
        .args(["--storage_url", &url, "--public_key", &key, "--ui=false"]);
    let out = command.current_dir(&paths.root).output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    print!("{said}");
    // Its exit status is 0 whatever it found (tests/oracle/README.md).
    if !out.status.success() || !said.contains("Successfully fsck'd log with size") {
        bail!("Tessera's fsck does not accept the ledger: {}", out.status);
    }
    Ok(())
}

/// Asks one question, shows it as a person would type it, and its answer.
fn ask(paths: &Paths, fleet: &Fleet, arguments: &[&str]) -> Result<()> {
    println!("\n$ hostledger {}", arguments.join(" "));
    let mut command = fleet.program("hostledger");
    command
        .env("HOSTLEDGER_COLLECTOR", fleet.api())
        .current_dir(&paths.root)
        .args(arguments);
    print!("{}", output(&mut command)?);
    Ok(())
}

/// The rows of an answer, each with the host it is of.
fn rows(fleet: &Fleet, arguments: &[&str]) -> Result<Vec<(String, Value)>> {
    let mut command = fleet.program("hostledger");
    command
        .env("HOSTLEDGER_COLLECTOR", fleet.api())
        .args(arguments)
        .args(["-o", "json"]);
    let answer: Value = serde_json::from_str(&output(&mut command)?).context("an answer in JSON")?;
    let mut found = Vec::new();
    for of_host in answer["hosts"].as_array().context("an answer without hosts")? {
        let host = of_host["host"].as_str().unwrap_or_default();
        if of_host["verdict"]["is"] != "known" {
            bail!("the answer for {host} is not known: {}", of_host["verdict"]);
        }
        for row in of_host["verdict"]["value"].as_array().into_iter().flatten() {
            found.push((host.to_owned(), row.clone()));
        }
    }
    Ok(found)
}

/// Each process of the workload is there while it stood, and neither before nor after.
fn check_processes(fleet: &Fleet, story: &Story) -> Result<()> {
    let Instants {
        before,
        during,
        after,
    } = &story.instants;
    for (at, expected) in [(before, false), (during, true), (after, false)] {
        let rows = rows(fleet, &["ps", "--at", at])?;
        for (process, role) in &story.processes {
            let found = rows
                .iter()
                .any(|(_, row)| row["fact"]["entity"]["key"]["tgid"] == *process);
            if found != expected {
                bail!(
                    "process {process} ({role}) is {} at {at}",
                    if found { "there" } else { "missing" }
                );
            }
        }
    }
    note(&format!(
        "{} processes: there while they ran, and only then",
        story.processes.len()
    ));
    Ok(())
}

/// One end of a connection as the workload knows it.
struct End {
    side: &'static str,
    direction: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    sent: u64,
    received: u64,
    owner: u32,
}

/// Each exchange of the workload is there, from both ends, with direction, owner and bytes; returns one
/// event to prove.
fn check_flows(story: &Story, rows: &[(String, Value)]) -> Result<(String, u64)> {
    let mut to_prove = None;
    for exchange in &story.exchanges {
        for end in ends(exchange) {
            let found = rows.iter().find(|(_, row)| {
                let record = record(row);
                address(&record["local"]) == Some(end.local) && address(&record["remote"]) == Some(end.remote)
            });
            let Some((host, row)) = found else {
                bail!("the {}'s end of {exchange} is missing in the answer", end.side);
            };
            let record = record(row);
            let right = record["bytes_sent"]["known"] == end.sent
                && record["bytes_received"]["known"] == end.received
                && record["direction"]["known"] == end.direction
                && record["owner"]["known"]["tgid"] == end.owner;
            if !right {
                bail!(
                    "the {}'s end of {exchange} (process {}) is answered as {record}",
                    end.side,
                    end.owner
                );
            }
            to_prove = row["event"].as_u64().map(|event| (host.clone(), event));
        }
    }
    let count = story.exchanges.len();
    note(&format!(
        "{count} connections, both ends of each: endpoints, direction, owner and bytes are right"
    ));
    to_prove.context("the answer has no event to prove")
}

fn ends(exchange: &Exchange) -> [End; 2] {
    let (client, server) = (exchange.client, exchange.server);
    let (sent, received) = (exchange.sent, exchange.received);
    [
        End {
            side: "client",
            direction: "outgoing",
            local: client,
            remote: server,
            sent,
            received,
            owner: exchange.client_process,
        },
        End {
            side: "server",
            direction: "incoming",
            local: server,
            remote: client,
            sent: received,
            received: sent,
            owner: exchange.server_process,
        },
    ]
}

fn record(row: &Value) -> &Value {
    &row["fact"]["entity"]["record"]
}

fn address(value: &Value) -> Option<SocketAddr> {
    value.as_str()?.parse().ok()
}

/// Fetches the proof of one event and checks it without the collector; a changed copy must fail.
fn prove(paths: &Paths, fleet: &Fleet, event: &str) -> Result<()> {
    let file = fleet.folder.join("one-event.proof");
    let (proof, key) = (shown(paths, &file), vkey(paths, fleet));
    ask(paths, fleet, &["proof", event, "--file", &proof])?;
    // An address where nobody answers: the check needs no collector.
    println!("\n$ HOSTLEDGER_COLLECTOR=http://127.0.0.1:1 hostledger proof check {proof} --vkey {key}");
    let mut check = fleet.program("hostledger");
    check
        .env("HOSTLEDGER_COLLECTOR", "http://127.0.0.1:1")
        .current_dir(&paths.root);
    print!(
        "{}",
        output(check.args(["proof", "check", &proof, "--vkey", &key]))?
    );
    Ok(())
}

/// The file that holds the ledger's verifier key.
fn vkey(paths: &Paths, fleet: &Fleet) -> String {
    shown(paths, &fleet.ledger().join("ledger.vkey"))
}

/// What to do with a demo that was left running.
pub(super) fn how_to_go_on(paths: &Paths, fleet: &Fleet, options: &Options) {
    let folder = shown(paths, &fleet.folder);
    let program = shown(
        paths,
        std::path::Path::new(fleet.program("hostledger").get_program()),
    );
    println!("\nCollector and agent are left running; everything lies in {folder}. Ask on:\n");
    println!("    export HOSTLEDGER_COLLECTOR={}", fleet.api());
    println!("    {program} ps --at '10s ago' --tree");
    println!("    {program} flows --since '5m ago'");
    println!(
        "\nStop them:\n\n    cargo xtask demo --dir {} --stop",
        options.dir.display()
    );
}
