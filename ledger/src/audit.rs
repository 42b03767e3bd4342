//! The whole check of a ledger of batches: [`crate::fsck`] over its objects, and what only batches can say.
//!
//! Owns the reading of headers for this one purpose: signatures, bodies down to the event, and that each
//! host's chain runs through the ledger without a gap, a repetition or a second history. Refuses to repair.
//! What `hostledger verify` and `hostledger-collector verify` share.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use common::{
    batch::{BodyFault, Damage, UnverifiedHeader, VerifiedHeader},
    ids::{EventIndex, Hash, HostId, LeafIndex, Sequence},
};

use crate::{
    fsck::{self, Cause, Fault, Options, Report},
    storage::Storage,
};

/// What a ledger of batches was found to hold.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// Faults, notes and counts, those of chains included.
    pub report: Report,
    /// Every host's chain as far as it stands.
    pub hosts: BTreeMap<HostId, ChainSummary>,
}

/// One host's chain in the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainSummary {
    /// Batches.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
}

/// What the chain check needs of a header.
struct Link {
    leaf: LeafIndex,
    host: HostId,
    sequence: Sequence,
    first_event: EventIndex,
    events: u32,
    previous: Hash,
    hash: Hash,
}

/// Checks everything in `storage`.
#[must_use]
pub fn run(storage: &dyn Storage, options: &Options<'_>) -> Audit {
    let links = Mutex::new(Vec::new());
    let mut report = fsck::run(storage, options, &|leaf, header, body| {
        let link = check_batch(leaf, header, body)?;
        links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        Ok(())
    });
    let mut links = links.into_inner().unwrap_or_else(PoisonError::into_inner);
    links.sort_unstable_by_key(|link| link.leaf);
    let hosts = check_chains(&links, &mut report);
    Audit { report, hosts }
}

/// Checks one batch by itself and names what is wrong down to the event.
fn check_batch(leaf: LeafIndex, header: &[u8], body: &[u8]) -> Result<Link, String> {
    let parsed = UnverifiedHeader::parse(header).map_err(|bad| bad.to_string())?;
    let (host, sequence) = (parsed.claimed().host, parsed.claimed().sequence);
    let verified = VerifiedHeader::alone(parsed).map_err(|fault| fault.to_string())?;
    let fields = verified.fields();
    let checked = verified.check_body(body).map(|_| ());
    if let Err(fault) = checked {
        let event = match &fault {
            BodyFault::Damaged(Damage::Event { event } | Damage::Tag { event })
            | BodyFault::Length { event, .. } => {
                format!(
                    " (event {} of the host)",
                    fields.first_event.0.saturating_add(*event)
                )
            }
            _ => String::new(),
        };
        return Err(format!("batch {sequence} of host {host}: {fault}{event}"));
    }
    Ok(Link {
        leaf,
        host,
        sequence,
        first_event: fields.first_event,
        events: fields.event_count,
        previous: fields.previous,
        hash: verified.hash(),
    })
}

/// Where a chain stands while the ledger is walked.
#[derive(Default)]
struct Tip {
    summary: ChainSummary,
    sequence: u64,
    event: u64,
    hash: Hash,
}

/// Walks all chains in the ledger's order. After a fault the chain is taken up at the header found, so that
/// one gap is one fault.
fn check_chains(links: &[Link], report: &mut Report) -> BTreeMap<HostId, ChainSummary> {
    let mut tips: BTreeMap<HostId, Tip> = BTreeMap::new();
    // A batch that failed its own check is named already; the hole it leaves here is no second fault.
    let damaged: Vec<LeafIndex> = report.faults.iter().filter_map(|fault| fault.leaf).collect();
    for link in links {
        let tip = tips.entry(link.host).or_default();
        let follows =
            link.sequence.0 == tip.sequence && link.first_event.0 == tip.event && link.previous == tip.hash;
        if !follows && damaged.is_empty() {
            let what = format!(
                "batch {} of host {} (events from {}, after header {}) where batch {} (events from {}, after header {}) must follow",
                link.sequence, link.host, link.first_event, link.previous, tip.sequence, tip.event, tip.hash
            );
            let cause = if link.sequence.0 > tip.sequence {
                Cause::Missing
            } else {
                Cause::Forgery
            };
            report.fault(Fault::of("log", cause, what).leaf(link.leaf));
        }
        tip.summary.batches += 1;
        tip.summary.events += u64::from(link.events);
        tip.sequence = link.sequence.0.saturating_add(1);
        tip.event = link.first_event.0.saturating_add(u64::from(link.events));
        tip.hash = link.hash;
    }
    tips.into_iter().map(|(host, tip)| (host, tip.summary)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(leaf: u64, sequence: u64, previous: Hash) -> Link {
        Link {
            leaf: LeafIndex(leaf),
            host: HostId([1; 32]),
            sequence: Sequence(sequence),
            first_event: EventIndex(sequence * 2),
            events: 2,
            previous,
            hash: Hash::of(&sequence.to_be_bytes()),
        }
    }

    fn check(links: &[Link]) -> (Report, BTreeMap<HostId, ChainSummary>) {
        let mut report = Report::default();
        let hosts = check_chains(links, &mut report);
        (report, hosts)
    }

    #[test]
    fn a_whole_chain_is_sound() {
        let hash = |n: u64| Hash::of(&n.to_be_bytes());
        let links = [
            link(0, 0, Hash::default()),
            link(3, 1, hash(0)),
            link(4, 2, hash(1)),
        ];
        let (report, hosts) = check(&links);
        assert!(report.is_sound(), "{:?}", report.faults);
        let summary = ChainSummary {
            batches: 3,
            events: 6,
        };
        assert_eq!(hosts.get(&HostId([1; 32])), Some(&summary));
    }

    #[test]
    fn a_gap_a_repetition_and_another_history_are_named() {
        let hash = |n: u64| Hash::of(&n.to_be_bytes());
        let gap = check(&[link(0, 0, Hash::default()), link(1, 2, hash(1))]).0;
        assert_eq!((gap.faults.len(), gap.faults[0].cause), (1, Cause::Missing));
        assert_eq!(gap.faults[0].leaf, Some(LeafIndex(1)));
        let twice = check(&[link(0, 0, Hash::default()), link(1, 0, Hash::default())]).0;
        assert_eq!(twice.faults[0].cause, Cause::Forgery);
        let fork = check(&[link(0, 0, Hash::default()), link(1, 1, hash(9))]).0;
        assert_eq!(fork.faults[0].cause, Cause::Forgery);
    }
}
