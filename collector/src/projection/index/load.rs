//! Taking up an index from disk: as far as its tips vouch for it and the ledger agrees.

use std::{collections::BTreeMap, fs, io, path::Path};

use common::{
    answer::Span,
    batch::UnverifiedHeader,
    ids::HostId,
    projection::{
        batch::BATCH_RECORD_BYTES,
        stated::STATED_RECORD_BYTES,
        tips::{HostTip, Tips},
    },
};

use super::{BATCHES, Index, IndexError, Known, STATEMENTS, Slots, Store, TIPS, Tip};
use crate::projection::Entries;

/// Longest file of tips read, bytes: some three million hosts.
const TIPS_BYTES_MAX: u64 = 512 << 20;

impl Index {
    /// Opens the files and takes up what the ledger agrees with; once.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] where the index is to be built again.
    pub(in crate::projection) fn open(&self, entries: &dyn Entries) -> Result<(), IndexError> {
        if self.store.get().is_some() {
            return Ok(());
        }
        let store = match &self.directory {
            None => Store {
                batches: Slots::in_memory(BATCH_RECORD_BYTES),
                statements: Slots::in_memory(STATED_RECORD_BYTES),
            },
            Some(directory) => files(directory).map_err(IndexError::disk("opened"))?,
        };
        // Only one thread catches up at a time.
        let _ = self.store.set(store);
        let Some(tips) = self.tips()? else {
            return Ok(());
        };
        let known = self.judge(tips, entries)?;
        self.change(|now| *now = known);
        Ok(())
    }

    /// The tips last saved; `None` where there are none.
    fn tips(&self) -> Result<Option<Tips>, IndexError> {
        let Some(path) = self.directory.as_ref().map(|directory| directory.join(TIPS)) else {
            return Ok(None);
        };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IndexError::disk("read")(error)),
            Ok(found) if found.len() > TIPS_BYTES_MAX => {
                return Err(IndexError::Damaged(format!("tips have {} bytes", found.len())));
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(IndexError::disk("read"))?;
        let tips = Tips::decode(&bytes).map_err(|bad| IndexError::Damaged(format!("tips: {bad}")))?;
        Ok(Some(tips))
    }

    /// Holds tips against the ledger.
    fn judge(&self, tips: Tips, entries: &dyn Entries) -> Result<Known, IndexError> {
        let damaged = |why: String| Err(IndexError::Damaged(why));
        if tips.ledger != self.ledger {
            return damaged("it is of another ledger".into());
        }
        if tips.leaves > entries.size() {
            return damaged(format!(
                "it has {} leaves where the ledger has {}",
                tips.leaves,
                entries.size()
            ));
        }
        let mut known = Known {
            leaves: tips.leaves,
            batches: tips.batches,
            statements: tips.statements,
            head: tips.head,
            hosts: BTreeMap::new(),
            saved_at: tips.leaves,
        };
        for (host, kept) in tips.hosts {
            let tip = self.tip_of(&host, kept, entries)?;
            known.hosts.insert(host, tip);
        }
        Ok(known)
    }

    /// What is known of a host, its newest batch held against the header in the ledger.
    fn tip_of(&self, host: &HostId, kept: HostTip, entries: &dyn Entries) -> Result<Tip, IndexError> {
        let Some(slot) = kept.newest else {
            return Ok(Tip { kept, newest: None });
        };
        let record = self.batch(host, slot)?;
        let leaf = record.span.leaf;
        let wrong =
            |why: String| IndexError::Damaged(format!("newest batch of host {host}, leaf {leaf}: {why}"));
        let bytes = entries.header(leaf).map_err(|error| wrong(error.to_string()))?;
        let header = UnverifiedHeader::parse(&bytes).map_err(|bad| wrong(bad.to_string()))?;
        let fields = header.claimed();
        let fits =
            fields.host == *host && header.hash() == kept.head && Span::of(leaf, fields) == record.span;
        if !fits {
            return Err(wrong("the ledger has another there".into()));
        }
        Ok(Tip {
            kept,
            newest: Some(record),
        })
    }
}

fn files(directory: &Path) -> io::Result<Store> {
    fs::create_dir_all(directory)?;
    Ok(Store {
        batches: Slots::open(&directory.join(BATCHES), BATCH_RECORD_BYTES)?,
        statements: Slots::open(&directory.join(STATEMENTS), STATED_RECORD_BYTES)?,
    })
}
