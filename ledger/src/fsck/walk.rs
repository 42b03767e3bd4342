//! Walking all leaves in order: recomputing tiles, bundles and root, and comparing them with what is stored.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    checkpoint::Checkpoint,
    ids::{Hash, LeafIndex},
    ledger_keys::{LedgerKeys, LedgerTrust},
    limits::NOTE_BYTES_MAX,
    merkle::leaf_hash,
    tile::{Kind, TILE_WIDTH, TilePath, entries},
};

use super::{
    After, Cause, Checks, Fault, Head, Inventory, Options, Progress, Report, Seen, compare,
    groups::{self, CheckedGroup, Spare},
    in_order::{self, Room},
    read,
};
use crate::{
    fresh::prefix,
    frontier::{Frontier, Resource, tile_hashes},
    group::group_path,
    kept::kept_path,
    reader::checkpoint_path,
    storage::Storage,
    tiles::object_path,
};

/// Groups under way at a time: enough that threads find work while one group is read, or put in order.
const ROOM: Room = Room {
    bytes: 64 * 1024 * 1024,
    jobs: 1024,
};

/// Checks all groups, and everything that follows from them.
pub(super) fn run<T: Send>(
    storage: &dyn Storage,
    inventory: Inventory,
    (keys, head): (Option<&LedgerKeys>, &Head),
    options: &Options<'_>,
    checks: Checks<'_, T>,
    after: After<'_, T>,
    report: &mut Report,
) {
    let groups_total = inventory.groups.len() as u64;
    let mut walk = Walk {
        storage,
        resources: inventory.resources,
        head,
        seen: options.seen,
        wait: options.wait,
        keys,
        edge: Frontier::new(),
        block: Block::default(),
        sound_leaves: true,
        report,
    };
    walk.reach_heads();
    let spare = Spare::default();
    let groups = inventory.groups.into_iter();
    in_order::run(
        ROOM,
        groups.map(|first| (first, group_bytes(storage, first))),
        |first| groups::check(storage, first, checks, &spare),
        |group| {
            if walk.group(&group) {
                after(group.entries, walk.report);
            }
            if let Some(tell) = options.progress {
                let counts = walk.report.counts;
                tell(Progress {
                    groups: counts.groups,
                    groups_total,
                    bytes: counts.bytes,
                });
            }
        },
    );
    walk.finish();
}

/// Bytes of the group, or of what is kept of it; none where that cannot be said, and reading it will say why.
fn group_bytes(storage: &dyn Storage, first: LeafIndex) -> u64 {
    let length = |path: String| storage.length(&path).ok().flatten();
    length(group_path(first))
        .or_else(|| length(kept_path(first)))
        .unwrap_or(0)
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    /// Tiles and bundles not yet compared.
    resources: BTreeMap<TilePath, Vec<u16>>,
    head: &'a Head,
    seen: &'a [Seen],
    wait: Option<&'a (dyn Fn(u32) -> bool + Sync)>,
    keys: Option<&'a LedgerKeys>,
    edge: Frontier,
    block: Block,
    /// Whether every leaf so far was certain; only then does a wrong root accuse the signer's side.
    sound_leaves: bool,
    report: &'a mut Report,
}

/// The stored tile and bundle of the 256 leaves being walked: witnesses where a group is in doubt.
#[derive(Default)]
struct Block {
    index: Option<u64>,
    hashes: Arc<[Hash]>,
    /// Read only when a group is in doubt.
    entries: Option<Vec<Vec<u8>>>,
}

impl Walk<'_> {
    /// Whether the group is one of the ledger, though it may be damaged.
    fn group<T: Send>(&mut self, group: &CheckedGroup<T>) -> bool {
        self.report.counts.groups += 1;
        self.report.counts.bytes += group.bytes;
        let next = self.edge.size();
        if group.first.0 < next {
            let what = format!("overlaps the groups before it, which end at leaf {next}");
            self.report
                .fault(Fault::of(&group.path, Cause::Stray, what).leaf(group.first));
            return false;
        }
        let placed = group.first.0 == next
            || self.missing_leaves(next, group.first.0, &format!("{} follows", group.path));
        for fault in &group.faults {
            self.report.fault(fault.clone());
        }
        if placed {
            (0..group.places.len()).for_each(|entry| self.leaf_of(group, entry));
        }
        true
    }

    /// Takes leaf `entry` of `group`, or the copy in the bundle if that is the one its tile confirms.
    fn leaf_of<T: Send>(&mut self, group: &CheckedGroup<T>, entry: usize) {
        let Some((header, hash, place)) = group.header(entry) else {
            return;
        };
        let leaf = self.edge.size();
        let tile = self.tile_hash(leaf);
        if tile.is_none_or(|tile| tile == hash) {
            self.push(header, hash);
            return;
        }
        match self.bundle_entry(leaf) {
            Some(copy) if tile == Some(leaf_hash(&copy)) => {
                let at = u64::from(place.header.start) + compare::first_difference(header, &copy);
                let what = "header differs from its entry bundle, which its tile confirms";
                self.report.fault(
                    Fault::of(&group.path, Cause::Rot, what)
                        .at(at)
                        .leaf(LeafIndex(leaf)),
                );
                self.push(&copy, leaf_hash(&copy));
            }
            Some(copy) if copy == header => self.push(header, hash),
            _ => {
                self.sound_leaves = false;
                let what = "header matches neither its tile nor its entry bundle";
                let at = u64::from(place.header.start);
                self.report.fault(
                    Fault::of(&group.path, Cause::Rot, what)
                        .at(at)
                        .leaf(LeafIndex(leaf)),
                );
                self.push(header, hash);
            }
        }
    }

    /// No group has the leaves `from..until`: goes on with their copies in bundles and tiles. Whether it got
    /// there; where not even copies are left, nothing after them can be placed in the tree.
    fn missing_leaves(&mut self, from: u64, until: u64, evidence: &str) -> bool {
        let path = group_path(LeafIndex(from));
        // A group that is there but unreadable has been named already.
        if !self.report.faults.iter().any(|fault| fault.object == path) {
            let count = until - from;
            let what = format!("no readable group holds the {count} leaves from here, though {evidence}");
            self.report
                .fault(Fault::of(&path, Cause::Missing, what).leaf(LeafIndex(from)));
        }
        for leaf in from..until {
            let tile = self.tile_hash(leaf);
            match (self.bundle_entry(leaf), tile) {
                (Some(copy), _) => self.push(&copy, leaf_hash(&copy)),
                (None, Some(hash)) => {
                    self.sound_leaves = false;
                    self.push(&[], hash);
                }
                (None, None) => {
                    self.sound_leaves = false;
                    return false;
                }
            }
        }
        true
    }

    fn push(&mut self, header: &[u8], hash: Hash) {
        let mut completed = Vec::new();
        // Headers come from 16-bit lengths or were bounded when read, so they always fit.
        if self.edge.push_hashed(header, hash, &mut completed).is_err() {
            self.sound_leaves = false;
            return;
        }
        self.report.counts.leaves += 1;
        let size = self.edge.size();
        for resource in completed {
            self.compare(
                &resource,
                self.head.verified.as_ref().is_some_and(|head| size <= head.size),
            );
        }
        self.reach_heads();
    }

    /// Where the walk has come to the size of a checkpoint, compares roots and asks for its partial tiles.
    fn reach_heads(&mut self) {
        let size = self.edge.size();
        if let Some(head) = self.head.verified.as_ref().filter(|head| head.size == size) {
            self.compare_root(head);
            for partial in self.edge.partials() {
                let present = self.resources.get(&partial.path.full());
                let found = present.is_some_and(|widths| {
                    widths.contains(&partial.path.width) || widths.contains(&TILE_WIDTH)
                });
                if !found {
                    let what = "is missing, though the checkpoint needs it";
                    self.report
                        .fault(Fault::of(&object_path(partial.path), Cause::Missing, what));
                }
            }
        }
        if let Some(head) = self.head.claimed.as_ref().filter(|head| head.size == size) {
            let words = if head.root == self.edge.root() {
                "size and root it states are right: its signature or key is what was altered"
            } else {
                "the root it states is not that of the entries: its text was altered"
            };
            self.report.note(format!("{}: {words}", checkpoint_path()));
        }
        for seen in self.seen.iter().filter(|seen| seen.head.size == size) {
            let root = self.edge.root();
            // Damaged leaves are named already; their root says nothing of the history.
            if root != seen.head.root && self.sound_leaves {
                let what = format!(
                    "{} saw root {} of {size} leaves, entries give {root}: two histories were signed",
                    seen.at, seen.head.root
                );
                self.report
                    .fault(Fault::of(&checkpoint_path(), Cause::Forgery, what));
            }
        }
    }

    /// Names what was seen of this ledger and is no longer in it.
    fn miss_seen(&mut self) {
        let published = self.head.verified.as_ref().map_or(0, |head| head.size);
        let held = self.edge.size();
        let Some(latest) = self.seen.iter().max_by_key(|seen| seen.head.size) else {
            return;
        };
        if latest.head.size <= published {
            return;
        }
        let gone = if latest.head.size > held {
            format!("the {} leaves after it are gone", latest.head.size - held)
        } else if self.stored_meanwhile(latest.head.size) {
            return;
        } else {
            "its leaves are there: it was put back, or a crash came before it was stored; the collector brings them \
             under a checkpoint when it starts"
                .to_owned()
        };
        let what = format!(
            "is for {published} leaves, {} saw one for {}: an older copy; {gone}",
            latest.at, latest.head.size
        );
        self.report
            .fault(Fault::of(&checkpoint_path(), Cause::Missing, what));
    }

    /// Whether a writer at work stores a checkpoint of so many leaves or more, as it does soon after showing one.
    fn stored_meanwhile(&self, size: u64) -> bool {
        let (Some(wait), Some(keys)) = (self.wait, self.keys) else {
            return false;
        };
        (0..).take_while(|looks| wait(*looks)).any(|_| {
            let note = read(self.storage, &checkpoint_path(), NOTE_BYTES_MAX as u64);
            let head = note.ok().and_then(|note| keys.open_checkpoint(&note).ok());
            head.is_some_and(|head| head.size >= size)
        })
    }

    fn compare_root(&mut self, head: &Checkpoint) {
        let root = self.edge.root();
        self.report.checkpoint = Some(head.clone());
        if root == head.root {
            return;
        }
        let (cause, why) = if self.sound_leaves {
            (
                Cause::Forgery,
                "all copies agree with each other but not with the signed root",
            )
        } else {
            (Cause::Rot, "the leaves named above cannot be restored")
        };
        let what = format!(
            "signed root {} of {} leaves, entries give {root}: {why}",
            head.root, head.size
        );
        self.report.fault(Fault::of(&checkpoint_path(), cause, what));
    }

    /// Compares a recomputed tile or bundle, and every partial form of it, with what is stored.
    fn compare(&mut self, expected: &Resource, required: bool) {
        let widths = self.resources.remove(&expected.path.full()).unwrap_or_default();
        if required && !widths.contains(&expected.path.width) {
            let what = "is missing, though the checkpoint covers it";
            self.report
                .fault(Fault::of(&object_path(expected.path), Cause::Missing, what));
        }
        for width in widths {
            let path = TilePath {
                width,
                ..expected.path
            };
            if width > expected.path.width {
                let what = format!(
                    "holds {width} leaves or nodes, the groups have only {}",
                    expected.path.width
                );
                self.report
                    .fault(Fault::of(&object_path(path), Cause::Missing, what));
                continue;
            }
            compare::stored(self.storage, path, prefix(expected, width), self.report);
        }
    }

    /// Compares what the end of the walk leaves partial, and names what nothing accounts for.
    fn finish(&mut self) {
        let wanted = self.head.verified.as_ref().map_or(0, |head| head.size);
        let have = self.edge.size();
        if have < wanted {
            // What cannot be restored has been named; the rest of this judges what is there.
            let _ = self.missing_leaves(have, wanted, &format!("the checkpoint has {wanted} leaves"));
        }
        for partial in self.edge.partials() {
            self.compare(&partial, false);
        }
        let unaccounted = std::mem::take(&mut self.resources);
        for (path, widths) in unaccounted {
            for width in widths {
                let what = "shows that the ledger had more leaves than its groups hold";
                let object = object_path(TilePath { width, ..path });
                self.report.fault(Fault::of(&object, Cause::Missing, what));
            }
        }
        self.miss_seen();
        let beyond = self.edge.size().saturating_sub(wanted);
        if self.head.verified.is_some() && beyond > 0 {
            self.report.note(format!(
                "{beyond} durable leaves are beyond the checkpoint of {wanted}: a crash came before publishing, \
                 or an older checkpoint was put back; compare it with receipts"
            ));
        }
    }

    /// The hash that the stored tile has for `leaf`.
    fn tile_hash(&mut self, leaf: u64) -> Option<Hash> {
        let (block, at) = split(leaf);
        if self.block.index != Some(block) {
            let hashes = self
                .read_widest(Kind::Hashes(0), block)
                .and_then(|bytes| tile_hashes(&bytes))
                .unwrap_or_default();
            self.block = Block {
                index: Some(block),
                hashes: hashes.into(),
                entries: None,
            };
        }
        self.block.hashes.get(at).copied()
    }

    /// The entry that the stored bundle has for `leaf`, whose block [`Walk::tile_hash`] has made current.
    fn bundle_entry(&mut self, leaf: u64) -> Option<Vec<u8>> {
        let (block, at) = split(leaf);
        if self.block.entries.is_none() {
            let bytes = self.read_widest(Kind::Entries, block).unwrap_or_default();
            let read = entries(&bytes)
                .map_while(Result::ok)
                .map(|(_, entry)| entry.to_vec())
                .collect();
            self.block.entries = Some(read);
        }
        self.block.entries.as_ref()?.get(at).cloned()
    }

    fn read_widest(&self, kind: Kind, index: u64) -> Option<Vec<u8>> {
        let full = TilePath {
            kind,
            index,
            width: TILE_WIDTH,
        };
        let width = *self.resources.get(&full)?.iter().max()?;
        read(
            self.storage,
            &object_path(TilePath { width, ..full }),
            compare::length_max(kind),
        )
        .ok()
    }
}

/// The block of 256 leaves that `leaf` is in, and its place there.
fn split(leaf: u64) -> (u64, usize) {
    (leaf / u64::from(TILE_WIDTH), usize::from(leaf.to_le_bytes()[0]))
}
