//! RFC 6962 Merkle trees: hashing, roots, inclusion and consistency proofs.
//!
//! One implementation serves the ledger's tree and the tree of events inside each batch. Owns the hashing
//! rules and the shape of proofs; refuses to know where nodes are stored (see [`Nodes`]). The empty tree's
//! root is SHA-256 of nothing, an odd node is promoted unchanged, leaves and inner nodes are hashed with
//! different prefixes so that neither can pose as the other.

mod many;
mod multi;
mod prove;
mod verify;

pub use many::{complete_nodes, leaf_hashes, root_of};
pub use multi::{multi_proof, multi_proof_from, root_from_multi};
pub use prove::{
    Nodes, consistency_proof, consistency_proof_from, inclusion_proof, inclusion_proof_from, root_from,
};
pub use verify::{ProofError, root_from_inclusion, verify_consistency, verify_inclusion};

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::ids::Hash;

/// Hashes of a proof never exceed this many: one for each level of a tree of 2^64 leaves and one more.
pub const PROOF_HASHES_MAX: usize = 65;

/// What sets a leaf's hash apart (RFC 6962 §2.1).
const LEAF_PREFIX: [u8; 1] = [0];
/// What sets an inner node's hash apart.
const NODE_PREFIX: [u8; 1] = [1];

/// Hash of a leaf holding `entry` (RFC 6962 §2.1: a zero byte, then the entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(LEAF_PREFIX);
    hash.update(entry);
    Hash(hash.finalize().into())
}

/// Hash of the node above `left` and `right` (RFC 6962 §2.1: a one byte, then both).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(NODE_PREFIX);
    hash.update(left.0);
    hash.update(right.0);
    Hash(hash.finalize().into())
}

/// Root of the tree without leaves: SHA-256 of the empty string.
#[must_use]
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// The roots of the complete subtrees that a tree of some size splits into, highest first: all that is
/// needed to append and to compute the root, in O(log n) memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf hash. Two subtrees of one height merge as soon as both are complete, exactly where
    /// binary addition of 1 to the size carries.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold_peaks(self.peaks.iter().copied()).unwrap_or_else(empty_root)
    }
}

/// Joins subtree roots, highest first, into the root above them: the lowest two first, so that each
/// incomplete part is promoted until it meets a complete sibling.
fn fold_peaks(peaks: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    peaks.rev().reduce(|right, left| node_hash(&left, &right))
}

#[cfg(test)]
mod tests;
