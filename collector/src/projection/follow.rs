//! A thread that indexes what was published, so that queries find it done.
//!
//! The pipeline only wakes it: nothing waits for it, and wakes that come while it works count as one. It ends
//! when the last [`Follower`] is dropped.

use std::sync::{
    Arc,
    mpsc::{SyncSender, sync_channel},
};

use super::Projection;

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
            loop {
                if let Err(error) = projection.catch_up() {
                    tracing::error!(%error, "cannot index the ledger; queries will say the same");
                }
                if woken.recv().is_err() {
                    return;
                }
            }
        })?;
    Ok(Follower(wake))
}
