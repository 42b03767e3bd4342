//! Baseline: a full snapshot taken by the agent at start. It is what makes absence provable: an entity of a
//! covered kind that has no event since the latest baseline's beginning did not exist when it was complete.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Key, Kind, Source};
use crate::{
    codec::{Reader, Short, Write},
    ids::{BootId, BootNanos},
};

/// Names a baseline by when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BaselineKey {
    /// The boot it was taken in.
    pub boot: BootId,
    /// When it began: live sensors were attached before, so that whatever lived since and is not in the
    /// baseline has a live event of its own.
    pub began: BootNanos,
}

impl Key for BaselineKey {
    fn put(&self, out: &mut Vec<u8>) {
        self.boot.put(out);
        out.put_u64(self.began.0);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        Ok(Self {
            boot: BootId::read(reader)?,
            began: BootNanos(reader.u64("began")?),
        })
    }
}

/// The whole record of a baseline at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Whether all of it is in the chain.
    pub phase: Phase,
    /// Where it was taken from.
    pub source: Source,
    /// The kinds it covers.
    pub kinds: Vec<Kind>,
}

/// How far a baseline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its events follow.
    Begun,
    /// Its events stand between the two marks, among live events of the same time.
    Complete {
        /// How many events with the cause `baseline` it wrote.
        events: u64,
    },
}
