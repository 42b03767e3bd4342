//! Fold: the state of one host, from its events in chain order.
//!
//! The last event about an entity is what is known of it: the writer decided every transition, so nothing is
//! reckoned here but two facts that the records state themselves: that an entity ended, and that a complete
//! baseline lists all that existed (what it does not list had vanished before). Entities that ended stay for
//! [`ENDED_KEPT_EVENTS`] more events, so that memory is bounded by what lives. The state is a pure function of
//! the events: same events, same bytes, same root ([`State::encode`]). Bytes: `docs/format/snapshot.md`.
//! Owns no clock and no storage; what a state says about an instant is for [`crate::answer`].

mod entity;
mod losses;
mod snapshot;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

pub use self::{
    entity::{BadEntity, EntityId},
    losses::{BadKeptLosses, KeptLoss, KeptLosses, TooManyLosses},
    snapshot::BadSnapshot,
};
use crate::{
    event::{
        BadEvent, Baseline, Envelope, Event, Fact, Kind, baseline::Phase, connection::ConnectionState,
        process::ProcessState,
    },
    ids::{BootId, BootNanos, EventIndex, HostId, WallNanos},
};

/// How many events longer an entity that ended is remembered.
pub const ENDED_KEPT_EVENTS: u64 = 4096;
/// Most entities of one host; a fold refuses to grow past it.
pub const ENTITIES_MAX: usize = 1 << 20;

/// Where and when in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The event.
    pub index: EventIndex,
    /// Its time on the boot clock.
    pub boot_ns: BootNanos,
    /// Its time on the wall clock.
    pub wall_ns: WallNanos,
}

/// What is known of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The first event about it.
    pub first: Mark,
    /// The last event about it.
    pub last: Mark,
    /// How it ended; `None` while it lives.
    pub end: Option<End>,
    /// The last event's bytes, exactly as sealed.
    pub event: Vec<u8>,
}

/// How the chain shows that an entity is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Its last event says so.
    Recorded,
    /// A complete baseline does not list it: it ended between these instants, unknown when.
    Vanished {
        /// The event that completed the baseline.
        by: EventIndex,
        /// It was last known to live then.
        not_before: WallNanos,
        /// The baseline began then.
        not_after: WallNanos,
    },
}

/// One run of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its first event.
    pub first_event: EventIndex,
    /// The boot it watches.
    pub boot: BootId,
    /// It watches from this instant.
    pub from: WallNanos,
    /// The run before it had watched up to this instant; `None` for the first run.
    pub previous_until: Option<WallNanos>,
}

/// Why an event cannot be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldFault {
    /// Events came in another order than the chain's. The caller is at fault.
    #[error("event {found} given to a fold that stands at {next}")]
    Order {
        /// The lowest index it takes.
        next: EventIndex,
        /// What it was given.
        found: EventIndex,
    },
    /// An event's fixed part does not read. The host's agent is at fault: the bytes are what it signed.
    #[error("event {index}: {cause}")]
    Event {
        /// Which event.
        index: EventIndex,
        /// Why.
        cause: BadEvent,
    },
    /// More entities live than a state may hold.
    #[error("more than {ENTITIES_MAX} entities live on host {0}: the state is too large to fold")]
    TooMany(HostId),
}

/// The state of one host after some prefix of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    host: HostId,
    next_event: EventIndex,
    run: Option<Run>,
    undecoded: u64,
    entities: BTreeMap<EntityId, Entry>,
    /// What ended, by the event that showed it: exactly the entities with an end.
    ended: BTreeSet<(EventIndex, EntityId)>,
}

impl State {
    /// Nothing is known.
    #[must_use]
    pub fn new(host: HostId) -> Self {
        Self {
            host,
            next_event: EventIndex(0),
            run: None,
            undecoded: 0,
            entities: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Whose state.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The lowest event index it takes next.
    #[must_use]
    pub fn next_event(&self) -> EventIndex {
        self.next_event
    }

    /// The latest run of the agent.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// Events of a kind or version unknown to this build, among those folded.
    #[must_use]
    pub fn undecoded(&self) -> u64 {
        self.undecoded
    }

    /// Notes that the agent started anew.
    pub fn begin_run(&mut self, run: Run) {
        self.run = Some(run);
    }

    /// What is known of an entity, ended ones included while they are remembered.
    #[must_use]
    pub fn get(&self, id: &EntityId) -> Option<&Entry> {
        self.entities.get(id)
    }

    /// Every entity of a kind, ended ones included while they are remembered, by key.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&EntityId, &Entry)> {
        self.entities
            .range(EntityId::first_of(kind)..)
            .take_while(move |(id, _)| id.kind == kind.number())
    }

    /// The entities of a kind that live, by key.
    pub fn alive(&self, kind: Kind) -> impl Iterator<Item = (&EntityId, &Entry)> {
        self.of_kind(kind).filter(|(_, entry)| entry.end.is_none())
    }

    /// The latest complete baseline of the present run that covers `kind`: absence is provable since then.
    #[must_use]
    pub fn baseline(&self, kind: Kind) -> Option<(Mark, Mark)> {
        let run = self.run?;
        self.alive(Kind::Baseline)
            .filter(|(_, entry)| entry.first.index >= run.first_event)
            .filter(|(_, entry)| {
                matches!(Event::decode(&entry.event), Ok(Event { fact: Fact::Baseline { record, .. }, .. })
                    if matches!(record.phase, Phase::Complete { .. }) && record.kinds.contains(&kind))
            })
            .map(|(_, entry)| (entry.first, entry.last))
            .max_by_key(|(_, complete)| complete.index)
    }

    /// Whether the present run has a complete baseline, of whatever kinds.
    #[must_use]
    pub fn has_baseline(&self) -> bool {
        Kind::ALL.into_iter().any(|kind| self.baseline(kind).is_some())
    }

    /// Folds the next event. Indices may be skipped (events after the instant asked for), never repeated.
    ///
    /// # Errors
    /// Leaves the state as it was.
    pub fn apply(&mut self, index: EventIndex, bytes: &[u8]) -> Result<(), FoldFault> {
        let order = FoldFault::Order {
            next: self.next_event,
            found: index,
        };
        let next = index.checked_add(1).ok_or(order.clone())?;
        if index < self.next_event {
            return Err(order);
        }
        let envelope = Envelope::parse(bytes).map_err(|cause| FoldFault::Event { index, cause })?;
        let id = EntityId {
            kind: envelope.kind,
            key: envelope.key.to_vec(),
        };
        if self.entities.len() >= ENTITIES_MAX && !self.entities.contains_key(&id) {
            return Err(FoldFault::TooMany(self.host));
        }
        let decoded = Event::decode(bytes);
        self.undecoded += u64::from(decoded.is_err());
        let end = decoded.as_ref().is_ok_and(|event| ends(&event.fact));
        let mark = Mark {
            index,
            boot_ns: envelope.boot_ns,
            wall_ns: envelope.wall_ns,
        };
        let first = self.entities.get(&id).map_or(mark, |entry| entry.first);
        let entry = Entry {
            first,
            last: mark,
            end: end.then_some(End::Recorded),
            event: bytes.to_vec(),
        };
        if end {
            self.ended.insert((index, id.clone()));
        }
        if let Some(before) = self.entities.insert(id.clone(), entry)
            && let Some(at) = before.ended_at()
        {
            self.ended.remove(&(at, id.clone()));
        }
        if let Ok(Event {
            fact: Fact::Baseline { record, .. },
            ..
        }) = decoded
            && matches!(record.phase, Phase::Complete { .. })
        {
            self.vanish(&id, &first, index, &record);
        }
        self.next_event = next;
        self.forget(index);
        Ok(())
    }

    /// Ends whatever a complete baseline covers and does not list, and the baselines before it.
    fn vanish(&mut self, baseline: &EntityId, began: &Mark, by: EventIndex, record: &Baseline) {
        let run = self.run;
        for (id, entry) in &mut self.entities {
            let covered = record.kinds.iter().any(|kind| kind.number() == id.kind);
            let superseded = id.kind == Kind::Baseline.number() && id != baseline;
            if entry.end.is_some() || entry.last.index >= began.index || !(covered || superseded) {
                continue;
            }
            let seen_in_run = run.is_none_or(|run| entry.last.index >= run.first_event);
            let until_gap = run.and_then(|run| run.previous_until).filter(|_| !seen_in_run);
            entry.end = Some(End::Vanished {
                by,
                not_before: until_gap.unwrap_or(entry.last.wall_ns),
                not_after: began.wall_ns,
            });
            self.ended.insert((by, id.clone()));
        }
    }

    /// Drops what ended long enough ago.
    fn forget(&mut self, now: EventIndex) {
        while self
            .ended
            .first()
            .is_some_and(|(at, _)| at.0.saturating_add(ENDED_KEPT_EVENTS) <= now.0)
        {
            if let Some((_, id)) = self.ended.pop_first() {
                self.entities.remove(&id);
            }
        }
    }
}

impl Entry {
    /// The event that showed the end; `None` while it lives.
    #[must_use]
    pub fn ended_at(&self) -> Option<EventIndex> {
        self.end.map(|end| match end {
            End::Recorded => self.last.index,
            End::Vanished { by, .. } => by,
        })
    }
}

/// Whether a record says that its entity is over. A loss is a fact about the past from its first moment.
#[must_use]
pub fn ends(fact: &Fact) -> bool {
    match fact {
        Fact::Process { record, .. } => {
            matches!(record.state, ProcessState::Exited { .. } | ProcessState::Gone(_))
        }
        Fact::Listener { record, .. } => !record.listening,
        Fact::Connection { record, .. } => matches!(record.state, ConnectionState::Closed(_)),
        Fact::Loss { .. } => true,
        Fact::Host { .. } | Fact::Boot { .. } | Fact::Sensor { .. } | Fact::Baseline { .. } => false,
    }
}

#[cfg(test)]
mod tests;
