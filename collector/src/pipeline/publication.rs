//! A checkpoint's way through the pipeline: drafted here, integrated and stored by the publisher, shown here.
//!
//! Owns where the one that is under way stands. Groups are committed meanwhile; when the next one is due is the
//! sequencer's to say.

use common::{ids::BootNanos, sequencer::StepError};
use ledger::{Candidate, PublishError, Stored};

use super::{
    Pipeline, PipelineError,
    publisher::{Done, Job},
};
use crate::cosign::{Cosigner, Verdict};

/// Where the checkpoint under way stands.
pub(super) enum Publication {
    /// There is none.
    Idle,
    /// The publisher has it.
    AtDisk,
    /// Witnesses are being asked about it.
    AtWitnesses(Candidate),
}

impl Pipeline {
    /// Drafts the next checkpoint and has it integrated, and stored unless witnesses are to be asked first.
    pub(super) fn publish(&mut self, at: BootNanos) {
        match self.ledger.draft() {
            Ok(Some(draft)) if self.cosigner.is_some() => self.begin(at, Job::Integrate(draft)),
            Ok(Some(draft)) => self.begin(at, Job::Publish(draft)),
            Ok(None) => {
                let size = self.desk.sequencer.published_size();
                self.desk.sequencer.handle_publish(at, Ok(size));
            }
            Err(error) => self.unpublished(at, error),
        }
    }

    fn begin(&mut self, at: BootNanos, job: Job) {
        if self.publisher.begin(job) {
            self.publication = Publication::AtDisk;
        } else {
            self.gone(at, "the thread that publishes is gone");
        }
    }

    /// The publisher is done with it.
    pub(super) fn done(&mut self, at: BootNanos, done: Done, nanos: u64) {
        self.publication = Publication::Idle;
        self.metrics.publish_nanos.add(nanos);
        match done {
            Done::Integrated(Ok(candidate)) => self.ask(at, candidate),
            Done::Stored(Ok(stored)) => self.reveal(at, stored),
            Done::Integrated(Err(error)) | Done::Stored(Err(error)) => self.unpublished(at, error),
        }
    }

    /// Nobody has seen the head yet. A crash while witnesses are asked leaves the old checkpoint and at most
    /// cosignatures of one that the next start extends.
    fn ask(&mut self, at: BootNanos, candidate: Candidate) {
        let cosigner = self.cosigner.as_ref();
        if cosigner.is_some_and(|cosigner| cosigner.ask(candidate.head())) {
            self.publication = Publication::AtWitnesses(candidate);
        } else {
            self.gone(at, "the thread that asks witnesses is gone");
        }
    }

    /// Witnesses were asked about the candidate.
    pub(super) fn conclude(&mut self, at: BootNanos, verdict: &Verdict) {
        match std::mem::replace(&mut self.publication, Publication::Idle) {
            Publication::AtWitnesses(candidate) if verdict.publish => {
                self.begin(at, Job::Store(candidate, verdict.lines.clone()));
            }
            // The candidate goes; the next one extends it.
            _ => self.desk.sequencer.handle_publish(at, Err(StepError::Withheld)),
        }
    }

    /// It is durable: everybody may see it.
    fn reveal(&mut self, at: BootNanos, stored: Stored) {
        let before = self.desk.sequencer.published_size();
        let size = self.ledger.reveal(stored).checkpoint.size;
        self.metrics.published_size.set(size);
        (self.after_publish)(before..size);
        self.desk.sequencer.handle_publish(at, Ok(size));
    }

    fn unpublished(&mut self, at: BootNanos, error: PublishError) {
        tracing::error!(%error, "checkpoint not published");
        let error = match error {
            PublishError::NoSpace(_) => StepError::NoSpace,
            PublishError::Fatal(cause) => StepError::Unknown(cause),
        };
        self.desk.sequencer.handle_publish(at, Err(error));
    }

    fn gone(&mut self, at: BootNanos, cause: &str) {
        let error = StepError::Unknown(cause.to_owned());
        self.desk.sequencer.handle_publish(at, Err(error));
    }

    /// Commits and publishes what is there, whatever the timers say. What a full disk refuses stays with the
    /// agents, who were never told that it is stored; what witnesses do not cosign waits for the next start.
    pub(super) fn finish(&mut self) -> Result<(), PipelineError> {
        // Far in the future, yet early enough that "again in a second" is later still and ends the loop.
        let end = BootNanos(u64::MAX / 2);
        self.steps(end)?;
        loop {
            match &self.publication {
                Publication::Idle => return Ok(()),
                Publication::AtDisk => match self.publisher.wait() {
                    Some((done, nanos)) => self.done(end, done, nanos),
                    None => self.gone(end, "the thread that publishes is gone"),
                },
                Publication::AtWitnesses(_) => match self.cosigner.as_ref().and_then(Cosigner::wait) {
                    Some(verdict) => self.conclude(end, &verdict),
                    None => self.publication = Publication::Idle,
                },
            }
            self.settle()?;
            self.steps(end)?;
        }
    }
}
