//! When a target is due: every N leaves or T seconds, whichever comes first, and later after a failure.

use crate::ids::BootNanos;

/// First wait after a failure, nanoseconds; it doubles with each further one.
const RETRY_FIRST_NS: u64 = 1_000_000_000;
/// Longest wait after a failure, nanoseconds.
const RETRY_MAX_NS: u64 = 300_000_000_000;

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorPolicy {
    /// Once so many leaves were added since the last anchor.
    pub leaves: u64,
    /// Once so long after it, if leaves were added at all; nanoseconds.
    pub interval_ns: u64,
}

/// Whether to anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// Not before then, unless more leaves come.
    At(BootNanos),
    /// Not before leaves come.
    Idle,
}

/// Where one target stands.
#[derive(Debug, Clone)]
pub struct Schedule {
    policy: AnchorPolicy,
    /// Leaves of the checkpoint anchored last; 0 for none.
    size: u64,
    /// When the interval since then is over.
    over_at: BootNanos,
    /// Failures since then.
    failures: u32,
    retry_at: BootNanos,
}

impl Schedule {
    /// A target to which a checkpoint of `size` leaves (0 for none) went `age_ns` ago.
    #[must_use]
    pub fn new(policy: AnchorPolicy, size: u64, age_ns: u64, now: BootNanos) -> Self {
        let left = match size {
            0 => 0,
            _ => policy.interval_ns.saturating_sub(age_ns),
        };
        Self {
            policy,
            size,
            over_at: after(now, left),
            failures: 0,
            retry_at: now,
        }
    }

    /// Whether to anchor a checkpoint of `size` leaves.
    #[must_use]
    pub fn due(&self, now: BootNanos, size: u64) -> Due {
        let Some(added) = size.checked_sub(self.size).filter(|added| *added > 0) else {
            return Due::Idle;
        };
        let wanted = if added >= self.policy.leaves {
            now
        } else {
            self.over_at
        };
        let at = if self.failures == 0 {
            wanted
        } else {
            wanted.max(self.retry_at)
        };
        if at <= now { Due::Now } else { Due::At(at) }
    }

    /// A checkpoint of `size` leaves was anchored.
    pub fn succeeded(&mut self, now: BootNanos, size: u64) {
        self.size = size;
        self.over_at = after(now, self.policy.interval_ns);
        self.failures = 0;
    }

    /// It was not.
    pub fn failed(&mut self, now: BootNanos) {
        let wait = RETRY_FIRST_NS
            .checked_shl(self.failures.min(16))
            .unwrap_or(RETRY_MAX_NS);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = after(now, wait.min(RETRY_MAX_NS));
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

fn after(now: BootNanos, by: u64) -> BootNanos {
    BootNanos(now.0.saturating_add(by))
}
