//! Files of the collector's own directory that are not as this program left them: registrations and evidence.
//!
//! Owns the list; each room says what is wrong with its own files, and nothing is changed. Said at each start and by
//! `status`. What is derived is built again, keys and certificates are refused where they are read, and the ledger is
//! `verify`'s.

use std::{fmt, path::PathBuf};

use crate::{evidence, layout::Layout, registry};

/// A file that is not as it was left. The disk is at fault, or whoever wrote to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do where something is to be done.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(path: PathBuf, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { path, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Everything that is not in order.
#[must_use]
pub fn examine(layout: &Layout) -> Vec<Finding> {
    let mut findings = registry::examine(layout);
    findings.extend(evidence::examine(layout));
    findings
}

#[cfg(test)]
pub(crate) mod tests;
