//! Every choice of a simulation comes from one seed.

use std::hash::{DefaultHasher, Hash, Hasher};

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.next() % length.max(1) as u64).unwrap()
    }

    pub(crate) fn bytes32(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes());
        }
        out
    }
}

/// What happened, folded into one number: two runs of one seed must agree.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    steps: u64,
}

impl Trace {
    pub(crate) fn note(&mut self, now: u64, what: &impl Hash) {
        now.hash(&mut self.hasher);
        what.hash(&mut self.hasher);
        self.steps += 1;
    }

    pub(crate) fn digest(&self) -> (u64, u64) {
        (self.hasher.finish(), self.steps)
    }
}
