//! A whole history: its records in order, and who must have signed each.

use alloc::vec::Vec;

use super::{
    HistoryFault, KeyChange, LEDGER_KEY_CHANGES_MAX, LEDGER_KEYS_BYTES_MAX, LedgerKeys, Signatory,
    UnverifiedRecord, Why,
    record::{Body, FIRST_LINE},
};
use crate::{ids::Hash, note::VerifierKey};

/// What a signature line starts with.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// A history that was parsed and not verified: nothing in it may be believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedHistory {
    records: Vec<UnverifiedRecord>,
}

impl UnverifiedHistory {
    /// Whether a file begins as histories do.
    #[must_use]
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(FIRST_LINE.as_bytes())
    }

    /// Takes a history apart.
    ///
    /// # Errors
    /// It is none; whoever supplied it is at fault.
    pub fn parse(bytes: &[u8]) -> Result<Self, HistoryFault> {
        if bytes.len() > LEDGER_KEYS_BYTES_MAX {
            return Err(HistoryFault::TooLong(bytes.len()));
        }
        let malformed = |number, what| HistoryFault::Malformed { number, what };
        let mut rest = core::str::from_utf8(bytes).map_err(|_| malformed(0, "it is not UTF-8"))?;
        let mut records = Vec::new();
        while !rest.is_empty() {
            let number = records.len();
            if number > LEDGER_KEY_CHANGES_MAX {
                return Err(HistoryFault::Full);
            }
            let end = end_of_record(rest).ok_or(malformed(number, "it is cut short"))?;
            let (record, others) = rest.split_at(end);
            records.push(UnverifiedRecord::parse(record.as_bytes(), number)?);
            rest = others;
        }
        if records.is_empty() {
            return Err(malformed(0, "it is empty"));
        }
        Ok(Self { records })
    }

    /// Checks every record: its place, and that whoever has a say signed it.
    ///
    /// # Errors
    /// The first record that does not stand.
    pub fn verify(self) -> Result<LedgerKeys, HistoryFault> {
        let mut records = self.records.into_iter();
        let genesis = records.next().ok_or(HistoryFault::Malformed {
            number: 0,
            what: "it is empty",
        })?;
        let mut held = begin(genesis)?;
        for (number, record) in (1..).zip(records) {
            follow(&mut held, number, record)?;
        }
        Ok(held.keys)
    }
}

/// Where the first record of `text` ends: behind its signature lines.
fn end_of_record(text: &str) -> Option<usize> {
    let mut end = text.find("\n\n")? + 2;
    loop {
        let rest = text.get(end..)?;
        if !rest.starts_with(SIGNATURE_PREFIX) {
            return Some(end);
        }
        end += rest.find('\n')? + 1;
    }
}

/// A history as far as it is verified.
struct Held {
    keys: LedgerKeys,
    offline: VerifierKey,
    hash: Hash,
}

fn begin(record: UnverifiedRecord) -> Result<Held, HistoryFault> {
    let Body::Genesis { key, offline } = &record.body else {
        return Err(HistoryFault::Order {
            number: 0,
            what: "a history begins with its first keys",
        });
    };
    // Signatures of the offline key must never count for a checkpoint.
    if key.name() == offline.name() {
        return Err(HistoryFault::Order {
            number: 0,
            what: "the offline key bears the ledger's name",
        });
    }
    record.check_signatures(0, &[(Signatory::Old, key), (Signatory::Offline, offline)])?;
    let (key, offline) = (key.clone(), offline.clone());
    Ok(Held {
        hash: record.hash(),
        offline: offline.clone(),
        keys: LedgerKeys {
            first: key.clone(),
            in_force: key,
            offline: Some(offline),
            records: Vec::from([record.bytes]),
            changes: Vec::new(),
        },
    })
}

fn follow(held: &mut Held, number: usize, record: UnverifiedRecord) -> Result<(), HistoryFault> {
    let order = |what| HistoryFault::Order { number, what };
    let Body::Change(change) = &record.body else {
        return Err(order("first keys stand only at the beginning"));
    };
    if usize::try_from(change.number) != Ok(number) {
        return Err(order("its number is not the next"));
    }
    if change.previous != held.hash {
        return Err(order("it names another record as the one before it"));
    }
    if change.ends != held.keys.in_force {
        return Err(order("the key that it ends is not the one in force"));
    }
    if held
        .keys
        .changes
        .last()
        .is_some_and(|last| last.after >= change.after)
    {
        return Err(order("its size is not beyond that of the change before"));
    }
    check_new(held, change).map_err(order)?;
    let (old, new) = ((Signatory::Old, &change.ends), (Signatory::New, &change.key));
    let offline = (Signatory::Offline, &held.offline);
    match change.why {
        Why::Rotated => record.check_signatures(number, &[old, new, offline])?,
        Why::Revoked { .. } => record.check_signatures(number, &[new, offline])?,
    }
    held.hash = record.hash();
    held.keys.in_force = change.key.clone();
    held.keys.changes.push(change.clone());
    held.keys.records.push(record.bytes);
    Ok(())
}

/// A key that ended never comes back, and no two can be taken for one another by name and id.
fn check_new(held: &Held, change: &KeyChange) -> Result<(), &'static str> {
    if change.key.name() != held.keys.first.name() {
        return Err("the new key bears another name than the ledger's first");
    }
    let known = held.keys.all().chain(core::iter::once(&held.offline));
    let mut known = known.map(VerifierKey::id);
    if known.any(|id| id == change.key.id()) {
        return Err("the new key, or its id, was in use before");
    }
    Ok(())
}
