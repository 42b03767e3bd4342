//! What a sealed batch costs the agent, apart from what its events cost.
//!
//! Owns the scenario: the same slow load under agents that seal at different ages. Each makes another number of
//! batches of the same events, so the slope between the first and the last is the price of one batch (its
//! flushes, signature, round trip and receipt), and what is left is the price of the events.

use std::fmt::Write;
use std::path::Path;
use std::thread::sleep;

use anyhow::{Context, Result};

use super::load::{Kind, Load};
use super::report::Report;
use super::{IDLE, RATES, SETTLE, cpu};
use crate::build::Programs;
use crate::fleet::{Fleet, Lifetime};
use crate::shell::note;

/// Ages at which a batch is sealed, ms; the default is the middle one.
const SEAL_MS: [&str; 3] = ["100", "500", "2000"];

/// What one agent did with the load.
struct Sample {
    seal_ms: &'static str,
    batches: f64,
    /// CPU of the agent without what it takes when idle, seconds.
    agent: f64,
}

/// Measures and adds the report's section.
pub(super) fn measure(programs: &Programs, folder: &Path, seconds: u32, report: &mut Report) -> Result<()> {
    let load = Load {
        kind: Kind::Process,
        rate: Some(RATES[0]),
        count: RATES[0] * seconds,
    };
    let mut samples = Vec::new();
    for seal_ms in SEAL_MS {
        let settings = [("HOSTLEDGER_AGENT_BATCH_SEAL_MS", seal_ms)];
        let folder = folder.join(format!("seal-{seal_ms}"));
        let fleet = Fleet::start(programs, &folder, Lifetime::Ours, &settings)?;
        let sample = one(&fleet, seal_ms, load)?;
        fleet.stop()?;
        note(&format!(
            "sealing at {seal_ms} ms: {} batches, {:.0} ms of CPU",
            sample.batches,
            sample.agent * 1e3
        ));
        samples.push(sample);
    }
    report
        .sections
        .push(("The price of a batch".to_owned(), text(&samples, load)?));
    Ok(())
}

fn one(fleet: &Fleet, seal_ms: &'static str, load: Load) -> Result<Sample> {
    let batches = |fleet: &Fleet| -> Result<f64> {
        fleet.agent_status()?["chain"]["batches"]
            .as_f64()
            .context("the agent's status has no batches")
    };
    sleep(SETTLE);
    let before = cpu::of_process(fleet.agent())?;
    sleep(IDLE);
    let idle = cpu::of_process(fleet.agent())?
        .saturating_sub(before)
        .as_secs_f64()
        / IDLE.as_secs_f64();
    let (cpu_before, batches_before) = (cpu::of_process(fleet.agent())?, batches(fleet)?);
    let taken = load.apply()?;
    sleep(SETTLE);
    let cpu = cpu::of_process(fleet.agent())?.saturating_sub(cpu_before);
    Ok(Sample {
        seal_ms,
        batches: batches(fleet)? - batches_before,
        agent: (cpu.as_secs_f64() - idle * (taken + SETTLE).as_secs_f64()).max(0.0),
    })
}

fn text(samples: &[Sample], load: Load) -> Result<String> {
    let (first, last) = samples.first().zip(samples.last()).context("no samples")?;
    let each_batch = (first.agent - last.agent) / (first.batches - last.batches);
    let events = (last.agent - each_batch * last.batches) / f64::from(load.count);
    let mut text = format!(
        "{} short processes at {} a second under agents that seal at different ages. Each seals the same events into \
         another number of batches.\n\n| `batch.seal_ms` | batches | agent ms of CPU | µs for each process |\n\
         | --- | --- | --- | --- |\n",
        load.count, RATES[0]
    );
    for sample in samples {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} |",
            sample.seal_ms,
            sample.batches,
            sample.agent * 1e3,
            sample.agent * 1e6 / f64::from(load.count)
        );
    }
    let _ = write!(
        text,
        "\nBy the slope from the first row to the last, a batch costs {:.0} µs, and a process by itself {:.0} µs.",
        each_batch * 1e6,
        events * 1e6
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_of_a_batch_is_told_from_that_of_its_events() {
        let sample = |seal_ms, batches: f64| Sample {
            seal_ms,
            batches,
            agent: batches * 0.002 + 0.1,
        };
        let load = Load {
            kind: Kind::Process,
            rate: Some(50),
            count: 1000,
        };
        let text = text(&[sample("100", 200.0), sample("2000", 10.0)], load).unwrap();
        assert!(
            text.contains("a batch costs 2000 µs, and a process by itself 100 µs"),
            "{text}"
        );
    }
}
