//! The growing edge of the tree: turns leaves into tiles and entry bundles.
//!
//! One implementation integrates live, recovers at start and recomputes everything for `fsck`. Holds the
//! rightmost partial tile of each level and the partial bundle, at most 256 hashes a level, whatever the
//! ledger's size. Refuses to touch storage: it yields resources and leaves writing to the caller.

use common::{
    ids::Hash,
    merkle::{leaf_hash, root_of},
    tile::{EntryTooLong, Kind, TILE_LEVEL_MAX, TILE_WIDTH, TilePath, push_entry},
};

/// A tile or bundle with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub path: TilePath,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The right edge of a tree of some size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// `levels[l]` holds the hashes of the partial tile at level `l`, fewer than 256.
    levels: Vec<Vec<Hash>>,
    /// The entries of the partial bundle.
    bundle: Vec<u8>,
}

impl Frontier {
    /// The edge of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a tree of `size` leaves from its partial tiles and bundle, lowest level first; the caller
    /// checks the root. Widths that a tree of that size has not give `None`.
    #[must_use]
    pub fn resume(size: u64, levels: Vec<Vec<Hash>>, bundle: Vec<u8>) -> Option<Self> {
        let fits = (0..=TILE_LEVEL_MAX).all(|level| {
            let width = partial_width(size, level);
            levels
                .get(usize::from(level))
                .map_or(width == 0, |hashes| hashes.len() == usize::from(width))
        });
        fits.then_some(Self { size, levels, bundle })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry; full tiles and bundles that it completes go to `out`, lower levels first.
    pub fn push(&mut self, entry: &[u8], out: &mut Vec<Resource>) -> Result<(), EntryTooLong> {
        self.push_hashed(entry, leaf_hash(entry), out)
    }

    /// [`Frontier::push`] where the caller has hashed the entry already.
    pub fn push_hashed(
        &mut self,
        entry: &[u8],
        leaf: Hash,
        out: &mut Vec<Resource>,
    ) -> Result<(), EntryTooLong> {
        push_entry(&mut self.bundle, entry)?;
        let index = self.size / u64::from(TILE_WIDTH);
        self.size += 1;
        if self.size.is_multiple_of(u64::from(TILE_WIDTH)) {
            let path = TilePath {
                kind: Kind::Entries,
                index,
                width: TILE_WIDTH,
            };
            let next = Vec::with_capacity(self.bundle.len());
            out.push(Resource {
                path,
                bytes: std::mem::replace(&mut self.bundle, next),
            });
        }
        self.push_hash(0, leaf, out);
        Ok(())
    }

    /// Root of the tree: each level's partial tile, with what lies below its right end as one more node.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut below: Option<Hash> = None;
        for level in &self.levels {
            let mut nodes = level.clone();
            nodes.extend(below);
            if !nodes.is_empty() {
                below = Some(root_of(&nodes));
            }
        }
        below.unwrap_or_else(common::merkle::empty_root)
    }

    /// The partial tiles and bundle that a checkpoint of this size needs.
    #[must_use]
    pub fn partials(&self) -> Vec<Resource> {
        let mut out = Vec::new();
        if let Some(path) = self.partial(Kind::Entries, 0) {
            out.push(Resource {
                path,
                bytes: self.bundle.clone(),
            });
        }
        for (level, hashes) in (0..=TILE_LEVEL_MAX).zip(&self.levels) {
            if let Some(path) = self.partial(Kind::Hashes(level), level) {
                out.push(Resource {
                    path,
                    bytes: tile_bytes(hashes),
                });
            }
        }
        out
    }

    fn partial(&self, kind: Kind, level: u8) -> Option<TilePath> {
        let index = self.size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        TilePath::in_tree(kind, index, self.size)
    }

    fn push_hash(&mut self, level: u8, hash: Hash, out: &mut Vec<Resource>) {
        let (mut level, mut hash) = (level, hash);
        loop {
            let at = usize::from(level);
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
            }
            let tile = &mut self.levels[at];
            tile.push(hash);
            if tile.len() < usize::from(TILE_WIDTH) {
                return;
            }
            let index = (self.size - 1)
                .checked_shr(8 * (u32::from(level) + 1))
                .unwrap_or(0);
            out.push(Resource {
                path: TilePath {
                    kind: Kind::Hashes(level),
                    index,
                    width: TILE_WIDTH,
                },
                bytes: tile_bytes(tile),
            });
            hash = root_of(tile);
            tile.clear();
            level += 1;
        }
    }
}

/// Hashes in the partial tile at `level` of a tree of `size` leaves.
#[must_use]
pub fn partial_width(size: u64, level: u8) -> u16 {
    let count = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    u16::from(count.to_le_bytes()[0])
}

/// The bytes of a tile.
#[must_use]
pub fn tile_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile; `None` unless it is a whole number of them.
#[must_use]
pub fn tile_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty()
        .then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_edge_has_the_root_and_the_tiles_of_the_whole() {
        let mut edge = Frontier::new();
        let (mut out, mut leaves) = (Vec::new(), Vec::new());
        for i in 0..66_000_u32 {
            let near_a_boundary = matches!(i % 65_536, 0..3 | 255..259 | 511..515 | 65_533..=65_535);
            if near_a_boundary || i % 7919 == 0 {
                assert_eq!(edge.root(), root_of(&leaves), "size {i}");
                let levels = (0..3).map(|level| edge.levels.get(level).cloned().unwrap_or_default());
                let resumed = Frontier::resume(edge.size, levels.collect(), edge.bundle.clone()).unwrap();
                assert_eq!(resumed.root(), edge.root());
            }
            edge.push(&i.to_be_bytes(), &mut out).unwrap();
            leaves.push(leaf_hash(&i.to_be_bytes()));
        }
        out.extend(edge.partials());
        let tiles: BTreeMap<String, Vec<u8>> = out
            .into_iter()
            .map(|resource| (resource.path.to_string(), resource.bytes))
            .collect();
        assert_eq!(tiles["tile/0/001"], tile_bytes(&leaves[256..512]));
        assert_eq!(tiles["tile/0/257.p/208"], tile_bytes(&leaves[65_792..]));
        assert_eq!(tiles["tile/1/000"][32..64], root_of(&leaves[256..512]).0);
        assert_eq!(tiles["tile/1/001.p/1"], root_of(&leaves[65_536..65_792]).0);
        assert_eq!(tiles["tile/2/000.p/1"], root_of(&leaves[..65_536]).0);
        assert_eq!(tiles.len(), 257 * 2 + 1 + 2 + 1 + 1);
        assert_eq!(Frontier::resume(3, vec![vec![]], vec![]), None);
    }
}
