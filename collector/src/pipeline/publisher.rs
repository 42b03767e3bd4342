//! The thread that waits for the disk while a checkpoint becomes durable, so that groups are committed meanwhile.
//!
//! Owns no decision: the pipeline hands it a draft or a candidate and takes back what came of it, one at a time.

use std::{
    io,
    sync::mpsc::{self, Receiver, SyncSender},
    thread::{self, JoinHandle},
    time::Instant,
};

use ledger::{Candidate, Draft, PublishError, Stored};

use super::nanos_since;

/// What the thread is given.
pub(super) enum Job {
    /// Make the tiles durable and hand the candidate back: witnesses are asked next.
    Integrate(Draft),
    /// Make a candidate durable with these cosignatures.
    Store(Candidate, String),
    /// Both, without cosignatures.
    Publish(Draft),
}

/// What came of it.
pub(super) enum Done {
    Integrated(Result<Candidate, PublishError>),
    Stored(Result<Stored, PublishError>),
}

/// The running thread.
pub(super) struct Publisher {
    /// `None` once it is to end.
    jobs: Option<SyncSender<Job>>,
    /// Each with how long it took, nanoseconds.
    done: Receiver<(Done, u64)>,
    thread: Option<JoinHandle<()>>,
}

/// Whoever goes on after the pipeline finds nothing of the ledger in use.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.jobs = None;
        // One that panicked has ended as well.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Publisher {
    /// Starts it. `wake` is called whenever something is done.
    pub(super) fn start(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (jobs, given) = mpsc::sync_channel::<Job>(1);
        let (tell, done) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                while let Ok(job) = given.recv() {
                    let begun = Instant::now();
                    let done = carry_out(job);
                    if tell.send((done, nanos_since(begun))).is_err() {
                        return;
                    }
                    wake();
                }
            })?;
        Ok(Self {
            jobs: Some(jobs),
            done,
            thread: Some(thread),
        })
    }

    /// Hands a job over; `false` if the thread is gone. One at a time.
    #[must_use]
    pub(super) fn begin(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// What is done, if anything is.
    pub(super) fn poll(&self) -> Option<(Done, u64)> {
        self.done.try_recv().ok()
    }

    /// Waits for what is under way, as long as the disk takes; `None` if the thread is gone.
    pub(super) fn wait(&self) -> Option<(Done, u64)> {
        self.done.recv().ok()
    }
}

fn carry_out(job: Job) -> Done {
    match job {
        Job::Integrate(draft) => Done::Integrated(draft.integrate()),
        Job::Store(candidate, cosignatures) => Done::Stored(candidate.store(&cosignatures)),
        Job::Publish(draft) => {
            let stored = draft.integrate().and_then(|candidate| candidate.store(""));
            Done::Stored(stored)
        }
    }
}
