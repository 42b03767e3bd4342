//! What the spool asks of the disk, and how either can refuse.

use alloc::{string::String, vec::Vec};

use super::segment::SegmentId;
use crate::ids::{Hash, Sequence};

/// Where a batch lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In which segment.
    pub segment: SegmentId,
    /// Offset of its record, bytes.
    pub offset: u64,
    /// Length of its record, bytes.
    pub length: u32,
}

/// What the index keeps of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub place: Place,
    /// The ledger leaf its header will be: what a receipt must prove.
    pub leaf: Hash,
}

/// Work for the disk, to be done in the order given, one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolEffect {
    /// Create the segment (or empty it, if a crash left one), write these bytes, sync the file, sync the
    /// directory.
    Create {
        /// Which segment.
        segment: SegmentId,
        /// Its header.
        bytes: Vec<u8>,
    },
    /// Write all bytes at the offset.
    Write {
        /// Which segment.
        segment: SegmentId,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// `fdatasync` the segment.
    Sync {
        /// Which segment.
        segment: SegmentId,
    },
    /// Cut the segment to this length and sync it.
    Truncate {
        /// Which segment.
        segment: SegmentId,
        /// The new length, bytes.
        length: u64,
    },
    /// Delete the segment: every batch in it has a verified receipt.
    Delete {
        /// Which segment.
        segment: SegmentId,
    },
    /// Rename the segment out of the way (`.rot` instead of `.seg`): evidence of damage.
    SetAside {
        /// Which segment.
        segment: SegmentId,
    },
    /// Write these bytes at the offset of the head file, creating it (and syncing the directory) with
    /// [`HEAD_FILE_BYTES`] zeros where it does not exist.
    WriteHead {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
        /// Whether to `fdatasync` before this counts as done.
        sync: bool,
    },
}

/// What went wrong on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskFault {
    /// No space is left (`ENOSPC`, `EDQUOT`): tried again until there is.
    #[error("no space is left on the spool's file system")]
    NoSpace,
    /// Anything else: what the disk holds now is unknown.
    #[error("{0}")]
    Failed(String),
}

/// The spool cannot go on: the process must end and restart through [`super::recover`], which reads what
/// the disk really holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spool {step} failed: {cause}; restart the agent, recovery reads what the disk holds")]
pub struct SpoolFailed {
    /// What was being done.
    pub step: &'static str,
    /// What the disk said.
    pub cause: DiskFault,
}

/// Why a batch was not taken. It was not lost: offer it again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    /// The batch before is not durable yet.
    #[error("the batch before is not durable yet")]
    Busy,
    /// A bound is reached.
    #[error("the spool is full: {bytes} bytes in {batches} batches")]
    Full {
        /// Bytes held.
        bytes: u64,
        /// Batches held.
        batches: usize,
    },
    /// It is not the batch that follows the last one. Ours to fix.
    #[error("batch {found} offered to the spool where {expected} must follow")]
    Misplaced {
        /// What must follow.
        expected: Sequence,
        /// What was offered.
        found: Sequence,
    },
    /// The spool failed before.
    #[error("{0}")]
    Failed(SpoolFailed),
}

impl SpoolEffect {
    /// The word in diagnostics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Write { .. } => "write",
            Self::Sync { .. } => "sync",
            Self::Truncate { .. } => "truncate",
            Self::Delete { .. } => "delete",
            Self::SetAside { .. } => "set-aside",
            Self::WriteHead { .. } => "head write",
        }
    }
}
