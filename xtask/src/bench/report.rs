//! The report: what was measured, on which machine, by which command.
//!
//! Owns the text. Figures are shown beside what they are compared with; no goal is called met or
//! missed but by the ratio printed next to it.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use super::load::Load;
use super::watch::Cost;

/// One load under one watcher.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Who watched.
    pub(super) watcher: &'static str,
    /// What was done.
    pub(super) load: Load,
    /// How long that took.
    pub(super) taken: Duration,
    /// CPU time of the load itself.
    pub(super) own: Duration,
    /// CPU time of the watcher until it had caught up.
    pub(super) cost: Cost,
    /// What the watcher would have cost in that time with nothing to do.
    pub(super) idle: Duration,
    /// Records the watcher lost.
    pub(super) lost: u64,
    /// Forks by anybody else meanwhile, which the watcher saw too.
    pub(super) other_forks: u64,
}

impl Row {
    /// CPU of the watcher for one repetition, without its idle cost, in microseconds.
    pub(super) fn each(&self) -> f64 {
        micros(self.cost.total().saturating_sub(self.idle), self.load.count)
    }

    /// For the progress output.
    pub(super) fn line(&self) -> String {
        format!(
            "{} at {}: watcher {:.0} µs each, load {:.0} µs each, {} lost, {} other forks",
            self.load.kind.name(),
            rate(&self.load),
            self.each(),
            micros(self.own, self.load.count),
            self.lost,
            self.other_forks,
        )
    }
}

fn micros(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(count)
}

fn rate(load: &Load) -> String {
    load.rate
        .map_or_else(|| "full speed".to_owned(), |rate| format!("{rate}/s"))
}

/// Everything measured so far.
#[derive(Debug)]
pub(super) struct Report {
    seconds: u32,
    /// CPU by load and watcher.
    pub(super) rows: Vec<Row>,
    /// Memory, one line each.
    pub(super) memory: Vec<String>,
    /// What was recorded, one line each.
    pub(super) recorded: Vec<String>,
    /// Further sections: a heading and its text.
    pub(super) sections: Vec<(String, String)>,
}

impl Report {
    /// An empty report of runs of this length.
    pub(super) fn new(seconds: u32) -> Self {
        Self {
            seconds,
            rows: Vec::new(),
            memory: Vec::new(),
            recorded: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Our watching beside auditd's, load by load.
    fn comparison(&self) -> String {
        let mut text = String::from(
            "\nGoal: at most 1/5 of auditd's.\n\n| load | rate | hostledger / auditd |\n| --- | --- | --- |\n",
        );
        for ours in self.rows.iter().filter(|row| row.watcher == "hostledger") {
            let theirs = self.rows.iter().find(|row| {
                row.watcher == "auditd" && row.load.kind == ours.load.kind && row.load.rate == ours.load.rate
            });
            if let Some(theirs) = theirs {
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.2} |",
                    ours.load.kind.name(),
                    rate(&ours.load),
                    ours.each() / theirs.each()
                );
            }
        }
        text
    }

    /// An earlier report with our sections in the place of those of the same heading, or after the others.
    pub(super) fn replaced_in(&self, earlier: &str) -> String {
        let mut parts: Vec<String> = Vec::new();
        for line in earlier.lines() {
            match parts.last_mut() {
                Some(part) if !line.starts_with("## ") => {
                    part.push('\n');
                    part.push_str(line);
                }
                _ => parts.push(line.to_owned()),
            }
        }
        for (heading, body) in &self.sections {
            let first = format!("## {heading}");
            let whole = format!("{first}\n\n{}\n", body.trim_end());
            match parts.iter_mut().find(|part| part.lines().next() == Some(&first)) {
                Some(part) => *part = whole,
                None => {
                    if let Some(last) = parts.last_mut() {
                        *last = format!("{}\n", last.trim_end());
                    }
                    parts.push(whole);
                }
            }
        }
        format!("{}\n", parts.join("\n").trim_end())
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("# Measurements\n\n");
        let _ = writeln!(
            text,
            "Made by `cargo xtask bench --seconds {}` on:\n\n{}",
            self.seconds,
            machine()
        );
        text.push_str(
            "## CPU of watching\n\nMicroseconds of CPU for each repetition. *Watcher* is the watcher's processes \
             and BPF programs, less what they cost when idle; *load* is the load itself, in which the time \
             spent recording inside system calls shows.\n\n\
             | load | rate | watcher | reached | watcher µs | of which | load µs | lost | other forks |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for row in &self.rows {
            let shown = |part: &(&str, Duration)| format!("{} {:.0}", part.0, micros(part.1, row.load.count));
            let mut parts: Vec<String> = row.cost.parts.iter().map(shown).collect();
            parts.extend(
                row.cost
                    .apart
                    .iter()
                    .map(|part| format!("apart: {}", shown(part))),
            );
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.0}/s | {:.0} | {} | {:.0} | {} | {} |",
                row.load.kind.name(),
                rate(&row.load),
                row.watcher,
                f64::from(row.load.count) / row.taken.as_secs_f64(),
                row.each(),
                parts.join(", "),
                micros(row.own, row.load.count),
                row.lost,
                row.other_forks,
            );
        }
        text.push_str(&self.comparison());
        for (heading, lines) in [("Memory", &self.memory), ("Recorded", &self.recorded)] {
            let _ = writeln!(text, "\n## {heading}\n");
            for line in lines {
                let _ = writeln!(text, "- {line}");
            }
        }
        for (heading, body) in &self.sections {
            let _ = writeln!(text, "\n## {heading}\n\n{}", body.trim_end());
        }
        text
    }
}

/// The machine's load over one, five and fifteen minutes: what others did before a measurement.
pub(super) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    words.join(", ")
}

/// What the figures depend on.
fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let meminfo = read("/proc/meminfo");
    let memory = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .unwrap_or("unknown");
    format!(
        "- CPU: {}, {cpus} of them\n- memory: {}\n- kernel: {}\n",
        model.trim_start_matches(['\t', ' ', ':']),
        memory.trim(),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_namesake() {
        let mut report = Report::new(1);
        report.sections.push(("B".into(), "new".into()));
        report.sections.push(("D".into(), "first".into()));
        let earlier = "# M\n\nx\n\n## A\n\na\n\n## B\n\nold\nold\n\n## C\n\nc\n";
        assert_eq!(
            report.replaced_in(earlier),
            "# M\n\nx\n\n## A\n\na\n\n## B\n\nnew\n\n## C\n\nc\n\n## D\n\nfirst\n"
        );
    }
}
