//! Changes of the ledger's key: that each one in the history is stated where it says, and none is stated beside.
//!
//! Who cuts the last record off the history beside the log leaves the statement of it in the tree.

use std::collections::BTreeSet;

use common::{ids::LeafIndex, ledger_keys::LedgerKeys, text::Text};

use crate::{
    fsck::{Cause, Fault, Report},
    keys::KEY_HISTORY,
};

/// The changes that were found stated.
#[derive(Default)]
pub(super) struct KeyChanges(BTreeSet<LeafIndex>);

impl KeyChanges {
    /// Takes a statement whose signature holds. The error says why it is no fact.
    pub(super) fn stated(
        &mut self,
        leaf: LeafIndex,
        record: &Text,
        keys: Option<&LedgerKeys>,
    ) -> Result<(), String> {
        match keys.and_then(|keys| keys.change_at(leaf)) {
            Some((_, known)) if known == record.0 => {
                // As many as a history may hold.
                self.0.insert(leaf);
                Ok(())
            }
            _ => Err("it states a change of the ledger's key that the key history does not hold".to_owned()),
        }
    }

    /// Names every change that should be stated and is not.
    pub(super) fn finish(self, keys: Option<&LedgerKeys>, report: &mut Report) {
        let leaves = report.counts.leaves;
        for change in keys.map(LedgerKeys::changes).unwrap_or_default() {
            let leaf = LeafIndex(change.after);
            if change.after < leaves && !self.0.contains(&leaf) {
                let what = format!("{change}, which the ledger does not state there");
                report.fault(Fault::of(KEY_HISTORY, Cause::Forgery, what).leaf(leaf));
            } else if change.after >= leaves {
                report.note(format!(
                    "{KEY_HISTORY}: {change}; the next start of the collector states it"
                ));
            }
        }
    }
}
