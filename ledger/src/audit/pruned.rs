//! Bodies that are gone against the certificates that name them.
//!
//! A certificate stands behind the leaves it names, so what is gone is kept as ranges until all was walked: memory
//! grows with the ranges that certificates name, not with the leaves.

use std::collections::BTreeMap;

use common::{
    ids::{LeafIndex, StatementNumber},
    statement::PruneCertificate,
};

use crate::{
    fsck::{Cause, Fault, Report},
    prune::PRUNING,
};

/// What is gone, and what certificates say of it.
#[derive(Default)]
pub(super) struct Pruned {
    /// Ranges of leaves by their first: the leaf after the last, and by which statement they went.
    gone: BTreeMap<u64, (u64, StatementNumber)>,
    certificates: BTreeMap<StatementNumber, PruneCertificate>,
    bodies: u64,
}

impl Pruned {
    /// The body beside `leaf` is said to have gone by that statement.
    pub(super) fn gone(&mut self, leaf: LeafIndex, by: StatementNumber) {
        self.bodies += 1;
        let (mut first, mut end) = (leaf.0, leaf.0.saturating_add(1));
        if let Some((before, (before_end, before_by))) = self.gone.range(..first).next_back()
            && (*before_end, *before_by) == (first, by)
        {
            first = *before;
        }
        if let Some((after_end, after_by)) = self.gone.get(&end).copied()
            && after_by == by
        {
            self.gone.remove(&end);
            end = after_end;
        }
        self.gone.insert(first, (end, by));
    }

    /// A verified certificate.
    pub(super) fn certificate(&mut self, number: StatementNumber, certificate: &PruneCertificate) {
        self.certificates.insert(number, certificate.clone());
    }

    /// Names what no certificate covers, and notes what one names and is still there. Returns the bodies gone.
    pub(super) fn finish(self, report: &mut Report) -> u64 {
        let mut carried_out: BTreeMap<StatementNumber, u64> = BTreeMap::new();
        for (first, (end, by)) in &self.gone {
            let certificate = self.certificates.get(by);
            for leaf in (*first..*end).map(LeafIndex) {
                if certificate.is_some_and(|certificate| certificate.names(leaf)) {
                    *carried_out.entry(*by).or_default() += 1;
                } else {
                    let what =
                        format!("its body is gone, and statement {by} is no certificate that names it");
                    report.fault(Fault::of("groups", Cause::Missing, what).leaf(leaf));
                }
            }
        }
        for (number, certificate) in &self.certificates {
            let done = carried_out.get(number).copied().unwrap_or_default();
            if done < certificate.bodies {
                let there = certificate.bodies - done;
                report.note(format!(
                    "{there} of the {} bodies that statement {number} removes are still there: the prune was interrupted, \
                     and goes on at the next start while `{PRUNING}` is there",
                    certificate.bodies
                ));
            }
        }
        self.bodies
    }
}
