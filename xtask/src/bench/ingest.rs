//! Taking in a backlog, verifying a ledger, storing events: each beside plain SHA-256 over the same
//! bytes.
//!
//! Owns the scenario: the collector is stopped, the agent goes on and keeps its batches; the collector
//! comes back, and its CPU time is read until everything is proven to be in the ledger.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cpu;
use super::load::{Kind, Load};
use super::report::Report;
use crate::fleet::Fleet;
use crate::paths::Paths;
use crate::shell::{cargo, note, output};

/// Connections that make the backlog: some five events each, so that CPU time is counted in seconds and the
/// collector's own start does not show.
const BACKLOG_CONNECTIONS: u32 = 150_000;

/// Measures and adds the report's sections; ends the fleet.
pub(super) fn measure(paths: &Paths, mut fleet: Fleet, report: &mut Report) -> Result<()> {
    fleet.wait_until_drained()?;
    let lag = fleet.agent_status()?;
    fleet.stop_collector()?;
    let before = fleet.agent_status()?;
    Load {
        kind: Kind::Connection,
        rate: None,
        count: BACKLOG_CONNECTIONS,
    }
    .apply()?;
    fleet.start_collector()?;
    fleet.wait_until_drained()?;
    let taken = cpu::of_process(fleet.collector())?;
    let after = fleet.agent_status()?;
    let events = number(&after, "events")? - number(&before, "events")?;
    let batches = number(&after, "batches")? - number(&before, "batches")?;
    let ledger = fleet.ledger();
    fleet.stop()?;

    let speed = speed(paths, &ledger)?;
    let value = |name: &str| {
        speed
            .get(name)
            .copied()
            .with_context(|| format!("the measurement has no {name}"))
    };
    let per_event_sha = value("sha256_cpu_ns")? / value("events")?;
    let per_event_ingest = taken.as_secs_f64() * 1e9 / events;
    let ingest = per_event_ingest / per_event_sha;
    note(&format!(
        "ingest: {ingest:.1} times plain SHA-256 over {events} events"
    ));
    let part = |name: &str| Ok::<f64, anyhow::Error>(value(name)? / value("events")?);
    let (merkle, signature) = (part("merkle_cpu_ns")?, part("signature_cpu_ns")?);
    let (check, store) = (part("check_cpu_ns")?, part("store_cpu_ns")?);
    let row = |name: &str, ns: f64| format!("| {name} | {ns:.0} | {:.1} |\n", ns / per_event_sha);
    report.sections.push((
        "Collector ingest".to_owned(),
        format!(
            "A backlog of {events} events in {batches} batches, taken in after the collector was away: {:.2} s of \
             CPU from its start until everything was proven (TLS, checking, storing, proving, and its own \
             start, included). The parts are measured by themselves over the whole ledger of this run; the rest is \
             what is left of the collector's time.\n\n\
             | | ns CPU for each event | times plain SHA-256 |\n| --- | --- | --- |\n{}{}{}{}{}{}{}\n\
             Goal: at most 3 times.",
            taken.as_secs_f64(),
            row("collector", per_event_ingest),
            row("- of it hashing as RFC 6962 has it", merkle),
            row("- signatures of headers", signature),
            row("- the other checks of a batch", check - merkle - signature),
            row("- storing and publishing", store),
            row(
                "- the rest: QUIC, TLS, receipts, index",
                per_event_ingest - check - store
            ),
            row("plain SHA-256 over the same bytes", per_event_sha),
        ),
    ));
    let (wall, on_cpu) = (
        value("sha256_wall_ns")? / value("verify_wall_ns")?,
        value("sha256_cpu_ns")? / value("verify_cpu_ns")?,
    );
    note(&format!("verification: {wall:.2} of plain SHA-256's throughput"));
    report.sections.push((
        "Verification".to_owned(),
        format!(
            "The whole ledger of this run: {} batches, {} events, {} bytes of events. Signatures, roots, every \
             event, tiles and checkpoint are checked.\n\n\
             | | throughput against plain SHA-256 on one CPU |\n| --- | --- |\n\
             | by the clock (goal: at least 0.8) | {wall:.2} |\n| by CPU time | {on_cpu:.2} |",
            value("batches")?,
            value("events")?,
            value("event_bytes")?,
        ),
    ));
    report.sections.push((
        "Lag".to_owned(),
        format!(
            "From an event's instant in the kernel until its batch was durable, over the loads above, as the \
             agent reports it:\n\n    {}",
            lag["kernel_to_sealed"]
        ),
    ));
    let stored = cpu::folder_bytes(&ledger)? as f64;
    report.sections.push((
        "Storage".to_owned(),
        format!(
            "{:.0} bytes stored for each event in the whole ledger folder; {:.0} bytes is the average event.",
            stored / value("events")?,
            value("event_bytes")? / value("events")?
        ),
    ));
    Ok(())
}

fn number(status: &Value, name: &str) -> Result<f64> {
    status["chain"][name]
        .as_f64()
        .with_context(|| format!("the agent's status has no {name}"))
}

/// Runs the bench target over the ledger and reads its `name value` lines.
fn speed(paths: &Paths, ledger: &std::path::Path) -> Result<BTreeMap<String, f64>> {
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args(["bench", "--quiet", "--locked", "-p", "tests", "--bench", "speed"]);
    let text = output(command.arg("--").arg(ledger))?;
    Ok(parse(&text))
}

pub(super) fn parse(text: &str) -> BTreeMap<String, f64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurement_lines_are_read_and_others_left() {
        let read = parse("events 12\nsha256_cpu_ns 3500\nusage: none\n");
        assert_eq!(read.get("events"), Some(&12.0));
        assert_eq!(read.get("sha256_cpu_ns"), Some(&3500.0));
        assert_eq!(read.len(), 2);
    }
}
