//! A prune over a bare ledger, as the collector does it: certificates through the one writer, then the groups.

use common::{
    ids::{HostId, StatementNumber, WallNanos},
    note::SignerKey,
    retention::{Holds, Plan, Planner, Policy, Totals},
    statement::{Said, StatementChain, UnverifiedStatement, VerifiedStatement},
};
use ledger::{
    Entry, Ledger,
    prune::{self, Report},
};

/// Why a prune ended early.
pub type Failed = Box<dyn std::error::Error>;

/// When somebody else may have his turn at the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The mark is there.
    Marked,
    /// The certificates are durable and not published.
    Stated,
    /// They are published, nothing went.
    Published,
    /// A group was looked at.
    Group,
}

/// What a policy comes to.
///
/// # Errors
/// The ledger cannot be read.
pub fn plan(ledger: &Ledger, policy: &Policy, holds: Holds) -> Result<Plan, Failed> {
    let reader = ledger.reader();
    let mut totals = Totals::default();
    prune::survey(&reader, &mut |batch| totals.count(batch))?;
    let mut planner = Planner::new(policy.clone(), holds, totals);
    prune::survey(&reader, &mut |batch| planner.push(batch))?;
    Ok(planner.finish())
}

/// States something behind the statements there are, durable and not published; its number.
///
/// # Errors
/// As for any group.
pub fn state(
    ledger: &mut Ledger,
    signer: &SignerKey,
    said: Said,
    at: WallNanos,
) -> Result<StatementNumber, Failed> {
    let reader = ledger.reader();
    let last = match reader.host_head(&HostId::COLLECTOR)? {
        Some(record) => {
            let parsed = UnverifiedStatement::parse(&reader.header(record.leaf)?)?;
            Some(VerifiedStatement::alone(parsed, signer.verifier())?)
        }
        None => None,
    };
    let chain = last
        .as_ref()
        .map_or(Ok(StatementChain::default()), StatementChain::after)?;
    let statement = chain.write(said, at, 0, signer)?;
    ledger.append_group(&[Entry {
        header: statement.bytes(),
        body: &[],
    }])?;
    Ok(statement.fields().number)
}

/// Prunes by a policy. `beside` is what goes on in between; it says whether to go on.
///
/// # Errors
/// As for a process that ends there.
pub fn prune(
    ledger: &mut Ledger,
    signer: &SignerKey,
    policy: &Policy,
    at: WallNanos,
    beside: &mut dyn FnMut(&mut Ledger, Turn) -> bool,
) -> Result<Report, Failed> {
    let reader = ledger.reader();
    prune::finish(&reader, true, &mut |_| true)?;
    let holds = prune::holds(&reader)?;
    let plan = plan(ledger, policy, holds)?;
    carry_out(ledger, signer, plan, at, beside)
}

/// Carries out a plan, whoever made it.
///
/// # Errors
/// As for [`prune`].
pub fn carry_out(
    ledger: &mut Ledger,
    signer: &SignerKey,
    plan: Plan,
    at: WallNanos,
    beside: &mut dyn FnMut(&mut Ledger, Turn) -> bool,
) -> Result<Report, Failed> {
    let reader = ledger.reader();
    let mut report = Report::default();
    if plan.certificates.is_empty() {
        return Ok(report);
    }
    let go_on = |on: bool| if on { Ok(()) } else { Err("the process ends") };
    prune::begin(&reader)?;
    go_on(beside(ledger, Turn::Marked))?;
    for certificate in plan.certificates {
        state(ledger, signer, Said::Prune(certificate), at)?;
    }
    go_on(beside(ledger, Turn::Stated))?;
    ledger.integrate_and_publish()?;
    go_on(beside(ledger, Turn::Published))?;
    let finished = prune::finish(&reader, false, &mut |change| {
        report.changes.extend(change);
        beside(ledger, Turn::Group)
    })?;
    go_on(finished == prune::Finished::Done)?;
    Ok(report)
}
