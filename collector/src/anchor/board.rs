//! Where each target stands: for status, metrics, the diagnostics, and the next start.

use std::{
    fmt::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use common::{answer::Moment, ids::WallNanos};
use serde::{Deserialize, Serialize};

use super::{AnchorFault, file::Appended, wall_clock};
use crate::files::{self, PUBLIC};

/// Longest `anchors.json` read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The word for the anchor file among the targets.
pub(super) const FILE: &str = "file";

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorRow {
    /// `file`, `tsa` or `http`.
    pub target: String,
    /// The file's path or the URL, without what may be secret in it.
    pub place: String,
    /// Leaves of the checkpoint anchored last; 0 for none.
    pub anchored_size: u64,
    /// When it was, by our clock.
    pub anchored_at: Option<Moment>,
    /// Since when anchoring fails, if it does.
    pub failing_since: Option<Moment>,
    /// Why.
    pub fault: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Checkpoints anchored by this process.
    #[serde(skip)]
    pub anchored: u64,
    /// Failures of this process.
    #[serde(skip)]
    pub failures: u64,
}

/// `anchors.json`: where the running collector's targets stand. Written when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorsFile {
    /// The targets.
    pub targets: Vec<AnchorRow>,
    /// What is remembered of the anchor file; none before its first record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileLength>,
}

/// How long the anchor file is: its records are not chained, so nothing else tells that some were taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLength {
    /// Which file; empty where an earlier version wrote this.
    #[serde(default)]
    pub path: String,
    /// Its length after the last record, bytes.
    pub bytes: u64,
    /// Said when it was shorter than that before the next one, or when nothing told how long it had been; stays as long
    /// as this file is appended to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
}

/// Whether a file that was left with `left` bytes and has `found` has lost records.
pub(crate) fn missed(left: u64, found: u64) -> bool {
    found < left
}

impl FileLength {
    /// What is remembered of the file at `path` after a record where `known` was remembered before it.
    fn after(known: Option<&Self>, path: &str, appended: Appended, now: Moment) -> Self {
        let before = appended.before;
        let known = known.filter(|known| known.path.is_empty() || known.path == path);
        let what = match known {
            Some(known) if missed(known.bytes, before) => Some(format!(
                "{before} bytes until {now}, where it had {}: records were taken away",
                known.bytes
            )),
            Some(_) => None,
            None if before > 0 => Some(format!(
                "{before} bytes until {now}, and nothing here remembers how many it had: anchors.json is gone or cannot be \
                 read, or the file was begun elsewhere. Whether records were taken away is unknown"
            )),
            None => None,
        };
        let told = what.map(|what| {
            format!(
                "{what}. Hold the copies there are against the ledger with hostledger anchor verify; then begin a new \
                 file (anchor_file) and keep this one"
            )
        });
        Self {
            path: path.to_owned(),
            bytes: appended.after,
            missed: told.or_else(|| known.and_then(|known| known.missed.clone())),
        }
    }
}

/// The board; written by the anchoring thread, read by everybody.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    known: Mutex<AnchorsFile>,
}

impl Board {
    /// A board for `targets` (kind and place), with what the file at `path` remembers of the same ones.
    pub(super) fn recall(path: PathBuf, targets: impl Iterator<Item = (&'static str, String)>) -> Self {
        // Derived: without it each target is served at once.
        let remembered: Option<AnchorsFile> = files::read_text(&path, FILE_BYTES_MAX)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        let file = remembered.as_ref().and_then(|remembered| remembered.file.clone());
        let remembered = remembered.map(|file| file.targets).unwrap_or_default();
        let row = |(target, place): (&str, String)| {
            let same = |row: &&AnchorRow| row.target == target && row.place == place;
            remembered.iter().find(same).cloned().unwrap_or(AnchorRow {
                target: target.to_owned(),
                place,
                anchored_size: 0,
                anchored_at: None,
                failing_since: None,
                fault: None,
                remedy: None,
                anchored: 0,
                failures: 0,
            })
        };
        let known = Mutex::new(AnchorsFile {
            targets: targets.map(row).collect(),
            file,
        });
        Self { path, known }
    }

    /// Leaves anchored last at the target at `place`, and how long ago, nanoseconds. More leaves than are
    /// `published` mean that the ledger is an older one than was anchored: that is said, and anchoring begins anew.
    pub(super) fn last(&self, place: usize, published: u64, now: WallNanos) -> (u64, u64) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(row) = known.targets.get(place) else {
            return (0, 0);
        };
        if row.anchored_size > published {
            tracing::error!(
                target = row.target,
                place = row.place,
                anchored = row.anchored_size,
                published,
                "more leaves were anchored than this ledger has: an older copy was put back. Keep everything and run \
                 hostledger anchor verify"
            );
            return (0, 0);
        }
        let age = row
            .anchored_at
            .map_or(u64::MAX, |at| now.0.saturating_sub(at.0.0));
        (row.anchored_size, age)
    }

    /// Notes what came of anchoring a checkpoint of `size` leaves.
    pub(super) fn record(&self, place: usize, size: u64, outcome: &Result<Option<Appended>, AnchorFault>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment(wall_clock());
        if let Ok(Some(appended)) = outcome {
            let path = known.targets.iter().find(|row| row.target == FILE);
            let path = path.map(|row| row.place.as_str()).unwrap_or_default();
            let file = FileLength::after(known.file.as_ref(), path, *appended, now);
            if known
                .file
                .as_ref()
                .is_none_or(|before| before.missed != file.missed)
                && let Some(missed) = &file.missed
            {
                tracing::error!(missed, "the anchor file is not known to be as it was left");
            }
            known.file = Some(file);
        }
        let Some(row) = known.targets.get_mut(place) else {
            return;
        };
        match outcome {
            Ok(_) => {
                row.anchored += 1;
                (row.anchored_size, row.anchored_at) = (size, Some(now));
                (row.fault, row.remedy) = (None, None);
                if let Some(since) = row.failing_since.take() {
                    tracing::info!(target = row.target, place = row.place, %since, "checkpoints are anchored again");
                }
            }
            Err(fault) => {
                row.failures += 1;
                let (cause, remedy) = (fault.to_string(), fault.remedy());
                if row.fault.as_ref() != Some(&cause) {
                    tracing::warn!(
                        target = row.target,
                        place = row.place,
                        cause,
                        remedy,
                        "checkpoints are not anchored; tried again, ever later"
                    );
                }
                row.failing_since.get_or_insert(now);
                (row.fault, row.remedy) = (Some(cause), Some(remedy.to_owned()));
            }
        }
        let saved = serde_json::to_vec_pretty(&*known)
            .map_err(|error| error.to_string())
            .and_then(|json| files::replace(&self.path, &json, PUBLIC).map_err(|error| error.to_string()));
        if let Err(error) = saved {
            tracing::warn!(
                error,
                "anchors.json was not written; the next start may anchor once more than needed"
            );
        }
    }

    /// What is known.
    #[must_use]
    pub fn read(&self) -> AnchorsFile {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The Prometheus text of the targets.
    #[must_use]
    pub fn render(&self) -> String {
        let known = self.read();
        let mut text = String::new();
        let mut table = |name: &str, kind: &str, help: &str, value: fn(&AnchorRow) -> u64| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "# HELP hostledger_{name} {help}\n# TYPE hostledger_{name} {kind}"
            );
            for row in &known.targets {
                let _ = writeln!(
                    text,
                    "hostledger_{name}{{target=\"{}\"}} {}",
                    row.target,
                    value(row)
                );
            }
        };
        table(
            "anchored_leaves",
            "gauge",
            "Leaves of the checkpoint anchored last.",
            |row| row.anchored_size,
        );
        table("anchors_total", "counter", "Checkpoints anchored.", |row| {
            row.anchored
        });
        table(
            "anchor_failures_total",
            "counter",
            "Attempts to anchor that failed.",
            |row| row.failures,
        );
        table(
            "anchor_failing",
            "gauge",
            "1 while checkpoints cannot be anchored.",
            |row| u64::from(row.failing_since.is_some()),
        );
        text
    }
}

#[cfg(test)]
mod tests;
