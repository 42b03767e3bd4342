//! Receipts for an agent: inclusion of its batches and consistency with what it saw, under one checkpoint.

use common::{
    ids::{HostId, LeafIndex, Sequence},
    session::{Proven, Receipts},
};
use ledger::{ReadError, Reader};

/// Makes receipts for the batches `from..=through` of `host` under the latest checkpoint and returns them
/// with its size; `None` where not all are published. Blocking: it reads tiles.
pub(super) fn receipts(
    reader: &Reader,
    host: &HostId,
    from: Sequence,
    through: Sequence,
    since_size: u64,
) -> Result<Option<(Receipts, u64)>, ReadError> {
    let head = reader.published();
    let size = head.checkpoint.size;
    let mut proven = Vec::new();
    for sequence in (from.0..=through.0).map(Sequence) {
        let Some(record) = reader.find(host, sequence)?.filter(|record| record.leaf.0 < size) else {
            return Ok(None);
        };
        let receipt = reader.receipt_in(record.leaf, &head)?;
        proven.push(Proven {
            sequence,
            leaf: LeafIndex(receipt.leaf.0),
            proof: receipt.proof,
        });
    }
    let receipts = Receipts {
        checkpoint: head.note.to_vec(),
        consistency: reader.consistency(since_size, size)?,
        proven,
    };
    Ok(Some((receipts, size)))
}
