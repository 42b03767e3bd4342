//! Who watches the load: nobody, auditd, or our agent with its collector.
//!
//! Owns what counts as a watcher's cost: its processes' CPU time, and the run time of its BPF
//! programs. What recording costs inside the watched system calls shows in the load's own time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::auditd::Auditd;
use super::cpu;
use crate::build::Programs;
use crate::fleet::{Fleet, Lifetime};
use crate::paths::Paths;

/// A watcher under measurement.
#[derive(Debug)]
pub(super) enum Watcher {
    /// The load alone.
    Nobody,
    /// auditd.
    Auditd(Auditd),
    /// Our agent and its collector.
    Ours(Fleet),
}

/// CPU time by part.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    /// Name and time of each part.
    pub(super) parts: Vec<(&'static str, Duration)>,
    /// What runs on another machine in earnest, so is shown and not added: our collector.
    pub(super) apart: Vec<(&'static str, Duration)>,
}

impl Cost {
    /// All parts together.
    pub(super) fn total(&self) -> Duration {
        self.parts.iter().map(|(_, time)| *time).sum()
    }

    /// The growth since an earlier reading.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let grown = |now: &[(&'static str, Duration)], then: &[(&'static str, Duration)]| {
            let pairs = now.iter().zip(then);
            pairs
                .map(|((name, now), (_, then))| (*name, now.saturating_sub(*then)))
                .collect()
        };
        Self {
            parts: grown(&self.parts, &earlier.parts),
            apart: grown(&self.apart, &earlier.apart),
        }
    }
}

impl Watcher {
    /// The load alone.
    pub(super) fn nobody() -> Self {
        Self::Nobody
    }

    /// auditd, started with a folder of its own.
    pub(super) fn auditd(paths: &Paths, folder: &Path) -> Result<Self> {
        Ok(Self::Auditd(Auditd::start(paths, folder)?))
    }

    /// Our agent with its collector, in a folder of their own.
    pub(super) fn ours(programs: &Programs, folder: &Path) -> Result<Self> {
        Ok(Self::Ours(Fleet::start(programs, folder, Lifetime::Ours, &[])?))
    }

    /// For the report.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Auditd(_) => "auditd",
            Self::Ours(_) => "hostledger",
        }
    }

    /// CPU time since the start.
    pub(super) fn cost(&self) -> Result<Cost> {
        Ok(match self {
            Self::Nobody => Cost::default(),
            Self::Auditd(auditd) => Cost {
                parts: vec![("daemon and kauditd", auditd.cpu()?)],
                apart: Vec::new(),
            },
            Self::Ours(fleet) => Cost {
                parts: vec![
                    ("agent", cpu::of_process(fleet.agent())?),
                    ("BPF", cpu::bpf(fleet.agent())?.run_time),
                ],
                apart: vec![("collector", cpu::of_process(fleet.collector())?)],
            },
        })
    }

    /// Records lost since the start.
    pub(super) fn lost(&self) -> Result<u64> {
        match self {
            Self::Nobody => Ok(0),
            Self::Auditd(auditd) => auditd.lost(),
            Self::Ours(fleet) => {
                let status = fleet.agent_status()?;
                let sensors = status["sensors"]
                    .as_array()
                    .context("no sensors in the agent's status")?;
                Ok(sensors.iter().filter_map(|sensor| sensor["lost"].as_u64()).sum())
            }
        }
    }

    /// Lines for the report's section on memory.
    pub(super) fn memory(&self) -> Result<Vec<String>> {
        let line = |name: &str, process: u32| -> Result<String> {
            let (now, highest) = cpu::memory(process)?;
            Ok(format!(
                "{name}: {} KiB resident, {} KiB at most",
                now / 1024,
                highest / 1024
            ))
        };
        match self {
            Self::Nobody => Ok(Vec::new()),
            Self::Auditd(auditd) => Ok(vec![line("auditd", auditd.process())?]),
            Self::Ours(fleet) => {
                let bpf = cpu::bpf(fleet.agent())?;
                let maps = format!(
                    "BPF maps: {} KiB for {} programs",
                    bpf.map_bytes / 1024,
                    bpf.programs
                );
                Ok(vec![
                    line("agent", fleet.agent())?,
                    maps,
                    line("collector (apart)", fleet.collector())?,
                ])
            }
        }
    }

    /// Lines for the report's section on what was recorded.
    pub(super) fn recorded(&self) -> Result<Vec<String>> {
        match self {
            Self::Nobody => Ok(Vec::new()),
            Self::Auditd(auditd) => Ok(vec![format!("auditd: {} bytes of log", auditd.bytes()?)]),
            Self::Ours(fleet) => {
                let status = fleet.agent_status()?;
                let chain = &status["chain"];
                Ok(vec![format!(
                    "hostledger: {} events in {} batches of {} bytes, {} lost",
                    chain["events"],
                    chain["batches"],
                    chain["bytes"],
                    self.lost()?
                )])
            }
        }
    }
}
