//! Sensor status: whether a sensor works, on which tier, and why not. Keyed by the sensor.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::{
    codec::{Reader, Short, Write},
    text::Text,
};

/// A sensor; the numbers are on disk for ever and name the counters in batch headers. Each hook is a sensor of
/// its own, because each has a gapless sequence of its own in which a loss is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SensorId(pub u16);

impl SensorId {
    /// The agent as a whole.
    pub const AGENT: Self = Self(0);
    /// Process creation.
    pub const FORK: Self = Self(1);
    /// Program execution.
    pub const EXEC: Self = Self(2);
    /// Process end.
    pub const EXIT: Self = Self(3);
    /// Attempts to connect over TCP.
    pub const CONNECT: Self = Self(4);
    /// Beginnings of listening on TCP.
    pub const LISTEN: Self = Self(5);
    /// Queue between the sensors and the journal.
    pub const QUEUE: Self = Self(6);
    /// The spool on disk.
    pub const SPOOL: Self = Self(7);
    /// TCP connections established, in either direction.
    pub const OPEN: Self = Self(8);
    /// Ends of TCP connections and of attempts.
    pub const CLOSE: Self = Self(9);
    /// Ends of listening on TCP.
    pub const UNLISTEN: Self = Self(10);

    /// The word used in commands and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "agent",
            1 => "fork",
            2 => "exec",
            3 => "exit",
            4 => "connect",
            5 => "listen",
            6 => "queue",
            7 => "spool",
            8 => "open",
            9 => "close",
            10 => "unlisten",
            _ => "unknown",
        }
    }
}

impl Key for SensorId {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u16(self.0);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        reader.u16("sensor").map(Self)
    }
}

/// The whole record of a sensor at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorStatus {
    /// How it observes.
    pub tier: Tier,
    /// Whether it observes.
    pub state: SensorState,
    /// The probe or file it uses, e.g. `tp_btf/sched_process_exit`.
    pub probe: Text,
    /// Why it is in this state; empty where it simply works.
    pub reason: Text,
}

/// How a sensor observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// fentry and LSM programs beside the core.
    A,
    /// The tested core: tracepoints, cgroup programs, iterators.
    B,
    /// `/proc` alone: short-lived things are missed.
    Procfs,
}

/// Whether a sensor observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorState {
    /// Everything it is made for.
    Active,
    /// Less than that; the reason says what is missing.
    Degraded,
    /// Nothing.
    Failed,
    /// Ended in order.
    Stopped,
}
