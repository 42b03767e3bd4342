//! The sequencer: the collector's decisions on which batches enter the ledger, in which order, and when.
//!
//! Pipeline: *sequence* (group commit; durable, then acknowledged), *integrate and publish* (tiles,
//! checkpoint; then receipts). Owns every host's chain head. One commit or publication is under way at a
//! time. Refuses to go on once an outcome is unknown: the process restarts, and recovery reads what the
//! ledger really holds. Storage is the driver's: it carries out a [`Step`] and answers.

mod check;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};

pub use self::check::{CheckedBatch, check_batch, refusal_of};
use crate::{
    batch::{ChainFault, ChainHead, VerifiedHeader},
    ids::{BootNanos, Hash, HostId, LeafIndex, Sequence},
    session::{Refusal, RefusalCode},
};

/// How to group. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequencerConfig {
    /// A group is committed once its headers and bodies reach this, bytes.
    pub group_bytes: u64,
    /// A group is committed once it has this many batches.
    pub group_batches: usize,
    /// A group is committed once its first batch waited this long.
    pub group_wait_ns: u64,
    /// A checkpoint is published at most this often.
    pub publish_ns: u64,
    /// Batches that wait for a commit take at most this much, bytes; then agents are told to come back.
    pub waiting_bytes_max: u64,
    /// How long to wait when no space is left.
    pub retry_ns: u64,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self {
            group_bytes: 8 * 1024 * 1024,
            group_batches: 1024,
            group_wait_ns: 5_000_000,
            publish_ns: 500_000_000,
            waiting_bytes_max: 256 * 1024 * 1024,
            retry_ns: 1_000_000_000,
        }
    }
}

/// Work for the ledger, one step at a time.
#[derive(Debug)]
pub enum Step {
    /// Append these entries durably, all or none; answer with [`Sequencer::handle_commit`].
    Commit(Group),
    /// Integrate what was appended and publish a checkpoint; answer with [`Sequencer::handle_publish`].
    Publish,
}

/// Batches to be appended together, in order.
#[derive(Debug)]
pub struct Group {
    /// The batches.
    pub batches: Vec<CheckedBatch>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepError {
    /// No space is left and nothing happened.
    NoSpace,
    /// Anything else: what the ledger holds now is unknown.
    Unknown(String),
}

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

/// Why a batch was not admitted, with what an auditor needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What the agent is told.
    pub refusal: Refusal,
    /// The signed header that cannot stand beside what is held; empty where it proves nothing.
    pub offending: Vec<u8>,
    /// The signed header that it contradicts; empty where none is at hand.
    pub held: Vec<u8>,
}

/// The commit of a group whose outcome is unknown, or a publication's: the process must end and restart
/// through recovery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the outcome of a ledger {step} is unknown ({cause}): restart the collector, recovery reads what the ledger holds"
)]
pub struct SequencerFailed {
    /// Which step.
    pub step: &'static str,
    /// What storage said.
    pub cause: String,
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
    Commit(Vec<(HostId, Sequence, Hash, Vec<u8>)>),
    Publish,
}

/// The machine.
#[derive(Debug)]
pub struct Sequencer {
    config: SequencerConfig,
    chains: BTreeMap<HostId, Chain>,
    waiting: VecDeque<CheckedBatch>,
    waiting_bytes: u64,
    waiting_since: BootNanos,
    under_way: UnderWay,
    retry_at: Option<BootNanos>,
    unpublished: VecDeque<(LeafIndex, HostId, Sequence)>,
    published_size: u64,
    published_at: BootNanos,
    stored: VecDeque<(HostId, Sequence)>,
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
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_since: now,
            under_way: UnderWay::Nothing,
            retry_at: None,
            unpublished: VecDeque::new(),
            published_size,
            published_at: now,
            stored: VecDeque::new(),
            published: VecDeque::new(),
            failed: None,
        }
    }

    /// Takes a host's last header from a recovered ledger (or all its headers, in order). The ledger must
    /// have published everything it holds.
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
                Some((_, held)) => Err(equivocation(sequence, batch.header().bytes(), held)),
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
            let proves = matches!(fault, ChainFault::Previous { .. } | ChainFault::EventIndex { .. });
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
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        self.waiting_bytes += batch.bytes();
        self.waiting.push_back(batch);
        Ok(Admission::Accepted)
    }

    /// After [`Admission::Lookup`]: whether the batch is the one that is stored. `Ok` means it is, and is to
    /// be acknowledged again.
    pub fn judge_stored(batch: &CheckedBatch, stored_header: &[u8]) -> Result<(), Rejected> {
        if batch.header().bytes() == stored_header {
            return Ok(());
        }
        let sequence = batch.header().fields().sequence;
        Err(equivocation(sequence, batch.header().bytes(), stored_header))
    }

    /// The next step for the ledger, if one is due and none is under way.
    pub fn poll_step(&mut self, now: BootNanos) -> Option<Step> {
        let held_back = self.retry_at.is_some_and(|at| now < at);
        if self.failed.is_some() || held_back || !matches!(self.under_way, UnderWay::Nothing) {
            return None;
        }
        // Publishing goes first when it is due, or a steady stream of batches would starve receipts.
        if self.publish_due().is_some_and(|at| now >= at) {
            self.under_way = UnderWay::Publish;
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
        match result {
            Ok(first) => {
                self.retry_at = None;
                for (leaf, (host, sequence, hash, _)) in (first.0..).zip(committed) {
                    self.unpublished.push_back((LeafIndex(leaf), host, sequence));
                    if let Some(chain) = self.chains.get_mut(&host) {
                        chain.durable = (Sequence(sequence.0.saturating_add(1)), hash);
                    }
                    announce(&mut self.stored, host, sequence);
                }
            }
            Err((StepError::NoSpace, group)) => {
                self.waiting_bytes += group.batches.iter().map(CheckedBatch::bytes).sum::<u64>();
                for batch in group.batches.into_iter().rev() {
                    self.waiting.push_front(batch);
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

    /// A checkpoint of this many leaves was published, or not.
    pub fn handle_publish(&mut self, now: BootNanos, result: Result<u64, StepError>) {
        if !matches!(self.under_way, UnderWay::Publish) {
            return;
        }
        self.under_way = UnderWay::Nothing;
        match result {
            Ok(size) => {
                self.retry_at = None;
                self.published_at = now;
                self.published_size = size;
                while let Some((_, host, sequence)) =
                    self.unpublished.pop_front_if(|(leaf, ..)| leaf.0 < size)
                {
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

    /// A host and the first of its batches that the published checkpoint does not cover.
    pub fn poll_published(&mut self) -> Option<(HostId, Sequence)> {
        self.published.pop_front()
    }

    fn commit_due(&self) -> Option<BootNanos> {
        if self.waiting.is_empty() {
            return None;
        }
        let full =
            self.waiting_bytes >= self.config.group_bytes || self.waiting.len() >= self.config.group_batches;
        let wait = if full { 0 } else { self.config.group_wait_ns };
        Some(BootNanos(self.waiting_since.0.saturating_add(wait)))
    }

    fn publish_due(&self) -> Option<BootNanos> {
        (!self.unpublished.is_empty())
            .then(|| BootNanos(self.published_at.0.saturating_add(self.config.publish_ns)))
    }

    fn take_group(&mut self) -> Group {
        let mut group = Group { batches: Vec::new() };
        let mut summary = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = self.waiting.pop_front() {
            let fields = batch.header().fields();
            let header = batch.header().bytes().to_vec();
            summary.push((fields.host, fields.sequence, batch.header().hash(), header));
            bytes += batch.bytes();
            group.batches.push(batch);
            if bytes >= self.config.group_bytes || group.batches.len() >= self.config.group_batches {
                break;
            }
        }
        self.waiting_bytes -= bytes;
        self.under_way = UnderWay::Commit(summary);
        group
    }

    /// Hash and bytes of the header that waits under this sequence.
    fn find_waiting(&self, host: &HostId, sequence: Sequence) -> Option<(Hash, &[u8])> {
        let waiting = self.waiting.iter().map(CheckedBatch::header).find(|header| {
            let fields = header.fields();
            fields.host == *host && fields.sequence == sequence
        });
        if let Some(header) = waiting {
            return Some((header.hash(), header.bytes()));
        }
        let UnderWay::Commit(committing) = &self.under_way else {
            return None;
        };
        committing
            .iter()
            .find(|row| row.0 == *host && row.1 == sequence)
            .map(|row| (row.2, row.3.as_slice()))
    }
}

/// Notes the newest position of a host, once for each run of its batches.
fn announce(queue: &mut VecDeque<(HostId, Sequence)>, host: HostId, sequence: Sequence) {
    match queue.back_mut() {
        Some(last) if last.0 == host => last.1 = sequence,
        _ => queue.push_back((host, sequence)),
    }
}

fn rejected(code: RefusalCode, sequence: Sequence, text: &str) -> Rejected {
    Rejected {
        refusal: Refusal::fatal(code, Some(sequence), text),
        offending: Vec::new(),
        held: Vec::new(),
    }
}

fn equivocation(sequence: Sequence, offending: &[u8], held: &[u8]) -> Rejected {
    let text = format!("another batch {sequence} of this host is held: the host signed two");
    Rejected {
        refusal: Refusal::fatal(RefusalCode::Equivocation, Some(sequence), &text),
        offending: offending.to_vec(),
        held: held.to_vec(),
    }
}

#[cfg(test)]
mod tests;
