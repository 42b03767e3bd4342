//! The whole check of a ledger of batches: [`crate::fsck`] over its objects, and what only batches can say.
//!
//! Owns the reading of entries for this one purpose: signatures, bodies down to the event, and that each
//! host's chain with its succession of keys, and the collector's own chain of statements, runs through the
//! ledger without a gap, a repetition or a second history. A header's signature is checked against the key that
//! it names, in parallel; whether that key was the host's, in the order of the chain. Refuses to repair.
//! What `hostledger verify` and `hostledger-collector verify` share.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use common::{
    batch::{BodyFault, Damage, KeyClaim, KeyFault, KeyHead, SignedHeader, UnverifiedHeader},
    entry::UnverifiedEntry,
    ids::{EventIndex, Hash, HostId, LeafIndex, Sequence},
    note::VerifierKey,
    statement::{Said, StatementChain, UnverifiedStatement, VerifiedStatement},
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
    /// Statements of the collector.
    pub statements: u64,
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
    /// Which of the [`Claims`] it makes.
    claim: u32,
}

/// What headers say of keys, each different claim once: a chain has few of them, and links are many.
#[derive(Default)]
struct Claims {
    numbers: BTreeMap<KeyClaim, u32>,
    claims: Vec<KeyClaim>,
}

impl Claims {
    fn number_of(&mut self, claim: KeyClaim) -> u32 {
        *self.numbers.entry(claim).or_insert_with(|| {
            self.claims.push(claim);
            u32::try_from(self.claims.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn get(&self, number: u32) -> Option<&KeyClaim> {
        self.claims.get(number as usize)
    }
}

/// Checks everything in `storage`.
#[must_use]
pub fn run(storage: &dyn Storage, options: &Options<'_>) -> Audit {
    let key = fsck::key_of(storage, options);
    let links = Mutex::new((Vec::new(), Claims::default()));
    let statements = Mutex::new(Vec::new());
    let mut report = fsck::run(storage, options, &|leaf, entry, body| {
        match UnverifiedEntry::parse(entry).map_err(|bad| bad.to_string())? {
            UnverifiedEntry::Batch(header) => {
                let (link, claim) = check_batch(leaf, header, body)?;
                let mut found = links.lock().unwrap_or_else(PoisonError::into_inner);
                let claim = found.1.number_of(claim);
                found.0.push(Link { claim, ..link });
            }
            UnverifiedEntry::Statement(statement) => {
                let statement = check_statement(statement, body, key.as_ref())?;
                let mut found = statements.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((leaf, statement));
            }
        }
        Ok(())
    });
    let (mut links, claims) = links.into_inner().unwrap_or_else(PoisonError::into_inner);
    links.sort_unstable_by_key(|link| link.leaf);
    let mut statements = statements.into_inner().unwrap_or_else(PoisonError::into_inner);
    statements.sort_unstable_by_key(|(leaf, _)| *leaf);
    // A leaf that failed its own check is named already; the hole it leaves in a chain is no second fault.
    let damaged = report.faults.iter().any(|fault| fault.leaf.is_some());
    let hosts = check_chains(&links, &claims, damaged, &mut report);
    check_statements(&statements, damaged, &mut report);
    Audit {
        report,
        hosts,
        statements: statements.len() as u64,
    }
}

/// Checks one statement by itself. Without any key nothing can be said of its signature, which the report
/// notes for the checkpoint already.
fn check_statement(
    statement: UnverifiedStatement,
    body: &[u8],
    key: Option<&VerifierKey>,
) -> Result<VerifiedStatement, String> {
    let number = statement.claimed().number;
    if !body.is_empty() {
        return Err(format!("statement {number} has a body of {} bytes", body.len()));
    }
    let Some(key) = key else {
        return Err(format!("statement {number} cannot be checked for want of a key"));
    };
    let verified = VerifiedStatement::alone(statement, key).map_err(|fault| fault.to_string())?;
    if let Said::Equivocation(evidence) = &verified.fields().said {
        evidence.check().map_err(|fault| {
            format!(
                "statement {number} accuses host {} falsely: {fault}",
                evidence.host
            )
        })?;
    }
    Ok(verified)
}

/// Walks the statements in the ledger's order; as with batches, one gap is one fault.
fn check_statements(statements: &[(LeafIndex, VerifiedStatement)], damaged: bool, report: &mut Report) {
    let mut chain = StatementChain::default();
    for (leaf, statement) in statements {
        let expected = chain.next;
        if let Err(fault) = chain.follow(statement) {
            if !damaged {
                let cause = if statement.fields().number > expected {
                    Cause::Missing
                } else {
                    Cause::Forgery
                };
                report.fault(Fault::of("log", cause, fault.to_string()).leaf(*leaf));
            }
            chain = StatementChain::after(statement).unwrap_or(chain);
        }
        if let Said::Other { kind, .. } = &statement.fields().said {
            report.note(format!(
                "statement {} at leaf {leaf} is of {kind}, which this program cannot read; upgrade",
                statement.fields().number
            ));
        }
    }
}

/// Checks one batch by itself and names what is wrong down to the event.
fn check_batch(leaf: LeafIndex, parsed: UnverifiedHeader, body: &[u8]) -> Result<(Link, KeyClaim), String> {
    let (host, sequence) = (parsed.claimed().host, parsed.claimed().sequence);
    let signed = SignedHeader::check(parsed).map_err(|fault| fault.to_string())?;
    let fields = signed.fields();
    let checked = signed.check_body(body).map(|_| ());
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
    let link = Link {
        leaf,
        host,
        sequence,
        first_event: fields.first_event,
        events: fields.event_count,
        previous: fields.previous,
        hash: signed.hash(),
        claim: 0,
    };
    Ok((link, fields.keys()))
}

/// Where a chain stands while the ledger is walked.
#[derive(Default)]
struct Tip {
    summary: ChainSummary,
    sequence: u64,
    event: u64,
    hash: Hash,
    keys: KeyHead,
}

/// Walks all chains in the ledger's order. After a fault the chain is taken up at the header found, so that
/// one gap is one fault.
fn check_chains(
    links: &[Link],
    claims: &Claims,
    damaged: bool,
    report: &mut Report,
) -> BTreeMap<HostId, ChainSummary> {
    let mut tips: BTreeMap<HostId, Tip> = BTreeMap::new();
    for link in links {
        let tip = tips.entry(link.host).or_default();
        let follows =
            link.sequence.0 == tip.sequence && link.first_event.0 == tip.event && link.previous == tip.hash;
        if !follows && !damaged {
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
        if let Some(claim) = claims.get(link.claim) {
            match tip.keys.follow(&link.host, claim) {
                // Nobody can say which keys were announced in a hole.
                Err(KeyFault::EpochSkipped { .. } | KeyFault::Unannounced(_)) if !follows => {}
                Err(fault) => {
                    let what = format!("batch {} of host {}: {fault}", link.sequence, link.host);
                    report.fault(Fault::of("log", Cause::Forgery, what).leaf(link.leaf));
                }
                Ok(_) => {}
            }
            tip.keys = KeyHead::behind(claim);
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
    use common::ids::{KeyEpoch, PublicKey};

    use super::*;

    fn host() -> HostId {
        HostId::of_genesis_key(&PublicKey([0; 32]))
    }

    /// What a header of `epoch` says of keys: key `n` is that of epoch `n`.
    fn claim(epoch: u8) -> KeyClaim {
        KeyClaim {
            epoch: KeyEpoch(u64::from(epoch)),
            key: PublicKey([epoch; 32]),
            next: Some(PublicKey([epoch + 1; 32])),
        }
    }

    fn link(leaf: u64, sequence: u64, previous: Hash) -> Link {
        Link {
            claim: 0,
            leaf: LeafIndex(leaf),
            host: host(),
            sequence: Sequence(sequence),
            first_event: EventIndex(sequence * 2),
            events: 2,
            previous,
            hash: Hash::of(&sequence.to_be_bytes()),
        }
    }

    fn check(links: &[Link]) -> (Report, BTreeMap<HostId, ChainSummary>) {
        check_with(links, &[claim(0)])
    }

    fn check_with(links: &[Link], made: &[KeyClaim]) -> (Report, BTreeMap<HostId, ChainSummary>) {
        let (mut report, mut claims) = (Report::default(), Claims::default());
        for (number, claim) in (0..).zip(made) {
            assert_eq!(claims.number_of(*claim), number);
        }
        let hosts = check_chains(links, &claims, false, &mut report);
        (report, hosts)
    }

    /// A whole chain of batches that make these claims.
    fn chain_of(made: &[KeyClaim]) -> Report {
        let links: Vec<Link> = (0..made.len() as u64)
            .map(|at| Link {
                claim: u32::try_from(at).unwrap(),
                ..link(
                    at,
                    at,
                    at.checked_sub(1)
                        .map_or_else(Hash::default, |n| Hash::of(&n.to_be_bytes())),
                )
            })
            .collect();
        check_with(&links, made).0
    }

    #[test]
    fn keys_are_followed_from_epoch_to_epoch() {
        assert!(chain_of(&[claim(0), claim(1), claim(2)]).is_sound());
        let thief = PublicKey([66; 32]);
        for (made, fault) in [
            (vec![claim(1)], "cannot follow"),
            (
                vec![KeyClaim {
                    key: thief,
                    ..claim(0)
                }],
                "host id was made from",
            ),
            (
                vec![
                    claim(0),
                    KeyClaim {
                        key: thief,
                        ..claim(1)
                    },
                ],
                "announced was",
            ),
            (vec![claim(0), claim(2)], "cannot follow"),
            (
                vec![
                    claim(0),
                    KeyClaim {
                        next: Some(thief),
                        ..claim(0)
                    },
                ],
                "before it announced",
            ),
            (
                vec![
                    claim(0),
                    KeyClaim {
                        next: None,
                        ..claim(1)
                    },
                ],
                "announces no next key",
            ),
        ] {
            let report = chain_of(&made);
            assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
            assert_eq!(report.faults[0].cause, Cause::Forgery);
            assert!(report.faults[0].what.contains(fault), "{:?}", report.faults);
        }
        // A hole that swallowed an epoch is one fault; a key that was over and comes back is another.
        let hash = |n: u64| Hash::of(&n.to_be_bytes());
        let hole = |number| {
            [
                link(0, 0, Hash::default()),
                Link {
                    claim: number,
                    ..link(1, 5, hash(4))
                },
            ]
        };
        let skipped = check_with(&hole(1), &[claim(0), claim(2)]).0;
        assert_eq!(
            (skipped.faults.len(), skipped.faults[0].cause),
            (1, Cause::Missing)
        );
        let foreign = check_with(
            &hole(1),
            &[
                claim(0),
                KeyClaim {
                    key: thief,
                    ..claim(0)
                },
            ],
        )
        .0;
        assert_eq!(foreign.faults.len(), 2, "{:?}", foreign.faults);
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
        assert_eq!(hosts.get(&host()), Some(&summary));
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
