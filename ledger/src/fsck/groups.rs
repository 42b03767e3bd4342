//! Checking one group by itself: head, checksums, and what the caller knows of headers and bodies.

use std::cell::Cell;

use common::{
    ids::{Hash, LeafIndex},
    merkle::leaf_hash,
};

use super::{Cause, CheckEntry, Fault, read_into};
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
    /// Bytes of its file.
    pub(super) bytes: u64,
    /// The file up to the first body.
    head: Vec<u8>,
    /// Its entries; empty when not even its lengths make sense.
    pub(super) places: Vec<Place>,
    /// Leaf hash of each header.
    pub(super) hashes: Vec<Hash>,
    /// What is wrong with it.
    pub(super) faults: Vec<Fault>,
}

impl CheckedGroup {
    /// The leaf after its last, as far as its entries are known.
    pub(super) fn end(&self) -> LeafIndex {
        LeafIndex(self.first.0.saturating_add(self.places.len().max(1) as u64))
    }

    /// The header of the group's `entry`-th leaf.
    pub(super) fn header(&self, entry: usize) -> Option<(&[u8], Hash, &Place)> {
        let place = self.places.get(entry)?;
        Some((slice(&self.head, &place.header), *self.hashes.get(entry)?, place))
    }
}

thread_local! {
    /// Each thread reads one group after another into the same memory: bodies are dropped as soon as they are
    /// checked, and no page is asked of the system twice.
    static FILE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads and checks the group whose name says `first`.
pub(super) fn check(storage: &dyn Storage, first: LeafIndex, check_entry: CheckEntry<'_>) -> CheckedGroup {
    // Taken, not borrowed: a caller that splits its own check over threads may bring us back here meanwhile.
    let mut file = FILE.take();
    file.clear();
    let mut group = CheckedGroup {
        first,
        path: group_path(first),
        bytes: 0,
        head: Vec::new(),
        places: Vec::new(),
        hashes: Vec::new(),
        faults: Vec::new(),
    };
    match read_into(storage, &group.path, GROUP_BYTES_MAX, &mut file) {
        Ok(()) => check_file(&mut group, &file, check_entry),
        Err(fault) => group.faults.push(fault),
    }
    FILE.set(file);
    group
}

fn check_file(group: &mut CheckedGroup, file: &[u8], check_entry: CheckEntry<'_>) {
    let first = group.first;
    group.bytes = file.len() as u64;
    let parsed = Head::parse(file, first);
    let head_sound = parsed.is_ok();
    match parsed {
        Ok(head) => {
            check_length(group, &head);
            group.places = head.places;
        }
        Err(fault) => {
            let cause = if matches!(fault, GroupFault::Short(_)) {
                Cause::Missing
            } else {
                Cause::Rot
            };
            let at = fault.offset();
            let mut found = Fault::of(&group.path, cause, fault.to_string()).leaf(first);
            found.offset = at;
            group.faults.push(found);
            // Lengths that still add up let the entries be judged one by one, which narrows the place.
            let unhashed = Head::danger_parse_unhashed(file, first);
            group.places = unhashed.map(|head| head.places).unwrap_or_default();
        }
    }
    let headers_end = group.places.last().map_or(0, |place| place.header.end);
    group.head = slice(file, &(0..headers_end)).to_vec();
    for (place, leaf) in group.places.iter().zip(first.0..) {
        let (header, body) = (slice(file, &place.header), slice(file, &place.body));
        group.hashes.push(leaf_hash(header));
        let fault = check_body(
            &group.path,
            LeafIndex(leaf),
            header,
            body,
            place,
            head_sound,
            check_entry,
        );
        group.faults.extend(fault);
    }
}

fn check_length(group: &mut CheckedGroup, head: &Head) {
    let found = group.bytes;
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
/// In a head that has rotted, both header and checksum may be what is wrong.
fn check_body(
    path: &str,
    leaf: LeafIndex,
    header: &[u8],
    body: &[u8],
    place: &Place,
    head_sound: bool,
    check_entry: CheckEntry<'_>,
) -> Option<Fault> {
    let as_committed = crc32fast::hash(body) == place.body_crc;
    let judged = check_entry(leaf, header, body);
    let (cause, what) = match (as_committed, judged) {
        (true, Ok(())) => return None,
        (true, Err(why)) if head_sound => (Cause::Forgery, why),
        (true, Err(why)) => (Cause::Rot, format!("its header has rotted: {why}")),
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
