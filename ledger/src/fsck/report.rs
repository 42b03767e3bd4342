//! What a check found.

use std::fmt;

use common::{checkpoint::Checkpoint, ids::LeafIndex};

/// Faults kept in a report; further ones are counted.
const FAULTS_MAX: usize = 10_000;

/// What a fault is put down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Stored bytes disagree with other copies under a good signature: the disk, or a clumsy hand.
    Rot,
    /// Bytes agree with one another but not with a signature: somebody made them.
    Forgery,
    /// Something that other objects prove to have existed is gone: deleted, cut, or an older copy.
    Missing,
    /// An object that no ledger has.
    Stray,
    /// The disk would not give it.
    Unreadable,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path of the object below the ledger.
    pub object: String,
    /// First wrong byte, or start of the wrong part, in the object.
    pub offset: Option<u64>,
    /// The leaf concerned.
    pub leaf: Option<LeafIndex>,
    /// What it is put down to.
    pub cause: Cause,
    /// What is wrong, in words.
    pub what: String,
}

impl Fault {
    pub(crate) fn of(object: &str, cause: Cause, what: impl Into<String>) -> Self {
        Self {
            object: object.to_owned(),
            offset: None,
            leaf: None,
            cause,
            what: what.into(),
        }
    }

    pub(crate) fn at(self, offset: u64) -> Self {
        Self {
            offset: Some(offset),
            ..self
        }
    }

    pub(crate) fn leaf(self, leaf: LeafIndex) -> Self {
        Self {
            leaf: Some(leaf),
            ..self
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rot => "rot",
            Self::Forgery => "forgery",
            Self::Missing => "missing",
            Self::Stray => "stray",
            Self::Unreadable => "unreadable",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        if let Some(leaf) = self.leaf {
            write!(f, " (leaf {leaf})")?;
        }
        write!(f, ": {} [{}]", self.what, self.cause)
    }
}

/// How much was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leaves, under a checkpoint or not.
    pub leaves: u64,
    /// Groups.
    pub groups: u64,
    /// Tiles and bundles compared, partial ones included.
    pub resources: u64,
    /// Bytes of groups, tiles and bundles read.
    pub bytes: u64,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Groups checked.
    pub groups: u64,
    /// Groups there are.
    pub groups_total: u64,
    /// Bytes of groups checked.
    pub bytes: u64,
}

/// The outcome of a check.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What is wrong, in the order found; empty for a sound ledger.
    pub faults: Vec<Fault>,
    /// Faults found but not kept, beyond the first ten thousand.
    pub faults_dropped: u64,
    /// What is worth knowing but not wrong.
    pub notes: Vec<String>,
    /// How much was checked.
    pub counts: Counts,
    /// The checkpoint, if its signature holds.
    pub checkpoint: Option<Checkpoint>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_dropped += 1;
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        if self.notes.len() < FAULTS_MAX {
            self.notes.push(note);
        }
    }
}
