//! Where a ledger's objects lie: a small trait, a local directory, and memory that can fail.
//!
//! Objects are immutable and created at most once; the checkpoint alone is replaced. Owns the meaning of
//! durable; refuses to know what the objects hold.

mod local;
mod memory;
mod probe;

pub use local::{Local, OpenLocalError};
pub use memory::{Fault, Memory};
pub use probe::{ProbeError, probe};

use std::{fmt, io};

/// A new object: its path below the ledger and its bytes in pieces, so that nobody joins bodies first.
#[derive(Debug, Clone, Copy)]
pub struct NewObject<'a> {
    /// Path below the ledger's root, elements separated by `/`.
    pub path: &'a str,
    /// The bytes, in order.
    pub parts: &'a [&'a [u8]],
}

/// A blocking store of named objects.
///
/// Whoever implements it promises: a named object is whole; what returned `Ok` survives a power cut.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Creates all `objects`, durable on return. One that exists with the same bytes is made durable and is
    /// no error, so that recovery may repeat whatever a crash interrupted; one with other bytes is
    /// [`StorageError::Conflict`]. On error any subset may exist.
    fn create(&self, objects: &[NewObject<'_>]) -> Result<(), StorageError>;

    /// Replaces (or creates) one object atomically, durable on return.
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes an object that is visible durable: recovery calls it for what a dead process may have named
    /// without syncing. Needs no space.
    fn settle(&self, path: &str) -> Result<(), StorageError>;

    /// Length of an object in bytes; `None` when there is none of that name.
    fn length(&self, path: &str) -> Result<Option<u64>, StorageError>;

    /// Up to `length` bytes of an object from `offset`, fewer where it ends; `None` when there is none.
    fn read_range(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StorageError>;

    /// Appends a whole object to `buffer`, which may have room from an earlier one, or says that there is none
    /// or that it is longer than `length_max` bytes.
    fn read_into(&self, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<bool, StorageError>;

    /// Paths of every object below the directory `prefix` (`""` for all), sorted bytewise.
    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;

    /// Names what [`Storage::list`] lists, one after the other and in no order, for whoever keeps less of each than its
    /// name. What was named before an error is not all there is.
    fn visit(&self, prefix: &str, each: &mut dyn FnMut(String)) -> Result<(), StorageError> {
        self.list(prefix)?.into_iter().for_each(each);
        Ok(())
    }

    /// Removes an object if it is there. Not durable on return: a crash may bring it back.
    fn remove(&self, path: &str) -> Result<(), StorageError>;

    /// Removes an object if it is there, durable on return: nothing brings it back.
    fn remove_durably(&self, path: &str) -> Result<(), StorageError>;

    /// What an object takes, or everything below a directory (`""` for all), directories included; nothing
    /// where there is none of that name.
    fn usage(&self, path: &str) -> Result<Usage, StorageError>;

    /// A whole object, refused beyond `length_max` bytes; `None` when there is none.
    fn read(&self, path: &str, length_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let mut bytes = Vec::new();
        Ok(self.read_into(path, length_max, &mut bytes)?.then_some(bytes))
    }
}

/// Room taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes by length, as `du --apparent-size` adds them up.
    pub apparent: u64,
    /// Bytes of blocks on the disk, as `du` adds them up.
    pub disk: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            apparent: self.apparent + other.apparent,
            disk: self.disk + other.disk,
        }
    }
}

/// What went wrong with an object, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk is full. Nothing was committed: make room and try again.
    #[error("no space for {path}: {source}")]
    NoSpace {
        /// The object.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An object of that name holds other bytes: two writers, or a store that was tampered with.
    #[error("{path} exists already with other content")]
    Conflict {
        /// The object.
        path: String,
    },
    /// Nobody can tell whether the object is durable: stop, and recover by opening the ledger anew.
    #[error("outcome of writing {path} is unknown: {step} failed: {source}")]
    Unknown {
        /// The object.
        path: String,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed: the disk, or its permissions.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The object.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The object is longer than its kind may be: not read, so that memory stays bounded.
    #[error("{path} has {length} bytes where at most {length_max} may be")]
    TooLong {
        /// The object.
        path: String,
        /// Its length, bytes.
        length: u64,
        /// The bound, bytes.
        length_max: u64,
    },
}

impl StorageError {
    /// Whether nothing happened and the same call may succeed later.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}
