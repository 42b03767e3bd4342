//! A host's chain as a plain list in memory: what the index on disk is held against.

use collector::projection::Cut;
use common::{
    answer::Span,
    batch::{BodyView, UnverifiedHeader},
    event::{Envelope, Event, Fact, Kind},
    ids::{BootNanos, EventIndex, Hash, LeafIndex, WallNanos},
};

/// One batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// What its header says of time.
    pub(crate) span: Span,
    /// Number of backward steps of the clock before it.
    pub(crate) segment: u32,
    /// Latest event time up to here in this segment.
    pub(crate) latest_event: WallNanos,
    /// Its loss events.
    pub(crate) losses: u32,
    /// Earliest instant a loss reported in it may have happened.
    pub(crate) loss_not_before: BootNanos,
}

/// One host's chain.
#[derive(Debug, Default)]
pub(crate) struct ListChain {
    records: Vec<Record>,
    /// First record of each segment and of each run.
    segments: Vec<usize>,
    runs: Vec<usize>,
    head: Hash,
    next_event: EventIndex,
    /// Longest time by which an event's own time lay before its batch, nanoseconds.
    late_ns: u64,
    /// Longest time between a loss and the end of the batch that reports it, nanoseconds.
    loss_late_ns: u64,
}

impl ListChain {
    /// Appends a batch; `false` where it does not continue the chain (a fork, kept elsewhere as evidence).
    pub(crate) fn push(
        &mut self,
        leaf: LeafIndex,
        header: &UnverifiedHeader,
        body: Option<&BodyView<'_>>,
    ) -> bool {
        let fields = header.claimed();
        if fields.sequence.0 != self.records.len() as u64
            || fields.previous != self.head
            || fields.first_event != self.next_event
        {
            return false;
        }
        let span = Span::of(leaf, fields);
        let (segment, latest) = match self.records.last() {
            Some(last) if last.span.until_wall <= span.from_wall => (last.segment, last.latest_event),
            Some(last) => (last.segment.saturating_add(1), WallNanos(0)),
            None => (0, WallNanos(0)),
        };
        if self.records.last().is_none_or(|last| last.segment != segment) {
            self.segments.push(self.records.len());
        }
        if span.flags.first_since_start || self.records.is_empty() {
            self.runs.push(self.records.len());
        }
        let mut record = Record {
            span,
            segment,
            latest_event: latest,
            losses: 0,
            loss_not_before: BootNanos(u64::MAX),
        };
        if body.is_none() && fields.event_count > 0 {
            // Nobody can say any more when its events were: as late as may be, so that no state that holds them is
            // taken for an earlier one.
            record.latest_event = record.latest_event.max(span.until_wall);
        }
        for bytes in body.map(BodyView::events).unwrap_or_default() {
            if let Ok(envelope) = Envelope::parse(bytes) {
                self.note_event(&mut record, &envelope, bytes);
            }
        }
        self.records.push(record);
        self.head = header.hash();
        self.next_event = EventIndex(fields.first_event.0.saturating_add(u64::from(fields.event_count)));
        true
    }

    fn note_event(&mut self, record: &mut Record, envelope: &Envelope<'_>, bytes: &[u8]) {
        record.latest_event = record.latest_event.max(envelope.wall_ns);
        let late = record.span.from_wall.0.saturating_sub(envelope.wall_ns.0);
        self.late_ns = self.late_ns.max(late);
        if envelope.kind != Kind::Loss.number() {
            return;
        }
        if let Ok(Fact::Loss { record: loss, .. }) = Event::decode(bytes).map(|event| event.fact) {
            record.losses += 1;
            record.loss_not_before = record.loss_not_before.min(loss.not_before);
            let late = record.span.until_boot.0.saturating_sub(loss.not_before.0);
            self.loss_late_ns = self.loss_late_ns.max(late);
        }
    }

    /// Its batches, by sequence.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Runs of the agent.
    pub(crate) fn runs(&self) -> u64 {
        self.runs.len() as u64
    }

    /// Events in the chain.
    pub(crate) fn events(&self) -> u64 {
        self.next_event.0
    }

    /// The batch that holds an event.
    pub(crate) fn batch_of(&self, event: EventIndex) -> Option<Span> {
        let after = self
            .records
            .partition_point(|record| record.span.first_event <= event);
        // Heartbeats share their first event with the batch after them: the last of these holds it.
        let span = self.records.get(after.checked_sub(1)?)?.span;
        (event.0 < span.first_event.0.saturating_add(u64::from(span.event_count))).then_some(span)
    }

    /// Where an instant lies.
    pub(crate) fn cut(&self, at: WallNanos) -> Cut {
        let begins = |record: &Record| record.span.from_wall;
        let segment = self.segments.iter().rposition(|first| {
            self.records
                .get(*first)
                .is_some_and(|record| begins(record) <= at)
        });
        let Some(segment) = segment else {
            return Cut {
                at,
                begun: None,
                next: self.records.first().map(|record| record.span),
                end: 0,
                segment: 0,
                set_back_until: None,
                in_flight_ns: None,
            };
        };
        let first = self.segments.get(segment).copied().unwrap_or_default();
        let last = self
            .segments
            .get(segment + 1)
            .copied()
            .unwrap_or(self.records.len());
        let members = self.records.get(first..last).unwrap_or_default();
        let position = first + members.partition_point(|record| begins(record) <= at);
        let begun = position
            .checked_sub(1)
            .and_then(|at| self.records.get(at))
            .copied();
        let reach = WallNanos(at.0.saturating_add(self.late_ns));
        let late = self
            .records
            .get(position..last)
            .unwrap_or_default()
            .iter()
            .take_while(|record| begins(record) <= reach && !record.span.flags.first_since_start)
            .count();
        let before = self.records.get(..first).unwrap_or_default();
        let set_back = before
            .last()
            .map(|record| record.span.until_wall)
            .filter(|until| *until >= at);
        let last_until = self
            .records
            .last()
            .map_or(WallNanos(0), |record| record.span.until_wall);
        let ended = self
            .records
            .last()
            .is_some_and(|record| record.span.flags.last_before_stop);
        let in_flight = position == self.records.len() && reach > last_until && self.late_ns > 0 && !ended;
        Cut {
            at,
            begun: begun.map(|record| record.span),
            next: self.records.get(position).map(|record| record.span),
            end: position + late,
            segment: begun.map_or(0, |record| record.segment),
            set_back_until: set_back,
            in_flight_ns: in_flight.then_some(self.late_ns),
        }
    }

    /// The part of an interval between its first and its last watched instant; `None` where there is none.
    pub(crate) fn clamp(&self, since: WallNanos, until: WallNanos) -> Option<(WallNanos, WallNanos)> {
        let (low, high) = (self.cut(since), self.cut(until));
        let lo = match low.begun {
            Some(begun) if since <= begun.until_wall => since,
            _ => low.next?.from_wall,
        };
        let hi = until.min(high.begun?.until_wall);
        (lo <= hi).then_some((lo, hi))
    }

    /// What nothing watched between two instants that were, at most `most` stretches of it.
    pub(crate) fn gaps(&self, lo: WallNanos, hi: WallNanos, most: usize) -> Vec<(WallNanos, WallNanos)> {
        self.records
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] if a.span.until_wall < b.span.from_wall => Some((a.span.until_wall, b.span.from_wall)),
                _ => None,
            })
            .filter(|(from, until)| *from >= lo && *until <= hi)
            .take(most)
            .collect()
    }

    /// Batches from the deciding one on, of the same run, whose loss events may be about the cut's instant.
    pub(crate) fn later_losses(&self, cut: &Cut) -> impl Iterator<Item = Span> + '_ {
        let boot = cut.begun.map_or(BootNanos(0), |span| span.boot_of(cut.at));
        let reach = boot.0.saturating_add(self.loss_late_ns);
        let decides = cut.begun.map_or(0, |span| span.sequence.0);
        self.records
            .get(usize::try_from(decides).unwrap_or(usize::MAX)..)
            .unwrap_or_default()
            .iter()
            .take_while(move |record| {
                let same_run = !record.span.flags.first_since_start || record.span.sequence.0 == decides;
                same_run && record.span.from_boot.0 <= reach
            })
            .filter(move |record| record.losses > 0 && record.loss_not_before <= boot)
            .map(|record| record.span)
    }

    /// Whether everything up to record `end` (exclusive) happened at or before the cut's instant, so that a
    /// snapshot taken there may be folded on from.
    pub(crate) fn all_before(&self, end: usize, cut: &Cut) -> bool {
        match end.checked_sub(1).map(|last| self.records.get(last)) {
            None => true,
            Some(Some(record)) => record.segment < cut.segment || record.latest_event <= cut.at,
            Some(None) => false,
        }
    }
}
