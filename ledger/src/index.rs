//! Where each leaf lies and which batch of which host it is.
//!
//! A file of one fixed-size record for each leaf, only ever appended to; in memory, one entry for each host.
//! Derived from the groups and from nothing else: thrown away at will, behind them after a crash and never
//! ahead. Owns that directory; refuses to be believed: whoever reads through it holds what they find against
//! header and tile, and says so where it does not fit (`docs/format/index.md`, ADR 0012).

pub mod record;
mod records;
pub mod tips;

use std::{collections::BTreeMap, io, path::Path};

use common::ids::{Hash, HostId, LeafIndex, Sequence};

use self::{
    record::{Link, RECORD_BYTES, Record, host_tag},
    records::Records,
    tips::Tips,
};
use crate::group::{Head, Place};

/// Tips are saved once so many leaves were added, so that a start reads no more groups than those.
const SAVE_LEAVES: u64 = 16_384;
/// Bytes of records that may wait for a disk that refuses them.
const UNWRITTEN_BYTES_MAX: usize = 16 << 20;

/// What the index keeps of an entry. Supplied by the caller, to whom alone entries have meaning. A statement of
/// the collector is indexed as number so-and-so in the chain of [`HostId::COLLECTOR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryFacts {
    /// Whose batch it is.
    pub host: HostId,
    /// Its position in the host's chain.
    pub sequence: Sequence,
}

/// Reads the facts of an entry; `None` for a leaf that belongs to no chain.
pub type Describe = fn(&[u8]) -> Option<EntryFacts>;

/// One batch of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRecord {
    /// Position in the host's chain.
    pub sequence: Sequence,
    /// Position in the ledger.
    pub leaf: LeafIndex,
}

/// Where a leaf's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// First leaf of its group, which names the object.
    pub group: LeafIndex,
    /// Header, body and checksum within the object.
    pub place: Place,
}

/// The index is not what was written: it is to be built again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("index: {0}")]
pub struct Damaged(pub(crate) String);

/// What happens to an index that is built again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexNews {
    /// It is thrown away, for this reason.
    Building(String),
    /// So many leaves are indexed, of at least so many.
    Progress {
        /// Leaves indexed.
        leaves: u64,
        /// Leaves under the checkpoint.
        of: u64,
    },
    /// It is whole again.
    Built {
        /// Leaves indexed.
        leaves: u64,
    },
}

/// Hears of it. On whatever thread finds out: be quick.
pub type Tell = Box<dyn Fn(IndexNews) + Send + Sync>;

/// The newest batch of a host.
#[derive(Debug, Clone, Copy)]
struct Tip {
    leaf: LeafIndex,
    link: Link,
}

/// The index of all durable leaves.
#[derive(Debug)]
pub struct Index {
    records: Records,
    /// The ledger it is of.
    ledger: Hash,
    leaves: u64,
    /// Records of the last leaves, which the file has not yet.
    unwritten: Vec<u8>,
    tips: BTreeMap<HostId, Tip>,
    saved_at: u64,
    /// Times it was cleared.
    rebuilt: u32,
    /// Why it could not be built again: nothing is answered then.
    broken: Option<Damaged>,
}

impl Index {
    /// An empty index in memory.
    pub(crate) fn in_memory() -> Self {
        Self::over(Records::Memory(Vec::new()), Hash::default())
    }

    /// The index in `directory` of the ledger with this verifier key, as far as it vouches for itself; empty,
    /// with the reason, where it does not.
    pub(crate) fn open(directory: &Path, verifier: &str) -> io::Result<(Self, Option<Damaged>)> {
        let mut index = Self::over(Records::open(directory)?, Records::name_of(verifier));
        match index.load() {
            Ok(()) => Ok((index, None)),
            Err(why) => {
                index.clear()?;
                Ok((index, Some(Damaged(why))))
            }
        }
    }

    fn over(records: Records, ledger: Hash) -> Self {
        Self {
            records,
            ledger,
            leaves: 0,
            unwritten: Vec::new(),
            tips: BTreeMap::new(),
            saved_at: 0,
            rebuilt: 0,
            broken: None,
        }
    }

    /// Takes up what the tips vouch for; records beyond are made again.
    fn load(&mut self) -> Result<(), String> {
        let tips = self.records.tips()?.ok_or("there is none")?;
        if tips.ledger != self.ledger {
            return Err("it is of another ledger".into());
        }
        for (host, leaf) in tips.hosts {
            let link = self
                .records
                .read(leaf)?
                .link
                .filter(|link| link.host == host_tag(&host));
            let link = link.ok_or_else(|| format!("leaf {leaf} is no batch of host {host}"))?;
            self.tips.insert(host, Tip { leaf, link });
        }
        (self.leaves, self.saved_at) = (tips.leaves, tips.leaves);
        Ok(())
    }

    /// Forgets everything, on disk too.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.records.clear()?;
        self.unwritten.clear();
        self.tips.clear();
        (self.leaves, self.saved_at) = (0, 0);
        self.rebuilt += 1;
        self.broken = None;
        Ok(())
    }

    /// Building it again up to `leaves` failed: from now on it answers nothing but that.
    pub(crate) fn give_up(&mut self, leaves: u64, why: &str) {
        self.leaves = leaves;
        self.unwritten.clear();
        self.broken = Some(Damaged(why.to_owned()));
    }

    fn whole(&self) -> Result<(), Damaged> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// How often it was thrown away since it was opened.
    pub(crate) fn rebuilt(&self) -> u32 {
        self.rebuilt
    }

    /// Number of leaves known.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Adds the next group. `facts` are those of its headers in order. A disk that refuses the records keeps
    /// them waiting in memory, see [`Index::room`].
    pub(crate) fn add_group(&mut self, head: &Head, facts: &[Option<EntryFacts>]) -> Result<(), Damaged> {
        self.whole()?;
        if head.first.0 != self.leaves {
            return Err(Damaged(format!(
                "it has {} leaves where leaf {} follows",
                self.leaves, head.first
            )));
        }
        for ((entry, place), facts) in (0..=u16::MAX).zip(&head.places).zip(facts) {
            let leaf = LeafIndex(self.leaves);
            let link = facts.map(|facts| self.link(&facts, leaf)).transpose()?.flatten();
            let record = Record {
                entry,
                // The group's format admits no longer header.
                header_bytes: u16::try_from(place.header.end - place.header.start).unwrap_or(u16::MAX),
                header_at: place.header.start,
                body_at: place.body.start,
                body_bytes: place.body.end - place.body.start,
                body_crc: place.body_crc,
                link,
            };
            record.encode(leaf, &mut self.unwritten);
            if let Some((facts, link)) = facts.zip(link) {
                self.tips.insert(facts.host, Tip { leaf, link });
            }
            self.leaves += 1;
        }
        // What fails now is tried again with the next group, and refused by `room` when it is too much.
        if self.write().is_ok() && self.leaves - self.saved_at >= SAVE_LEAVES {
            let _ = self.save();
        }
        Ok(())
    }

    /// The link of a batch that continues its host's chain; of two with one sequence the first one stays.
    fn link(&self, facts: &EntryFacts, leaf: LeafIndex) -> Result<Option<Link>, Damaged> {
        let Some(tip) = self.tips.get(&facts.host) else {
            return Ok(Some(Link::first(facts, leaf)));
        };
        if facts.sequence <= tip.link.sequence {
            return Ok(None);
        }
        let beyond = self.link_of(tip.link.jump, tip.link.host)?;
        Ok(Some(Link::after(facts, &tip.link, tip.leaf, &beyond)))
    }

    fn write(&mut self) -> io::Result<()> {
        let first = self.written();
        self.records.write(LeafIndex(first), &self.unwritten)?;
        self.unwritten.clear();
        Ok(())
    }

    /// Leaves whose records the file has.
    fn written(&self) -> u64 {
        self.leaves - (self.unwritten.len() / RECORD_BYTES) as u64
    }

    /// Makes sure that a group may be added: that not too many records wait for a disk that refuses them.
    pub(crate) fn room(&mut self) -> io::Result<()> {
        if self.unwritten.len() < UNWRITTEN_BYTES_MAX {
            return Ok(());
        }
        self.write()
    }

    /// Makes everything durable and vouches for it.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        if self.leaves == self.saved_at || self.broken.is_some() {
            return Ok(());
        }
        self.write()?;
        let hosts = self.tips.iter().map(|(host, tip)| (*host, tip.leaf)).collect();
        self.records.save(&Tips {
            ledger: self.ledger,
            leaves: self.leaves,
            hosts,
        })?;
        self.saved_at = self.leaves;
        Ok(())
    }

    fn record(&self, leaf: LeafIndex) -> Result<Record, Damaged> {
        self.whole()?;
        let written = self.written();
        let Some(waiting) = leaf.0.checked_sub(written) else {
            return self.records.read(leaf).map_err(Damaged);
        };
        let at = usize::try_from(waiting)
            .unwrap_or(usize::MAX)
            .saturating_mul(RECORD_BYTES);
        let bytes = self.unwritten.get(at..).unwrap_or_default();
        Record::decode(leaf, bytes).map_err(|bad| Damaged(format!("record of leaf {leaf}: {bad}")))
    }

    fn link_of(&self, leaf: LeafIndex, host: [u8; 8]) -> Result<Link, Damaged> {
        let link = self.record(leaf)?.link.filter(|link| link.host == host);
        link.ok_or_else(|| Damaged(format!("leaf {leaf} is not of the chain that links to it")))
    }

    /// Where `leaf` lies; `None` beyond the last one.
    pub fn location(&self, leaf: LeafIndex) -> Result<Option<Location>, Damaged> {
        if leaf.0 >= self.leaves {
            return Ok(None);
        }
        Ok(Some(self.record(leaf)?.location(leaf)))
    }

    /// The batch of `host` at `sequence`: reads a number of records that grows with the logarithm of the chain.
    pub fn find(&self, host: &HostId, sequence: Sequence) -> Result<Option<BatchRecord>, Damaged> {
        self.whole()?;
        let Some(mut tip) = self.tips.get(host).copied() else {
            return Ok(None);
        };
        // Each step leads to an earlier leaf of a smaller depth, so this ends.
        while tip.link.sequence > sequence {
            if tip.link.depth == 1 {
                return Ok(None);
            }
            let step = |leaf| {
                Ok(Tip {
                    leaf,
                    link: self.link_of(leaf, tip.link.host)?,
                })
            };
            let far = step(tip.link.jump)?;
            let next = if far.link.sequence >= sequence {
                far
            } else {
                step(tip.link.previous)?
            };
            if next.link.depth >= tip.link.depth || next.link.sequence >= tip.link.sequence {
                return Err(Damaged(format!(
                    "leaf {} does not come before leaf {}",
                    next.leaf, tip.leaf
                )));
            }
            tip = next;
        }
        let found = BatchRecord {
            sequence,
            leaf: tip.leaf,
        };
        Ok((tip.link.sequence == sequence).then_some(found))
    }

    /// The batches of `host` from `first` to `last`, every one, in order: read along the links, one record for each.
    pub fn run(&self, host: &HostId, first: Sequence, last: Sequence) -> Result<Vec<BatchRecord>, Damaged> {
        let missing = |at: u64| Damaged(format!("batch {at} of host {host} is missing in its chain"));
        let mut found = Vec::new();
        let mut next = self.find(host, last)?.map(|end| end.leaf);
        for sequence in (first.0..=last.0).rev() {
            let leaf = next.take().ok_or_else(|| missing(sequence))?;
            let link = self.link_of(leaf, host_tag(host))?;
            if link.sequence.0 != sequence {
                return Err(missing(sequence));
            }
            found.push(BatchRecord {
                sequence: link.sequence,
                leaf,
            });
            next = (link.depth > 1).then_some(link.previous);
        }
        found.reverse();
        Ok(found)
    }

    /// The latest batch of `host`.
    pub fn head(&self, host: &HostId) -> Result<Option<BatchRecord>, Damaged> {
        self.whole()?;
        Ok(self.tips.get(host).map(|tip| BatchRecord {
            sequence: tip.link.sequence,
            leaf: tip.leaf,
        }))
    }

    /// All hosts, in the order of their ids; the collector, whose statements are a chain as well, is none.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        let hosts = self.tips.keys().copied();
        hosts.filter(|host| *host != HostId::COLLECTOR).collect()
    }
}

#[cfg(test)]
mod tests;
