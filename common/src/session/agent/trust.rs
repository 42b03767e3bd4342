//! Whether to believe the collector: keys, checkpoints, consistency, inclusion, and whether enough witnesses
//! agree.
//!
//! Whatever the ledger's key signs is followed, so that a fork is found with witnesses or without. A checkpoint
//! that too few witnesses cosigned is remembered like any other and trims nothing; the next one that enough
//! cosigned extends it, and thereby covers what was proven under it.

use alloc::vec::Vec;

use super::{AgentFault, recall::mark_of};
use crate::{
    ids::{BootNanos, Hash, Sequence},
    ledger_keys::{HistoryFault, KeyChange, LedgerKeys, LedgerTrust},
    merkle::{verify_consistency, verify_inclusion},
    session::message::Receipts,
    spool::{LedgerMark, Spool},
    witness::{Policy, Quorum},
};

/// How long to wait before remembering is tried again, nanoseconds.
const REMEMBER_RETRY_NS: u64 = 1_000_000_000;

/// The last checkpoint an agent verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Leaves.
    pub size: u64,
    /// Root.
    pub root: Hash,
    /// The signed note; empty before the first, and where only the spool's head remembers it.
    pub note: Vec<u8>,
}

/// Why receipts were not accepted.
#[derive(Debug)]
pub(super) enum Untrue {
    /// What is signed or claimed cannot stand.
    Lie(AgentFault),
    /// The message does not belong here.
    Misplaced(&'static str),
}

/// Verified and not yet remembered durably.
#[derive(Debug)]
struct Verified {
    seen: Seen,
    through: Option<Sequence>,
}

/// What the driver is to write down durably.
#[derive(Debug)]
pub(super) enum Writing {
    /// A history of keys.
    Keys(Vec<u8>),
    /// A checkpoint.
    Checkpoint(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Trust {
    keys: LedgerKeys,
    /// What was learnt of keys and is not written down yet: it goes before every checkpoint.
    learnt: Option<Vec<u8>>,
    /// Being written down by the driver.
    learnt_under_way: Option<Vec<u8>>,
    /// Who must have cosigned before anything is trimmed.
    witnesses: Option<Policy>,
    seen: Seen,
    /// What of it is written down.
    mark: LedgerMark,
    /// The first batch without verified receipt, as far as this run knows.
    proven_next: Sequence,
    /// The first batch that no checkpoint with enough cosignatures covers: where no policy is given, the same.
    covered_next: Sequence,
    /// Newest verified receipts that wait for the ones under way.
    waiting: Option<Verified>,
    /// Being remembered by the driver.
    under_way: Option<Verified>,
    /// When to try again after the disk refused.
    retry_at: Option<BootNanos>,
}

impl Trust {
    pub(super) fn new(keys: LedgerKeys, witnesses: Option<Policy>, seen: Seen) -> Self {
        let mark = mark_of(&keys, &seen);
        Self {
            keys,
            mark,
            learnt: None,
            learnt_under_way: None,
            witnesses,
            seen,
            proven_next: Sequence(0),
            covered_next: Sequence(0),
            waiting: None,
            under_way: None,
            retry_at: None,
        }
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What is remembered durably: never more.
    pub(super) fn mark(&self) -> LedgerMark {
        self.mark
    }

    pub(super) fn proven_next(&self) -> Sequence {
        self.proven_next
    }

    /// Follows a history of keys from what is known; returns the changes that are new. From here on checkpoints are
    /// judged by it, and none is written down before it is.
    pub(super) fn learn(&mut self, history: &[u8]) -> Result<Vec<KeyChange>, HistoryFault> {
        let Some(learnt) = self.keys.learn(history)? else {
            return Ok(Vec::new());
        };
        let known = self.keys.changes().len();
        let changes = learnt.changes().get(known..).unwrap_or_default().to_vec();
        self.keys = learnt;
        self.learnt = Some(history.to_vec());
        Ok(changes)
    }

    /// The history of keys that is held; empty where none is.
    pub(super) fn history(&self) -> Vec<u8> {
        self.keys.encode()
    }

    /// The first batch that may not be trimmed yet, once what was verified is remembered.
    pub(super) fn covered_next(&self) -> Sequence {
        self.covered_next
    }

    /// Verifies receipts; on success they stand for themselves and wait to be remembered. Returns who cosigned
    /// their checkpoint, where that is demanded.
    pub(super) fn verify(&mut self, receipts: &Receipts, spool: &Spool) -> Result<Option<Quorum>, Untrue> {
        let untrue = |cause| Untrue::Lie(AgentFault::Checkpoint(cause));
        let checkpoint = self.keys.open_checkpoint(&receipts.checkpoint).map_err(untrue)?;
        // A cosignature of a demanded witness that does not verify sinks the note (C2SP signed-note): it is not
        // taken for one that is merely missing.
        let judged = self
            .witnesses
            .as_ref()
            .map(|policy| policy.judge(&receipts.checkpoint));
        let quorum = judged.transpose().map_err(|cause| untrue(cause.into()))?;
        let (seen, size) = (self.seen.size, checkpoint.size);
        verify_consistency(
            seen,
            &self.seen.root,
            size,
            &checkpoint.root,
            &receipts.consistency,
        )
        .map_err(|cause| Untrue::Lie(AgentFault::Inconsistent { seen, size, cause }))?;
        let mut next = self.proven_next.max(spool.oldest());
        for proven in &receipts.proven {
            let sequence = proven.sequence;
            if sequence != next {
                return Err(Untrue::Misplaced("a receipt for another batch than the next"));
            }
            match spool.entry(sequence) {
                Some(entry) => {
                    verify_inclusion(&entry.leaf, proven.leaf.0, size, &proven.proof, &checkpoint.root)
                        .map_err(|cause| Untrue::Lie(AgentFault::NotIncluded { sequence, cause }))?;
                }
                // Lost to damage here: nothing is left that trimming could take away.
                None if sequence < spool.head().next_sequence => {}
                None => return Err(Untrue::Misplaced("a receipt for a batch that was never sealed")),
            }
            next = Sequence(sequence.0.saturating_add(1));
        }
        self.proven_next = next;
        if quorum.as_ref().is_none_or(|quorum| quorum.satisfied) {
            self.covered_next = next;
        }
        self.seen = Seen {
            size,
            root: checkpoint.root,
            note: receipts.checkpoint.clone(),
        };
        self.waiting = Some(Verified {
            seen: self.seen.clone(),
            through: self.covered_next.0.checked_sub(1).map(Sequence),
        });
        Ok(quorum)
    }

    /// What to write down next, one at a time: keys first, then the checkpoint; a newer one replaces those that wait.
    pub(super) fn poll_remember(&mut self) -> Option<Writing> {
        if self.under_way.is_some() || self.learnt_under_way.is_some() {
            return None;
        }
        self.retry_at = None;
        if let Some(history) = self.learnt.take() {
            self.learnt_under_way = Some(history.clone());
            return Some(Writing::Keys(history));
        }
        self.under_way = self.waiting.take();
        let note = self.under_way.as_ref().map(|verified| verified.seen.note.clone());
        note.map(Writing::Checkpoint)
    }

    /// It is durable: the batches it proves may go. A crash before this leaves them in the spool, and their
    /// receipts are asked for again.
    pub(super) fn handle_remembered(&mut self) -> Option<Sequence> {
        if let Some(history) = self.learnt_under_way.take() {
            (self.mark.history_bytes, self.mark.history) = (history.len() as u64, Hash::of(&history));
            return None;
        }
        let verified = self.under_way.take()?;
        (self.mark.size, self.mark.root) = (verified.seen.size, verified.seen.root);
        verified.through
    }

    /// The disk refused: nothing is trimmed, and it is tried again, for no other receipts may come.
    pub(super) fn handle_remember_failed(&mut self, now: BootNanos) {
        let unlearnt = self.learnt_under_way.take();
        if self.learnt.is_none() {
            self.learnt = unlearnt;
        }
        let failed = self.under_way.take();
        if self.waiting.is_none() {
            self.waiting = failed;
        }
        self.retry_at = Some(BootNanos(now.0.saturating_add(REMEMBER_RETRY_NS)));
    }

    pub(super) fn retry_at(&self) -> Option<BootNanos> {
        self.retry_at
    }
}
