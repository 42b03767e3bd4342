//! The threads that answer queries.
//!
//! A few of their own, and not whichever may block: an answer takes megabytes while it is made, and the allocator keeps
//! for each thread what it once took. So this is bounded by their number. Refuses nothing: whoever comes when all are
//! taken waits; a query that panics ends itself alone.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use tokio::sync::{Semaphore, oneshot};

/// One query, with the way back.
type Task = Box<dyn FnOnce() + Send>;

/// A query ended without an answer: it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the query ended without an answer")]
pub(super) struct NoAnswer;

/// The way to the threads, which end with it.
pub(super) struct Threads {
    tasks: Sender<Task>,
    /// As many as there are threads, so that no query waits in the channel.
    free: Arc<Semaphore>,
}

impl Threads {
    /// Starts so many.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (tasks, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("query-{number}"))
                .spawn(move || work(&queue))?;
        }
        Ok(Self {
            tasks,
            free: Arc::new(Semaphore::new(threads)),
        })
    }

    /// Runs a query on one of them once one is free. It runs to its end even where nobody waits any more.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let turn = Arc::clone(&self.free).acquire_owned();
        let turn = turn.await.map_err(|_| NoAnswer)?;
        let (reply, answer) = oneshot::channel();
        let task = move || {
            let answered = query();
            drop(turn);
            // Nobody may be there to hear it.
            let _ = reply.send(answered);
        };
        self.tasks.send(Box::new(task)).map_err(|_| NoAnswer)?;
        answer.await.map_err(|_| NoAnswer)
    }
}

fn work(queue: &Mutex<Receiver<Task>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = next else {
            return;
        };
        // The panic has been told, and whoever waits hears that there is no answer.
        let _ = catch_unwind(AssertUnwindSafe(task));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    #[tokio::test]
    async fn every_query_is_answered_by_one_of_the_threads_and_a_panic_ends_none_of_them() {
        let threads = Arc::new(Threads::start(2).unwrap());
        let asked: Vec<_> = (0..40_u32)
            .map(|number| {
                let threads = Arc::clone(&threads);
                tokio::spawn(async move {
                    let query = move || {
                        thread::sleep(Duration::from_millis(1));
                        assert!(number % 10 != 3, "this one panics");
                        (number, thread::current().id())
                    };
                    threads.run(query).await
                })
            })
            .collect();
        let mut seen = HashSet::new();
        for (number, asked) in (0..).zip(asked) {
            match asked.await.unwrap() {
                Ok((answered, thread)) => {
                    assert_eq!(answered, number);
                    seen.insert(thread);
                }
                Err(NoAnswer) => assert_eq!(number % 10, 3),
            }
        }
        assert!(!seen.contains(&thread::current().id()));
        assert!((1..=2).contains(&seen.len()), "{} threads answered", seen.len());
    }
}
