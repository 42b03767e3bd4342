//! Reading what recovery starts from: the groups, and the edge of the tree.

use common::{
    ids::LeafIndex,
    tile::{Kind, TILE_LEVEL_MAX, TilePath, entries},
};
use rayon::prelude::*;

use super::OpenError;
use crate::{
    frontier::Frontier,
    group::{
        FIXED_BYTES, GROUP_BYTES_MAX, GROUP_ENTRIES_MAX, GroupFault, Head, Prologue, group_path,
        parse_group_path, slice,
    },
    index::{Describe, EntryFacts},
    kept::{Kept, kept_path, parse_kept_path},
    storage::{Storage, StorageError},
    tiles::{BUNDLE_BYTES_MAX, TileError, TileStore},
    writer::PENDING_LEAVES_MAX,
};

/// Heads read at a time, bytes of groups and their number: what bounds a walk's memory.
const CHUNK_BYTES: u64 = 64 << 20;
const CHUNK_GROUPS: usize = 1024;

/// Looks at a group while a prune may replace it: each look that fails for that takes another replacement, and of a
/// group there are few.
pub(crate) const LOOKS_MAX: usize = 3;

/// A group as found at start.
pub(crate) struct LoadedGroup {
    pub(crate) path: String,
    pub(crate) head: Head,
    pub(crate) facts: Vec<Option<EntryFacts>>,
    /// The head's bytes where the group lies beyond the checkpoint and its headers are still needed.
    pub(crate) file: Option<Vec<u8>>,
}

/// Walks the groups in order: each one's length says how the next is named, so nothing is listed.
pub(crate) struct GroupWalk<'a> {
    storage: &'a dyn Storage,
    describe: Describe,
    /// Leaves under the checkpoint: groups beyond are checked whole, for no checkpoint has covered them yet.
    size: u64,
    next: LeafIndex,
}

impl<'a> GroupWalk<'a> {
    /// A walk from the group whose first leaf is `from`.
    pub(crate) fn new(storage: &'a dyn Storage, describe: Describe, from: LeafIndex, size: u64) -> Self {
        Self {
            storage,
            describe,
            size,
            next: from,
        }
    }

    /// The leaf that the next group begins with.
    pub(crate) fn next_leaf(&self) -> LeafIndex {
        self.next
    }

    /// Reads the heads of the next groups, in parallel; none at the end.
    pub(crate) fn groups(&mut self) -> Result<Vec<LoadedGroup>, OpenError> {
        let (mut firsts, mut bytes) = (Vec::new(), 0_u64);
        let mut next = self.next;
        while firsts.len() < CHUNK_GROUPS && bytes < CHUNK_BYTES {
            let Some((path, fixed)) = start_of(self.storage, next)? else {
                break;
            };
            // What it says is believed for finding names only; below, the head's hash has the word.
            let prologue = Prologue::parse(&fixed).map_err(|fault| OpenError::Group { path, fault })?;
            firsts.push(next);
            bytes = bytes.saturating_add(if next.0 >= self.size {
                prologue.file_bytes()
            } else {
                prologue.head_bytes()
            });
            next = LeafIndex(next.0.saturating_add(u64::from(prologue.count)));
        }
        let groups = firsts
            .par_iter()
            .map(|first| read_group(self.storage, *first, first.0 >= self.size, self.describe))
            .collect::<Result<Vec<_>, OpenError>>()?;
        self.next = next;
        Ok(groups)
    }
}

/// Looks where groups beyond `leaves` could lie that a gap hides: a writer lets only so many leaves wait for
/// a checkpoint of `size`.
pub(super) fn nothing_beyond(storage: &dyn Storage, leaves: u64, size: u64) -> Result<(), OpenError> {
    let last = size.max(leaves).saturating_add(PENDING_LEAVES_MAX as u64);
    for thousand in leaves / 1000..=last / 1000 {
        let path = group_path(LeafIndex(thousand * 1000));
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for path in storage.list(directory)? {
            let first = parse_group_path(&path)
                .or_else(|| parse_kept_path(&path))
                .ok_or_else(|| OpenError::StrayObject(path.clone()))?;
            if first.0 >= leaves {
                let evidence = format!("{path} follows it");
                return Err(OpenError::MissingGroup {
                    leaf: LeafIndex(leaves),
                    evidence,
                });
            }
        }
    }
    Ok(())
}

/// The head of the group that holds `leaf`, found without an index: slow, and right.
pub(crate) fn head_with(storage: &dyn Storage, leaf: LeafIndex) -> Result<Option<Head>, StorageError> {
    let lowest = leaf.0.saturating_sub(GROUP_ENTRIES_MAX as u64 - 1);
    for first in (lowest..=leaf.0).rev().map(LeafIndex) {
        let Some((_, bytes)) = head_of(storage, first)? else {
            continue;
        };
        return Ok(Head::parse(&bytes, first).ok().filter(|head| head.end() > leaf));
    }
    Ok(None)
}

/// The fixed fields of the group of that first leaf, with the path of the object that has them: the group, or what
/// is kept of it.
fn start_of(storage: &dyn Storage, first: LeafIndex) -> Result<Option<(String, Vec<u8>)>, StorageError> {
    for path in [group_path(first), kept_path(first)] {
        if let Some(fixed) = storage.read_range(&path, 0, FIXED_BYTES)? {
            return Ok(Some((path, fixed)));
        }
    }
    Ok(None)
}

/// The bytes of the head of the group of that first leaf, unchecked and as far as they are there, with the path of the
/// object that has them.
pub(crate) fn head_of(
    storage: &dyn Storage,
    first: LeafIndex,
) -> Result<Option<(String, Vec<u8>)>, StorageError> {
    for _ in 0..LOOKS_MAX {
        let Some((path, fixed)) = start_of(storage, first)? else {
            return Ok(None);
        };
        let length = Prologue::parse(&fixed).map_or(0, |prologue| prologue.head_bytes());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // A group that went since then is pruned: what is kept of it is there.
        if let Some(bytes) = storage.read_range(&path, 0, length)? {
            return Ok(Some((path, bytes)));
        }
    }
    Ok(None)
}

/// As [`read_group_once`]: a prune under way may replace the object between two looks at it.
fn read_group(
    storage: &dyn Storage,
    first: LeafIndex,
    replay: bool,
    describe: Describe,
) -> Result<LoadedGroup, OpenError> {
    let mut read = read_group_once(storage, first, replay, describe);
    for _ in 1..LOOKS_MAX {
        if read.is_ok() {
            break;
        }
        read = read_group_once(storage, first, replay, describe);
    }
    read
}

fn read_group_once(
    storage: &dyn Storage,
    first: LeafIndex,
    replay: bool,
    describe: Describe,
) -> Result<LoadedGroup, OpenError> {
    let (path, fixed) = start_of(storage, first)?.ok_or_else(|| OpenError::MissingGroup {
        leaf: first,
        evidence: format!("{} was there", group_path(first)),
    })?;
    let path = path.as_str();
    let damaged = |fault| OpenError::Group {
        path: path.to_owned(),
        fault,
    };
    let gone = || OpenError::MissingGroup {
        leaf: first,
        evidence: format!("{path} was there"),
    };
    let prologue = Prologue::parse(&fixed).map_err(damaged)?;
    let kept = parse_kept_path(path).is_some();
    if kept && replay {
        // Bodies go only once a checkpoint covers their certificate: this checkpoint is an older one, put back.
        let evidence = "what is kept of it shows that a later checkpoint was there".to_owned();
        return Err(OpenError::MissingGroup {
            leaf: first,
            evidence,
        });
    }
    let wanted = if replay {
        GROUP_BYTES_MAX
    } else {
        prologue.head_bytes()
    };
    let mut file = storage
        .read_range(path, 0, usize::try_from(wanted).unwrap_or(usize::MAX))?
        .ok_or_else(gone)?;
    let head = Head::parse(&file, first).map_err(damaged)?;
    let found = storage.length(path)?.ok_or_else(gone)?;
    let expected = if kept {
        Kept::read(storage, first)?
            .ok_or_else(gone)?
            .map_err(damaged)?
            .file_bytes
    } else {
        head.file_bytes
    };
    if found != expected {
        return Err(damaged(GroupFault::Length { expected, found }));
    }
    if replay {
        for (entry, place) in head.places.iter().enumerate() {
            if crc32fast::hash(slice(&file, &place.body)) != place.body_crc {
                return Err(damaged(GroupFault::Body {
                    entry,
                    at: place.body.start,
                }));
            }
        }
    }
    let facts = head
        .places
        .iter()
        .map(|place| describe(slice(&file, &place.header)))
        .collect();
    file.truncate(usize::try_from(prologue.head_bytes()).unwrap_or(usize::MAX));
    Ok(LoadedGroup {
        path: path.to_owned(),
        head,
        facts,
        file: replay.then_some(file),
    })
}

/// The edge of the tree of `size` leaves from its stored partial tiles and bundle.
pub(super) fn resume(tiles: &TileStore, size: u64) -> Result<Frontier, OpenError> {
    let fault = |error: TileError| match error {
        TileError::Storage(error) => OpenError::Storage(error),
        TileError::Missing(path) => OpenError::Resource {
            path,
            why: "missing".into(),
        },
        TileError::Length { path, bytes } => OpenError::Resource {
            path,
            why: format!("cut to {bytes} bytes"),
        },
    };
    let edge_of = |kind, level: u8| {
        let index = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        TilePath::in_tree(kind, index, size)
    };
    let mut levels = Vec::new();
    for level in 0..=TILE_LEVEL_MAX {
        let hashes = match edge_of(Kind::Hashes(level), level) {
            Some(path) => {
                let tile = tiles.tile(path).map_err(fault)?;
                let hashes = tile.hashes().iter().take(usize::from(path.width));
                hashes.copied().collect()
            }
            None => Vec::new(),
        };
        levels.push(hashes);
    }
    let mut bundle = Vec::new();
    if let Some(path) = edge_of(Kind::Entries, 0) {
        let (mut bytes, from) = tiles.bytes(path, BUNDLE_BYTES_MAX).map_err(fault)?;
        let broken = |why: String| OpenError::Resource {
            path: crate::tiles::object_path(from),
            why,
        };
        let hashes = levels.first().map(Vec::as_slice).unwrap_or_default();
        let mut end = 0;
        let mut read = entries(&bytes);
        for (entry, hash) in hashes.iter().enumerate() {
            let (at, bytes) = read
                .next()
                .ok_or_else(|| broken(format!("entry {entry} is missing")))?
                .map_err(|error| broken(error.to_string()))?;
            if common::merkle::leaf_hash(bytes) != *hash {
                return Err(broken(format!(
                    "entry {entry} at offset {at} does not fit its tile"
                )));
            }
            end = at + 2 + bytes.len();
        }
        drop(read);
        bytes.truncate(end);
        bundle = bytes;
    }
    Frontier::resume(size, levels, bundle).ok_or_else(|| OpenError::Resource {
        path: crate::tiles::LOG.into(),
        why: format!("tiles have not the widths of {size} leaves"),
    })
}
