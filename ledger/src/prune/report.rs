//! What a prune freed, measured at the objects and at the whole ledger.

use crate::storage::Usage;

/// What became of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The group; what is kept of it has its name with `.kept` behind.
    pub object: String,
    /// Bodies removed from it.
    pub bodies: u64,
    /// Their bytes.
    pub body_bytes: u64,
    /// Room it took, with what was kept of it.
    pub before: Usage,
    /// Room that what is kept of it takes.
    pub after: Usage,
}

/// What a prune did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Groups rewritten, in order.
    pub changes: Vec<Change>,
    /// Room the ledger's directory took before anything was written, its directories included: what `du` says.
    /// While batches come in, these three count what comes in as well.
    pub before: Usage,
    /// The same once the first certificates were published, before the first body went.
    pub stated: Usage,
    /// The same at the end.
    pub after: Usage,
}

impl Report {
    /// Bodies removed.
    #[must_use]
    pub fn bodies(&self) -> u64 {
        self.changes.iter().map(|change| change.bodies).sum()
    }

    /// Their bytes.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.changes.iter().map(|change| change.body_bytes).sum()
    }

    /// Room freed at the groups rewritten, added up object by object.
    #[must_use]
    pub fn freed(&self) -> Usage {
        self.changes.iter().fold(Usage::default(), |sum, change| {
            sum.plus(Usage {
                apparent: change.before.apparent.saturating_sub(change.after.apparent),
                disk: change.before.disk.saturating_sub(change.after.disk),
            })
        })
    }
}
