//! The request to stop in order, seen by every task.

use tokio::sync::watch;

/// Whoever may ask for the stop.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<bool>);

/// Whoever must heed it.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A new pair.
#[must_use]
pub fn channel() -> (StopHandle, Stop) {
    let (sender, receiver) = watch::channel(false);
    (StopHandle(sender), Stop(receiver))
}

impl StopHandle {
    /// Asks everybody to stop. Asking twice is harmless.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once the stop is requested, or nobody is left who could.
    pub async fn requested(mut self) {
        // An error means that the handle is gone, and with it the program's main task.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
