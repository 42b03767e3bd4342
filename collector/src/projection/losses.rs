//! Losses that pruned batches reported, in `<directory>/state/<host>/losses`.
//!
//! Kept before the batches go, and as little disposable as the states beside it: without it an answer about a batch that
//! stays would no longer say what is known to be missing from it.

use std::{fs, path::PathBuf};

use common::{
    answer::Span,
    event::{Envelope, Kind, Loss, LossKey},
    fold::{KeptLosses, TooManyLosses},
    ids::{BootNanos, EventIndex, HostId},
};

use super::{Cut, EntryError, Projection, StateError};
use crate::files;

/// Longest file read, bytes: losses are small.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why losses were not kept; then nothing may be pruned.
#[derive(Debug, thiserror::Error)]
pub enum KeepLossesError {
    /// The batches cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// There are too many.
    #[error(transparent)]
    TooMany(#[from] TooManyLosses),
    /// The disk, or a file there that cannot be read: remove it to go on without what it said.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// Why.
        cause: String,
    },
}

impl Projection {
    /// Keeps the losses that these batches report, durable on return.
    ///
    /// # Errors
    /// [`KeepLossesError`].
    pub fn keep_losses(&self, host: &HostId, batches: &[Span]) -> Result<(), KeepLossesError> {
        let Some(path) = self.losses_file(host).filter(|_| !batches.is_empty()) else {
            return Ok(());
        };
        let file = |cause: String| KeepLossesError::File {
            path: path.display().to_string(),
            cause,
        };
        let mut kept = self.read_losses(host).map_err(file)?;
        for span in batches {
            let events = match self.events_of_kind(host, span, Kind::Loss) {
                // Ranges run on over bodies that went before.
                Err(StateError::Entry(EntryError { pruned: Some(_), .. })) => continue,
                read => read?,
            };
            for (index, bytes) in events {
                kept.keep(index, &bytes)?;
            }
        }
        let directory = path.parent().map_or(Ok(()), fs::create_dir_all);
        directory.map_err(|error| file(error.to_string()))?;
        files::replace(&path, &kept.encode(), files::PUBLIC).map_err(|error| file(error.cause.to_string()))
    }

    /// Losses about the cut's instant that pruned batches of its run reported after it.
    pub(super) fn losses_of_pruned(&self, host: &HostId, cut: &Cut) -> Vec<(EventIndex, LossKey, Loss)> {
        let Some(begun) = cut.begun else {
            return Vec::new();
        };
        let kept = match self.read_losses(host) {
            Ok(kept) => kept,
            Err(cause) => {
                tracing::warn!(%host, cause, "kept losses passed over");
                return Vec::new();
            }
        };
        let boot: BootNanos = begun.boot_of(cut.at);
        kept.iter()
            .filter(|(index, loss)| {
                *index >= begun.first_event
                    && loss.key.boot == begun.boot
                    && loss.event.wall_ns > cut.at
                    && loss.record.not_before <= boot
            })
            .map(|(index, loss)| (index, loss.key, loss.record))
            .collect()
    }

    fn losses_file(&self, host: &HostId) -> Option<PathBuf> {
        Some(self.host_directory(host)?.join("losses"))
    }

    /// None where there is no file; the error says why there might be some.
    fn read_losses(&self, host: &HostId) -> Result<KeptLosses, String> {
        let none = KeptLosses::new(*host);
        let Some(path) = self.losses_file(host) else {
            return Ok(none);
        };
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(none),
            Err(error) => return Err(error.to_string()),
            Ok(meta) if meta.len() > FILE_BYTES_MAX => {
                return Err(format!("{} bytes are too many", meta.len()));
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        match KeptLosses::decode(&bytes) {
            Ok(kept) if kept.host() == *host => Ok(kept),
            Ok(_) => Err("it is another host's".to_owned()),
            Err(bad) => Err(bad.to_string()),
        }
    }
}

/// Whether the event is a loss reported after the cut; those before it are in the state.
pub(super) fn reported_after(cut: &Cut, bytes: &[u8]) -> bool {
    Envelope::parse(bytes)
        .is_ok_and(|envelope| envelope.kind == Kind::Loss.number() && envelope.wall_ns > cut.at)
}
