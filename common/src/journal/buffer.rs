//! Events that wait to be sealed, bounded; what overflows is counted and becomes a loss event.

use alloc::{collections::VecDeque, vec::Vec};

use super::ClockReading;
use crate::{
    batch::{SensorCounters, body_bytes_for},
    event::{Envelope, Event, Fact, Loss, LossKey, SensorId, loss::LossCause},
    ids::{BootId, BootNanos, WallNanos},
    limits::EVENT_BYTES_MAX,
};

/// Bytes kept free in a batch for the loss event.
const LOSS_BYTES: usize = 256;
/// What an event costs in memory beside its bytes.
const OVERHEAD_BYTES: usize = 32;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits to be sealed.
    Kept,
    /// It was counted as lost; a loss event will say so.
    Lost,
}

#[derive(Debug)]
struct Gap {
    first: u64,
    count: u64,
    cause: LossCause,
    from: BootNanos,
    until: BootNanos,
}

/// The buffer of one run.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes_max: usize,
    bytes: usize,
    events: VecDeque<Vec<u8>>,
    boot: BootId,
    /// Number of the run's first event in loss keys: the boot clock at its start, so that the keys of two
    /// runs within one boot differ.
    base: u64,
    happened: u64,
    lost: u64,
    gap: Option<Gap>,
}

impl Buffer {
    pub(super) fn new(bytes_max: usize, boot: BootId, started: BootNanos) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            events: VecDeque::new(),
            boot,
            base: started.0,
            happened: 0,
            lost: 0,
            gap: None,
        }
    }

    pub(super) fn offer(&mut self, event: Vec<u8>, now: ClockReading, cause: LossCause) -> Offered {
        let number = self.base.saturating_add(self.happened);
        self.happened += 1;
        let malformed = event.len() > EVENT_BYTES_MAX || Envelope::parse(&event).is_err();
        let cost = event.len() + OVERHEAD_BYTES;
        let lost = Gap {
            first: number,
            count: 1,
            cause: if malformed { LossCause::Malformed } else { cause },
            from: now.boot,
            until: now.boot,
        };
        // A gap is closed only when a good part of the buffer is free again, so that a full buffer gives one
        // long gap and not one for each event.
        if self.gap.is_some() && self.bytes + cost <= self.bytes_max / 4 * 3 {
            self.close_gap(now);
        }
        if let Some(gap) = &mut self.gap {
            gap.count += 1;
            gap.until = now.boot;
            self.lost += 1;
            return Offered::Lost;
        }
        if malformed || self.bytes + cost > self.bytes_max {
            self.gap = Some(lost);
            self.lost += 1;
            if malformed {
                // One bad event must not take the good ones behind it along.
                self.close_gap(now);
            }
            return Offered::Lost;
        }
        self.bytes += cost;
        self.events.push_back(event);
        Offered::Kept
    }

    fn close_gap(&mut self, now: ClockReading) {
        let event = self.gap.as_ref().and_then(|gap| self.loss_event(gap, now));
        if let Some(event) = event
            && self.bytes + event.len() + OVERHEAD_BYTES <= self.bytes_max
        {
            self.bytes += event.len() + OVERHEAD_BYTES;
            self.events.push_back(event);
            self.gap = None;
        }
    }

    pub(super) fn waiting(&self) -> bool {
        !self.events.is_empty() || self.gap.is_some()
    }

    /// Whether what waits fills a batch of these bounds.
    pub(super) fn fills_batch(&self, events_max: usize, body_bytes_max: usize) -> bool {
        self.events.len() >= events_max || body_bytes_for(self.events.len(), self.bytes) >= body_bytes_max
    }

    /// The next events that fit a batch, the pending loss event behind the last of them.
    pub(super) fn take_batch(
        &mut self,
        (events_max, body_bytes_max): (usize, usize),
        now: ClockReading,
    ) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        let mut bytes = LOSS_BYTES;
        while let Some(event) = self.events.front() {
            let fits = taken.len() + 1 < events_max
                && body_bytes_for(taken.len() + 2, bytes + event.len()) <= body_bytes_max;
            if !fits {
                return taken;
            }
            bytes += event.len();
            self.bytes -= event.len() + OVERHEAD_BYTES;
            taken.extend(self.events.pop_front());
        }
        if let Some(event) = self.gap.take().and_then(|gap| self.loss_event(&gap, now)) {
            taken.push(event);
        }
        taken
    }

    /// The earliest event that waits, by the boot clock.
    pub(super) fn earliest(&self) -> Option<(BootNanos, WallNanos)> {
        self.events
            .iter()
            .filter_map(|event| Envelope::parse(event).ok())
            .map(|envelope| (envelope.boot_ns, envelope.wall_ns))
            .min_by_key(|(boot, _)| *boot)
    }

    /// What the header says of events offered and lost here.
    pub(super) fn counters(&self) -> SensorCounters {
        SensorCounters {
            sensor: SensorId::SPOOL,
            happened: self.happened,
            lost: self.lost,
        }
    }

    fn loss_event(&self, gap: &Gap, now: ClockReading) -> Option<Vec<u8>> {
        let event = Event {
            boot_ns: now.boot,
            wall_ns: now.wall,
            fact: Fact::Loss {
                key: LossKey {
                    boot: self.boot,
                    sensor: SensorId::SPOOL,
                    cpu: 0,
                    first: gap.first,
                },
                record: Loss {
                    last: gap.first.saturating_add(gap.count).saturating_sub(1),
                    count: gap.count,
                    cause: gap.cause,
                    not_before: gap.from,
                    not_after: gap.until,
                },
            },
        };
        // The fields are numbers: this encodes, or nothing does.
        event.encode().ok()
    }
}
