//! What the index keeps of one batch: 176 bytes, the same for every batch (`docs/format/projection.md`).

use alloc::vec::Vec;

use super::{BadRecord, CHECKSUM_BYTES, Linked, Slot, links::Links, opened, seal};
use crate::{
    answer::Span,
    batch::{ClockSource, HeaderFlags},
    codec::{Reader, Write},
    ids::{BootId, BootNanos, EventIndex, HostId, KeyEpoch, LeafIndex, Sequence, WallNanos},
};

/// Bytes of a record.
pub const BATCH_RECORD_BYTES: usize = 168 + CHECKSUM_BYTES;
/// What finding and checking one batch costs, in events folded. A heartbeat has no event and is not free.
const EVENTS_A_BATCH: u64 = 10;

/// One batch of a host's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRecord {
    /// What its header says of time. Its sequence is its depth in the chain.
    pub span: Span,
    /// First bytes of the host's id: enough to notice a link into another chain.
    pub host: [u8; 8],
    /// The key epoch it is signed in.
    pub epoch: KeyEpoch,
    /// Number of backward steps of the clock before it.
    pub segment: u32,
    /// Latest event time up to here in this segment.
    pub latest_event: WallNanos,
    /// Its loss events.
    pub losses: u32,
    /// Earliest instant a loss reported in it may have happened.
    pub loss_not_before: BootNanos,
    /// Back to the batches before.
    pub links: Links,
    /// The first batch of its segment.
    pub segment_start: Slot,
    /// The first batch of its key epoch.
    pub epoch_start: Slot,
}

impl Linked for BatchRecord {
    fn links(&self) -> &Links {
        &self.links
    }
}

impl BatchRecord {
    /// First bytes of a host's id.
    #[must_use]
    pub fn tag(host: &HostId) -> [u8; 8] {
        let mut tag = [0; 8];
        tag.copy_from_slice(&host.0[..8]);
        tag
    }

    /// The position of a batch in its chain, in memory.
    #[must_use]
    pub fn position(&self) -> usize {
        usize::try_from(self.span.sequence.0).unwrap_or(usize::MAX)
    }

    /// What folding the chain up to this batch, itself not included, costs: its events, and ten for each batch.
    #[must_use]
    pub fn work_before(&self) -> u64 {
        work(self.span.first_event, self.span.sequence.0)
    }

    /// The bytes of the record at `slot`.
    #[must_use]
    pub fn encode(&self, slot: Slot) -> Vec<u8> {
        let mut out = Vec::with_capacity(BATCH_RECORD_BYTES);
        let span = &self.span;
        out.put_u64(span.leaf.0);
        out.extend_from_slice(&self.host);
        out.put_u64(span.sequence.0);
        out.put_u64(span.first_event.0);
        out.put_u32(span.event_count);
        out.put_u16(span.flags.bits());
        out.put_u8(span.clock_source as u8);
        out.put_u8(0);
        out.extend_from_slice(&span.boot.0);
        out.put_u64(span.from_boot.0);
        out.put_u64(span.until_boot.0);
        out.put_u64(span.from_wall.0);
        out.put_u64(span.until_wall.0);
        out.put_u64(span.clock_error_ns);
        out.put_u64(self.epoch.0);
        out.put_u32(self.segment);
        out.put_u32(self.losses);
        out.put_u64(self.latest_event.0);
        out.put_u64(self.loss_not_before.0);
        out.put_u64(self.links.previous.0);
        out.put_u64(self.links.jump.0);
        out.put_u64(self.links.jump_depth);
        out.put_u64(self.segment_start.0);
        out.put_u64(self.epoch_start.0);
        seal(slot, &mut out);
        out
    }

    /// Reads the record at `slot`.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn decode(slot: Slot, bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut reader = Reader::new(opened(slot, bytes, BATCH_RECORD_BYTES)?);
        let leaf = LeafIndex(reader.u64("leaf")?);
        let host = reader.array("host")?;
        let sequence = Sequence(reader.u64("sequence")?);
        let first_event = EventIndex(reader.u64("first event")?);
        let event_count = reader.u32("event count")?;
        let flags = HeaderFlags::from_bits(reader.u16("flags")?).ok_or(BadRecord::Field("flags"))?;
        let clock_source =
            ClockSource::numbered(reader.u8("clock source")?).ok_or(BadRecord::Field("clock source"))?;
        BadRecord::unless("reserved", reader.u8("reserved")? == 0)?;
        let span = Span {
            leaf,
            sequence,
            first_event,
            event_count,
            flags,
            boot: BootId(reader.array("boot")?),
            from_boot: BootNanos(reader.u64("from, boot clock")?),
            until_boot: BootNanos(reader.u64("until, boot clock")?),
            from_wall: WallNanos(reader.u64("from, wall clock")?),
            until_wall: WallNanos(reader.u64("until, wall clock")?),
            clock_error_ns: reader.u64("clock error")?,
            clock_source,
        };
        let epoch = KeyEpoch(reader.u64("key epoch")?);
        let segment = reader.u32("segment")?;
        let losses = reader.u32("losses")?;
        let record = Self {
            span,
            host,
            epoch,
            segment,
            latest_event: WallNanos(reader.u64("latest event")?),
            losses,
            loss_not_before: BootNanos(reader.u64("earliest loss")?),
            links: Links {
                depth: sequence.0,
                previous: Slot(reader.u64("previous")?),
                jump: Slot(reader.u64("jump")?),
                jump_depth: reader.u64("jump depth")?,
            },
            segment_start: Slot(reader.u64("segment's first")?),
            epoch_start: Slot(reader.u64("epoch's first")?),
        };
        BadRecord::unless("links", record.links.lead_back_from(slot))?;
        BadRecord::unless("segment's first", record.segment_start <= slot)?;
        BadRecord::unless("epoch's first", record.epoch_start <= slot)?;
        Ok(record)
    }
}

/// What folding a chain up to some event and batch costs, in events.
#[must_use]
pub fn work(events: EventIndex, batches: u64) -> u64 {
    events.0.saturating_add(batches.saturating_mul(EVENTS_A_BATCH))
}
