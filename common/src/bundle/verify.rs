//! The check of a bundle, in the order that `docs/format/bundle.md` gives.

use alloc::{boxed::Box, collections::BTreeSet, string::ToString, vec::Vec};

use super::{
    Asked, BadBundle, Bundle, BundleFault, Choice, Contents, EventFault, HeaderFault, HostPart, HostReport,
    Misfit, NamedEvent, ProvenRow, Report, Selection, StatementPart, StatementRow,
    report::{EnvelopeRow, Head, Missing, Witness},
    rules,
};
use crate::{
    batch::{ChainFault, ChainHead, HeaderFields, HostKeys, SignedHeader, UnverifiedHeader, VerifiedHeader},
    event::Envelope,
    ids::{EventIndex, Hash, HostId, KeyEpoch, LeafIndex, Sequence, hex},
    ledger_keys::{LedgerKeys, LedgerTrust},
    merkle::{ProofError, leaf_hash, leaf_hashes, root_from_multi},
    statement::{Said, UnverifiedStatement, VerifiedStatement},
    witness::Policy,
};

/// Checks a bundle against the keys of the ledger that are trusted and, where one is given, a policy of witnesses.
///
/// # Errors
/// The first thing that does not hold, in the documented order.
pub fn check(bytes: &[u8], trust: &impl LedgerTrust, policy: Option<&Policy>) -> Result<Report, BundleFault> {
    let bundle = Bundle::decode(bytes)?;
    let mut keys = trust.keys();
    let trusted = keys.first().to_string();
    if bundle.verifier_key != trusted {
        return Err(BundleFault::OtherLedger {
            found: bundle.verifier_key,
            trusted,
        });
    }
    if !bundle.ledger_keys.is_empty()
        && let Some(learnt) = keys.learn(&bundle.ledger_keys)?
    {
        keys = learnt;
    }
    let head = keys.open_checkpoint(&bundle.checkpoint)?;
    let witnesses = policy.map_or_else(|| Ok(Vec::new()), |policy| judge(&bundle.checkpoint, policy))?;
    let mut leaves: Vec<(u64, Hash)> = Vec::new();
    let (mut hosts, mut events) = (Vec::new(), Vec::new());
    for part in &bundle.hosts {
        hosts.push(check_host(part, &bundle.selection, &mut events, &mut leaves)?);
    }
    let mut statements = Vec::new();
    for part in &bundle.statements {
        statements.push(check_statement(part, &keys)?);
        leaves.push((part.leaf.0, leaf_hash(&part.statement)));
    }
    leaves.sort_unstable_by_key(|(leaf, _)| *leaf);
    let root = root_from_multi(&leaves, head.size, &bundle.path).map_err(BundleFault::Ledger)?;
    if root != head.root {
        return Err(BundleFault::Ledger(ProofError::Root {
            computed: root,
            claimed: head.root,
        }));
    }
    let missing = missing(&bundle.selection, &hosts, &events);
    let whole =
        |host: &HostReport| host.unwatched.is_empty() && host.withheld.is_empty() && host.lost.is_empty();
    Ok(Report {
        verdict: "sound",
        complete: !hosts.is_empty() && missing == Missing::default() && hosts.iter().all(whole),
        ledger: Head {
            origin: head.origin,
            size: head.size,
            root: head.root,
        },
        witnesses,
        asked: Asked::from(&bundle.selection),
        missing,
        hosts,
        statements,
        events,
    })
}

fn judge(note: &[u8], policy: &Policy) -> Result<Vec<Witness>, BundleFault> {
    let quorum = policy.judge(note).map_err(BundleFault::Cosignature)?;
    if !quorum.satisfied {
        return Err(BundleFault::Witnesses {
            missing: quorum.missing,
        });
    }
    let signed = quorum.signed.into_iter();
    Ok(signed
        .map(|one| Witness {
            name: one.witness,
            posix_seconds: one.posix_seconds,
        })
        .collect())
}

fn check_host(
    part: &HostPart,
    selection: &Selection,
    events: &mut Vec<ProvenRow>,
    leaves: &mut Vec<(u64, Hash)>,
) -> Result<HostReport, BundleFault> {
    let host = part.host;
    let allowed = match selection {
        Selection::Interval { hosts, .. } => hosts.is_empty() || hosts.binary_search(&host).is_ok(),
        Selection::Events(events) => {
            let at = events.partition_point(|(named, _)| *named < host);
            events.get(at).is_some_and(|(named, _)| *named == host)
        }
    };
    if !allowed {
        return Err(BundleFault::Selection { host, batch: None });
    }
    let mut keys = HostKeys::new(host);
    let mut before = None;
    for (at, bytes) in part.key_history.iter().enumerate() {
        let signed = signed(host, at, bytes)?;
        let fields = signed.fields();
        if fields.key_epoch != KeyEpoch(at as u64) || before.is_some_and(|before| before >= fields.sequence) {
            return Err(BundleFault::Chain {
                host,
                sequence: fields.sequence,
                cause: Box::new(Misfit::History),
            });
        }
        before = Some(fields.sequence);
        keys.learn(&signed).map_err(chain(host, fields.sequence))?;
    }
    let mut head: Option<ChainHead> = None;
    let mut headers: Vec<HeaderFields> = Vec::new();
    let mut withheld = Vec::new();
    for (at, batch) in part.batches.iter().enumerate() {
        let signed = signed(host, part.key_history.len() + at, &batch.header)?;
        let sequence = signed.fields().sequence;
        let verified = match &mut head {
            Some(head) => {
                head.follow(&signed).map_err(chain(host, sequence))?;
                VerifiedHeader::danger_admitted_before(signed)
            }
            None => {
                let epochs = part.key_history.len() as u64;
                if signed.fields().key_epoch != KeyEpoch(epochs)
                    || before.is_some_and(|before| before >= sequence)
                {
                    return Err(BundleFault::Chain {
                        host,
                        sequence,
                        cause: Box::new(Misfit::History),
                    });
                }
                let verified = keys.check(signed).map_err(chain(host, sequence))?;
                head = Some(ChainHead::after(&verified).map_err(chain(host, sequence))?);
                verified
            }
        };
        check_contents(&verified, &batch.contents, selection, batch.leaf, events)?;
        let fields = verified.fields();
        withheld.extend(rules::withheld(selection, fields, &batch.contents));
        leaves.push((batch.leaf.0, leaf_hash(&batch.header)));
        headers.push(fields.clone());
    }
    let fields: Vec<&HeaderFields> = headers.iter().collect();
    let (Some(first), Some(last), Some(head)) = (fields.first(), fields.last(), head) else {
        return Err(BundleFault::Bytes(BadBundle::Field {
            field: "batches",
            value: 0,
        }));
    };
    let (choice, unwatched) = match selection {
        Selection::Interval {
            since, until, entity, ..
        } => (
            if entity.is_some() {
                Choice::Exporter
            } else {
                Choice::Whole
            },
            rules::unwatched(&fields, since.0, until.0),
        ),
        Selection::Events(_) => (Choice::Named, Vec::new()),
    };
    Ok(HostReport {
        host,
        batches: [first.sequence, last.sequence],
        epochs: [first.key_epoch, last.key_epoch],
        events: [first.first_event, head.next_event],
        from_ns: first.from_wall.0,
        until_ns: last.until_wall.0,
        choice,
        unwatched,
        withheld,
        lost: if choice == Choice::Named {
            Vec::new()
        } else {
            rules::lost(&fields)
        },
    })
}

fn signed(host: HostId, at: usize, bytes: &[u8]) -> Result<SignedHeader, BundleFault> {
    let header = |cause| BundleFault::Header {
        host,
        at,
        cause: Box::new(cause),
    };
    let parsed = UnverifiedHeader::parse(bytes).map_err(|bad| header(bad.into()))?;
    SignedHeader::check(parsed).map_err(|fault| header(HeaderFault::Signature(fault)))
}

fn chain(host: HostId, sequence: Sequence) -> impl Fn(ChainFault) -> BundleFault {
    move |fault| BundleFault::Chain {
        host,
        sequence,
        cause: Box::new(fault.into()),
    }
}

fn check_contents(
    header: &VerifiedHeader,
    contents: &Contents,
    selection: &Selection,
    leaf: LeafIndex,
    rows: &mut Vec<ProvenRow>,
) -> Result<(), BundleFault> {
    let fields = header.fields();
    let (host, batch) = (fields.host, fields.sequence);
    let wrong = |cause| BundleFault::Events {
        host,
        sequence: batch,
        cause: Box::new(cause),
    };
    let row = |index: EventIndex, event: &[u8], hash: Hash| ProvenRow {
        host,
        index,
        batch,
        leaf,
        hash,
        envelope: envelope(event),
    };
    match contents {
        Contents::Header | Contents::Gone => {}
        Contents::Body(body) => {
            if matches!(selection, Selection::Events(_)) {
                return Err(BundleFault::Selection {
                    host,
                    batch: Some(batch),
                });
            }
            let body = header.check_body(body).map_err(|fault| wrong(fault.into()))?;
            rows.extend(
                body.events()
                    .zip(body.leaves())
                    .map(|((index, event), hash)| row(index, event, *hash)),
            );
        }
        Contents::Events { events, path } => {
            let bytes: Vec<&[u8]> = events.iter().map(|(_, event)| event.as_slice()).collect();
            let hashes = leaf_hashes(&bytes);
            let positions = events.iter().map(|(position, _)| u64::from(*position));
            let leaves: Vec<(u64, Hash)> = positions.zip(hashes.iter().copied()).collect();
            let root = root_from_multi(&leaves, u64::from(fields.event_count), path)
                .map_err(|fault| wrong(fault.into()))?;
            if root != fields.events_root {
                return Err(wrong(EventFault::Proof(ProofError::Root {
                    computed: root,
                    claimed: fields.events_root,
                })));
            }
            for (event, (position, hash)) in bytes.iter().zip(&leaves) {
                let index = fields
                    .first_event
                    .checked_add(*position)
                    .ok_or(wrong(EventFault::Overflow))?;
                if !rules::asked(selection, fields, index.0, event) {
                    return Err(BundleFault::Selection {
                        host,
                        batch: Some(batch),
                    });
                }
                rows.push(row(index, event, *hash));
            }
        }
    }
    Ok(())
}

fn envelope(event: &[u8]) -> Option<EnvelopeRow> {
    let envelope = Envelope::parse(event).ok()?;
    Some(EnvelopeRow {
        kind: envelope.kind,
        version: envelope.version,
        key: hex(envelope.key),
        boot_ns: envelope.boot_ns.0,
        wall_ns: envelope.wall_ns.0,
    })
}

fn check_statement(part: &StatementPart, keys: &LedgerKeys) -> Result<StatementRow, BundleFault> {
    let leaf = part.leaf;
    let wrong = |cause| BundleFault::Statement {
        leaf,
        cause: Box::new(cause),
    };
    let parsed = UnverifiedStatement::parse(&part.statement).map_err(|bad| wrong(bad.into()))?;
    let statement = VerifiedStatement::at_leaf(parsed, leaf, keys).map_err(|fault| wrong(fault.into()))?;
    let fields = statement.fields();
    if let Said::Equivocation(evidence) = &fields.said {
        evidence.check().map_err(|fault| wrong(fault.into()))?;
    }
    Ok(StatementRow {
        number: fields.number,
        leaf,
        kind: fields.said.kind(),
        at_ns: fields.at.0,
    })
}

/// What was asked for by name and is not here.
fn missing(selection: &Selection, hosts: &[HostReport], rows: &[ProvenRow]) -> Missing {
    match selection {
        Selection::Interval { hosts: asked, .. } => Missing {
            hosts: asked
                .iter()
                .copied()
                .filter(|host| hosts.binary_search_by_key(host, |part| part.host).is_err())
                .collect(),
            events: Vec::new(),
        },
        Selection::Events(asked) => {
            let found: BTreeSet<(HostId, EventIndex)> =
                rows.iter().map(|row| (row.host, row.index)).collect();
            let absent = asked.iter().filter(|event| !found.contains(event));
            Missing {
                hosts: Vec::new(),
                events: absent
                    .map(|(host, index)| NamedEvent {
                        host: *host,
                        index: *index,
                    })
                    .collect(),
            }
        }
    }
}
