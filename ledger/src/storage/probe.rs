//! Trying a store's promises before a ledger rests on them.
//!
//! A file system without hard links, a mount that lets a name be taken twice, a gateway that answers before it
//! has: such a store would lose what was acknowledged, and only once it is too late to say so. What cannot be
//! tried here is whether what was flushed survives a power cut.

use super::{NewObject, Storage, StorageError};

/// Objects of the trial, below the directory that the next writer empties.
const CREATED: &str = "tmp/probe-created";
const REPLACED: &str = "tmp/probe-replaced";

/// What to do about a store that keeps no promises.
const REMEDY: &str = "put the ledger on a local file system that has hard links, such as ext4, XFS or Btrfs";

/// Why a store is not trusted with a ledger. The operator chose it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It is full, so that nothing could be tried: make room and try again.
    #[error("the store could not be tried: {0}")]
    NoSpace(StorageError),
    /// It refuses what every ledger needs.
    #[error("the store cannot {promise}: {cause}; {REMEDY}")]
    Refused {
        /// What was asked of it.
        promise: &'static str,
        /// What it said.
        cause: StorageError,
    },
    /// It says that it did, and did not.
    #[error("the store says it can {promise}, yet {saw}; {REMEDY}")]
    Lies {
        /// What was asked of it.
        promise: &'static str,
        /// What was seen instead.
        saw: &'static str,
    },
}

/// Tries what the trait promises on two objects under `tmp/`, and removes them.
///
/// # Errors
/// Names the first promise that is not kept, and the remedy.
pub fn probe(storage: &dyn Storage) -> Result<(), ProbeError> {
    for path in [CREATED, REPLACED] {
        kept("remove an object", storage.remove(path))?;
    }
    let tried = try_create(storage).and_then(|()| try_replace(storage));
    let removed = [CREATED, REPLACED].map(|path| kept("remove an object", storage.remove(path)));
    tried?;
    for outcome in removed {
        outcome?;
    }
    let promise = "remove an object";
    for path in [CREATED, REPLACED] {
        let left = kept(promise, storage.length(path))?;
        holds(left.is_none(), promise, "one that it removed is there")?;
    }
    Ok(())
}

fn try_create(storage: &dyn Storage) -> Result<(), ProbeError> {
    let promise = "create an object once and for all";
    let create = |parts: &[&[u8]]| storage.create(&[NewObject { path: CREATED, parts }]);
    kept(promise, create(&[b"the ", b"first"]))?;
    holds(
        reads(storage, CREATED, b"the first")?,
        promise,
        "it reads back otherwise",
    )?;
    // Recovery repeats whatever a crash interrupted.
    kept(promise, create(&[b"the first"]))?;
    match create(&[b"another"]) {
        Err(StorageError::Conflict { .. }) => {}
        Err(error) if error.is_clean() => return Err(ProbeError::NoSpace(error)),
        Err(cause) => return Err(ProbeError::Refused { promise, cause }),
        Ok(()) => {
            let saw = "it takes other bytes for an object that is there";
            return Err(ProbeError::Lies { promise, saw });
        }
    }
    let saw = "an object changed that may not be replaced";
    holds(reads(storage, CREATED, b"the first")?, promise, saw)?;
    kept(promise, storage.settle(CREATED))?;
    let promise = "list what it holds";
    let listed = kept(promise, storage.list("tmp"))?;
    let found = listed.iter().any(|path| path == CREATED);
    holds(found, promise, "an object that is there is not listed")
}

fn try_replace(storage: &dyn Storage) -> Result<(), ProbeError> {
    let promise = "replace an object as a whole";
    for bytes in [b"a longer one".as_slice(), b"short"] {
        kept(promise, storage.replace(REPLACED, bytes))?;
        holds(
            reads(storage, REPLACED, bytes)?,
            promise,
            "it reads back otherwise",
        )?;
    }
    Ok(())
}

/// Whether an object reads back in every way there is.
fn reads(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Result<bool, ProbeError> {
    let promise = "read an object";
    let whole = kept(promise, storage.read(path, 64))?;
    let length = kept(promise, storage.length(path))?;
    let tail = kept(promise, storage.read_range(path, 2, 64))?;
    Ok(whole.as_deref() == Some(bytes)
        && length == Some(bytes.len() as u64)
        && tail.as_deref() == bytes.get(2..))
}

fn kept<T>(promise: &'static str, outcome: Result<T, StorageError>) -> Result<T, ProbeError> {
    outcome.map_err(|cause| {
        if cause.is_clean() {
            ProbeError::NoSpace(cause)
        } else {
            ProbeError::Refused { promise, cause }
        }
    })
}

fn holds(kept: bool, promise: &'static str, saw: &'static str) -> Result<(), ProbeError> {
    if kept {
        Ok(())
    } else {
        Err(ProbeError::Lies { promise, saw })
    }
}

#[cfg(test)]
mod tests;
