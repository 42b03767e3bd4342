//! An agent's own files beside its spool, looked over: keys, what is remembered of the ledger, evidence, the connection's
//! certificates.
//!
//! Owns the list. Each room says what is wrong with its own files; here nothing is changed. `run` says what is found at
//! each start, `doctor` whenever it is asked. The settings and the witness policy are the operator's, who may write into
//! them what he likes: they are checked where they are read.

use std::{fmt, path::PathBuf};

use common::{ids::HostId, spool::LedgerMark};

use crate::{config::Layout, identity::IdentityError, keys::KeyStore, ship};

/// A file that is not as this agent, or its enrolment, left it. The disk is at fault, or whoever wrote to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do where something is to be done.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(path: PathBuf, what: String) -> Self {
        Self { path, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Everything that is not in order; `mark` is what the spool's head remembers.
#[must_use]
pub fn examine(layout: &Layout, host: &HostId, mark: Option<&LedgerMark>) -> Vec<Finding> {
    let mut findings = keys(layout);
    findings.extend(ship::examine_remembered(layout, mark));
    findings.extend(ship::examine_evidence(layout));
    findings.extend(ship::examine_tls(layout, host));
    findings
}

fn keys(layout: &Layout) -> Vec<Finding> {
    let path = layout.signing_keys();
    let named = |what: String| Finding::new(path.clone(), what);
    match KeyStore::at(path.clone()).examine() {
        Ok(findings) => findings.iter().map(|found| named(found.to_string())).collect(),
        // Agents before key epochs had another file, which the next start takes over.
        Err(IdentityError::Missing(_)) if layout.signing_key().exists() => Vec::new(),
        Err(error) => vec![named(error.to_string())],
    }
}
