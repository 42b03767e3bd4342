//! Removing bodies: certificate first, then one group after the other.
//!
//! Owns the order of steps (`docs/format/ledger.md`, "Pruning"): a mark that a prune begins, then, once whoever
//! writes the ledger has made the certificates durable and published them, for each group what is kept of it,
//! durable, and only then the group's end; at last the mark's. [`finish`] is all of it that comes after the
//! certificates, live and after a crash, from the published certificates alone. It works beside the ledger's
//! writer: it touches nothing but the mark and groups under the published checkpoint, whose names the writer never
//! uses again. Refuses to remove a body that no published certificate names, and to write a leaf.

pub(crate) mod heads;
mod report;

pub use self::report::{Change, Report};

use common::{
    ids::{HostId, LeafIndex, Sequence, StatementNumber},
    retention::{Batch, Holds},
    statement::{BadStatement, LeafRange, Said, StatementFault, UnverifiedStatement, VerifiedStatement},
};

use crate::{
    group::{GROUP_BYTES_MAX, GroupFault, Head, Prologue, group_path, slice},
    kept::{KEPT_BYTES_MAX, Kept, encode_kept, kept_path},
    reader::{ReadError, Reader},
    storage::{Storage, StorageError, Usage},
};

/// The object that says that a prune is under way: the number, in decimal and with a newline, from which on
/// statements may be certificates not yet carried out.
pub const PRUNING: &str = "pruning";
/// Longest such object, bytes.
const PRUNING_BYTES_MAX: u64 = 32;

/// Why bodies were not removed, or not all of them. None was removed that no certificate names; what is left to do
/// is done by the next start, or the next prune.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A group is damaged. Disk or tampering; `hostledger verify` tells.
    #[error("{path}: {fault}")]
    Group {
        /// The object.
        path: String,
        /// What is wrong.
        fault: GroupFault,
    },
    /// A group is gone.
    #[error("group of leaf {0} is missing; run `hostledger verify`")]
    Missing(LeafIndex),
    /// A stored statement cannot be read.
    #[error(transparent)]
    Statement(#[from] BadStatement),
    /// A stored statement does not verify.
    #[error(transparent)]
    Chain(#[from] StatementFault),
    /// The mark is not what a prune writes. Disk or tampering.
    #[error("{PRUNING} holds no statement's number; run `hostledger verify`")]
    Mark,
}

/// What became of a prune that was to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// No mark is there: nothing was to be done.
    Nothing,
    /// A certificate since the mark is durable and not published: nothing may go by it yet. The mark stays.
    Unpublished(StatementNumber),
    /// The caller asked to stop; the mark stays, and the same call goes on from there.
    Stopped,
    /// Everything that published certificates name is gone for good.
    Done,
}

/// Puts the mark: from the next statement on there may be certificates to carry out. To be called before the first
/// of them is handed to the writer, and by one thread at a time.
///
/// # Errors
/// [`PruneError`]; nothing was removed.
pub fn begin(reader: &Reader) -> Result<(), PruneError> {
    let last = reader.host_head(&HostId::COLLECTOR)?;
    let next = last.map_or(0, |last| last.sequence.0.saturating_add(1));
    // A crash from here on: the next start looks for certificates from this number on, and finds none or some.
    Ok(reader
        .storage()
        .replace(PRUNING, format!("{next}\n").as_bytes())?)
}

/// Removes the mark, where no certificate was stated behind it.
///
/// # Errors
/// [`PruneError`]; a mark that stays makes the next start look for certificates, and find none.
pub fn abandon(reader: &Reader) -> Result<(), PruneError> {
    Ok(reader.storage().remove_durably(PRUNING)?)
}

/// What the ledger's whole directory takes, as `du` counts it.
///
/// # Errors
/// It cannot be read.
pub fn usage(reader: &Reader) -> Result<Usage, PruneError> {
    Ok(reader.storage().usage("")?)
}

/// Whether a prune is under way, or was when the process ended.
///
/// # Errors
/// [`PruneError`].
pub fn is_marked(reader: &Reader) -> Result<bool, PruneError> {
    Ok(reader.storage().length(PRUNING)?.is_some())
}

/// Carries out every certificate since the mark, once all of them are published: live, when those stated since
/// [`begin`] are; after a start, when those found durable are.
/// `again` where a crash may have come between. `each` hears of every group looked at, with what changed, and says
/// whether to go on.
///
/// # Errors
/// [`PruneError`]; the ledger is sound all the same, some bodies are still there, and the mark stays.
pub fn finish(
    reader: &Reader,
    again: bool,
    each: &mut dyn FnMut(Option<Change>) -> bool,
) -> Result<Finished, PruneError> {
    let storage = reader.storage();
    let Some(mark) = storage.read(PRUNING, PRUNING_BYTES_MAX)? else {
        return Ok(Finished::Nothing);
    };
    let from = std::str::from_utf8(&mark)
        .ok()
        .and_then(|text| text.strip_suffix('\n')?.parse().ok())
        .ok_or(PruneError::Mark)?;
    let from = StatementNumber(from);
    if let Some(number) = unpublished_certificate(reader, from)? {
        return Ok(Finished::Unpublished(number));
    }
    let statements = statements_from(reader, from)?;
    if !carry_out(reader, &certified(&statements), again, each)? {
        return Ok(Finished::Stopped);
    }
    storage.remove_durably(PRUNING)?;
    Ok(Finished::Done)
}

/// The first certificate from that number on that no checkpoint covers.
fn unpublished_certificate(
    reader: &Reader,
    from: StatementNumber,
) -> Result<Option<StatementNumber>, PruneError> {
    let size = reader.stored_size();
    let last = reader.host_head(&HostId::COLLECTOR)?;
    for number in from.0..last.map_or(0, |last| last.sequence.0.saturating_add(1)) {
        let found = reader.find(&HostId::COLLECTOR, Sequence(number))?;
        if let Some(record) = found.filter(|record| record.leaf.0 >= size) {
            let statement = UnverifiedStatement::parse(&reader.header(record.leaf)?)?;
            if matches!(statement.claimed().said, Said::Prune(_)) {
                return Ok(Some(StatementNumber(number)));
            }
        }
    }
    Ok(None)
}

/// The published statements from a number on, verified.
///
/// # Errors
/// The ledger cannot be read, or holds what its key did not sign.
pub fn statements_from(reader: &Reader, from: StatementNumber) -> Result<Vec<VerifiedStatement>, PruneError> {
    let mut found = Vec::new();
    let last = reader.host_head(&HostId::COLLECTOR)?;
    let end = last.map_or(0, |last| last.sequence.0.saturating_add(1));
    let size = reader.stored_size();
    for number in from.0..end {
        let Some(record) = reader.find(&HostId::COLLECTOR, Sequence(number))? else {
            continue;
        };
        if record.leaf.0 < size {
            let statement = UnverifiedStatement::parse(&reader.header(record.leaf)?)?;
            found.push(VerifiedStatement::at_leaf(statement, record.leaf, reader.keys())?);
        }
    }
    Ok(found)
}

/// The legal holds in force.
///
/// # Errors
/// As [`statements_from`].
pub fn holds(reader: &Reader) -> Result<Holds, PruneError> {
    let mut holds = Holds::default();
    for statement in statements_from(reader, StatementNumber(0))? {
        holds.follow(statement.fields().number, &statement.fields().said);
    }
    Ok(holds)
}

/// What certificates name, in the ledger's order.
fn certified(statements: &[VerifiedStatement]) -> Vec<(LeafRange, StatementNumber)> {
    let mut named = Vec::new();
    for statement in statements {
        if let Said::Prune(certificate) = &statement.fields().said {
            let number = statement.fields().number;
            named.extend(certificate.ranges.iter().map(|range| (*range, number)));
        }
    }
    named.sort_unstable();
    named
}

/// `false` where `each` asked to stop.
fn carry_out(
    reader: &Reader,
    named: &[(LeafRange, StatementNumber)],
    again: bool,
    each: &mut dyn FnMut(Option<Change>) -> bool,
) -> Result<bool, PruneError> {
    // A checkpoint covers whole groups, so each group reached is wholly below it and the writer is done with it.
    let size = reader.stored_size();
    let mut done = LeafIndex(0);
    for (range, _) in named {
        let mut leaf = range.first.max(done);
        while leaf < range.end() && leaf.0 < size {
            let first = reader.group_of(leaf)?;
            let (end, change) = rewrite(reader.storage(), first, named, again)?;
            (leaf, done) = (end, end);
            if !each(change) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// By which certificate the body of `leaf` goes.
fn named_by(named: &[(LeafRange, StatementNumber)], leaf: LeafIndex) -> Option<StatementNumber> {
    // Certificates of one prune are made in one pass, so their ranges do not overlap.
    let after = named.partition_point(|(range, _)| range.first <= leaf);
    let (range, by) = named.get(after.checked_sub(1)?)?;
    range.holds(leaf).then_some(*by)
}

/// Replaces a group by what is kept of it; `again` where a crash may have come in between before. Returns the leaf after its last, and what changed.
fn rewrite(
    storage: &dyn Storage,
    first: LeafIndex,
    named: &[(LeafRange, StatementNumber)],
    again: bool,
) -> Result<(LeafIndex, Option<Change>), PruneError> {
    let (group, kept) = (group_path(first), kept_path(first));
    let damaged = |path: &str| {
        let path = path.to_owned();
        move |fault| PruneError::Group { path, fault }
    };
    let mut file = Vec::new();
    let whole = storage.read_into(&group, GROUP_BYTES_MAX, &mut file)?;
    let path = if whole { &group } else { &kept };
    let (head, mut gone, bodies, expected) = if whole {
        // What is kept beside it may be half of what goes now; the certificates say all of it again.
        let head = Head::parse(&file, first).map_err(damaged(path))?;
        let gone = vec![None; head.places.len()];
        let bodies = head.places.iter().map(|place| place.body.clone()).collect();
        let expected = head.file_bytes;
        (head, gone, bodies, expected)
    } else if storage.read_into(&kept, KEPT_BYTES_MAX, &mut file)? {
        let old = Kept::parse(&file, first).map_err(damaged(path))?;
        (old.head, old.gone, old.bodies, old.file_bytes)
    } else {
        return Err(PruneError::Missing(first));
    };
    let found = file.len() as u64;
    if found != expected {
        return Err(damaged(path)(GroupFault::Length { expected, found }));
    }
    let (mut removed, mut removed_bytes) = (0, 0);
    for ((place, mark), leaf) in head.places.iter().zip(&mut gone).zip(first.0..) {
        if mark.is_none() && !place.body.is_empty() {
            *mark = named_by(named, LeafIndex(leaf));
            removed += u64::from(mark.is_some());
            removed_bytes += mark.map_or(0, |_| place.body.len() as u64);
        }
    }
    if removed == 0 {
        if again && !whole {
            // Done before a crash, but who knows whether for good: a power cut must not bring bodies back.
            storage.settle(&kept)?;
            storage.remove_durably(&group)?;
        }
        return Ok((head.end(), None));
    }
    let before = usage_of(storage, &group, &kept)?;
    let head_bytes = Prologue::parse(&file).map_err(damaged(path))?.head_bytes();
    let head_bytes = usize::try_from(head_bytes).unwrap_or(usize::MAX);
    let lengths: Vec<u32> = head
        .places
        .iter()
        .map(|place| place.body.end - place.body.start)
        .collect();
    let mut rest = encode_kept(file.get(..head_bytes).unwrap_or_default(), &lengths, &gone);
    let stays = bodies.iter().zip(&gone).filter(|(_, gone)| gone.is_none());
    stays.for_each(|(body, _): (&std::ops::Range<u32>, _)| rest.extend_from_slice(slice(&file, body)));
    // A crash before or within this leaves the group, or what was kept of it, as it was.
    storage.replace(&kept, &rest)?;
    if whole {
        // A crash before this leaves both: the group still has the word, and the next start comes back here.
        storage.remove_durably(&group)?;
    }
    let change = Change {
        object: group.clone(),
        bodies: removed,
        body_bytes: removed_bytes,
        before,
        after: usage_of(storage, &group, &kept)?,
    };
    Ok((head.end(), Some(change)))
}

fn usage_of(storage: &dyn Storage, group: &str, kept: &str) -> Result<Usage, StorageError> {
    Ok(storage.usage(group)?.plus(storage.usage(kept)?))
}

/// Shows `each` batch whose body is there, in the ledger's order, as far as a checkpoint covers them.
///
/// # Errors
/// A group is damaged or gone.
pub fn survey(reader: &Reader, each: &mut dyn FnMut(&Batch)) -> Result<(), PruneError> {
    let size = reader.stored_size();
    let through = heads::walk(reader.storage(), LeafIndex(0), size, &mut |seen| {
        if seen.gone.is_none()
            && let Some(batch) = seen.batch()
        {
            each(&batch);
        }
    })?;
    if through.0 < size {
        return Err(PruneError::Missing(through));
    }
    Ok(())
}
