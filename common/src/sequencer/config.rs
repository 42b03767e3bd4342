//! When to commit and when to publish.

/// How to group. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequencerConfig {
    /// A group is committed once its headers and bodies reach this, bytes.
    pub group_bytes: u64,
    /// A group is committed once it has this many entries.
    pub group_batches: usize,
    /// Groups are committed at most this often; one that is not full is committed at the latest once its first batch
    /// waited this long.
    pub group_wait_ns: u64,
    /// A checkpoint is begun at the earliest this long after the one before was published.
    pub publish_ns: u64,
    /// Entries that wait for a commit take at most this much, bytes; then agents are told to come back.
    pub waiting_bytes_max: u64,
    /// How long to wait when no space is left.
    pub retry_ns: u64,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self {
            group_bytes: 8 * 1024 * 1024,
            group_batches: 1024,
            group_wait_ns: 5_000_000,
            publish_ns: 500_000_000,
            waiting_bytes_max: 256 * 1024 * 1024,
            retry_ns: 1_000_000_000,
        }
    }
}
