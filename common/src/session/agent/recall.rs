//! What a starting agent remembers of its ledger: the checkpoint and the keys on the disk, held against the mark that
//! the spool's head keeps of them.
//!
//! Owns the policy. A checkpoint that is gone, was put back from a copy or rotted costs nothing but its signed bytes:
//! size and root stand in the mark, so a ledger that was rolled back is found all the same, and shipping goes on. A
//! history of keys that is gone has no stand-in, so nothing is believed until it is back. Refuses to touch a file.

use alloc::{string::ToString, vec::Vec};

use super::Seen;
use crate::{
    checkpoint::CheckpointError,
    ids::Hash,
    ledger_keys::{LedgerKeys, LedgerTrust},
    merkle::empty_root,
    spool::LedgerMark,
};

/// Why what is remembered is not as it was left, although one can go on. The disk is at fault, or whoever wrote to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forgotten {
    /// There is no checkpoint any more.
    #[error(
        "the checkpoint this agent remembered, of {size} leaves, is gone: somebody removed it. The spool's head still \
         has its size and root, so a ledger that was put back is noticed; the signed bytes are lost as evidence"
    )]
    Gone {
        /// Its size, leaves.
        size: u64,
    },
    /// It is of an earlier moment than the spool's head.
    #[error(
        "the checkpoint here has {found} leaves, this agent had seen {size}: an older copy was put back. What the \
         spool's head has of the later one is gone by"
    )]
    Older {
        /// Leaves of the one that is there.
        found: u64,
        /// Leaves of the one that was.
        size: u64,
    },
    /// It cannot be read any more.
    #[error(
        "the checkpoint this agent remembered, of {size} leaves, was altered: {cause}. What the spool's head has of \
         it is gone by"
    )]
    Altered {
        /// Its size, leaves.
        size: u64,
        /// What is wrong with it now.
        cause: CheckpointError,
    },
    /// What the spool's head remembers is of another ledger.
    #[error(
        "the spool's head remembers another ledger, with {size} leaves, than the one in ledger.vkey: if this host was \
         not enrolled with another ledger, somebody exchanged that file"
    )]
    OtherLedger {
        /// Leaves of the other one.
        size: u64,
    },
}

/// Why nothing can be gone on from; nothing is shipped, and nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecallFault {
    /// The checkpoint is not of the pinned ledger, and no mark of it stands in.
    #[error(
        "the remembered checkpoint is not of the ledger in ledger.vkey: {0}; was the host enrolled with another ledger?"
    )]
    Checkpoint(#[from] CheckpointError),
    /// Two roots for one size.
    #[error(
        "the remembered checkpoint of {size} leaves has another root than this agent had seen: the ledger's key signed \
         two, or the spool's head was altered. Keep both files and ask the ledger's operator"
    )]
    RootsDiffer {
        /// Leaves.
        size: u64,
    },
    /// The history of keys that was held is not there any more.
    #[error(
        "the history of the ledger's keys that this agent held, {bytes} bytes, is not what ledger.keys and \
         state/ledger.keys hold: put the ledger's own ledger.keys, as its operator hands it out, in their place. Until \
         then a key that was revoked could speak for the ledger"
    )]
    Keys {
        /// Its length, bytes.
        bytes: u64,
    },
}

/// The mark of what is written down.
pub(super) fn mark_of(keys: &LedgerKeys, seen: &Seen) -> LedgerMark {
    let history = keys.encode();
    LedgerMark {
        ledger: ledger_id(keys),
        size: seen.size,
        root: seen.root,
        history_bytes: history.len() as u64,
        history: Hash::of(&history),
    }
}

fn ledger_id(keys: &LedgerKeys) -> Hash {
    Hash::of(keys.first().to_string().as_bytes())
}

impl Seen {
    /// What to go on from: `note` is the checkpoint on the disk, `keys` what the files there prove, `mark` what the
    /// spool's head remembers of both.
    ///
    /// # Errors
    /// [`RecallFault`].
    pub fn recall(
        note: Option<&[u8]>,
        mark: Option<&LedgerMark>,
        keys: &LedgerKeys,
    ) -> Result<(Self, Option<Forgotten>), RecallFault> {
        let ours = mark.filter(|mark| mark.ledger == ledger_id(keys));
        let other = mark
            .filter(|_| ours.is_none())
            .map(|mark| Forgotten::OtherLedger { size: mark.size });
        if let Some(mark) = ours {
            let bytes = mark.history_bytes;
            let known = keys.encode();
            let held = usize::try_from(bytes).ok().and_then(|length| known.get(..length));
            if held.is_none_or(|held| Hash::of(held) != mark.history) {
                return Err(RecallFault::Keys { bytes });
            }
        }
        let mark = ours.filter(|mark| mark.size > 0);
        let from_mark = |mark: &LedgerMark| Self {
            size: mark.size,
            root: mark.root,
            note: Vec::new(),
        };
        let opened = note.map(|note| Self::remembered(note, keys));
        match (opened, mark) {
            (None, None) => Ok((Self::nothing(), other)),
            (None, Some(mark)) => Ok((from_mark(mark), Some(Forgotten::Gone { size: mark.size }))),
            (Some(Err(cause)), None) => Err(cause.into()),
            (Some(Err(cause)), Some(mark)) => {
                let size = mark.size;
                Ok((from_mark(mark), Some(Forgotten::Altered { size, cause })))
            }
            (Some(Ok(seen)), Some(mark)) if seen.size < mark.size => {
                let (found, size) = (seen.size, mark.size);
                Ok((from_mark(mark), Some(Forgotten::Older { found, size })))
            }
            (Some(Ok(seen)), Some(mark)) if seen.size == mark.size && seen.root != mark.root => {
                Err(RecallFault::RootsDiffer { size: seen.size })
            }
            (Some(Ok(seen)), _) => Ok((seen, other)),
        }
    }

    /// No checkpoint was ever seen: any ledger extends the empty one.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            size: 0,
            root: empty_root(),
            note: Vec::new(),
        }
    }

    /// The checkpoint remembered by an earlier run, checked again.
    pub fn remembered(note: &[u8], trust: &impl LedgerTrust) -> Result<Self, CheckpointError> {
        let checkpoint = trust.open_checkpoint(note)?;
        Ok(Self {
            size: checkpoint.size,
            root: checkpoint.root,
            note: note.to_vec(),
        })
    }
}
