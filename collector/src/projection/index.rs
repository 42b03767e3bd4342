//! The index: one record of fixed size for each batch and each statement, on disk; one entry for each host in
//! memory.
//!
//! Derived from the ledger by [`super::Projection::catch_up`] alone and written by nobody else; behind the ledger
//! after a crash and never ahead. Owns its directory; refuses to be believed: whoever finds a batch through it holds
//! what they found against the header (`docs/format/projection.md`, ADR 0016).

mod load;
mod push;
mod slots;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        OnceLock, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use common::{
    ids::{EventIndex, Hash, HostId},
    projection::{
        BatchRecord, Slot, StatedRecord,
        stated::STATED_RECORD_BYTES,
        tips::{HostTip, Tips},
    },
};

use self::slots::Slots;

/// Records of batches, of statements, and how far both are durable.
const BATCHES: &str = "batches";
const STATEMENTS: &str = "statements";
const TIPS: &str = "tips";
/// How far is written down each so many leaves, so that a start reads no more of the ledger than those.
const SAVE_LEAVES: u64 = 4096;
/// Times it is built again while it is open: more often, something writes to it.
const REBUILDS_MAX: u32 = 3;

/// Why the index does not serve.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The disk. The operator.
    #[error("the index in projections/chains cannot be {what}: {cause}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// It is not what was written, or not of this ledger: it is to be built again.
    #[error("the index in projections/chains is wrong: {0}")]
    Damaged(String),
}

impl IndexError {
    fn disk(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Disk { what, cause }
    }
}

/// What is kept in memory of one host.
#[derive(Debug, Clone)]
pub(super) struct Tip {
    pub(super) kept: HostTip,
    /// The record of its newest batch.
    pub(super) newest: Option<BatchRecord>,
}

impl Default for Tip {
    fn default() -> Self {
        Self {
            kept: HostTip {
                newest: None,
                head: Hash::default(),
                next_event: EventIndex(0),
                runs: 0,
                misplaced: 0,
                late_ns: 0,
                loss_late_ns: 0,
                silence: None,
                end: None,
                hostname: None,
            },
            newest: None,
        }
    }
}

/// What is kept in memory.
#[derive(Default)]
struct Known {
    leaves: u64,
    batches: u64,
    statements: u64,
    /// Hash of the last statement.
    head: Hash,
    hosts: BTreeMap<HostId, Tip>,
    saved_at: u64,
}

/// Where the records are.
struct Store {
    batches: Slots,
    statements: Slots,
}

/// The index of all hosts.
pub(super) struct Index {
    /// Where it lies; in memory where there is none.
    directory: Option<PathBuf>,
    /// Of which ledger.
    ledger: Hash,
    store: OnceLock<Store>,
    known: RwLock<Known>,
    rebuilt: AtomicU32,
}

impl Index {
    /// The index below `directory` of the ledger with this verifier key. Nothing is read or written yet.
    pub(super) fn new(directory: Option<&Path>, verifier: &str) -> Self {
        Self {
            directory: directory.map(|directory| directory.join("chains")),
            ledger: Hash::of(verifier.as_bytes()),
            store: OnceLock::new(),
            known: RwLock::default(),
            rebuilt: AtomicU32::new(0),
        }
    }

    fn store(&self) -> Result<&Store, IndexError> {
        let unopened = || IndexError::Damaged("it was not opened".into());
        self.store.get().ok_or_else(unopened)
    }

    fn known<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often it was thrown away since it was opened.
    pub(super) fn generation(&self) -> u32 {
        self.rebuilt.load(Ordering::Acquire)
    }

    /// Throws it away, on disk too, for this reason; it is built again from the ledger.
    pub(super) fn restart(&self, why: &str) -> Result<(), IndexError> {
        if self.generation() >= REBUILDS_MAX {
            return Err(IndexError::Damaged(format!(
                "{why}, though it was built again {REBUILDS_MAX} times: who writes to it?"
            )));
        }
        tracing::warn!(
            why,
            "the index in projections/chains is wrong and is built again from the ledger"
        );
        // The tips go first: a crash in between leaves records that nothing vouches for.
        if let Some(directory) = &self.directory {
            match fs::remove_file(directory.join(TIPS)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(IndexError::disk("cleared")(error));
                }
                _ => {}
            }
        }
        let store = self.store()?;
        store
            .batches
            .clear()
            .and_then(|()| store.statements.clear())
            .map_err(IndexError::disk("cleared"))?;
        self.change(|known| *known = Known::default());
        self.rebuilt.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Leaves indexed.
    pub(super) fn leaves(&self) -> u64 {
        self.known(|known| known.leaves)
    }

    /// Statements indexed.
    pub(super) fn statements(&self) -> u64 {
        self.known(|known| known.statements)
    }

    /// Looks at all hosts and what is known of them. Short: the writer waits.
    pub(super) fn hosts<T>(&self, look: impl FnOnce(&BTreeMap<HostId, Tip>) -> T) -> T {
        self.known(|known| look(&known.hosts))
    }

    /// Looks at what is known of a host. Short: the writer waits.
    pub(super) fn tip<T>(&self, host: &HostId, look: impl FnOnce(&Tip) -> T) -> Option<T> {
        self.known(|known| known.hosts.get(host).map(look))
    }

    /// The record of a batch of `host`.
    pub(super) fn batch(&self, host: &HostId, slot: Slot) -> Result<BatchRecord, IndexError> {
        let bytes = self.store()?.batches.read(slot, 1)?;
        let wrong = |why: &dyn std::fmt::Display| IndexError::Damaged(format!("batch {}: {why}", slot.0));
        let record = BatchRecord::decode(slot, &bytes).map_err(|bad| wrong(&bad))?;
        if record.host == BatchRecord::tag(host) {
            Ok(record)
        } else {
            Err(wrong(&"of another host than the chain that leads to it"))
        }
    }

    /// The records of `count` statements from number `from` on.
    pub(super) fn stated(&self, from: Slot, count: usize) -> Result<Vec<StatedRecord>, IndexError> {
        let bytes = self.store()?.statements.read(from, count)?;
        (from.0..)
            .zip(bytes.chunks(STATED_RECORD_BYTES))
            .map(|(number, bytes)| {
                StatedRecord::decode(Slot(number), bytes)
                    .map_err(|bad| IndexError::Damaged(format!("statement {number}: {bad}")))
            })
            .collect()
    }

    /// Makes everything durable and vouches for it, where enough came since the last time. A disk that refuses is
    /// said and tried again later: what is lost is the time to index again.
    pub(super) fn save_now_and_then(&self) {
        if self.known(|known| known.leaves.saturating_sub(known.saved_at)) >= SAVE_LEAVES {
            self.save();
        }
    }

    /// Makes everything durable and vouches for it.
    pub(super) fn save(&self) {
        let tips = self.known(|known| {
            (known.leaves > known.saved_at).then(|| Tips {
                ledger: self.ledger,
                leaves: known.leaves,
                batches: known.batches,
                statements: known.statements,
                head: known.head,
                hosts: known
                    .hosts
                    .iter()
                    .map(|(host, tip)| (*host, tip.kept.clone()))
                    .collect(),
            })
        });
        let (Some(tips), Some(directory)) = (tips, &self.directory) else {
            return;
        };
        if let Err(error) = self.write_tips(directory, &tips) {
            tracing::warn!(%error, "the index in projections/chains is not durable; the next start indexes more again");
        }
        self.change(|known| known.saved_at = tips.leaves);
    }

    fn write_tips(&self, directory: &Path, tips: &Tips) -> Result<(), IndexError> {
        let store = self.store()?;
        let written = || {
            store.batches.flush()?;
            store.statements.flush()?;
            // A crash before the rename leaves the tips before, which vouch for fewer of the same records.
            let partial = directory.join(format!("{TIPS}.new"));
            fs::write(&partial, tips.encode())?;
            fs::File::open(&partial)?.sync_data()?;
            fs::rename(&partial, directory.join(TIPS))
        };
        written().map_err(IndexError::disk("made durable"))
    }
}
