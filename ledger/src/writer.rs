//! The one writer of a ledger: sequence, integrate, publish.
//!
//! Three named steps in this order and no other. *Sequence* makes entries durable in a group and fixes their
//! leaves; only then may anybody be told. *Integrate* writes the entry bundles and tiles that follow from
//! the groups. *Publish* writes and shows the signed head, once all that it commits to is durable. Because leaves
//! are fixed by durable groups alone, integrating again after any crash gives the same bytes: there are never two
//! roots for one size. So a head may be shown before its tiles and note are on disk ([`Ledger::show`]): readers have
//! these from memory, and opening the ledger anew brings every durable leaf under a checkpoint again. The steps that
//! wait for the disk are in [`crate::candidate`], beside further groups if the caller likes.
//!
//! A write whose outcome nobody knows poisons the writer: it refuses everything from then on, and opening
//! the ledger anew (see [`crate::recovery`]) decides by looking.

use std::sync::{Arc, PoisonError};

use common::{
    checkpoint::{Checkpoint, CheckpointError},
    ids::LeafIndex,
    ledger_keys::LedgerTrust,
    merkle::leaf_hashes,
    note::SignerKey,
    tile::EntryTooLong,
};

use crate::{
    candidate::{Candidate, Draft, Stored, put},
    fresh::Fresh,
    frontier::Frontier,
    group::{BadGroup, Entry, GroupFault, Head, encode_head, group_path},
    index::EntryFacts,
    reader::{Published, Reader},
    shared::Shared,
    storage::{NewObject, StorageError},
};

/// Most leaves that may wait for a checkpoint, so that a full disk cannot grow the queue without bound.
pub const PENDING_LEAVES_MAX: usize = 262_144;

/// Why entries were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The entries cannot form a group. The caller: split or drop them; nothing happened.
    #[error(transparent)]
    Refused(#[from] BadGroup),
    /// The disk is full. Nothing happened: append again when there is room.
    #[error("ledger is out of space: {0}")]
    NoSpace(StorageError),
    /// Too many leaves wait for a checkpoint. Nothing happened: publish first.
    #[error("{0} leaves wait for a checkpoint")]
    Backlog(usize),
    /// The outcome is unknown or the writer was poisoned before: end the process; recovery decides.
    #[error("ledger must be reopened: {0}")]
    Fatal(String),
}

/// Why no new checkpoint was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The disk is full. The old checkpoint stands: publish again when there is room.
    #[error("ledger is out of space: {0}")]
    NoSpace(StorageError),
    /// The outcome is unknown or the writer was poisoned before: end the process; recovery decides.
    #[error("ledger must be reopened: {0}")]
    Fatal(String),
}

/// The writer. One for each ledger: its storage holds a lock.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) shared: Arc<Shared>,
    pub(crate) signer: SignerKey,
    /// Edge of the tree of all durable leaves.
    pub(crate) tip: Frontier,
}

impl Ledger {
    /// A view for reading, which follows the writer.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// *Sequence*: commits `entries` as one group and returns the first one's leaf; the others follow it.
    /// `Ok` means durable: acknowledge now, not earlier.
    pub fn append_group(&mut self, entries: &[Entry<'_>]) -> Result<LeafIndex, AppendError> {
        self.shared.sound().map_err(AppendError::Fatal)?;
        let waiting = usize::try_from(self.waiting()).unwrap_or(usize::MAX);
        if waiting.saturating_add(entries.len()) > PENDING_LEAVES_MAX {
            return Err(AppendError::Backlog(waiting));
        }
        self.index_has_room().map_err(AppendError::NoSpace)?;
        let first = LeafIndex(self.tip.size());
        let head = encode_head(first, entries)?;
        let parts: Vec<&[u8]> = std::iter::once(head.as_slice())
            .chain(entries.iter().map(|entry| entry.body))
            .collect();
        let object = NewObject {
            path: &group_path(first),
            parts: &parts,
        };
        // Commit point. A crash in here leaves either nothing under the group's name or the whole group;
        // nobody has been told, so both are right, and recovery publishes whichever it finds.
        match self.shared.storage.create(&[object]) {
            Ok(()) => {}
            Err(error) if error.is_clean() => return Err(AppendError::NoSpace(error)),
            Err(error) => return Err(AppendError::Fatal(self.shared.poison(&error))),
        }
        let head =
            Head::parse(&head, first).map_err(|fault| AppendError::Fatal(self.shared.poison(&fault)))?;
        let headers: Vec<&[u8]> = entries.iter().map(|entry| entry.header).collect();
        self.sequenced(&head, &headers).map_err(AppendError::Fatal)?;
        Ok(first)
    }

    /// Shows readers a signed head of every durable leaf, before its tiles and its note are stored: readers have them
    /// from memory. Whoever does so must store it, or a later one, soon: [`Self::draft`]. Not for whoever asks
    /// witnesses first.
    ///
    /// # Errors
    /// [`PublishError::Fatal`].
    pub fn show(&mut self) -> Result<Published, PublishError> {
        let head = self.head()?;
        self.shared.show(&head);
        Ok(head)
    }

    /// *Integrate* and *publish*: brings every durable leaf under a new checkpoint, or returns the one that
    /// stands if there is no new leaf.
    pub fn integrate_and_publish(&mut self) -> Result<Published, PublishError> {
        match self.integrate()? {
            Some(candidate) => self.publish(candidate, ""),
            None => Ok(self.reader().published()),
        }
    }

    /// *Integrate*: makes the tiles of every durable leaf durable, under a signed head that is not shown to readers
    /// before [`Self::publish`]; `None` if there is no new leaf. Groups may be appended in between: they stay for
    /// the next candidate.
    pub fn integrate(&mut self) -> Result<Option<Candidate>, PublishError> {
        self.draft()?.map(Draft::integrate).transpose()
    }

    /// *Publish*: stores the candidate's note with `cosignatures` (signature lines, each with its newline)
    /// behind the ledger's own signature, and shows it.
    pub fn publish(&mut self, candidate: Candidate, cosignatures: &str) -> Result<Published, PublishError> {
        Ok(self.reveal(candidate.store(cosignatures)?))
    }

    /// What [`Self::integrate`] begins with: the signed head of every durable leaf, and what is not stored of its
    /// tree; `None` if the checkpoint on disk covers all. The rest may be done elsewhere: [`Draft::integrate`],
    /// [`Candidate::store`], then [`Self::reveal`], for one draft at a time.
    pub fn draft(&mut self) -> Result<Option<Draft>, PublishError> {
        if self.waiting() == 0 {
            return self.shared.sound().map_err(PublishError::Fatal).map(|()| None);
        }
        let head = self.head()?;
        let (completed, partials) = self.shared.tiles.fresh(Fresh::all);
        Ok(Some(Draft {
            shared: Arc::clone(&self.shared),
            head,
            completed,
            partials,
        }))
    }

    /// Takes note of a checkpoint that is durable, and shows it unless a later one is shown already. Returns the one
    /// that readers see.
    pub fn reveal(&mut self, stored: Stored) -> Published {
        let Stored(head) = stored;
        let size = head.checkpoint.size;
        *self.shared.stored.write().unwrap_or_else(PoisonError::into_inner) = head.clone();
        self.shared.tiles.change_fresh(|fresh| fresh.stored(size));
        let standing = self.reader().published();
        if standing.checkpoint.size > size {
            return standing;
        }
        self.shared.show(&head);
        head
    }

    /// Takes a durable group into the tree and the index. Where the index is damaged it is built again from the
    /// groups, this one included.
    fn sequenced(&mut self, head: &Head, headers: &[&[u8]]) -> Result<(), String> {
        self.grow(headers)
            .inspect_err(|why| drop(self.shared.poisoned.set(why.clone())))?;
        let facts: Vec<Option<EntryFacts>> = headers
            .iter()
            .map(|header| (self.shared.describe)(header))
            .collect();
        let shared = Arc::clone(&self.shared);
        let mut recent = shared.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.sequenced(head.first, &facts);
        drop(recent);
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        match index.add_group(head, &facts) {
            Ok(()) => Ok(()),
            Err(damaged) => shared
                .rebuild(&mut index, head.end().0, &damaged.0)
                .inspect_err(|why| drop(shared.poisoned.set(why.clone()))),
        }
    }

    /// An index that its disk refuses may lag by so much and no more.
    fn index_has_room(&self) -> Result<(), StorageError> {
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.room().map_err(|source| StorageError::NoSpace {
            path: "the ledger's index".to_owned(),
            source,
        })
    }

    /// Takes durable headers into the tree.
    pub(crate) fn grow(&mut self, headers: &[&[u8]]) -> Result<(), String> {
        let mut completed = Vec::new();
        for (header, hash) in headers.iter().zip(leaf_hashes(headers)) {
            self.tip
                .push_hashed(header, hash, &mut completed)
                .map_err(|EntryTooLong(bytes)| format!("a durable header has {bytes} bytes"))?;
        }
        if !completed.is_empty() {
            self.shared.tiles.change_fresh(|fresh| fresh.take(completed));
        }
        Ok(())
    }

    /// Signs, stores and shows the head of no leaves.
    pub(crate) fn publish_genesis(&mut self) -> Result<Published, PublishError> {
        let head = self.head()?;
        let stored = put(&self.shared, head)?;
        Ok(self.reveal(stored))
    }

    /// The signed head of every durable leaf, with the edge of its tree at hand for readers. The one that is shown, if
    /// it is that.
    fn head(&mut self) -> Result<Published, PublishError> {
        self.shared.sound().map_err(PublishError::Fatal)?;
        let shown = self.reader().published();
        if shown.checkpoint.size == self.tip.size() && !shown.note.is_empty() {
            return Ok(shown);
        }
        let partials = self.tip.partials();
        self.shared.tiles.change_fresh(|fresh| fresh.edge(partials));
        let checkpoint = Checkpoint {
            origin: self.shared.keys.origin().to_owned(),
            size: self.tip.size(),
            root: self.tip.root(),
            extensions: Vec::new(),
        };
        let note = checkpoint
            .sign(&self.signer)
            .map_err(|error: CheckpointError| PublishError::Fatal(self.shared.poison(&error)))?;
        Ok(Published {
            checkpoint,
            note: note.into_bytes().into(),
        })
    }

    /// Durable leaves beyond the checkpoint on disk.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.tip.size().saturating_sub(self.shared.stored_size())
    }
}

impl Drop for Ledger {
    /// Spares the next start the groups since the index was last saved; a failure only costs it their heads.
    fn drop(&mut self) {
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        let _ = index.save();
    }
}

/// A head that does not read back as written is our own fault.
impl From<GroupFault> for AppendError {
    fn from(fault: GroupFault) -> Self {
        Self::Fatal(fault.to_string())
    }
}
