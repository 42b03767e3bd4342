//! Why a bundle proves nothing: who is at fault, where, and the one word that every verifier says.

use alloc::{boxed::Box, string::String, vec::Vec};

use super::BadBundle;
use crate::{
    batch::{BadHeader, BodyFault, ChainFault},
    checkpoint::CheckpointError,
    ids::{HostId, LeafIndex, Sequence},
    ledger_keys::HistoryFault,
    merkle::ProofError,
    note::NoteError,
    statement::{BadStatement, EquivocationFault, StatementFault},
};

/// Why a bundle proves nothing. Whoever supplied it is at fault, unless the key or the witnesses given are not
/// those of its ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleFault {
    /// No bundle, or not in its one form.
    #[error("{0}")]
    Bytes(#[from] BadBundle),
    /// It names another ledger's key than the one to trust.
    #[error("the bundle is of the ledger with key {found}, trusted is {trusted}")]
    OtherLedger {
        /// The key it names.
        found: String,
        /// The key to trust.
        trusted: String,
    },
    /// The history of the ledger's keys does not stand, or does not follow from what is trusted.
    #[error("{0}")]
    LedgerKeys(#[from] HistoryFault),
    /// The checkpoint.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A witness's line does not verify.
    #[error("checkpoint: {0}")]
    Cosignature(NoteError),
    /// Not enough witnesses cosigned it.
    #[error("not enough witnesses cosigned the checkpoint: missing {}", .missing.join(", "))]
    Witnesses {
        /// Those that did not.
        missing: Vec<String>,
    },
    /// A header is none, or not signed by the key it names.
    #[error("host {host}, header {at} of its part: {cause}")]
    Header {
        /// The host whose part it is in.
        host: HostId,
        /// Which, the key history counted first.
        at: usize,
        /// What is wrong.
        cause: Box<HeaderFault>,
    },
    /// A header is not its host's, or does not continue the chain.
    #[error("host {host}, batch {sequence}: {cause}")]
    Chain {
        /// The host whose part it is in.
        host: HostId,
        /// Which batch.
        sequence: Sequence,
        /// What is wrong.
        cause: Box<Misfit>,
    },
    /// Events are not those that the header signs.
    #[error("host {host}, batch {sequence}: {cause}")]
    Events {
        /// The host.
        host: HostId,
        /// Which batch.
        sequence: Sequence,
        /// What is wrong.
        cause: Box<EventFault>,
    },
    /// The file holds what was not asked for.
    #[error("host {host}{}: this is not what the bundle says was asked for", .batch.map_or_else(String::new, |batch| alloc::format!(", batch {batch}")))]
    Selection {
        /// The host.
        host: HostId,
        /// The batch, where one is concerned.
        batch: Option<Sequence>,
    },
    /// A statement is none, not the collector's, or accuses falsely.
    #[error("statement at leaf {leaf}: {cause}")]
    Statement {
        /// Its leaf.
        leaf: LeafIndex,
        /// What is wrong.
        cause: Box<StatementWrong>,
    },
    /// Headers and statements are not proven to be in the ledger.
    #[error("the ledger does not hold what the bundle says: {0}")]
    Ledger(ProofError),
}

/// Why a header is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Its bytes.
    #[error("{0}")]
    Bytes(#[from] BadHeader),
    /// Its signature.
    #[error("{0}")]
    Signature(ChainFault),
}

/// Why a header does not stand where it does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Its place in the chain, or its key.
    #[error("{0}")]
    Chain(#[from] ChainFault),
    /// A key history of another length, or a header of it that is of another epoch or stands elsewhere.
    #[error("the key history before it does not lead to its key epoch")]
    History,
}

/// Why events are not the batch's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// The body.
    #[error("{0}")]
    Body(#[from] BodyFault),
    /// The proof of chosen events.
    #[error("{0}")]
    Proof(#[from] ProofError),
    /// Events are numbered past the end of numbers.
    #[error("event index overflows")]
    Overflow,
}

/// Why a statement says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementWrong {
    /// Its bytes.
    #[error("{0}")]
    Bytes(#[from] BadStatement),
    /// Its signature.
    #[error("{0}")]
    Signature(#[from] StatementFault),
    /// It accuses a host of what the headers in it do not show.
    #[error("it accuses falsely: {0}")]
    Accusation(#[from] EquivocationFault),
}

impl BundleFault {
    /// The reason in one word, the same for every verifier.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bytes(BadBundle::Digest) => "digest",
            Self::Bytes(_) => "malformed",
            Self::OtherLedger { .. } | Self::Checkpoint(_) => "checkpoint",
            Self::LedgerKeys(_) => "keys",
            Self::Cosignature(_) | Self::Witnesses { .. } => "witnesses",
            Self::Header { .. } => "header",
            Self::Chain { .. } => "chain",
            Self::Events { .. } => "events",
            Self::Selection { .. } => "selection",
            Self::Statement { .. } => "statement",
            Self::Ledger(_) => "ledger",
        }
    }
}
