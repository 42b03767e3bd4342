//! A checkpoint on its way: drafted, its tiles durable, itself durable, shown.
//!
//! Each state is a type, so that no step can be left out or taken twice. Drafting and showing are the writer's and
//! take no time; what waits for the disk is here and needs the writer not at all, so that whoever wants to does it
//! on another thread while groups are appended. One checkpoint at a time. Owns the order on disk: tiles, then
//! checkpoint. A write whose outcome nobody knows poisons the writer from here as well.

use std::sync::Arc;

use common::ledger_keys::LedgerTrust;

use crate::{
    frontier::Resource,
    reader::{Published, checkpoint_path},
    shared::Shared,
    storage::{NewObject, StorageError},
    tiles::object_path,
    writer::PublishError,
};

/// A tree as computed and signed. What of it is not on disk yet may or may not be shown from memory: dropping a draft
/// costs nothing, for the next one has all of it.
#[derive(Debug)]
pub struct Draft {
    pub(crate) shared: Arc<Shared>,
    pub(crate) head: Published,
    /// Tiles and bundles that are full, as far as no checkpoint on disk covers them.
    pub(crate) completed: Vec<Arc<Resource>>,
    /// Those at the tree's edge.
    pub(crate) partials: Vec<Arc<Resource>>,
}

impl Draft {
    /// The head that is drafted.
    #[must_use]
    pub fn head(&self) -> &Published {
        &self.head
    }

    /// *Integrate*: makes the tiles and bundles durable. Until [`Candidate::store`] succeeds nothing refers to them;
    /// a crash leaves some of them, which the next integration finds to be what it would write.
    ///
    /// # Errors
    /// [`PublishError`]; the leaves stay for the next draft.
    pub fn integrate(self) -> Result<Candidate, PublishError> {
        let resources: Vec<(String, [&[u8]; 1])> = self
            .completed
            .iter()
            .chain(&self.partials)
            .map(|resource| (object_path(resource.path), [resource.bytes.as_slice()]))
            .collect();
        let objects: Vec<NewObject<'_>> = resources
            .iter()
            .map(|(path, parts)| NewObject { path, parts })
            .collect();
        self.shared.sound().map_err(PublishError::Fatal)?;
        match self.shared.storage.create(&objects) {
            Ok(()) => Ok(Candidate(self)),
            Err(error) => Err(failed(&self.shared, error)),
        }
    }
}

/// A signed head whose tiles are durable and which nobody has seen yet. Dropping it costs nothing, for the next one
/// extends it.
#[derive(Debug)]
pub struct Candidate(Draft);

impl Candidate {
    /// The head and its note, signed by the ledger alone.
    #[must_use]
    pub fn head(&self) -> &Published {
        &self.0.head
    }

    /// *Publish*, but for telling readers: makes the note durable with `cosignatures` (signature lines, each with
    /// its newline) behind the ledger's own signature.
    ///
    /// # Errors
    /// [`PublishError`]; the leaves stay for the next draft.
    pub fn store(self, cosignatures: &str) -> Result<Stored, PublishError> {
        let Draft {
            shared,
            head,
            completed,
            ..
        } = self.0;
        let mut note = head.note.to_vec();
        note.extend_from_slice(cosignatures.as_bytes());
        // Read back before it is written: lines that break the note would lock everybody out.
        match shared.keys.open_checkpoint(&note) {
            Ok(read) if read == head.checkpoint => {}
            Ok(_) => {
                return Err(PublishError::Fatal(
                    "cosignatures changed the checkpoint".to_owned(),
                ));
            }
            Err(error) => {
                return Err(PublishError::Fatal(format!(
                    "cosignatures break the note: {error}"
                )));
            }
        }
        let stored = put(
            &shared,
            Published {
                note: note.into(),
                ..head
            },
        )?;
        collect_partials(&shared, &completed);
        Ok(stored)
    }
}

/// A checkpoint that is durable; [`Ledger::reveal`](crate::Ledger::reveal) takes note of it.
#[derive(Debug)]
pub struct Stored(pub(crate) Published);

/// Makes a head, all of whose resources are durable, durable.
pub(crate) fn put(shared: &Shared, head: Published) -> Result<Stored, PublishError> {
    shared.sound().map_err(PublishError::Fatal)?;
    // Commit point. A crash in here leaves the old checkpoint or the new one, both true.
    match shared.storage.replace(&checkpoint_path(), &head.note) {
        Ok(()) => Ok(Stored(head)),
        Err(error) => Err(failed(shared, error)),
    }
}

fn failed(shared: &Shared, error: StorageError) -> PublishError {
    if error.is_clean() {
        PublishError::NoSpace(error)
    } else {
        PublishError::Fatal(shared.poison(&error))
    }
}

/// Removes the partial forms of resources that are now full. C2SP lets them go, and what a crash leaves is read
/// over; so a failure here is none of the ledger's.
fn collect_partials(shared: &Shared, completed: &[Arc<Resource>]) {
    for resource in completed {
        let directory = format!("{}.p", object_path(resource.path));
        for path in shared.storage.list(&directory).unwrap_or_default() {
            let _ = shared.storage.remove(&path);
        }
    }
}
