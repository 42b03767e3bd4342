//! What a bundle proves, and what of the question it leaves open. The JSON is part of the format.

use alloc::{string::String, vec::Vec};

use serde::Serialize;

use crate::{
    ids::{EventIndex, Hash, HostId, KeyEpoch, LeafIndex, Sequence, StatementNumber, hex},
    statement::Kind,
};

/// The verdict on a bundle that holds. Instants are nanoseconds since 1970: of hosts by the host's wall clock,
/// of statements by the collector's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Always `sound`.
    pub verdict: &'static str,
    /// Whether nothing of what was asked for is missing, was lost, or was not watched.
    pub complete: bool,
    /// The ledger's head.
    pub ledger: Head,
    /// Which of the witnesses given cosigned it.
    pub witnesses: Vec<Witness>,
    /// What was asked for.
    pub asked: Asked,
    /// What was asked for by name and is not here at all.
    pub missing: Missing,
    /// Each host, by id.
    pub hosts: Vec<HostReport>,
    /// Statements of the collector, by leaf.
    pub statements: Vec<StatementRow>,
    /// Every event that is here, by host and index.
    pub events: Vec<ProvenRow>,
}

/// A ledger's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Which ledger.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// A witness's cosignature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// Name of its key.
    pub name: String,
    /// When it signed, by its own clock, seconds since 1970.
    pub posix_seconds: u64,
}

/// A selection as reports show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Asked {
    /// An interval.
    Interval {
        /// Its first instant.
        since_ns: u64,
        /// Its last instant.
        until_ns: u64,
        /// Hosts; all where empty.
        hosts: Vec<HostId>,
        /// One entity only.
        entity: Option<AskedEntity>,
    },
    /// Events by number.
    Events {
        /// Which.
        events: Vec<NamedEvent>,
    },
}

/// An entity as reports show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AskedEntity {
    /// The kind's number.
    pub kind: u16,
    /// Its key, hex.
    pub key: String,
}

/// An event of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamedEvent {
    /// The host.
    pub host: HostId,
    /// The event's index in its chain.
    pub index: EventIndex,
}

/// What was asked for by name and is not here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Hosts without a batch.
    pub hosts: Vec<HostId>,
    /// Events.
    pub events: Vec<NamedEvent>,
}

/// How the events of a host were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Whole batches: nothing can have been left out unseen.
    Whole,
    /// Those about one entity. That there are no others is the word of whoever made the bundle.
    Exporter,
    /// Those named.
    Named,
}

/// What is known of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Which.
    pub host: HostId,
    /// First and last batch here; all between them are here too.
    pub batches: [Sequence; 2],
    /// Key epochs of the first and of the last.
    pub epochs: [KeyEpoch; 2],
    /// Index of the first event they cover, and of the one behind the last.
    pub events: [EventIndex; 2],
    /// From when the first batch watched.
    pub from_ns: u64,
    /// Until when the last batch watched.
    pub until_ns: u64,
    /// How its events were chosen.
    pub choice: Choice,
    /// What of the interval nobody watched, or no batch here covers.
    pub unwatched: Vec<Unwatched>,
    /// Batches whose events were asked for and are not here.
    pub withheld: Vec<Withheld>,
    /// What the sensors lost in these batches, as the headers say.
    pub lost: Vec<LostEvents>,
}

/// A part of the interval that no batch covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unwatched {
    /// Its beginning.
    pub from_ns: u64,
    /// Its end.
    pub until_ns: u64,
    /// `before_first_batch` (the host has none earlier), `not_in_bundle` (it has), `stopped` (in order),
    /// `broke_off`, `unexplained` (within one run), `after_last_batch` (of the bundle).
    pub why: &'static str,
}

/// A batch whose events are not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// Which.
    pub batch: Sequence,
    /// `left_out`, or `gone` where the ledger is said not to hold them any more.
    pub why: &'static str,
}

/// What one sensor lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostEvents {
    /// The sensor's number.
    pub sensor: u16,
    /// Events.
    pub lost: u64,
}

/// A statement that is proven to be the collector's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementRow {
    /// Its number.
    pub number: StatementNumber,
    /// Its leaf.
    pub leaf: LeafIndex,
    /// Its kind's number.
    pub kind: Kind,
    /// When it was made.
    pub at_ns: u64,
}

/// An event that is proven to be its host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvenRow {
    /// The host.
    pub host: HostId,
    /// Its index in that host's chain.
    pub index: EventIndex,
    /// The batch.
    pub batch: Sequence,
    /// The batch's leaf.
    pub leaf: LeafIndex,
    /// Its RFC 6962 leaf hash within the batch.
    pub hash: Hash,
    /// What it says of itself; nothing where its envelope cannot be read.
    pub envelope: Option<EnvelopeRow>,
}

/// An event's envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvelopeRow {
    /// The kind's number.
    pub kind: u16,
    /// Version of the record.
    pub version: u8,
    /// The entity's key, hex.
    pub key: String,
    /// When, on the boot clock.
    pub boot_ns: u64,
    /// When, on the wall clock.
    pub wall_ns: u64,
}

impl From<&super::Selection> for Asked {
    fn from(selection: &super::Selection) -> Self {
        match selection {
            super::Selection::Interval {
                since,
                until,
                hosts,
                entity,
            } => Self::Interval {
                since_ns: since.0,
                until_ns: until.0,
                hosts: hosts.clone(),
                entity: entity.as_ref().map(|entity| AskedEntity {
                    kind: entity.kind,
                    key: hex(&entity.key),
                }),
            },
            super::Selection::Events(events) => Self::Events {
                events: events
                    .iter()
                    .map(|(host, index)| NamedEvent {
                        host: *host,
                        index: *index,
                    })
                    .collect(),
            },
        }
    }
}
