//! When the next baseline is due.
//!
//! Owns two reasons: time has passed, and something was lost. A lost end leaves an entity running in the state
//! until a baseline does not list it, so a loss brings the next one forward. Times are the caller's.

use std::time::Duration;

use common::ids::BootNanos;

use crate::sensor::nanos;

/// After a loss, what caused it is given this long to pass.
const AFTER_LOSS: Duration = Duration::from_secs(1);
/// Baselines that losses bring forward are at least this far apart, so that a lasting flood does not cost one
/// after the other.
const APART: Duration = Duration::from_secs(30);

/// The next baseline.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Duration,
    taken: Option<BootNanos>,
    due: BootNanos,
    lost: u64,
}

impl Schedule {
    /// A first baseline was begun at `now`; further ones come `every` so often. It says nothing of the time between
    /// baselines after losses until the second was taken.
    pub(super) fn new(now: BootNanos, every: Duration) -> Self {
        Self {
            every,
            taken: None,
            due: after(now, every),
            lost: 0,
        }
    }

    /// Takes the number of events lost ever.
    pub(super) fn lost(&mut self, now: BootNanos, lost: u64) {
        if lost > self.lost {
            self.lost = lost;
            let apart = self.taken.map_or(now, |taken| after(taken, APART));
            self.due = self.due.min(after(now, AFTER_LOSS).max(apart));
        }
    }

    /// Whether one is due; it is then taken to begin `now`.
    pub(super) fn is_due(&mut self, now: BootNanos) -> bool {
        if now < self.due {
            return false;
        }
        self.taken = Some(now);
        self.due = after(now, self.every);
        true
    }
}

fn after(at: BootNanos, pause: Duration) -> BootNanos {
    BootNanos(at.0.saturating_add(nanos(pause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootNanos {
        BootNanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_loss_brings_the_next_baseline_forward_and_a_flood_does_not_repeat_it() {
        let mut schedule = Schedule::new(at(0), Duration::from_secs(3600));
        schedule.lost(at(10), 0);
        assert!(!schedule.is_due(at(11)));
        schedule.lost(at(12), 5);
        assert!(!schedule.is_due(at(12)));
        assert!(schedule.is_due(at(13)));
        // The flood goes on: the next one waits its time, then comes.
        schedule.lost(at(14), 9);
        schedule.lost(at(15), 12);
        assert!(!schedule.is_due(at(42)));
        assert!(schedule.is_due(at(43)));
        // Nothing more is lost: back to the clock.
        schedule.lost(at(50), 12);
        assert!(!schedule.is_due(at(3642)));
        assert!(schedule.is_due(at(3643)));
    }
}
