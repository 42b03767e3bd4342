//! The two clocks of an event: time since boot, which orders, and wall time, which has an error bound.
//!
//! Owns the offset between them and what the kernel says of its quality. Refuses to guess a bound: where
//! nobody disciplines the clock it is unknown.

use common::{
    batch::ClockSource,
    ids::{BootNanos, WallNanos},
};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Readings from which the tightest pair is taken.
const SAMPLES: usize = 4;
/// `adjtimex` says so where the clock is not synchronised (adjtimex(2)).
const TIME_ERROR: i32 = 5;

/// Wall time against boot time, as sampled once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Wall time of the boot clock's zero.
    pub booted: WallNanos,
    /// Bound of the wall clock's error, ns; `u64::MAX` where unknown.
    pub error_ns: u64,
    /// What vouches for the bound.
    pub source: ClockSource,
}

impl Clock {
    /// Reads both clocks and the kernel's opinion of them.
    #[must_use]
    pub fn sample() -> Self {
        let (width, booted) = (0..SAMPLES).map(|_| bracket()).min().unwrap_or_default();
        let (source, max_error_ns) = discipline();
        Self {
            booted: WallNanos(booted),
            error_ns: max_error_ns.saturating_add(width),
            source,
        }
    }

    /// Wall time of an instant since boot.
    #[must_use]
    pub fn wall(&self, boot: BootNanos) -> WallNanos {
        WallNanos(self.booted.0.saturating_add(boot.0))
    }
}

/// Now, since boot.
#[must_use]
pub fn boot_now() -> BootNanos {
    BootNanos(nanos(clock_gettime(ClockId::Boottime)))
}

/// Width of a reading of the wall clock between two of the boot clock, and the offset it gives.
fn bracket() -> (u64, u64) {
    let before = boot_now().0;
    let wall = nanos(clock_gettime(ClockId::Realtime));
    let width = boot_now().0.saturating_sub(before);
    (width, wall.saturating_sub(before + width / 2))
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Whether the kernel's clock is synchronised, and its maximum error in ns.
#[expect(unsafe_code, reason = "adjtimex has no safe wrapper in our dependencies")]
fn discipline() -> (ClockSource, u64) {
    // SAFETY: `timex` is plain integers, for which zeros are valid; modes 0 only reads.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    match state {
        state if state < 0 => (ClockSource::Unknown, u64::MAX),
        TIME_ERROR => (ClockSource::Unsynchronised, u64::MAX),
        _ => (
            ClockSource::Synchronised,
            u64::try_from(timex.maxerror).map_or(u64::MAX, |us| us.saturating_mul(1000)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_of_now_is_now() {
        let before = nanos(clock_gettime(ClockId::Realtime));
        let wall = Clock::sample().wall(boot_now());
        let after = nanos(clock_gettime(ClockId::Realtime));
        // The offset is known to within a bracket, far less than this.
        assert!((before.saturating_sub(1_000_000_000)..after + 1_000_000_000).contains(&wall.0));
    }
}
