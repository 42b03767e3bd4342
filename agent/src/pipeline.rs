//! What sensors, journal and shipper share: the pure machines, behind one lock.
//!
//! The lock is held for computation alone, never across a disk write or a socket. Sensors offer events and
//! say up to when they have looked; the journal thread seals and writes; the shipper reads what is durable.
//! The journal's buffer is the one bounded queue between sensors and disk: where it is full, new events are
//! counted and become a signed loss event.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{
    batch::SensorCounters,
    event::{Event, Fact, SensorId, SensorStatus, loss::LossCause},
    ids::{BootId, BootNanos},
    journal::{ClockReading, Journal},
    spool::Spool,
};

use crate::{
    clock::{Clock, boot_now},
    lag::Lag,
};

/// The shared part of a running agent.
#[derive(Debug)]
pub struct Pipeline {
    state: Mutex<State>,
    changed: Condvar,
    /// Signalled after each batch that became durable and when sealing ends.
    pub durable: tokio::sync::Notify,
}

/// What the lock protects.
#[derive(Debug)]
pub struct State {
    /// Decides what is sealed.
    pub journal: Journal,
    /// Decides what is written and deleted.
    pub spool: Spool,
    /// Up to when the sensors have looked.
    pub watched: ClockReading,
    /// The sensors' counters at that instant, ascending.
    pub counters: Vec<SensorCounters>,
    /// Latest status of each sensor.
    pub sensors: Vec<(SensorId, SensorStatus)>,
    /// Which boot is watched.
    pub boot: BootId,
    /// Sensors have given their last event.
    pub sensors_ended: bool,
    /// Nothing will be trimmed any more.
    pub shipping_ended: bool,
    /// Lags and counts for the status.
    pub lag: Lag,
}

impl Pipeline {
    /// Puts the machines behind the lock.
    #[must_use]
    pub fn new(journal: Journal, spool: Spool, boot: BootId, from: ClockReading) -> Self {
        Self {
            state: Mutex::new(State {
                journal,
                spool,
                watched: from,
                counters: Vec::new(),
                sensors: Vec::new(),
                boot,
                sensors_ended: false,
                shipping_ended: false,
                lag: Lag::default(),
            }),
            changed: Condvar::new(),
            durable: tokio::sync::Notify::new(),
        }
    }

    /// Takes the lock. A thread that panicked while it held it has ended the process's usefulness, not the
    /// data's: the machines change state in whole steps.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the journal thread.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits until woken, at most `timeout`.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, timeout)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl State {
    /// Whether a batch can be sealed with what the sensors have said so far.
    #[must_use]
    pub fn seal_is_due(&self) -> bool {
        self.journal
            .poll_timeout()
            .is_some_and(|due| due <= self.watched.boot)
    }

    /// Records a status, if it differs from the one before.
    pub fn set_sensor(&mut self, clock: &Clock, sensor: SensorId, status: SensorStatus) {
        match self.sensors.iter_mut().find(|(held, _)| *held == sensor) {
            Some((_, held)) if *held == status => return,
            Some((_, held)) => *held = status.clone(),
            None => self.sensors.push((sensor, status.clone())),
        }
        let now = boot_now();
        let fact = Fact::Sensor {
            key: sensor,
            record: status,
        };
        let (bytes, _) = encode(clock, now, fact);
        self.journal
            .offer(bytes, reading(clock, now), LossCause::QueueFull);
    }
}

/// Both clocks at `boot`.
#[must_use]
pub fn reading(clock: &Clock, boot: BootNanos) -> ClockReading {
    ClockReading {
        boot,
        wall: clock.wall(boot),
        error_ns: clock.error_ns,
        source: clock.source,
    }
}

/// The bytes of a fact and the fact back. One too long for an event yields no bytes, which the journal counts
/// as lost.
#[must_use]
pub fn encode(clock: &Clock, boot: BootNanos, fact: Fact) -> (Vec<u8>, Fact) {
    let event = Event {
        boot_ns: boot,
        wall_ns: clock.wall(boot),
        fact,
    };
    let bytes = event.encode().unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be encoded and is counted as lost");
        Vec::new()
    });
    (bytes, event.fact)
}

/// Events on their way into the journal: encoded without the lock, offered all at once.
#[derive(Debug)]
pub struct Recorder<'a> {
    pipeline: &'a Pipeline,
    /// The clock events are stamped with.
    pub clock: Clock,
    waiting: Vec<Vec<u8>>,
    latest: BootNanos,
}

impl<'a> Recorder<'a> {
    /// Records into `pipeline`.
    #[must_use]
    pub fn new(pipeline: &'a Pipeline, clock: Clock) -> Self {
        Self {
            pipeline,
            clock,
            waiting: Vec::new(),
            latest: BootNanos(0),
        }
    }

    /// Encodes a fact of the instant `boot` and gives it back.
    pub fn record(&mut self, boot: BootNanos, fact: Fact) -> Fact {
        let (bytes, fact) = encode(&self.clock, boot, fact);
        self.waiting.push(bytes);
        self.latest = self.latest.max(boot);
        fact
    }

    /// Offers everything recorded, and says that nothing before `watched` is still to come. Returns when a
    /// batch is due next.
    pub fn flush(&mut self, watched: BootNanos, counters: Option<Vec<SensorCounters>>) -> Option<BootNanos> {
        let now = reading(&self.clock, watched.max(self.latest));
        let mut state = self.pipeline.lock();
        let cause = if state.spool.ready() || !state.spool.full() && !state.spool.no_space() {
            LossCause::QueueFull
        } else {
            LossCause::SpoolFull
        };
        for event in self.waiting.drain(..) {
            state.journal.offer(event, now, cause);
        }
        if now.boot >= state.watched.boot {
            state.watched = now;
        }
        if let Some(counters) = counters {
            state.counters = counters;
        }
        let due = state.journal.poll_timeout();
        if state.seal_is_due() {
            drop(state);
            self.pipeline.wake();
        }
        due
    }

    /// Records a status, if it differs from the one before.
    pub fn set_sensor(&mut self, sensor: SensorId, status: SensorStatus) {
        self.pipeline.lock().set_sensor(&self.clock, sensor, status);
    }
}
