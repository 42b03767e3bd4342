//! The whole check of a ledger of batches: [`crate::fsck`] over its objects, and what only batches can say.
//!
//! Owns the reading of entries for this one purpose: signatures, bodies down to the event, and that each
//! host's chain with its succession of keys, and the collector's own chain of statements, runs through the
//! ledger without a gap, a repetition or a second history. A header's signature is checked against the key that
//! it names, in parallel; whether that key was the host's, in the order of the chain. Refuses to repair.
//! What `hostledger verify` and `hostledger-collector verify` share.

mod chains;
mod keys;
mod pruned;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use common::{
    batch::{BodyFault, Damage, SignedHeader, UnverifiedHeader},
    entry::UnverifiedEntry,
    ids::{HostId, LeafIndex, Sequence},
    ledger_keys::LedgerKeys,
    statement::{Said, UnverifiedStatement, VerifiedStatement},
};

use self::{
    chains::{Chains, Checked, Link},
    keys::KeyChanges,
    pruned::Pruned,
};
use crate::{
    fsck::{self, Checks, Options, Report},
    index::EntryFacts,
    storage::Storage,
};

/// What the ledger's index keeps of an entry.
#[must_use]
pub fn describe(entry: &[u8]) -> Option<EntryFacts> {
    Some(match UnverifiedEntry::parse(entry).ok()? {
        UnverifiedEntry::Batch(header) => {
            let fields = header.claimed();
            EntryFacts {
                host: fields.host,
                sequence: fields.sequence,
            }
        }
        UnverifiedEntry::Statement(statement) => {
            let fields = statement.claimed();
            EntryFacts {
                host: HostId::COLLECTOR,
                sequence: Sequence(fields.number.0),
            }
        }
    })
}

/// What a ledger of batches was found to hold.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// Faults, notes and counts, those of chains included.
    pub report: Report,
    /// Every host's chain as far as it stands.
    pub hosts: BTreeMap<HostId, ChainSummary>,
    /// Statements of the collector.
    pub statements: u64,
    /// Bodies that were pruned, each named by a certificate unless a fault says otherwise.
    pub pruned: u64,
}

/// One host's chain in the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainSummary {
    /// Batches.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
}

/// Checks everything in `storage`. Memory is bounded by [`fsck`]'s, by what is kept of the batches under way and by one entry
/// for each host.
#[must_use]
pub fn run(storage: &dyn Storage, options: &Options<'_>) -> Audit {
    let key = fsck::key_of(storage, options);
    let pruned = Mutex::new(Pruned::default());
    let changes = Mutex::new(KeyChanges::default());
    let mut chains = Chains::default();
    let check_entry = |leaf, entry: &[u8], body: &[u8]| {
        let checked = match UnverifiedEntry::parse(entry).map_err(|bad| bad.to_string())? {
            UnverifiedEntry::Batch(header) => Checked::Batch(check_batch(leaf, header, Some(body))?),
            UnverifiedEntry::Statement(statement) => {
                let statement = check_statement(leaf, statement, body, key.as_ref())?;
                let mut pruned = pruned.lock().unwrap_or_else(PoisonError::into_inner);
                pruned.statement(leaf, &statement);
                drop(pruned);
                if let Said::KeyChange { record } = &statement.fields().said {
                    let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                    changes.stated(leaf, record, key.as_ref())?;
                }
                Checked::Statement(Box::new(statement))
            }
        };
        Ok(checked)
    };
    let check_pruned = |leaf, entry: &[u8], by| {
        let UnverifiedEntry::Batch(header) = UnverifiedEntry::parse(entry).map_err(|bad| bad.to_string())?
        else {
            return Err("a statement has no body that could be pruned".to_owned());
        };
        let link = check_batch(leaf, header, None)?;
        let mut pruned = pruned.lock().unwrap_or_else(PoisonError::into_inner);
        pruned.gone(leaf, by);
        Ok(Checked::Batch(link))
    };
    let mut report = fsck::run_in_order(
        storage,
        options,
        Checks {
            entry: &check_entry,
            pruned: &check_pruned,
        },
        &mut |mut entries, report| chains.follow(&mut entries, report),
    );
    let (hosts, statements) = chains.finish();
    let pruned = pruned.into_inner().unwrap_or_else(PoisonError::into_inner);
    let checked = report.counts.leaves;
    let pruned = pruned.finish(storage, checked, key.as_ref(), &mut report);
    let changes = changes.into_inner().unwrap_or_else(PoisonError::into_inner);
    changes.finish(key.as_ref(), &mut report);
    Audit {
        report,
        hosts,
        statements,
        pruned,
    }
}

/// Checks one statement by itself. Without any key nothing can be said of its signature, which the report
/// notes for the checkpoint already.
fn check_statement(
    leaf: LeafIndex,
    statement: UnverifiedStatement,
    body: &[u8],
    key: Option<&LedgerKeys>,
) -> Result<VerifiedStatement, String> {
    let number = statement.claimed().number;
    if !body.is_empty() {
        return Err(format!("statement {number} has a body of {} bytes", body.len()));
    }
    let Some(key) = key else {
        return Err(format!("statement {number} cannot be checked for want of a key"));
    };
    let verified = VerifiedStatement::at_leaf(statement, leaf, key).map_err(|fault| fault.to_string())?;
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

/// Checks one batch by itself, with its body where that is there, and names what is wrong down to the event.
fn check_batch(leaf: LeafIndex, parsed: UnverifiedHeader, body: Option<&[u8]>) -> Result<Link, String> {
    let (host, sequence) = (parsed.claimed().host, parsed.claimed().sequence);
    let signed = SignedHeader::check(parsed).map_err(|fault| fault.to_string())?;
    let fields = signed.fields();
    let checked = body.map_or(Ok(()), |body| signed.check_body(body).map(|_| ()));
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
        hash: signed.hash(),
        claim: fields.keys(),
    })
}
