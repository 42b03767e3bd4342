//! One prune: plan, keep what states need, certify, wait for the checkpoint, carry out.
//!
//! Owns the order: nothing is certified before the states that follow from it are kept as snapshots, and nothing goes
//! before its certificate is under a published checkpoint, which with witnesses is a cosigned one. A hold wins from
//! the moment it is stated: the pipeline refuses certificates that do not know it, and the rest is planned anew.
//! Stops between two groups when asked; the mark then tells the next start what is left.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    answer::Span,
    ids::{BootNanos, HostId, LeafIndex, Sequence, StatementNumber},
    retention::{Holds, Plan, Planner, Policy, Totals},
};
use ledger::{
    ReadError, Reader, StorageError,
    prune::{self, Change, Finished, PruneError, Report},
};

use crate::{
    metrics::Metrics,
    pipeline::{Input, NotStated, PipelineHandle, Retain, Retained},
    projection::{BatchRecord, EntryError, Projection, StateError},
};

/// Certificates stated before the first of them is carried out, so that neither memory nor what a late hold can no
/// longer save grows with the prune.
const CERTIFICATES_AT_ONCE: usize = 16;
/// Plans made anew because holds changed meanwhile, before it is left to the next prune.
const PLANS_MAX: usize = 8;
/// How often to look whether the certificate is published.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Waiting for a checkpoint longer than this is said: something else than the publish interval is in the way.
const WAIT_UNSAID: Duration = Duration::from_secs(2);

/// Why nothing was pruned, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// Pruning failed; what is certified and still there goes with the next prune or start.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What queries rest on cannot be read or indexed.
    #[error(transparent)]
    Projection(#[from] StateError),
    /// The state before what stays cannot be told, so nothing was pruned.
    #[error(
        "nothing was pruned, for what answers need of host {host} behind {batches} batches could not be kept: {cause}"
    )]
    State {
        /// Which host.
        host: HostId,
        /// Batches that it would stand for.
        batches: usize,
        /// Why.
        cause: String,
    },
    /// Nothing more was stated.
    #[error(transparent)]
    NotStated(#[from] NotStated),
    /// A certificate is not under a checkpoint yet; it is carried out later.
    #[error("certificate {0} is not published yet; what it names goes later")]
    Unpublished(StatementNumber),
    /// The collector stops.
    #[error("the collector stops; what is certified and still there goes after its next start")]
    Stopped,
}

/// What a prune did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// What was planned, and certified unless a hold came in between.
    pub plan: Plan,
    /// The certificates stated.
    pub stated: Vec<StatementNumber>,
    /// What was removed.
    pub report: Report,
}

/// What a prune is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading which bodies there are, and keeping states.
    Planning,
    /// The certificate is durable and waits for its checkpoint; nothing went yet.
    Waiting {
        /// The certificate.
        statement: StatementNumber,
        /// Whether that takes longer than publishing does.
        long: bool,
    },
    /// Groups are rewritten.
    Removing,
}

impl Phase {
    /// What holds the prune up, where something does.
    #[must_use]
    pub fn held_up(&self) -> Option<String> {
        match self {
            Self::Waiting {
                statement,
                long: true,
            } => Some(waits(*statement)),
            _ => None,
        }
    }
}

/// What a certificate waits for, in words.
pub(super) fn waits(statement: StatementNumber) -> String {
    format!(
        "certificate {statement} is durable and waits for a published checkpoint; nothing is removed before"
    )
}

/// Whoever follows a prune.
pub(super) type Tell<'a> = &'a mut dyn FnMut(Phase);

/// Prunes beside a running pipeline. One at a time: whoever holds it calls it from one thread.
pub struct Pruner {
    reader: Reader,
    projection: Arc<Projection>,
    pipeline: PipelineHandle,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
}

impl Pruner {
    /// Over a running pipeline, `reader` and `projection` of its ledger. Once `stop` is set it ends as soon as the
    /// group under way is whole.
    #[must_use]
    pub fn new(
        reader: Reader,
        projection: Arc<Projection>,
        pipeline: PipelineHandle,
        metrics: Arc<Metrics>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            reader,
            projection,
            pipeline,
            metrics,
            stop,
        }
    }

    /// The ledger, for reading.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Has something stated.
    ///
    /// # Errors
    /// [`NotStated`].
    pub fn retain(&self, what: Retain) -> Result<Retained, NotStated> {
        self.pipeline.retain(what)
    }

    /// What a policy comes to now. Changes nothing.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn plan(&self, policy: &Policy) -> Result<Plan, RetentionError> {
        let holds = self.retain(Retain::Holds)?.holds;
        plan(&self.reader, policy, holds)
    }

    /// Prunes by a policy. Ends what an earlier prune left first. `measure` has the whole directory measured before and
    /// after.
    ///
    /// # Errors
    /// [`RetentionError`]. Whatever is certified by then is carried out later.
    pub fn prune(&self, policy: &Policy, measure: bool, tell: Tell<'_>) -> Result<Pruned, RetentionError> {
        self.finish(tell)?;
        tell(Phase::Planning);
        let mut done = Pruned::default();
        if measure {
            done.report.before = prune::usage(&self.reader)?;
            (done.report.stated, done.report.after) = (done.report.before, done.report.before);
        }
        for _ in 0..PLANS_MAX {
            let plan = self.plan(policy)?;
            if done.stated.is_empty() {
                done.plan.clone_from(&plan);
            }
            self.keep_states(&plan)?;
            if self.carry_out(plan, measure, &mut done, tell)? {
                if measure {
                    done.report.after = prune::usage(&self.reader)?;
                }
                return Ok(done);
            }
        }
        Err(NotStated::HoldsChanged.into())
    }

    /// Certifies and removes, some certificates at a time; `false` where a hold came in between, and the rest is to be
    /// planned anew.
    fn carry_out(
        &self,
        plan: Plan,
        measure: bool,
        done: &mut Pruned,
        tell: Tell<'_>,
    ) -> Result<bool, RetentionError> {
        let mut certificates = plan.certificates.into_iter().peekable();
        while certificates.peek().is_some() {
            if self.stopped() {
                return Err(RetentionError::Stopped);
            }
            prune::begin(&self.reader).map_err(|error| self.grave(error))?;
            let mut last = None;
            let mut refused = None;
            for certificate in certificates.by_ref().take(CERTIFICATES_AT_ONCE) {
                match self.retain(Retain::Certify(certificate)) {
                    Ok(stated) => last = stated.number.or(last),
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
                done.stated.extend(last);
            }
            // Where the pipeline ended nobody knows whether a certificate is durable: the mark stays, the next start
            // looks.
            if let Some(NotStated::Ended) = refused {
                return Err(RetentionError::Stopped);
            }
            match last {
                Some(last) => {
                    let leaf = self.leaf_of(last)?;
                    self.await_published(leaf.0.saturating_add(1), last, tell)?;
                    if measure && done.report.changes.is_empty() {
                        done.report.stated = prune::usage(&self.reader)?;
                    }
                    tell(Phase::Removing);
                    self.remove(false, &mut |change| done.report.changes.push(change))?;
                }
                None => prune::abandon(&self.reader).map_err(|error| self.grave(error))?,
            }
            match refused {
                None => {}
                Some(NotStated::HoldsChanged) => return Ok(false),
                Some(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Carries out what an earlier prune left: after a crash, a stop, or a disk that was full. Returns the bodies
    /// removed.
    ///
    /// # Errors
    /// [`RetentionError`]; what is left stays marked.
    pub fn finish(&self, tell: Tell<'_>) -> Result<u64, RetentionError> {
        if !prune::is_marked(&self.reader)? {
            return Ok(0);
        }
        // A certificate may be among the leaves that wait for a checkpoint.
        if let Some(record) = self.reader.host_head(&HostId::COLLECTOR)? {
            let through = record.leaf.0.saturating_add(1);
            self.await_published(through, StatementNumber(record.sequence.0), tell)?;
        }
        tell(Phase::Removing);
        let mut bodies = 0;
        self.remove(true, &mut |change| bodies += change.bodies)?;
        Ok(bodies)
    }

    fn remove(&self, again: bool, note: &mut dyn FnMut(Change)) -> Result<(), RetentionError> {
        let finished = prune::finish(&self.reader, again, &mut |change| {
            if let Some(change) = change {
                let metrics = &self.metrics;
                metrics.pruned_bodies.add(change.bodies);
                metrics.pruned_body_bytes.add(change.body_bytes);
                let freed = change.before.disk.saturating_sub(change.after.disk);
                metrics.pruned_freed_bytes.add(freed);
                note(change);
            }
            !self.stopped()
        });
        match finished.map_err(|error| self.grave(error))? {
            Finished::Stopped => Err(RetentionError::Stopped),
            Finished::Unpublished(number) => Err(RetentionError::Unpublished(number)),
            Finished::Nothing | Finished::Done => Ok(()),
        }
    }

    /// An outcome that nobody knows ends the process, as one of a commit does: only a new start may look.
    fn grave(&self, error: PruneError) -> RetentionError {
        if let PruneError::Storage(StorageError::Unknown { .. }) = &error {
            // Whether or not it hears of it, it ends.
            let _ = self.pipeline.send_blocking(Input::PruneFailed(error.to_string()));
        }
        error.into()
    }

    fn leaf_of(&self, statement: StatementNumber) -> Result<LeafIndex, RetentionError> {
        let found = self.reader.find(&HostId::COLLECTOR, Sequence(statement.0))?;
        let leaves = self.reader.leaves();
        let leaf = LeafIndex(leaves);
        Ok(found.ok_or(ReadError::NoSuchLeaf { leaf, leaves })?.leaf)
    }

    /// Waits until the checkpoint on disk covers `size` leaves: what goes must not come back as wanted.
    fn await_published(
        &self,
        size: u64,
        statement: StatementNumber,
        tell: Tell<'_>,
    ) -> Result<(), RetentionError> {
        let begun = Instant::now();
        let mut long = false;
        tell(Phase::Waiting { statement, long });
        while self.reader.stored_size() < size {
            if self.stopped() || self.pipeline.has_ended() {
                return Err(RetentionError::Stopped);
            }
            if !long && begun.elapsed() > WAIT_UNSAID {
                long = true;
                tell(Phase::Waiting { statement, long });
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Keeps the state behind every stretch of batches that goes, so that what stays can still be answered.
    fn keep_states(&self, plan: &Plan) -> Result<(), RetentionError> {
        if plan.certificates.is_empty() {
            return Ok(());
        }
        self.projection.catch_up()?;
        let mut wanted: BTreeMap<HostId, Wanted> = BTreeMap::new();
        for host in self.projection.hosts() {
            let Some(chain) = self.projection.chain(&host) else {
                continue;
            };
            let mut found = Wanted::default();
            let walked = chain.walk(0, |record| {
                found.look(record, plan);
                ControlFlow::Continue(())
            });
            walked.map_err(StateError::from)?;
            wanted.insert(host, found);
        }
        for (host, Wanted { ends, lossy, .. }) in wanted {
            let refused = |batches, cause: String| RetentionError::State { host, batches, cause };
            for batches in ends {
                if self.stopped() {
                    return Err(RetentionError::Stopped);
                }
                match self.projection.keep_state(&host, batches) {
                    Ok(true) => {}
                    Ok(false) => return Err(refused(batches, "the disk would not keep the snapshot".into())),
                    // An earlier prune whose snapshots are gone: what it left unknown stays so.
                    Err(StateError::Entry(EntryError { pruned: Some(_), .. })) => {}
                    Err(error) => return Err(refused(batches, error.to_string())),
                }
            }
            self.projection
                .keep_losses(&host, &lossy)
                .map_err(|error| refused(lossy.len(), error.to_string()))?;
        }
        Ok(())
    }
}

/// What must be kept of one host before a plan is carried out.
#[derive(Default)]
struct Wanted {
    /// How many batches stand before each end of a stretch that goes.
    ends: Vec<usize>,
    /// Batches that go and report losses of instants that a batch before them, which stays, answers for.
    lossy: Vec<Span>,
    going: bool,
    /// Where the last batch of this run that stays ends.
    stays_until: Option<BootNanos>,
}

impl Wanted {
    fn look(&mut self, record: &BatchRecord, plan: &Plan) {
        let span = &record.span;
        if span.flags.first_since_start {
            self.stays_until = None;
        }
        if span.event_count == 0 {
            return;
        }
        let goes = plan.names(span.leaf);
        if self.going && !goes {
            self.ends.push(record.position());
        }
        self.going = goes;
        if !goes {
            self.stays_until = Some(span.until_boot);
        } else if record.losses > 0
            && self
                .stays_until
                .is_some_and(|until| record.loss_not_before <= until)
        {
            self.lossy.push(*span);
        }
    }
}

/// What a policy comes to over the published ledger where `holds` are in force.
fn plan(reader: &Reader, policy: &Policy, holds: Holds) -> Result<Plan, RetentionError> {
    let mut totals = Totals::default();
    prune::survey(reader, &mut |batch| totals.count(batch))?;
    let mut planner = Planner::new(policy.clone(), holds, totals);
    prune::survey(reader, &mut |batch| planner.push(batch))?;
    Ok(planner.finish())
}
