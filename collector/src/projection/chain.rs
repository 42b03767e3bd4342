//! One host's chain, as the index finds it: by position, by event, by instant ([`instants`]).
//!
//! Owns nothing: each step reads one record, and what is handed out to say when a host was watched is held against
//! the header it came from.

mod instants;

use std::ops::ControlFlow;

use common::{
    answer::Span,
    batch::UnverifiedHeader,
    ids::{EventIndex, HostId},
    projection::{
        BatchRecord, Slot,
        batch::work,
        links::{Neighbours, search},
    },
};

pub use self::instants::Cut;
use super::{
    Entries, StateError,
    index::{Index, IndexError, Tip},
};

/// Records held in memory at a time while a stretch is walked.
const RECORDS_AT_ONCE: usize = 256;

/// One host's chain as it stood when it was asked for.
pub struct Chain<'a> {
    index: &'a Index,
    entries: &'a dyn Entries,
    host: HostId,
    tip: Tip,
}

impl<'a> Chain<'a> {
    pub(super) fn new(index: &'a Index, entries: &'a dyn Entries, host: HostId, tip: Tip) -> Self {
        Self {
            index,
            entries,
            host,
            tip,
        }
    }

    /// Its newest batch.
    #[must_use]
    pub fn newest(&self) -> Option<&BatchRecord> {
        self.tip.newest.as_ref()
    }

    /// Its batches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.newest()
            .map_or(0, |newest| newest.position().saturating_add(1))
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest().is_none()
    }

    /// Runs of the agent.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.tip.kept.runs
    }

    /// Events in the chain.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.tip.kept.next_event.0
    }

    /// Headers that do not continue it.
    #[must_use]
    pub fn misplaced(&self) -> u64 {
        self.tip.kept.misplaced
    }

    /// What folding all of it costs.
    #[must_use]
    pub fn work(&self) -> u64 {
        work(self.tip.kept.next_event, self.len() as u64)
    }

    fn read(&self, slot: Slot) -> Result<BatchRecord, IndexError> {
        self.index.batch(&self.host, slot)
    }

    /// The last batch from `newest` back for which `past` does not hold, and the first for which it does.
    fn search_from(
        &self,
        newest: BatchRecord,
        past: impl Fn(&BatchRecord) -> bool,
    ) -> Result<Neighbours<BatchRecord>, IndexError> {
        let broken = |at: &BatchRecord| {
            IndexError::Damaged(format!("links of batch {} lead elsewhere", at.span.sequence))
        };
        search(newest, past, |slot| self.read(slot), broken)
    }

    fn search(&self, past: impl Fn(&BatchRecord) -> bool) -> Result<Neighbours<BatchRecord>, IndexError> {
        match self.tip.newest {
            Some(newest) => self.search_from(newest, past),
            None => Ok(Neighbours {
                before: None,
                past: None,
            }),
        }
    }

    /// The first batch for which `past` holds, and for all after it.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn first_past(&self, past: impl Fn(&BatchRecord) -> bool) -> Result<Option<BatchRecord>, IndexError> {
        Ok(self.search(past)?.past)
    }

    /// The batch at a position.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn at(&self, position: usize) -> Result<Option<BatchRecord>, IndexError> {
        let found = self.search(|record| record.position() > position)?.before;
        Ok(found.filter(|record| record.position() == position))
    }

    /// The batches at positions `from..end`, as far as there are.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn records(&self, from: usize, end: usize) -> Result<Vec<BatchRecord>, IndexError> {
        let Some(last) = end.min(self.len()).checked_sub(1).filter(|last| *last >= from) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::with_capacity(last - from + 1);
        let mut at = self.at(last)?;
        while let Some(record) = at {
            found.push(record);
            at = if record.position() > from {
                let before = self.read(record.links.previous)?;
                if before.position().checked_add(1) != Some(record.position()) {
                    return Err(IndexError::Damaged(format!(
                        "batch {} follows batch {}",
                        record.span.sequence, before.span.sequence
                    )));
                }
                Some(before)
            } else {
                None
            };
        }
        found.reverse();
        Ok(found)
    }

    /// Looks at the batches from a position on, in order, until told to stop.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn walk(
        &self,
        from: usize,
        mut look: impl FnMut(&BatchRecord) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let mut at = from;
        while at < self.len() {
            let end = at.saturating_add(RECORDS_AT_ONCE).min(self.len());
            for record in &self.records(at, end)? {
                if look(record).is_break() {
                    return Ok(());
                }
            }
            at = end;
        }
        Ok(())
    }

    /// The batch that holds an event.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn batch_of(&self, event: EventIndex) -> Result<Option<Span>, IndexError> {
        // Heartbeats share their first event with the batch after them: the last of these holds it.
        let found = self.search(|record| record.span.first_event > event)?.before;
        let holds = |span: &Span| event.0 < span.first_event.0.saturating_add(u64::from(span.event_count));
        Ok(found.map(|record| record.span).filter(holds))
    }

    /// What folding the first `batches` batches costs.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn work_before(&self, batches: usize) -> Result<u64, IndexError> {
        let next = self.at(batches)?;
        Ok(next.map_or(self.work(), |record| record.work_before()))
    }

    /// A span as the header in the ledger claims it: what an answer says of time never rests on the index alone.
    pub(super) fn held(&self, span: Span) -> Result<Span, StateError> {
        let bytes = self.entries.header(span.leaf)?;
        let header = UnverifiedHeader::parse(&bytes).ok();
        let fits = header.is_some_and(|header| {
            let fields = header.claimed();
            fields.host == self.host && Span::of(span.leaf, fields) == span
        });
        if fits {
            Ok(span)
        } else {
            Err(StateError::not_what_the_ledger_has(span.leaf))
        }
    }

    /// Spans held against the ledger's headers.
    ///
    /// # Errors
    /// The ledger cannot be read, or has something else.
    pub fn spans(&self, records: &[BatchRecord]) -> Result<Vec<Span>, StateError> {
        records.iter().map(|record| self.held(record.span)).collect()
    }

    /// The first batch of its newest key epoch.
    pub(super) fn newest_epoch(&self) -> Option<Slot> {
        self.newest().map(|record| record.epoch_start)
    }

    /// The last batch of the key epoch before the one that begins at `start`, and the first batch of that one; `None`
    /// where the chain begins there.
    pub(super) fn epoch_before(&self, start: Slot) -> Result<Option<(Span, Slot)>, IndexError> {
        let first = self.read(start)?;
        if first.position() == 0 {
            return Ok(None);
        }
        let last = self.read(first.links.previous)?;
        if last.epoch_start >= start {
            return Err(IndexError::Damaged(format!(
                "batch {} is of no key epoch",
                last.span.sequence
            )));
        }
        Ok(Some((last.span, last.epoch_start)))
    }
}
