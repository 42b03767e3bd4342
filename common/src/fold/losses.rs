//! Losses that pruned batches reported of instants before them: what answers about batches that stay still need.
//!
//! Kept beside the states of one host when bodies go (`docs/format/snapshot.md`). Owns the bytes. Holds events exactly as
//! they were sealed, and no other event than a loss.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    codec::{Reader, Short, Write},
    event::{Event, Fact, Loss, LossKey},
    ids::{EventIndex, Hash, HostId},
    limits::{EVENT_BYTES_MAX, KEPT_LOSSES_MAX},
};

/// First bytes.
const MAGIC: &[u8; 4] = b"HLPL";
/// The format written today.
const FORMAT_VERSION: u16 = 1;

/// Why bytes are none of these. The disk, or whoever altered it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeptLosses {
    /// They end too early.
    #[error("kept losses cut short: {0}")]
    Short(#[from] Short),
    /// A field holds what it may not.
    #[error("kept losses: field `{0}` holds what it may not")]
    Field(&'static str),
    /// An event is no loss that this build can read.
    #[error("kept losses: event {0} is no loss")]
    NoLoss(EventIndex),
    /// The hash at the end is not that of what stands before it.
    #[error("kept losses were altered: they hash to {found}, their end says {named}")]
    Hash {
        /// Hash of the bytes.
        found: Hash,
        /// Hash named.
        named: Hash,
    },
}

/// There are too many already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{KEPT_LOSSES_MAX} losses of pruned batches are kept of this host, and no more can be")]
pub struct TooManyLosses;

/// One loss, and when it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLoss {
    /// The event as it was sealed.
    pub event: Event,
    /// Which gap.
    pub key: LossKey,
    /// What is known of it.
    pub record: Loss,
}

/// The losses kept of one host, by the events that reported them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLosses {
    host: HostId,
    events: BTreeMap<EventIndex, Vec<u8>>,
}

impl KeptLosses {
    /// None yet.
    #[must_use]
    pub fn new(host: HostId) -> Self {
        Self {
            host,
            events: BTreeMap::new(),
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Keeps an event as it was sealed, if it is a loss. Keeping it twice is keeping it once.
    ///
    /// # Errors
    /// [`TooManyLosses`].
    pub fn keep(&mut self, index: EventIndex, bytes: &[u8]) -> Result<(), TooManyLosses> {
        if read(bytes).is_none() || self.events.contains_key(&index) {
            return Ok(());
        }
        if self.events.len() >= KEPT_LOSSES_MAX {
            return Err(TooManyLosses);
        }
        self.events.insert(index, bytes.to_vec());
        Ok(())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// All of them, in the host's order.
    pub fn iter(&self) -> impl Iterator<Item = (EventIndex, KeptLoss)> + '_ {
        self.events
            .iter()
            .filter_map(|(index, bytes)| Some((*index, read(bytes)?)))
    }

    /// Their bytes. Same losses, same bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.put_u16(FORMAT_VERSION);
        out.extend_from_slice(&self.host.0);
        out.put_u32(u32::try_from(self.events.len()).unwrap_or(u32::MAX));
        for (index, bytes) in &self.events {
            out.put_u64(index.0);
            out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            out.extend_from_slice(bytes);
        }
        let hash = Hash::of(&out);
        out.extend_from_slice(&hash.0);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`BadKeptLosses`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadKeptLosses> {
        let mut reader = Reader::new(bytes);
        if &reader.array("magic")? != MAGIC {
            return Err(BadKeptLosses::Field("magic"));
        }
        if reader.u16("format version")? != FORMAT_VERSION {
            return Err(BadKeptLosses::Field("format version"));
        }
        let mut kept = Self::new(HostId(reader.array("host")?));
        let count = reader.u32("count")?;
        if count as usize > KEPT_LOSSES_MAX {
            return Err(BadKeptLosses::Field("count"));
        }
        for _ in 0..count {
            let index = EventIndex(reader.u64("index")?);
            let length = reader.u32("length")? as usize;
            if length > EVENT_BYTES_MAX {
                return Err(BadKeptLosses::Field("length"));
            }
            let event = reader.take("event", length)?;
            if read(event).is_none() {
                return Err(BadKeptLosses::NoLoss(index));
            }
            if kept
                .events
                .last_key_value()
                .is_some_and(|(last, _)| *last >= index)
            {
                return Err(BadKeptLosses::Field("order"));
            }
            kept.events.insert(index, event.to_vec());
        }
        let found = Hash::of(bytes.get(..reader.at()).unwrap_or_default());
        let named = Hash(reader.array("hash")?);
        if found != named {
            return Err(BadKeptLosses::Hash { found, named });
        }
        if !reader.rest().is_empty() {
            return Err(BadKeptLosses::Field("end"));
        }
        Ok(kept)
    }
}

fn read(bytes: &[u8]) -> Option<KeptLoss> {
    let event = Event::decode(bytes).ok()?;
    match &event.fact {
        Fact::Loss { key, record } => {
            let (key, record) = (*key, record.clone());
            Some(KeptLoss { event, key, record })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
