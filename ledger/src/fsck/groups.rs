//! Checking one group by itself: head, checksums, and what the caller knows of headers and bodies.

use std::cell::Cell;

use common::{
    ids::{Hash, LeafIndex},
    merkle::leaf_hash,
};

use super::{Cause, CheckEntry, Checks, Fault, read_into};
use crate::{
    group::{GROUP_BYTES_MAX, GroupFault, Head, Place, group_path, slice},
    kept::{KEPT_BYTES_MAX, Kept, kept_path},
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

    /// Takes the headers out of the file.
    fn take_headers(&mut self, file: &[u8]) {
        let end = self.places.last().map_or(0, |place| place.header.end);
        self.head = slice(file, &(0..end)).to_vec();
        let headers = self.places.iter().map(|place| slice(file, &place.header));
        self.hashes = headers.map(leaf_hash).collect();
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
pub(super) fn check(storage: &dyn Storage, first: LeafIndex, checks: Checks<'_>) -> CheckedGroup {
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
        Ok(()) => check_file(&mut group, &file, checks.entry),
        Err(fault) if fault.cause == Cause::Missing => {
            // Once bodies were pruned, what is kept of the group stands for it.
            let kept = kept_path(first);
            match read_into(storage, &kept, KEPT_BYTES_MAX, &mut file) {
                Ok(()) => {
                    group.path = kept;
                    check_kept(&mut group, &file, checks);
                }
                Err(other) if other.cause == Cause::Missing => group.faults.push(fault),
                Err(other) => group.faults.push(other),
            }
        }
        Err(fault) => group.faults.push(fault),
    }
    FILE.set(file);
    group
}

/// As [`check_file`], for what is kept of a group: a body that is gone is judged by its header and the certificate
/// that it names.
fn check_kept(group: &mut CheckedGroup, file: &[u8], checks: Checks<'_>) {
    let kept = match Kept::parse(file, group.first) {
        Ok(kept) => kept,
        Err(fault) => {
            let cause = if matches!(fault, GroupFault::Short(_)) {
                Cause::Missing
            } else {
                Cause::Rot
            };
            let mut found = Fault::of(&group.path, cause, fault.to_string()).leaf(group.first);
            found.offset = fault.offset();
            group.faults.push(found);
            // A head that still holds by itself places the headers.
            let head = Head::parse(file, group.first);
            group.places = head.map(|head| head.places).unwrap_or_default();
            group.take_headers(file);
            return;
        }
    };
    group.bytes = file.len() as u64;
    check_length(group, kept.file_bytes);
    group.places = kept.head.places;
    group.take_headers(file);
    let places = group.places.clone();
    let entries = kept.gone.iter().zip(&kept.bodies).zip(&places);
    for (((gone, body), place), leaf) in entries.zip(group.first.0..) {
        let (leaf, header) = (LeafIndex(leaf), slice(file, &place.header));
        let fault = match gone {
            None => check_body(
                &group.path,
                leaf,
                header,
                slice(file, body),
                place,
                true,
                checks.entry,
            ),
            Some(by) => (checks.pruned)(leaf, header, *by)
                .err()
                .map(|why| Fault::of(&group.path, Cause::Forgery, why).leaf(leaf)),
        };
        group.faults.extend(fault);
    }
}

fn check_file(group: &mut CheckedGroup, file: &[u8], check_entry: CheckEntry<'_>) {
    let first = group.first;
    group.bytes = file.len() as u64;
    let parsed = Head::parse(file, first);
    let head_sound = parsed.is_ok();
    match parsed {
        Ok(head) => {
            check_length(group, head.file_bytes);
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
    group.take_headers(file);
    let places = group.places.clone();
    for (place, leaf) in places.iter().zip(first.0..) {
        let (header, body) = (slice(file, &place.header), slice(file, &place.body));
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

fn check_length(group: &mut CheckedGroup, expected: u64) {
    let found = group.bytes;
    if found == expected {
        return;
    }
    let cause = if found < expected {
        Cause::Missing
    } else {
        Cause::Stray
    };
    let what = GroupFault::Length { expected, found }.to_string();
    group
        .faults
        .push(Fault::of(&group.path, cause, what).at(found.min(expected)));
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
