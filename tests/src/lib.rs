//! Cross-crate tests.

pub mod chains;
pub mod large;
pub mod measure;
pub mod program;
pub mod pruning;
pub mod shipping;
pub mod stated;

/// Header of a leaf that `ledger-worker` appends: follows from the leaf alone.
#[must_use]
pub fn worker_header(leaf: u64) -> [u8; 300] {
    let mut header = [0xa5; 300];
    header[..8].copy_from_slice(&leaf.to_be_bytes());
    header
}
