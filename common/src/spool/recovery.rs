//! What a crash, or the disk, left of the spool.

use alloc::{
    collections::{BTreeMap, VecDeque, btree_map},
    vec::Vec,
};

use super::{
    effect::{Entry, Place, SpoolEffect},
    head::{HEAD_FILE_BYTES, HeadRecord, SlotFault, read_head_file, stray_of},
    index::{Segment, Spool, SpoolConfig, Start},
    segment::{BadRecord, ScannedRecord, SegmentId, SegmentScan},
};
use crate::{
    batch::{ChainHead, HeldKeys, KeysDiffer, SignedHeader},
    ids::{Hash, HostId, Sequence},
};

/// A recovered spool and what was found on the way.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The spool, with repairs queued as effects.
    pub spool: Spool,
    /// Everything out of order, to be shown and counted. Empty after an orderly stop.
    pub findings: Vec<Finding>,
}

/// Something out of order in the spool's files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The batch being written when the process or the machine stopped. Nobody had seen it; it is cut off.
    #[error(
        "{segment}: torn write of {bytes} bytes at offset {offset} cut off (batch {sequence} was not durable)"
    )]
    TornTail {
        /// Where.
        segment: SegmentId,
        /// Offset, bytes.
        offset: u64,
        /// How much, bytes.
        bytes: u64,
        /// The batch that was being written.
        sequence: Sequence,
    },
    /// Bytes that were durable have changed. The file is kept as evidence.
    #[error("{segment}: {bytes} bytes at offset {offset} are damaged: {cause}")]
    Rot {
        /// Where.
        segment: SegmentId,
        /// Offset, bytes.
        offset: u64,
        /// How much, bytes.
        bytes: u64,
        /// What is wrong there.
        cause: BadRecord,
    },
    /// Batches without receipt that are in no segment: they can never be sent again from here.
    #[error("batches {from} to {through} are missing from the spool and have no receipt")]
    Missing {
        /// The first.
        from: Sequence,
        /// The last.
        through: Sequence,
    },
    /// A batch that does not name the one before it as its previous.
    #[error("{segment}: batch {sequence} at offset {offset} does not continue the batch before it")]
    Unlinked {
        /// Where.
        segment: SegmentId,
        /// Offset, bytes.
        offset: u64,
        /// Which.
        sequence: Sequence,
    },
    /// A batch that lies behind one of a later sequence: records were exchanged. It is used where it lies.
    #[error("{segment}: batch {sequence} at offset {offset} lies behind a later one")]
    OutOfOrder {
        /// Where.
        segment: SegmentId,
        /// Offset, bytes.
        offset: u64,
        /// Which.
        sequence: Sequence,
    },
    /// One batch lies twice in the spool; the first is used.
    #[error("{segment}: batch {sequence} at offset {offset} lies in the spool twice")]
    Repeated {
        /// Where the second one is.
        segment: SegmentId,
        /// Offset, bytes.
        offset: u64,
        /// Which.
        sequence: Sequence,
    },
    /// One slot of the head file is unusable; the other one serves.
    #[error("head file: slot {slot} is {fault}")]
    HeadSlot {
        /// Which slot.
        slot: usize,
        /// What is wrong.
        fault: SlotFault,
    },
    /// The head file was cut or grew: its slots are taken as they are.
    #[error("head file: {bytes} bytes, where it always has {HEAD_FILE_BYTES}")]
    HeadLength {
        /// Its length.
        bytes: u64,
    },
    /// Bytes of the head file outside its slots are not as they were written. Nothing rests on them.
    #[error("head file: the byte at offset {offset}, outside the slots, is not zero")]
    HeadStray {
        /// The first of them.
        offset: u64,
    },
    /// The head file is gone or unusable; the segments serve.
    #[error("the head file is unusable; the head was taken from the segments")]
    HeadLost,
}

/// Why the spool cannot be used. The files are left as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The head file exists and neither slot is usable, and no segment holds the chain. The disk is at fault.
    #[error(
        "the spool's head file is damaged and no batch is left to recover the chain from: \
         restore the file, or enrol the host anew under a new identity"
    )]
    HeadUnusable,
    /// It is another host's. The operator is at fault: wrong directory or copied machine.
    #[error(
        "the spool belongs to host {found}, this agent is host {expected}: check the state directory and key"
    )]
    OtherHost {
        /// Whose agent this is.
        expected: HostId,
        /// Whose spool it is.
        found: HostId,
    },
    /// The last batch's signature does not fit: it was altered.
    #[error("batch {0}, the last of the spool, is not signed by its host's key")]
    Signature(Sequence),
    /// The agent's keys do not continue the chain: one of them was put back from a copy.
    #[error(transparent)]
    Keys(#[from] KeysDiffer),
    /// Head file and segments tell different histories: one of them was put back from a copy.
    #[error("head file and segments disagree about batch {0}: one of them was restored from a copy")]
    HeadsDiffer(Sequence),
}

/// Rebuilds the index from the head file (`None` where it does not exist) and the scans of all segment files.
///
/// Each whole record counts as durable, though the process before this one may have ended between a record's write and
/// its sync, or by a sync that failed: the segments must be synced before they are read (their directory before
/// anything is sent), and of the last one [`SegmentScan::last_written`] must be written again, and synced, before the
/// spool is used.
///
/// `keys` are the agent's, which the last batch must be signed with and the next one continue. One record at most is ever
/// written and not synced, so damage is a torn write only where it is the last thing of the last segment and
/// the head file does not claim the batch; all other damage is rot and is kept.
pub fn recover(
    config: SpoolConfig,
    keys: &HeldKeys,
    head_file: Option<&[u8]>,
    mut scans: Vec<SegmentScan>,
) -> Result<Recovered, RecoverError> {
    let host = keys.host;
    scans.sort_by_key(|scan| scan.segment);
    let mut findings = Vec::new();
    let slot = read_held_head(host, head_file, &scans, &mut findings)?;
    let held = slot.as_ref().map(|(_, held)| held);
    let told = head_of_records(keys, &scans)?;
    let head = match (held, told) {
        (Some(held), Some(told)) if told.next_sequence == held.head.next_sequence => {
            if told.hash != held.head.hash {
                return Err(RecoverError::HeadsDiffer(told.next_sequence));
            }
            told
        }
        (Some(held), Some(told)) if told.next_sequence < held.head.next_sequence => held.head.clone(),
        (_, Some(told)) => told,
        (Some(held), None) => held.head.clone(),
        (None, None) => ChainHead::genesis(host),
    };
    keys.fits(&head.keys)?;
    let oldest = held.map_or_else(
        || scans.first().map_or(Sequence(0), |scan| Sequence(scan.segment.0)),
        |held| held.oldest,
    );
    let mut start = Start {
        head,
        oldest,
        mark: held.and_then(|held| held.mark),
        slot: None,
        segments: VecDeque::new(),
        entries: BTreeMap::new(),
        repairs: VecDeque::new(),
    };
    let claimed = held.map(|held| held.head.next_sequence);
    take_segments(scans, claimed, &mut start, &mut findings);
    start.slot = slot;
    find_missing(&start, &mut findings);
    Ok(Recovered {
        spool: Spool::start(config, start),
        findings,
    })
}

fn read_held_head(
    host: HostId,
    head_file: Option<&[u8]>,
    scans: &[SegmentScan],
    findings: &mut Vec<Finding>,
) -> Result<Option<(usize, HeadRecord)>, RecoverError> {
    let Some(bytes) = head_file else {
        if !scans.is_empty() {
            findings.push(Finding::HeadLost);
        }
        return Ok(None);
    };
    let (held, faults) = read_head_file(bytes);
    // A crash may leave one without any bytes, before anything was ever sealed.
    if bytes.len() != HEAD_FILE_BYTES && !(bytes.is_empty() && scans.is_empty()) {
        findings.push(Finding::HeadLength {
            bytes: bytes.len() as u64,
        });
    }
    findings.extend(stray_of(bytes).map(|offset| Finding::HeadStray {
        offset: offset as u64,
    }));
    for (slot, fault) in faults.into_iter().enumerate() {
        match fault {
            Some(fault) if fault != SlotFault::Empty => findings.push(Finding::HeadSlot { slot, fault }),
            _ => {}
        }
    }
    match held {
        Some((_, held)) if held.head.host != host => Err(RecoverError::OtherHost {
            expected: host,
            found: held.head.host,
        }),
        Some(held) => Ok(Some(held)),
        // A crash while the very first slot was written leaves an empty or torn file and nothing else: no
        // batch was ever sealed, for sealing waits for this file.
        None if scans.is_empty() && never_used(&faults) => Ok(None),
        None if scans.iter().all(|scan| scan.last.is_none()) => Err(RecoverError::HeadUnusable),
        None => {
            findings.push(Finding::HeadLost);
            Ok(None)
        }
    }
}

/// Whether one slot was never written, so that the other one was written at most once.
fn never_used(faults: &[Option<SlotFault>; 2]) -> bool {
    faults.contains(&Some(SlotFault::Empty))
}

/// The head after the last whole record of all segments.
fn head_of_records(keys: &HeldKeys, scans: &[SegmentScan]) -> Result<Option<ChainHead>, RecoverError> {
    let last = scans
        .iter()
        .filter_map(|scan| scan.last.as_ref())
        .max_by_key(|header| header.claimed().sequence);
    let Some(header) = last else {
        return Ok(None);
    };
    let bad = RecoverError::Signature(header.claimed().sequence);
    let signed = SignedHeader::check(header.clone()).map_err(|_| bad.clone())?;
    let head = ChainHead::after(&keys.check(signed)?).map_err(|_| bad)?;
    Ok(Some(head))
}

fn take_segments(
    scans: Vec<SegmentScan>,
    claimed: Option<Sequence>,
    start: &mut Start,
    findings: &mut Vec<Finding>,
) {
    let last_segment = scans.last().map(|scan| scan.segment);
    let mut before: Option<(Sequence, Hash)> = None;
    for scan in scans {
        let is_last = Some(scan.segment) == last_segment;
        let next = start.head.next_sequence;
        let torn = |scan: &SegmentScan| {
            is_last
                && scan.damage.len() == 1
                && scan.damage.iter().all(|damage| damage.at_end)
                && claimed.is_none_or(|claimed| claimed <= next)
                // The record that would follow is the one torn, not one that the head stands beyond.
                && follows(scan, next)
        };
        let mut segment = Segment {
            id: scan.segment,
            bytes: scan.length,
            damaged: false,
        };
        if torn(&scan) {
            findings.push(Finding::TornTail {
                segment: scan.segment,
                offset: scan.valid_end,
                bytes: scan.length - scan.valid_end,
                sequence: next,
            });
            if scan.valid_end == 0 {
                // Not even the segment's header was durable.
                start.repairs.push_back(SpoolEffect::Delete {
                    segment: scan.segment,
                });
                continue;
            }
            start.repairs.push_back(SpoolEffect::Truncate {
                segment: scan.segment,
                length: scan.valid_end,
            });
            segment.bytes = scan.valid_end;
        } else {
            for damage in scan.damage {
                segment.damaged = true;
                findings.push(Finding::Rot {
                    segment: scan.segment,
                    offset: damage.offset,
                    bytes: damage.length,
                    cause: damage.cause,
                });
            }
        }
        for record in &scan.records {
            take_record(scan.segment, record, before, start, findings);
            before = Some((record.sequence, record.hash));
        }
        start.segments.push_back(segment);
    }
}

/// Whether the batch `next` is what follows the segment's last whole record.
fn follows(scan: &SegmentScan, next: Sequence) -> bool {
    let after = scan
        .records
        .last()
        .map_or(Some(scan.segment.0), |record| record.sequence.0.checked_add(1));
    after == Some(next.0)
}

fn take_record(
    segment: SegmentId,
    record: &ScannedRecord,
    before: Option<(Sequence, Hash)>,
    start: &mut Start,
    findings: &mut Vec<Finding>,
) {
    let (offset, sequence) = (record.offset, record.sequence);
    if before.is_some_and(|(last, hash)| last.checked_add(1) == Some(sequence) && hash != record.previous) {
        findings.push(Finding::Unlinked {
            segment,
            offset,
            sequence,
        });
    }
    if before.is_some_and(|(last, _)| sequence < last) {
        findings.push(Finding::OutOfOrder {
            segment,
            offset,
            sequence,
        });
    }
    if sequence < start.oldest {
        return;
    }
    let entry = Entry {
        place: Place {
            segment,
            offset,
            length: record.length,
        },
        leaf: record.leaf,
    };
    match start.entries.entry(sequence) {
        btree_map::Entry::Vacant(vacant) => {
            vacant.insert(entry);
        }
        btree_map::Entry::Occupied(_) => findings.push(Finding::Repeated {
            segment,
            offset,
            sequence,
        }),
    }
}

/// Names the runs of batches that should be held and are not.
fn find_missing(start: &Start, findings: &mut Vec<Finding>) {
    let mut expected = start.oldest;
    let ends = start.entries.keys().copied().chain([start.head.next_sequence]);
    for sequence in ends {
        if sequence > expected {
            findings.push(Finding::Missing {
                from: expected,
                through: Sequence(sequence.0 - 1),
            });
        }
        expected = Sequence(sequence.0.saturating_add(1));
    }
}
