//! One proof for many leaves: the inclusion proofs of all of them, each shared hash once.
//!
//! The tree is descended from its root as RFC 6962 splits it. A range that holds none of the leaves is one hash
//! of the proof, a range of one leaf is that leaf, any other is split. So which hashes a proof has, and in
//! which order, follows from the leaves and the size alone: there is one proof for each question.

use alloc::vec::Vec;

use super::{
    Nodes, ProofError, empty_root, node_hash,
    prove::{split, subtree},
};
use crate::ids::Hash;

/// The hashes that prove the leaves `indices` (ascending) of the tree of `size`; `None` where they do not
/// ascend or leave the tree.
pub fn multi_proof_from<N: Nodes>(
    nodes: &N,
    indices: &[u64],
    size: u64,
) -> Result<Option<Vec<Hash>>, N::Error> {
    let inside = indices.last().is_none_or(|last| *last < size);
    if !inside || !indices.is_sorted_by(|a, b| a < b) {
        return Ok(None);
    }
    let mut proof = Vec::new();
    if size > 0 {
        prove(nodes, indices, 0, size, &mut proof)?;
    }
    Ok(Some(proof))
}

fn prove<N: Nodes>(
    nodes: &N,
    indices: &[u64],
    begin: u64,
    end: u64,
    proof: &mut Vec<Hash>,
) -> Result<(), N::Error> {
    if indices.is_empty() {
        proof.push(subtree(nodes, begin, end)?);
        return Ok(());
    }
    if end - begin == 1 {
        return Ok(());
    }
    let middle = begin + split(end - begin);
    let (left, right) = indices.split_at(indices.partition_point(|index| *index < middle));
    prove(nodes, left, begin, middle, proof)?;
    prove(nodes, right, middle, end, proof)
}

/// [`multi_proof_from`] over leaf hashes in memory.
#[must_use]
pub fn multi_proof(leaves: &[Hash], indices: &[u64]) -> Option<Vec<Hash>> {
    let size = u64::try_from(leaves.len()).ok()?;
    multi_proof_from(&super::prove::Slice(leaves), indices, size).ok()?
}

/// The root that `leaves` (index and leaf hash, ascending) and a proof lead to; the caller compares it with
/// one it trusts. Every hash of the proof must be used.
///
/// # Errors
/// Whoever supplied the proof is at fault: leaves that do not ascend or lie outside the tree, a proof of
/// another length than they need.
pub fn root_from_multi(leaves: &[(u64, Hash)], size: u64, proof: &[Hash]) -> Result<Hash, ProofError> {
    if let Some((index, _)) = leaves.last().filter(|(index, _)| *index >= size) {
        return Err(ProofError::OutsideTree { index: *index, size });
    }
    if let Some(pair) = leaves.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        return Err(ProofError::Order { index: pair[1].0 });
    }
    let mut walk = Walk { proof, used: 0 };
    let root = if size == 0 {
        empty_root()
    } else {
        walk.root(leaves, 0, size)
    };
    if walk.used == proof.len() {
        Ok(root)
    } else {
        Err(ProofError::Length {
            found: proof.len(),
            expected: walk.used,
        })
    }
}

struct Walk<'a> {
    proof: &'a [Hash],
    used: usize,
}

impl Walk<'_> {
    /// Root of the leaves `begin..end`. Descends only where leaves are, so the work is bounded by their number;
    /// a hash that is not there counts as used, so that the lengths differ at the end.
    fn root(&mut self, leaves: &[(u64, Hash)], begin: u64, end: u64) -> Hash {
        let Some((_, first)) = leaves.first() else {
            let hash = self.proof.get(self.used).copied().unwrap_or_default();
            self.used += 1;
            return hash;
        };
        if end - begin == 1 {
            return *first;
        }
        let middle = begin + split(end - begin);
        let (left, right) = leaves.split_at(leaves.partition_point(|(index, _)| *index < middle));
        let left = self.root(left, begin, middle);
        let right = self.root(right, middle, end);
        node_hash(&left, &right)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle::{inclusion_proof, leaf_hash, root_of};

    fn tree(size: u64) -> Vec<Hash> {
        (0..size).map(|leaf| leaf_hash(&leaf.to_be_bytes())).collect()
    }

    #[test]
    fn no_leaf_is_the_root_and_one_leaf_is_its_inclusion_proof() {
        let leaves = tree(7);
        assert_eq!(multi_proof(&leaves, &[]), Some([root_of(&leaves)].to_vec()));
        assert_eq!(multi_proof(&[], &[]), Some(Vec::new()));
        assert_eq!(root_from_multi(&[], 0, &[]), Ok(empty_root()));
        for index in 0..7 {
            let mut path = inclusion_proof(&leaves, index).unwrap();
            let mut shared = multi_proof(&leaves, &[index as u64]).unwrap();
            path.sort();
            shared.sort();
            assert_eq!(path, shared);
        }
        assert_eq!(multi_proof(&leaves, &[7]), None);
        assert_eq!(multi_proof(&leaves, &[2, 2]), None);
    }

    #[test]
    fn a_huge_size_costs_no_more_than_its_levels() {
        let leaf = (u64::MAX - 1, Hash::default());
        let expected = ProofError::Length {
            found: 0,
            expected: 64,
        };
        assert!(matches!(
            root_from_multi(&[leaf], u64::MAX, &[]),
            Err(ProofError::Length { found: 0, .. })
        ));
        assert_eq!(
            root_from_multi(&[(0, Hash::default())], u64::MAX, &[]),
            Err(expected)
        );
    }

    proptest! {
        #[test]
        fn prop_what_is_proven_holds_and_nothing_else(size in 1_u64..200, picks: u64, salt: u64, at: prop::sample::Index) {
            let hashes = tree(size);
            let chosen: Vec<u64> = (0..size).filter(|leaf| (picks.rotate_left(u32::try_from(leaf % 64).unwrap()) ^ salt) & 3 == 0).collect();
            let proof = multi_proof(&hashes, &chosen).unwrap();
            let leaves: Vec<(u64, Hash)> = chosen.iter().map(|leaf| (*leaf, hashes[usize::try_from(*leaf).unwrap()])).collect();
            let root = root_of(&hashes);
            prop_assert_eq!(root_from_multi(&leaves, size, &proof), Ok(root));
            if !proof.is_empty() {
                let mut bad = proof.clone();
                bad[at.index(proof.len())].0[3] ^= 1;
                prop_assert_ne!(root_from_multi(&leaves, size, &bad), Ok(root));
                prop_assert!(root_from_multi(&leaves, size, &proof[1..]).is_err());
            }
            let mut long = proof.clone();
            long.push(Hash::default());
            prop_assert!(root_from_multi(&leaves, size, &long).is_err());
            if !leaves.is_empty() {
                let mut bad = leaves.clone();
                bad[at.index(leaves.len())].1.0[0] ^= 1;
                prop_assert_ne!(root_from_multi(&bad, size, &proof), Ok(root));
            }
        }
    }
}
