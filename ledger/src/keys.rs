//! The keys beside the log: the first one in `ledger.vkey`, and their history in `ledger.keys` where there is one.
//!
//! Owns which files they are and what opening a ledger makes of them. What the history proves is
//! [`common::ledger_keys`]'s to say.

use common::{
    ledger_keys::{HistoryFault, LEDGER_KEYS_BYTES_MAX, LedgerKeys},
    limits::NOTE_BYTES_MAX,
    note::VerifierKey,
};

use crate::{
    recovery::OpenError,
    storage::{NewObject, Storage, StorageError},
    writer::Ledger,
};

/// Object that holds the first verifier key, beside the log.
pub const VERIFIER_KEY: &str = "ledger.vkey";
/// Object that holds the history of keys, beside the log; none in a ledger that was begun without.
pub const KEY_HISTORY: &str = "ledger.keys";

/// The bytes of the history, if there is one.
pub(crate) fn history_bytes(storage: &dyn Storage) -> Result<Option<Vec<u8>>, StorageError> {
    storage.read(KEY_HISTORY, LEDGER_KEYS_BYTES_MAX as u64)
}

fn history(storage: &dyn Storage) -> Result<Option<LedgerKeys>, OpenError> {
    let bytes = history_bytes(storage)?;
    Ok(bytes.map(|bytes| LedgerKeys::given(&bytes)).transpose()?)
}

/// The first key of the ledger that `signer` signs for now.
pub(crate) fn first_key(storage: &dyn Storage, signer: &VerifierKey) -> Result<VerifierKey, OpenError> {
    Ok(history(storage)?.map_or_else(|| signer.clone(), |keys| keys.first().clone()))
}

/// Compares the keys beside the log with ours, or puts the first one there if the ledger is `new`.
pub(crate) fn of_writer(
    storage: &dyn Storage,
    signer: &VerifierKey,
    new: bool,
) -> Result<LedgerKeys, OpenError> {
    let keys = history(storage)?;
    if let Some(keys) = &keys {
        // As with groups: a process may have died between naming and syncing it.
        storage.settle(KEY_HISTORY)?;
        if keys.in_force() != signer {
            return Err(OpenError::NotInForce {
                in_force: keys.in_force().to_string(),
                given: signer.to_string(),
            });
        }
    }
    let keys = keys.unwrap_or_else(|| signer.clone().into());
    let first = format!("{}\n", keys.first());
    match storage.read(VERIFIER_KEY, NOTE_BYTES_MAX as u64)? {
        Some(found) if found == first.as_bytes() => storage.settle(VERIFIER_KEY)?,
        Some(found) => {
            return Err(OpenError::OtherKey {
                found: String::from_utf8_lossy(&found).trim_end().to_owned(),
                given: first.trim_end().to_owned(),
            });
        }
        None if new => storage.create(&[NewObject {
            path: VERIFIER_KEY,
            parts: &[first.as_bytes()],
        }])?,
        None => return Err(OpenError::NoKey),
    }
    Ok(keys)
}

impl Ledger {
    /// Puts another history beside the log, durable on return. What the ledger signs with stays as it is: open it
    /// again with the key that the history names.
    ///
    /// # Errors
    /// The disk.
    pub fn replace_history(&mut self, keys: &LedgerKeys) -> Result<(), StorageError> {
        self.shared.storage.replace(KEY_HISTORY, &keys.encode())
    }
}

/// The keys beside the log, believed.
pub(crate) fn of_reader(storage: &dyn Storage) -> Result<LedgerKeys, OpenError> {
    let key = storage
        .read(VERIFIER_KEY, NOTE_BYTES_MAX as u64)?
        .ok_or(OpenError::NoKey)?;
    let text = String::from_utf8_lossy(&key);
    let first = VerifierKey::parse(text.trim_end()).map_err(|error| OpenError::Resource {
        path: VERIFIER_KEY.into(),
        why: error.to_string(),
    })?;
    let first = LedgerKeys::from(first);
    match history_bytes(storage)? {
        Some(bytes) => Ok(first.learn(&bytes)?.unwrap_or(first)),
        None => Ok(first),
    }
}

/// Whether a fault says that bytes are damaged; else somebody made them.
pub(crate) fn is_rot(fault: &HistoryFault) -> bool {
    matches!(
        fault,
        HistoryFault::TooLong(_)
            | HistoryFault::Malformed { .. }
            | HistoryFault::RecordLength { .. }
            | HistoryFault::Full
            | HistoryFault::Key { .. }
    )
}
