//! RFC 6962 Merkle trees over SHA-256. (Minimal form; proofs follow.)

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::ids::Hash;

/// Hash of a leaf: `SHA-256(0x00 || data)`, RFC 6962 §2.1.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(data);
    Hash(hash.finalize().into())
}

/// Hash of an inner node: `SHA-256(0x01 || left || right)`, RFC 6962 §2.1.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left.0);
    hash.update(right.0);
    Hash(hash.finalize().into())
}

/// Root of the tree with these leaf hashes; of no leaves, `SHA-256("")`.
#[must_use]
pub fn root_of(leaves: &[Hash]) -> Hash {
    if leaves.is_empty() {
        return Hash::of(b"");
    }
    let mut level: Vec<Hash> = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node_hash(left, right),
                odd => odd.first().copied().unwrap_or_default(),
            })
            .collect();
    }
    level.first().copied().unwrap_or_default()
}
