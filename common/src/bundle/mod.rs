//! Audit bundles: one file that proves what was asked of a ledger, checked with no network and no ledger.
//!
//! Bytes: `docs/format/bundle.md`. Owns the file ([`Bundle`]), which hashes, headers and events are needed to
//! check it, and the judgement ([`check`]): what is proven ([`Report`]), and what of the question the file does
//! not answer. Nothing depends on the present instant. Refuses to say what an event means, and to believe the
//! key that the file carries: the caller names the one to trust.

mod bytes;
mod fault;
mod report;
mod rules;
mod verify;

pub use self::{
    bytes::{BUNDLE_BYTES_MAX, BadBundle},
    fault::{BundleFault, EventFault, HeaderFault, Misfit, StatementWrong},
    report::{
        Asked, Choice, HostReport, LostEvents, Missing, NamedEvent, ProvenRow, Report, StatementRow,
        Unwatched, Withheld,
    },
    verify::check,
};

use alloc::{string::String, vec::Vec};

use crate::{
    fold::EntityId,
    ids::{EventIndex, Hash, HostId, LeafIndex, WallNanos},
};

/// What was asked for. It is nobody's signed word; the check holds the file's contents against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// What the batches hold that watched an instant of an interval, by the hosts' wall clocks.
    Interval {
        /// Its first instant.
        since: WallNanos,
        /// Its last instant, not before the first.
        until: WallNanos,
        /// These hosts, ascending; all of the ledger's where empty.
        hosts: Vec<HostId>,
        /// Events about this entity only.
        entity: Option<EntityId>,
    },
    /// These events, ascending, at least one.
    Events(Vec<(HostId, EventIndex)>),
}

/// A bundle that was read and not verified: nothing in it may be believed before [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The ledger's verifier key, encoded: a hint, refused where it is not the key to trust.
    pub verifier_key: String,
    /// The history of the ledger's keys, byte for byte; empty where none of them was ever changed.
    pub ledger_keys: Vec<u8>,
    /// The checkpoint as a signed note with all its cosignatures, byte for byte.
    pub checkpoint: Vec<u8>,
    /// What was asked for.
    pub selection: Selection,
    /// One part for each host, ascending.
    pub hosts: Vec<HostPart>,
    /// Statements of the collector, by leaf.
    pub statements: Vec<StatementPart>,
    /// Proves every header and statement under the checkpoint (`crate::merkle::root_from_multi`).
    pub path: Vec<Hash>,
}

/// One host's chain from one batch to another, without a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPart {
    /// Whose.
    pub host: HostId,
    /// A signed header of each key epoch before that of the first batch, from epoch 0 on.
    pub key_history: Vec<Vec<u8>>,
    /// The batches, at least one.
    pub batches: Vec<BatchPart>,
}

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPart {
    /// Its leaf.
    pub leaf: LeafIndex,
    /// Its signed header.
    pub header: Vec<u8>,
    /// What of its events is here.
    pub contents: Contents,
}

/// What of a batch's events is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// None: none was asked for.
    Header,
    /// All, as the batch's body.
    Body(Vec<u8>),
    /// Some, with what proves them under the batch's events root.
    Events {
        /// Position in the batch and bytes, ascending, at least one.
        events: Vec<(u32, Vec<u8>)>,
        /// Proves them (`crate::merkle::root_from_multi`).
        path: Vec<Hash>,
    },
    /// None: the ledger does not hold the body any more.
    Gone,
}

/// One statement of the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementPart {
    /// Its leaf.
    pub leaf: LeafIndex,
    /// Its signed bytes.
    pub statement: Vec<u8>,
}

#[cfg(test)]
mod tests;
