//! Opening a ledger: finding out what a crash left, and finishing it with the code that runs live.
//!
//! The groups are the truth. Whatever they hold beyond the last checkpoint was durable, so it may have been
//! acknowledged, so it is integrated and published. Anything that does not fit is a named, fatal error:
//! guessing here could sign a second root for a size.

mod load;
mod read;

use std::{
    path::Path,
    sync::{Arc, OnceLock, RwLock},
};

use common::{
    checkpoint::{Checkpoint, CheckpointError},
    ids::{Hash, LeafIndex},
    ledger_keys::{HistoryFault, LedgerTrust},
    limits::NOTE_BYTES_MAX,
    merkle::empty_root,
    note::{SignerKey, UnverifiedNote},
};

use self::{load::load, read::resume};
pub(crate) use self::{
    load::rebuild,
    read::{LOOKS_MAX, head_of, head_with},
};
use crate::{
    group::{GROUPS, GroupFault, group_path},
    index::{Describe, Index, IndexNews, Tell},
    keys,
    reader::{Published, Reader, checkpoint_path},
    recent::Recent,
    shared::Shared,
    storage::{Storage, StorageError},
    tiles::TileStore,
    writer::{Ledger, PublishError},
};

/// What opening found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Durable leaves.
    pub leaves: u64,
    /// Leaves under the checkpoint found.
    pub found_size: u64,
    /// Groups beyond it, which were integrated and published now.
    pub replayed_groups: usize,
    /// Whether they are published; not so when the disk is full, until a later publish succeeds.
    pub published: bool,
}

/// Why a ledger was not opened. Nothing was changed that is not what recovery would write anyway.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The ledger belongs to another key. Operator: give the right key or another directory.
    #[error("ledger.vkey is {found:?}, the key given is {given:?}")]
    OtherKey {
        /// What the file holds.
        found: String,
        /// Our verifier key.
        given: String,
    },
    /// Another key signs for this ledger now. Operator: give that key.
    #[error("ledger.keys says that {in_force} signs, the key given is {given}")]
    NotInForce {
        /// The key in force.
        in_force: String,
        /// Our verifier key.
        given: String,
    },
    /// The history of keys does not stand. Disk or tampering.
    #[error("ledger.keys: {0}")]
    Keys(#[from] HistoryFault),
    /// There is data but no verifier key beside it: deleted.
    #[error("ledger.vkey is missing though the ledger has data")]
    NoKey,
    /// The checkpoint does not open. Disk or tampering.
    #[error("log/checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A group is damaged. Disk or tampering.
    #[error("{path}: {fault}")]
    Group {
        /// The object.
        path: String,
        /// What is wrong.
        fault: GroupFault,
    },
    /// A group that must be there is not. Deleted, or the directory is an older copy.
    #[error("group of leaf {leaf} is missing, though {evidence}")]
    MissingGroup {
        /// First leaf that is missing.
        leaf: LeafIndex,
        /// What says that it existed.
        evidence: String,
    },
    /// We publish whole groups only, so this checkpoint is another ledger's or another copy's.
    #[error("the checkpoint of {size} leaves ends inside a group")]
    SplitGroup {
        /// Leaves under the checkpoint.
        size: u64,
    },
    /// A file that no ledger has where groups lie.
    #[error("{0} is not the name of a group")]
    StrayObject(String),
    /// A tile or bundle at the tree's edge is damaged. Disk or tampering.
    #[error("{path}: {why}")]
    Resource {
        /// The object.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The tiles at the edge give another root than the checkpoint.
    #[error("tiles give root {computed} for {size} leaves, the checkpoint says {signed}")]
    Root {
        /// Leaves under the checkpoint.
        size: u64,
        /// Root of the tiles.
        computed: Hash,
        /// Root in the checkpoint.
        signed: Hash,
    },
    /// The index cannot be kept. Disk, or its permissions; removing the directory is always safe.
    #[error("index: {0}")]
    Index(String),
    /// Replaying failed; the error says whose fault it is.
    #[error("replaying groups: {0}")]
    Replay(PublishError),
}

impl Ledger {
    /// Opens the ledger in `storage`, or makes one there, and brings every durable leaf under a checkpoint.
    /// `signer`'s name is the ledger's origin; `describe` reads the headers for the index, which is kept in
    /// memory: for tests and small ledgers.
    pub fn open(
        storage: Arc<dyn Storage>,
        signer: SignerKey,
        describe: Describe,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_over(storage, signer, describe, Index::in_memory(), Box::new(|_| ()))?.caught_up()
    }

    /// [`Ledger::open`] with the index in `directory`, which nobody else may write: neither memory nor start
    /// grow with the ledger. `tell` hears whenever the index is built again, then or later.
    pub fn open_indexed(
        storage: Arc<dyn Storage>,
        signer: SignerKey,
        describe: Describe,
        directory: &Path,
        tell: Tell,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_in(storage, signer, describe, directory, tell)?.caught_up()
    }

    /// The same, but leaves beyond the last checkpoint wait for [`Ledger::integrate`], for whoever asks
    /// witnesses before it publishes. Only the checkpoint of no leaves is published at once, and what followed one that
    /// no witness had signed: receipts for that may be with agents already ([`Ledger::show`]), so it must be kept.
    pub fn open_held(
        storage: Arc<dyn Storage>,
        signer: SignerKey,
        describe: Describe,
        directory: &Path,
        tell: Tell,
    ) -> Result<(Self, Recovered), OpenError> {
        let Opened {
            mut ledger,
            mut found,
            shown,
        } = Self::open_in(storage, signer, describe, directory, tell)?;
        if shown {
            return Opened { ledger, found, shown }.caught_up();
        }
        if !found.published && ledger.waiting() == 0 {
            found.published = settled(ledger.publish_genesis())?;
        }
        Ok((ledger, found))
    }

    fn open_in(
        storage: Arc<dyn Storage>,
        signer: SignerKey,
        describe: Describe,
        directory: &Path,
        tell: Tell,
    ) -> Result<Opened, OpenError> {
        let first = keys::first_key(storage.as_ref(), signer.verifier())?;
        let opened = Index::open(directory, &first.to_string());
        let (index, damaged) =
            opened.map_err(|error| OpenError::Index(format!("{}: {error}", directory.display())))?;
        // A ledger that is new has nothing to index, and nothing to say about it.
        let has_groups = storage.length(&group_path(LeafIndex(0)))?.is_some();
        if let Some(damaged) = damaged.filter(|_| has_groups) {
            tell(IndexNews::Building(damaged.0));
        }
        Self::open_over(storage, signer, describe, index, tell)
    }

    fn open_over(
        storage: Arc<dyn Storage>,
        signer: SignerKey,
        describe: Describe,
        mut index: Index,
        tell: Tell,
    ) -> Result<Opened, OpenError> {
        let note = storage.read(&checkpoint_path(), NOTE_BYTES_MAX as u64)?;
        let new = note.is_none() && storage.list(GROUPS)?.is_empty();
        let keys = keys::of_writer(storage.as_ref(), signer.verifier(), new)?;
        let found = note
            .map(|note| {
                keys.open_checkpoint(&note).map(|checkpoint| Published {
                    checkpoint,
                    note: note.into(),
                })
            })
            .transpose()?;
        if found.is_some() {
            storage.settle(&checkpoint_path())?;
        }
        let size = found.as_ref().map_or(0, |published| published.checkpoint.size);
        let loaded = load(storage.as_ref(), describe, size, &mut index, &tell)?;
        let tiles = TileStore::new(Arc::clone(&storage));
        let edge = resume(&tiles, size)?;
        let signed = found
            .as_ref()
            .map_or_else(empty_root, |published| published.checkpoint.root);
        if edge.root() != signed {
            return Err(OpenError::Root {
                size,
                computed: edge.root(),
                signed,
            });
        }
        let shown = size > 0 && found.as_ref().is_some_and(|found| !is_cosigned(&found.note));
        let standing = found.clone().unwrap_or_else(|| unsigned_genesis(keys.origin()));
        let leaves = index.leaves();
        let shared = Shared {
            storage,
            keys,
            tiles,
            published: RwLock::new(standing.clone()),
            stored: RwLock::new(standing),
            index: RwLock::new(index),
            describe,
            tell,
            recent: RwLock::new(Recent::default()),
            poisoned: OnceLock::new(),
        };
        let mut ledger = Self {
            shared: Arc::new(shared),
            signer,
            tip: edge,
        };
        let headers: Vec<&[u8]> = loaded.pending.iter().map(Vec::as_slice).collect();
        ledger
            .grow(&headers)
            .map_err(|why| OpenError::Replay(PublishError::Fatal(why)))?;
        let partials = ledger.tip.partials();
        ledger.shared.tiles.change_fresh(|fresh| fresh.edge(partials));
        let published = found.is_some() && ledger.waiting() == 0;
        Ok(Opened {
            ledger,
            found: Recovered {
                leaves,
                found_size: size,
                replayed_groups: loaded.replayed_groups,
                published,
            },
            shown,
        })
    }
}

/// A ledger whose leaves beyond the last checkpoint are read and not yet published.
struct Opened {
    ledger: Ledger,
    found: Recovered,
    /// Whether receipts for those leaves may be out.
    shown: bool,
}

impl Opened {
    /// Brings every durable leaf under a checkpoint, if the disk has room.
    fn caught_up(self) -> Result<(Ledger, Recovered), OpenError> {
        let Self {
            mut ledger,
            mut found,
            ..
        } = self;
        if !found.published {
            let outcome = if ledger.waiting() == 0 {
                ledger.publish_genesis()
            } else {
                ledger.integrate_and_publish()
            };
            found.published = settled(outcome)?;
        }
        Ok((ledger, found))
    }
}

/// Whether it was published; a full disk is no reason not to open.
fn settled(outcome: Result<Published, PublishError>) -> Result<bool, OpenError> {
    match outcome {
        Ok(_) => Ok(true),
        Err(PublishError::NoSpace(_)) => Ok(false),
        Err(error) => Err(OpenError::Replay(error)),
    }
}

impl Reader {
    /// Looks at the ledger in `storage` as its checkpoint has it, while a writer may be at work: nothing is
    /// changed, and what comes later is not seen. The index is made in memory, 64 bytes a leaf, so this takes as
    /// long as reading the heads of all groups. The keys beside the ledger are believed; whoever is handed what is
    /// read must check it with a key of their own.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(storage: Arc<dyn Storage>, describe: Describe) -> Result<Self, OpenError> {
        let keys = keys::of_reader(storage.as_ref())?;
        let note = storage.read(&checkpoint_path(), NOTE_BYTES_MAX as u64)?;
        let note = note.ok_or_else(|| OpenError::Resource {
            path: checkpoint_path(),
            why: "it is missing: nothing was published yet".into(),
        })?;
        let head = Published {
            checkpoint: keys.open_checkpoint(&note)?,
            note: note.into(),
        };
        let mut index = Index::in_memory();
        let tell: Tell = Box::new(|_| ());
        let size = head.checkpoint.size;
        rebuild(storage.as_ref(), describe, size, &mut index, &tell).map_err(OpenError::Index)?;
        Ok(Self::new(Arc::new(Shared {
            tiles: TileStore::new(Arc::clone(&storage)),
            storage,
            keys,
            published: RwLock::new(head.clone()),
            stored: RwLock::new(head),
            index: RwLock::new(index),
            describe,
            tell,
            recent: RwLock::new(Recent::default()),
            poisoned: OnceLock::new(),
        })))
    }
}

/// Whether others than the ledger signed a note: where witnesses are asked, nothing is shown before it is stored.
fn is_cosigned(note: &[u8]) -> bool {
    UnverifiedNote::parse(note).is_ok_and(|note| note.signatures().len() > 1)
}

/// What stands before the first checkpoint is signed.
fn unsigned_genesis(origin: &str) -> Published {
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size: 0,
        root: empty_root(),
        extensions: Vec::new(),
    };
    Published {
        checkpoint,
        note: Arc::from([]),
    }
}
