//! Where each leaf lies and which batch of which host it is.
//!
//! In memory, rebuilt at start from the heads of all groups: 24 bytes for a leaf's place and 32 for its
//! batch. Thrown away and rebuilt at will; the groups are the truth. Owns nothing on disk.

use std::{collections::BTreeMap, ops::Range};

use common::ids::{HostId, LeafIndex, Sequence, WallNanos};

use crate::group::{Head, Place};

/// What the index keeps of an entry. Supplied by the caller, to whom alone entries have meaning. A statement of
/// the collector is indexed as number so-and-so in the chain of [`HostId::COLLECTOR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryFacts {
    /// Whose batch it is.
    pub host: HostId,
    /// Its position in the host's chain.
    pub sequence: Sequence,
    /// Earliest wall time in it, as the host's clock had it.
    pub from_wall: WallNanos,
    /// Latest wall time in it.
    pub until_wall: WallNanos,
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
    /// Earliest wall time in the batch.
    pub from_wall: WallNanos,
    /// Latest wall time in the batch.
    pub until_wall: WallNanos,
}

/// Where a leaf's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// First leaf of its group, which names the object.
    pub group: LeafIndex,
    /// Header, body and checksum within the object.
    pub place: Place,
}

/// A [`Place`] with its group, packed.
#[derive(Debug, Clone, Copy)]
struct Slot {
    group: u32,
    header_at: u32,
    body_at: u32,
    body_bytes: u32,
    body_crc: u32,
    header_bytes: u16,
}

/// The index of all durable leaves.
#[derive(Debug, Default)]
pub struct Index {
    groups: Vec<LeafIndex>,
    slots: Vec<Slot>,
    hosts: BTreeMap<HostId, Vec<BatchRecord>>,
}

impl Index {
    /// Number of leaves known.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Adds the next group. `facts` are those of its headers in order.
    pub(crate) fn add_group(&mut self, head: &Head, facts: &[Option<EntryFacts>]) {
        let group = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        self.groups.push(head.first);
        let leaves = head.first.0..;
        for ((leaf, place), facts) in leaves.zip(&head.places).zip(facts) {
            self.slots.push(Slot {
                group,
                header_at: place.header.start,
                body_at: place.body.start,
                body_bytes: place.body.end - place.body.start,
                body_crc: place.body_crc,
                // The group's format admits no longer header.
                header_bytes: u16::try_from(place.header.end - place.header.start).unwrap_or(u16::MAX),
            });
            if let Some(facts) = facts {
                self.add_batch(facts, LeafIndex(leaf));
            }
        }
    }

    fn add_batch(&mut self, facts: &EntryFacts, leaf: LeafIndex) {
        let chain = self.hosts.entry(facts.host).or_default();
        let record = BatchRecord {
            sequence: facts.sequence,
            leaf,
            from_wall: facts.from_wall,
            until_wall: facts.until_wall,
        };
        // In order but for forks kept as evidence; of two leaves with one sequence the first one stays.
        match chain.last() {
            Some(last) if last.sequence >= facts.sequence => {
                if let Err(at) = chain.binary_search_by_key(&facts.sequence, |record| record.sequence) {
                    chain.insert(at, record);
                }
            }
            _ => chain.push(record),
        }
    }

    /// Where `leaf` lies.
    #[must_use]
    pub fn location(&self, leaf: LeafIndex) -> Option<Location> {
        let slot = self.slots.get(usize::try_from(leaf.0).ok()?)?;
        let range = |at: u32, bytes: u32| -> Range<u32> { at..at + bytes };
        Some(Location {
            group: *self.groups.get(slot.group as usize)?,
            place: Place {
                header: range(slot.header_at, u32::from(slot.header_bytes)),
                body: range(slot.body_at, slot.body_bytes),
                body_crc: slot.body_crc,
            },
        })
    }

    /// The batch of `host` at `sequence`.
    #[must_use]
    pub fn find(&self, host: &HostId, sequence: Sequence) -> Option<BatchRecord> {
        let chain = self.hosts.get(host)?;
        let at = chain
            .binary_search_by_key(&sequence, |record| record.sequence)
            .ok()?;
        chain.get(at).copied()
    }

    /// The latest batch of `host`.
    #[must_use]
    pub fn head(&self, host: &HostId) -> Option<BatchRecord> {
        self.hosts.get(host)?.last().copied()
    }

    /// All hosts, in the order of their ids; the collector, whose statements are a chain as well, is none.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        let hosts = self.hosts.keys().copied();
        hosts.filter(|host| *host != HostId::COLLECTOR).collect()
    }

    /// Batches of `host` whose time bounds meet `from..=until`, by sequence. Wall clocks step back, so every
    /// batch is looked at.
    #[must_use]
    pub fn between(&self, host: &HostId, from: WallNanos, until: WallNanos) -> Vec<BatchRecord> {
        let meets = |record: &&BatchRecord| record.from_wall <= until && record.until_wall >= from;
        self.hosts
            .get(host)
            .map_or_else(Vec::new, |chain| chain.iter().filter(meets).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Entry, encode_head};

    #[test]
    fn batches_are_found_by_host_and_sequence_and_time() {
        let facts = |host: u8, sequence: u64| {
            Some(EntryFacts {
                host: HostId([host; 32]),
                sequence: Sequence(sequence),
                from_wall: WallNanos(sequence * 10),
                until_wall: WallNanos(sequence * 10 + 9),
            })
        };
        let entries = [Entry {
            header: b"h",
            body: b"bb",
        }; 5];
        let head = |first| {
            Head::parse(
                &encode_head(LeafIndex(first), &entries).unwrap(),
                LeafIndex(first),
            )
            .unwrap()
        };
        let mut index = Index::default();
        index.add_group(
            &head(0),
            &[facts(1, 0), facts(2, 0), None, facts(1, 1), facts(1, 2)],
        );
        index.add_group(
            &head(5),
            &[facts(2, 1), facts(1, 1), facts(2, 3), facts(2, 2), facts(1, 3)],
        );
        let (one, two) = (HostId([1; 32]), HostId([2; 32]));
        assert_eq!(index.leaves(), 10);
        // Leaf 6 repeats a sequence: the first stays.
        assert_eq!(index.find(&one, Sequence(1)).unwrap().leaf, LeafIndex(3));
        assert_eq!(index.find(&two, Sequence(2)).unwrap().leaf, LeafIndex(8));
        assert_eq!(index.find(&two, Sequence(9)), None);
        assert_eq!(index.head(&two).unwrap().sequence, Sequence(3));
        assert_eq!(index.hosts(), [one, two]);
        let times = |from, until| -> Vec<u64> {
            index
                .between(&one, WallNanos(from), WallNanos(until))
                .iter()
                .map(|r| r.sequence.0)
                .collect()
        };
        assert_eq!(times(9, 20), [0, 1, 2]);
        assert_eq!(times(100, 200), [0_u64; 0]);
        let location = index.location(LeafIndex(7)).unwrap();
        assert_eq!(
            (location.group, location.place),
            (LeafIndex(5), head(5).places[2].clone())
        );
        assert_eq!(index.location(LeafIndex(10)), None);
    }

    #[test]
    fn records_stay_small() {
        assert!(size_of::<Slot>() + size_of::<BatchRecord>() <= 64);
    }
}
