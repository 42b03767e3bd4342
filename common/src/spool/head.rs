//! The head file: where the chain stands, outliving the batches that were trimmed.
//!
//! Two slots: one is surely on the disk and is left alone, the other is written after each batch became
//! durable, without waiting for the disk. Before a segment is deleted the write is waited for, and the slots
//! change places. So the file never claims a batch that was not durable, always stands behind what was
//! deleted, and a whole record beyond it is a batch sealed just before a crash.

use alloc::vec::Vec;

use crate::{
    batch::{ChainHead, KeyHead},
    codec::{Reader, Short, Write},
    ids::{EventIndex, Hash, HostId, KeyEpoch, PublicKey, Sequence},
};

/// First bytes of a slot.
const MAGIC: &[u8; 4] = b"HLSH";
/// The format written today.
const FORMAT_VERSION: u16 = 3;
/// Bytes before the check.
const SLOT_CHECKED_BYTES: usize = 288;
/// The same in format 2, without the ledger's mark, still read.
const SLOT_CHECKED_BYTES_2: usize = 176;
/// The same in format 1, without the announced key as well, still read.
const SLOT_CHECKED_BYTES_1: usize = 144;
/// Bytes of a slot.
const SLOT_BYTES: usize = SLOT_CHECKED_BYTES + 32;
/// Distance between the slots, bytes: they never share a sector.
pub const HEAD_SLOT_STRIDE: usize = 4096;
/// Length of the head file, bytes.
pub const HEAD_FILE_BYTES: usize = 2 * HEAD_SLOT_STRIDE;

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRecord {
    /// Counts the writes; the higher one of two good slots is in force.
    pub generation: u64,
    /// Where the chain stood.
    pub head: ChainHead,
    /// The first batch without a verified receipt.
    pub oldest: Sequence,
    /// What of the ledger is remembered; `None` before anything is.
    pub mark: Option<LedgerMark>,
}

/// What of the ledger an agent must not forget, whatever becomes of the files that hold it: how far the checkpoint
/// went that it wrote down last, and which history of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerMark {
    /// Which ledger: SHA-256 of its first verifier key as text.
    pub ledger: Hash,
    /// Leaves of the checkpoint; 0 before the first.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// Length of the history of the ledger's keys, bytes; 0 where none is known.
    pub history_bytes: u64,
    /// SHA-256 of the history.
    pub history: Hash,
}

/// Why a slot is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// It was never written.
    #[error("empty")]
    Empty,
    /// It is torn or rotten.
    #[error("damaged")]
    Damaged,
    /// A format this build does not know.
    #[error("of unknown format {0}; upgrade the agent")]
    Version(u16),
}

impl HeadRecord {
    /// The slot's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOT_BYTES);
        out.extend_from_slice(MAGIC);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(0);
        out.put_u64(self.generation);
        out.extend_from_slice(&self.head.host.0);
        out.put_u64(self.head.next_sequence.0);
        out.put_u64(self.head.next_event.0);
        out.extend_from_slice(&self.head.hash.0);
        out.put_u64(self.head.keys.epoch.0);
        out.extend_from_slice(&self.head.keys.key.unwrap_or_default().0);
        out.extend_from_slice(&self.head.keys.announced.unwrap_or_default().0);
        out.put_u64(self.oldest.0);
        match &self.mark {
            None => out.resize(SLOT_CHECKED_BYTES, 0),
            Some(mark) => {
                out.extend_from_slice(&mark.ledger.0);
                out.put_u64(mark.size);
                out.extend_from_slice(&mark.root.0);
                out.put_u64(mark.history_bytes);
                out.extend_from_slice(&mark.history.0);
            }
        }
        let check = Hash::of(&out);
        out.extend_from_slice(&check.0);
        out
    }

    fn decode(slot: &[u8]) -> Result<Self, SlotFault> {
        if slot.iter().all(|byte| *byte == 0) {
            return Err(SlotFault::Empty);
        }
        read_slot(slot).unwrap_or(Err(SlotFault::Damaged))
    }
}

fn read_slot(slot: &[u8]) -> Result<Result<HeadRecord, SlotFault>, Short> {
    let covered = match slot.get(4..6) {
        Some([0, 1]) => SLOT_CHECKED_BYTES_1,
        Some([0, 2]) => SLOT_CHECKED_BYTES_2,
        _ => SLOT_CHECKED_BYTES,
    };
    let mut reader = Reader::new(slot);
    let covered = reader.take("slot", covered)?;
    let check: [u8; 32] = reader.array("slot check")?;
    let mut fields = Reader::new(covered);
    let magic: [u8; 4] = fields.array("magic")?;
    if &magic != MAGIC || Hash::of(covered).0 != check {
        return Ok(Err(SlotFault::Damaged));
    }
    let version = fields.u16("version")?;
    if !(1..=FORMAT_VERSION).contains(&version) {
        return Ok(Err(SlotFault::Version(version)));
    }
    fields.u16("reserved")?;
    let generation = fields.u64("generation")?;
    let host = HostId(fields.array("host")?);
    let next_sequence = Sequence(fields.u64("next sequence")?);
    let next_event = EventIndex(fields.u64("next event")?);
    let hash = Hash(fields.array("hash")?);
    let epoch = KeyEpoch(fields.u64("epoch")?);
    let key = PublicKey(fields.array("key")?);
    let announced = match version {
        1 => PublicKey::default(),
        _ => PublicKey(fields.array("announced key")?),
    };
    let oldest = Sequence(fields.u64("oldest")?);
    let mark = match version {
        1 | 2 => None,
        _ => Some(LedgerMark {
            ledger: Hash(fields.array("ledger")?),
            size: fields.u64("size")?,
            root: Hash(fields.array("root")?),
            history_bytes: fields.u64("history length")?,
            history: Hash(fields.array("history")?),
        }),
    };
    Ok(Ok(HeadRecord {
        generation,
        head: ChainHead {
            host,
            next_sequence,
            next_event,
            hash,
            keys: KeyHead {
                epoch,
                key: (next_sequence.0 > 0).then_some(key),
                announced: (announced != PublicKey::default()).then_some(announced),
            },
        },
        oldest,
        mark: mark.filter(|mark| mark.ledger != Hash::default()),
    }))
}

/// Reads both slots: the one in force with its number, and what is wrong with the others.
#[must_use]
pub fn read_head_file(bytes: &[u8]) -> (Option<(usize, HeadRecord)>, [Option<SlotFault>; 2]) {
    let mut best: Option<(usize, HeadRecord)> = None;
    let mut faults = [None; 2];
    for (slot, fault) in faults.iter_mut().enumerate() {
        let from = slot * HEAD_SLOT_STRIDE;
        let bytes = bytes.get(from..).unwrap_or_default();
        match HeadRecord::decode(bytes.get(..SLOT_BYTES).unwrap_or(bytes)) {
            Ok(record) => {
                if best
                    .as_ref()
                    .is_none_or(|(_, held)| held.generation < record.generation)
                {
                    best = Some((slot, record));
                }
            }
            Err(found) => *fault = Some(found),
        }
    }
    (best, faults)
}

/// Offset of the first byte outside the slots that is not zero, as all of them are written.
#[must_use]
pub(super) fn stray_of(bytes: &[u8]) -> Option<usize> {
    let is_slot = |at: usize| at < HEAD_FILE_BYTES && at % HEAD_SLOT_STRIDE < SLOT_BYTES;
    let mut outside = bytes.iter().enumerate().filter(|(at, _)| !is_slot(*at));
    outside.find(|(_, byte)| **byte != 0).map(|(at, _)| at)
}
