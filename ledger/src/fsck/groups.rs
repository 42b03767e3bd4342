//! Checking one group by itself: head, checksums, and what the caller knows of headers and bodies.

use common::{
    ids::{Hash, LeafIndex},
    merkle::leaf_hash,
};

use super::{Cause, CheckEntry, Fault, read};
use crate::{
    group::{GROUP_BYTES_MAX, GroupFault, Head, Place, group_path, slice},
    storage::Storage,
};

/// A group after its own check: what the walk needs of it.
#[derive(Debug)]
pub(super) struct CheckedGroup {
    /// First leaf by name.
    pub(super) first: LeafIndex,
    /// The object.
    pub(super) path: String,
    /// Its bytes.
    pub(super) file: Vec<u8>,
    /// Its entries; empty when not even its lengths make sense.
    pub(super) places: Vec<Place>,
    /// Leaf hash of each header.
    pub(super) hashes: Vec<Hash>,
    /// What is wrong with it.
    pub(super) faults: Vec<Fault>,
}

impl CheckedGroup {
    /// The header of the group's `entry`-th leaf.
    pub(super) fn header(&self, entry: usize) -> Option<(&[u8], Hash, &Place)> {
        let place = self.places.get(entry)?;
        Some((slice(&self.file, &place.header), *self.hashes.get(entry)?, place))
    }
}

/// Reads and checks the group whose name says `first`.
pub(super) fn check(storage: &dyn Storage, first: LeafIndex, check_entry: CheckEntry<'_>) -> CheckedGroup {
    let path = group_path(first);
    let mut group = CheckedGroup {
        first,
        path: path.clone(),
        file: Vec::new(),
        places: Vec::new(),
        hashes: Vec::new(),
        faults: Vec::new(),
    };
    match read(storage, &path, GROUP_BYTES_MAX) {
        Ok(file) => group.file = file,
        Err(fault) => {
            group.faults.push(fault);
            return group;
        }
    }
    match Head::parse(&group.file, first) {
        Ok(head) => {
            check_length(&mut group, &head);
            group.places = head.places;
        }
        Err(fault) => {
            let cause = if matches!(fault, GroupFault::Short(_)) {
                Cause::Missing
            } else {
                Cause::Rot
            };
            let at = fault.offset();
            let mut found = Fault::of(&path, cause, fault.to_string()).leaf(first);
            found.offset = at;
            group.faults.push(found);
            // Lengths that still add up let the entries be judged one by one, which narrows the place.
            group.places = Head::danger_parse_unhashed(&group.file, first)
                .map(|head| head.places)
                .unwrap_or_default();
        }
    }
    for (place, leaf) in group.places.iter().zip(first.0..) {
        let (header, body) = (slice(&group.file, &place.header), slice(&group.file, &place.body));
        group.hashes.push(leaf_hash(header));
        let fault = check_body(&path, LeafIndex(leaf), header, body, place, check_entry);
        group.faults.extend(fault);
    }
    group
}

fn check_length(group: &mut CheckedGroup, head: &Head) {
    let found = group.file.len() as u64;
    if found == head.file_bytes {
        return;
    }
    let cause = if found < head.file_bytes {
        Cause::Missing
    } else {
        Cause::Stray
    };
    let what = GroupFault::Length {
        expected: head.file_bytes,
        found,
    }
    .to_string();
    group
        .faults
        .push(Fault::of(&group.path, cause, what).at(found.min(head.file_bytes)));
}

/// The checksum tells whether the body is as it was committed, the caller whether it is what its header says.
fn check_body(
    path: &str,
    leaf: LeafIndex,
    header: &[u8],
    body: &[u8],
    place: &Place,
    check_entry: CheckEntry<'_>,
) -> Option<Fault> {
    let as_committed = crc32fast::hash(body) == place.body_crc;
    let judged = check_entry(leaf, header, body);
    let (cause, what) = match (as_committed, judged) {
        (true, Ok(())) => return None,
        (true, Err(why)) => (Cause::Forgery, why),
        (false, Err(why)) => (Cause::Rot, why),
        (false, Ok(())) => (
            Cause::Rot,
            "body or its checksum in the length table has rotted".to_owned(),
        ),
    };
    Some(
        Fault::of(path, cause, what)
            .at(u64::from(place.body.start))
            .leaf(leaf),
    )
}
