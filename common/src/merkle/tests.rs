//! The tree against a naive reading of RFC 6962, known vectors, and mutated proofs.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// MTH of RFC 6962 §2.1, word by word.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of(b""),
        [one] => *one,
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            node_hash(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
        }
    }
}

/// PATH of RFC 6962 §2.1.1.
fn naive_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut path, last) = if m < k {
        (naive_path(m, &leaves[..k]), naive_root(&leaves[k..]))
    } else {
        (naive_path(m - k, &leaves[k..]), naive_root(&leaves[..k]))
    };
    path.push(last);
    path
}

/// SUBPROOF of RFC 6962 §2.1.2.
fn naive_subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            Vec::from([naive_root(leaves)])
        };
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut proof, last) = if m <= k {
        (naive_subproof(m, &leaves[..k], whole), naive_root(&leaves[k..]))
    } else {
        (
            naive_subproof(m - k, &leaves[k..], false),
            naive_root(&leaves[..k]),
        )
    };
    proof.push(last);
    proof
}

fn leaves(n: usize) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

#[test]
fn known_vectors_of_certificate_transparency() {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let hashes: Vec<Hash> = inputs.iter().map(|input| leaf_hash(input)).collect();
    let root = |n: usize| std::format!("{}", root_of(&hashes[..n]));
    assert_eq!(
        root(0),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        root(1),
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
    assert_eq!(
        root(2),
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    );
    assert_eq!(
        root(8),
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    );
}

#[test]
fn every_proof_of_every_small_tree() {
    let all = leaves(70);
    for size in 0..=all.len() {
        let tree = &all[..size];
        let root = root_of(tree);
        assert_eq!(root, naive_root(tree));
        for index in 0..size {
            let proof = inclusion_proof(tree, index).unwrap();
            assert_eq!(proof, naive_path(index, tree), "leaf {index} of {size}");
            verify_inclusion(&tree[index], index as u64, size as u64, &proof, &root).unwrap();
        }
        assert_eq!(inclusion_proof(tree, size), None);
        for old in 0..=size {
            let proof = consistency_proof(tree, old, size).unwrap();
            if old > 0 {
                assert_eq!(proof, naive_subproof(old, tree, true), "{old} to {size}");
            }
            verify_consistency(old as u64, &root_of(&all[..old]), size as u64, &root, &proof).unwrap();
        }
    }
}

#[test]
fn complete_nodes_are_the_roots_of_complete_subtrees() {
    let all = leaves(300);
    for size in [0, 1, 2, 3, 7, 8, 255, 256, 300] {
        let heights = complete_nodes(&all[..size]);
        let expected = (0..)
            .map(|height| 1_usize << height)
            .take_while(|width| *width <= size);
        assert_eq!(heights.len(), expected.clone().count(), "size {size}");
        for (nodes, width) in heights.iter().zip(expected) {
            let roots: Vec<Hash> = all[..size].chunks_exact(width).map(naive_root).collect();
            assert_eq!(*nodes, roots, "width {width} of size {size}");
        }
    }
}

#[test]
fn positions_at_the_end_of_the_number_range_do_not_overflow() {
    let hash = Hash([7; 32]);
    let long = [hash; PROOF_HASHES_MAX];
    for size in [u64::MAX, u64::MAX - 1, 1 << 63] {
        for index in [0, size / 2, size - 1] {
            for count in 0..=long.len() {
                let _ = root_from_inclusion(&hash, index, size, &long[..count]);
                let _ = verify_consistency(index, &hash, size, &hash, &long[..count]);
            }
        }
    }
    assert_eq!(
        root_from_inclusion(&hash, 5, 5, &[]),
        Err(ProofError::OutsideTree { index: 5, size: 5 })
    );
}

#[test]
fn an_empty_tree_has_one_root_only() {
    let (forged, root) = (Hash([1; 32]), root_of(&leaves(3)));
    assert!(verify_consistency(0, &empty_root(), 3, &root, &[]).is_ok());
    assert!(verify_consistency(0, &forged, 3, &root, &[]).is_err());
    assert!(verify_consistency(0, &forged, 0, &forged, &[]).is_err());
}

proptest! {
    #[test]
    fn prop_mutated_inclusion_proofs_fail(
        size in 1usize..600, pick: prop::sample::Index, at: prop::sample::Index, bit in 0usize..256, how in 0u8..4,
    ) {
        let tree = leaves(size);
        let root = root_of(&tree);
        let index = pick.index(size);
        let mut proof = inclusion_proof(&tree, index).unwrap();
        let mut leaf = tree[index];
        match how {
            0 if !proof.is_empty() => { let at = at.index(proof.len()); proof[at].0[bit / 8] ^= 1 << (bit % 8); }
            1 if !proof.is_empty() => { let at = at.index(proof.len()); proof.remove(at); }
            2 => proof.insert(at.index(proof.len() + 1), Hash([9; 32])),
            _ => leaf.0[bit / 8] ^= 1 << (bit % 8),
        }
        prop_assert!(verify_inclusion(&leaf, index as u64, size as u64, &proof, &root).is_err());
    }

    #[test]
    fn prop_mutated_consistency_proofs_fail(
        size in 2usize..600, pick: prop::sample::Index, at: prop::sample::Index, bit in 0usize..256, how in 0u8..4,
    ) {
        let tree = leaves(size);
        let old = 1 + pick.index(size - 1);
        let (mut old_root, mut root) = (root_of(&tree[..old]), root_of(&tree));
        let mut proof = consistency_proof(&tree, old, size).unwrap();
        match how {
            0 => { let at = at.index(proof.len()); proof[at].0[bit / 8] ^= 1 << (bit % 8); }
            1 => { let at = at.index(proof.len()); proof.remove(at); }
            2 => old_root.0[bit / 8] ^= 1 << (bit % 8),
            _ => root.0[bit / 8] ^= 1 << (bit % 8),
        }
        prop_assert!(verify_consistency(old as u64, &old_root, size as u64, &root, &proof).is_err());
    }

    #[test]
    fn prop_appending_one_by_one_gives_the_same_root(size in 0usize..2000) {
        prop_assert_eq!(root_of(&leaves(size)), naive_root(&leaves(size)));
    }
}

/// Each way the many may be spread over the processor's lanes: every length across several blocks, in an order
/// that mixes them, in groups of every size up to twice the widest there is.
#[test]
fn many_leaves_hash_as_each_by_itself_at_every_length() {
    let entries: Vec<Vec<u8>> = (0..600_usize)
        .map(|i| {
            (0..i * 7919 % 331)
                .map(|j| (i * 31 + j * 7).to_le_bytes()[0])
                .collect()
        })
        .collect();
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let alone: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    assert_eq!(leaf_hashes(&entries), alone);
    for count in 0..=64 {
        let from = count * 7;
        assert_eq!(
            leaf_hashes(&entries[from..from + count]),
            alone[from..from + count],
            "{count}"
        );
    }
}

proptest! {
    #[test]
    fn prop_many_leaves_hash_as_each_by_itself(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..80)
    ) {
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let alone: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        prop_assert_eq!(leaf_hashes(&entries), alone);
    }

    #[test]
    fn prop_a_root_is_the_one_grown_leaf_by_leaf(count in 0_usize..3000) {
        let leaves = leaves(count);
        let mut range = CompactRange::new();
        for leaf in &leaves {
            range.push(*leaf);
        }
        prop_assert_eq!(root_of(&leaves), range.root());
    }
}
