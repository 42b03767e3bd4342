//! The state of a host at an instant: nearest snapshot before it, then the batches up to it.

use common::{
    answer::Span,
    batch::{BodyFault, HeaderFields, SignedHeader, UnverifiedHeader, VerifiedBody, VerifiedHeader},
    event::{Envelope, Event, Fact, Kind, Loss, LossKey, baseline::Phase},
    fold::{EntityId, FoldFault, Run, State},
    ids::{EventIndex, HostId, LeafIndex, WallNanos},
};

use super::{
    BatchRecord, Cut, EntryError, IndexError, Projection,
    losses::reported_after,
    snapshots::{Keep, Reach},
};

/// Records copied out of the index at a time.
const RECORDS_AT_ONCE: usize = 256;
/// Most loss events reported later than the instant that an answer takes into account.
const LATER_LOSSES_MAX: usize = 64;
/// Most batches searched for the end of a baseline that was under way.
const BASELINE_BATCHES_MAX: usize = 64;

/// Why a state could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The ledger could not be read. The disk, or whoever altered it.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The index does not serve. The disk, or whoever wrote to it.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A stored header is not what a host signed. Whoever altered it.
    #[error("leaf {leaf}: {cause}")]
    Header {
        /// Which leaf.
        leaf: LeafIndex,
        /// Why.
        cause: String,
    },
    /// A stored body is not what its header signs. Whoever altered it, or the disk.
    #[error("body of leaf {leaf}: {cause}")]
    Body {
        /// Which leaf.
        leaf: LeafIndex,
        /// Why.
        cause: BodyFault,
    },
    /// The events do not fold. The host's agent.
    #[error("host {host}: {cause}")]
    Fold {
        /// Which host.
        host: HostId,
        /// Why.
        cause: FoldFault,
    },
}

impl StateError {
    /// The index leads to a leaf that is something else.
    pub(super) fn not_what_the_ledger_has(leaf: LeafIndex) -> Self {
        Self::Index(IndexError::Damaged(format!(
            "leaf {leaf} is another in the ledger"
        )))
    }
}

/// A state and what it rests on.
pub struct Folded {
    /// The state.
    pub state: State,
    /// The deciding batch's header.
    pub header: HeaderFields,
    /// Losses about the instant that were reported after it.
    pub later: Vec<(LossKey, Loss)>,
}

/// The body's events, checked against the header.
fn events<'a>(
    leaf: LeafIndex,
    header: &VerifiedHeader,
    body: &'a [u8],
) -> Result<VerifiedBody<'a>, StateError> {
    header
        .check_body(body)
        .map_err(|cause| StateError::Body { leaf, cause })
}

impl Projection {
    /// The state at a cut whose deciding batch is known.
    ///
    /// # Errors
    /// Nothing is answered from bytes that do not verify.
    pub fn state_at(&self, host: &HostId, cut: &Cut, decides: &Span) -> Result<Folded, StateError> {
        let state = self.folded(host, cut, decides)?;
        let (header, _) = self.batch(host, decides)?;
        Ok(Folded {
            state,
            header: header.fields().clone(),
            later: self.later_losses(host, cut)?,
        })
    }

    /// The nearest snapshot and what follows it up to the cut. A body that is pruned while it is wanted here may be
    /// covered by a snapshot that was kept before it went: then it is begun again from that.
    pub(super) fn folded(&self, host: &HostId, cut: &Cut, decides: &Span) -> Result<State, StateError> {
        let mut tried = None;
        loop {
            let (at, state) = self.snapshot_before(host, cut)?;
            match self.fold_on((at, state), host, cut, decides) {
                Err(StateError::Entry(EntryError { pruned: Some(_), .. })) if tried != Some(at) => {
                    tried = Some(at);
                }
                folded => return folded,
            }
        }
    }

    fn fold_on(
        &self,
        (mut at, mut state): (usize, State),
        host: &HostId,
        cut: &Cut,
        decides: &Span,
    ) -> Result<State, StateError> {
        let chain = self.chain(host);
        // A snapshot stands between batches, so the last record before it may still say when the run ended.
        let mut before = match (&chain, at.checked_sub(1)) {
            (Some(chain), Some(last)) => chain.at(last)?,
            _ => None,
        };
        // Within the reach of snapshots there are as many as there should be; beyond it, the next question profits.
        let reach = self.reach(host)?;
        let mut taken = None;
        while at < cut.end {
            let end = cut.end.min(at + RECORDS_AT_ONCE);
            let records = match &chain {
                Some(chain) => chain.records(at, end)?,
                None => Vec::new(),
            };
            if records.len() != end - at {
                return Err(IndexError::Damaged(format!("batch {at} is missing")).into());
            }
            for record in records {
                // The batches before this one are what the state stands for.
                let work = record.work_before();
                let folded = work.saturating_sub(*taken.get_or_insert(work));
                let due = folded >= self.snapshot_work && at > reach.batches;
                if let Some(last) = before.filter(|last| due && last.span.sequence < decides.sequence)
                    && (last.segment < cut.segment || last.latest_event <= cut.at)
                {
                    taken = Some(work);
                    self.save_snapshot(&state, at, &last.span, Keep::WhileNeeded);
                    self.reached(host, Reach { batches: at, work });
                }
                self.fold_batch(&mut state, &record, before.as_ref(), cut, decides)?;
                before = Some(record);
                at += 1;
            }
        }
        Ok(state)
    }

    /// Folds a batch, leaving out what happened after the cut.
    fn fold_batch(
        &self,
        state: &mut State,
        record: &BatchRecord,
        before: Option<&BatchRecord>,
        cut: &Cut,
        decides: &Span,
    ) -> Result<(), StateError> {
        let span = &record.span;
        if (span.flags.first_since_start || before.is_none()) && span.sequence <= decides.sequence {
            state.begin_run(Run {
                first_event: span.first_event,
                boot: span.boot,
                from: span.from_wall,
                previous_until: before.map(|record| record.span.until_wall),
            });
        }
        if span.event_count == 0 {
            return Ok(());
        }
        let (header, body) = self.batch(&state.host(), span)?;
        self.folded.add(span.event_count);
        for (index, bytes) in events(span.leaf, &header, &body)?.events() {
            let wall = Envelope::parse(bytes).map(|envelope| envelope.wall_ns);
            if record.segment == cut.segment && wall.is_ok_and(|wall| wall > cut.at) {
                continue;
            }
            state.apply(index, bytes).map_err(|cause| StateError::Fold {
                host: state.host(),
                cause,
            })?;
        }
        Ok(())
    }

    /// The batches of a host at positions `from..end`, as far as there are.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn records(&self, host: &HostId, from: usize, end: usize) -> Result<Vec<BatchRecord>, IndexError> {
        self.chain(host)
            .map_or(Ok(Vec::new()), |chain| chain.records(from, end))
    }

    fn later_losses(&self, host: &HostId, cut: &Cut) -> Result<Vec<(LossKey, Loss)>, StateError> {
        let spans = match self.chain(host) {
            Some(chain) => chain.later_losses(cut, LATER_LOSSES_MAX)?,
            None => Vec::new(),
        };
        let boot = cut.begun.map(|span| span.boot_of(cut.at)).unwrap_or_default();
        let mut found = self.losses_of_pruned(host, cut);
        for span in spans {
            let (header, body) = match self.batch(host, &span) {
                // What it reported about batches that stay was kept before it went.
                Err(StateError::Entry(EntryError { pruned: Some(_), .. })) => continue,
                read => read?,
            };
            for (index, bytes) in events(span.leaf, &header, &body)?.events() {
                if !reported_after(cut, bytes) {
                    continue;
                }
                if let Ok(Event {
                    fact: Fact::Loss { key, record },
                    ..
                }) = Event::decode(bytes)
                    && record.not_before <= boot
                {
                    found.push((index, key, record));
                }
            }
        }
        // While its batch is still there, a loss may be found twice.
        found.sort_by_key(|(index, ..)| *index);
        found.dedup_by_key(|(index, ..)| *index);
        found.truncate(LATER_LOSSES_MAX);
        Ok(found.into_iter().map(|(_, key, record)| (key, record)).collect())
    }
}

impl Projection {
    /// The batch at a leaf: its header, verified by signature and its host's keys, and its body, not yet checked.
    ///
    /// # Errors
    /// The header is not what a host signed, or cannot be read.
    pub fn verified(&self, leaf: LeafIndex) -> Result<(VerifiedHeader, Vec<u8>), StateError> {
        let bytes = self.entries.header(leaf)?;
        let fault = |cause: String| StateError::Header { leaf, cause };
        let header = UnverifiedHeader::parse(&bytes).map_err(|cause| fault(cause.to_string()))?;
        let header = SignedHeader::check(header).map_err(|cause| fault(cause.to_string()))?;
        let header = self.believe(leaf, header)?;
        let body = self.entries.body(leaf)?;
        Ok((header, body))
    }

    /// The batch that the index finds for a host: as [`Self::verified`], and the header says what the index says.
    ///
    /// # Errors
    /// As there; or the index is wrong.
    pub fn batch(&self, host: &HostId, span: &Span) -> Result<(VerifiedHeader, Vec<u8>), StateError> {
        let (header, body) = self.verified(span.leaf)?;
        let fields = header.fields();
        if fields.host == *host && Span::of(span.leaf, fields) == *span {
            Ok((header, body))
        } else {
            Err(StateError::not_what_the_ledger_has(span.leaf))
        }
    }

    /// A body held against its header.
    ///
    /// # Errors
    /// Names what disagrees.
    pub fn check<'a>(
        &self,
        leaf: LeafIndex,
        header: &VerifiedHeader,
        body: &'a [u8],
    ) -> Result<VerifiedBody<'a>, StateError> {
        events(leaf, header, body)
    }

    /// A batch's events that `wanted` picks by envelope. Checked only where one fits.
    fn pick(
        &self,
        host: &HostId,
        span: &Span,
        wanted: impl Fn(&Envelope<'_>) -> bool,
    ) -> Result<Vec<(EventIndex, Vec<u8>)>, StateError> {
        if span.event_count == 0 {
            return Ok(Vec::new());
        }
        let (header, body) = self.batch(host, span)?;
        Ok(events(span.leaf, &header, &body)?
            .events()
            .filter(|(_, bytes)| Envelope::parse(bytes).is_ok_and(|envelope| wanted(&envelope)))
            .map(|(index, bytes)| (index, bytes.to_vec()))
            .collect())
    }

    /// A batch's events about one entity.
    ///
    /// # Errors
    /// The batch does not verify.
    pub fn events_about(
        &self,
        host: &HostId,
        span: &Span,
        id: &EntityId,
    ) -> Result<Vec<(EventIndex, Vec<u8>)>, StateError> {
        self.pick(host, span, |envelope| {
            envelope.kind == id.kind && envelope.key == id.key
        })
    }

    /// A batch's events of one kind.
    ///
    /// # Errors
    /// The batch does not verify.
    pub fn events_of_kind(
        &self,
        host: &HostId,
        span: &Span,
        kind: Kind,
    ) -> Result<Vec<(EventIndex, Vec<u8>)>, StateError> {
        self.pick(host, span, |envelope| envelope.kind == kind.number())
    }

    /// When the present run's first baseline covering `kind` was complete, if that came after the cut.
    #[must_use]
    pub fn baseline_after(&self, host: &HostId, decides: &Span, cut: &Cut, kind: Kind) -> Option<WallNanos> {
        let from = usize::try_from(decides.sequence.0).ok()?;
        for (at, record) in self
            .records(host, from, from + BASELINE_BATCHES_MAX)
            .ok()?
            .iter()
            .enumerate()
        {
            if at > 0 && record.span.flags.first_since_start {
                return None;
            }
            for (_, bytes) in self.events_of_kind(host, &record.span, Kind::Baseline).ok()? {
                let event = Event::decode(&bytes).ok()?;
                if let Fact::Baseline { record, .. } = event.fact
                    && matches!(record.phase, Phase::Complete { .. })
                    && record.kinds.contains(&kind)
                    && event.wall_ns > cut.at
                {
                    return Some(event.wall_ns);
                }
            }
        }
        None
    }
}
