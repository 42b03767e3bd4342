//! Reading the rest of a group at once, for whoever follows the ledger leaf by leaf.

use std::ops::Range;

use common::ids::LeafIndex;

use super::Reader;
use crate::group::{Head, Place, group_path, slice};

/// Entries with their bodies, each checked as [`Reader::header`] and [`Reader::body`] check it.
#[derive(Debug, Default)]
pub struct Ahead {
    group: Vec<u8>,
    places: Vec<Place>,
}

impl Ahead {
    /// Header and body of each, in order of leaves.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let part = |range: &Range<u32>| slice(&self.group, range);
        self.places
            .iter()
            .map(move |place| (part(&place.header), part(&place.body)))
    }
}

impl Reader {
    /// The entries from `leaf` on that lie in its group and under the latest checkpoint. None where the group is longer
    /// than `bytes_max`, was pruned, or something is wrong with it or with the first of them: then header and body
    /// by themselves say what.
    #[must_use]
    pub fn ahead(&self, leaf: LeafIndex, bytes_max: u64) -> Ahead {
        self.rest_of_group(leaf, bytes_max).unwrap_or_default()
    }

    fn rest_of_group(&self, leaf: LeafIndex, bytes_max: u64) -> Option<Ahead> {
        let first = self.group_of(leaf).ok()?;
        let group = self.storage().read(&group_path(first), bytes_max).ok()??;
        let mut places = Head::parse(&group, first).ok()?.places;
        places.drain(..usize::try_from(leaf.0 - first.0).ok()?.min(places.len()));
        let size = self.published().checkpoint.size;
        let sound = places.iter().zip(leaf.0..size).take_while(|(place, leaf)| {
            let header = slice(&group, &place.header);
            self.tree_has(LeafIndex(*leaf), header, size).unwrap_or(false)
                && crc32fast::hash(slice(&group, &place.body)) == place.body_crc
        });
        let sound = sound.count();
        places.truncate(sound);
        Some(Ahead { group, places })
    }
}
