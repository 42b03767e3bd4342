//! Appending to the index: what continues a chain gets a record, whatever does not is counted.

use common::{
    answer::Span,
    batch::{BodyView, UnverifiedHeader},
    event::{Envelope, Event, Fact, Kind},
    ids::{BootNanos, EventIndex, LeafIndex, WallNanos},
    projection::{BatchRecord, Linked, Slot, StatedRecord, links::Links, stated::Silence},
    statement::{Said, UnverifiedStatement},
};

use super::{Index, IndexError, Tip};

impl Index {
    /// Passes over a leaf that no chain holds.
    pub(in crate::projection) fn push_other(&self, leaf: LeafIndex) {
        self.change(|known| known.leaves = leaf.0.saturating_add(1));
    }

    /// Appends a batch. One that does not continue its host's chain (a fork, kept elsewhere as evidence) is counted.
    pub(in crate::projection) fn push_batch(
        &self,
        leaf: LeafIndex,
        header: &UnverifiedHeader,
        body: Option<&BodyView<'_>>,
    ) -> Result<(), IndexError> {
        let fields = header.claimed();
        let mut tip = self.tip(&fields.host, Tip::clone).unwrap_or_default();
        let length = tip
            .newest
            .map_or(0, |newest| newest.links.depth.saturating_add(1));
        let continues = fields.sequence.0 == length
            && fields.previous == tip.kept.head
            && fields.first_event == tip.kept.next_event;
        let mut batches = self.known(|known| known.batches);
        if continues {
            let slot = Slot(batches);
            let mut record = self.record_at(slot, leaf, header, &tip)?;
            if body.is_none() && fields.event_count > 0 {
                // Nobody can say any more when its events were: as late as may be, so that no state that holds them
                // is taken for an earlier one.
                record.latest_event = record.latest_event.max(record.span.until_wall);
            }
            for bytes in body.map(BodyView::events).unwrap_or_default() {
                if let Ok(envelope) = Envelope::parse(bytes) {
                    note_event(&mut tip, &mut record, &envelope, bytes);
                }
            }
            let written = self.store()?.batches.write(slot, &record.encode(slot));
            written.map_err(IndexError::disk("written"))?;
            batches += 1;
            tip.kept.runs += u64::from(record.span.flags.first_since_start || length == 0);
            tip.kept.newest = Some(slot);
            tip.kept.head = header.hash();
            tip.kept.next_event =
                EventIndex(fields.first_event.0.saturating_add(u64::from(fields.event_count)));
            tip.newest = Some(record);
        } else {
            tip.kept.misplaced += 1;
        }
        self.change(|known| {
            known.hosts.insert(fields.host, tip);
            known.batches = batches;
            known.leaves = leaf.0.saturating_add(1);
        });
        Ok(())
    }

    /// The record of a batch that continues the chain of `tip`, before its events are looked at.
    fn record_at(
        &self,
        slot: Slot,
        leaf: LeafIndex,
        header: &UnverifiedHeader,
        tip: &Tip,
    ) -> Result<BatchRecord, IndexError> {
        let fields = header.claimed();
        let mut record = BatchRecord {
            span: Span::of(leaf, fields),
            host: BatchRecord::tag(&fields.host),
            epoch: fields.key_epoch,
            segment: 0,
            latest_event: WallNanos(0),
            losses: 0,
            loss_not_before: BootNanos(u64::MAX),
            links: Links::first(slot),
            segment_start: slot,
            epoch_start: slot,
        };
        let Some((last, at)) = tip.newest.as_ref().zip(tip.kept.newest) else {
            return Ok(record);
        };
        let beyond = self.batch(&fields.host, last.links.jump)?;
        record.links = Links::after(&last.links, at, &beyond.links);
        if last.span.until_wall <= record.span.from_wall {
            record.segment = last.segment;
            record.segment_start = last.segment_start;
            record.latest_event = last.latest_event;
        } else {
            record.segment = last.segment.saturating_add(1);
        }
        if last.epoch == record.epoch {
            record.epoch_start = last.epoch_start;
        }
        Ok(record)
    }

    /// Appends a statement, where it continues the chain of statements.
    pub(in crate::projection) fn push_statement(
        &self,
        leaf: LeafIndex,
        statement: &UnverifiedStatement,
    ) -> Result<(), IndexError> {
        let fields = statement.claimed();
        let (count, head) = self.known(|known| (known.statements, known.head));
        if fields.number.0 != count || fields.previous != head {
            self.push_other(leaf);
            return Ok(());
        }
        let slot = Slot(count);
        let mut record = StatedRecord {
            leaf,
            at: fields.at,
            kind: fields.said.kind(),
            host: fields.said.host(),
            silence: None,
        };
        let mut changed = None;
        if let Said::Silent {
            host,
            last: Some(last),
            since,
            ..
        } = &fields.said
        {
            let mut tip = self.tip(host, Tip::clone).unwrap_or_default();
            let links = match tip.kept.silence {
                None => Links::first(slot),
                Some(at) => {
                    let before = *self.silence(at)?.links();
                    Links::after(&before, at, self.silence(before.jump)?.links())
                }
            };
            record.silence = Some(Silence {
                last: last.sequence,
                since: *since,
                links,
            });
            tip.kept.silence = Some(slot);
            changed = Some((*host, tip));
        }
        // Of a host without a batch nobody asks, and an end is declared once.
        if let Said::HostEnded { host, .. } = &fields.said
            && let Some(mut tip) = self.tip(host, Tip::clone)
        {
            tip.kept.end.get_or_insert(slot);
            changed = Some((*host, tip));
        }
        let written = self.store()?.statements.write(slot, &record.encode(slot));
        written.map_err(IndexError::disk("written"))?;
        self.change(|known| {
            known.hosts.extend(changed);
            known.statements = count.saturating_add(1);
            known.head = statement.hash();
            known.leaves = leaf.0.saturating_add(1);
        });
        Ok(())
    }

    /// The record of a statement that a host fell silent.
    pub(in crate::projection) fn silence(&self, slot: Slot) -> Result<StatedRecord, IndexError> {
        let found = self
            .stated(slot, 1)?
            .pop()
            .filter(|record| record.silence.is_some());
        found.ok_or_else(|| IndexError::Damaged(format!("statement {} is of no silence", slot.0)))
    }
}

/// Takes in one event: how late it is, a loss, the host's name.
fn note_event(tip: &mut Tip, record: &mut BatchRecord, envelope: &Envelope<'_>, bytes: &[u8]) {
    record.latest_event = record.latest_event.max(envelope.wall_ns);
    let late = record.span.from_wall.0.saturating_sub(envelope.wall_ns.0);
    tip.kept.late_ns = tip.kept.late_ns.max(late);
    // Only these two kinds are decoded here: they are rare.
    if envelope.kind != Kind::Host.number() && envelope.kind != Kind::Loss.number() {
        return;
    }
    match Event::decode(bytes).map(|event| event.fact) {
        Ok(Fact::Host { record: host, .. }) => tip.kept.hostname = Some(host.hostname),
        Ok(Fact::Loss { record: loss, .. }) => {
            record.losses = record.losses.saturating_add(1);
            record.loss_not_before = record.loss_not_before.min(loss.not_before);
            let late = record.span.until_boot.0.saturating_sub(loss.not_before.0);
            tip.kept.loss_late_ns = tip.kept.loss_late_ns.max(late);
        }
        _ => {}
    }
}
