//! What an agent's session says happened, and whose fault it is.

use alloc::boxed::Box;

use super::super::{
    message::BadMessage,
    refusal::{Refusal, RefusalCode},
};
use crate::{
    checkpoint::CheckpointError,
    ids::{Hash, Sequence},
    ledger_keys::{HistoryFault, KeyChange},
    merkle::ProofError,
    witness::Quorum,
};

/// Something to show and count. No evidence: that goes through effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The collector answered and awaits this batch.
    Opened {
        /// The batch it awaits.
        next: Sequence,
    },
    /// Batches up to this one are durable at the collector.
    Stored {
        /// The last of them.
        through: Sequence,
    },
    /// Batches before this one were proven to stand in the ledger, under a checkpoint that enough witnesses
    /// cosigned where witnesses are demanded.
    Proven {
        /// The first that was not.
        before: Sequence,
        /// Size of the checkpoint verified last, whoever cosigned it.
        size: u64,
    },
    /// Which of the witnesses demanded cosigned a checkpoint. Where they are too few, nothing is trimmed for it.
    Judged {
        /// Size of the checkpoint.
        size: u64,
        /// Who did, and whether that is enough.
        quorum: Quorum,
    },
    /// The ledger's key was changed, which its history proves; it is written down before anything rests on it.
    KeyChanged(Box<KeyChange>),
    /// The collector refused something.
    Refused(Refusal),
    /// The connection ended; the next attempt is planned.
    Ended {
        /// Why.
        reason: EndReason,
        /// When to try again, nanoseconds from now.
        retry_in_ns: u64,
    },
    /// The session halted until the agent restarts.
    Halted(AgentFault),
    /// A message was over the format's limits. Ours to fix.
    Unsendable(BadMessage),
    /// An orderly stop is complete.
    Finished,
}

/// Why a connection ended. Another attempt follows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// It could not be made in time.
    #[error("the collector could not be reached in time")]
    ConnectTimeout,
    /// The transport lost it, or never had it.
    #[error("the connection was lost")]
    Lost,
    /// Nothing came for too long.
    #[error("the collector has been silent for too long")]
    Idle,
    /// The collector sent what is no message.
    #[error("the collector sent garbage: {0}")]
    Garbage(BadMessage),
    /// The collector sent a message out of place.
    #[error("the collector sent {0} out of place")]
    Misplaced(&'static str),
    /// The collector speaks another protocol.
    #[error("the collector speaks protocol {0}, which is unknown here; upgrade the older side")]
    Version(u16),
    /// The collector refused to go on.
    #[error("the collector refused ({})", .0.name())]
    Refused(RefusalCode),
}

/// Why an agent sends nothing any more. The spool is kept and nothing is trimmed until an operator looked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentFault {
    /// The collector's checkpoint is not signed by the pinned key, or is none. The collector is at fault.
    #[error("the collector's checkpoint is not to be trusted: {0}")]
    Checkpoint(CheckpointError),
    /// The collector's history of its ledger's keys does not stand, or is not the one seen before. The collector is at
    /// fault, or whoever holds its offline key.
    #[error("the collector's keys are not to be trusted: {0}")]
    Keys(HistoryFault),
    /// The collector's ledger is not an extension of the one seen before: it was forked, cut or restored from
    /// an older copy. The collector is at fault.
    #[error(
        "the collector's checkpoint of size {size} does not extend the one of size {seen} seen before: {cause}"
    )]
    Inconsistent {
        /// Size of the checkpoint remembered.
        seen: u64,
        /// Size of the one sent.
        size: u64,
        /// What the proof lacks.
        cause: ProofError,
    },
    /// The collector claims to have included a batch and its proof does not hold. The collector is at fault.
    #[error("the collector's proof for batch {sequence} does not hold: {cause}")]
    NotIncluded {
        /// Which batch.
        sequence: Sequence,
        /// What the proof lacks.
        cause: ProofError,
    },
    /// The collector asks for batches it had proven to hold. The collector lost data, or is another one.
    #[error(
        "the collector asks for batch {next}, but it proved to hold everything before {oldest}: \
         its ledger was lost or restored from an older copy"
    )]
    CollectorLost {
        /// What it asks for.
        next: Sequence,
        /// The first batch without receipt.
        oldest: Sequence,
    },
    /// The collector holds batches of this host that this spool never sealed: the machine was rolled back or
    /// cloned. The operator is at fault.
    #[error(
        "the collector holds batches before {collector_next} of this host, this spool ends before {own_next}: \
         the machine was rolled back or cloned; enrol it anew"
    )]
    RolledBack {
        /// What the collector expects next.
        collector_next: Sequence,
        /// What this spool would seal next.
        own_next: Sequence,
    },
    /// The collector holds another batch than this spool under the same sequence: the machine was cloned or
    /// its spool restored. The operator is at fault.
    #[error(
        "the collector's batch before {next} hashes to {theirs}, ours to {ours}: \
         the machine was cloned or its spool restored; enrol it anew"
    )]
    ChainDiffers {
        /// The batch it expects next.
        next: Sequence,
        /// Hash of the header before it, as the collector says.
        theirs: Hash,
        /// Hash of the header before it, as the spool says.
        ours: Hash,
    },
    /// A batch that the collector needs is damaged or missing in the spool. The disk is at fault.
    #[error("batch {sequence}, which the collector needs, is damaged or missing in the spool")]
    SpoolMissing {
        /// Which batch.
        sequence: Sequence,
    },
}
