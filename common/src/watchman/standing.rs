//! What the collector's statements come to: all that a start needs of them, however many there are.
//!
//! Owns what each kind of statement changes of what is known of its host: [`HostStanding::note`] is the one place,
//! live and at start alike. Bytes: `docs/format/standing.md`. Refuses a statement that does not continue the chain, so
//! that whoever trusts the last one may trust what all come to.

mod bytes;

use alloc::{collections::BTreeMap, vec::Vec};

pub use self::bytes::{BadStanding, UnverifiedStanding};
use super::EQUIVOCATIONS_MAX;
use crate::{
    ids::{Hash, HostId, LeafIndex, Sequence, StatementNumber},
    retention::Holds,
    statement::{ClockFault, Said, StatementFault, UnverifiedStatement},
};

/// What every statement up to the last one comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    last: Option<LastStatement>,
    hosts: BTreeMap<HostId, HostStanding>,
    holds: Holds,
}

/// The statement up to which it is reckoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastStatement {
    /// Its number.
    pub number: StatementNumber,
    /// Where it stands in the ledger.
    pub leaf: LeafIndex,
    /// SHA-256 of its signed bytes, which name the one before, and so all of them.
    pub hash: Hash,
}

/// What was said of one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostStanding {
    /// That it was enrolled.
    pub(super) enrolled: bool,
    /// That its end was declared.
    pub(super) ended: bool,
    /// That it is silent, where that stands.
    pub(super) silence: Option<StandingSilence>,
    /// That it was rolled back when the ledger awaited this batch.
    pub(super) diverged_at: Option<Sequence>,
    /// That its clock was ahead, behind, set back.
    pub(super) clocks: [bool; CLOCK_FAULTS.len()],
    /// Equivocations: the hashes of the headers held and offered.
    pub(super) contradictions: Vec<(Hash, Hash)>,
}

/// A silence that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StandingSilence {
    /// By which statement.
    pub(super) number: StatementNumber,
    /// The last batch before it.
    pub(super) after: Option<Sequence>,
}

/// Every fault of a clock, at its own number.
pub(super) const CLOCK_FAULTS: [ClockFault; 3] = [ClockFault::Ahead, ClockFault::Behind, ClockFault::SetBack];

impl Standing {
    /// The statement up to which it is reckoned; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<&LastStatement> {
        self.last.as_ref()
    }

    /// How many statements it is reckoned from: the number of the next one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last.map_or(0, |last| last.number.0.saturating_add(1))
    }

    /// The legal holds in force.
    #[must_use]
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// What was said of each host.
    #[must_use]
    pub fn hosts(&self) -> &BTreeMap<HostId, HostStanding> {
        &self.hosts
    }

    /// Takes in the next statement of the chain, which stands at `leaf`. Its signature is for whoever knows the key:
    /// that of the last one vouches for all before.
    ///
    /// # Errors
    /// [`StatementFault::Number`] or [`StatementFault::Previous`]; nothing is taken in.
    pub fn follow(&mut self, leaf: LeafIndex, statement: &UnverifiedStatement) -> Result<(), StatementFault> {
        let fields = statement.claimed();
        let number = fields.number;
        let expected = StatementNumber(self.count());
        if number != expected {
            return Err(StatementFault::Number {
                expected,
                found: number,
            });
        }
        let before = self.last.map_or(Hash::default(), |last| last.hash);
        if fields.previous != before {
            return Err(StatementFault::Previous {
                number,
                expected: before,
                found: fields.previous,
            });
        }
        if let Some(host) = fields.said.host() {
            self.hosts.entry(host).or_default().note(number, &fields.said);
        }
        self.holds.follow(number, &fields.said);
        self.last = Some(LastStatement {
            number,
            leaf,
            hash: statement.hash(),
        });
        Ok(())
    }
}

impl HostStanding {
    /// Takes in what a statement says of the host.
    pub(super) fn note(&mut self, number: StatementNumber, said: &Said) {
        match said {
            Said::HostEnrolled { .. } => self.enrolled = true,
            Said::HostEnded { .. } => self.ended = true,
            Said::Silent { last, .. } => {
                self.silence = Some(StandingSilence {
                    number,
                    after: last.map(|point| point.sequence),
                });
            }
            // Where it was silent again before this could be said, that stands.
            Said::Back { silence, .. } => {
                if self.silence.is_some_and(|said| said.number == *silence) {
                    self.silence = None;
                }
            }
            Said::Rollback(divergence) => self.diverged_at = Some(divergence.held_next),
            Said::Equivocation(equivocation) => {
                let pair = (Hash::of(&equivocation.held), Hash::of(&equivocation.offered));
                if !self.contradictions.contains(&pair) && self.contradictions.len() < EQUIVOCATIONS_MAX {
                    self.contradictions.push(pair);
                }
            }
            Said::ClockAnomaly(anomaly) => self.clocks[anomaly.fault as usize] = true,
            Said::Prune(_)
            | Said::Hold(_)
            | Said::HoldLifted(_)
            | Said::KeyChange { .. }
            | Said::Other { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
