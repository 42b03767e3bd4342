//! What retention has the pipeline state: legal holds, their ends, and prune certificates.
//!
//! Owns which holds are in force behind the last statement admitted, so that each certificate stands in the chain
//! behind exactly the holds that it names. Refuses a certificate made in ignorance of a hold: whoever made it plans
//! again. Bodies are none of the pipeline's business ([`crate::retention`]).

use std::sync::mpsc::{SyncSender, sync_channel};

use common::{
    ids::StatementNumber,
    retention::{HoldRefused, Holds},
    statement::{BadStatement, Hold, HoldLifted, PruneCertificate, Said, StatementFault},
};

use super::{Input, PipelineHandle};

/// What is to be stated.
#[derive(Debug)]
pub enum Retain {
    /// Nothing: which holds are in force?
    Holds,
    /// A legal hold.
    Hold(Hold),
    /// The end of one.
    Lift(HoldLifted),
    /// Bodies that go.
    Certify(PruneCertificate),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The statement that was made, durable by now; `None` where nothing was to be stated.
    pub number: Option<StatementNumber>,
    /// The holds in force behind it.
    pub holds: Holds,
}

/// Why nothing was stated, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum NotStated {
    /// The hold. The operator.
    #[error(transparent)]
    Hold(#[from] HoldRefused),
    /// The certificate names other holds than those in force: one was set or lifted since it was made. Plan again.
    #[error("a legal hold was set or lifted meanwhile")]
    HoldsChanged,
    /// The disk is full. Make room, then ask again.
    #[error("the collector's disk is full, nothing was stated; make room and ask again")]
    NoSpace,
    /// What is to be said does not fit a statement. The operator, mostly: a reason that is too long.
    #[error(transparent)]
    Statement(#[from] BadStatement),
    /// The chain of statements cannot go on. A fault of ours.
    #[error(transparent)]
    Chain(#[from] StatementFault),
    /// The pipeline ended meanwhile: the ledger knows whether it was stated.
    #[error("the collector stopped before this was durable; look again once it runs")]
    Ended,
}

/// A request with the way back.
pub struct Retaining {
    pub(super) what: Retain,
    pub(super) reply: SyncSender<Result<Retained, NotStated>>,
}

/// What is told once its statement is durable.
pub(super) struct AwaitDurable {
    pub(super) number: StatementNumber,
    pub(super) told: Retained,
    pub(super) reply: SyncSender<Result<Retained, NotStated>>,
}

impl PipelineHandle {
    /// Has something stated and waits until it is durable. Blocking.
    ///
    /// # Errors
    /// [`NotStated`].
    pub fn retain(&self, what: Retain) -> Result<Retained, NotStated> {
        let (reply, answer) = sync_channel(1);
        if !self.send_blocking(Input::Retain(Box::new(Retaining { what, reply }))) {
            return Err(NotStated::Ended);
        }
        answer.recv().unwrap_or(Err(NotStated::Ended))
    }
}

impl Retain {
    /// What to state where `holds` are in force; `None` for a mere question.
    pub(super) fn judge(self, holds: &Holds) -> Result<Option<Said>, NotStated> {
        Ok(Some(match self {
            Self::Holds => return Ok(None),
            Self::Hold(hold) => {
                holds.may_add()?;
                Said::Hold(hold)
            }
            Self::Lift(lifted) => {
                holds.may_lift(lifted.hold)?;
                Said::HoldLifted(lifted)
            }
            Self::Certify(certificate) => {
                if !certificate.holds.iter().eq(holds.in_force().keys()) {
                    return Err(NotStated::HoldsChanged);
                }
                Said::Prune(certificate)
            }
        }))
    }
}
