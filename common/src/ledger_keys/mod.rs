//! Which key may sign for a ledger, and from when on.
//!
//! Bytes: `docs/format/ledger-keys.md`. Owns the history of a ledger's keys: its first key and an offline key
//! that no running collector holds, then one record for each change, chained, signed by whoever has a say. A
//! history that was only read is [`UnverifiedHistory`]; only its signatures make [`LedgerKeys`] of it. A bare
//! verifier key is a trust as well: one that knows of no change. Refuses to decide where trust begins: whoever
//! asks brings a key or a history of their own, and is only ever led on from there.

mod fault;
mod history;
mod record;
mod sign;

use alloc::{string::String, vec::Vec};

pub use self::{
    fault::{HistoryFault, OutOfForce, Signatory, Standing},
    history::UnverifiedHistory,
    record::{KeyChange, UnverifiedRecord, Why},
};
use crate::{
    checkpoint::{self, Checkpoint, CheckpointError},
    ids::{LeafIndex, hex},
    note::{NoteError, UnverifiedNote, VerifierKey},
};

/// Most changes in one history.
pub const LEDGER_KEY_CHANGES_MAX: usize = 64;
/// Longest record accepted, in bytes: three names of 255 bytes, their signatures, a reason of 512 bytes.
pub const LEDGER_KEY_RECORD_BYTES_MAX: usize = 4 * 1024;
/// Longest history accepted, in bytes.
pub const LEDGER_KEYS_BYTES_MAX: usize = (1 + LEDGER_KEY_CHANGES_MAX) * LEDGER_KEY_RECORD_BYTES_MAX;

/// Whoever can say which key may sign what of one ledger.
pub trait LedgerTrust {
    /// The ledger's origin.
    fn origin(&self) -> &str;

    /// Opens a checkpoint that the key in force for its size has signed.
    ///
    /// # Errors
    /// Whoever supplied it is at fault, unless the trust is another ledger's or knows too little.
    fn open_checkpoint(&self, note: &[u8]) -> Result<Checkpoint, CheckpointError>;

    /// The key that signs the statement at this leaf.
    fn signer_at(&self, leaf: LeafIndex) -> &VerifierKey;

    /// All that is known of the ledger's keys.
    fn keys(&self) -> LedgerKeys;

    /// What is known of another key that signed the statement at this leaf.
    fn out_of_force(&self, _signer: &[u8; 32], _leaf: LeafIndex) -> Option<OutOfForce> {
        None
    }
}

/// A bare key: no change of it is known.
impl LedgerTrust for VerifierKey {
    fn origin(&self) -> &str {
        self.name()
    }

    fn open_checkpoint(&self, note: &[u8]) -> Result<Checkpoint, CheckpointError> {
        checkpoint::open(note, self)
    }

    fn signer_at(&self, _leaf: LeafIndex) -> &VerifierKey {
        self
    }

    fn keys(&self) -> LedgerKeys {
        self.clone().into()
    }
}

/// A ledger's keys as far as they are proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerKeys {
    first: VerifierKey,
    in_force: VerifierKey,
    /// The key that alone can revoke; `None` where no history is known.
    offline: Option<VerifierKey>,
    /// The records byte for byte; none where no history is known.
    records: Vec<Vec<u8>>,
    changes: Vec<KeyChange>,
}

/// A bare key, with no change known of it.
impl From<VerifierKey> for LedgerKeys {
    fn from(key: VerifierKey) -> Self {
        Self {
            first: key.clone(),
            in_force: key,
            offline: None,
            records: Vec::new(),
            changes: Vec::new(),
        }
    }
}

impl LedgerKeys {
    /// A history that its reader got from somebody trusted: its own first record is where trust begins.
    ///
    /// # Errors
    /// It does not stand by itself.
    pub fn given(history: &[u8]) -> Result<Self, HistoryFault> {
        UnverifiedHistory::parse(history)?.verify()
    }

    /// Follows `history` from what is held; `None` where it says nothing new. What is held has the word: another
    /// first key, or other records than those held, are refused.
    ///
    /// # Errors
    /// Whoever supplied it is at fault, or whoever let the offline key sign two of them.
    pub fn learn(&self, history: &[u8]) -> Result<Option<Self>, HistoryFault> {
        let offered = UnverifiedHistory::parse(history)?.verify()?;
        if offered.first != self.first {
            return Err(HistoryFault::OtherFirst {
                found: hex(&offered.first.id()),
                trusted: hex(&self.first.id()),
            });
        }
        let pairs = self.records.iter().zip(&offered.records);
        if let Some((number, _)) = (0..).zip(pairs).find(|(_, (held, found))| held != found) {
            return Err(HistoryFault::Fork { number });
        }
        Ok((offered.records.len() > self.records.len()).then_some(offered))
    }

    /// The first key: the one in `ledger.vkey`.
    #[must_use]
    pub fn first(&self) -> &VerifierKey {
        &self.first
    }

    /// The key that signs now.
    #[must_use]
    pub fn in_force(&self) -> &VerifierKey {
        &self.in_force
    }

    /// The offline key, where a history is known.
    #[must_use]
    pub fn offline(&self) -> Option<&VerifierKey> {
        self.offline.as_ref()
    }

    /// The changes in order.
    #[must_use]
    pub fn changes(&self) -> &[KeyChange] {
        &self.changes
    }

    /// The change whose statement is the leaf `leaf`, with the bytes of its record.
    #[must_use]
    pub fn change_at(&self, leaf: LeafIndex) -> Option<(&KeyChange, &[u8])> {
        let records = self.records.iter().skip(1).map(Vec::as_slice);
        self.changes
            .iter()
            .zip(records)
            .find(|(change, _)| change.after == leaf.0)
    }

    /// The key that signs checkpoints of `size` leaves.
    #[must_use]
    pub fn key_at(&self, size: u64) -> &VerifierKey {
        let ended = self.changes.iter().find(|change| size <= change.after);
        ended.map_or(&self.in_force, |change| &change.ends)
    }

    /// The history file; empty where none is known.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.records.concat()
    }

    /// Where `key` stands for `size` leaves, for which it is not in force; `None` for a key that is no part of this
    /// history.
    fn standing(&self, key: &VerifierKey, size: u64) -> Option<OutOfForce> {
        let ended = self.changes.iter().find(|change| change.ends == *key);
        let signer = hex(&key.id());
        if let Some(ended) = ended.filter(|change| change.after < size) {
            let standing = match ended.why {
                Why::Rotated => Standing::Replaced,
                Why::Revoked { .. } => Standing::Revoked,
            };
            return Some(OutOfForce {
                signer,
                size,
                from: ended.after.saturating_add(1),
                standing,
            });
        }
        let begun = self.changes.iter().find(|change| change.key == *key)?;
        Some(OutOfForce {
            signer,
            size,
            from: begun.after.saturating_add(1),
            standing: Standing::NotYet,
        })
    }

    /// Every key that was ever in force, the first one first.
    pub fn all(&self) -> impl Iterator<Item = &VerifierKey> {
        core::iter::once(&self.first).chain(self.changes.iter().map(|change| &change.key))
    }
}

impl LedgerTrust for LedgerKeys {
    fn origin(&self) -> &str {
        self.first.name()
    }

    fn open_checkpoint(&self, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let note = UnverifiedNote::parse(bytes)?;
        let Ok(claimed) = Checkpoint::parse_body(note.danger_unverified_text()) else {
            // Nothing in it says which key should have signed: the one in force says what is wrong with it.
            return checkpoint::open(bytes, &self.in_force);
        };
        let head = match checkpoint::open(bytes, self.key_at(claimed.size)) {
            Err(CheckpointError::Note(NoteError::NoKnownSignature)) => {
                let signer = self.all().find(|key| note.verify(&[*key]).is_ok());
                let found = signer.and_then(|key| self.standing(key, claimed.size));
                return Err(found.map_or(NoteError::NoKnownSignature.into(), |found| {
                    CheckpointError::OutOfForce(found.into())
                }));
            }
            opened => opened?,
        };
        match self.changes.iter().find(|change| change.after == head.size) {
            Some(change) if change.root != head.root => Err(CheckpointError::OtherRoot {
                size: head.size,
                recorded: change.root,
            }),
            _ => Ok(head),
        }
    }

    fn signer_at(&self, leaf: LeafIndex) -> &VerifierKey {
        self.key_at(leaf.0.saturating_add(1))
    }

    fn keys(&self) -> LedgerKeys {
        self.clone()
    }

    fn out_of_force(&self, signer: &[u8; 32], leaf: LeafIndex) -> Option<OutOfForce> {
        let key = self.all().find(|key| key.public() == signer)?;
        self.standing(key, leaf.0.saturating_add(1))
    }
}

/// A file that holds either form of trust: a verifier key, or a history.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read_trust(bytes: &[u8]) -> Result<LedgerKeys, String> {
    use alloc::string::ToString;
    if UnverifiedHistory::begins(bytes) {
        return LedgerKeys::given(bytes).map_err(|fault| fault.to_string());
    }
    let text = String::from_utf8_lossy(bytes);
    let key = VerifierKey::parse(text.trim()).map_err(|fault| fault.to_string())?;
    Ok(key.into())
}

#[cfg(test)]
mod tests;
