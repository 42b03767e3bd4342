//! The C2SP ledger: tiles, storage, checkpoints, proofs, fsck.
//!
//! Leaves are opaque headers, bodies lie beside them. One [`Ledger`] writes, any number of [`Reader`]s look
//! on; both work through a small [`storage::Storage`]. Knows no network and no clock, and nothing of what
//! headers mean beyond the [`EntryFacts`] it is given. Layout on disk: `docs/format/ledger.md`.

pub mod anchor;
pub mod audit;
pub mod bundle;
pub mod candidate;
pub mod chain_end;
mod fresh;
pub mod frontier;
pub mod fsck;
pub mod group;
pub mod index;
pub mod kept;
pub mod keys;
pub mod prune;
pub mod reader;
mod recent;
pub mod recovery;
mod shared;
pub mod split;
pub mod storage;
pub mod tiles;
pub mod writer;

pub use candidate::{Candidate, Draft, Stored};
pub use chain_end::{ChainEndError, last_header};
pub use group::Entry;
pub use index::{BatchRecord, Describe, EntryFacts, IndexNews, Tell};
pub use reader::{Ahead, Published, ReadError, Reader};
pub use recovery::{OpenError, Recovered};
pub use storage::{Local, Memory, StorageError};
pub use writer::{AppendError, Ledger, PublishError};
