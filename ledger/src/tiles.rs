//! Reading the tree back: nodes from stored tiles, with a bounded cache.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use common::{
    ids::Hash,
    merkle::{Nodes, root_of},
    tile::{Kind, TILE_HEIGHT, TILE_WIDTH, TilePath},
};

use crate::{
    frontier::tile_hashes,
    storage::{Storage, StorageError},
};

/// Directory of the plain tlog-tiles ledger.
pub const LOG: &str = "log";
/// Tiles kept in memory: 8 MiB.
const CACHE_TILES_MAX: usize = 1024;
/// Longest tile in bytes.
pub(crate) const TILE_BYTES_MAX: u64 = 32 * TILE_WIDTH as u64;
/// Longest entry bundle in bytes.
pub(crate) const BUNDLE_BYTES_MAX: u64 = (2 + 65_535) * TILE_WIDTH as u64;

/// Why a node of the tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TileError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The tile is not there though the checkpoint demands it: deleted.
    #[error("{0} is missing")]
    Missing(String),
    /// The tile has not the length its name says.
    #[error("{path} has {bytes} bytes, too few for its width")]
    Length {
        /// The object.
        path: String,
        /// Its length.
        bytes: usize,
    },
}

/// Object path of a resource.
#[must_use]
pub fn object_path(path: TilePath) -> String {
    format!("{LOG}/{path}")
}

/// Tiles of one ledger.
#[derive(Debug)]
pub struct TileStore {
    storage: Arc<dyn Storage>,
    cache: Mutex<HashMap<TilePath, Arc<Vec<Hash>>>>,
}

impl TileStore {
    /// Tiles in `storage`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            cache: Mutex::default(),
        }
    }

    /// The tree of `size` leaves.
    #[must_use]
    pub fn tree(&self, size: u64) -> Tree<'_> {
        Tree { tiles: self, size }
    }

    /// The hashes at `path`, from the full tile where the partial one has been collected.
    pub fn hashes(&self, path: TilePath) -> Result<Arc<Vec<Hash>>, TileError> {
        if let Some(found) = self.cache().get(&path) {
            return Ok(Arc::clone(found));
        }
        let (bytes, from) = self.bytes(path, TILE_BYTES_MAX)?;
        let width = usize::from(path.width);
        let hashes = tile_hashes(&bytes)
            .and_then(|mut hashes| {
                let enough = hashes.len() >= width;
                hashes.truncate(width);
                enough.then_some(hashes)
            })
            .ok_or(TileError::Length {
                path: object_path(from),
                bytes: bytes.len(),
            })?;
        let hashes = Arc::new(hashes);
        let mut cache = self.cache();
        if cache.len() >= CACHE_TILES_MAX {
            cache.clear();
        }
        cache.insert(path, Arc::clone(&hashes));
        Ok(hashes)
    }

    /// Drops what is cached.
    pub fn forget(&self) {
        self.cache().clear();
    }

    /// The bytes at `path` or of the full resource in its place, and which of the two it was.
    pub(crate) fn bytes(&self, path: TilePath, length_max: u64) -> Result<(Vec<u8>, TilePath), TileError> {
        for candidate in [path, path.full()] {
            if let Some(bytes) = self.storage.read(&object_path(candidate), length_max)? {
                return Ok((bytes, candidate));
            }
        }
        Err(TileError::Missing(object_path(path)))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<TilePath, Arc<Vec<Hash>>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nodes of the tree of one size.
#[derive(Debug)]
pub struct Tree<'a> {
    tiles: &'a TileStore,
    size: u64,
}

impl Nodes for Tree<'_> {
    type Error = TileError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, TileError> {
        let (tile_level, above) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << above;
        let tile = first / u64::from(TILE_WIDTH);
        let missing = || TileError::Missing(format!("tile of node {index} at level {level}"));
        let path = TilePath::in_tree(Kind::Hashes(tile_level), tile, self.size).ok_or_else(missing)?;
        let hashes = self.tiles.hashes(path)?;
        let begin = usize::from((first % u64::from(TILE_WIDTH)).to_le_bytes()[0]);
        let nodes = hashes.get(begin..begin + (1 << above)).ok_or_else(missing)?;
        Ok(root_of(nodes))
    }
}
