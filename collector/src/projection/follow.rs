//! A thread that indexes what was published and now and then takes a snapshot, so that queries find it done.
//!
//! Snapshots cost a fold of every event, which ingest must not feel: one step in [`STEP_EVERY`] bounds their
//! share of the CPU, and what they leave undone the first query does. The pipeline only wakes it: nothing waits for it, and wakes that come while it works count as one. It ends
//! when the last [`Follower`] is dropped.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use super::Projection;

/// A snapshot is taken at most this often.
const STEP_EVERY: Duration = Duration::from_secs(5);

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
            let mut stepped = Instant::now();
            loop {
                if let Err(error) = projection.catch_up() {
                    tracing::error!(%error, "cannot index the ledger; queries will say the same");
                }
                if stepped.elapsed() >= STEP_EVERY {
                    if let Err(error) = projection.snapshot_step() {
                        tracing::warn!(%error, "no state snapshot; queries of old instants stay slow");
                    }
                    stepped = Instant::now();
                }
                if woken.recv_timeout(STEP_EVERY) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        })?;
    Ok(Follower(wake))
}
