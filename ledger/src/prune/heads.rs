//! Every entry's header in the ledger's order, from the groups or what is kept of them, without an index.

use common::{
    batch::UnverifiedHeader,
    entry::UnverifiedEntry,
    ids::{LeafIndex, StatementNumber},
    retention::Batch,
};

use super::PruneError;
use crate::{
    group::{Head, group_path, slice},
    kept::Kept,
    recovery::head_of,
    storage::Storage,
};

/// One entry as its group's head has it. Nothing of it is verified.
pub(crate) struct Seen<'a> {
    /// Its place in the ledger.
    pub(crate) leaf: LeafIndex,
    /// The entry.
    pub(crate) header: &'a [u8],
    /// Bytes of the body that was committed with it.
    pub(crate) body_bytes: usize,
    /// By which certificate the body went, if it did.
    pub(crate) gone: Option<StatementNumber>,
}

impl Seen<'_> {
    /// What retention asks of it, where it is a batch with a body that is there or was.
    pub(crate) fn batch(&self) -> Option<Batch> {
        if self.body_bytes == 0 {
            return None;
        }
        let UnverifiedEntry::Batch(header) = UnverifiedEntry::parse(self.header).ok()? else {
            return None;
        };
        let fields = UnverifiedHeader::claimed(&header);
        Some(Batch {
            leaf: self.leaf,
            host: fields.host,
            sequence: fields.sequence,
            from: fields.from_wall,
            until: fields.until_wall,
            bytes: self.body_bytes as u64,
        })
    }
}

/// Shows `each` entry from the group that begins with `from` on, before `end`. Returns where it came to: a group is
/// missing there where that is before `end`.
pub(crate) fn walk(
    storage: &dyn Storage,
    from: LeafIndex,
    end: u64,
    each: &mut dyn FnMut(&Seen<'_>),
) -> Result<LeafIndex, PruneError> {
    let mut next = from;
    while next.0 < end {
        let Some((path, bytes)) = head_of(storage, next)? else {
            return Ok(next);
        };
        let damaged = |fault| PruneError::Group {
            path: path.clone(),
            fault,
        };
        let head = Head::parse(&bytes, next).map_err(damaged)?;
        let gone = if path == group_path(next) {
            Vec::new()
        } else {
            let kept = Kept::read(storage, next)?.ok_or(PruneError::Missing(next))?;
            kept.map_err(damaged)?.gone
        };
        for (entry, (place, leaf)) in head.places.iter().zip(next.0..).enumerate() {
            each(&Seen {
                leaf: LeafIndex(leaf),
                header: slice(&bytes, &place.header),
                body_bytes: place.body.len(),
                gone: gone.get(entry).copied().flatten(),
            });
        }
        next = head.end();
    }
    Ok(next)
}
