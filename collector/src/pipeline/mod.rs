//! The pipeline: the one thread that owns sequencer and ledger.
//!
//! Sequence (group commit; durable, then acknowledged), publish (the checkpoint of what is durable; then receipts) and
//! integrate (tiles and checkpoint on disk; before they are shown, where witnesses are asked). When to do which is the sequencer's decision; this thread carries the steps out and their
//! outcomes back, but for a checkpoint's waits, which have a thread of their own. Owns which connection speaks for
//! which host. Refuses to go on after an outcome nobody knows.

mod desk;
mod publication;
mod publisher;
mod recover;
mod retaining;
mod standing;
mod stating;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{
    ids::{BootNanos, Hash, HostId, Nonce, Sequence},
    sequencer::{CheckedBatch, Group, Sequencer, SequencerConfig, SequencerFailed, Step, StepError},
    watchman::Registered,
};
use ledger::{AppendError, Entry, Ledger};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

pub(crate) use self::stating::wall_now;
use self::{desk::Desk, publication::Publication, publisher::Publisher, stating::Stating};
pub use self::{
    recover::{RecoverError, Recovery, recover},
    retaining::{NotStated, Retain, Retained, Retaining},
};
use crate::{
    config::Config,
    cosign::{Board, Cosigner, Witnesses, WitnessesError},
    evidence::EvidenceStore,
    mailbox::Mailbox,
    metrics::Metrics,
};
pub use ledger::audit::describe;

/// Inputs that may wait for the thread; connections wait when it is full.
const QUEUE_MAX: usize = 1024;
/// How long to wait before asking a full disk again.
const RETRY: Duration = Duration::from_secs(1);

/// Names one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(pub u64);

/// What connections tell the thread.
pub enum Input {
    /// An agent said hello; answered with an opening. It takes over from any earlier connection of its host.
    Open {
        /// Its host.
        host: HostId,
        /// The connection.
        connection: ConnectionId,
        /// Where the agent says that its chain stands: its next batch, and the hash of the last header.
        agent: (Sequence, Hash),
        /// A fresh nonce.
        nonce: Nonce,
        /// Where answers go.
        mailbox: Mailbox,
    },
    /// A checked batch.
    Submit(Box<Submission>),
    /// A connection's agent is given another nonce.
    Nonce {
        /// Its host.
        host: HostId,
        /// The nonce.
        nonce: Nonce,
    },
    /// The hosts that are registered, all of them.
    Register(Vec<Registered>),
    /// The connection is gone.
    Closed {
        /// Its host.
        host: HostId,
        /// The connection.
        connection: ConnectionId,
    },
    /// Retention has something to be stated.
    Retain(Box<Retaining>),
    /// Pruning ended with an outcome that nobody knows: only a new start may go on.
    PruneFailed(String),
    /// The disk or the witnesses are done with a checkpoint.
    Done,
    /// Commit and publish what is there, then end.
    Stop,
}

/// A checked batch on its way into the ledger.
pub struct Submission {
    /// The connection it came on.
    pub connection: ConnectionId,
    /// The batch.
    pub batch: CheckedBatch,
    /// Where it came from, for evidence.
    pub peer: String,
    /// Its share of the bytes in flight, given back when it is stored.
    pub permit: OwnedSemaphorePermit,
}

/// Called after each checkpoint that was stored, on the pipeline's thread: be quick or hand the work on.
pub type AfterStore = Box<dyn FnMut() + Send>;

/// How the rest of the program speaks to the thread.
#[derive(Debug, Clone)]
pub struct PipelineHandle {
    inputs: mpsc::Sender<Input>,
}

impl PipelineHandle {
    /// Hands an input over, waiting while the queue is full; `false` when the thread has ended.
    pub async fn send(&self, input: Input) -> bool {
        self.inputs.send(input).await.is_ok()
    }

    /// The same from a thread of its own.
    #[must_use]
    pub fn send_blocking(&self, input: Input) -> bool {
        self.inputs.blocking_send(input).is_ok()
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.inputs.is_closed()
    }
}

/// Why the thread ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A step's outcome is unknown.
    #[error(transparent)]
    Failed(#[from] SequencerFailed),
    /// What the ledger says of its hosts cannot be taken up.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The thread could not be started.
    #[error("cannot start the pipeline's thread: {0}")]
    Start(std::io::Error),
    /// The witnesses' threads.
    #[error(transparent)]
    Witnesses(#[from] WitnessesError),
}

/// A running pipeline.
pub struct Running {
    /// How to speak to it.
    pub handle: PipelineHandle,
    /// Its outcome, once it has ended.
    pub ended: oneshot::Receiver<Result<(), PipelineError>>,
}

/// Starts the thread over a recovered ledger.
pub fn start(
    recovery: Recovery,
    config: &Config,
    metrics: Arc<Metrics>,
    evidence: EvidenceStore,
    witnesses: Option<(Witnesses, Arc<Board>)>,
    after_store: AfterStore,
) -> Result<Running, PipelineError> {
    let (inputs, queue) = mpsc::channel(QUEUE_MAX);
    let (outcome, ended) = oneshot::channel();
    let mut stating = Stating::recover(&recovery, config, now(recovery.epoch))?;
    let Recovery {
        ledger,
        chains,
        last_statement,
        standing_file,
        unpublished,
        epoch,
        ..
    } = recovery;
    stating.keep_in(standing_file).map_err(PipelineError::Start)?;
    let reader = ledger.reader();
    let published = reader.published().checkpoint.size;
    let mut sequencer = Sequencer::new(sequencer_config(config), published, now(epoch));
    for header in &chains {
        // The recovery has verified each of them as the end of its chain.
        if let Err(fault) = sequencer.restore(header) {
            return Err(PipelineError::Failed(SequencerFailed {
                step: "recovery",
                cause: fault.to_string(),
            }));
        }
    }
    if let Some(statement) = &last_statement
        && let Err(fault) = sequencer.restore_statement(statement)
    {
        return Err(PipelineError::Failed(SequencerFailed {
            step: "recovery",
            cause: fault.to_string(),
        }));
    }
    for (leaf, batch) in unpublished {
        sequencer.restore_unpublished(leaf, batch);
    }
    let wake = || {
        // Weak: the thread's life must not hang on the wish to wake it.
        let queue = inputs.downgrade();
        move || {
            if let Some(queue) = queue.upgrade() {
                // Full or closed, the thread looks by itself.
                let _ = queue.try_send(Input::Done);
            }
        }
    };
    let publisher = Publisher::start(wake()).map_err(PipelineError::Start)?;
    let cosigner = witnesses
        .map(|(witnesses, board)| Cosigner::start(witnesses, &reader, board, wake()))
        .transpose()?;
    metrics.leaves.set(reader.leaves());
    metrics.published_size.set(published);
    let mut pipeline = Pipeline {
        desk: Desk::new(sequencer, stating, reader, Arc::clone(&metrics), evidence),
        ledger,
        metrics,
        epoch,
        after_store,
        publisher,
        cosigner,
        publication: Publication::Idle,
        publish_interval: config.publish_interval,
        store_at: now(epoch),
        queue,
    };
    thread::Builder::new()
        .name("pipeline".to_owned())
        .spawn(move || {
            let result = pipeline.run();
            // Whoever hears of the end may open the ledger anew.
            drop(pipeline);
            // Nobody listens when the program is going down already.
            let _ = outcome.send(result);
        })
        .map_err(PipelineError::Start)?;
    Ok(Running {
        handle: PipelineHandle { inputs },
        ended,
    })
}

fn sequencer_config(config: &Config) -> SequencerConfig {
    // Where nobody is asked, a checkpoint is shown with each group: it costs a signature.
    let witnessed = config.witnesses.as_ref();
    let publish = witnessed.map(|_| config.witness_interval.max(config.publish_interval));
    SequencerConfig {
        group_bytes: config.commit_bytes_max as u64,
        group_batches: config.commit_batches_max,
        group_wait_ns: nanos_of(config.commit_delay),
        publish_ns: nanos_of(publish.unwrap_or_default()),
        // What connections may have under way is bounded before; this is the backstop.
        waiting_bytes_max: config.inflight_bytes_max as u64 * 2,
        retry_ns: nanos_of(RETRY),
    }
}

/// Monotonic time since the program started, the same for sessions and sequencer.
pub(crate) fn now(epoch: Instant) -> BootNanos {
    BootNanos(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

struct Pipeline {
    desk: Desk,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    epoch: Instant,
    after_store: AfterStore,
    publisher: Publisher,
    cosigner: Option<Cosigner>,
    publication: Publication,
    publish_interval: Duration,
    /// Not before this is the next checkpoint stored, where it is shown before.
    store_at: BootNanos,
    queue: mpsc::Receiver<Input>,
}

impl Pipeline {
    fn run(&mut self) -> Result<(), PipelineError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(PipelineError::Start)?;
        loop {
            // What came until now has been handed over, so that nobody is called silent whose batch waits here.
            let at = now(self.epoch);
            self.desk.say(at);
            self.steps(at)?;
            let due = self.desk.poll_timeout();
            let due = self.store_due().map_or(due, |store| store.min(due));
            let first = runtime.block_on(self.next_input(due));
            // What queued up while a step ran goes into one group.
            let mut next = match first {
                Awaited::Input(input) => Some(input),
                Awaited::Due => continue,
                Awaited::Gone => None,
            };
            while let Some(input) = next {
                match input {
                    Input::Stop => return self.finish(),
                    Input::PruneFailed(cause) => return self.fail("prune", cause),
                    input => self.desk.handle(now(self.epoch), input),
                }
                next = self.queue.try_recv().ok();
            }
            if self.queue.is_closed() && self.queue.is_empty() {
                return self.finish();
            }
        }
    }

    async fn next_input(&mut self, due: BootNanos) -> Awaited {
        let input = async { self.queue.recv().await.map_or(Awaited::Gone, Awaited::Input) };
        let wait = Duration::from_nanos(due.0.saturating_sub(now(self.epoch).0));
        tokio::time::timeout(wait, input).await.unwrap_or(Awaited::Due)
    }

    /// Carries out every step that is due.
    fn steps(&mut self, at: BootNanos) -> Result<(), PipelineError> {
        if let Some((done, nanos)) = self.publisher.poll() {
            self.done(at, done, nanos)?;
            self.settle()?;
        }
        if let Some(verdict) = self.cosigner.as_ref().and_then(Cosigner::poll) {
            self.conclude(at, &verdict);
            self.settle()?;
        }
        while let Some(step) = self.desk.sequencer.poll_step(at) {
            let committed = matches!(step, Step::Commit(_));
            match step {
                Step::Commit(group) => self.commit(at, group),
                Step::Publish => self.publish(at),
            }
            // Where nobody is asked, a commit's checkpoint is shown next: one word to each connection tells of both.
            if !committed || self.cosigner.is_some() {
                self.settle()?;
            }
        }
        self.settle()?;
        self.store(at)
    }

    /// Tells everybody what a step brought, or that it failed.
    fn settle(&mut self) -> Result<(), PipelineError> {
        if let Some(failed) = self.desk.sequencer.failed() {
            let failed = failed.clone();
            self.desk.tell_failure(&failed);
            return Err(failed.into());
        }
        self.desk.announce();
        Ok(())
    }

    /// Ends because of a step of somebody else's whose outcome is unknown.
    fn fail(&self, step: &'static str, cause: String) -> Result<(), PipelineError> {
        let failed = SequencerFailed { step, cause };
        self.desk.tell_failure(&failed);
        Err(failed.into())
    }

    /// *Sequence*: one group, durable or not at all.
    fn commit(&mut self, at: BootNanos, group: Group) {
        let begun = Instant::now();
        let entries: Vec<Entry<'_>> = group
            .entries
            .iter()
            .map(|entry| Entry {
                header: entry.entry(),
                body: entry.body(),
            })
            .collect();
        let result = self.ledger.append_group(&entries);
        drop(entries);
        self.metrics.commit_nanos.add(nanos_since(begun));
        let result = match result {
            Ok(first) => {
                self.metrics.groups.add(1);
                self.desk.count_stored(&group);
                self.metrics.leaves.set(first.0 + group.entries.len() as u64);
                Ok(first)
            }
            Err(error) => {
                tracing::error!(%error, entries = group.entries.len(), "group not committed");
                self.desk.backlog = matches!(error, AppendError::Backlog(_));
                Err((step_error(error), group))
            }
        };
        self.desk.sequencer.handle_commit(at, result);
    }
}

enum Awaited {
    Input(Input),
    Due,
    Gone,
}

fn step_error(error: AppendError) -> StepError {
    match error {
        // A backlog comes from a disk too full to publish, or from witnesses who do not cosign.
        AppendError::NoSpace(_) | AppendError::Backlog(_) => StepError::NoSpace,
        AppendError::Refused(bad) => StepError::Unknown(bad.to_string()),
        AppendError::Fatal(cause) => StepError::Unknown(cause),
    }
}

fn nanos_since(begun: Instant) -> u64 {
    nanos_of(begun.elapsed())
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
