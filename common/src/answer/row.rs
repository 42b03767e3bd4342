//! One line of an answer: an entity with its record, when it began, and the event that says so.

use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

use super::{Moment, Span};
use crate::{
    event::{Event, Fact, Field, Kind, ProcessKey},
    fold::{End, EntityId, Entry, State},
    ids::{EventIndex, HostId, LeafIndex, Sequence, StatementNumber},
    statement::Said,
};

/// An entity as its last event before the instant describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its address, as `get` takes it.
    pub entity: String,
    /// The event that says so; `proof <host>:<event>` proves it.
    pub event: EventIndex,
    /// When it began, where that is known: a process's start, a connection's opening.
    pub began: Option<Moment>,
    /// When the chain first mentions it.
    pub first_seen: Moment,
    /// When the event happened.
    pub changed: Moment,
    /// Where it ended unseen, while nothing watched or an event was lost: between which instants.
    pub vanished: Option<Between>,
    /// For a socket: what its owner runs, where that is known.
    pub owner: Option<crate::text::Text>,
    /// What the event says.
    pub fact: Fact,
}

/// A statement of the collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRow {
    /// Its number; `proof statement:<number>` proves it.
    pub number: StatementNumber,
    /// Its place in the ledger.
    pub leaf: LeafIndex,
    /// When it was made, by the collector's clock.
    pub at: Moment,
    /// Bound of that clock's error, nanoseconds; absent where nobody bounds it.
    pub clock_error_ns: Option<u64>,
    /// Its kind, by name.
    pub kind: String,
    /// The name of the host it is about, as the host last gave it.
    pub hostname: Option<crate::text::Text>,
    /// The same as `said`, in a sentence.
    pub text: String,
    /// What it says.
    pub said: Said,
}

/// Some instant between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Between {
    /// Not before this one.
    pub not_before: Moment,
    /// Not after this one.
    pub not_after: Moment,
}

/// What a socket's owner runs, as far as the state remembers it.
fn owner_of(fact: &Fact, state: &State) -> Option<crate::text::Text> {
    let key = match fact {
        Fact::Listener { record, .. } => record.owner.known()?,
        Fact::Connection { record, .. } => record.owner.known()?,
        _ => return None,
    };
    let entry = state.get(&EntityId::of(Kind::Process, key))?;
    match Event::decode(&entry.event).ok()?.fact {
        Fact::Process { record, .. } => Some(match record.exe {
            Field::Known(path) => path.text,
            Field::Absent | Field::Unknown(_) => record.comm,
        }),
        _ => None,
    }
}

impl Row {
    /// The row of an entity; `None` where its event is of a format this build cannot read. Times of the boot
    /// clock are reckoned from `span`, a batch of the same boot where there is one.
    #[must_use]
    pub fn of(id: &EntityId, entry: &Entry, span: &Span, state: Option<&State>) -> Option<Self> {
        let event = Event::decode(&entry.event).ok()?;
        let began = match &event.fact {
            Fact::Process {
                key: ProcessKey { boot, started, .. },
                ..
            } if *boot == span.boot => Some(*started),
            Fact::Connection {
                key,
                record:
                    crate::event::Connection {
                        opened: Field::Known(opened),
                        ..
                    },
            } if key.boot == span.boot => Some(*opened),
            _ => None,
        };
        Some(Self {
            entity: id.to_string(),
            event: entry.last.index,
            began: began.map(|boot| Moment(span.wall_of(boot))),
            first_seen: Moment(entry.first.wall_ns),
            changed: Moment(entry.last.wall_ns),
            vanished: match entry.end {
                Some(End::Vanished {
                    not_before,
                    not_after,
                    ..
                }) => Some(Between {
                    not_before: Moment(not_before),
                    not_after: Moment(not_after),
                }),
                Some(End::Recorded) | None => None,
            },
            owner: state.and_then(|state| owner_of(&event.fact, state)),
            fact: event.fact,
        })
    }
}

/// How the row's entity ended, in the words of [`super::Absence`].
#[must_use]
pub fn absence(entry: &Entry) -> Option<super::Absence> {
    Some(match entry.end? {
        End::Recorded => super::Absence::Ended {
            at: Moment(entry.last.wall_ns),
        },
        End::Vanished {
            not_before,
            not_after,
            ..
        } => super::Absence::Vanished {
            not_before: Moment(not_before),
            not_after: Moment(not_after),
        },
    })
}

/// A host and what the ledger holds of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// Which host.
    pub host: HostId,
    /// Its name, as it last gave it.
    pub hostname: Option<crate::text::Text>,
    /// Batches in the ledger.
    pub batches: u64,
    /// Events in the ledger.
    pub events: u64,
    /// Runs of its agent.
    pub runs: u64,
    /// The first instant watched.
    pub first: Moment,
    /// The last instant watched.
    pub until: Moment,
    /// Whether its agent said that it stops.
    pub stopped: bool,
    /// What vouched for its clock last.
    pub clock: super::Clock,
    /// Events that happened in the present run, seen or lost.
    pub happened: u64,
    /// Of these, lost.
    pub lost: u64,
    /// Headers in the ledger that do not continue its chain.
    pub misplaced: u64,
}

/// A batch of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// Position in the chain.
    pub sequence: Sequence,
    /// Position in the ledger.
    pub leaf: LeafIndex,
    /// Its first event.
    pub first_event: EventIndex,
    /// How many events it has.
    pub event_count: u32,
    /// Watched from.
    pub from: Moment,
    /// Watched up to.
    pub until: Moment,
    /// Whether it is the first of a run.
    pub first_since_start: bool,
    /// Whether it is the last before a stop in order.
    pub last_before_stop: bool,
    /// What vouches for its times.
    pub clock: super::Clock,
}

impl BatchRow {
    /// The row of a span.
    #[must_use]
    pub fn of(span: &Span) -> Self {
        Self {
            sequence: span.sequence,
            leaf: span.leaf,
            first_event: span.first_event,
            event_count: span.event_count,
            from: Moment(span.from_wall),
            until: Moment(span.until_wall),
            first_since_start: span.flags.first_since_start,
            last_before_stop: span.flags.last_before_stop,
            clock: super::Clock::of(span),
        }
    }
}

/// The collector and its ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The ledger's origin.
    pub origin: String,
    /// Leaves of the latest checkpoint.
    pub size: u64,
    /// Root of the latest checkpoint, hex.
    pub root: String,
    /// The ledger's first key, as a note verifier key: what `ledger.vkey` holds.
    pub verifier_key: String,
    /// The key that signs checkpoints now, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_in_force: Option<String>,
    /// Leaves that answers take into account.
    pub indexed: u64,
    /// Hosts with a batch.
    pub hosts: u64,
}

/// A page of rows that are not about one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<R> {
    /// The rows.
    pub rows: alloc::vec::Vec<R>,
    /// Give this back as `cursor` for what follows; absent at the end.
    pub next: Option<String>,
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}
