//! What is committed together: admitted entries in order, and what is remembered of them meanwhile.

use alloc::vec::Vec;

use super::CheckedBatch;
use crate::{
    ids::{Hash, HostId, Sequence, StatementNumber},
    statement::VerifiedStatement,
};

/// An entry whose place in its chain was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// A host's batch.
    Batch(CheckedBatch),
    /// A statement of the collector.
    Statement(VerifiedStatement),
}

impl Admitted {
    /// The leaf.
    #[must_use]
    pub fn entry(&self) -> &[u8] {
        match self {
            Self::Batch(batch) => batch.header().bytes(),
            Self::Statement(statement) => statement.bytes(),
        }
    }

    /// What lies beside it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Batch(batch) => batch.body(),
            Self::Statement(_) => &[],
        }
    }

    /// Bytes of both.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.entry().len() + self.body().len()) as u64
    }

    /// The batch, if it is one.
    #[must_use]
    pub fn batch(&self) -> Option<&CheckedBatch> {
        match self {
            Self::Batch(batch) => Some(batch),
            Self::Statement(_) => None,
        }
    }
}

/// Entries to be appended together, in order.
#[derive(Debug)]
pub struct Group {
    /// The entries.
    pub entries: Vec<Admitted>,
}

impl Group {
    /// Its batches, in order.
    pub fn batches(&self) -> impl Iterator<Item = &CheckedBatch> {
        self.entries.iter().filter_map(Admitted::batch)
    }
}

/// What the machine remembers of an entry while its commit is under way.
#[derive(Debug)]
pub(super) enum Committing {
    Batch {
        host: HostId,
        sequence: Sequence,
        hash: Hash,
        header: Vec<u8>,
    },
    Statement(StatementNumber),
}

impl Committing {
    pub(super) fn of(entry: &Admitted) -> Self {
        match entry {
            Admitted::Batch(batch) => {
                let fields = batch.header().fields();
                Self::Batch {
                    host: fields.host,
                    sequence: fields.sequence,
                    hash: batch.header().hash(),
                    header: batch.header().bytes().to_vec(),
                }
            }
            Admitted::Statement(statement) => Self::Statement(statement.fields().number),
        }
    }
}
