//! Loss: events that happened and were not seen. Evidence, never only a diagnostic.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Key, SensorId};
use crate::{
    codec::{Reader, Short, Write},
    ids::{BootId, BootNanos},
};

/// Names a gap in one sensor's per-CPU sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LossKey {
    /// The boot it happened in.
    pub boot: BootId,
    /// The sensor whose events are missing.
    pub sensor: SensorId,
    /// The CPU whose sequence has the gap.
    pub cpu: u32,
    /// First sequence number missing.
    pub first: u64,
}

impl Key for LossKey {
    fn put(&self, out: &mut Vec<u8>) {
        self.boot.put(out);
        self.sensor.put(out);
        out.put_u32(self.cpu);
        out.put_u64(self.first);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        Ok(Self {
            boot: BootId::read(reader)?,
            sensor: SensorId::read(reader)?,
            cpu: reader.u32("cpu")?,
            first: reader.u64("first missing")?,
        })
    }
}

/// The whole record of a loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Last sequence number missing.
    pub last: u64,
    /// How many are missing.
    pub count: u64,
    /// Why.
    pub cause: LossCause,
    /// They happened at or after this instant.
    pub not_before: BootNanos,
    /// They happened at or before this instant.
    pub not_after: BootNanos,
}

/// Why events were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// The kernel ring buffer was full.
    RingFull,
    /// The agent's queue was full.
    QueueFull,
    /// The spool reached its bound on disk.
    SpoolFull,
    /// A record did not decode.
    Malformed,
}
