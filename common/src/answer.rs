//! Answers: known, absent or unknown with the reason, and how complete.
//!
//! The shapes that the API sends and the command line shows, and the pure judgement behind them: whether an
//! instant was watched at all ([`watched`]), and what may be missing although it was ([`caveats`]). Owns no
//! lookup: the collector finds batches and folds states, this says what follows from them.

mod completeness;
mod coverage;
mod moment;
mod row;

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    completeness::{Caveat, LossBounds, caveats, sensors_of},
    coverage::{RunEnd, Span, StatedEnd, StatedSilence, Unknown, watched},
    moment::{BadMoment, Moment},
    row::{ApiError, BatchRow, Between, HostRow, Page, Row, StatementRow, Status, absence},
};
use crate::{
    batch::ClockSource,
    ids::{HostId, LeafIndex, Sequence},
    text::Text,
};

/// What answers say of the order between hosts.
pub const ORDER_STATEMENT: &str =
    "each host proves the order of its own events; order between hosts is the collector's assertion";

/// An answer about one or more hosts at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<R> {
    /// The instant asked for; absent where each host's latest was.
    pub at: Option<Moment>,
    /// The ledger it was computed from.
    pub ledger: LedgerPosition,
    /// What is claimed of the order between hosts.
    pub order: String,
    /// One answer for each host.
    pub hosts: Vec<HostAnswer<R>>,
    /// Give this back as `cursor` for what follows; absent at the end.
    pub next: Option<String>,
}

/// Which ledger, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPosition {
    /// Its origin, the name of its key.
    pub origin: String,
    /// Leaves of the checkpoint that was published last.
    pub size: u64,
}

/// What is known of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAnswer<R> {
    /// Which host.
    pub host: HostId,
    /// Its name, as it last gave it.
    pub hostname: Option<Text>,
    /// The instant that is answered.
    pub at: Option<Moment>,
    /// The batch that decides; absent before the first.
    pub batch: Option<BatchRef>,
    /// What vouches for the instant.
    pub clock: Option<Clock>,
    /// The answer.
    pub verdict: Verdict<R>,
    /// How complete it is.
    pub completeness: Completeness,
}

/// A batch of the host's chain and its place in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRef {
    /// Position in the chain.
    pub sequence: Sequence,
    /// Position in the ledger.
    pub leaf: LeafIndex,
}

/// What the host's wall clock was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// What vouches for it.
    pub source: ClockSource,
    /// Bound of its error, nanoseconds; absent where nobody bounds it.
    pub error_ns: Option<u64>,
}

impl Clock {
    /// What a batch says of its clock.
    #[must_use]
    pub fn of(span: &Span) -> Self {
        Self {
            source: span.clock_source,
            error_ns: Some(span.clock_error_ns).filter(|error| *error != u64::MAX),
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            ClockSource::Unknown => "clock could not be asked",
            ClockSource::Unsynchronised => "clock not synchronised",
            ClockSource::Synchronised => "clock synchronised",
        };
        match self.error_ns {
            Some(error) => write!(
                f,
                "{source}, error at most {}.{:06} ms",
                error / 1_000_000,
                error % 1_000_000
            ),
            None => write!(f, "{source}, error unbounded"),
        }
    }
}

/// Known, absent, or unknown because.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict<R> {
    /// This is it.
    Known {
        /// What is known.
        value: R,
    },
    /// It did not exist then.
    Absent {
        /// How that is known.
        why: Absence,
        /// The last that was known of it.
        last: Option<R>,
    },
    /// It cannot be said.
    Unknown {
        /// Why not.
        #[serde(flatten)]
        why: Unknown,
    },
}

/// How absence is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Absence {
    /// A baseline covers its kind and no event up to the instant is about it.
    NeverSeen,
    /// Its last event says that it ended.
    Ended {
        /// When.
        at: Moment,
    },
    /// It lived in an earlier run of the agent, and the baseline after that does not list it.
    Vanished {
        /// It was last known to live then.
        not_before: Moment,
        /// It was gone by then.
        not_after: Moment,
    },
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSeen => {
                f.write_str("nothing up to then is about it, and a baseline lists all there was")
            }
            Self::Ended { at } => write!(f, "it ended at {at}"),
            Self::Vanished {
                not_before,
                not_after,
            } => write!(f, "it ended between {not_before} and {not_after}, unknown when"),
        }
    }
}

/// How complete an answer is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Completeness {
    /// Whether nothing that the sensors are made for can be missing.
    pub complete: bool,
    /// What may be missing, and why.
    pub caveats: Vec<Caveat>,
}

impl Completeness {
    /// Complete exactly where nothing speaks against it.
    #[must_use]
    pub fn of(caveats: Vec<Caveat>) -> Self {
        Self {
            complete: caveats.is_empty(),
            caveats,
        }
    }
}

#[cfg(test)]
mod tests;
