//! Whether an instant was watched: judged from the two batches around it.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Caveat, Moment};
use crate::{
    batch::{ClockSource, HeaderFields, HeaderFlags},
    ids::{BootId, BootNanos, EventIndex, LeafIndex, Sequence, StatementNumber, WallNanos},
    text::Text,
};
use alloc::vec::Vec;

/// What a batch says of time, without its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its place in the ledger.
    pub leaf: LeafIndex,
    /// Its place in the chain.
    pub sequence: Sequence,
    /// Its first event.
    pub first_event: EventIndex,
    /// How many events it has.
    pub event_count: u32,
    /// Its marks.
    pub flags: HeaderFlags,
    /// The boot it watched.
    pub boot: BootId,
    /// Watched from this instant, boot clock.
    pub from_boot: BootNanos,
    /// Watched up to this instant, boot clock.
    pub until_boot: BootNanos,
    /// Watched from this instant, wall clock.
    pub from_wall: WallNanos,
    /// Watched up to this instant, wall clock.
    pub until_wall: WallNanos,
    /// Bound of the wall clock's error, nanoseconds; `u64::MAX` where unknown.
    pub clock_error_ns: u64,
    /// What vouches for that bound.
    pub clock_source: ClockSource,
}

impl Span {
    /// The span of a header that stands at `leaf`.
    #[must_use]
    pub fn of(leaf: LeafIndex, fields: &HeaderFields) -> Self {
        Self {
            leaf,
            sequence: fields.sequence,
            first_event: fields.first_event,
            event_count: fields.event_count,
            flags: fields.flags,
            boot: fields.boot,
            from_boot: fields.from_boot,
            until_boot: fields.until_boot,
            from_wall: fields.from_wall,
            until_wall: fields.until_wall,
            clock_error_ns: fields.clock_error_ns,
            clock_source: fields.clock_source,
        }
    }

    /// The wall time of an instant on the boot clock, reckoned from the end of this batch.
    #[must_use]
    pub fn wall_of(&self, boot: BootNanos) -> WallNanos {
        let ahead = boot.0.saturating_sub(self.until_boot.0);
        let behind = self.until_boot.0.saturating_sub(boot.0);
        WallNanos(self.until_wall.0.saturating_add(ahead).saturating_sub(behind))
    }

    /// The boot time of an instant on the wall clock, reckoned from the end of this batch.
    #[must_use]
    pub fn boot_of(&self, wall: WallNanos) -> BootNanos {
        let ahead = wall.0.saturating_sub(self.until_wall.0);
        let behind = self.until_wall.0.saturating_sub(wall.0);
        BootNanos(self.until_boot.0.saturating_add(ahead).saturating_sub(behind))
    }
}

/// How a run of the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// It said that it stops.
    Stopped,
    /// It did not: killed, crashed, or the machine went down.
    Broken,
    /// It went on: the instant lies between what two of its batches claim.
    Unclaimed,
}

/// Why an answer cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Unknown {
    /// The host has no batch in the ledger.
    NoBatches,
    /// Nothing watched it yet.
    BeforeFirst {
        /// The first instant watched.
        first: Moment,
    },
    /// Nothing watched it between two batches.
    Gap {
        /// Watched up to this instant.
        from: Moment,
        /// Watched again from this instant.
        until: Moment,
        /// How the run before ended.
        ended: RunEnd,
        /// Whether the machine was restarted in between.
        rebooted: bool,
        /// The collector's statement that the host was silent then, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        silence: Option<StatedSilence>,
    },
    /// Nothing has arrived that covers it.
    AfterLast {
        /// Watched up to this instant.
        until: Moment,
        /// Whether the agent said that it stops.
        stopped: bool,
        /// The collector's statement that the host is silent, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        silence: Option<StatedSilence>,
        /// The statement that the host's end was declared, where there is one: nothing later will arrive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<StatedEnd>,
    },
    /// The run had no complete list of what existed yet.
    NoBaseline {
        /// The run began then.
        since: Moment,
        /// The list is complete from then on, where that is known.
        complete: Option<Moment>,
    },
    /// What would tell was removed by a retention policy.
    Pruned {
        /// The collector's statement that certifies it.
        statement: StatementNumber,
        /// When that was made, where the statement can be read.
        at: Option<Moment>,
        /// By which policy.
        policy: Option<Text>,
    },
    /// Nothing is known of it, but what would tell may have been missed.
    MayBeMissed {
        /// Why.
        caveats: Vec<Caveat>,
    },
}

/// A statement of the collector that a host was silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedSilence {
    /// Which statement: `proof statement:<number>` proves it.
    pub statement: StatementNumber,
    /// Nothing had come since, by the collector's clock.
    pub since: Moment,
}

impl fmt::Display for StatedSilence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            " (silent since {} by the collector's clock, statement {})",
            self.since, self.statement
        )
    }
}

/// A statement of the collector that an operator declared a host's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedEnd {
    /// Which statement: `proof statement:<number>` proves it.
    pub statement: StatementNumber,
    /// When it was declared, by the collector's clock.
    pub at: Moment,
    /// Why, in the operator's words.
    pub reason: Text,
}

impl fmt::Display for StatedEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the host's end was declared at {} by the collector's clock: {} (statement {})",
            self.at, self.reason, self.statement
        )
    }
}

impl Unknown {
    /// The same with the statement that the host's end was declared, where nothing follows the batch that decides.
    #[must_use]
    pub fn with_end(mut self, stated: Option<StatedEnd>) -> Self {
        if let Self::AfterLast { end, .. } = &mut self {
            *end = stated;
        }
        self
    }

    /// The same with the statement that the host was silent after the batch that decides.
    #[must_use]
    pub fn with_silence(mut self, stated: Option<StatedSilence>) -> Self {
        if let Self::Gap { silence, .. } | Self::AfterLast { silence, .. } = &mut self {
            *silence = stated;
        }
        self
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBatches => {
                f.write_str("the host has no batch in the ledger; start its agent, or ask later")
            }
            Self::BeforeFirst { first } => write!(f, "nothing watched before {first}; ask for that or later"),
            Self::Gap {
                from,
                until,
                ended,
                rebooted,
                silence,
            } => {
                let how = match ended {
                    RunEnd::Stopped => "the agent was stopped in order",
                    RunEnd::Broken => "the agent broke off without a word",
                    RunEnd::Unclaimed => "the agent ran but claims nothing of it",
                };
                let boot = if *rebooted {
                    ", the machine was restarted"
                } else {
                    ""
                };
                write!(
                    f,
                    "nothing watched between {from} and {until} ({how}{boot}){}; ask for one of these bounds",
                    Said(silence)
                )
            }
            Self::AfterLast {
                until,
                end: Some(end),
                ..
            } => write!(f, "nothing watched after {until}: {end}; ask for that or earlier"),
            Self::AfterLast {
                until, stopped: true, ..
            } => {
                write!(
                    f,
                    "nothing watched after {until}: the agent was stopped in order; start it again, or ask for that or earlier"
                )
            }
            Self::AfterLast {
                until,
                stopped: false,
                silence: None,
                ..
            } => write!(
                f,
                "nothing has arrived yet that was watched after {until}: the agent is down, cut off or about to report; ask for that or earlier"
            ),
            Self::AfterLast {
                until,
                silence: Some(silence),
                ..
            } => write!(
                f,
                "nothing has arrived that was watched after {until}: the agent is down or cut off{silence}; ask for that or earlier"
            ),
            Self::NoBaseline {
                since,
                complete: Some(complete),
            } => write!(
                f,
                "the agent started at {since} and had listed what existed only by {complete}; ask for that or later"
            ),
            Self::NoBaseline {
                since,
                complete: None,
            } => write!(
                f,
                "the agent started at {since} and has not listed yet what existed; ask again later"
            ),
            Self::Pruned {
                statement,
                at,
                policy,
            } => {
                write!(
                    f,
                    "what would tell was pruned by statement {statement} of the collector"
                )?;
                if let (Some(at), Some(policy)) = (at, policy) {
                    write!(f, " at {at}, policy {policy}")?;
                }
                f.write_str("; ask for what is kept")
            }
            Self::MayBeMissed { caveats } => {
                f.write_str("no event is about it, but some may be missing: ")?;
                for (at, caveat) in caveats.iter().enumerate() {
                    write!(f, "{}{caveat}", if at == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

/// A statement of silence where there is one, else nothing.
struct Said<'a>(&'a Option<StatedSilence>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |silence| silence.fmt(f))
    }
}

/// Whether `at` was watched.
///
/// `begun` is the chain's last batch that begins at or before the instant, `next` the one after it (the
/// chain's first, where none has begun).
///
/// # Errors
/// Why it was not.
pub fn watched(at: WallNanos, begun: Option<&Span>, next: Option<&Span>) -> Result<(), Unknown> {
    match (begun, next) {
        (None, None) => Err(Unknown::NoBatches),
        (None, Some(first)) => Err(Unknown::BeforeFirst {
            first: Moment(first.from_wall),
        }),
        (Some(begun), _) if at <= begun.until_wall => Ok(()),
        (Some(begun), None) => Err(Unknown::AfterLast {
            until: Moment(begun.until_wall),
            stopped: begun.flags.last_before_stop,
            silence: None,
            end: None,
        }),
        (Some(begun), Some(next)) => Err(Unknown::Gap {
            from: Moment(begun.until_wall),
            until: Moment(next.from_wall),
            ended: match (next.flags.first_since_start, begun.flags.last_before_stop) {
                (_, true) => RunEnd::Stopped,
                (true, false) => RunEnd::Broken,
                (false, false) => RunEnd::Unclaimed,
            },
            rebooted: begun.boot != next.boot,
            silence: None,
        }),
    }
}
