//! Bodies that are gone against the certificates that name them, and certificates against the holds in force.
//!
//! A certificate stands behind the leaves it names, so what is gone is kept as ranges until all was walked: memory
//! grows with the ranges that certificates name, not with the leaves. Where a hold was in force when something was
//! certified, the heads of all groups are walked once more, for only headers say what a hold covers.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    entry::UnverifiedEntry,
    ids::{LeafIndex, StatementNumber},
    ledger_keys::LedgerKeys,
    retention::Holds,
    statement::{PruneCertificate, Said, VerifiedStatement},
};

use crate::{
    fsck::{Cause, Fault, Report},
    prune::{
        PRUNING,
        heads::{self, Seen},
    },
    storage::Storage,
};

/// Bodies certified against a hold that are named one by one, for each certificate; more are counted.
const NAMED_MAX: u64 = 8;

/// What is gone, and what certificates and holds say of it.
#[derive(Default)]
pub(super) struct Pruned {
    /// Ranges of leaves by their first: the leaf after the last, and by which statement they went.
    gone: BTreeMap<u64, (u64, StatementNumber)>,
    certificates: BTreeMap<StatementNumber, Certified>,
    /// Holds and their ends, which are few, by their numbers.
    holds: BTreeMap<StatementNumber, Said>,
    /// Numbers of the statements that were read and verified, as ranges: the first, and the one after the last.
    read: BTreeMap<u64, u64>,
    bodies: u64,
}

/// The holds in force at each certificate, where there were any, and the bodies that it removes against them.
type Judged = BTreeMap<StatementNumber, (Arc<Holds>, u64)>;

/// A verified certificate.
struct Certified {
    leaf: LeafIndex,
    certificate: PruneCertificate,
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

    /// A verified statement at `leaf`.
    pub(super) fn statement(&mut self, leaf: LeafIndex, statement: &VerifiedStatement) {
        let number = statement.fields().number;
        self.note_read(number.0);
        match &statement.fields().said {
            Said::Prune(certificate) => {
                let certificate = certificate.clone();
                self.certificates.insert(number, Certified { leaf, certificate });
            }
            said @ (Said::Hold(_) | Said::HoldLifted(_)) => {
                self.holds.insert(number, said.clone());
            }
            _ => {}
        }
    }

    fn note_read(&mut self, number: u64) {
        let (mut first, mut end) = (number, number.saturating_add(1));
        if let Some((before, _)) = self
            .read
            .range(..first)
            .next_back()
            .filter(|(_, end)| **end == first)
        {
            first = *before;
        }
        end = self.read.remove(&end).unwrap_or(end);
        self.read.insert(first, end);
    }

    fn was_read(&self, number: StatementNumber) -> bool {
        let below = self.read.range(..=number.0).next_back();
        below.is_some_and(|(_, end)| number.0 < *end)
    }

    /// Whether every statement before this one was read: only then is it known which holds were in force.
    fn is_judgeable(&self, number: StatementNumber) -> bool {
        self.read.get(&0).is_some_and(|end| number.0 <= *end)
    }

    /// Names what no certificate covers and what was certified against a hold, and notes what is certified and still
    /// there. Returns the bodies gone. `checked` leaves were walked; what was certified behind them while that went on
    /// is looked up, where `key` can tell it from a forgery.
    pub(super) fn finish(
        mut self,
        storage: &dyn Storage,
        checked: u64,
        key: Option<&LedgerKeys>,
        report: &mut Report,
    ) -> u64 {
        let unknown = |by| !self.certificates.contains_key(&by);
        if let Some(key) = key.filter(|_| self.gone.values().any(|(_, by)| unknown(*by))) {
            self.look_behind(storage, checked, key, report);
        }
        let unfinished = self.account(report);
        self.judge_holds(storage, checked, &unfinished, report);
        self.bodies
    }

    /// Takes up the certificates that were stated while the ledger before them was checked.
    fn look_behind(&mut self, storage: &dyn Storage, checked: u64, key: &LedgerKeys, report: &mut Report) {
        let mut found = 0_u64;
        // Where it cannot be read the bodies count as gone without a certificate, which the caller checks anew.
        let _ = heads::walk(storage, LeafIndex(checked), u64::MAX, &mut |seen| {
            if let Ok(UnverifiedEntry::Statement(statement)) = UnverifiedEntry::parse(seen.header)
                && let Ok(statement) = VerifiedStatement::at_leaf(statement, seen.leaf, key)
            {
                found += u64::from(matches!(statement.fields().said, Said::Prune(_)));
                self.statement(seen.leaf, &statement);
            }
        });
        if found > 0 {
            report.note(format!(
                "{found} prune certificates were stated while this was checked; bodies went by them meanwhile"
            ));
        }
    }

    /// Gone bodies against certificates; returns the certificates that are not carried out in full.
    fn account(&self, report: &mut Report) -> Vec<StatementNumber> {
        let mut unfinished = Vec::new();
        let mut carried_out: BTreeMap<StatementNumber, u64> = BTreeMap::new();
        // Where objects are damaged or missing, a statement that was not read may lie in them: nobody is accused for it.
        let damaged = !report.is_sound();
        let mut unread: BTreeMap<StatementNumber, u64> = BTreeMap::new();
        for (first, (end, by)) in &self.gone {
            let certified = self.certificates.get(by);
            if damaged && !self.was_read(*by) {
                *unread.entry(*by).or_default() += *end - *first;
                continue;
            }
            for leaf in (*first..*end).map(LeafIndex) {
                if certified.is_some_and(|certified| certified.certificate.names(leaf)) {
                    *carried_out.entry(*by).or_default() += 1;
                } else {
                    let what =
                        format!("its body is gone, and statement {by} is no certificate that names it");
                    report.fault(Fault::of("groups", Cause::Missing, what).leaf(leaf));
                }
            }
        }
        for (by, bodies) in unread {
            report.note(format!(
                "{bodies} bodies are gone by statement {by}, which could not be read: whether it certifies them is unknown"
            ));
        }
        for (number, certified) in &self.certificates {
            let done = carried_out.get(number).copied().unwrap_or_default();
            if done < certified.certificate.bodies {
                unfinished.push(*number);
                let there = certified.certificate.bodies - done;
                report.note(format!(
                    "{there} of the {} bodies that statement {number} removes are still there: the prune is under way or was \
                     interrupted, and goes on while `{PRUNING}` is there",
                    certified.certificate.bodies
                ));
            }
        }
        unfinished
    }

    /// Certificates against the holds in force where they stand in the chain.
    fn judge_holds(
        &self,
        storage: &dyn Storage,
        checked: u64,
        unfinished: &[StatementNumber],
        report: &mut Report,
    ) {
        // Shared: between two changes of them there may be many certificates.
        let mut in_force = Arc::new(Holds::default());
        let mut chain: BTreeMap<StatementNumber, Option<&Said>> = self
            .holds
            .iter()
            .map(|(number, said)| (*number, Some(said)))
            .collect();
        chain.extend(self.certificates.keys().map(|number| (*number, None)));
        let mut judged: Judged = BTreeMap::new();
        for (number, said) in chain {
            match (said, self.certificates.get(&number)) {
                (Some(said), _) => Arc::make_mut(&mut in_force).follow(number, said),
                (None, Some(_)) if !self.is_judgeable(number) => report.note(format!(
                    "whether certificate {number} respected the legal holds is unknown: statements before it could not be read"
                )),
                (None, Some(Certified { leaf, certificate })) => {
                    if !certificate.holds.iter().eq(in_force.in_force().keys()) {
                        let what = format!(
                            "certificate {number} names other legal holds than those in force when it was made"
                        );
                        report.fault(Fault::of("groups", Cause::Forgery, what).leaf(*leaf));
                    }
                    if !in_force.in_force().is_empty() {
                        judged.insert(number, (Arc::clone(&in_force), 0));
                    }
                }
                (None, None) => {}
            }
        }
        if judged.is_empty() {
            return;
        }
        // What cannot be read here was named when it was checked.
        let _ = heads::walk(storage, LeafIndex(0), checked, &mut |seen| {
            // Ranges run on over leaves whose bodies went before, by another certificate.
            let by = seen.gone.as_ref().map_or(unfinished, std::slice::from_ref);
            for number in by {
                self.judge_leaf(seen, *number, &mut judged, report);
            }
        });
        for (number, (_, against)) in judged {
            if against > NAMED_MAX {
                let more = against - NAMED_MAX;
                let what = format!("certificate {number} removes {more} more bodies against legal holds");
                report.fault(Fault::of("groups", Cause::Forgery, what));
            }
        }
    }

    fn judge_leaf(&self, seen: &Seen<'_>, number: StatementNumber, judged: &mut Judged, report: &mut Report) {
        let names = |certified: &&Certified| certified.certificate.names(seen.leaf);
        let (Some((holds, against)), Some(_)) = (
            judged.get_mut(&number),
            self.certificates.get(&number).filter(names),
        ) else {
            return;
        };
        let Some((batch, hold)) = seen
            .batch()
            .and_then(|batch| holds.keeping(&batch).map(|hold| (batch, hold)))
        else {
            return;
        };
        *against += 1;
        if *against <= NAMED_MAX {
            let (host, sequence) = (batch.host, batch.sequence);
            let what = format!(
                "certificate {number} removes the body of batch {sequence} of host {host} against the legal hold of \
                 statement {hold}"
            );
            report.fault(Fault::of("groups", Cause::Forgery, what).leaf(seen.leaf));
        }
    }
}
