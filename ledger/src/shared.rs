//! What a ledger's writer and its readers share.
//!
//! Owns the word on whether anything may be written any more, and how often a wrong index is built again.

use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use common::ledger_keys::LedgerKeys;

use crate::{
    index::{Describe, Index, IndexNews, Tell},
    reader::Published,
    recent::Recent,
    recovery::rebuild,
    storage::Storage,
    tiles::TileStore,
};

/// Times the index is built again while the ledger is open: more often, something writes to it.
const REBUILDS_MAX: u32 = 3;

/// What writer and readers share.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) keys: LedgerKeys,
    pub(crate) tiles: TileStore,
    pub(crate) published: RwLock<Published>,
    /// The checkpoint on disk: `published` or an earlier one.
    pub(crate) stored: RwLock<Published>,
    pub(crate) index: RwLock<Index>,
    pub(crate) describe: Describe,
    pub(crate) tell: Tell,
    pub(crate) recent: RwLock<Recent>,
    /// Why nothing may be written any more.
    pub(crate) poisoned: OnceLock<String>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("storage", &self.storage)
            .field("keys", &self.keys.first())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Leaves under the checkpoint on disk.
    pub(crate) fn stored_size(&self) -> u64 {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.checkpoint.size
    }

    /// From now on readers see `head`.
    pub(crate) fn show(&self, head: &Published) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = head.clone();
    }

    /// Whether the outcome of every write is known, or why not.
    pub(crate) fn sound(&self) -> Result<(), String> {
        self.poisoned.get().cloned().map_or(Ok(()), Err)
    }

    /// From now on nothing is written; the first cause stays.
    pub(crate) fn poison(&self, cause: &dyn std::error::Error) -> String {
        self.poisoned.get_or_init(|| cause.to_string()).clone()
    }

    /// Builds `index` again up to `leaves`, for it was found wrong.
    pub(crate) fn rebuild(&self, index: &mut Index, leaves: u64, why: &str) -> Result<(), String> {
        if index.rebuilt() >= REBUILDS_MAX {
            return Err(format!(
                "{why}, though built again {REBUILDS_MAX} times: who writes to it?"
            ));
        }
        (self.tell)(IndexNews::Building(why.to_owned()));
        rebuild(self.storage.as_ref(), self.describe, leaves, index, &self.tell)
            .inspect_err(|why| index.give_up(leaves, why))
    }
}
