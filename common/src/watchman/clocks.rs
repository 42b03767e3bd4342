//! Whether a batch's wall clock can be right.

use super::{Now, WatchmanConfig, host::Watched, host::point_of};
use crate::{
    batch::HeaderFields,
    ids::{BootNanos, Hash, WallNanos},
    statement::{ClockAnomaly, ClockFault, Said},
};

/// When one kind of anomaly was stated last, and how many were not since.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockSaid {
    at: BootNanos,
    unstated: u64,
}

/// A bound that is unknown counts as nothing: an undisciplined clock is not excused for being one.
fn known(error_ns: u64) -> u64 {
    if error_ns == u64::MAX { 0 } else { error_ns }
}

impl Watched {
    /// An anomaly was stated.
    pub(super) fn clock_said(&mut self, fault: ClockFault, now: Now) {
        self.clocks[fault as usize] = Some(ClockSaid {
            at: now.monotonic,
            unstated: 0,
        });
    }

    /// What is to be said of the clock of a batch that came now, before [`Watched::place`].
    pub(super) fn judge_clock(
        &mut self,
        config: &WatchmanConfig,
        now: Now,
        fields: &HeaderFields,
        hash: Hash,
    ) -> Option<Said> {
        let (fault, shows, against, against_error_ns) = self.contradiction(config, now, fields)?;
        let unstated = match &mut self.clocks[fault as usize] {
            Some(said) if now.monotonic.0 < said.at.0.saturating_add(config.clock_every_ns) => {
                said.unstated = said.unstated.saturating_add(1);
                return None;
            }
            Some(said) => said.unstated,
            None => 0,
        };
        self.clock_said(fault, now);
        Some(Said::ClockAnomaly(ClockAnomaly {
            host: fields.host,
            batch: point_of(fields, hash),
            fault,
            shows,
            shows_error_ns: fields.clock_error_ns,
            against,
            against_error_ns,
            tolerance_ns: config.tolerance_ns,
            unstated,
        }))
    }

    /// The first contradiction found: the fault, what the batch shows, what it contradicts, the error of that.
    fn contradiction(
        &self,
        config: &WatchmanConfig,
        now: Now,
        fields: &HeaderFields,
    ) -> Option<(ClockFault, WallNanos, WallNanos, u64)> {
        // Whether `later` is later than `earlier` by more than can be explained.
        let beyond = |later: WallNanos, earlier: WallNanos, error_ns: u64| {
            let explained = known(fields.clock_error_ns)
                .saturating_add(known(error_ns))
                .saturating_add(config.tolerance_ns);
            later.0 > earlier.0.saturating_add(explained)
        };
        if beyond(fields.until_wall, now.wall, now.error_ns) {
            return Some((ClockFault::Ahead, fields.until_wall, now.wall, now.error_ns));
        }
        let given = self.nonces.iter().find(|(nonce, _)| *nonce == fields.nonce);
        if let Some((_, given)) = given
            && beyond(given.wall, fields.until_wall, given.error_ns)
        {
            return Some((ClockFault::Behind, fields.until_wall, given.wall, given.error_ns));
        }
        let (before, error_ns) = self.last_until?;
        beyond(before, fields.from_wall, error_ns).then_some((
            ClockFault::SetBack,
            fields.from_wall,
            before,
            error_ns,
        ))
    }
}
