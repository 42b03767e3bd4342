//! What anchored checkpoints prove about a ledger: that it still begins with every one of them, or how it does not.
//!
//! Owns the verdict on one anchored checkpoint, by signatures, the ledger's own checkpoint and its tiles; and, in
//! [`stamp`], that on a time stamp. Refuses to say whether every byte of the ledger is there: that is
//! [`crate::fsck`]'s.

pub mod stamp;

use std::sync::Arc;

use common::{
    checkpoint::{Checkpoint, CheckpointError},
    ledger_keys::LedgerTrust,
    limits::NOTE_BYTES_MAX,
    merkle::root_from,
    split::{ProvenSplit, SplitProof},
};

use crate::{
    split::{CompareError, Compared, compare},
    storage::{Storage, StorageError},
    tiles::{LOG, TileError, TileStore},
};

/// What one anchored checkpoint says of the ledger.
#[derive(Debug)]
pub enum Standing {
    /// The ledger begins with exactly these leaves.
    Prefix,
    /// The ledger has fewer leaves than were anchored: an older copy, or its end was cut off.
    Gone {
        /// Leaves the ledger has.
        leaves: u64,
    },
    /// The ledger's leaves up to there are others: two histories under one key.
    Split(Box<(SplitProof, ProvenSplit)>),
    /// The ledger's own tiles do not allow a verdict.
    Unreadable(CompareError),
    /// It is not signed by the key that is trusted: an anchor of another ledger, or an altered one.
    NotOurs(CheckpointError),
}

/// Why nothing can be held against a ledger.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Reading it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is none.
    #[error("the ledger's checkpoint is missing")]
    Missing,
    /// It is not signed by the key that is trusted.
    #[error("the ledger's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A tile.
    #[error("the ledger was truncated: {0}")]
    Tile(#[from] TileError),
    /// The tiles are another tree's.
    #[error("the ledger's tiles do not lead to the root of its checkpoint of {0} leaves")]
    OtherTree(u64),
}

/// A ledger as far as anchors can be held against it: its checkpoint is signed, and its tiles lead there.
#[derive(Debug)]
pub struct Held<'a, T> {
    trust: &'a T,
    storage: Arc<dyn Storage>,
    note: Vec<u8>,
    /// Its checkpoint.
    pub head: Checkpoint,
}

impl<'a, T: LedgerTrust> Held<'a, T> {
    /// Reads the checkpoint of the ledger in `storage` and checks it under `trust`.
    pub fn open(storage: Arc<dyn Storage>, trust: &'a T) -> Result<Self, HeadError> {
        let note = storage
            .read(&format!("{LOG}/checkpoint"), NOTE_BYTES_MAX as u64)?
            .ok_or(HeadError::Missing)?;
        let head = trust.open_checkpoint(&note)?;
        if root_from(&TileStore::new(Arc::clone(&storage)).tree(head.size), head.size)? != head.root {
            return Err(HeadError::OtherTree(head.size));
        }
        Ok(Self {
            trust,
            storage,
            note,
            head,
        })
    }

    /// What the signed checkpoint in `note`, seen elsewhere, says of this ledger; and the checkpoint, where it is one.
    #[must_use]
    pub fn judge(&self, note: &[u8]) -> (Option<Checkpoint>, Standing) {
        let seen = match self.trust.open_checkpoint(note) {
            Ok(seen) => seen,
            Err(cause) => return (None, Standing::NotOurs(cause)),
        };
        let standing = if seen.size > self.head.size {
            let leaves = self.head.size;
            Standing::Gone { leaves }
        } else {
            match compare(note, &self.note, self.trust, Some(Arc::clone(&self.storage))) {
                Ok(Compared::Consistent { .. }) => Standing::Prefix,
                Ok(Compared::Split(split)) => Standing::Split(split),
                Err(cause) => Standing::Unreadable(cause),
            }
        };
        (Some(seen), standing)
    }
}

#[cfg(test)]
mod tests;
