//! Reading what recovery starts from: the groups, and the edge of the tree.

use common::{
    ids::LeafIndex,
    tile::{Kind, TILE_LEVEL_MAX, TilePath, entries},
};
use rayon::prelude::*;

use super::OpenError;
use crate::{
    frontier::Frontier,
    group::{FIXED_BYTES, GROUP_BYTES_MAX, GroupFault, Head, Prologue, parse_group_path, slice},
    index::{Describe, EntryFacts},
    storage::Storage,
    tiles::{BUNDLE_BYTES_MAX, TileError, TileStore},
};

/// A group as found at start.
pub(super) struct LoadedGroup {
    pub(super) path: String,
    pub(super) head: Head,
    pub(super) facts: Vec<Option<EntryFacts>>,
    /// The head's bytes where the group lies beyond the checkpoint and its headers are still needed.
    pub(super) file: Option<Vec<u8>>,
}

/// Reads the heads of all groups and checks that they follow one another. Those beyond `size` are checked
/// whole: they alone were not covered by a checkpoint yet.
pub(super) fn read_groups(
    storage: &dyn Storage,
    paths: &[String],
    size: u64,
    describe: Describe,
) -> Result<Vec<LoadedGroup>, OpenError> {
    let mut named = paths
        .iter()
        .map(|path| {
            let first = parse_group_path(path).ok_or_else(|| OpenError::StrayObject(path.clone()))?;
            Ok((first, path))
        })
        .collect::<Result<Vec<_>, OpenError>>()?;
    named.sort_unstable();
    let groups = named
        .par_iter()
        .map(|(first, path)| read_group(storage, *first, path, first.0 >= size, describe))
        .collect::<Result<Vec<_>, OpenError>>()?;
    let mut next = LeafIndex(0);
    for group in &groups {
        if group.head.first != next {
            let evidence = format!("{} follows it", group.path);
            return Err(OpenError::MissingGroup { leaf: next, evidence });
        }
        next = group.head.end();
    }
    Ok(groups)
}

fn read_group(
    storage: &dyn Storage,
    first: LeafIndex,
    path: &str,
    replay: bool,
    describe: Describe,
) -> Result<LoadedGroup, OpenError> {
    let damaged = |fault| OpenError::Group {
        path: path.to_owned(),
        fault,
    };
    let gone = || OpenError::MissingGroup {
        leaf: first,
        evidence: format!("{path} was listed"),
    };
    let fixed = storage.read_range(path, 0, FIXED_BYTES)?.ok_or_else(gone)?;
    let prologue = Prologue::parse(&fixed).map_err(damaged)?;
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
    if found != head.file_bytes {
        return Err(damaged(GroupFault::Length {
            expected: head.file_bytes,
            found,
        }));
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
            Some(path) => tiles.hashes(path).map_err(fault)?.to_vec(),
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
