//! The projection: what queries need of the ledger, rebuilt from it at will.
//!
//! Owns one index record for each batch (in memory, fixed size), made by [`Projection::catch_up`] alone, at
//! start as while running; and state snapshots in a directory that anybody may throw away. Reads bodies one
//! at a time. Refuses to believe the disk: what answers are folded from is checked against its signed header.

mod chain;
mod entries;
mod epochs;
mod fold;
mod follow;
mod snapshots;
mod statements;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use common::{
    answer::Span,
    batch::BodyView,
    entry::UnverifiedEntry,
    ids::{HostId, LeafIndex, WallNanos},
};

pub use self::{
    chain::{Chain, Cut, Record},
    entries::{Entries, EntryError},
    fold::{Folded, StateError},
    follow::{Follower, follow},
    statements::{StatementRecord, Statements},
};

/// A snapshot is taken once this many events were folded since the last one.
const SNAPSHOT_EVENTS: u64 = 20_000;

/// What queries need of a ledger.
pub struct Projection {
    entries: Arc<dyn Entries>,
    /// Where snapshots lie; `None` keeps none.
    directory: Option<PathBuf>,
    chains: RwLock<Chains>,
    /// A snapshot is taken once this many events were folded since the last one.
    snapshot_events: u64,
    /// Held while catching up, so that each leaf is indexed once.
    catching_up: Mutex<()>,
}

/// The index of all hosts.
#[derive(Default)]
struct Chains {
    indexed: u64,
    hosts: BTreeMap<HostId, Chain>,
    statements: Statements,
    epochs: epochs::Epochs,
    /// Leaves that are no entry this build knows, or that continue no chain.
    other_leaves: u64,
}

impl Projection {
    /// A projection of `entries`, with its snapshots below `directory`. Nothing is read yet.
    #[must_use]
    pub fn new(entries: Arc<dyn Entries>, directory: Option<PathBuf>) -> Self {
        Self {
            entries,
            directory,
            chains: RwLock::default(),
            snapshot_events: SNAPSHOT_EVENTS,
            catching_up: Mutex::new(()),
        }
    }

    /// Takes a snapshot every so many events instead.
    #[must_use]
    pub fn snapshot_every(mut self, events: u64) -> Self {
        self.snapshot_events = events;
        self
    }

    /// The ledger underneath.
    #[must_use]
    pub fn entries(&self) -> &dyn Entries {
        &*self.entries
    }

    /// Indexes every leaf that is under a checkpoint and not indexed yet; returns how many are indexed.
    ///
    /// # Errors
    /// The ledger could not be read; what was indexed before that stays.
    pub fn catch_up(&self) -> Result<u64, EntryError> {
        let _one = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.read(|chains| chains.indexed);
        while next < self.entries.size() {
            let leaf = LeafIndex(next);
            let entry = UnverifiedEntry::parse(&self.entries.header(leaf)?).ok();
            let body = match &entry {
                // A body that cannot be read is named when an answer needs it; the rest must go on.
                Some(UnverifiedEntry::Batch(header)) if header.claimed().event_count > 0 => {
                    self.entries.body(leaf).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            let view = BodyView::parse(&body).ok();
            if let Some(UnverifiedEntry::Batch(header)) = &entry {
                let records = |chain: &Chain| chain.records().last().map(|record| record.span.leaf);
                let last = self.chain(&header.claimed().host, records).flatten();
                self.learn_keys(header, last)?;
            }
            let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
            let placed = match entry {
                Some(UnverifiedEntry::Batch(header)) => {
                    let chain = chains.hosts.entry(header.claimed().host).or_default();
                    chain.push(leaf, &header, view.as_ref())
                }
                Some(UnverifiedEntry::Statement(statement)) => chains.statements.push(leaf, &statement),
                None => false,
            };
            if !placed {
                chains.other_leaves += 1;
            }
            next += 1;
            chains.indexed = next;
        }
        Ok(next)
    }

    /// Leaves indexed.
    #[must_use]
    pub fn indexed(&self) -> u64 {
        self.read(|chains| chains.indexed)
    }

    /// Every host, by id.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        self.read(|chains| {
            chains
                .hosts
                .iter()
                .filter(|(_, chain)| !chain.records().is_empty())
                .map(|(host, _)| *host)
                .collect()
        })
    }

    /// Looks at a host's chain; `None` for a host without batches. Queries are short: writers wait.
    pub fn chain<T>(&self, host: &HostId, look: impl FnOnce(&Chain) -> T) -> Option<T> {
        self.read(|chains| chains.hosts.get(host).map(look))
    }

    /// Looks at the collector's statements. Queries are short: writers wait.
    pub fn statements<T>(&self, look: impl FnOnce(&Statements) -> T) -> T {
        self.read(|chains| look(&chains.statements))
    }

    /// The last instant watched on a host.
    #[must_use]
    pub fn latest(&self, host: &HostId) -> Option<WallNanos> {
        self.chain(host, |chain| {
            chain.records().last().map(|record| record.span.until_wall)
        })?
    }

    /// The batch that holds an event.
    #[must_use]
    pub fn batch_of(&self, host: &HostId, event: common::ids::EventIndex) -> Option<Span> {
        self.chain(host, |chain| chain.batch_of(event))?
    }

    fn read<T>(&self, look: impl FnOnce(&Chains) -> T) -> T {
        look(&self.chains.read().unwrap_or_else(PoisonError::into_inner))
    }
}
