//! Making proofs from whatever holds the tree's nodes.

use alloc::vec::Vec;

use super::{fold_peaks, node_hash};
use crate::ids::Hash;

/// Where the roots of complete subtrees come from: a slice of leaf hashes, tiles on a disk, a cache.
pub trait Nodes {
    /// Why a node could not be had.
    type Error;

    /// Root of the complete subtree over leaves `index << level .. (index + 1) << level`.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Inclusion proof of leaf `index` in the tree of `size` leaves, from the leaf's sibling up to the root's
/// child (RFC 6962 §2.1.1); `None` when the leaf is outside the tree.
pub fn inclusion_proof_from<N: Nodes>(
    nodes: &N,
    index: u64,
    size: u64,
) -> Result<Option<Vec<Hash>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let mut proof = Vec::new();
    // Descend from the root, noting the sibling passed at each fork; the proof wants them bottom up.
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            proof.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(nodes, begin, middle)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Consistency proof from the tree of `old` leaves to that of `new` (RFC 6962 §2.1.2); `None` when `old` is
/// larger. Empty when the sizes are equal or `old` is 0.
pub fn consistency_proof_from<N: Nodes>(
    nodes: &N,
    old: u64,
    new: u64,
) -> Result<Option<Vec<Hash>>, N::Error> {
    if old > new {
        return Ok(None);
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(Some(proof));
    }
    let (mut begin, mut end) = (0, new);
    // Follow the old tree's right edge down until what remains lies wholly inside the old tree.
    while end != old {
        let middle = begin + split(end - begin);
        if old <= middle {
            proof.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(nodes, begin, middle)?);
            begin = middle;
        }
    }
    // When that remainder is the old tree itself, the verifier knows its root already.
    if begin != 0 {
        proof.push(subtree(nodes, begin, end)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Root of the tree's first `size` leaves.
pub fn root_from<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    subtree(nodes, 0, size)
}

/// [`inclusion_proof_from`] over leaf hashes in memory; `None` when `index` is outside.
#[must_use]
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    let (index, size) = (u64::try_from(index).ok()?, u64::try_from(leaves.len()).ok()?);
    inclusion_proof_from(&Slice(leaves), index, size).ok()?
}

/// [`consistency_proof_from`] over leaf hashes in memory; `None` unless `old <= new <= leaves.len()`.
#[must_use]
pub fn consistency_proof(leaves: &[Hash], old: usize, new: usize) -> Option<Vec<Hash>> {
    let (old, new) = (u64::try_from(old).ok()?, u64::try_from(new).ok()?);
    consistency_proof_from(&Slice(leaves), old, new).ok()?
}

/// Largest power of two below `width`, which is at least 2: where RFC 6962 splits a tree of that width.
pub(super) fn split(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

/// Root of the leaves `begin..end`, which a descent by [`split`] has reached, so that its complete subtrees
/// are aligned.
pub(super) fn subtree<N: Nodes>(nodes: &N, begin: u64, end: u64) -> Result<Hash, N::Error> {
    let mut peaks = Vec::new();
    let mut at = begin;
    while at < end {
        let level = (end - at).ilog2();
        // `ilog2` of a u64 is below 64.
        peaks.push(nodes.node(level.to_le_bytes()[0], at >> level)?);
        at += 1 << level;
    }
    Ok(fold_peaks(peaks.into_iter()).unwrap_or_else(super::empty_root))
}

/// Leaf hashes in memory.
pub(super) struct Slice<'a>(pub(super) &'a [Hash]);

/// A node outside the slice.
pub(super) struct Outside;

impl Nodes for Slice<'_> {
    type Error = Outside;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Outside> {
        let width = 1_usize.checked_shl(u32::from(level)).ok_or(Outside)?;
        let begin = usize::try_from(index)
            .ok()
            .and_then(|i| i.checked_mul(width))
            .ok_or(Outside)?;
        let leaves = begin
            .checked_add(width)
            .and_then(|end| self.0.get(begin..end))
            .ok_or(Outside)?;
        Ok(complete_root(leaves))
    }
}

/// Root of a complete subtree: `leaves` is a power of two long and not empty.
fn complete_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            node_hash(&complete_root(left), &complete_root(right))
        }
    }
}
