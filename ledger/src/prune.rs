//! Removing bodies: certificate first, then one group after the other.
//!
//! Owns the order of steps (`docs/format/ledger.md`, "Pruning"): a mark that a prune begins, the certificates as
//! durable statements under a checkpoint, then for each group what is kept of it, durable, and only then the
//! group's end; at last the mark's. A crash anywhere leaves a ledger that [`finish`] brings to that end by the
//! same code, from the certificates alone. Refuses to remove a body that no published certificate names.

mod report;

pub use self::report::{Change, Report};

use common::{
    batch::UnverifiedHeader,
    entry::UnverifiedEntry,
    ids::{HostId, LeafIndex, Sequence, StatementNumber, WallNanos},
    retention::{Batch, Holds},
    statement::{
        BadStatement, LeafRange, PruneCertificate, Said, StatementChain, StatementFault, UnverifiedStatement,
        VerifiedStatement,
    },
};

use crate::{
    group::{Entry, GROUP_BYTES_MAX, GroupFault, Head, Prologue, group_path, slice},
    kept::{KEPT_BYTES_MAX, Kept, encode_kept, kept_path},
    reader::{ReadError, Reader},
    recovery::start_of,
    storage::{Storage, StorageError},
    writer::{AppendError, Ledger, PublishError},
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
    /// The certificate could not be made durable.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The certificate could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
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
    /// A statement cannot be made, or read.
    #[error(transparent)]
    Statement(#[from] BadStatement),
    /// A stored statement does not verify.
    #[error(transparent)]
    Chain(#[from] StatementFault),
    /// The mark is not what a prune writes. Disk or tampering.
    #[error("{PRUNING} holds no statement's number; run `hostledger verify`")]
    Mark,
}

/// Removes what `certificates` name: states them behind `chain`, publishes, and carries them out.
///
/// # Errors
/// [`PruneError`]. After an [`AppendError::Fatal`] or [`PublishError::Fatal`] open the ledger anew.
pub fn prune(
    ledger: &mut Ledger,
    chain: &mut StatementChain,
    certificates: Vec<PruneCertificate>,
    at: WallNanos,
    clock_error_ns: u64,
) -> Result<Report, PruneError> {
    finish(ledger)?;
    let reader = ledger.reader();
    let storage = reader.storage();
    let mut report = Report::begin(storage)?;
    if certificates.is_empty() {
        return Ok(report.end(storage)?);
    }
    // A crash from here on: the next start looks for certificates from this number on, and finds none or all.
    storage.replace(PRUNING, format!("{}\n", chain.next).as_bytes())?;
    let mut next = *chain;
    let mut statements = Vec::new();
    for certificate in certificates {
        let statement = next.write(Said::Prune(certificate), at, clock_error_ns, &ledger.signer)?;
        next.follow(&statement)?;
        statements.push(statement);
    }
    state(ledger, &statements)?;
    *chain = next;
    // From here on the certificates are durable and published, so bodies may go.
    report.stated(ledger.reader().storage())?;
    carry_out(&ledger.reader(), &certified(&statements), false, &mut report)?;
    let reader = ledger.reader();
    reader.storage().remove_durably(PRUNING)?;
    Ok(report.end(reader.storage())?)
}

/// Makes statements durable and publishes them.
///
/// # Errors
/// As for any group.
pub fn state(ledger: &mut Ledger, statements: &[VerifiedStatement]) -> Result<(), PruneError> {
    let entries: Vec<Entry<'_>> = statements
        .iter()
        .map(|statement| Entry {
            header: statement.bytes(),
            body: &[],
        })
        .collect();
    ledger.append_group(&entries)?;
    ledger.integrate_and_publish()?;
    Ok(())
}

/// Carries out what a crash interrupted; `None` where nothing was under way.
///
/// # Errors
/// [`PruneError`]; the ledger is sound all the same, and some bodies are still there.
pub fn finish(ledger: &Ledger) -> Result<Option<Report>, PruneError> {
    let reader = ledger.reader();
    let storage = reader.storage();
    let Some(mark) = storage.read(PRUNING, PRUNING_BYTES_MAX)? else {
        return Ok(None);
    };
    if reader.leaves() > reader.published().checkpoint.size {
        // A certificate may be among the leaves that wait for a checkpoint: the start after that one comes back.
        return Ok(None);
    }
    let from = std::str::from_utf8(&mark)
        .ok()
        .and_then(|text| text.strip_suffix('\n')?.parse().ok())
        .ok_or(PruneError::Mark)?;
    let mut report = Report::begin(storage)?;
    report.stated(storage)?;
    let statements = statements_from(&reader, StatementNumber(from))?;
    carry_out(&reader, &certified(&statements), true, &mut report)?;
    storage.remove_durably(PRUNING)?;
    Ok(Some(report.end(storage)?))
}

/// The published statements from a number on, verified.
///
/// # Errors
/// The ledger cannot be read, or holds what its key did not sign.
pub fn statements_from(reader: &Reader, from: StatementNumber) -> Result<Vec<VerifiedStatement>, PruneError> {
    let mut found = Vec::new();
    let last = reader.host_head(&HostId::COLLECTOR)?;
    let end = last.map_or(0, |last| last.sequence.0.saturating_add(1));
    let size = reader.published().checkpoint.size;
    for number in from.0..end {
        let Some(record) = reader.find(&HostId::COLLECTOR, Sequence(number))? else {
            continue;
        };
        if record.leaf.0 < size {
            let statement = UnverifiedStatement::parse(&reader.header(record.leaf)?)?;
            found.push(VerifiedStatement::alone(statement, reader.verifier())?);
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

fn carry_out(
    reader: &Reader,
    named: &[(LeafRange, StatementNumber)],
    again: bool,
    report: &mut Report,
) -> Result<(), PruneError> {
    let size = reader.published().checkpoint.size;
    let mut done = LeafIndex(0);
    for (range, _) in named {
        let mut leaf = range.first.max(done);
        while leaf < range.end() && leaf.0 < size {
            let first = reader.group_of(leaf)?;
            let (end, change) = rewrite(reader.storage(), first, named, again)?;
            report.changes.extend(change);
            (leaf, done) = (end, end);
        }
    }
    Ok(())
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

fn usage_of(storage: &dyn Storage, group: &str, kept: &str) -> Result<crate::storage::Usage, StorageError> {
    Ok(storage.usage(group)?.plus(storage.usage(kept)?))
}

/// Shows `each` batch whose body is there, in the ledger's order, as far as a checkpoint covers them.
///
/// # Errors
/// A group is damaged or gone.
pub fn survey(reader: &Reader, each: &mut dyn FnMut(&Batch)) -> Result<(), PruneError> {
    let size = reader.published().checkpoint.size;
    let mut next = LeafIndex(0);
    while next.0 < size {
        let storage = reader.storage();
        let (path, fixed) = start_of(storage, next)?.ok_or(PruneError::Missing(next))?;
        let damaged = |fault| PruneError::Group {
            path: path.clone(),
            fault,
        };
        let length = Prologue::parse(&fixed).map_err(damaged)?.head_bytes();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = storage
            .read_range(&path, 0, length)?
            .ok_or(PruneError::Missing(next))?;
        let head = Head::parse(&bytes, next).map_err(damaged)?;
        let gone = if path == group_path(next) {
            Vec::new()
        } else {
            let kept = Kept::read(storage, next)?.ok_or(PruneError::Missing(next))?;
            kept.map_err(damaged)?.gone
        };
        for (entry, (place, leaf)) in head.places.iter().zip(next.0..).enumerate() {
            let there = !place.body.is_empty() && gone.get(entry).is_none_or(Option::is_none);
            if there
                && let Some(batch) = batch_at(LeafIndex(leaf), slice(&bytes, &place.header), place.body.len())
            {
                each(&batch);
            }
        }
        next = head.end();
    }
    Ok(())
}

fn batch_at(leaf: LeafIndex, header: &[u8], bytes: usize) -> Option<Batch> {
    let UnverifiedEntry::Batch(header) = UnverifiedEntry::parse(header).ok()? else {
        return None;
    };
    let fields = UnverifiedHeader::claimed(&header);
    Some(Batch {
        leaf,
        host: fields.host,
        sequence: fields.sequence,
        from: fields.from_wall,
        until: fields.until_wall,
        bytes: bytes as u64,
    })
}
