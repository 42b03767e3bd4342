//! Retention on a stopped collector: plan, keep what states need, prune; legal holds.
//!
//! Owns the order: nothing is pruned before the states that follow from it are kept as snapshots. Takes the
//! ledger's lock for as long as it works, so a running collector and this never meet.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    ids::{HostId, StatementNumber, WallNanos},
    retention::{HoldRefused, Holds, Plan, Planner, Policy, Totals},
    statement::{BadStatement, Hold, HoldLifted, Said, StatementChain, StatementFault},
    text::Text,
};
use ledger::{
    Ledger, Reader,
    prune::{self, PruneError, Report},
};

use crate::{
    layout::Layout,
    pipeline::{RecoverError, Recovery, recover},
    projection::{EntryError, Projection, StateError},
};

/// Why nothing was done, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The collector cannot be opened: it runs, or its ledger is damaged.
    #[error("{0}; prune and hold work on a stopped collector")]
    Recover(#[from] RecoverError),
    /// Pruning failed; what is left is done by the next start.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The state before what stays cannot be told, so nothing was pruned.
    #[error(
        "nothing was pruned, for the state behind batch {batches} of host {host} could not be kept: {cause}"
    )]
    State {
        /// Which host.
        host: HostId,
        /// Batches that it would stand for.
        batches: usize,
        /// Why.
        cause: String,
    },
    /// The hold.
    #[error(transparent)]
    Hold(#[from] HoldRefused),
    /// What is to be said does not fit a statement. The operator, mostly: a reason that is too long.
    #[error(transparent)]
    Statement(#[from] BadStatement),
    /// The chain of statements cannot be continued.
    #[error(transparent)]
    Chain(#[from] StatementFault),
}

/// Bound of the collector's clock error: nobody asks the clock here.
const CLOCK_ERROR_UNKNOWN: u64 = u64::MAX;

/// A stopped collector's ledger, locked.
pub struct Retention {
    recovery: Recovery,
    chain: StatementChain,
    layout: Layout,
}

impl Retention {
    /// Opens the ledger and finishes what a crash interrupted.
    ///
    /// # Errors
    /// [`RetentionError::Recover`].
    pub fn open(layout: &Layout) -> Result<Self, RetentionError> {
        let recovery = recover(layout, false)?;
        let last = recovery.last_statement.as_ref();
        let chain = last.map(StatementChain::after).transpose()?.unwrap_or_default();
        Ok(Self {
            recovery,
            chain,
            layout: layout.clone(),
        })
    }

    fn ledger(&self) -> &Ledger {
        &self.recovery.ledger
    }

    /// The ledger, for reading.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.ledger().reader()
    }

    /// The legal holds in force.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn holds(&self) -> Result<Holds, RetentionError> {
        Ok(prune::holds(&self.ledger().reader())?)
    }

    /// What a policy comes to today. Changes nothing.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn plan(&self, policy: &Policy) -> Result<Plan, RetentionError> {
        let reader = self.ledger().reader();
        let mut totals = Totals::default();
        prune::survey(&reader, &mut |batch| totals.count(batch))?;
        let mut planner = Planner::new(policy.clone(), self.holds()?, totals);
        prune::survey(&reader, &mut |batch| planner.push(batch))?;
        Ok(planner.finish())
    }

    /// Carries out a plan.
    ///
    /// # Errors
    /// Nothing is removed before the certificates are published and the states behind it are kept.
    pub fn prune(&mut self, plan: Plan, now: WallNanos) -> Result<Report, RetentionError> {
        self.keep_states(&plan)?;
        Ok(prune::prune(
            &mut self.recovery.ledger,
            &mut self.chain,
            plan.certificates,
            now,
            CLOCK_ERROR_UNKNOWN,
        )?)
    }

    /// Keeps the state behind every stretch of batches that goes, so that what stays can still be answered.
    fn keep_states(&self, plan: &Plan) -> Result<(), RetentionError> {
        if plan.certificates.is_empty() {
            return Ok(());
        }
        let projection = Projection::new(Arc::new(self.ledger().reader()), Some(self.layout.projections()));
        projection.catch_up()?;
        let mut ends: BTreeMap<HostId, Vec<usize>> = BTreeMap::new();
        for host in projection.hosts() {
            let found = projection.chain(&host, |chain| {
                let mut ends = Vec::new();
                let mut going = false;
                for (at, record) in chain.records().iter().enumerate() {
                    if record.span.event_count == 0 {
                        continue;
                    }
                    let goes = plan.names(record.span.leaf);
                    if going && !goes {
                        ends.push(at);
                    }
                    going = goes;
                }
                ends
            });
            ends.insert(host, found.unwrap_or_default());
        }
        for (host, ends) in ends {
            for batches in ends {
                let refused = |cause: String| RetentionError::State { host, batches, cause };
                match projection.keep_state(&host, batches) {
                    Ok(true) => {}
                    Ok(false) => return Err(refused("the disk would not keep the snapshot".into())),
                    // An earlier prune whose snapshots are gone: what it left unknown stays so.
                    Err(StateError::Entry(EntryError { pruned: Some(_), .. })) => {}
                    Err(error) => return Err(refused(error.to_string())),
                }
            }
        }
        Ok(())
    }

    /// Sets a legal hold; returns the statement's number.
    ///
    /// # Errors
    /// Too many are in force, or the ledger cannot be written.
    pub fn add_hold(&mut self, hold: Hold, now: WallNanos) -> Result<StatementNumber, RetentionError> {
        self.holds()?.may_add()?;
        self.say(Said::Hold(hold), now)
    }

    /// Lifts a legal hold; returns the statement's number.
    ///
    /// # Errors
    /// It is not in force, or the ledger cannot be written.
    pub fn lift_hold(
        &mut self,
        hold: StatementNumber,
        reason: Text,
        now: WallNanos,
    ) -> Result<StatementNumber, RetentionError> {
        self.holds()?.may_lift(hold)?;
        self.say(Said::HoldLifted(HoldLifted { hold, reason }), now)
    }

    fn say(&mut self, said: Said, now: WallNanos) -> Result<StatementNumber, RetentionError> {
        let statement = self
            .chain
            .write(said, now, CLOCK_ERROR_UNKNOWN, &self.recovery.signer)?;
        prune::state(&mut self.recovery.ledger, std::slice::from_ref(&statement))?;
        self.chain.follow(&statement)?;
        Ok(statement.fields().number)
    }
}
