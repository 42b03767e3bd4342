//! Taking in a backlog, verifying a ledger, storing events: each beside plain SHA-256 over the same
//! bytes.
//!
//! Owns the scenario: the collector is stopped, the agent goes on and keeps its batches; the collector
//! comes back, and its CPU time is read until everything is proven to be in the ledger.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cpu;
use super::load::{Kind, Load};
use super::report::{Report, load_average};
use crate::fleet::Fleet;
use crate::paths::Paths;
use crate::shell::{cargo, note, output};

/// Connections that make the backlog: some five events each, so that CPU time is counted in seconds and the
/// collector's own start does not show.
const BACKLOG_CONNECTIONS: u32 = 150_000;

/// Events of the ledger that is made to be verified when there is none.
const VERIFIED_EVENTS: &str = "800000";

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

    let speed = speed(paths, &[&ledger.to_string_lossy()])?;
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
    verification(paths, &ledger, report)?;
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

/// Makes a ledger and measures how verifying it goes, for when no fleet has left one.
pub(super) fn verify(paths: &Paths, folder: &Path, report: &mut Report) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let ledger = folder.join("ledger");
    speed(paths, &["make", &ledger.to_string_lossy(), VERIFIED_EVENTS])?;
    verification(paths, &ledger, report)?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// How verifying goes beside plain SHA-256 over the same bytes, on one CPU and on more.
fn verification(paths: &Paths, ledger: &Path, report: &mut Report) -> Result<()> {
    let before = load_average();
    let measured = speed(paths, &["cores", &ledger.to_string_lossy()])?;
    let value = |name: &str| {
        let found = measured.get(name).copied();
        found.with_context(|| format!("the measurement has no {name}"))
    };
    let bytes = value("event_bytes")?;
    let mut rows = String::new();
    let mut count = 1;
    while let (Ok(plain), Ok(verify)) = (
        value(&format!("sha256_on_{count}_ns")),
        value(&format!("verify_on_{count}_ns")),
    ) {
        let (plain_alone, verify_alone) = (value("sha256_on_1_ns")?, value("verify_on_1_ns")?);
        note(&format!(
            "verification on {count} CPUs: {:.2} of plain SHA-256 on as many",
            plain / verify
        ));
        rows.push_str(&format!(
            "| {count} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} |\n",
            bytes / plain * 1e3,
            bytes / verify * 1e3,
            plain / verify,
            plain_alone / plain,
            verify_alone / verify,
        ));
        count *= 2;
    }
    report.sections.push((
        "Verification".to_owned(),
        format!(
            "A ledger of {} batches with {bytes} bytes of events. Signatures, roots, every event, tiles and checkpoint \
             are checked. Each thread is held to one CPU; medians of turns. Load average before: {before}.\n\n\
             | CPUs | plain SHA-256, MB/s | verification, MB/s | against plain SHA-256 on as many (goal: at least 0.8) \
             | plain SHA-256 gains from them | verification gains (goal: near as much) |\n\
             | --- | --- | --- | --- | --- | --- |\n{rows}",
            value("batches")?,
        ),
    ));
    Ok(())
}

fn number(status: &Value, name: &str) -> Result<f64> {
    status["chain"][name]
        .as_f64()
        .with_context(|| format!("the agent's status has no {name}"))
}

/// Runs the bench target with these arguments and reads its `name value` lines.
fn speed(paths: &Paths, words: &[&str]) -> Result<BTreeMap<String, f64>> {
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args(["bench", "--quiet", "--locked", "-p", "tests", "--bench", "speed"]);
    let text = output(command.arg("--").args(words))?;
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
