//! Leaves durable and under a checkpoint, beside NATS JetStream and PostgreSQL storing the same bytes.
//!
//! Owns the turns: each round lets every contestant carry the same load once, at each number under way, and the
//! medians over rounds are reported. The number under way is the same for all, for the wait follows from it. Our
//! collector is the real program, with its settings as installed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::ingest::parse;
use super::peers::{Figures, Nats, Postgres, bound_to_us};
use super::report::{Report, load_average};
use crate::paths::Paths;
use crate::shell::{cargo, clean, note, output};

/// Leaves that are under way at a time.
const UNDER_WAY: [usize; 2] = [64, 512];
/// Times that each contestant takes its turn; odd, for the median.
const ROUNDS: usize = 3;
/// How long a turn lasts, seconds.
const SECONDS: u32 = 4;

/// Who is measured: until durable, until under a checkpoint, and the peers until they answer.
const OURS: &str = "hostledger, under a checkpoint";
const OURS_STORED: &str = "of it until durable";
const NATS: &str = "NATS JetStream";
const POSTGRES: &str = "PostgreSQL";

/// Every turn's figures, by the number under way and by contestant.
type Turns = BTreeMap<usize, BTreeMap<&'static str, Vec<Figures>>>;

/// Measures and adds the report's section. `collector` is the program.
pub(super) fn measure(paths: &Paths, collector: &Path, folder: &Path, report: &mut Report) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let payload = output(&mut bench_command(paths, &["payload"]))?;
    let payload = payload.trim();
    let before = load_average();
    let most = UNDER_WAY.into_iter().max().unwrap_or_default();
    let postgres = Postgres::start(&folder.join("postgres"), most)?;
    let mut turns = Turns::new();
    for round in 1..=ROUNDS {
        for under_way in UNDER_WAY {
            let folder = folder.join(format!("{round}-{under_way}"));
            let mut took = |who: &'static str, figures: Figures| {
                note(&format!(
                    "round {round}, {under_way} under way: {who}: {:.0} a second, p50 {:.1} ms, p99 {:.1} ms",
                    figures.each_second, figures.p50_ms, figures.p99_ms
                ));
                let turns = turns.entry(under_way).or_default();
                turns.entry(who).or_default().push(figures);
            };
            let (stored, receipt) = ours(paths, collector, &folder.join("ours"), under_way)?;
            took(OURS, receipt);
            took(OURS_STORED, stored);
            took(NATS, nats(paths, &folder.join("nats"), under_way)?);
            took(POSTGRES, postgres.measure(payload, under_way, SECONDS)?);
        }
    }
    drop(postgres);
    // Not after each turn: a file system may look long for inodes that were not freed just now, and whoever makes
    // files next would be charged with it.
    fs::remove_dir_all(folder)?;
    let text = text(&turns, payload.len() / 2, &before);
    report
        .sections
        .push(("Durable and under a checkpoint".to_owned(), text));
    Ok(())
}

fn text(turns: &Turns, payload_bytes: usize, load_before: &str) -> String {
    let mut text = format!(
        "Batches of {payload_bytes} bytes (header and body) from 64 hosts over QUIC; the same bytes from 64 \
         publishers; and one insert a transaction, with the bytes in the statement, from as many clients as are under \
         way. All have the same number under way: another is sent when one is answered, by a receipt in our case. \
         Nobody answers before the flush: JetStream with `sync_interval: always`, PostgreSQL as installed. Turns of \
         {SECONDS} s, {ROUNDS} each, one contestant after the other; medians. Clients and servers share the machine. \
         Load average before: {load_before}, which is what others did.\n\n\
         | under way | | a second | ours against it | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for (under_way, contestants) in turns {
        let ours = contestants
            .get(OURS)
            .map_or(f64::NAN, |turns| median(turns).each_second);
        for who in [OURS, OURS_STORED, NATS, POSTGRES] {
            let figures = contestants.get(who).map(|turns| median(turns));
            let Some(figures) = figures else { continue };
            let _ = writeln!(
                text,
                "| {under_way} | {who} | {:.0} | {:.2} | {:.1} | {:.1} |",
                figures.each_second,
                ours / figures.each_second,
                figures.p50_ms,
                figures.p99_ms
            );
        }
    }
    text.push_str("\nGoal: ahead of both, ratios above 1.");
    text
}

/// Each figure's median by itself.
fn median(turns: &[Figures]) -> Figures {
    let of = |part: fn(&Figures) -> f64| {
        let mut sorted: Vec<f64> = turns.iter().map(part).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Figures {
        each_second: of(|turn| turn.each_second),
        p50_ms: of(|turn| turn.p50_ms),
        p99_ms: of(|turn| turn.p99_ms),
    }
}

/// The bench target, which ends with us, as does what it starts.
fn bench_command(paths: &Paths, words: &[&str]) -> Command {
    let mut command = bound_to_us("TERM", &[]);
    clean(&mut command);
    command
        .arg(cargo().get_program())
        .args([
            "--config",
            "target.\"cfg(unix)\".runner = [\"setpriv\", \"--pdeathsig\", \"TERM\", \"--\"]",
        ])
        .args([
            "bench", "--quiet", "--locked", "-p", "tests", "--bench", "durable",
        ])
        .arg("--")
        .args(words)
        .current_dir(&paths.root);
    command
}

fn ours(paths: &Paths, collector: &Path, folder: &Path, under_way: usize) -> Result<(Figures, Figures)> {
    let (collector, folder) = (collector.to_string_lossy(), folder.to_string_lossy());
    let (under_way, seconds) = (under_way.to_string(), SECONDS.to_string());
    let words = ["ours", &collector, &folder, &under_way, &seconds];
    let values = parse(&output(&mut bench_command(paths, &words))?);
    Ok((figures(&values, "stored")?, figures(&values, "receipt")?))
}

fn nats(paths: &Paths, folder: &Path, under_way: usize) -> Result<Figures> {
    let nats = Nats::start(paths, folder)?;
    let (under_way, seconds) = (under_way.to_string(), SECONDS.to_string());
    let words = ["nats", &nats.address(), &under_way, &seconds];
    let values = parse(&output(&mut bench_command(paths, &words))?);
    figures(&values, "nats")
}

fn figures(values: &BTreeMap<String, f64>, name: &str) -> Result<Figures> {
    let value = |what: &str| {
        let key = format!("{name}_{what}");
        values
            .get(&key)
            .copied()
            .with_context(|| format!("the measurement has no {key}"))
    };
    Ok(Figures {
        each_second: value("each_second")?,
        p50_ms: value("p50_us")? / 1e3,
        p99_ms: value("p99_us")? / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_a_median_and_beside_ours() {
        let turn = |each_second| Figures {
            each_second,
            p50_ms: 1e4 / each_second,
            p99_ms: 5.0,
        };
        let of = |rates: [f64; 3]| rates.map(turn).to_vec();
        let contestants = BTreeMap::from([
            (OURS, of([900.0, 100.0, 1000.0])),
            (POSTGRES, of([450.0, 9000.0, 1.0])),
        ]);
        let text = text(&Turns::from([(64, contestants)]), 10, "0.1, 0.2, 0.3");
        assert!(
            text.contains("| 64 | PostgreSQL | 450 | 2.00 | 22.2 | 5.0 |"),
            "{text}"
        );
        assert!(text.contains("Load average before: 0.1, 0.2, 0.3"), "{text}");
    }
}
