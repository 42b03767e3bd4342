//! What the projection needs of a ledger, so that tests can hand it one made by hand.

use common::{
    bundle::Selection,
    ids::{LeafIndex, StatementNumber},
    receipt::Receipt,
};
use ledger::{Ahead, Reader, bundle::ExportError};

/// Longest group that is read whole, bytes.
const AHEAD_BYTES_MAX: u64 = 2 << 20;

/// Why an entry could not be read. The disk, or whoever altered what is on it.
#[derive(Debug, thiserror::Error)]
#[error("leaf {leaf}: {cause}")]
pub struct EntryError {
    /// Which leaf.
    pub leaf: LeafIndex,
    /// Why.
    pub cause: String,
    /// The statement by which the body was pruned, where that is why.
    pub pruned: Option<StatementNumber>,
}

/// A ledger, as readers see it. Blocking.
pub trait Entries: Send + Sync {
    /// Its origin.
    fn origin(&self) -> String;
    /// Leaves under the latest checkpoint.
    fn size(&self) -> u64;
    /// Root of the latest checkpoint, hex.
    fn root(&self) -> String;
    /// Its first key, encoded.
    fn verifier_key(&self) -> String;
    /// The key that signs its checkpoints now, encoded, where that is another one.
    fn key_in_force(&self) -> Option<String> {
        None
    }
    /// The entry at a leaf.
    fn header(&self, leaf: LeafIndex) -> Result<Vec<u8>, EntryError>;
    /// The body beside it.
    fn body(&self, leaf: LeafIndex) -> Result<Vec<u8>, EntryError>;
    /// Entries from a leaf on, with their bodies, that can be had together; none where one by one is as well.
    fn ahead(&self, _leaf: LeafIndex) -> Ahead {
        Ahead::default()
    }
    /// The proof of the entry under the latest checkpoint.
    fn receipt(&self, leaf: LeafIndex) -> Result<Receipt, EntryError>;
    /// The audit bundle that answers a selection, of at most so many bytes.
    fn bundle(&self, selection: &Selection, bytes_max: usize) -> Result<Vec<u8>, ExportError>;
}

impl Entries for Reader {
    fn origin(&self) -> String {
        self.keys().first().name().to_owned()
    }
    fn size(&self) -> u64 {
        self.published().checkpoint.size
    }
    fn root(&self) -> String {
        self.published().checkpoint.root.to_string()
    }
    fn verifier_key(&self) -> String {
        self.keys().first().to_string()
    }
    fn key_in_force(&self) -> Option<String> {
        let keys = self.keys();
        (keys.in_force() != keys.first()).then(|| keys.in_force().to_string())
    }
    fn header(&self, leaf: LeafIndex) -> Result<Vec<u8>, EntryError> {
        Self::header(self, leaf).map_err(|error| named(leaf, &error))
    }
    fn body(&self, leaf: LeafIndex) -> Result<Vec<u8>, EntryError> {
        Self::body(self, leaf).map_err(|error| named(leaf, &error))
    }
    fn ahead(&self, leaf: LeafIndex) -> Ahead {
        Self::ahead(self, leaf, AHEAD_BYTES_MAX)
    }
    fn receipt(&self, leaf: LeafIndex) -> Result<Receipt, EntryError> {
        Self::receipt(self, leaf).map_err(|error| named(leaf, &error))
    }
    fn bundle(&self, selection: &Selection, bytes_max: usize) -> Result<Vec<u8>, ExportError> {
        ledger::bundle::export(self, selection, bytes_max).map(|(bytes, _)| bytes)
    }
}

fn named(leaf: LeafIndex, error: &ledger::ReadError) -> EntryError {
    EntryError {
        leaf,
        cause: error.to_string(),
        pruned: match error {
            ledger::ReadError::Pruned { certificate, .. } => Some(*certificate),
            _ => None,
        },
    }
}
