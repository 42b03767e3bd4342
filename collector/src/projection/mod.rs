//! The projection: what queries need of the ledger, rebuilt from it at will.
//!
//! Owns an index record for each batch and each statement, on disk, made by [`Projection::catch_up`] alone, at start
//! as while running; and state snapshots. In memory stands one entry for each host and the keys of those asked about,
//! whatever the length of the ledger. Reads bodies one at a time. Refuses to believe the disk: what answers are
//! folded from is checked against its signed header, and what says when a host was watched against the header too.

mod chain;
mod entries;
mod epochs;
mod fold;
mod follow;
mod index;
mod losses;
mod snapshots;
mod statements;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    answer::Span,
    batch::BodyView,
    entry::UnverifiedEntry,
    ids::{EventIndex, HostId, LeafIndex, WallNanos},
    text::Text,
};

pub use self::{
    chain::{Chain, Cut},
    entries::{Entries, EntryError},
    fold::{Folded, StateError},
    follow::{Follower, follow},
    index::IndexError,
    losses::KeepLossesError,
    statements::Statements,
};
use self::{epochs::Epochs, index::Index, snapshots::Reach};
pub use common::projection::BatchRecord;

/// A snapshot is taken once folding on from the last one costs so much: events, and ten for each batch.
const SNAPSHOT_WORK: u64 = 20_000;
/// Progress is said each so many leaves.
const TELL_LEAVES: u64 = 65_536;

/// What queries need of a ledger.
pub struct Projection {
    entries: Arc<dyn Entries>,
    /// Where index and snapshots lie; `None` keeps the index in memory and no snapshots.
    directory: Option<PathBuf>,
    index: Index,
    epochs: Mutex<Epochs>,
    /// How far each host's snapshots reach.
    reach: Mutex<BTreeMap<HostId, Reach>>,
    /// A snapshot is taken once folding on from the last one costs so much.
    snapshot_work: u64,
    /// Held while catching up, so that each leaf is indexed once.
    catching_up: Mutex<()>,
    folded: Counter,
}

/// What was folded since the start.
#[derive(Debug, Default)]
struct Counter {
    batches: AtomicU64,
    events: AtomicU64,
}

impl Counter {
    fn add(&self, events: u32) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(u64::from(events), Ordering::Relaxed);
    }
}

impl Projection {
    /// A projection of `entries`, with its index and snapshots below `directory`. Nothing is read yet.
    #[must_use]
    pub fn new(entries: Arc<dyn Entries>, directory: Option<PathBuf>) -> Self {
        Self {
            index: Index::new(directory.as_deref(), &entries.verifier_key()),
            entries,
            directory,
            epochs: Mutex::default(),
            reach: Mutex::default(),
            snapshot_work: SNAPSHOT_WORK,
            catching_up: Mutex::new(()),
            folded: Counter::default(),
        }
    }

    /// Takes a snapshot each time folding on costs so much instead: events, and ten for each batch.
    #[must_use]
    pub fn snapshot_every(mut self, work: u64) -> Self {
        self.snapshot_work = work;
        self
    }

    /// The ledger underneath.
    #[must_use]
    pub fn entries(&self) -> &dyn Entries {
        &*self.entries
    }

    /// Batches with events, and events, that were folded since the start.
    #[must_use]
    pub fn folded_so_far(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.folded.batches), read(&self.folded.events))
    }

    /// Indexes every leaf that is under a checkpoint and not indexed yet; returns how many are indexed. An index that
    /// turns out to be wrong is built again.
    ///
    /// # Errors
    /// Ledger or disk do not serve; what was indexed before that stays.
    pub fn catch_up(&self) -> Result<u64, StateError> {
        let _one = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        let indexed = self.index.open(&*self.entries);
        match indexed.map_err(StateError::from).and_then(|()| self.index_rest()) {
            Err(StateError::Index(IndexError::Damaged(why))) => {
                self.restart(&why)?;
                self.index_rest()
            }
            other => other,
        }
    }

    fn index_rest(&self) -> Result<u64, StateError> {
        let mut next = self.index.leaves();
        let size = self.entries.size();
        let tell = size.saturating_sub(next) >= TELL_LEAVES;
        let say = |next: u64| {
            if tell && next.is_multiple_of(TELL_LEAVES) {
                tracing::info!(leaves = next, of = size, "indexing the ledger for queries");
            }
        };
        while next < size {
            let begun = next;
            // Small groups are read whole: where many come a second, the disk is asked once for many leaves.
            for (header, body) in self.entries.ahead(LeafIndex(begun)).iter() {
                say(next);
                self.index_leaf(LeafIndex(next), header, Some(body))?;
                next += 1;
            }
            if next == begun {
                say(next);
                self.index_leaf(LeafIndex(next), &self.entries.header(LeafIndex(next))?, None)?;
                next += 1;
            }
        }
        if tell {
            tracing::info!(leaves = next, "the ledger is indexed for queries");
        }
        Ok(next)
    }

    /// Indexes the entry at `leaf`, whose body is read if it is needed and not given.
    fn index_leaf(&self, leaf: LeafIndex, header: &[u8], body: Option<&[u8]>) -> Result<(), IndexError> {
        match UnverifiedEntry::parse(header).ok() {
            Some(UnverifiedEntry::Batch(header)) => {
                let body = match (body, header.claimed().event_count) {
                    (_, 0) => Cow::default(),
                    (Some(body), _) => Cow::from(body),
                    // A body that cannot be read is named when an answer needs it; the rest must go on.
                    (None, _) => Cow::from(self.entries.body(leaf).unwrap_or_default()),
                };
                self.index
                    .push_batch(leaf, &header, BodyView::parse(&body).ok().as_ref())?;
            }
            Some(UnverifiedEntry::Statement(statement)) => self.index.push_statement(leaf, &statement)?,
            None => self.index.push_other(leaf),
        }
        self.index.save_now_and_then();
        Ok(())
    }

    /// Builds the index again, where nobody did since `generation`, for it was found wrong.
    ///
    /// # Errors
    /// The disk, or it was built again too often.
    pub fn distrust(&self, generation: u32, why: &str) -> Result<(), StateError> {
        let _one = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        if self.index.generation() == generation {
            self.restart(why)?;
        }
        Ok(())
    }

    fn restart(&self, why: &str) -> Result<(), StateError> {
        self.index.restart(why)?;
        *self.epochs.lock().unwrap_or_else(PoisonError::into_inner) = Epochs::default();
        Ok(())
    }

    /// How often the index was built again since the start.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.index.generation()
    }

    /// Makes the index durable up to here, so that the next start takes it up.
    pub fn save(&self) {
        let _one = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        self.index.save();
    }

    /// Leaves indexed.
    #[must_use]
    pub fn indexed(&self) -> u64 {
        self.index.leaves()
    }

    /// Every host, by id.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        self.index.hosts(|hosts| {
            hosts
                .iter()
                .filter(|(_, tip)| tip.newest.is_some())
                .map(|(host, _)| *host)
                .collect()
        })
    }

    /// A host's chain as it is now; `None` for a host that the ledger does not know.
    #[must_use]
    pub fn chain(&self, host: &HostId) -> Option<Chain<'_>> {
        let tip = self.index.tip(host, Clone::clone)?;
        Some(Chain::new(&self.index, &*self.entries, *host, tip))
    }

    /// A host's name, as it last gave it.
    #[must_use]
    pub fn hostname(&self, host: &HostId) -> Option<Text> {
        self.index.tip(host, |tip| tip.kept.hostname.clone())?
    }

    /// The last instant watched on a host.
    #[must_use]
    pub fn latest(&self, host: &HostId) -> Option<WallNanos> {
        self.index
            .tip(host, |tip| tip.newest.map(|newest| newest.span.until_wall))?
    }

    /// The batch that holds an event.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn batch_of(&self, host: &HostId, event: EventIndex) -> Result<Option<Span>, IndexError> {
        self.chain(host).map_or(Ok(None), |chain| chain.batch_of(event))
    }

    fn with_reach<T>(&self, look: impl FnOnce(&mut BTreeMap<HostId, Reach>) -> T) -> T {
        look(&mut self.reach.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Projection {
    fn drop(&mut self) {
        self.index.save();
    }
}
