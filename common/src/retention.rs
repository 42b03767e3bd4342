//! Which bodies go: the decision of a retention policy, leaf by leaf in the ledger's order.
//!
//! Owns policy, legal holds and the making of prune certificates from what they let go. A body goes where every
//! criterion given lets it go, no hold keeps it and it is not the newest of its host. Refuses to read, to remove, and to know what time it is.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    answer::Moment,
    ids::{HostId, LeafIndex, Sequence, StatementNumber, WallNanos},
    limits::{HOLDS_MAX, PRUNE_HOSTS_MAX, PRUNE_RANGES_MAX},
    statement::{Hold, LeafRange, PruneCertificate, PrunedHost, Said},
    text::Text,
};

/// What is asked for. No criterion at all lets nothing go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// Batches that ended before this instant, by their host's clock.
    pub older_than: Option<WallNanos>,
    /// Batches that are not among this many newest ones of their host.
    pub keep_batches: Option<u64>,
    /// The oldest bodies in the ledger's order, until no more than this many bytes of bodies are left.
    pub bytes_max: Option<u64>,
    /// Batches of this host.
    pub host: Option<HostId>,
}

impl Policy {
    /// Whether it names any criterion.
    #[must_use]
    pub fn is_some(&self) -> bool {
        *self != Self::default()
    }

    /// The policy as certificates state it.
    #[must_use]
    pub fn text(&self) -> Text {
        let words: Vec<String> = [
            self.older_than.map(|at| format!("older_than={}", Moment(at))),
            self.keep_batches.map(|count| format!("keep_batches={count}")),
            self.bytes_max.map(|bytes| format!("bytes_max={bytes}")),
            self.host.map(|host| format!("host={host}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        Text(words.join(" ").into_bytes())
    }
}

/// One batch whose body is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Its place in the ledger.
    pub leaf: LeafIndex,
    /// Whose it is.
    pub host: HostId,
    /// Its position in the chain.
    pub sequence: Sequence,
    /// First instant watched.
    pub from: WallNanos,
    /// Last instant watched.
    pub until: WallNanos,
    /// Bytes of its body, not 0.
    pub bytes: u64,
}

/// The legal holds in force, by the statements that set them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    holds: BTreeMap<StatementNumber, Hold>,
}

/// Why a hold cannot be set or lifted. The operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldRefused {
    /// There are too many.
    #[error("{HOLDS_MAX} legal holds are in force, and no more can be: lift one, or set wider ones")]
    TooMany,
    /// None of that number is in force.
    #[error("statement {0} is no legal hold in force; `hold list` shows those that are")]
    NotInForce(StatementNumber),
}

impl Holds {
    /// Holds of which it is known that they are in force.
    pub(crate) fn of(holds: BTreeMap<StatementNumber, Hold>) -> Self {
        Self { holds }
    }

    /// Takes the next statement of the chain into account.
    pub fn follow(&mut self, number: StatementNumber, said: &Said) {
        match said {
            Said::Hold(hold) => {
                self.holds.insert(number, hold.clone());
            }
            Said::HoldLifted(lifted) => {
                self.holds.remove(&lifted.hold);
            }
            _ => {}
        }
    }

    /// Those in force.
    #[must_use]
    pub fn in_force(&self) -> &BTreeMap<StatementNumber, Hold> {
        &self.holds
    }

    /// Whether one more may be set.
    ///
    /// # Errors
    /// [`HoldRefused::TooMany`].
    pub fn may_add(&self) -> Result<(), HoldRefused> {
        if self.holds.len() < HOLDS_MAX {
            Ok(())
        } else {
            Err(HoldRefused::TooMany)
        }
    }

    /// Whether that one may be lifted.
    ///
    /// # Errors
    /// [`HoldRefused::NotInForce`].
    pub fn may_lift(&self, hold: StatementNumber) -> Result<(), HoldRefused> {
        if self.holds.contains_key(&hold) {
            Ok(())
        } else {
            Err(HoldRefused::NotInForce(hold))
        }
    }

    /// Whether one of them keeps the batch's body.
    #[must_use]
    pub fn keep(&self, batch: &Batch) -> bool {
        self.keeping(batch).is_some()
    }

    /// The first that keeps the batch's body.
    #[must_use]
    pub fn keeping(&self, batch: &Batch) -> Option<StatementNumber> {
        let keeps = |hold: &Hold| {
            hold.host.is_none_or(|host| host == batch.host)
                && batch.from <= hold.until
                && batch.until >= hold.from
        };
        let found = self.holds.iter().find(|(_, hold)| keeps(hold));
        found.map(|(number, _)| *number)
    }
}

/// What the whole ledger holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of all bodies that are there.
    pub bytes: u64,
    /// Newest batch with a body of each host.
    pub newest: BTreeMap<HostId, Sequence>,
}

impl Totals {
    /// Takes a batch into account.
    pub fn count(&mut self, batch: &Batch) {
        self.bytes = self.bytes.saturating_add(batch.bytes);
        let newest = self.newest.entry(batch.host).or_default();
        *newest = (*newest).max(batch.sequence);
    }
}

/// Decides, leaf by leaf in order.
#[derive(Debug)]
pub struct Planner {
    policy: Policy,
    holds: Holds,
    totals: Totals,
    /// Bytes of bodies still to go by [`Policy::bytes_max`].
    excess: u64,
    /// Bodies that a hold keeps though the policy lets them go.
    held: u64,
    bodies: u64,
    bytes: u64,
    hosts: BTreeMap<HostId, PrunedHost>,
    ranges: Vec<LeafRange>,
    /// Leaves since the last that goes have no body that stays: the range may run on over them.
    bridge: bool,
    done: Vec<PruneCertificate>,
}

/// What a policy comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// The certificates to state, in order; none where nothing goes.
    pub certificates: Vec<PruneCertificate>,
    /// Bodies that stay for a legal hold alone.
    pub held: u64,
}

impl Plan {
    /// Bodies that go.
    #[must_use]
    pub fn bodies(&self) -> u64 {
        self.certificates
            .iter()
            .map(|certificate| certificate.bodies)
            .sum()
    }

    /// Bytes of bodies that go.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.certificates
            .iter()
            .map(|certificate| certificate.bytes)
            .sum()
    }

    /// Whether the body beside that leaf goes.
    #[must_use]
    pub fn names(&self, leaf: LeafIndex) -> bool {
        self.certificates
            .iter()
            .any(|certificate| certificate.names(leaf))
    }
}

impl Planner {
    /// A plan by `policy` for a ledger of which these are the totals.
    #[must_use]
    pub fn new(policy: Policy, holds: Holds, totals: Totals) -> Self {
        let excess = policy
            .bytes_max
            .map_or(0, |bytes_max| totals.bytes.saturating_sub(bytes_max));
        Self {
            policy,
            holds,
            totals,
            excess,
            held: 0,
            bodies: 0,
            bytes: 0,
            hosts: BTreeMap::new(),
            ranges: Vec::new(),
            bridge: false,
            done: Vec::new(),
        }
    }

    /// The next leaf that has a body. Leaves between are taken to have none.
    pub fn push(&mut self, batch: &Batch) {
        if !self.lets_go(batch) {
            self.bridge = false;
            return;
        }
        if self.holds.keep(batch) {
            self.held += 1;
            self.bridge = false;
            return;
        }
        self.excess = self.excess.saturating_sub(batch.bytes);
        self.take(batch);
    }

    fn lets_go(&self, batch: &Batch) -> bool {
        let Policy {
            older_than,
            keep_batches,
            bytes_max,
            host,
        } = &self.policy;
        let newest = self.totals.newest.get(&batch.host).copied().unwrap_or_default();
        self.policy.is_some()
            && older_than.is_none_or(|before| batch.until < before)
            // The newest one always stays: with the state before it, it tells what is now.
            && newest.0.saturating_sub(batch.sequence.0) >= keep_batches.unwrap_or_default().max(1)
            && bytes_max.is_none_or(|_| self.excess > 0)
            && host.is_none_or(|host| host == batch.host)
    }

    fn take(&mut self, batch: &Batch) {
        let last = self
            .ranges
            .last_mut()
            .filter(|range| self.bridge || range.end() == batch.leaf);
        let grown = last.and_then(|range| {
            let count = u32::try_from(batch.leaf.0.checked_sub(range.first.0)?.checked_add(1)?).ok()?;
            range.count = count;
            Some(())
        });
        if grown.is_none() {
            if self.ranges.len() == PRUNE_RANGES_MAX {
                self.close();
            }
            self.ranges.push(LeafRange {
                first: batch.leaf,
                count: 1,
            });
        }
        self.bridge = true;
        self.bodies += 1;
        self.bytes = self.bytes.saturating_add(batch.bytes);
        let row = self.hosts.entry(batch.host).or_insert(PrunedHost {
            host: batch.host,
            first: batch.sequence,
            last: batch.sequence,
            batches: 0,
            bytes: 0,
        });
        row.first = row.first.min(batch.sequence);
        row.last = row.last.max(batch.sequence);
        row.batches += 1;
        row.bytes = row.bytes.saturating_add(batch.bytes);
    }

    /// Closes the certificate under way; what follows goes into the next one.
    fn close(&mut self) {
        if self.ranges.is_empty() {
            return;
        }
        let hosts = core::mem::take(&mut self.hosts);
        self.done.push(PruneCertificate {
            policy: self.policy.text(),
            bodies: core::mem::take(&mut self.bodies),
            bytes: core::mem::take(&mut self.bytes),
            holds: self.holds.in_force().keys().copied().collect(),
            hosts_total: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
            hosts: hosts.into_values().take(PRUNE_HOSTS_MAX).collect(),
            ranges: core::mem::take(&mut self.ranges),
        });
    }

    /// The plan.
    #[must_use]
    pub fn finish(mut self) -> Plan {
        self.close();
        Plan {
            certificates: self.done,
            held: self.held,
        }
    }
}

#[cfg(test)]
mod tests;
