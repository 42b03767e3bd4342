//! A thread that indexes what was published and now and then takes a snapshot, so that queries find it done.
//!
//! Snapshots cost a fold of every event, which ingest must not feel: after each the thread rests four times as long
//! as that took, which bounds their share of one CPU to a fifth, and what they leave undone the first query does.
//! The pipeline only wakes it: nothing waits for it, and wakes that come while it works count as one. It ends when
//! the last [`Follower`] is dropped.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use super::{IndexError, Projection, StateError};

/// Looked for something to take a snapshot of this often where there was nothing.
const STEP_EVERY: Duration = Duration::from_secs(5);
/// Added to the thread's nice value.
const POLITE: i32 = 10;
/// Rest after a snapshot, in times of what it took.
const REST: u32 = 4;

/// Wakes the thread.
#[derive(Clone)]
pub struct Follower(SyncSender<()>);

impl Follower {
    /// Says that something was published. Never blocks.
    pub fn wake(&self) {
        // Full: it is awake already. Disconnected: it has failed, and queries index for themselves.
        let _ = self.0.try_send(());
    }
}

/// Starts the thread, which first indexes what the ledger holds already.
///
/// # Errors
/// The system refuses another thread.
pub fn follow(projection: Arc<Projection>) -> std::io::Result<Follower> {
    let (wake, woken) = sync_channel(1);
    std::thread::Builder::new()
        .name("projection".into())
        .spawn(move || {
            // Behind whatever ingest has to do. Where the system refuses, it is only less polite.
            let _ = rustix::process::nice(POLITE);
            let mut rested = Instant::now() + STEP_EVERY;
            loop {
                if let Err(error) = projection.catch_up() {
                    tracing::error!(%error, "cannot index the ledger; queries will say the same");
                }
                let begun = Instant::now();
                if begun >= rested {
                    let rest = if step(&projection) {
                        begun.elapsed().saturating_mul(REST)
                    } else {
                        STEP_EVERY
                    };
                    rested = Instant::now() + rest;
                }
                let left = rested.saturating_duration_since(Instant::now());
                if woken.recv_timeout(left) == Err(RecvTimeoutError::Disconnected) {
                    projection.save();
                    return;
                }
            }
        })?;
    Ok(Follower(wake))
}

/// Takes a snapshot; `false` where there is none to take.
fn step(projection: &Projection) -> bool {
    let generation = projection.generation();
    match projection.snapshot_step() {
        Ok(taken) => taken,
        Err(StateError::Index(IndexError::Damaged(why))) => {
            if let Err(error) = projection.distrust(generation, &why) {
                tracing::error!(%error, "cannot index the ledger; queries will say the same");
            }
            false
        }
        Err(error) => {
            tracing::warn!(%error, "no state snapshot; queries of old instants stay slow");
            false
        }
    }
}
