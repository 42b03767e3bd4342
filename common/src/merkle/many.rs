//! Hashing many leaves and nodes at once.
//!
//! One SHA-256 waits for its own rounds; independent ones do not wait for each other. Owns the order in which
//! messages are handed over: those of one length together, so that none idles while a longer one ends. The
//! results are those of [`leaf_hash`](super::leaf_hash) and [`node_hash`](super::node_hash), one by one.

use alloc::{vec, vec::Vec};

use tape_sha256::hash_many_prefixed;

use super::{LEAF_PREFIX, NODE_PREFIX, empty_root};
use crate::ids::Hash;

/// Hashes of leaves holding `entries`, in their order.
#[must_use]
pub fn leaf_hashes(entries: &[&[u8]]) -> Vec<Hash> {
    // Length and position in one number sort fastest. No entry of ours comes near 4 GiB; one that did would
    // only be sorted badly.
    let mut order: Vec<u64> = (0..)
        .zip(entries)
        .map(|(at, entry)| (entry.len() as u64) << 32 | at)
        .collect();
    order.sort_unstable();
    let place = |key: u64| usize::try_from(key & u64::from(u32::MAX)).unwrap_or(usize::MAX);
    let sorted: Vec<&[u8]> = order
        .iter()
        .filter_map(|key| entries.get(place(*key)).copied())
        .collect();
    let mut hashed = vec![[0; 32]; sorted.len()];
    hash_many_prefixed(&LEAF_PREFIX, &sorted, &mut hashed);
    let mut hashes = vec![Hash::default(); entries.len()];
    for (key, hash) in order.into_iter().zip(hashed) {
        if let Some(hash_of) = hashes.get_mut(place(key)) {
            *hash_of = Hash(hash);
        }
    }
    hashes
}

/// Root of the tree whose leaves (or equally high complete subtrees, of which only the last may be
/// incomplete) hash to `hashes`. Level by level: an odd node at the end of one is promoted unchanged.
#[must_use]
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut level: Vec<[u8; 32]> = hashes.iter().map(|hash| hash.0).collect();
    while level.len() > 1 {
        let mut above = pairs(&level);
        if level.len() % 2 == 1 {
            above.extend(level.last());
        }
        level = above;
    }
    level.first().map_or_else(empty_root, |root| Hash(*root))
}

/// Roots of all complete subtrees over `hashes`, by their height: the hashes themselves, the nodes above two of
/// them, and so on. One at the end that has no sibling has nothing above it.
#[must_use]
pub fn complete_nodes(hashes: &[Hash]) -> Vec<Vec<Hash>> {
    let mut level: Vec<[u8; 32]> = hashes.iter().map(|hash| hash.0).collect();
    let mut heights = Vec::new();
    while !level.is_empty() {
        heights.push(level.iter().map(|node| Hash(*node)).collect());
        level = pairs(&level);
    }
    heights
}

/// The nodes above each two of `level`, but for an odd one at its end.
fn pairs(level: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let pairs: Vec<&[u8]> = level.as_flattened().chunks_exact(64).collect();
    let mut above = vec![[0; 32]; pairs.len()];
    hash_many_prefixed(&NODE_PREFIX, &pairs, &mut above);
    above
}
