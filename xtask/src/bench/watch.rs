//! Who watches the load: nobody, auditd, or our agent with its collector.
//!
//! Owns what counts as a watcher's cost: its processes' CPU time, and the run time of its BPF
//! programs. What recording costs inside the watched system calls shows in the load's own time.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::auditd::Auditd;
use super::cpu;
use crate::paths::Paths;

/// A watcher under measurement.
#[derive(Debug)]
pub(super) enum Watcher {
    /// The load alone.
    Nobody,
    /// auditd.
    Auditd(Auditd),
}

/// CPU time by part.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    /// Name and time of each part.
    pub(super) parts: Vec<(&'static str, Duration)>,
}

impl Cost {
    /// All parts together.
    pub(super) fn total(&self) -> Duration {
        self.parts.iter().map(|(_, time)| *time).sum()
    }

    /// The growth since an earlier reading.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let parts = self.parts.iter().zip(&earlier.parts);
        Self {
            parts: parts
                .map(|((name, now), (_, then))| (*name, now.saturating_sub(*then)))
                .collect(),
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

    /// For the report.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Auditd(_) => "auditd",
        }
    }

    /// CPU time since the start.
    pub(super) fn cost(&self) -> Result<Cost> {
        let parts = match self {
            Self::Nobody => Vec::new(),
            Self::Auditd(auditd) => vec![("daemon and kauditd", auditd.cpu()?)],
        };
        Ok(Cost { parts })
    }

    /// Records lost since the start.
    pub(super) fn lost(&self) -> Result<u64> {
        match self {
            Self::Nobody => Ok(0),
            Self::Auditd(auditd) => auditd.lost(),
        }
    }

    /// Lines for the report's section on memory.
    pub(super) fn memory(&self) -> Result<Vec<String>> {
        match self {
            Self::Nobody => Ok(Vec::new()),
            Self::Auditd(auditd) => {
                let (now, highest) = cpu::memory(auditd.process())?;
                Ok(vec![format!(
                    "auditd: {} KiB resident, {} KiB at most",
                    now / 1024,
                    highest / 1024
                )])
            }
        }
    }

    /// Lines for the report's section on what was recorded.
    pub(super) fn recorded(&self) -> Result<Vec<String>> {
        match self {
            Self::Nobody => Ok(Vec::new()),
            Self::Auditd(auditd) => Ok(vec![format!("auditd: {} bytes of log", auditd.bytes()?)]),
        }
    }
}
