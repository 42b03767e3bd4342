//! The bytes and the arithmetic of a projection's index: how a batch and a statement are found again in a ledger
//! of any size without any of it in memory (`docs/format/projection.md`).
//!
//! Owns the records, the links between them and the rule by which old snapshots thin out. Refuses to vouch for
//! anything: what is found through it is held against the signed header by whoever reads it.

pub mod batch;
pub mod links;
pub mod stated;
pub mod thinning;
pub mod tips;

use alloc::vec::Vec;

use crate::{
    codec::{Short, Write},
    ids::Hash,
};

pub use self::{batch::BatchRecord, links::Linked, stated::StatedRecord, tips::Tips};

/// Bytes of a record's checksum.
const CHECKSUM_BYTES: usize = 8;

/// A record's place in its file: it lies at so many times its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Slot(pub u64);

/// Bytes that are not what was written at their place. The index is at fault: throw it away and build it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// They end early.
    #[error(transparent)]
    Short(#[from] Short),
    /// They are not those that were written there.
    #[error("checksum does not fit")]
    Checksum,
    /// A field contradicts the others or the place.
    #[error("field `{0}` holds what it may not")]
    Field(&'static str),
}

impl BadRecord {
    fn unless(what: &'static str, holds: bool) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::Field(what)) }
    }
}

/// Closes a record: covers its place too, so that one read from another's place does not fit.
fn seal(slot: Slot, record: &mut Vec<u8>) {
    let sum = checksum(slot, record);
    record.extend_from_slice(&sum);
}

/// What is covered by a record's checksum, if it fits.
fn opened(slot: Slot, bytes: &[u8], length: usize) -> Result<&[u8], BadRecord> {
    let covered = length.saturating_sub(CHECKSUM_BYTES);
    let mut reader = crate::codec::Reader::new(bytes);
    let record = reader.take("record", covered)?;
    let sum: [u8; CHECKSUM_BYTES] = reader.array("checksum")?;
    if sum != checksum(slot, record) {
        return Err(BadRecord::Checksum);
    }
    Ok(record)
}

fn checksum(slot: Slot, covered: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut bytes = Vec::with_capacity(8 + covered.len());
    bytes.put_u64(slot.0);
    bytes.extend_from_slice(covered);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&Hash::of(&bytes).0[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests;
