//! A checkpoint's way through the pipeline: drafted here, integrated and stored by the publisher, shown here.
//!
//! Where no witness is asked it is shown as soon as its leaves are durable, and stored a moment later, with all that
//! came meanwhile; else it is shown once it is cosigned and stored. Owns where the one that is under way stands, and
//! when the next is stored. Groups are committed meanwhile; when one is due to be shown is the sequencer's to say.

use std::time::Duration;

use common::{ids::BootNanos, sequencer::StepError};
use ledger::{Candidate, PublishError};

use super::{
    Pipeline, PipelineError, RETRY, nanos_of,
    publisher::{Done, Job},
};
use crate::cosign::{Cosigner, Verdict};

/// What fails here, for whoever is told.
const STEP: &str = "publication";
const GONE: &str = "the thread that publishes is gone";

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
    /// Shows the next checkpoint, or drafts it and has it integrated where witnesses are to be asked first.
    pub(super) fn publish(&mut self, at: BootNanos) {
        if self.cosigner.is_none() {
            return match self.ledger.show() {
                Ok(shown) => self.shown(at, shown.checkpoint.size),
                Err(error) => self.unpublished(at, error),
            };
        }
        match self.ledger.draft() {
            Ok(Some(draft)) => {
                if !self.begin(Job::Integrate(draft)) {
                    self.gone(at, GONE);
                }
            }
            Ok(None) => {
                let size = self.desk.sequencer.published_size();
                self.desk.sequencer.handle_publish(at, Ok(size));
            }
            Err(error) => self.unpublished(at, error),
        }
    }

    /// When what is shown is to be stored, if something waits for that.
    pub(super) fn store_due(&self) -> Option<BootNanos> {
        let waits = self.cosigner.is_none()
            && matches!(self.publication, Publication::Idle)
            && self.ledger.waiting() > 0;
        waits.then_some(self.store_at)
    }

    /// Has what is shown stored, if that is due.
    pub(super) fn store(&mut self, at: BootNanos) -> Result<(), PipelineError> {
        if self.store_due().is_none_or(|due| at < due) {
            return Ok(());
        }
        match self.ledger.draft() {
            Ok(Some(draft)) => {
                if self.begin(Job::Publish(draft)) {
                    Ok(())
                } else {
                    self.fail(STEP, GONE.to_owned())
                }
            }
            Ok(None) => Ok(()),
            Err(error) => self.fail(STEP, error.to_string()),
        }
    }

    /// `false` if there is nobody to do it.
    fn begin(&mut self, job: Job) -> bool {
        let begun = self.publisher.begin(job);
        if begun {
            self.publication = Publication::AtDisk;
        }
        begun
    }

    /// The publisher is done with it.
    pub(super) fn done(&mut self, at: BootNanos, done: Done, nanos: u64) -> Result<(), PipelineError> {
        self.publication = Publication::Idle;
        self.metrics.publish_nanos.add(nanos);
        let after = |wait: Duration| BootNanos(at.0.saturating_add(nanos_of(wait)));
        self.store_at = after(self.publish_interval);
        match done {
            Done::Integrated(Ok(candidate)) => self.ask(at, candidate),
            Done::Stored(Ok(stored)) => {
                let size = self.ledger.reveal(stored).checkpoint.size;
                (self.after_store)();
                if self.cosigner.is_some() {
                    self.shown(at, size);
                }
            }
            // Readers have it from memory meanwhile; what waits is bounded, and so is what is taken in.
            Done::Stored(Err(PublishError::NoSpace(error))) if self.cosigner.is_none() => {
                tracing::error!(%error, "checkpoint not stored");
                self.store_at = after(RETRY);
            }
            Done::Stored(Err(PublishError::Fatal(cause))) if self.cosigner.is_none() => {
                return self.fail(STEP, cause);
            }
            Done::Integrated(Err(error)) | Done::Stored(Err(error)) => self.unpublished(at, error),
        }
        Ok(())
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
                if !self.begin(Job::Store(candidate, verdict.lines.clone())) {
                    self.gone(at, GONE);
                }
            }
            // The candidate goes; the next one extends it.
            _ => self.desk.sequencer.handle_publish(at, Err(StepError::Withheld)),
        }
    }

    /// Everybody may see it from now on.
    fn shown(&mut self, at: BootNanos, size: u64) {
        self.metrics.published_size.set(size);
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
        // What was shown while a checkpoint is being stored is stored right after it.
        self.publish_interval = Duration::ZERO;
        self.steps(end)?;
        loop {
            match &self.publication {
                Publication::Idle => return Ok(()),
                Publication::AtDisk => match self.publisher.wait() {
                    Some((done, nanos)) => self.done(end, done, nanos)?,
                    None => return self.fail(STEP, GONE.to_owned()),
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
