//! Two checkpoints of one ledger held against each other, with the tiles of the larger one.

use std::sync::Arc;

use common::{
    checkpoint::CheckpointError,
    ledger_keys::LedgerTrust,
    merkle::{consistency_proof_from, root_from, verify_consistency},
    split::{ProvenSplit, SplitFault, SplitProof},
};

use crate::{
    storage::Storage,
    tiles::{TileError, TileStore},
};

/// What two checkpoints are to each other.
#[derive(Debug)]
pub enum Compared {
    /// The larger one extends the smaller one.
    Consistent {
        /// Leaves of the smaller one.
        smaller: u64,
        /// Leaves of the larger one.
        larger: u64,
    },
    /// They cannot both be true.
    Split(Box<(SplitProof, ProvenSplit)>),
}

/// Why nothing can be said of them.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// One of them is not signed by a key that counts, or is none.
    #[error("{which} holds no checkpoint of this ledger: {cause}")]
    Checkpoint {
        /// The first or the second.
        which: &'static str,
        /// What is wrong.
        cause: CheckpointError,
    },
    /// They differ in size and no ledger was given.
    #[error(
        "they have {smaller} and {larger} leaves: whether one extends the other takes the larger one's tiles"
    )]
    NeedsLedger {
        /// Leaves of the smaller one.
        smaller: u64,
        /// Leaves of the larger one.
        larger: u64,
    },
    /// The tiles given are not those of the larger checkpoint.
    #[error(
        "the ledger given is not the one of the checkpoint with {0} leaves; give the directory it came from"
    )]
    OtherLedger(u64),
    /// A tile.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// Our own proof does not hold: a fault of ours.
    #[error("the proof that was made does not hold: {0}")]
    Own(SplitFault),
}

/// Compares the notes `a` and `b` under `trust`; `ledger` holds the tiles of the larger one, needed where sizes
/// differ.
pub fn compare(
    a: &[u8],
    b: &[u8],
    trust: &impl LedgerTrust,
    ledger: Option<Arc<dyn Storage>>,
) -> Result<Compared, CompareError> {
    let open = |note, which| {
        trust
            .open_checkpoint(note)
            .map_err(|cause| CompareError::Checkpoint { which, cause })
    };
    let (first, second) = (open(a, "the first file")?, open(b, "the second file")?);
    let ((small, smaller), (large, larger)) = if first.size <= second.size {
        ((a, first), (b, second))
    } else {
        ((b, second), (a, first))
    };
    let (root, proof) = if smaller.size == larger.size {
        (larger.root, Vec::new())
    } else {
        let needs = CompareError::NeedsLedger {
            smaller: smaller.size,
            larger: larger.size,
        };
        let tiles = TileStore::new(ledger.ok_or(needs)?);
        let tree = tiles.tree(larger.size);
        if root_from(&tree, larger.size)? != larger.root {
            return Err(CompareError::OtherLedger(larger.size));
        }
        let proof = consistency_proof_from(&tree, smaller.size, larger.size)?;
        (root_from(&tree, smaller.size)?, proof.unwrap_or_default())
    };
    if root == smaller.root {
        // The tree's inner nodes were read, not computed: without this a directory could be made to agree.
        verify_consistency(smaller.size, &root, larger.size, &larger.root, &proof)
            .map_err(|_| CompareError::OtherLedger(larger.size))?;
        return Ok(Compared::Consistent {
            smaller: smaller.size,
            larger: larger.size,
        });
    }
    let found = SplitProof {
        smaller: small.to_vec(),
        larger: large.to_vec(),
        root,
        proof,
    };
    // Nobody is accused by a proof that was not checked.
    let proven = found.check(trust).map_err(CompareError::Own)?;
    Ok(Compared::Split(Box::new((found, proven))))
}
