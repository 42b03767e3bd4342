//! What this agent remembers of its ledger, read from its files: the pinned key, the histories of keys, the checkpoint.
//!
//! Owns the files' names in faults. What a missing or older file means is [`Seen::recall`]'s to say, from the mark in the
//! spool's head. A checkpoint that was passed over is kept as `checkpoint.rot`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use common::{
    ledger_keys::LedgerKeys,
    note::VerifierKey,
    session::{Forgotten, RecallFault, Seen},
    spool::LedgerMark,
};

use super::PolicyFault;
use crate::{config::Layout, files::Finding};

/// Longest file of these read, bytes: more than a history of keys may have.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why no session can be had from the files. The operator is at fault; they are read again later.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    /// A file cannot be read.
    #[error("{path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    /// The ledger's key is none.
    #[error("{path} holds no ledger verifier key: {cause}; copy ledger.vkey from the collector")]
    LedgerKey { path: PathBuf, cause: String },
    /// A history of the ledger's keys does not follow from the pinned key.
    #[error("{path}: {cause}; it does not belong to the key in ledger.vkey")]
    KeyHistory { path: PathBuf, cause: String },
    /// What is remembered cannot be gone on from.
    #[error("{path}: {cause}")]
    Recall { path: PathBuf, cause: RecallFault },
    /// The witness policy.
    #[error(transparent)]
    Policy(#[from] PolicyFault),
}

/// What is remembered.
pub(super) struct Remembered {
    /// All that is known of the ledger's keys.
    pub(super) keys: LedgerKeys,
    /// The last checkpoint seen.
    pub(super) seen: Seen,
    /// What is not as it was left.
    pub(super) forgotten: Option<Forgotten>,
}

/// Reads it, and holds it against the mark in the spool's head.
pub(super) fn read(layout: &Layout, mark: Option<&LedgerMark>) -> Result<Remembered, FilesError> {
    let keys = keys_of(layout)?;
    let path = layout.checkpoint();
    let note = read_if_there(&path)?;
    match Seen::recall(note.as_deref(), mark, &keys) {
        Ok((seen, forgotten)) => Ok(Remembered {
            keys,
            seen,
            forgotten,
        }),
        Err(cause) => {
            let path = match cause {
                RecallFault::Keys { .. } => layout.learnt_keys(),
                RecallFault::Checkpoint(_) | RecallFault::RootsDiffer { .. } => path,
            };
            Err(FilesError::Recall { path, cause })
        }
    }
}

/// All that is known of the ledger's keys: the pinned one, and the histories from enrolment and from the collector, each
/// believed as far as it follows.
pub(super) fn keys_of(layout: &Layout) -> Result<LedgerKeys, FilesError> {
    let path = layout.ledger_key();
    let text = fs::read_to_string(&path).map_err(|cause| FilesError::Io {
        path: path.clone(),
        cause,
    })?;
    let pinned = VerifierKey::parse(text.trim()).map_err(|cause| FilesError::LedgerKey {
        path,
        cause: cause.to_string(),
    })?;
    let mut keys = LedgerKeys::from(pinned);
    for path in [layout.ledger_keys(), layout.learnt_keys()] {
        let Some(history) = read_if_there(&path)? else {
            continue;
        };
        match keys.learn(&history) {
            Ok(learnt) => keys = learnt.unwrap_or(keys),
            Err(fault) => {
                let cause = fault.to_string();
                return Err(FilesError::KeyHistory { path, cause });
            }
        }
    }
    Ok(keys)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FilesError> {
    let fault = |cause| FilesError::Io {
        path: path.to_owned(),
        cause,
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            let text = format!("{} bytes are more than such a file has", found.len());
            return Err(fault(io::Error::other(text)));
        }
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(fault)
}

/// Keeps a checkpoint that was passed over; the next one takes its name.
pub(super) fn set_aside(layout: &Layout, forgotten: &Forgotten) {
    if matches!(forgotten, Forgotten::Older { .. } | Forgotten::Altered { .. }) {
        let path = layout.checkpoint();
        if let Err(error) = fs::rename(&path, path.with_extension("rot")) {
            tracing::warn!(%error, "a checkpoint that is not the one remembered could not be set aside");
        }
    }
}

/// What is not in order of them; nothing before the host is enrolled.
pub(crate) fn examine(layout: &Layout, mark: Option<&LedgerMark>) -> Vec<Finding> {
    if mark.is_none() && !layout.ledger_key().exists() {
        return Vec::new();
    }
    let found = match read(layout, mark) {
        Ok(remembered) => remembered.forgotten.map(|forgotten| {
            let path = match forgotten {
                Forgotten::OtherLedger { .. } => layout.ledger_key(),
                _ => layout.checkpoint(),
            };
            Finding::new(path, forgotten.to_string())
        }),
        Err(error) => {
            let text = error.to_string();
            let path = match error {
                FilesError::Io { path, .. }
                | FilesError::LedgerKey { path, .. }
                | FilesError::KeyHistory { path, .. }
                | FilesError::Recall { path, .. } => path,
                FilesError::Policy(_) => layout.dir.clone(),
            };
            Some(Finding::new(path, text))
        }
    };
    found.into_iter().collect()
}
