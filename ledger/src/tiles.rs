//! Reading the tree back: nodes from tiles, those that wait to be stored included, with a bounded cache.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use common::{
    ids::Hash,
    merkle::{Nodes, complete_nodes},
    tile::{Kind, TILE_HEIGHT, TILE_WIDTH, TilePath},
};

use crate::{
    fresh::Fresh,
    frontier::tile_hashes,
    storage::{Storage, StorageError},
};

/// Directory of the plain tlog-tiles ledger.
pub const LOG: &str = "log";
/// Tiles kept in memory, with the nodes inside them: 8 MiB.
const CACHE_TILES_MAX: usize = 512;
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

/// One tile with the nodes inside it, computed once.
#[derive(Debug)]
pub struct Tile {
    /// By height within the tile: its hashes, the nodes above two of them, and so on.
    heights: Vec<Vec<Hash>>,
}

impl Tile {
    fn new(hashes: &[Hash]) -> Self {
        Self {
            heights: complete_nodes(hashes),
        }
    }

    /// Its hashes.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        self.heights.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// The root of the complete subtree of this height at this place among those of its height.
    fn node(&self, height: u8, place: usize) -> Option<Hash> {
        self.heights.get(usize::from(height))?.get(place).copied()
    }
}

/// Tiles of one ledger.
#[derive(Debug)]
pub struct TileStore {
    storage: Arc<dyn Storage>,
    fresh: RwLock<Fresh>,
    /// By the full form of the name. A tile only ever grows, so a wider one serves whoever asks for less.
    cache: Mutex<HashMap<TilePath, Arc<Tile>>>,
}

impl TileStore {
    /// Tiles in `storage`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            fresh: RwLock::default(),
            cache: Mutex::default(),
        }
    }

    /// The tree of `size` leaves.
    #[must_use]
    pub fn tree(&self, size: u64) -> Tree<'_> {
        Tree { tiles: self, size }
    }

    /// The tile at `path` or a wider form of it: from the full one where the partial one has been collected.
    pub fn tile(&self, path: TilePath) -> Result<Arc<Tile>, TileError> {
        let width = usize::from(path.width);
        if let Some(found) = self.cache().get(&path.full())
            && found.hashes().len() >= width
        {
            return Ok(Arc::clone(found));
        }
        let fresh = self.fresh(|fresh| fresh.widest(path));
        let (bytes, from) = match &fresh {
            Some(resource) => (Cow::Borrowed(&resource.bytes), resource.path),
            None => {
                let (bytes, from) = self.bytes(path, TILE_BYTES_MAX)?;
                (Cow::Owned(bytes), from)
            }
        };
        let hashes = tile_hashes(&bytes).filter(|hashes| hashes.len() >= width);
        let mut hashes = hashes.ok_or_else(|| TileError::Length {
            path: object_path(from),
            bytes: bytes.len(),
        })?;
        hashes.truncate(usize::from(from.width));
        let tile = Arc::new(Tile::new(&hashes));
        let mut cache = self.cache();
        if cache.len() >= CACHE_TILES_MAX {
            cache.clear();
        }
        cache.insert(path.full(), Arc::clone(&tile));
        Ok(tile)
    }

    /// The bytes at `path` and in that width, waiting to be stored or stored.
    pub(crate) fn exactly(&self, path: TilePath, length_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        match self.fresh(|fresh| fresh.bytes(path)) {
            Some(bytes) => Ok(Some(bytes)),
            None => self.storage.read(&object_path(path), length_max),
        }
    }

    /// Looks at what waits to be stored.
    pub(crate) fn fresh<T>(&self, look: impl FnOnce(&Fresh) -> T) -> T {
        look(&self.fresh.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what waits to be stored: the writer alone does.
    pub(crate) fn change_fresh(&self, change: impl FnOnce(&mut Fresh)) {
        change(&mut self.fresh.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The stored bytes at `path`, or of the full resource or a wider partial one in its place, and which of them it
    /// was: of what a collector showed, not every width was stored.
    pub(crate) fn bytes(&self, path: TilePath, length_max: u64) -> Result<(Vec<u8>, TilePath), TileError> {
        for candidate in [path, path.full()] {
            if let Some(bytes) = self.storage.read(&object_path(candidate), length_max)? {
                return Ok((bytes, candidate));
            }
        }
        // Who serves a log lists nothing, and serves every width itself.
        let partials = self.storage.list(&format!("{}.p", object_path(path.full())));
        let widths = partials.unwrap_or_default().into_iter().filter_map(|found| {
            let width = found.rsplit_once('/')?.1.parse().ok()?;
            (width > path.width).then_some(TilePath { width, ..path })
        });
        if let Some(wider) = widths.min_by_key(|wider| wider.width)
            && let Some(bytes) = self.storage.read(&object_path(wider), length_max)?
        {
            return Ok((bytes, wider));
        }
        Err(TileError::Missing(object_path(path)))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<TilePath, Arc<Tile>>> {
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
        let begin = usize::from((first % u64::from(TILE_WIDTH)).to_le_bytes()[0]);
        self.tiles
            .tile(path)?
            .node(above, begin >> above)
            .ok_or_else(missing)
    }
}
