//! The spool: the agent's durable queue of sealed batches, kept until the collector proves that it included
//! them. Decisions and bytes only; a driver executes the [`SpoolEffect`]s in order on a real disk.
//!
//! Bytes: `docs/format/spool.md`. Owns which bytes go where, what may be deleted, and what a crash left
//! behind ([`recover`]). Refuses to seal, to judge receipts, and to touch a file.

mod effect;
mod head;
mod index;
mod recovery;
mod segment;

pub use self::{
    effect::{AppendRefused, DiskFault, Entry, Place, SpoolEffect, SpoolFailed},
    head::{HEAD_FILE_BYTES, HEAD_SLOT_STRIDE, HeadRecord, LedgerMark, SlotFault, read_head_file},
    index::{Spool, SpoolConfig},
    recovery::{Finding, RecoverError, Recovered, recover},
    segment::{
        BadRecord, Damage, OpenRecord, RECORD_OVERHEAD_BYTES, SEGMENT_HEADER_BYTES, ScannedRecord, SegmentId,
        SegmentScan, encode_record, encode_segment_header, open_record, scan_segment,
    },
};

#[cfg(test)]
mod tests;
