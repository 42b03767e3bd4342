//! Anchoring: the ledger's signed checkpoints put where its operator cannot take them back.
//!
//! Owns the bytes of the anchor file and when a target is due. Files, sockets and clocks are the collector's
//! (`collector::anchor`); what an anchor proves is judged by `ledger::anchor`.

mod record;
mod schedule;

pub use self::record::{
    ANCHOR_FILE_BYTES_MAX, ANCHOR_RECORD_BYTES_MAX, AnchorRecord, Damage, Scan, ScannedAnchor, begins, scan,
};
pub use self::schedule::{AnchorPolicy, Due, Schedule};

#[cfg(test)]
mod tests;
