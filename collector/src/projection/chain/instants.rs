//! Where an instant lies in a chain, and what was watched around it.
//!
//! A wall clock can be set back. The chain is therefore cut into *segments* within which batches begin in
//! order; an instant that happened twice is answered by the later one, and the answer says so. Events may be
//! sealed in a later batch than the one whose time they bear: how late that ever was bounds how far beyond an
//! instant a fold must look.

use std::ops::ControlFlow;

use common::{
    answer::Span,
    ids::{BootNanos, WallNanos},
    projection::BatchRecord,
};

use super::{Chain, IndexError, StateError};

/// Where an instant lies in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The instant.
    pub at: WallNanos,
    /// The batch that decides: the last one that begins at or before it.
    pub begun: Option<Span>,
    /// The one after it.
    pub next: Option<Span>,
    /// Records to fold, the deciding one and those with late events included.
    pub end: usize,
    /// The deciding batch's segment: of events in it, those after the instant are left out.
    pub segment: u32,
    /// The instant happened before as well, up to this time.
    pub set_back_until: Option<WallNanos>,
    /// The chain ends within reach of events that are late: that far.
    pub in_flight_ns: Option<u64>,
}

/// A stretch of a chain within which batches begin in order.
struct Segment {
    first: BatchRecord,
    last: BatchRecord,
    /// The first batch of the segment after it.
    after: Option<BatchRecord>,
}

impl Chain<'_> {
    /// The segments, newest first, until told to stop.
    fn segments(
        &self,
        mut look: impl FnMut(&Segment) -> Result<ControlFlow<()>, IndexError>,
    ) -> Result<(), IndexError> {
        let (mut last, mut after) = (self.tip.newest, None);
        while let Some(record) = last {
            let first = self.read(record.segment_start)?;
            let begins = first.segment_start == record.segment_start && first.position() <= record.position();
            if !begins {
                return Err(IndexError::Damaged(format!(
                    "batch {} is of no segment",
                    record.span.sequence
                )));
            }
            let segment = Segment {
                first,
                last: record,
                after,
            };
            if look(&segment)?.is_break() {
                return Ok(());
            }
            after = Some(first);
            last = match first.position() {
                0 => None,
                _ => Some(self.read(first.links.previous)?),
            };
        }
        Ok(())
    }

    /// Where an instant lies.
    ///
    /// # Errors
    /// Ledger or index do not serve.
    pub fn cut(&self, at: WallNanos) -> Result<Cut, StateError> {
        let (mut found, mut earliest) = (None, None);
        self.segments(|segment| {
            earliest = Some(segment.first);
            if segment.first.span.from_wall > at {
                return Ok(ControlFlow::Continue(()));
            }
            found = Some((segment.first, segment.last, segment.after));
            Ok(ControlFlow::Break(()))
        })?;
        let Some((first, last, after)) = found else {
            return Ok(Cut {
                at,
                begun: None,
                next: earliest.map(|record| self.held(record.span)).transpose()?,
                end: 0,
                segment: 0,
                set_back_until: None,
                in_flight_ns: None,
            });
        };
        let around = self.search_from(last, |record| {
            record.position() > first.position() && record.span.from_wall > at
        })?;
        let begun = around.before.unwrap_or(first);
        let position = begun.position().saturating_add(1);
        let reach = WallNanos(at.0.saturating_add(self.tip.kept.late_ns));
        let mut end = position;
        self.walk(position, |record| {
            let late = record.segment_start == last.segment_start
                && record.span.from_wall <= reach
                && !record.span.flags.first_since_start;
            end += usize::from(late);
            if late {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        let set_back = match first.position() {
            0 => None,
            _ => Some(self.read(first.links.previous)?.span).filter(|span| span.until_wall >= at),
        };
        let newest = self.newest().map(|record| record.span);
        let in_flight = position == self.len()
            && self.tip.kept.late_ns > 0
            && newest.is_some_and(|span| reach > span.until_wall && !span.flags.last_before_stop);
        let next = around.past.or(after).map(|record| record.span);
        Ok(Cut {
            at,
            begun: Some(self.held(begun.span)?),
            next: next.map(|span| self.held(span)).transpose()?,
            end,
            segment: begun.segment,
            set_back_until: set_back
                .map(|span| self.held(span))
                .transpose()?
                .map(|span| span.until_wall),
            in_flight_ns: in_flight.then_some(self.tip.kept.late_ns),
        })
    }

    /// The part of an interval between its first and its last watched instant; `None` where there is none.
    ///
    /// # Errors
    /// Ledger or index do not serve.
    pub fn clamp(
        &self,
        since: WallNanos,
        until: WallNanos,
    ) -> Result<Option<(WallNanos, WallNanos)>, StateError> {
        let (low, high) = (self.cut(since)?, self.cut(until)?);
        let lo = match (low.begun, low.next) {
            (Some(begun), _) if since <= begun.until_wall => since,
            (_, Some(next)) => next.from_wall,
            (_, None) => return Ok(None),
        };
        let Some(begun) = high.begun else {
            return Ok(None);
        };
        let hi = until.min(begun.until_wall);
        Ok((lo <= hi).then_some((lo, hi)))
    }

    /// What nothing watched between two instants that were, at most `most` stretches of it.
    ///
    /// # Errors
    /// Ledger or index do not serve.
    pub fn gaps(
        &self,
        lo: WallNanos,
        hi: WallNanos,
        most: usize,
    ) -> Result<Vec<(WallNanos, WallNanos)>, StateError> {
        let mut found: Vec<(Span, Span)> = Vec::new();
        // Between two segments the clock went back: nothing is left out there.
        self.segments(|Segment { first, last, .. }| {
            let begins = self.search_from(*last, |record| {
                record.position() >= first.position() && record.span.until_wall >= lo
            })?;
            let Some(begins) = begins.past else {
                return Ok(ControlFlow::Continue(()));
            };
            let (mut here, mut before): (Vec<(Span, Span)>, Option<Span>) = (Vec::new(), None);
            self.walk(begins.position(), |record| {
                let span = record.span;
                if record.position() > last.position() || span.from_wall > hi || here.len() == most {
                    return ControlFlow::Break(());
                }
                if let Some(before) = before.filter(|before| before.until_wall < span.from_wall) {
                    here.push((before, span));
                }
                before = Some(span);
                ControlFlow::Continue(())
            })?;
            // The earliest are wanted, and segments come newest first.
            here.append(&mut found);
            here.truncate(most);
            found = here;
            Ok(ControlFlow::Continue(()))
        })?;
        found
            .into_iter()
            .map(|(a, b)| Ok((self.held(a)?.until_wall, self.held(b)?.from_wall)))
            .collect()
    }

    /// Batches from the deciding one on, of the same run, whose loss events may be about the cut's instant; at most
    /// so many.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn later_losses(&self, cut: &Cut, most: usize) -> Result<Vec<Span>, IndexError> {
        let boot = cut.begun.map_or(BootNanos(0), |span| span.boot_of(cut.at));
        let reach = boot.0.saturating_add(self.tip.kept.loss_late_ns);
        let decides = cut.begun.map_or(0, |span| span.sequence.0);
        let mut found = Vec::new();
        self.walk(usize::try_from(decides).unwrap_or(usize::MAX), |record| {
            let same_run = !record.span.flags.first_since_start || record.span.sequence.0 == decides;
            if !same_run || record.span.from_boot.0 > reach || found.len() == most {
                return ControlFlow::Break(());
            }
            if record.losses > 0 && record.loss_not_before <= boot {
                found.push(record.span);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Whether everything in the first `batches` batches happened at or before the cut's instant, so that a snapshot
    /// taken there may be folded on from.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn all_before(&self, batches: usize, cut: &Cut) -> Result<bool, IndexError> {
        let Some(last) = batches.checked_sub(1) else {
            return Ok(true);
        };
        let record = self.at(last)?;
        Ok(record.is_some_and(|record| record.segment < cut.segment || record.latest_event <= cut.at))
    }
}
