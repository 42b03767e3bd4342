//! The sequencer: the collector's decisions on which batches enter the ledger, in which order, and when.
//!
//! Pipeline: *sequence* (group commit; durable, then acknowledged), *integrate and publish* (tiles,
//! checkpoint; then receipts). Owns every host's chain head, and where the collector's own statements stand:
//! these wait in the same queue and enter the same groups. One commit is under way at a time, and one
//! publication beside it. Refuses to go on once an outcome is unknown: the process restarts, and recovery reads
//! what the ledger really holds. Storage is the driver's: it carries out a [`Step`] and answers.

mod check;
mod config;
mod group;
mod reject;
mod step;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    format,
    vec::Vec,
};

pub use self::{
    check::{CheckedBatch, check_batch, refusal_of},
    config::SequencerConfig,
    group::{Admitted, Group},
    reject::Rejected,
    step::{SequencerFailed, Step, StepError},
};
use self::{
    group::Committing,
    reject::{contradiction, rejected},
};
use crate::{
    batch::{ChainFault, ChainHead, VerifiedHeader},
    ids::{BootNanos, Hash, HostId, LeafIndex, Sequence, StatementNumber},
    session::RefusalCode,
    statement::{StatementChain, StatementFault, VerifiedStatement},
};

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It waits for a commit; [`Sequencer::poll_stored`] will name it.
    Accepted,
    /// The same batch waits already.
    Waiting,
    /// A batch of that sequence is durable. Read its header from the ledger and ask
    /// [`Sequencer::judge_stored`] about this one.
    Lookup(Box<CheckedBatch>),
}

#[derive(Debug)]
struct Chain {
    /// Behind the last batch admitted.
    tip: ChainHead,
    /// Behind the last batch that is durable: sequence awaited, hash before it.
    durable: (Sequence, Hash),
    published_before: Sequence,
}

#[derive(Debug)]
enum UnderWay {
    Nothing,
    Commit(Vec<Committing>),
}

/// The machine.
#[derive(Debug)]
pub struct Sequencer {
    config: SequencerConfig,
    chains: BTreeMap<HostId, Chain>,
    /// Behind the last statement admitted.
    statements: StatementChain,
    waiting: VecDeque<Admitted>,
    waiting_bytes: u64,
    waiting_since: BootNanos,
    /// When the last commit ended.
    committed_at: BootNanos,
    under_way: UnderWay,
    /// A publication is under way; commits go on beside it, for witnesses may take their time.
    publishing: bool,
    /// When to try again to publish what witnesses did not cosign.
    publish_retry_at: Option<BootNanos>,
    retry_at: Option<BootNanos>,
    unpublished: VecDeque<(LeafIndex, Option<(HostId, Sequence)>)>,
    published_size: u64,
    published_at: BootNanos,
    stored: VecDeque<(HostId, Sequence)>,
    stated: VecDeque<StatementNumber>,
    published: VecDeque<(HostId, Sequence)>,
    failed: Option<SequencerFailed>,
}

impl Sequencer {
    /// A sequencer over a ledger whose published checkpoint has `published_size` leaves, before
    /// [`Self::restore`].
    #[must_use]
    pub fn new(config: SequencerConfig, published_size: u64, now: BootNanos) -> Self {
        Self {
            config,
            chains: BTreeMap::new(),
            statements: StatementChain::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_since: now,
            committed_at: now,
            under_way: UnderWay::Nothing,
            publishing: false,
            publish_retry_at: None,
            retry_at: None,
            unpublished: VecDeque::new(),
            published_size,
            published_at: now,
            stored: VecDeque::new(),
            stated: VecDeque::new(),
            published: VecDeque::new(),
            failed: None,
        }
    }

    /// Takes a host's last header from a recovered ledger (or all its headers, in order). What the ledger has
    /// not published yet is told by [`Self::restore_unpublished`] afterwards.
    pub fn restore(&mut self, header: &VerifiedHeader) -> Result<(), ChainFault> {
        let tip = ChainHead::after(header)?;
        let chain = Chain {
            durable: (tip.next_sequence, tip.hash),
            published_before: tip.next_sequence,
            tip,
        };
        self.chains.insert(chain.tip.host, chain);
        Ok(())
    }

    /// Takes a durable leaf that no checkpoint covers, in order: a host's batch, or a statement (`None`).
    pub fn restore_unpublished(&mut self, leaf: LeafIndex, batch: Option<(HostId, Sequence)>) {
        if let Some((host, sequence)) = batch
            && let Some(chain) = self.chains.get_mut(&host)
        {
            chain.published_before = chain.published_before.min(sequence);
        }
        self.unpublished.push_back((leaf, batch));
    }

    /// Takes the last statement of a recovered ledger (or all of them, in order).
    ///
    /// # Errors
    /// It is the last that can be numbered.
    pub fn restore_statement(&mut self, statement: &VerifiedStatement) -> Result<(), StatementFault> {
        self.statements = StatementChain::after(statement)?;
        Ok(())
    }

    /// Where the collector's chain stands behind the last statement admitted: the next one is written there.
    #[must_use]
    pub fn statements(&self) -> &StatementChain {
        &self.statements
    }

    /// Where a host's durable chain stands: the sequence awaited, the hash before it, and the first batch
    /// that no published checkpoint covers.
    #[must_use]
    pub fn position(&self, host: &HostId) -> (Sequence, Hash, Sequence) {
        self.chains.get(host).map_or_else(
            || (Sequence(0), Hash::default(), Sequence(0)),
            |chain| (chain.durable.0, chain.durable.1, chain.published_before),
        )
    }

    /// Leaves of the published checkpoint.
    #[must_use]
    pub fn published_size(&self) -> u64 {
        self.published_size
    }

    /// Why nothing can go on, if so.
    #[must_use]
    pub fn failed(&self) -> Option<&SequencerFailed> {
        self.failed.as_ref()
    }

    /// Whether the ledger refused the last step for want of space.
    #[must_use]
    pub fn no_space(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Judges the place of a checked batch in its chain. On a rejection the chain stays as it was.
    pub fn admit(&mut self, now: BootNanos, batch: CheckedBatch) -> Result<Admission, Rejected> {
        let fields = batch.header().fields();
        let (host, sequence) = (fields.host, fields.sequence);
        if let Some(failed) = &self.failed {
            return Err(rejected(RefusalCode::Internal, sequence, &format!("{failed}")));
        }
        let chain = self.chains.get(&host);
        if chain.is_some_and(|chain| sequence < chain.durable.0) {
            return Ok(Admission::Lookup(Box::new(batch)));
        }
        if chain.is_some_and(|chain| sequence < chain.tip.next_sequence) {
            return match self.find_waiting(&host, sequence) {
                Some((hash, _)) if hash == batch.header().hash() => Ok(Admission::Waiting),
                Some((_, held)) => Err(contradiction(batch.header(), held)),
                // Admitted, neither waiting nor durable: cannot be.
                None => Err(rejected(RefusalCode::Internal, sequence, "the batch is nowhere")),
            };
        }
        if self.waiting_bytes + batch.bytes() > self.config.waiting_bytes_max {
            let text = "too much waits to be stored, come back later";
            return Err(rejected(RefusalCode::Busy, sequence, text));
        }
        let mut tip = chain.map_or_else(|| ChainHead::genesis(host), |chain| chain.tip.clone());
        if let Err(fault) = tip.follow(batch.header()) {
            let proves = match &fault {
                ChainFault::Previous { .. } | ChainFault::EventIndex { .. } => true,
                ChainFault::Keys { fault, .. } => fault.is_the_hosts(),
                _ => false,
            };
            return Err(Rejected {
                refusal: refusal_of(&fault, sequence),
                offending: if proves {
                    batch.header().bytes().to_vec()
                } else {
                    Vec::new()
                },
                held: Vec::new(),
            });
        }
        match self.chains.get_mut(&host) {
            Some(chain) => chain.tip = tip,
            None => {
                self.chains.insert(
                    host,
                    Chain {
                        tip,
                        durable: (Sequence(0), Hash::default()),
                        published_before: Sequence(0),
                    },
                );
            }
        }
        self.enqueue(now, Admitted::Batch(batch));
        Ok(Admission::Accepted)
    }

    /// Takes a statement written at [`Self::statements`] into the queue; [`Self::poll_stated`] will name it.
    /// Statements are few and small: whoever makes them bounds them, so that none is turned away for want of
    /// room where batches are.
    ///
    /// # Errors
    /// It is not the next one, which is the caller's fault; the chain stays as it was.
    pub fn admit_statement(
        &mut self,
        now: BootNanos,
        statement: VerifiedStatement,
    ) -> Result<(), StatementFault> {
        self.statements.follow(&statement)?;
        self.enqueue(now, Admitted::Statement(statement));
        Ok(())
    }

    fn enqueue(&mut self, now: BootNanos, entry: Admitted) {
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        self.waiting_bytes += entry.bytes();
        self.waiting.push_back(entry);
    }

    /// After [`Admission::Lookup`]: whether the batch is the one that is stored. `Ok` means it is, and is to
    /// be acknowledged again.
    pub fn judge_stored(batch: &CheckedBatch, stored_header: &[u8]) -> Result<(), Rejected> {
        if batch.header().bytes() == stored_header {
            return Ok(());
        }
        Err(contradiction(batch.header(), stored_header))
    }

    /// The next step for the ledger, if one is due and none is under way.
    pub fn poll_step(&mut self, now: BootNanos) -> Option<Step> {
        let held_back = self.retry_at.is_some_and(|at| now < at);
        if self.failed.is_some() || held_back || !matches!(self.under_way, UnderWay::Nothing) {
            return None;
        }
        // Publishing goes first when it is due, or a steady stream of batches would starve receipts.
        if self.publish_due().is_some_and(|at| now >= at) {
            self.publishing = true;
            return Some(Step::Publish);
        }
        if self.commit_due().is_some_and(|at| now >= at) {
            return Some(Step::Commit(self.take_group()));
        }
        None
    }

    /// When to call [`Self::poll_step`] again although nothing came in.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNanos> {
        if self.failed.is_some() || !matches!(self.under_way, UnderWay::Nothing) {
            return None;
        }
        let due = [self.publish_due(), self.commit_due()]
            .into_iter()
            .flatten()
            .min()?;
        Some(self.retry_at.map_or(due, |retry| retry.max(due)))
    }

    /// The group's entries are durable from `first` on, or were not appended. A group that found no space is
    /// handed back and waits.
    pub fn handle_commit(&mut self, now: BootNanos, result: Result<LeafIndex, (StepError, Group)>) {
        let UnderWay::Commit(committed) = core::mem::replace(&mut self.under_way, UnderWay::Nothing) else {
            return;
        };
        self.committed_at = now;
        match result {
            Ok(first) => {
                self.retry_at = None;
                for (leaf, entry) in (first.0..).map(LeafIndex).zip(committed) {
                    self.durable(leaf, &entry);
                }
            }
            Err((StepError::NoSpace | StepError::Withheld, group)) => {
                self.waiting_bytes += group.entries.iter().map(Admitted::bytes).sum::<u64>();
                for entry in group.entries.into_iter().rev() {
                    self.waiting.push_front(entry);
                }
                self.retry_at = Some(BootNanos(now.0.saturating_add(self.config.retry_ns)));
            }
            Err((StepError::Unknown(cause), _)) => {
                self.failed = Some(SequencerFailed {
                    step: "commit",
                    cause,
                });
            }
        }
    }

    fn durable(&mut self, leaf: LeafIndex, entry: &Committing) {
        match entry {
            Committing::Batch {
                host, sequence, hash, ..
            } => {
                self.unpublished.push_back((leaf, Some((*host, *sequence))));
                if let Some(chain) = self.chains.get_mut(host) {
                    chain.durable = (Sequence(sequence.0.saturating_add(1)), *hash);
                }
                announce(&mut self.stored, *host, *sequence);
            }
            Committing::Statement(number) => {
                self.unpublished.push_back((leaf, None));
                self.stated.push_back(*number);
            }
        }
    }

    /// A checkpoint of this many leaves was published, or not.
    pub fn handle_publish(&mut self, now: BootNanos, result: Result<u64, StepError>) {
        if !core::mem::take(&mut self.publishing) {
            return;
        }
        self.publish_retry_at = None;
        match result {
            Ok(size) => {
                self.retry_at = None;
                self.published_at = now;
                self.published_size = size;
                while let Some((_, batch)) = self.unpublished.pop_front_if(|(leaf, _)| leaf.0 < size) {
                    let Some((host, sequence)) = batch else {
                        continue;
                    };
                    let before = Sequence(sequence.0.saturating_add(1));
                    if let Some(chain) = self.chains.get_mut(&host) {
                        chain.published_before = before;
                    }
                    announce(&mut self.published, host, before);
                }
            }
            Err(StepError::NoSpace) => {
                self.retry_at = Some(BootNanos(now.0.saturating_add(self.config.retry_ns)));
            }
            Err(StepError::Withheld) => {
                self.publish_retry_at = Some(BootNanos(now.0.saturating_add(self.config.retry_ns)));
            }
            Err(StepError::Unknown(cause)) => {
                self.failed = Some(SequencerFailed {
                    step: "publication",
                    cause,
                });
            }
        }
    }

    /// A host and the last of its batches that became durable.
    pub fn poll_stored(&mut self) -> Option<(HostId, Sequence)> {
        self.stored.pop_front()
    }

    /// A statement that became durable, in order.
    pub fn poll_stated(&mut self) -> Option<StatementNumber> {
        self.stated.pop_front()
    }

    /// A host and the first of its batches that the published checkpoint does not cover.
    pub fn poll_published(&mut self) -> Option<(HostId, Sequence)> {
        self.published.pop_front()
    }

    /// At once where the last commit is long ago; else so long after it that more may come and share the flush, but
    /// never longer after the first entry.
    fn commit_due(&self) -> Option<BootNanos> {
        if self.waiting.is_empty() {
            return None;
        }
        let full =
            self.waiting_bytes >= self.config.group_bytes || self.waiting.len() >= self.config.group_batches;
        if full {
            return Some(self.waiting_since);
        }
        let after = self.committed_at.min(self.waiting_since);
        let due = BootNanos(after.0.saturating_add(self.config.group_wait_ns));
        Some(due.max(self.waiting_since))
    }

    fn publish_due(&self) -> Option<BootNanos> {
        let due = BootNanos(self.published_at.0.saturating_add(self.config.publish_ns));
        let waits = !self.unpublished.is_empty() && !self.publishing;
        waits.then(|| self.publish_retry_at.map_or(due, |retry| retry.max(due)))
    }

    fn take_group(&mut self) -> Group {
        let mut group = Group { entries: Vec::new() };
        let mut summary = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.waiting.pop_front() {
            summary.push(Committing::of(&entry));
            bytes += entry.bytes();
            group.entries.push(entry);
            if bytes >= self.config.group_bytes || group.entries.len() >= self.config.group_batches {
                break;
            }
        }
        self.waiting_bytes -= bytes;
        self.under_way = UnderWay::Commit(summary);
        group
    }

    /// Hash and bytes of the header that waits under this sequence.
    fn find_waiting(&self, host: &HostId, sequence: Sequence) -> Option<(Hash, &[u8])> {
        let waiting = self
            .waiting
            .iter()
            .filter_map(Admitted::batch)
            .map(CheckedBatch::header)
            .find(|header| {
                let fields = header.fields();
                fields.host == *host && fields.sequence == sequence
            });
        if let Some(header) = waiting {
            return Some((header.hash(), header.bytes()));
        }
        let UnderWay::Commit(committing) = &self.under_way else {
            return None;
        };
        committing.iter().find_map(|entry| match entry {
            Committing::Batch {
                host: of,
                sequence: at,
                hash,
                header,
            } if of == host && *at == sequence => Some((*hash, header.as_slice())),
            _ => None,
        })
    }
}

/// Notes the newest position of a host, once for each run of its batches.
fn announce(queue: &mut VecDeque<(HostId, Sequence)>, host: HostId, sequence: Sequence) {
    match queue.back_mut() {
        Some(last) if last.0 == host => last.1 = sequence,
        _ => queue.push_back((host, sequence)),
    }
}

#[cfg(test)]
mod tests;
