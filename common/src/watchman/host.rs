//! What the watchman knows of one host.

use alloc::{collections::VecDeque, vec::Vec};

use super::{Now, WatchmanConfig, clocks::ClockSaid};
use crate::{
    batch::HeaderFields,
    ids::{BootNanos, Hash, HostId, Nonce, Sequence, StatementNumber, WallNanos},
    statement::{BatchPoint, Said},
};

/// Where a host's silence stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Silence {
    /// It is not said to be silent.
    #[default]
    None,
    /// That waits to be said.
    Saying,
    /// That was said.
    Said {
        number: StatementNumber,
        after: Option<Sequence>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Whether the register lists it, and since when it has done so without a break.
    pub(super) listed: bool,
    pub(super) listed_since: Option<BootNanos>,
    pub(super) enrolled_at: WallNanos,
    pub(super) enrolled_said: bool,
    pub(super) ended: bool,
    pub(super) last: Option<BatchPoint>,
    /// End of the last batch by the host's clock, and that clock's error bound.
    pub(super) last_until: Option<(WallNanos, u64)>,
    pub(super) stopped: bool,
    /// When a batch came last in this collector's life.
    pub(super) heard: Option<Now>,
    pub(super) silence: Silence,
    /// A rollback was said when the ledger awaited this batch; over once it has taken it.
    pub(super) diverged_at: Option<Sequence>,
    pub(super) contradictions: Vec<(Hash, Hash)>,
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
        if self.diverged_at.is_some_and(|awaited| fields.sequence >= awaited) {
            self.diverged_at = None;
        }
    }

    /// Takes in what a statement says.
    pub(super) fn note(&mut self, now: Now, number: StatementNumber, said: &Said) {
        match said {
            Said::HostEnrolled { .. } => self.enrolled_said = true,
            Said::HostEnded { .. } => self.ended = true,
            Said::Silent { last, .. } => {
                self.silence = Silence::Said {
                    number,
                    after: last.map(|point| point.sequence),
                };
            }
            // Where it was silent again before this could be said, that stands.
            Said::Back { silence, .. } => {
                if matches!(self.silence, Silence::Said { number, .. } if number == *silence) {
                    self.silence = Silence::None;
                }
            }
            Said::Rollback(divergence) => self.diverged_at = Some(divergence.held_next),
            Said::Equivocation(equivocation) => {
                let pair = (Hash::of(&equivocation.held), Hash::of(&equivocation.offered));
                if !self.contradictions.contains(&pair) {
                    self.contradictions.push(pair);
                }
            }
            Said::ClockAnomaly(anomaly) => self.clock_said(anomaly.fault, now),
            Said::Prune(_)
            | Said::Hold(_)
            | Said::HoldLifted(_)
            | Said::KeyChange { .. }
            | Said::Other { .. } => {}
        }
    }

    /// The end of a silence that was said, if there is one.
    pub(super) fn back(&mut self, host: HostId, first: BatchPoint, now: Now) -> Option<Said> {
        let Silence::Said { number, .. } = self.silence else {
            return None;
        };
        self.silence = Silence::None;
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
        if self.ended || self.stopped || !matches!(self.silence, Silence::None) {
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
        self.silence = Silence::Saying;
        Some(Said::Silent {
            host,
            last: self.last,
            since,
            watching_since: watching.wall,
            threshold_ns: config.silence_ns,
        })
    }
}
