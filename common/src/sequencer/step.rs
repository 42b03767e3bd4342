//! What the sequencer asks of the ledger, and how it may end.

use alloc::string::String;

use super::group::Group;

/// Work for the ledger: one commit at a time, and one publication beside it.
#[derive(Debug)]
pub enum Step {
    /// Append these entries durably, all or none; answer with [`Sequencer::handle_commit`](super::Sequencer::handle_commit).
    Commit(Group),
    /// Integrate what was appended and publish a checkpoint; answer with [`Sequencer::handle_publish`](super::Sequencer::handle_publish).
    Publish,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepError {
    /// No space is left and nothing happened.
    NoSpace,
    /// A checkpoint is held back for want of cosignatures. Commits go on; publishing is tried again.
    Withheld,
    /// Anything else: what the ledger holds now is unknown.
    Unknown(String),
}

/// The commit of a group whose outcome is unknown, or a publication's: the process must end and restart
/// through recovery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the outcome of a ledger {step} is unknown ({cause}): restart the collector, recovery reads what the ledger holds"
)]
pub struct SequencerFailed {
    /// Which step.
    pub step: &'static str,
    /// What storage said.
    pub cause: String,
}
