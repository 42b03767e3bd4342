//! The spool's index: what lies where, what to write next, what may be deleted.

use alloc::collections::{BTreeMap, VecDeque};

use super::{
    effect::{AppendRefused, DiskFault, Entry, Place, SpoolEffect, SpoolFailed},
    head::{HEAD_SLOT_STRIDE, HeadRecord, LedgerMark},
    segment::{RECORD_OVERHEAD_BYTES, SEGMENT_HEADER_BYTES, SegmentId, encode_record, encode_segment_header},
};
use crate::{
    batch::ChainHead,
    ids::{BootNanos, HostId, Sequence},
    journal::SealedBatch,
    limits::{BATCH_BODY_BYTES_MAX, HEADER_BYTES_MAX},
    merkle::leaf_hash,
};

/// How long to wait before a write that found no space is tried again, nanoseconds.
const RETRY_NS: u64 = 1_000_000_000;
/// Bytes that the largest record takes.
const RECORD_BYTES_MAX: u64 = (RECORD_OVERHEAD_BYTES + HEADER_BYTES_MAX + BATCH_BODY_BYTES_MAX) as u64;

/// Bounds of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolConfig {
    /// A segment is closed before it grows past this, bytes; a larger batch gets a segment of its own.
    pub segment_bytes_max: u64,
    /// All segments together stay below this, bytes. When it is reached nothing is sealed any more: the
    /// oldest batches are kept, new events are counted as lost.
    pub spool_bytes_max: u64,
    /// Most batches held, which bounds the index in memory (about 100 bytes each).
    pub batches_max: usize,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            segment_bytes_max: 8 * 1024 * 1024,
            spool_bytes_max: 512 * 1024 * 1024,
            batches_max: 262_144,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) bytes: u64,
    /// Damage was found in it: nothing is appended, and it is set aside instead of deleted.
    pub(super) damaged: bool,
}

/// A planned effect. The head is written as it stands when its turn comes, not when it was planned.
#[derive(Debug, Clone)]
pub(super) enum Planned {
    Effect(SpoolEffect),
    Head { sync: bool },
}

#[derive(Debug, Clone)]
struct Pending {
    sequence: Sequence,
    entry: Entry,
    head: ChainHead,
}

/// The spool's index and plan.
#[derive(Debug, Clone)]
pub struct Spool {
    config: SpoolConfig,
    head: ChainHead,
    oldest: Sequence,
    mark: Option<LedgerMark>,
    generation: u64,
    /// The slot of the head file that is surely on the disk and must not be overwritten.
    safe_slot: Option<usize>,
    segments: VecDeque<Segment>,
    entries: BTreeMap<Sequence, Entry>,
    queue: VecDeque<Planned>,
    under_way: Option<SpoolEffect>,
    retry_at: Option<BootNanos>,
    pending: Option<Pending>,
    durable: VecDeque<Sequence>,
    failed: Option<SpoolFailed>,
}

/// What recovery starts the index from.
pub(super) struct Start {
    pub(super) head: ChainHead,
    pub(super) oldest: Sequence,
    pub(super) mark: Option<LedgerMark>,
    /// The slot in force and what it holds; `None` where there is none.
    pub(super) slot: Option<(usize, HeadRecord)>,
    pub(super) segments: VecDeque<Segment>,
    pub(super) entries: BTreeMap<Sequence, Entry>,
    pub(super) repairs: VecDeque<SpoolEffect>,
}

impl Spool {
    pub(super) fn start(config: SpoolConfig, start: Start) -> Self {
        let mut queue = VecDeque::new();
        let generation = start.slot.as_ref().map_or(0, |(_, held)| held.generation);
        let safe_slot = start.slot.as_ref().map(|(slot, _)| *slot);
        if let Some((slot, held)) = start.slot {
            // What was read must outlast what follows. The same bytes are written again: those of a write whose sync
            // failed are nowhere but in memory, and another sync would leave them there.
            queue.push_back(Planned::Effect(SpoolEffect::WriteHead {
                offset: (slot * HEAD_SLOT_STRIDE) as u64,
                bytes: held.encode(),
                sync: true,
            }));
        }
        queue.extend(start.repairs.into_iter().map(Planned::Effect));
        let mut spool = Self {
            config,
            head: start.head,
            oldest: start.oldest,
            mark: start.mark,
            generation,
            safe_slot,
            segments: start.segments,
            entries: start.entries,
            queue,
            under_way: None,
            retry_at: None,
            pending: None,
            durable: VecDeque::new(),
            failed: None,
        };
        // The head on disk may lag behind the records, or not exist yet.
        spool.plan_head(true);
        spool.release_segments();
        spool
    }

    /// Where the chain of durable batches stands.
    #[must_use]
    pub fn head(&self) -> &ChainHead {
        &self.head
    }

    /// Whose spool it is.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.head.host
    }

    /// The first batch without a verified receipt; the head's next sequence where all have one.
    #[must_use]
    pub fn oldest(&self) -> Sequence {
        self.oldest
    }

    /// What is known of a batch that is durable here; `None` where it was trimmed, damaged or never sealed.
    #[must_use]
    pub fn entry(&self, sequence: Sequence) -> Option<&Entry> {
        self.entries.get(&sequence)
    }

    /// Batches held.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Why nothing can go on, if so.
    #[must_use]
    pub fn failed(&self) -> Option<&SpoolFailed> {
        self.failed.as_ref()
    }

    /// Whether the disk refused the last write for want of space and it waits to be tried again.
    #[must_use]
    pub fn no_space(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Whether the spool reached a bound, so that not even the largest batch is sure to fit.
    #[must_use]
    pub fn full(&self) -> bool {
        self.entries.len() >= self.config.batches_max
            || self.bytes() + RECORD_BYTES_MAX + SEGMENT_HEADER_BYTES as u64 > self.config.spool_bytes_max
    }

    /// Whether a batch sealed now would be taken: seal only then, for what is sealed must be kept.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.failed.is_none() && self.pending.is_none() && !self.full()
    }

    /// Takes the next sealed batch. It is durable when [`Self::poll_durable`] names it, and must not leave
    /// the process before.
    pub fn append(&mut self, batch: &SealedBatch) -> Result<(), AppendRefused> {
        if let Some(failed) = &self.failed {
            return Err(AppendRefused::Failed(failed.clone()));
        }
        if self.pending.is_some() {
            return Err(AppendRefused::Busy);
        }
        if self.full() {
            return Err(AppendRefused::Full {
                bytes: self.bytes(),
                batches: self.entries.len(),
            });
        }
        let sequence = batch.sequence();
        let misplaced = AppendRefused::Misplaced {
            expected: self.head.next_sequence,
            found: sequence,
        };
        if sequence != self.head.next_sequence {
            return Err(misplaced);
        }
        let record = encode_record(sequence, batch.header.bytes(), &batch.body).map_err(|_| misplaced)?;
        let length = record.len() as u64;
        // A batch larger than a segment gets one of its own.
        let room = |segment: &Segment| {
            !segment.damaged
                && (segment.bytes + length <= self.config.segment_bytes_max
                    || segment.bytes <= SEGMENT_HEADER_BYTES as u64)
        };
        if !self.segments.back().is_some_and(room) {
            let id = SegmentId(sequence.0);
            self.plan(SpoolEffect::Create {
                segment: id,
                bytes: encode_segment_header(&self.head.host, id),
            });
            self.segments.push_back(Segment {
                id,
                bytes: SEGMENT_HEADER_BYTES as u64,
                damaged: false,
            });
        }
        let Some(segment) = self.segments.back_mut() else {
            return Err(AppendRefused::Busy);
        };
        let place = Place {
            segment: segment.id,
            offset: segment.bytes,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        };
        segment.bytes += length;
        // A crash after the write and before the sync leaves the record whole, torn or absent: recovery
        // takes it, cuts it, or never hears of it. Nobody has seen the batch in any of the three.
        self.plan(SpoolEffect::Write {
            segment: place.segment,
            offset: place.offset,
            bytes: record,
        });
        self.plan(SpoolEffect::Sync {
            segment: place.segment,
        });
        let entry = Entry {
            place,
            leaf: leaf_hash(batch.header.bytes()),
        };
        self.pending = Some(Pending {
            sequence,
            entry,
            head: batch.head.clone(),
        });
        Ok(())
    }

    /// Forgets the batches up to `through`, whose receipts were verified and whose checkpoint is remembered
    /// durably; deletes the segments that hold no others.
    pub fn trim(&mut self, through: Sequence) {
        let next = Sequence(through.0.saturating_add(1)).min(self.head.next_sequence);
        if next <= self.oldest {
            return;
        }
        self.oldest = next;
        self.entries = self.entries.split_off(&next);
        let releasable = self.releasable();
        // Once for each trim without waiting; the head must be on the disk only before what it stands for goes.
        self.plan_head(releasable > 0);
        self.release_segments();
    }

    /// What of the ledger the head file remembers.
    #[must_use]
    pub fn mark(&self) -> Option<&LedgerMark> {
        self.mark.as_ref()
    }

    /// Puts into the head what is remembered durably elsewhere, so that its loss there is noticed. Never waited for.
    pub fn remember(&mut self, mark: LedgerMark) {
        if self.mark != Some(mark) {
            self.mark = Some(mark);
            self.plan_head(false);
        }
    }

    /// Notes that a batch cannot be read back any more; its segment becomes evidence.
    pub fn handle_damaged(&mut self, sequence: Sequence) {
        let Some(entry) = self.entries.remove(&sequence) else {
            return;
        };
        let damaged = self
            .segments
            .iter_mut()
            .filter(|segment| segment.id == entry.place.segment);
        for segment in damaged {
            segment.damaged = true;
        }
    }

    /// The next work for the disk; the one before must have been answered.
    pub fn poll_effect(&mut self, now: BootNanos) -> Option<SpoolEffect> {
        if self.under_way.is_some() || self.failed.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let effect = match self.queue.pop_front()? {
            Planned::Effect(effect) => effect,
            Planned::Head { sync } => self.head_write(sync),
        };
        self.under_way = Some(effect.clone());
        Some(effect)
    }

    /// When to call [`Self::poll_effect`] again although nothing was answered.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNanos> {
        // While the disk is at work its answer is what to wait for.
        self.retry_at
            .filter(|_| self.failed.is_none() && self.under_way.is_none())
    }

    /// The effect under way was carried out.
    pub fn handle_done(&mut self) {
        self.retry_at = None;
        match self.under_way.take() {
            Some(SpoolEffect::Sync { .. }) => {
                if let Some(pending) = self.pending.take() {
                    self.head = pending.head;
                    self.entries.insert(pending.sequence, pending.entry);
                    self.durable.push_back(pending.sequence);
                    self.plan_head(false);
                }
            }
            Some(SpoolEffect::WriteHead {
                offset, sync: true, ..
            }) => {
                self.safe_slot = Some(usize::from(offset != 0));
            }
            _ => {}
        }
    }

    /// The effect under way failed.
    pub fn handle_failed(&mut self, now: BootNanos, fault: DiskFault) {
        let Some(effect) = self.under_way.take() else {
            return;
        };
        match (fault, effect) {
            (
                DiskFault::NoSpace,
                SpoolEffect::Write {
                    segment,
                    offset,
                    bytes,
                },
            ) => {
                // Part of the record may be there: cut it, so that a crash meanwhile leaves a clean file.
                let again = SpoolEffect::Write {
                    segment,
                    offset,
                    bytes,
                };
                let cut = SpoolEffect::Truncate {
                    segment,
                    length: offset,
                };
                self.queue.push_front(Planned::Effect(again));
                self.queue.push_front(Planned::Effect(cut));
                self.retry_at = Some(BootNanos(now.0.saturating_add(RETRY_NS)));
            }
            (
                DiskFault::NoSpace,
                again @ (SpoolEffect::Create { .. }
                | SpoolEffect::WriteHead { .. }
                | SpoolEffect::Truncate { .. }),
            ) => {
                self.queue.push_front(Planned::Effect(again));
                self.retry_at = Some(BootNanos(now.0.saturating_add(RETRY_NS)));
            }
            // After a failed sync nobody knows what is durable: the kernel may have dropped the pages.
            (cause, effect) => {
                self.failed = Some(SpoolFailed {
                    step: effect.name(),
                    cause,
                });
            }
        }
    }

    /// A batch that became durable since the last call: it may be sent now.
    pub fn poll_durable(&mut self) -> Option<Sequence> {
        self.durable.pop_front()
    }

    /// Whether everything asked for so far was carried out.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_none()
    }

    fn plan(&mut self, effect: SpoolEffect) {
        self.queue.push_back(Planned::Effect(effect));
    }

    /// Plans to write the head; one that is planned already serves for both.
    fn plan_head(&mut self, sync: bool) {
        match self.queue.back_mut() {
            Some(Planned::Head { sync: planned }) => *planned |= sync,
            _ => self.queue.push_back(Planned::Head { sync }),
        }
    }

    /// The head as it stands, for the slot that may be overwritten. Unless it is synced the other slot stays
    /// the safe one, however often this one is written.
    fn head_write(&mut self, sync: bool) -> SpoolEffect {
        self.generation += 1;
        let slot = self.safe_slot.map_or(0, |safe| 1 - safe);
        let record = HeadRecord {
            generation: self.generation,
            head: self.head.clone(),
            oldest: self.oldest,
            mark: self.mark,
        };
        SpoolEffect::WriteHead {
            offset: (slot * HEAD_SLOT_STRIDE) as u64,
            bytes: record.encode(),
            sync,
        }
    }

    /// How many segments at the front hold receipted batches only. The last one stays: it is appended to.
    fn releasable(&self) -> usize {
        self.segments
            .iter()
            .skip(1)
            .take_while(|next| next.id.0 <= self.oldest.0)
            .count()
    }

    fn release_segments(&mut self) {
        for _ in 0..self.releasable() {
            if let Some(segment) = self.segments.pop_front() {
                self.plan(if segment.damaged {
                    SpoolEffect::SetAside { segment: segment.id }
                } else {
                    SpoolEffect::Delete { segment: segment.id }
                });
            }
        }
    }
}
