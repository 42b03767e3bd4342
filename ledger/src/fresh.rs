//! Tiles and bundles that the tree needs and the disk may not have yet.
//!
//! A checkpoint may be shown as soon as its leaves are durable in groups; what follows from them is written a little
//! later. Until then it is read from here: full resources until they are stored, and the partial ones at the tree's
//! edge always, in every width that they ever had, for whoever still holds an earlier checkpoint. Bounded by the
//! leaves that may wait for a checkpoint on disk.

use std::{collections::BTreeMap, sync::Arc};

use common::tile::{Kind, TILE_WIDTH, TilePath, entries};

use crate::frontier::Resource;

/// By the full form of their names.
#[derive(Debug, Default)]
pub(crate) struct Fresh(BTreeMap<TilePath, Arc<Resource>>);

impl Fresh {
    /// Takes resources, those that are full now above all, each in the place of its narrower form.
    pub(crate) fn take(&mut self, resources: Vec<Resource>) {
        let named = resources
            .into_iter()
            .map(|resource| (resource.path.full(), Arc::new(resource)));
        self.0.extend(named);
    }

    /// Takes the partial resources of the tree as it is now, in the place of those before.
    pub(crate) fn edge(&mut self, partials: Vec<Resource>) {
        self.0.retain(|_, resource| resource.path.is_full());
        self.take(partials);
    }

    /// Lets go of what a checkpoint of `size` leaves on disk covers in full.
    pub(crate) fn stored(&mut self, size: u64) {
        self.0
            .retain(|path, resource| !resource.path.is_full() || end(path).is_none_or(|end| end > size));
    }

    /// What is full, and what is not.
    pub(crate) fn all(&self) -> (Vec<Arc<Resource>>, Vec<Arc<Resource>>) {
        self.0
            .values()
            .cloned()
            .partition(|resource| resource.path.is_full())
    }

    /// The resource of that name in the widest form there is, if that is wide enough.
    pub(crate) fn widest(&self, path: TilePath) -> Option<Arc<Resource>> {
        let found = self.0.get(&path.full())?;
        (found.path.width >= path.width).then(|| Arc::clone(found))
    }

    /// The bytes at `path`, in exactly that width.
    pub(crate) fn bytes(&self, path: TilePath) -> Option<Vec<u8>> {
        let found = self.widest(path)?;
        Some(prefix(&found, path.width).to_vec())
    }
}

/// The bytes that the form of `width` has of a wider resource.
pub(crate) fn prefix(resource: &Resource, width: u16) -> &[u8] {
    let end = match resource.path.kind {
        Kind::Hashes(_) => usize::from(width) * 32,
        Kind::Entries => entries(&resource.bytes)
            .map_while(Result::ok)
            .nth(usize::from(width))
            .map_or(resource.bytes.len(), |(at, _)| at),
    };
    resource.bytes.get(..end).unwrap_or(&resource.bytes)
}

/// The leaf behind the last that a full resource covers; `None` beyond any tree.
fn end(path: &TilePath) -> Option<u64> {
    let level = match path.kind {
        Kind::Hashes(level) => u32::from(level),
        Kind::Entries => 0,
    };
    let width = u64::from(TILE_WIDTH).checked_pow(level + 1)?;
    path.index.checked_add(1)?.checked_mul(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::Frontier;

    #[test]
    fn every_width_is_answered_as_it_was_until_the_disk_has_it() {
        let (mut tree, mut fresh) = (Frontier::new(), Fresh::default());
        let mut was = Vec::new();
        for leaf in 0..600_u32 {
            let mut full = Vec::new();
            tree.push(&leaf.to_be_bytes(), &mut full).unwrap();
            was.extend(full.iter().cloned());
            fresh.take(full);
            fresh.edge(tree.partials());
            was.extend(tree.partials());
        }
        for resource in &was {
            assert_eq!(
                fresh.bytes(resource.path).as_ref(),
                Some(&resource.bytes),
                "{}",
                resource.path
            );
        }
        let wider = TilePath {
            kind: Kind::Entries,
            index: 2,
            width: 89,
        };
        assert_eq!(fresh.bytes(wider), None);
        let (full, partial) = fresh.all();
        assert_eq!((full.len(), partial.len()), (4, 3));
        // Two blocks of 256 are full; a checkpoint on disk covers the first of them, and part of the second.
        fresh.stored(511);
        assert_eq!(
            fresh
                .all()
                .0
                .iter()
                .map(|resource| resource.path.index)
                .collect::<Vec<_>>(),
            [1, 1]
        );
        fresh.stored(512);
        assert!(fresh.all().0.is_empty());
        assert_eq!(fresh.all().1, partial, "the edge stays");
    }
}
