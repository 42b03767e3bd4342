//! What the watchman knows of one host.

use alloc::collections::VecDeque;

use super::{
    HostStanding, Now, WatchmanConfig,
    clocks::ClockSaid,
    standing::{CLOCK_FAULTS, StandingSilence},
};
use crate::{
    batch::HeaderFields,
    ids::{BootNanos, Hash, HostId, Nonce, StatementNumber, WallNanos},
    statement::{BatchPoint, Said},
};

#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Whether the register lists it, and since when it has done so without a break.
    pub(super) listed: bool,
    pub(super) listed_since: Option<BootNanos>,
    pub(super) enrolled_at: WallNanos,
    /// What was said of it, or is on its way to be.
    pub(super) said: HostStanding,
    /// That it is silent waits to be said.
    pub(super) saying_silent: bool,
    pub(super) last: Option<BatchPoint>,
    /// End of the last batch by the host's clock, and that clock's error bound.
    pub(super) last_until: Option<(WallNanos, u64)>,
    pub(super) stopped: bool,
    /// When a batch came last in this collector's life.
    pub(super) heard: Option<Now>,
    pub(super) nonces: VecDeque<(Nonce, Now)>,
    pub(super) clocks: [Option<ClockSaid>; 3],
}

pub(super) fn point_of(header: &HeaderFields, hash: Hash) -> BatchPoint {
    BatchPoint {
        sequence: header.sequence,
        header: hash,
    }
}

impl Watched {
    /// The chain goes up to this header.
    pub(super) fn place(&mut self, fields: &HeaderFields, hash: Hash) {
        self.last = Some(point_of(fields, hash));
        self.last_until = Some((fields.until_wall, fields.clock_error_ns));
        self.stopped = fields.flags.last_before_stop;
        // A rollback is over once the ledger has taken the batch that it awaited then.
        let diverged_at = &mut self.said.diverged_at;
        if diverged_at.is_some_and(|awaited| fields.sequence >= awaited) {
            *diverged_at = None;
        }
    }

    /// Takes in what a statement says.
    pub(super) fn note(&mut self, now: Now, number: StatementNumber, said: &Said) {
        self.said.note(number, said);
        match said {
            Said::Silent { .. } => self.saying_silent = false,
            Said::ClockAnomaly(anomaly) => self.clock_said(anomaly.fault, now),
            _ => {}
        }
    }

    /// Takes up what was said before the start. When, by a clock that begins now, nobody knows: a fault of its clock
    /// counts as said just now.
    pub(super) fn take_up(&mut self, now: Now, said: &HostStanding) {
        self.said = said.clone();
        for fault in CLOCK_FAULTS {
            if said.clocks[fault as usize] {
                self.clock_said(fault, now);
            }
        }
    }

    /// The end of a silence that was said, if there is one.
    pub(super) fn back(&mut self, host: HostId, first: BatchPoint, now: Now) -> Option<Said> {
        let StandingSilence { number, .. } = self.said.silence.take()?;
        Some(Said::Back {
            host,
            silence: number,
            first,
            seen_at: now.wall,
        })
    }

    /// The beginning of a silence, if there is one.
    pub(super) fn silent(
        &mut self,
        host: HostId,
        config: &WatchmanConfig,
        watching: Now,
        now: Now,
    ) -> Option<Said> {
        let listed_since = self.listed_since?;
        if self.said.ended || self.stopped || self.saying_silent || self.said.silence.is_some() {
            return None;
        }
        let (from, since) = match self.heard.filter(|heard| heard.monotonic >= watching.monotonic) {
            Some(heard) => (heard.monotonic, heard.wall),
            None if self.last.is_none() && listed_since > watching.monotonic => {
                (listed_since, self.enrolled_at.max(watching.wall))
            }
            None => (watching.monotonic, watching.wall),
        };
        if now.monotonic.0 < from.0.saturating_add(config.silence_ns) {
            return None;
        }
        self.saying_silent = true;
        Some(Said::Silent {
            host,
            last: self.last,
            since,
            watching_since: watching.wall,
            threshold_ns: config.silence_ns,
        })
    }
}
