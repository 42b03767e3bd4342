//! Bringing the index up to the groups, and queueing what no checkpoint covers yet.

use common::ids::LeafIndex;

use super::{
    OpenError,
    read::{GroupWalk, LoadedGroup, head_with, nothing_beyond},
};
use crate::{
    group::slice,
    index::{Damaged, Describe, Index, IndexNews, Tell},
    storage::Storage,
};

/// What lies beyond the checkpoint.
#[derive(Default)]
pub(super) struct Loaded {
    /// Headers of the leaves beyond it, in order.
    pub(super) pending: Vec<Vec<u8>>,
    /// Groups that they came from.
    pub(super) replayed_groups: usize,
}

/// Why loading ended.
enum Failed {
    /// The ledger is to blame.
    Ledger(OpenError),
    /// The index is.
    Index(String),
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Damaged> for Failed {
    fn from(damaged: Damaged) -> Self {
        Self::Index(damaged.0)
    }
}

/// Brings `index` up to every durable group and returns what lies beyond the checkpoint of `size`. An index
/// that does not fit the groups is built again from the first.
pub(super) fn load(
    storage: &dyn Storage,
    describe: Describe,
    size: u64,
    index: &mut Index,
    tell: &Tell,
) -> Result<Loaded, OpenError> {
    let done = |index: &Index| {
        if index.rebuilt() > 0 && index.leaves() > 0 {
            tell(IndexNews::Built {
                leaves: index.leaves(),
            });
        }
    };
    let why = match attempt(storage, describe, size, index, tell) {
        Ok(loaded) => {
            done(index);
            return Ok(loaded);
        }
        Err(Failed::Ledger(error)) => return Err(error),
        Err(Failed::Index(why)) => why,
    };
    tell(IndexNews::Building(why));
    index
        .clear()
        .map_err(|error| OpenError::Index(error.to_string()))?;
    match attempt(storage, describe, size, index, tell) {
        Ok(loaded) => {
            done(index);
            Ok(loaded)
        }
        Err(Failed::Ledger(error)) => Err(error),
        Err(Failed::Index(why)) => Err(OpenError::Index(why)),
    }
}

fn attempt(
    storage: &dyn Storage,
    describe: Describe,
    size: u64,
    index: &mut Index,
    tell: &Tell,
) -> Result<Loaded, Failed> {
    let indexed = index.leaves();
    fits(storage, index)?;
    // An older checkpoint may have been put back, or the last one was not yet signed: its leaves are walked again.
    let from = LeafIndex(indexed.min(size));
    if from.0 < indexed && index.location(from)?.is_none_or(|at| at.group != from) {
        return Err(OpenError::SplitGroup { size }.into());
    }
    let mut loaded = Loaded::default();
    let mut walk = GroupWalk::new(storage, describe, from, size);
    loop {
        let groups = walk.groups()?;
        if groups.is_empty() {
            break;
        }
        for group in groups {
            if group.head.first.0 >= indexed {
                index.add_group(&group.head, &group.facts)?;
            }
            loaded.take(storage, group)?;
        }
        tell(IndexNews::Progress {
            leaves: index.leaves(),
            of: size,
        });
    }
    let leaves = walk.next_leaf().0;
    if leaves < size {
        let evidence = format!("the checkpoint has {size} leaves");
        return Err(OpenError::MissingGroup {
            leaf: LeafIndex(leaves),
            evidence,
        }
        .into());
    }
    if leaves != index.leaves() {
        return Err(Failed::Index(format!(
            "it has {} leaves where the groups have {leaves}",
            index.leaves()
        )));
    }
    nothing_beyond(storage, leaves, size)?;
    if size + loaded.pending.len() as u64 != leaves {
        return Err(OpenError::SplitGroup { size }.into());
    }
    Ok(loaded)
}

/// Whether the index ends where a group does, and says of its last leaf what that group says.
fn fits(storage: &dyn Storage, index: &Index) -> Result<(), Failed> {
    let Some(last) = index.leaves().checked_sub(1).map(LeafIndex) else {
        return Ok(());
    };
    let head = head_with(storage, last).map_err(OpenError::Storage)?;
    let located = index.location(last)?;
    let agrees = head.zip(located).is_some_and(|(head, at)| {
        head.first == at.group && head.end().0 == index.leaves() && head.places.last() == Some(&at.place)
    });
    if agrees {
        Ok(())
    } else {
        Err(Failed::Index(format!("leaf {last} is not where it says")))
    }
}

impl Loaded {
    /// Queues the headers of a group beyond the checkpoint.
    fn take(&mut self, storage: &dyn Storage, group: LoadedGroup) -> Result<(), OpenError> {
        let Some(file) = group.file else { return Ok(()) };
        // A dead process may have named it without syncing; what is published must not depend on that.
        storage.settle(&group.path)?;
        let headers = group
            .head
            .places
            .iter()
            .map(|place| slice(&file, &place.header).to_vec());
        self.pending.extend(headers);
        self.replayed_groups += 1;
        Ok(())
    }
}

/// Builds the index of the first `leaves` leaves again. They were indexed before, so what does not fit now has
/// changed since.
pub(crate) fn rebuild(
    storage: &dyn Storage,
    describe: Describe,
    leaves: u64,
    index: &mut Index,
    tell: &Tell,
) -> Result<(), String> {
    index.clear().map_err(|error| error.to_string())?;
    let mut walk = GroupWalk::new(storage, describe, LeafIndex(0), leaves);
    while index.leaves() < leaves {
        let groups = walk.groups().map_err(|error| error.to_string())?;
        if groups.is_empty() {
            return Err(format!("group of leaf {} is missing", index.leaves()));
        }
        for group in groups {
            if index.leaves() < leaves {
                index
                    .add_group(&group.head, &group.facts)
                    .map_err(|damaged| damaged.0)?;
            }
        }
        tell(IndexNews::Progress {
            leaves: index.leaves(),
            of: leaves,
        });
    }
    tell(IndexNews::Built {
        leaves: index.leaves(),
    });
    Ok(())
}
