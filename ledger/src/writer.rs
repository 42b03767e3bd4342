//! The one writer of a ledger: sequence, integrate, publish.
//!
//! Three named steps in this order and no other. *Sequence* makes entries durable in a group and fixes their
//! leaves; only then may anybody be told. *Integrate* writes the entry bundles and tiles that follow from
//! the groups. *Publish* writes and shows the signed head, once all that it commits to is durable. Because leaves
//! are fixed by durable groups alone, integrating again after any crash gives the same bytes: there are never two
//! roots for one size. The last two steps wait for the disk in [`crate::candidate`], beside further groups if
//! the caller likes.
//!
//! A write whose outcome nobody knows poisons the writer: it refuses everything from then on, and opening
//! the ledger anew (see [`crate::recovery`]) decides by looking.

use std::sync::{Arc, PoisonError};

use common::{
    checkpoint::{Checkpoint, CheckpointError},
    ids::LeafIndex,
    ledger_keys::LedgerTrust,
    note::SignerKey,
    tile::EntryTooLong,
};

use crate::{
    candidate::{Candidate, Draft, Stored, put},
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
    /// Edge of the tree under the published checkpoint.
    pub(crate) edge: Frontier,
    /// Headers of durable leaves beyond that edge, in order.
    pub(crate) pending: Vec<Vec<u8>>,
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
        if self.pending.len().saturating_add(entries.len()) > PENDING_LEAVES_MAX {
            return Err(AppendError::Backlog(self.pending.len()));
        }
        self.index_has_room().map_err(AppendError::NoSpace)?;
        let first = LeafIndex(self.next_leaf());
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
        self.sequenced(&head, entries.iter().map(|entry| entry.header))
            .map_err(AppendError::Fatal)?;
        Ok(first)
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

    /// What [`Self::integrate`] begins with: computes the tree of every durable leaf and signs its head, in memory
    /// alone. The rest may be done elsewhere: [`Draft::integrate`], [`Candidate::store`], then [`Self::reveal`], for
    /// one draft at a time.
    pub fn draft(&mut self) -> Result<Option<Draft>, PublishError> {
        self.shared.sound().map_err(PublishError::Fatal)?;
        if self.pending.is_empty() {
            return Ok(None);
        }
        let mut edge = self.edge.clone();
        let mut completed = Vec::new();
        for header in &self.pending {
            edge.push(header, &mut completed).map_err(|EntryTooLong(bytes)| {
                PublishError::Fatal(format!("a durable header has {bytes} bytes"))
            })?;
        }
        Ok(Some(Draft {
            shared: Arc::clone(&self.shared),
            head: self.sign(&edge)?,
            edge,
            completed,
        }))
    }

    /// Shows readers a checkpoint that is durable.
    pub fn reveal(&mut self, stored: Stored) -> Published {
        let Stored { head, edge } = stored;
        *self
            .shared
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = head.clone();
        let covered = edge.size().saturating_sub(self.edge.size());
        self.edge = edge;
        // What was appended since the draft was made stays for the next one.
        let covered = usize::try_from(covered).unwrap_or(usize::MAX);
        self.pending.drain(..covered.min(self.pending.len()));
        head
    }

    /// Records a durable group in the index and queues its headers. Where the index is damaged it is built
    /// again from the groups, this one included.
    fn sequenced<'a>(&mut self, head: &Head, headers: impl Iterator<Item = &'a [u8]>) -> Result<(), String> {
        let begin = self.pending.len();
        self.pending.extend(headers.map(<[u8]>::to_vec));
        let facts: Vec<Option<EntryFacts>> = self.pending[begin..]
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

    /// Signs, stores and shows the head of `edge`, all of whose resources are durable.
    pub(crate) fn publish_edge(&mut self, edge: Frontier) -> Result<Published, PublishError> {
        let head = self.sign(&edge)?;
        let stored = put(&self.shared, edge, head)?;
        Ok(self.reveal(stored))
    }

    /// The signed head of `edge`.
    fn sign(&mut self, edge: &Frontier) -> Result<Published, PublishError> {
        let checkpoint = Checkpoint {
            origin: self.shared.keys.origin().to_owned(),
            size: edge.size(),
            root: edge.root(),
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

    fn next_leaf(&self) -> u64 {
        self.edge.size() + self.pending.len() as u64
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
