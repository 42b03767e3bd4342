//! Reading a ledger while it grows: entries, proofs, receipts.
//!
//! Cheap to clone and safe to use from any thread. Nothing read from disk is handed out unchecked: headers
//! are compared with their leaf hash, bodies with their checksum, proofs are verified before they leave.

mod ahead;

use std::{
    ops::Range,
    sync::{Arc, PoisonError},
};

use common::{
    checkpoint::Checkpoint,
    ids::{Hash, HostId, LeafIndex, Sequence, StatementNumber},
    ledger_keys::LedgerKeys,
    merkle::{
        ProofError, consistency_proof_from, inclusion_proof_from, leaf_hash, multi_proof_from, root_from,
        verify_consistency, verify_inclusion,
    },
    receipt::Receipt,
    tile::{Kind, TILE_WIDTH, TilePath},
};

use crate::{
    group::{Place, group_path},
    index::{BatchRecord, Damaged, EntryFacts, Index, Location},
    kept::{Kept, kept_path},
    recovery::{LOOKS_MAX, head_with},
    shared::Shared,
    storage::{Storage, StorageError},
    tiles::{BUNDLE_BYTES_MAX, LOG, TILE_BYTES_MAX, TileError},
};

pub use self::ahead::Ahead;

/// The latest checkpoint, verified, with the note's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Size and root.
    pub checkpoint: Checkpoint,
    /// The signed note, byte for byte.
    pub note: Arc<[u8]>,
}

/// Why something could not be read from a ledger.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not a leaf of this ledger. The caller.
    #[error("leaf {leaf} is beyond the ledger's {leaves} leaves")]
    NoSuchLeaf {
        /// The leaf.
        leaf: LeafIndex,
        /// Leaves there are.
        leaves: u64,
    },
    /// Durable, but no checkpoint covers it yet: ask again after the next one.
    #[error("leaf {leaf} is not yet under a checkpoint, the latest has {size} leaves")]
    NotPublished {
        /// The leaf.
        leaf: LeafIndex,
        /// Leaves under the latest checkpoint.
        size: u64,
    },
    /// A size that has no checkpoint here, or an order of sizes that proves nothing. The caller.
    #[error("no consistency proof from {old} to {new} leaves, the ledger has {size}")]
    NoSuchSize {
        /// Earlier size asked for.
        old: u64,
        /// Later size asked for.
        new: u64,
        /// Leaves under the latest checkpoint.
        size: u64,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A tile is missing or cut.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// An object that the index knows is gone.
    #[error("{path} is missing; run `hostledger verify`")]
    Missing {
        /// The object.
        path: String,
    },
    /// The body was removed on purpose: unknown for ever, and no fault.
    #[error("the body of leaf {leaf} was pruned; statement {certificate} of the collector says when and why")]
    Pruned {
        /// The leaf.
        leaf: LeafIndex,
        /// The statement that certifies it.
        certificate: StatementNumber,
    },
    /// The stored bytes are not those that were committed.
    #[error("{what} of leaf {leaf} in {path} has rotted; run `hostledger verify`")]
    Rotten {
        /// Header or body.
        what: &'static str,
        /// The leaf.
        leaf: LeafIndex,
        /// The object.
        path: String,
    },
    /// The index is wrong and could not be built again.
    #[error("the ledger's index is wrong: {0}; run `hostledger verify`, restart the collector")]
    Index(String),
    /// The tiles do not lead to the checkpoint's root.
    #[error("tiles do not prove leaf {leaf}: {why}; run `hostledger verify`")]
    Unprovable {
        /// The leaf.
        leaf: LeafIndex,
        /// How the proof fails.
        why: ProofError,
    },
    /// The tiles do not lead from the one size to the other.
    #[error("tiles do not prove {new} leaves to extend {old}: {why}; run `hostledger verify`")]
    Inconsistent {
        /// Earlier size.
        old: u64,
        /// Later size.
        new: u64,
        /// How the proof fails.
        why: ProofError,
    },
}

/// Part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Body,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

/// A view of a ledger that follows its growth.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The ledger's keys, and which of them counts where.
    #[must_use]
    pub fn keys(&self) -> &LedgerKeys {
        &self.shared.keys
    }

    /// The latest checkpoint.
    #[must_use]
    pub fn published(&self) -> Published {
        self.shared
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The checkpoint on disk, which may be an earlier one than [`Self::published`]: what others are to hold against
    /// a copy of the ledger is taken from this one.
    #[must_use]
    pub fn stored(&self) -> Published {
        let stored = self.shared.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.clone()
    }

    /// Leaves under [`Self::stored`]: a prune goes no further.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.shared.stored_size()
    }

    /// Durable leaves, under a checkpoint or not.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.with_index(Index::leaves)
    }

    /// The batch of `host` at `sequence`, once durable. The header found there says the same.
    pub fn find(&self, host: &HostId, sequence: Sequence) -> Result<Option<BatchRecord>, ReadError> {
        self.asked(|index| index.find(host, sequence), host)
    }

    /// The durable batches of `host` from `first` to `last`, every one, in order, as the index has them: whoever reads
    /// the headers there holds them against it, and asks [`Self::find`] where one is of another batch.
    pub fn run(&self, host: &HostId, first: Sequence, last: Sequence) -> Result<Vec<BatchRecord>, ReadError> {
        self.indexed(|index| index.run(host, first, last))
            .map(|(_, found)| found)
    }

    /// The latest durable batch of `host`. The header found there says the same.
    pub fn host_head(&self, host: &HostId) -> Result<Option<BatchRecord>, ReadError> {
        self.asked(|index| index.head(host), host)
    }

    /// All hosts with a durable batch.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        self.with_index(Index::hosts)
    }

    /// The header at `leaf`; compared with its leaf hash where a checkpoint covers it.
    pub fn header(&self, leaf: LeafIndex) -> Result<Vec<u8>, ReadError> {
        let size = self.published().checkpoint.size;
        self.checked(leaf, Part::Header, |header, _| self.tree_has(leaf, header, size))
    }

    /// Whether the tree of `size` leaves has that header at `leaf`; nothing speaks against one beyond them.
    fn tree_has(&self, leaf: LeafIndex, header: &[u8], size: u64) -> Result<bool, ReadError> {
        let at = leaf.0 % u64::from(TILE_WIDTH);
        let tile = TilePath::in_tree(Kind::Hashes(0), leaf.0 / u64::from(TILE_WIDTH), size)
            .filter(|tile| at < u64::from(tile.width));
        let Some(tile) = tile else { return Ok(true) };
        let tile = self.shared.tiles.tile(tile)?;
        Ok(tile.hashes().get(usize::from(at.to_le_bytes()[0])) == Some(&leaf_hash(header)))
    }

    /// The body beside `leaf`, compared with its checksum. Whether it is what the header commits to is for
    /// the caller to check.
    pub fn body(&self, leaf: LeafIndex) -> Result<Vec<u8>, ReadError> {
        self.checked(leaf, Part::Body, |body, place| {
            Ok(crc32fast::hash(body) == place.body_crc)
        })
    }

    /// The proof that `leaf` stands under the latest checkpoint.
    pub fn receipt(&self, leaf: LeafIndex) -> Result<Receipt, ReadError> {
        self.receipt_in(leaf, &self.published())
    }

    /// The proof that `leaf` stands under `head`, a checkpoint of this ledger.
    pub fn receipt_in(&self, leaf: LeafIndex, head: &Published) -> Result<Receipt, ReadError> {
        let Checkpoint { size, root, .. } = &head.checkpoint;
        let leaves = self.leaves();
        if leaf.0 >= leaves {
            return Err(ReadError::NoSuchLeaf { leaf, leaves });
        }
        let tree = self.shared.tiles.tree(*size);
        let Some(proof) = inclusion_proof_from(&tree, leaf.0, *size)? else {
            return Err(ReadError::NotPublished { leaf, size: *size });
        };
        let hash = common::merkle::Nodes::node(&tree, 0, leaf.0)?;
        verify_inclusion(&hash, leaf.0, *size, &proof, root)
            .map_err(|why| ReadError::Unprovable { leaf, why })?;
        Ok(Receipt {
            leaf,
            proof,
            checkpoint: head.note.to_vec(),
        })
    }

    /// The proof that all of `leaves`, ascending, stand under `head`, a checkpoint of this ledger.
    pub fn multi_proof(&self, leaves: &[u64], head: &Published) -> Result<Vec<Hash>, ReadError> {
        let size = head.checkpoint.size;
        let tree = self.shared.tiles.tree(size);
        let leaf = LeafIndex(leaves.last().copied().unwrap_or_default());
        multi_proof_from(&tree, leaves, size)?.ok_or(ReadError::NotPublished { leaf, size })
    }

    /// The proof that the ledger of `new` leaves extends that of `old`, both at most the published size.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, ReadError> {
        let Checkpoint { size, root, .. } = self.published().checkpoint;
        let none = ReadError::NoSuchSize { old, new, size };
        if new > size {
            return Err(none);
        }
        let tree = self.shared.tiles.tree(size);
        let proof = consistency_proof_from(&tree, old, new)?.ok_or(none)?;
        let new_root = if new == size { root } else { root_from(&tree, new)? };
        verify_consistency(old, &root_from(&tree, old)?, new, &new_root, &proof)
            .map_err(|why| ReadError::Inconsistent { old, new, why })?;
        Ok(proof)
    }

    /// The proof that `head`, drafted by the writer whether or not it is published yet, extends the ledger of `old`
    /// leaves.
    pub fn consistency_to(&self, head: &Checkpoint, old: u64) -> Result<Vec<Hash>, ReadError> {
        let (new, size) = (head.size, head.size);
        let tree = self.shared.tiles.tree(size);
        let proof =
            consistency_proof_from(&tree, old, new)?.ok_or(ReadError::NoSuchSize { old, new, size })?;
        verify_consistency(old, &root_from(&tree, old)?, new, &head.root, &proof)
            .map_err(|why| ReadError::Inconsistent { old, new, why })?;
        Ok(proof)
    }

    /// The bytes of a resource of the tlog-tiles interface, `checkpoint` or `tile/…`, for whoever serves it;
    /// `None` for any other name and for what does not exist.
    pub fn resource(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        if name == "checkpoint" {
            // Nothing is signed yet when the disk was full at the very first start.
            return Ok(Some(self.published().note.to_vec()).filter(|note| !note.is_empty()));
        }
        let Some(path) = TilePath::parse(name) else {
            return Ok(None);
        };
        let length_max = match path.kind {
            Kind::Hashes(_) => TILE_BYTES_MAX,
            Kind::Entries => BUNDLE_BYTES_MAX,
        };
        self.shared.tiles.exactly(path, length_max)
    }

    /// Part of the group that holds `leaf`, if it `fits`. Where it does not, either the group has rotted or the
    /// index led to the wrong place: the group's own head tells.
    fn checked(
        &self,
        leaf: LeafIndex,
        part: Part,
        fits: impl Fn(&[u8], &Place) -> Result<bool, ReadError>,
    ) -> Result<Vec<u8>, ReadError> {
        let mut again = false;
        let mut looks = 0;
        loop {
            let (seen, location) = self.indexed(|index| index.location(leaf))?;
            let location = location.ok_or_else(|| ReadError::NoSuchLeaf {
                leaf,
                leaves: self.leaves(),
            })?;
            let fault = match self.part(leaf, &location, part)? {
                Some((_, bytes)) if fits(&bytes, &location.place)? => return Ok(bytes),
                Some((path, _)) => ReadError::Rotten {
                    what: part.name(),
                    leaf,
                    path,
                },
                None => ReadError::Missing {
                    path: group_path(location.group),
                },
            };
            looks += 1;
            if looks < LOOKS_MAX {
                // A prune may have replaced what is kept of the group between finding a part of it and reading it.
                continue;
            }
            let head = head_with(self.shared.storage.as_ref(), leaf)?;
            let misled = head.is_some_and(|head| {
                let entry = usize::try_from(leaf.0 - head.first.0).unwrap_or(usize::MAX);
                head.first != location.group || head.places.get(entry) != Some(&location.place)
            });
            if again || !misled {
                return Err(fault);
            }
            self.heal(seen, &format!("leaf {leaf} is not where it says"))?;
            again = true;
        }
    }

    /// Part of an entry, from its group or from what is kept of that, with the object's path; `None` where neither
    /// is there. Headers lie at the same place in both.
    fn part(
        &self,
        leaf: LeafIndex,
        location: &Location,
        part: Part,
    ) -> Result<Option<(String, Vec<u8>)>, ReadError> {
        let storage = self.shared.storage.as_ref();
        let read = |path: String, range: &Range<u32>| {
            let found = storage.read_range(&path, u64::from(range.start), range.len())?;
            Ok(found.map(|bytes| (path, bytes)))
        };
        let range = match part {
            Part::Header => &location.place.header,
            Part::Body => &location.place.body,
        };
        if let Some(found) = read(group_path(location.group), range)? {
            return Ok(Some(found));
        }
        let path = kept_path(location.group);
        if part == Part::Header {
            return read(path, range);
        }
        let Some(kept) = Kept::read(storage, location.group)? else {
            return Ok(None);
        };
        let rotten = || ReadError::Rotten {
            what: part.name(),
            leaf,
            path: path.clone(),
        };
        let kept = kept.map_err(|_| rotten())?;
        let entry = usize::try_from(leaf.0 - location.group.0).unwrap_or(usize::MAX);
        match (kept.gone.get(entry), kept.bodies.get(entry)) {
            (Some(Some(certificate)), _) => Err(ReadError::Pruned {
                leaf,
                certificate: *certificate,
            }),
            (Some(None), Some(range)) => read(path, range),
            _ => Err(rotten()),
        }
    }

    /// First leaf of the group that holds `leaf`; held against the group there by whoever reads it.
    pub(crate) fn group_of(&self, leaf: LeafIndex) -> Result<LeafIndex, ReadError> {
        let (_, location) = self.indexed(|index| index.location(leaf))?;
        let leaves = self.leaves();
        Ok(location.ok_or(ReadError::NoSuchLeaf { leaf, leaves })?.group)
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.shared.storage.as_ref()
    }

    /// What the index says of a batch, held against the header there, or what was read of that when it was sequenced.
    fn asked(
        &self,
        ask: impl Fn(&Index) -> Result<Option<BatchRecord>, Damaged>,
        host: &HostId,
    ) -> Result<Option<BatchRecord>, ReadError> {
        let (seen, found) = self.indexed(&ask)?;
        if found.is_none_or(|found| self.says(host, &found)) {
            return Ok(found);
        }
        let why = format!("it takes another leaf for a batch of host {host}");
        self.heal(seen, &why)?;
        let (_, found) = self.indexed(&ask)?;
        if found.is_none_or(|found| self.says(host, &found)) {
            return Ok(found);
        }
        Err(ReadError::Index(why))
    }

    /// Whether the header at the leaf found is of that batch. One that cannot be read is no fault of the
    /// index, and named by whoever reads it next.
    fn says(&self, host: &HostId, found: &BatchRecord) -> bool {
        let fits = |facts: Option<EntryFacts>| {
            facts.is_some_and(|facts| facts.host == *host && facts.sequence == found.sequence)
        };
        let recent = self.shared.recent.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = recent.at(found.leaf) {
            return fits(facts);
        }
        drop(recent);
        self.header(found.leaf)
            .map_or(true, |header| fits((self.shared.describe)(&header)))
    }

    /// Asks the index, once more after building it again where it is damaged; with how often it had been built
    /// again when it answered.
    fn indexed<T>(&self, ask: impl Fn(&Index) -> Result<T, Damaged>) -> Result<(u32, T), ReadError> {
        let (seen, answer) = self.with_index(|index| (index.rebuilt(), ask(index)));
        let Err(damaged) = answer else {
            return answer
                .map(|answer| (seen, answer))
                .map_err(|damaged| ReadError::Index(damaged.0));
        };
        self.heal(seen, &damaged.0)?;
        let (seen, answer) = self.with_index(|index| (index.rebuilt(), ask(index)));
        answer
            .map(|answer| (seen, answer))
            .map_err(|damaged| ReadError::Index(damaged.0))
    }

    /// Builds the index again unless somebody did since it was `seen`. The writer waits meanwhile.
    fn heal(&self, seen: u32, why: &str) -> Result<(), ReadError> {
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        if index.rebuilt() != seen {
            return Ok(());
        }
        let leaves = index.leaves();
        self.shared
            .rebuild(&mut index, leaves, why)
            .map_err(ReadError::Index)
    }

    fn with_index<T>(&self, ask: impl FnOnce(&Index) -> T) -> T {
        ask(&self.shared.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Object path of the checkpoint.
pub(crate) fn checkpoint_path() -> String {
    format!("{LOG}/checkpoint")
}
