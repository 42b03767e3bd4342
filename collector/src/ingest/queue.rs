//! Batches that arrived and wait for their share of the bytes in flight.
//!
//! Owns the bound over all connections: a batch goes on only with a share, which the pipeline gives back when
//! the batch is stored. Waiting is the back-pressure, for a connection reads nothing while it waits.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

/// Shares are counted in units of this many bytes.
const SHARE_BYTES: usize = 1024;

/// A batch with its share; `None` when nothing is stored any more.
pub(super) type Shared = Option<(Vec<u8>, Vec<u8>, OwnedSemaphorePermit)>;

type Share = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// The pool of `bytes` that all connections share.
#[must_use]
pub fn pool(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes / SHARE_BYTES))
}

/// The batches of one connection, in order.
pub(super) struct Queue {
    batches: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// The share that the first of them waits for; kept, so that its turn is not lost.
    share: Option<Share>,
    pool: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Queue {
    pub(super) fn new(pool: Arc<Semaphore>, metrics: Arc<Metrics>) -> Self {
        Self {
            batches: VecDeque::new(),
            share: None,
            pool,
            metrics,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn push(&mut self, header: Vec<u8>, body: Vec<u8>) {
        self.metrics
            .inflight_bytes
            .add((header.len() + body.len()) as u64);
        self.batches.push_back((header, body));
    }

    /// The first batch, once there is a share for it. Never ready while empty; cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Shared {
        let Some((header, body)) = self.batches.front() else {
            return pending().await;
        };
        let bytes = header.len() + body.len();
        let pool = &self.pool;
        let share = self.share.get_or_insert_with(|| {
            let units = u32::try_from(bytes.div_ceil(SHARE_BYTES)).unwrap_or(u32::MAX);
            let pool = Arc::clone(pool);
            Box::pin(async move { pool.acquire_many_owned(units).await.ok() })
        });
        let permit = share.await;
        self.share = None;
        self.metrics.inflight_bytes.sub(bytes as u64);
        let (header, body) = self.batches.pop_front()?;
        Some((header, body, permit?))
    }

    /// Forgets what waits: the session is over.
    pub(super) fn clear(&mut self) {
        let waiting: usize = self
            .batches
            .iter()
            .map(|(header, body)| header.len() + body.len())
            .sum();
        self.metrics.inflight_bytes.sub(waiting as u64);
        self.batches.clear();
        self.share = None;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_batch_waits_until_its_share_is_given_back() {
        let metrics = Arc::new(Metrics::default());
        let pool = pool(4096);
        let mut queue = Queue::new(pool, Arc::clone(&metrics));
        queue.push(vec![0; 24], vec![0; 3000]);
        queue.push(vec![0; 24], vec![0; 3000]);
        let (_, _, first) = queue.next().await.unwrap();
        let soon = Duration::from_millis(1);
        assert!(
            tokio::time::timeout(soon, queue.next()).await.is_err(),
            "no share is left"
        );
        assert_eq!(metrics.inflight_bytes.get(), 3024);
        drop(first);
        assert!(queue.next().await.is_some());
        assert_eq!(metrics.inflight_bytes.get(), 0);
        queue.push(vec![0; 24], vec![0; 10]);
        drop(queue);
        assert_eq!(
            metrics.inflight_bytes.get(),
            0,
            "what is forgotten is not in flight"
        );
    }
}
