//! Following every chain through the ledger, in the order of leaves, with one entry of memory for each host.
//!
//! A leaf that failed its own check is named already, and the hole it leaves in a chain is no second fault: so
//! many batches may be missing from a chain as leaves were passed over since its last one. Anything more, and
//! anything that is no hole, is a fault of its own whatever else was found.

use std::collections::BTreeMap;

use common::{
    batch::{KeyClaim, KeyFault, KeyHead},
    ids::{EventIndex, Hash, HostId, LeafIndex, Sequence},
    statement::{Said, StatementChain, VerifiedStatement},
};

use super::ChainSummary;
use crate::fsck::{Cause, Fault, Report};

/// An entry that is sound by itself.
pub(super) enum Checked {
    /// A batch.
    Batch(Link),
    /// A statement of the collector.
    Statement(Box<VerifiedStatement>),
}

/// What the chain check needs of a header.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) leaf: LeafIndex,
    pub(super) host: HostId,
    pub(super) sequence: Sequence,
    pub(super) first_event: EventIndex,
    pub(super) events: u32,
    pub(super) previous: Hash,
    pub(super) hash: Hash,
    /// What it says of keys.
    pub(super) claim: KeyClaim,
}

/// Where all chains stand.
#[derive(Default)]
pub(super) struct Chains {
    tips: BTreeMap<HostId, Tip>,
    statements: StatementChain,
    /// Leaves passed over before the last statement.
    statements_passed: u64,
    statements_count: u64,
    /// The leaf that comes next.
    next: u64,
    /// Leaves before it that no sound entry was found at.
    passed: u64,
}

/// Where a chain stands.
#[derive(Default)]
struct Tip {
    summary: ChainSummary,
    sequence: u64,
    event: u64,
    hash: Hash,
    keys: KeyHead,
    /// Leaves passed over before its last batch.
    passed: u64,
}

impl Chains {
    /// Takes the entries of the next leaves, in any order among themselves.
    pub(super) fn follow(&mut self, entries: &mut Vec<(LeafIndex, Checked)>, report: &mut Report) {
        entries.sort_unstable_by_key(|(leaf, _)| *leaf);
        for (leaf, entry) in entries.drain(..) {
            // A second group over the same leaves was named where it was found.
            let Some(passed) = leaf.0.checked_sub(self.next) else {
                continue;
            };
            self.passed += passed;
            self.next = leaf.0.saturating_add(1);
            match entry {
                Checked::Batch(link) => self.batch(&link, report),
                Checked::Statement(statement) => self.statement(leaf, &statement, report),
            }
        }
    }

    /// After a fault the chain is taken up at the header found, so that one gap is one fault.
    fn batch(&mut self, link: &Link, report: &mut Report) {
        let tip = self.tips.entry(link.host).or_default();
        let follows =
            link.sequence.0 == tip.sequence && link.first_event.0 == tip.event && link.previous == tip.hash;
        let hole = link.sequence.0.saturating_sub(tip.sequence);
        let explained = hole > 0 && hole <= self.passed - tip.passed;
        if !follows && !explained {
            let what = format!(
                "batch {} of host {} (events from {}, after header {}) where batch {} (events from {}, after header {}) must follow",
                link.sequence, link.host, link.first_event, link.previous, tip.sequence, tip.event, tip.hash
            );
            let cause = if hole > 0 { Cause::Missing } else { Cause::Forgery };
            report.fault(Fault::of("log", cause, what).leaf(link.leaf));
        }
        match tip.keys.follow(&link.host, &link.claim) {
            // Nobody can say which keys were announced in a hole.
            Err(KeyFault::EpochSkipped { .. } | KeyFault::Unannounced(_)) if !follows => {}
            Err(fault) => {
                let what = format!("batch {} of host {}: {fault}", link.sequence, link.host);
                report.fault(Fault::of("log", Cause::Forgery, what).leaf(link.leaf));
            }
            Ok(_) => {}
        }
        tip.keys = KeyHead::behind(&link.claim);
        tip.summary.batches += 1;
        tip.summary.events += u64::from(link.events);
        tip.sequence = link.sequence.0.saturating_add(1);
        tip.event = link.first_event.0.saturating_add(u64::from(link.events));
        tip.hash = link.hash;
        tip.passed = self.passed;
    }

    /// As with batches, one gap is one fault.
    fn statement(&mut self, leaf: LeafIndex, statement: &VerifiedStatement, report: &mut Report) {
        let (number, expected) = (statement.fields().number, self.statements.next);
        if let Err(fault) = self.statements.follow(statement) {
            let hole = number.0.saturating_sub(expected.0);
            let explained = hole > 0 && hole <= self.passed - self.statements_passed;
            if !explained {
                let cause = if hole > 0 { Cause::Missing } else { Cause::Forgery };
                report.fault(Fault::of("log", cause, fault.to_string()).leaf(leaf));
            }
            if let Ok(chain) = StatementChain::after(statement) {
                self.statements = chain;
            }
        }
        self.statements_passed = self.passed;
        self.statements_count += 1;
        if let Said::Other { kind, .. } = &statement.fields().said {
            report.note(format!(
                "statement {number} at leaf {leaf} is of {kind}, which this program cannot read; upgrade"
            ));
        }
    }

    /// Every chain as far as it stands, and how many statements there are.
    pub(super) fn finish(self) -> (BTreeMap<HostId, ChainSummary>, u64) {
        let hosts = self.tips.into_iter().map(|(host, tip)| (host, tip.summary));
        (hosts.collect(), self.statements_count)
    }
}

#[cfg(test)]
mod tests;
