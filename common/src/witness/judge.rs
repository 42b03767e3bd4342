//! What a witness answers: sign, or refuse with the status that C2SP tlog-witness demands.
//!
//! Pure: the driver finds the log by the request's claimed origin, holds that log's state for itself alone
//! from [`judge`] until [`Cosigned::note`] is durable, and only then lets [`Cosigned::line`] leave. A crash
//! in between means that a cosignature nobody received was recorded, which costs nothing.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::{
    cosignature::{cosign, cosignatures},
    request::{AddCheckpoint, BadRequest},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    ids::Hash,
    merkle::{ProofError, empty_root, verify_consistency},
    note::{NoteError, UnverifiedNote, VerifierKey, WitnessKey, WitnessSigner},
};

/// A log this witness was told to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedLog {
    /// Its origin line.
    pub origin: String,
    /// The keys it may sign with; one is enough.
    pub keys: Vec<VerifierKey>,
}

/// The checkpoint cosigned last for an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its leaves.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The note as recorded: the log's verified signatures and our own.
    pub note: String,
}

/// Why a record of our own cannot be used. Disk or tampering: cosigning blindly could sign a second view.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// It is no checkpoint, or of another origin.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// This witness's key did not cosign it.
    #[error("not cosigned by this witness's key")]
    NotOurs,
}

impl Recorded {
    /// Reads a record of `origin` that `key` (our own) must have cosigned.
    pub fn open(note: &[u8], origin: &str, key: &WitnessKey) -> Result<Self, BadRecord> {
        let parsed = UnverifiedNote::parse(note).map_err(CheckpointError::Note)?;
        if cosignatures(&parsed, &[key])
            .map_err(CheckpointError::Note)?
            .is_empty()
        {
            return Err(BadRecord::NotOurs);
        }
        let text = parsed.danger_unverified_text();
        let checkpoint = Checkpoint::parse_body(text)?;
        if checkpoint.origin != origin {
            return Err(BadRecord::Checkpoint(CheckpointError::Origin {
                expected: origin.to_string(),
                found: checkpoint.origin,
            }));
        }
        Ok(Self {
            size: checkpoint.size,
            root: checkpoint.root,
            note: String::from_utf8_lossy(note).into_owned(),
        })
    }
}

/// Why a witness does not sign, and thereby who is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// The client sent what is no request.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The operator of this witness does not follow that log.
    #[error("this witness does not follow a log with the origin {0:?}")]
    UnknownOrigin(String),
    /// The log's signature is missing or bad: another key, or altered on the way.
    #[error("{0}")]
    Signature(NoteError),
    /// The client's old size is beyond the checkpoint.
    #[error("old size {old} is beyond the checkpoint's {size} leaves")]
    OldBeyond {
        /// Old size sent.
        old: u64,
        /// Leaves of the checkpoint.
        size: u64,
    },
    /// The client's old size is not ours: replayed, raced, or it does not know ours.
    #[error("the checkpoint cosigned last has {recorded} leaves, the request starts from {old}")]
    Conflict {
        /// Old size sent.
        old: u64,
        /// Leaves of the checkpoint cosigned last.
        recorded: u64,
    },
    /// The log: a checkpoint of no leaves must have the root of nothing.
    #[error("a checkpoint of no leaves has not the root of nothing")]
    EmptyRoot,
    /// The log (or its client's proof): it does not extend what was cosigned.
    #[error("the checkpoint of {size} leaves does not extend the {recorded} leaves cosigned last: {why}")]
    Inconsistent {
        /// Leaves of the checkpoint.
        size: u64,
        /// Leaves of the one cosigned last.
        recorded: u64,
        /// What fails.
        why: ProofError,
    },
}

impl WitnessRefusal {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::OldBeyond { .. } => 400,
            Self::Signature(_) => 403,
            Self::UnknownOrigin(_) => 404,
            Self::Conflict { .. } => 409,
            Self::EmptyRoot | Self::Inconsistent { .. } => 422,
        }
    }

    /// Whether a good signature of the log stands under what was refused: then it may prove that the log
    /// shows two views.
    #[must_use]
    pub fn is_signed_contradiction(&self) -> bool {
        matches!(self, Self::EmptyRoot | Self::Inconsistent { .. })
    }
}

/// A checkpoint that may be cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    checkpoint: Checkpoint,
    /// The body and the log's verified signature lines.
    note: String,
}

/// A cosignature that must be recorded before it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// What to record.
    pub record: Recorded,
    /// What to answer, once the record is durable.
    pub line: String,
}

impl Accepted {
    /// Signs at `posix_seconds`.
    #[must_use]
    pub fn cosign(self, signer: &WitnessSigner, posix_seconds: u64) -> Cosigned {
        let line = cosign(signer, &self.checkpoint, posix_seconds);
        Cosigned {
            record: Recorded {
                size: self.checkpoint.size,
                root: self.checkpoint.root,
                note: super::with_line(&self.note, &line),
            },
            line,
        }
    }
}

/// Decides on a request for `log`, of which `recorded` was cosigned last. The checks come in the order in
/// which C2SP tlog-witness names them.
pub fn judge(
    request: &AddCheckpoint,
    log: &TrustedLog,
    recorded: Option<&Recorded>,
) -> Result<Accepted, WitnessRefusal> {
    let bad = |error: NoteError| WitnessRefusal::BadRequest(CheckpointError::Note(error).into());
    let note = UnverifiedNote::parse(&request.note).map_err(bad)?;
    let checkpoint = request.claimed()?;
    if checkpoint.origin != log.origin {
        return Err(WitnessRefusal::UnknownOrigin(checkpoint.origin));
    }
    let keys: Vec<&VerifierKey> = log.keys.iter().collect();
    let text = note.verify(&keys).map_err(WitnessRefusal::Signature)?;
    let (old, size) = (request.old, checkpoint.size);
    if old > size {
        return Err(WitnessRefusal::OldBeyond { old, size });
    }
    let (recorded_size, recorded_root) = recorded.map_or((0, empty_root()), |last| (last.size, last.root));
    if old != recorded_size {
        return Err(WitnessRefusal::Conflict {
            old,
            recorded: recorded_size,
        });
    }
    if size == 0 && checkpoint.root != empty_root() {
        return Err(WitnessRefusal::EmptyRoot);
    }
    verify_consistency(old, &recorded_root, size, &checkpoint.root, &request.proof).map_err(|why| {
        WitnessRefusal::Inconsistent {
            size,
            recorded: recorded_size,
            why,
        }
    })?;
    let mut kept = String::from(text);
    kept.push('\n');
    for line in note.signatures() {
        // Verified above: a line of a known key that does not verify sank the note.
        if keys
            .iter()
            .any(|key| key.name() == line.name && key.id() == line.key_id)
        {
            kept.push_str(&line.encode());
        }
    }
    Ok(Accepted {
        checkpoint,
        note: kept,
    })
}
