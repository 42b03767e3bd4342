//! The thread that prunes beside the running pipeline: by the operator's rules now and then, and on request.
//!
//! Owns when: first it ends what an earlier process left, then it serves requests and the clock, one prune at a time.
//! One request may wait; a further one is told so. Ends between two groups when asked to stop.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use common::retention::{Plan, Policy};
use serde::{Deserialize, Serialize};

use super::{
    pruner::{Phase, Pruned, Pruner, RetentionError, waits},
    told::freed_in_words,
};
use crate::{config::Rule, metrics::Metrics, pipeline};

/// How long after a start, or after a prune that failed, the next one by the rules begins at the latest.
const SOON: Duration = Duration::from_secs(60);
/// Requests that may wait for the prune under way.
const WAITING_MAX: usize = 1;

/// A request to prune, with the way back. Whoever asked may go away meanwhile.
pub struct Order {
    /// What goes.
    pub policy: Policy,
    /// Hears each time that something holds it up, in words.
    pub waiting: Box<dyn FnMut(String) + Send>,
    /// Hears how it ended.
    pub done: Box<dyn FnOnce(Result<Pruned, RetentionError>) + Send>,
}

/// Another request waits already. Ask again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a prune is under way and another waits; ask again later")]
pub struct Busy;

/// What the thread is at, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// In words; empty where nothing is under way.
    pub at: String,
    /// How the last prune ended.
    pub last: String,
    /// Rules in force.
    pub rules: Vec<String>,
}

/// The way to the thread.
pub struct Keeper {
    /// Requests, and the thread that takes them; gone once it was ended.
    thread: Mutex<Option<(SyncSender<Order>, JoinHandle<()>)>>,
    pruner: Arc<Pruner>,
    progress: Arc<Mutex<Progress>>,
    stop: Arc<AtomicBool>,
}

/// Starts the thread. `stop` is the flag that `pruner` was made with.
///
/// # Errors
/// The system refuses another thread.
pub fn start(
    pruner: Pruner,
    rules: Vec<Rule>,
    interval: Duration,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
) -> std::io::Result<Keeper> {
    let (orders, queue) = sync_channel(WAITING_MAX);
    let pruner = Arc::new(pruner);
    let progress = Arc::new(Mutex::new(Progress {
        rules: rules.iter().map(ToString::to_string).collect(),
        ..Progress::default()
    }));
    let mut keeping = Keeping {
        pruner: Arc::clone(&pruner),
        rules,
        interval,
        metrics,
        progress: Arc::clone(&progress),
        queue,
    };
    let thread = thread::Builder::new()
        .name("retention".to_owned())
        .spawn(move || keeping.run())?;
    Ok(Keeper {
        thread: Mutex::new(Some((orders, thread))),
        pruner,
        progress,
        stop,
    })
}

impl Keeper {
    /// Hands a request over; it is carried out whether or not anybody waits for it.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn order(&self, order: Order) -> Result<(), Busy> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // Full, or ended: the order goes back to nobody.
        let taken = thread
            .as_ref()
            .is_some_and(|(orders, _)| orders.try_send(order).is_ok());
        if taken { Ok(()) } else { Err(Busy) }
    }

    /// For what changes nothing, and for holds, which wait for no prune.
    #[must_use]
    pub fn pruner(&self) -> &Pruner {
        &self.pruner
    }

    /// What a policy comes to now. Changes nothing.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn plan(&self, policy: &Policy) -> Result<Plan, RetentionError> {
        self.pruner.plan(policy)
    }

    /// What the thread is at.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks it to end; what is under way stops between two groups.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Waits until it has ended. It may wait for the pipeline: to be called once that has ended. Blocking.
    pub fn end(&self) {
        self.stop();
        let taken = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((orders, thread)) = taken {
            drop(orders);
            // It panicked at worst, which has been told.
            let _ = thread.join();
        }
    }
}

struct Keeping {
    pruner: Arc<Pruner>,
    rules: Vec<Rule>,
    interval: Duration,
    metrics: Arc<Metrics>,
    progress: Arc<Mutex<Progress>>,
    queue: Receiver<Order>,
}

impl Keeping {
    fn run(&mut self) {
        let mut marked = self.finish();
        let mut due = Instant::now() + self.interval.min(SOON);
        loop {
            // Without rules and with nothing left over only requests matter; the clock is looked at all the same.
            match self
                .queue
                .recv_timeout(due.saturating_duration_since(Instant::now()))
            {
                Ok(order) => marked |= self.serve(order),
                Err(RecvTimeoutError::Timeout) => {
                    marked = if marked { self.finish() } else { self.by_rules() };
                    due = Instant::now()
                        + if marked {
                            self.interval.min(SOON)
                        } else {
                            self.interval
                        };
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.pruner.stopped() {
                return;
            }
        }
    }

    /// Ends what was left over; `true` where something stays so.
    fn finish(&mut self) -> bool {
        self.metrics.prune_running.set(1);
        let outcome = self.pruner.finish(&mut |phase| self.at(phase, &mut |_| ()));
        match &outcome {
            Ok(0) => {}
            Ok(bodies) => {
                tracing::warn!(bodies, "finished an interrupted prune");
                self.ended(format!("finished an interrupted prune: {bodies} bodies removed"));
            }
            Err(error) => self.failed(error),
        }
        self.idle();
        outcome.is_err()
    }

    /// `true` where it failed.
    fn serve(&mut self, order: Order) -> bool {
        let Order {
            policy,
            mut waiting,
            done,
        } = order;
        let outcome = self.prune(&policy, true, &mut *waiting);
        let failed = outcome.is_err();
        done(outcome);
        failed
    }

    /// `true` where one failed.
    fn by_rules(&mut self) -> bool {
        let mut failed = false;
        for rule in self.rules.clone() {
            if self.pruner.stopped() {
                return failed;
            }
            let policy = rule.policy(pipeline::wall_now());
            failed |= self.prune(&policy, false, &mut |_| ()).is_err();
        }
        failed
    }

    fn prune(
        &self,
        policy: &Policy,
        measure: bool,
        waiting: &mut dyn FnMut(String),
    ) -> Result<Pruned, RetentionError> {
        self.metrics.prune_running.set(1);
        let outcome = self
            .pruner
            .prune(policy, measure, &mut |phase| self.at(phase, waiting));
        match &outcome {
            Ok(pruned) if pruned.stated.is_empty() => {}
            Ok(pruned) => {
                self.metrics.prunes.add(1);
                let words = format!("{} by policy {}", freed_in_words(&pruned.report), policy.text());
                tracing::info!(
                    bodies = pruned.report.bodies(),
                    certificates = pruned.stated.len(),
                    policy = %policy.text(),
                    "pruned"
                );
                self.ended(words);
            }
            Err(error) => self.failed(error),
        }
        self.idle();
        outcome
    }

    fn at(&self, phase: Phase, waiting: &mut dyn FnMut(String)) {
        if let Some(words) = phase.held_up() {
            tracing::warn!(words, "a prune is held up");
            waiting(words);
        }
        let words = match phase {
            Phase::Planning => "planning".to_owned(),
            Phase::Waiting { statement, .. } => waits(statement),
            Phase::Removing => "removing bodies".to_owned(),
        };
        let waits = matches!(phase, Phase::Waiting { .. });
        self.metrics.prune_waiting.set(u64::from(waits));
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).at = words;
    }

    fn idle(&self) {
        self.metrics.prune_running.set(0);
        self.metrics.prune_waiting.set(0);
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .at
            .clear();
    }

    fn ended(&self, words: String) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).last = words;
    }

    fn failed(&self, error: &RetentionError) {
        if !matches!(error, RetentionError::Stopped) {
            self.metrics.prune_failures.add(1);
            tracing::error!(%error, "a prune did not come to its end");
        }
        self.ended(error.to_string());
    }
}
