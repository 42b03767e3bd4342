//! Why a history of keys, or a signature under one, is refused, and who is at fault.

use alloc::string::String;
use core::fmt;

use super::{LEDGER_KEY_CHANGES_MAX, LEDGER_KEY_RECORD_BYTES_MAX, LEDGER_KEYS_BYTES_MAX};
use crate::note::KeyError;

/// Who must sign a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatory {
    /// The ledger's first key, or the one that a rotation ends.
    Old,
    /// The key that a change brings in: proof that somebody holds it.
    New,
    /// The offline key.
    Offline,
}

impl fmt::Display for Signatory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "the key in force",
            Self::New => "the new key",
            Self::Offline => "the offline key",
        })
    }
}

/// Why a history of keys is refused. Records are numbered from 0, the first one; whoever supplied the history is at
/// fault unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryFault {
    /// Longer than any history may be.
    #[error("key history of {0} bytes exceeds {LEDGER_KEYS_BYTES_MAX}")]
    TooLong(usize),
    /// No history at all, or a record of it that is not in its one spelling.
    #[error("key history, record {number}: {what}")]
    Malformed {
        /// Which record.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A record that is too long.
    #[error("key history, record {number}: {bytes} bytes exceed {LEDGER_KEY_RECORD_BYTES_MAX}")]
    RecordLength {
        /// Which record.
        number: usize,
        /// Its length.
        bytes: usize,
    },
    /// More changes than one history may hold. The operator: begin a new ledger.
    #[error("key history holds more than {LEDGER_KEY_CHANGES_MAX} changes")]
    Full,
    /// A key in it is none.
    #[error("key history, record {number}: {cause}")]
    Key {
        /// Which record.
        number: usize,
        /// What is wrong.
        cause: KeyError,
    },
    /// A record does not follow the one before.
    #[error("key history, record {number}: {what}")]
    Order {
        /// Which record.
        number: usize,
        /// In what it does not follow.
        what: &'static str,
    },
    /// Somebody who has a say did not sign.
    #[error("key history, record {number}: {by} {id} has not signed it")]
    Unsigned {
        /// Which record.
        number: usize,
        /// Who should have.
        by: Signatory,
        /// Id of that key, hex.
        id: String,
    },
    /// The signature of somebody who has a say does not fit: forged or altered.
    #[error("key history, record {number}: the signature of {by} {id} does not fit")]
    BadSignature {
        /// Which record.
        number: usize,
        /// Whose.
        by: Signatory,
        /// Id of that key, hex.
        id: String,
    },
    /// It begins with another key than the one trusted: another ledger, or a stranger's invention.
    #[error("key history begins with key {found}, the first key trusted is {trusted}")]
    OtherFirst {
        /// Id of its first key, hex.
        found: String,
        /// Id of the one trusted, hex.
        trusted: String,
    },
    /// Well signed, and not the history that is held: whoever holds the keys signed two.
    #[error(
        "key history parts from the one held at record {number}: two histories were signed for one ledger"
    )]
    Fork {
        /// The first record that differs.
        number: usize,
    },
}

/// Where a key stands that is part of a history and not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It signs only later.
    NotYet,
    /// A rotation ended it.
    Replaced,
    /// It was revoked.
    Revoked,
}

/// A good signature by a key of this ledger that may not make it. Whoever made it holds a key that was replaced or
/// stolen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct OutOfForce {
    /// Id of the key, hex.
    pub signer: String,
    /// Leaves of what it signed.
    pub size: u64,
    /// From so many leaves on it is so.
    pub from: u64,
    /// What is so.
    pub standing: Standing,
}

impl fmt::Display for OutOfForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            signer, size, from, ..
        } = self;
        match self.standing {
            Standing::NotYet => write!(
                f,
                "{size} leaves are signed by key {signer} that signs from {from} leaves on"
            ),
            Standing::Replaced => write!(
                f,
                "{size} leaves are signed by key {signer} that was replaced from {from} leaves on"
            ),
            Standing::Revoked => write!(
                f,
                "{size} leaves are signed by key {signer} that was revoked from {from} leaves on"
            ),
        }
    }
}
