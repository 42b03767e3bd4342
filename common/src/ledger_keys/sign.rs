//! Making records: what is made is verified before anybody gets it.

use alloc::{string::String, vec::Vec};

use super::{
    HistoryFault, KeyChange, LedgerKeys, Why,
    record::{Body, UnverifiedRecord},
};
use crate::{
    ids::Hash,
    note::{self, SignerKey},
};

impl LedgerKeys {
    /// A new history: the ledger's first key and the offline key sign for each other.
    ///
    /// # Errors
    /// The operator's: the two bear one name.
    pub fn genesis(key: &SignerKey, offline: &SignerKey) -> Result<Self, HistoryFault> {
        let body = Body::Genesis {
            key: key.verifier().clone(),
            offline: offline.verifier().clone(),
        };
        Self::given(&signed(0, &body, &[key, offline])?)
    }

    /// The history with one more change: `new` signs checkpoints of more than `after` leaves, whose root is `root`.
    ///
    /// # Errors
    /// The operator's: a key that is not the one this history names.
    pub fn rotate(
        &self,
        old: &SignerKey,
        new: &SignerKey,
        offline: &SignerKey,
        after: u64,
        root: Hash,
    ) -> Result<Self, HistoryFault> {
        self.change(new, after, root, Why::Rotated, &[old, new, offline])
    }

    /// The history with one more change, for which the key in force is not asked: it signs nothing beyond `after`
    /// leaves, whose root is `root`.
    ///
    /// # Errors
    /// The operator's: a key that is not the one this history names, a reason that cannot stand in a record.
    pub fn revoke(
        &self,
        new: &SignerKey,
        offline: &SignerKey,
        after: u64,
        root: Hash,
        reason: &str,
    ) -> Result<Self, HistoryFault> {
        let reason = String::from(reason);
        self.change(new, after, root, Why::Revoked { reason }, &[new, offline])
    }

    fn change(
        &self,
        new: &SignerKey,
        after: u64,
        root: Hash,
        why: Why,
        signers: &[&SignerKey],
    ) -> Result<Self, HistoryFault> {
        let number = self.records.len();
        let last = self.records.last().ok_or(HistoryFault::Malformed {
            number: 0,
            what: "there is no history to go on with",
        })?;
        let body = Body::Change(KeyChange {
            number: u32::try_from(number).map_err(|_| HistoryFault::Full)?,
            previous: Hash::of(last),
            ends: self.in_force.clone(),
            key: new.verifier().clone(),
            after,
            root,
            why,
        });
        let mut bytes = self.encode();
        bytes.extend_from_slice(&signed(number, &body, signers)?);
        self.learn(&bytes)?.ok_or(HistoryFault::Full)
    }
}

fn signed(number: usize, body: &Body, signers: &[&SignerKey]) -> Result<Vec<u8>, HistoryFault> {
    let malformed = |what| HistoryFault::Malformed { number, what };
    let note = note::sign(&body.text(), signers)
        .map_err(|_| malformed("a reason holds a line break or a control character"))?;
    // A line break in a field would sign another record than the one described here.
    let read = UnverifiedRecord::parse(note.as_bytes(), number)?;
    if read.body == *body {
        Ok(note.into_bytes())
    } else {
        Err(malformed("a field holds a line break"))
    }
}
