//! Checking proofs. Everything comes from the other side, so every length and relation is checked and a
//! proof longer or shorter than its tree demands is refused.

use super::{PROOF_HASHES_MAX, empty_root, node_hash};
use crate::ids::Hash;

/// Why a proof does not hold. Whoever supplied the proof, or the root it is checked against, is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf asked for is not in a tree of this size.
    #[error("leaf {index} is outside a tree of {size} leaves")]
    OutsideTree {
        /// The leaf.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The tree that should have grown is larger than the one it grew into.
    #[error("tree shrank from {old} to {new} leaves")]
    Shrank {
        /// Leaves before.
        old: u64,
        /// Leaves after.
        new: u64,
    },
    /// Leaves proven together do not ascend.
    #[error("leaf {index} is out of order")]
    Order {
        /// The leaf that does not lie beyond the one before it.
        index: u64,
    },
    /// The number of hashes is not the one this position and size demand.
    #[error("proof has {found} hashes where {expected} are needed")]
    Length {
        /// Hashes supplied.
        found: usize,
        /// Hashes needed.
        expected: usize,
    },
    /// The proof leads to another root than the one claimed.
    #[error("proof leads to root {computed}, not to {claimed}")]
    Root {
        /// Root that the proof gives.
        computed: Hash,
        /// Root it was checked against.
        claimed: Hash,
    },
}

/// Checks that `leaf` (a leaf hash) stands at `index` in the tree of `size` leaves with `root`.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    same_root(root_from_inclusion(leaf, index, size, proof)?, root)
}

/// The root that an inclusion proof leads to; the caller compares it with one it trusts.
pub fn root_from_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::OutsideTree { index, size });
    }
    // Below `inner` the path has a sibling at every level; above, only where the path turns right.
    let inner = bits(index ^ (size - 1));
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    let expected = count(inner) + count(border);
    if proof.len() != expected || proof.len() > PROOF_HASHES_MAX {
        return Err(ProofError::Length {
            found: proof.len(),
            expected,
        });
    }
    let (siblings, lefts) = proof.split_at(count(inner));
    let mut node = *leaf;
    for (level, sibling) in siblings.iter().enumerate() {
        node = if index >> level & 1 == 0 {
            node_hash(&node, sibling)
        } else {
            node_hash(sibling, &node)
        };
    }
    Ok(lefts.iter().fold(node, |node, left| node_hash(left, &node)))
}

/// Checks that the tree of `new` leaves with `new_root` extends the tree of `old` leaves with `old_root`.
/// Every tree extends the empty one, whose root must then be the root of nothing.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Shrank { old, new });
    }
    if old == new || old == 0 {
        if !proof.is_empty() {
            return Err(ProofError::Length {
                found: proof.len(),
                expected: 0,
            });
        }
        if old == 0 {
            same_root(empty_root(), old_root)?;
        }
        return if new == old {
            same_root(*old_root, new_root)
        } else {
            Ok(())
        };
    }
    // The walk starts at the largest complete subtree on the old tree's right edge.
    let shift = old.trailing_zeros();
    let edge = (old - 1) >> shift;
    let inner = bits((old - 1) ^ (new - 1)) - shift;
    let border = edge.checked_shr(inner).unwrap_or(0).count_ones();
    let whole = old.is_power_of_two();
    let expected = count(inner) + count(border) + usize::from(!whole);
    if proof.len() != expected || proof.len() > PROOF_HASHES_MAX {
        return Err(ProofError::Length {
            found: proof.len(),
            expected,
        });
    }
    let (seed, path) = match proof.split_first() {
        Some((first, rest)) if !whole => (*first, rest),
        _ => (*old_root, proof),
    };
    let (siblings, lefts) = path.split_at(count(inner));
    let (mut old_node, mut new_node) = (seed, seed);
    for (level, sibling) in siblings.iter().enumerate() {
        if edge >> level & 1 == 0 {
            // The sibling lies to the right of the old tree: only the new tree has it.
            new_node = node_hash(&new_node, sibling);
        } else {
            old_node = node_hash(sibling, &old_node);
            new_node = node_hash(sibling, &new_node);
        }
    }
    for left in lefts {
        old_node = node_hash(left, &old_node);
        new_node = node_hash(left, &new_node);
    }
    same_root(old_node, old_root)?;
    same_root(new_node, new_root)
}

fn same_root(computed: Hash, claimed: &Hash) -> Result<(), ProofError> {
    if computed == *claimed {
        Ok(())
    } else {
        Err(ProofError::Root {
            computed,
            claimed: *claimed,
        })
    }
}

/// Bits needed to write `value`; 0 for 0.
fn bits(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// A number of levels (at most 64) as a length.
fn count(levels: u32) -> usize {
    usize::from(levels.to_le_bytes()[0])
}
