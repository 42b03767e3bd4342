//! What processes, BPF programs and the machine cost, read from /proc.
//!
//! Owns the parsing. CPU times come from the scheduler's exact accounts, rounded to 10 ms by
//! /proc; measure over seconds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The unit of CPU times in /proc, the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of one process, all its threads together, without its children.
pub(super) fn of_process(process: u32) -> Result<Duration> {
    let (own, _) = times(&process.to_string())?;
    Ok(own)
}

/// CPU time of this process and of its children that were waited for.
pub(super) fn of_us_and_children() -> Result<Duration> {
    let (own, children) = times("self")?;
    Ok(own + children)
}

fn times(process: &str) -> Result<(Duration, Duration)> {
    let file = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("{file} cannot be read"))?;
    parse_times(&text).with_context(|| format!("{file} reads {text:?}"))
}

/// Own and waited-for children's user + system time of a stat line.
fn parse_times(text: &str) -> Option<(Duration, Duration)> {
    // The name in parentheses may hold spaces and parentheses itself; the last one ends it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some((TICK * (ticks(11)? + ticks(12)?), TICK * (ticks(13)? + ticks(14)?)))
}

/// Memory of one process, in bytes: resident now, and at its highest.
pub(super) fn memory(process: u32) -> Result<(u64, u64)> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("{file} cannot be read"))?;
    let kib = |name: &str| number_after(&text, name).with_context(|| format!("{file} has no {name}"));
    Ok((kib("VmRSS:")? * 1024, kib("VmHWM:")? * 1024))
}

/// The number that follows a name at the start of a line.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Forks since boot, threads included: how much else went on beside the load.
pub(super) fn forks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    number_after(&text, "processes ").context("/proc/stat has no count of forks")
}

/// What a process's BPF programs and maps cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bpf {
    /// Programs it holds.
    pub(super) programs: u64,
    /// Their time on a CPU since load. Counted only while [`Statistics`] are on.
    pub(super) run_time: Duration,
    /// How often they ran.
    pub(super) runs: u64,
    /// Memory of its maps, in bytes.
    pub(super) map_bytes: u64,
}

/// Adds up the BPF programs and maps that a process holds.
pub(super) fn bpf(process: u32) -> Result<Bpf> {
    let mut sum = Bpf::default();
    let mut seen = Vec::new();
    let folder = format!("/proc/{process}/fdinfo");
    for entry in fs::read_dir(&folder).with_context(|| format!("{folder} cannot be read"))? {
        // A descriptor may be closed while we look.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        add(&mut sum, &mut seen, &text);
    }
    Ok(sum)
}

fn add(sum: &mut Bpf, seen: &mut Vec<(bool, u64)>, text: &str) {
    let program = number_after(text, "prog_id:").filter(|_| text.contains("run_time_ns:"));
    let map = number_after(text, "map_id:").filter(|_| text.contains("memlock:"));
    let (is_program, id) = match (program, map) {
        (Some(id), _) => (true, id),
        (None, Some(id)) => (false, id),
        (None, None) => return,
    };
    if seen.contains(&(is_program, id)) {
        return;
    }
    seen.push((is_program, id));
    if is_program {
        sum.programs += 1;
        sum.run_time += Duration::from_nanos(number_after(text, "run_time_ns:").unwrap_or(0));
        sum.runs += number_after(text, "run_cnt:").unwrap_or(0);
    } else {
        sum.map_bytes += number_after(text, "memlock:").unwrap_or(0);
    }
}

/// The kernel's accounting of BPF run time, switched back at the end.
#[derive(Debug)]
pub(super) struct Statistics {
    before: String,
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Statistics {
    /// Switches it on.
    pub(super) fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("{SWITCH} cannot be read"))?;
        fs::write(SWITCH, "1").with_context(|| format!("{SWITCH} cannot be written: it needs root"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        // Nothing more can be done where even this fails; accounting left on costs a little time.
        let _ = fs::write(SWITCH, self.before.trim());
    }
}

/// Bytes of all files below a folder.
pub(super) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_hostile_name_is_read() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4 0 0 0 0 150 25 300 50 20 0 1 0 5";
        let (own, children) = parse_times(line).unwrap();
        assert_eq!(own, Duration::from_millis(1750));
        assert_eq!(children, Duration::from_millis(3500));
        assert!(parse_times("7 (a) S 1").is_none());
        assert!(parse_times("").is_none());
    }

    #[test]
    fn programs_and_maps_are_added_once_each() {
        let program = "prog_type:\t5\nmemlock:\t4096\nprog_id:\t12\nrun_time_ns:\t1500\nrun_cnt:\t3\n";
        let map = "map_type:\t27\nmemlock:\t8192\nmap_id:\t4\n";
        let link = "link_type:\t2\nprog_id:\t12\n";
        let (mut sum, mut seen) = (Bpf::default(), Vec::new());
        for text in [program, map, link, program, map, "pos:\t0\n"] {
            add(&mut sum, &mut seen, text);
        }
        let expected = Bpf {
            programs: 1,
            run_time: Duration::from_nanos(1500),
            runs: 3,
            map_bytes: 8192,
        };
        assert_eq!(sum, expected);
    }
}
