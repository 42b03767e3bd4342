//! How long things take: from the kernel to sealed, from sealed to stored and proven.
//!
//! Owns the histograms the status shows. Their buckets are powers of two cut in four, so a figure is at most a
//! quarter too high; they never grow.

use std::collections::VecDeque;

use common::{
    batch::BodyView,
    event::Envelope,
    ids::{BootNanos, Sequence},
};
use serde::{Deserialize, Serialize};

/// Parts into which a power of two is cut.
const PARTS: u64 = 4;
/// Buckets for every `u64`.
const BUCKETS: usize = 64 * 4;
/// Batches whose answer is awaited and timed; older ones are not timed.
const AWAITED_MAX: usize = 4096;

/// A histogram of durations in nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            count: 0,
            max: 0,
        }
    }
}

/// What a histogram says, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half were at most this.
    pub p50_ms: f64,
    /// 95 of 100 were at most this.
    pub p95_ms: f64,
    /// 99 of 100 were at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, nanos: u64) {
        let bucket = bucket_of(nanos);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// The duration that `permille` of all are at most, rounded up to its bucket's end, nanoseconds.
    #[must_use]
    pub fn quantile(&self, permille: u64) -> u64 {
        let wanted = (self.count * permille).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return end_of(bucket).min(self.max);
            }
        }
        0
    }

    /// The figures for people.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let ms = |nanos: u64| std::time::Duration::from_nanos(nanos).as_secs_f64() * 1000.0;
        Percentiles {
            count: self.count,
            p50_ms: ms(self.quantile(500)),
            p95_ms: ms(self.quantile(950)),
            p99_ms: ms(self.quantile(990)),
            max_ms: ms(self.max),
        }
    }
}

fn bucket_of(nanos: u64) -> usize {
    let power = u64::from((nanos | 1).ilog2());
    let part = if power < 2 {
        0
    } else {
        nanos >> (power - 2) & (PARTS - 1)
    };
    usize::try_from(power * PARTS + part).unwrap_or(BUCKETS - 1)
}

fn end_of(bucket: usize) -> u64 {
    let (power, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if power < 2 {
        return (2 << power) - 1;
    }
    let width = 1u64 << (power - 2);
    (1u64 << power).saturating_add(width.saturating_mul(part + 1)) - 1
}

/// Lags and counts of one run.
#[derive(Debug, Default)]
pub struct Lag {
    /// From an event's instant until its batch was durable.
    pub sealed: Histogram,
    /// From durable here until durable at the collector.
    pub stored: Histogram,
    /// From durable here until proven to be in the ledger.
    pub proven: Histogram,
    awaiting_stored: VecDeque<(Sequence, BootNanos)>,
    awaiting_proven: VecDeque<(Sequence, BootNanos)>,
    /// Batches sealed in this run.
    pub batches: u64,
    /// Events sealed in this run.
    pub events: u64,
    /// Bytes of headers and bodies sealed in this run.
    pub bytes: u64,
}

impl Lag {
    /// A batch became durable.
    pub fn durable(&mut self, sequence: Sequence, header_bytes: usize, body: &[u8], now: BootNanos) {
        self.batches += 1;
        self.bytes += (header_bytes + body.len()) as u64;
        if let Ok(view) = BodyView::parse(body) {
            self.events += view.events().len() as u64;
            for event in view.events() {
                if let Ok(envelope) = Envelope::parse(event) {
                    self.sealed.add(now.0.saturating_sub(envelope.boot_ns.0));
                }
            }
        }
        for queue in [&mut self.awaiting_stored, &mut self.awaiting_proven] {
            if queue.len() == AWAITED_MAX {
                queue.pop_front();
            }
            queue.push_back((sequence, now));
        }
    }

    /// The collector stored everything up to `through`.
    pub fn stored(&mut self, through: Sequence, now: BootNanos) {
        answered(
            &mut self.awaiting_stored,
            &mut self.stored,
            through.0.saturating_add(1),
            now,
        );
    }

    /// Everything before `before` is proven.
    pub fn proven(&mut self, before: Sequence, now: BootNanos) {
        answered(&mut self.awaiting_proven, &mut self.proven, before.0, now);
    }
}

fn answered(
    awaiting: &mut VecDeque<(Sequence, BootNanos)>,
    histogram: &mut Histogram,
    before: u64,
    now: BootNanos,
) {
    while let Some((sequence, since)) = awaiting.front().copied()
        && sequence.0 < before
    {
        histogram.add(now.0.saturating_sub(since.0));
        awaiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn prop_a_bucket_holds_what_falls_into_it(nanos: u64) {
            let end = end_of(bucket_of(nanos));
            proptest::prop_assert!(end >= nanos);
            proptest::prop_assert!(end - nanos <= nanos / 4 + 1);
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), 0);
        for nanos in 1..=100 {
            histogram.add(nanos * 1_000_000);
        }
        let p50 = histogram.quantile(500);
        assert!((50_000_000..=62_500_000).contains(&p50), "{p50}");
        assert_eq!(histogram.quantile(1000), 100_000_000);
    }
}
