//! Hashing many leaves and nodes at once.
//!
//! One SHA-256 waits for its own rounds; independent ones do not wait for each other. Owns the order in which
//! messages are handed over: those of as many blocks together, so that none idles while a longer one ends. The
//! results are those of [`leaf_hash`](super::leaf_hash) and [`node_hash`](super::node_hash), one by one.

use alloc::{vec, vec::Vec};

use tape_sha256::hash_many_prefixed;

use super::{LEAF_PREFIX, NODE_PREFIX, empty_root};
use crate::ids::Hash;

/// Hashes of leaves holding `entries`, in their order.
#[must_use]
pub fn leaf_hashes(entries: &[&[u8]]) -> Vec<Hash> {
    let blocks = entries.iter().map(|entry| blocks_of_leaf(entry));
    let (fewest, most) = blocks.fold((usize::MAX, 0), |(fewest, most), blocks| {
        (fewest.min(blocks), most.max(blocks))
    });
    if fewest >= most {
        return hashes_of(entries);
    }
    // Counted, then placed: where the next leaf of so many blocks goes.
    let mut next = vec![0; most - fewest + 2];
    for entry in entries {
        next[blocks_of_leaf(entry) - fewest + 1] += 1;
    }
    let mut before = 0;
    for first in &mut next {
        before += *first;
        *first = before;
    }
    let (mut sorted, mut places) = (vec![&[][..]; entries.len()], Vec::with_capacity(entries.len()));
    for entry in entries {
        let place = &mut next[blocks_of_leaf(entry) - fewest];
        sorted[*place] = *entry;
        places.push(*place);
        *place += 1;
    }
    let hashed = hashes_of(&sorted);
    places.into_iter().map(|place| hashed[place]).collect()
}

/// Blocks that SHA-256 makes of a leaf: its prefix and bytes, a bit that ends them and their length.
fn blocks_of_leaf(entry: &[u8]) -> usize {
    (LEAF_PREFIX.len() + entry.len() + 1 + 8).div_ceil(64)
}

fn hashes_of(leaves: &[&[u8]]) -> Vec<Hash> {
    let mut hashed = vec![[0; 32]; leaves.len()];
    hash_many_prefixed(&LEAF_PREFIX, leaves, &mut hashed);
    hashed.into_iter().map(Hash).collect()
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
