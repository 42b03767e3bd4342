//! The anchor file: opened for each record, appended to, flushed.
//!
//! Owns how a record reaches the disk. The file is never cut, renamed or rewritten but for one thing: what is left of a
//! record that did not fit is taken away again. On an append-only file (`chattr +a`) not even that, and readers skip it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::AnchorFault;
use crate::files::{FileError, PUBLIC};

/// The file's length before a record and after it, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) before: u64,
    pub(super) after: u64,
}

/// One anchor file.
#[derive(Debug, Clone)]
pub(super) struct AnchorFile(PathBuf);

impl AnchorFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Appends one record, durable on return.
    pub(super) fn append(&self, record: &[u8]) -> Result<Appended, AnchorFault> {
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(PUBLIC)
                .open(&self.0)
        };
        let mut file = open().map_err(|cause| self.fault("open", cause))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(AnchorFault::Shared(self.0.clone()));
        }
        let before = file.metadata().map_err(|cause| self.fault("read", cause))?.len();
        let written = file.write_all(record).and_then(|()| file.sync_all());
        if let Err(cause) = written {
            // Best effort: what stays is a torn record, which readers skip.
            let _ = file.set_len(before);
            return Err(self.fault("append to", cause));
        }
        if before == 0 {
            self.flush_directory()
                .map_err(|cause| self.fault("flush the directory of", cause))?;
        }
        Ok(Appended {
            before,
            after: before.saturating_add(record.len() as u64),
        })
    }

    fn flush_directory(&self) -> io::Result<()> {
        let directory = self.0.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn fault(&self, action: &'static str, cause: io::Error) -> AnchorFault {
        let path = self.0.clone();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AnchorFault::NoSpace { path, cause },
            _ => AnchorFault::File(FileError { action, path, cause }),
        }
    }
}
