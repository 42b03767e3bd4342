//! What an agent's session is told at start.

use alloc::string::String;

use crate::{ledger_keys::LedgerKeys, witness::Policy};

/// Settings of an agent's session. Times in nanoseconds.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The agent's version, for people; cut to 64 bytes by [`AgentConfig::new`].
    pub agent_version: String,
    /// The keys that sign the ledger's checkpoints: what was pinned when the host was enrolled, and what was learnt of
    /// them since.
    pub ledger_keys: LedgerKeys,
    /// Which witnesses must have cosigned a checkpoint before anything is trimmed on its word; `None` demands none.
    pub witnesses: Option<Policy>,
    /// How long connecting may take.
    pub connect_ns: u64,
    /// A ping is sent when nothing was sent for this long.
    pub keepalive_ns: u64,
    /// The connection is given up when nothing came for this long.
    pub idle_ns: u64,
    /// The first wait before connecting again; doubled with each failure.
    pub backoff_min_ns: u64,
    /// The longest wait before connecting again.
    pub backoff_max_ns: u64,
}

impl AgentConfig {
    /// The defaults, for a collector across a network.
    #[must_use]
    pub fn new(agent_version: &str, ledger_keys: impl Into<LedgerKeys>) -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            agent_version: agent_version
                .chars()
                .take(crate::limits::AGENT_VERSION_BYTES_MAX / 4)
                .collect(),
            ledger_keys: ledger_keys.into(),
            witnesses: None,
            connect_ns: 10 * SECOND,
            keepalive_ns: 10 * SECOND,
            idle_ns: 30 * SECOND,
            backoff_min_ns: SECOND / 4,
            backoff_max_ns: 30 * SECOND,
        }
    }
}
