//! Checking one group by itself: head, checksums, and what the caller knows of headers and bodies.

use std::sync::{Mutex, PoisonError};

use common::{
    ids::{Hash, LeafIndex},
    merkle::leaf_hash,
};
use rayon::prelude::*;

use super::{Cause, CheckEntry, Checks, Fault, read_into};
use crate::{
    group::{GROUP_BYTES_MAX, GroupFault, Head, Place, group_path, slice},
    kept::{KEPT_BYTES_MAX, Kept, kept_path},
    storage::Storage,
};

/// Threads share the entries of a group in parts of so many bytes: large enough that dividing costs nothing, and small enough
/// that none waits long for another at the end.
const PART_BYTES: usize = 512 * 1024;
/// Bytes of memory kept for the next files.
const SPARE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A group after its own check: what the walk needs of it.
#[derive(Debug)]
pub(super) struct CheckedGroup<T> {
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
    /// What the caller made of the entries that he found nothing wrong with.
    pub(super) entries: Vec<(LeafIndex, T)>,
}

/// What came of one entry.
type Judged<T> = (Option<T>, Option<Fault>);

impl<T: Send> CheckedGroup<T> {
    /// Takes the headers out of the file.
    fn take_headers(&mut self, file: &[u8]) {
        let end = self.places.last().map_or(0, |place| place.header.end);
        self.head = slice(file, &(0..end)).to_vec();
        let headers = self.places.iter().map(|place| slice(file, &place.header));
        self.hashes = headers.map(leaf_hash).collect();
    }

    /// Judges all entries of the file, on more threads where it is a large one.
    fn judge_entries(&mut self, file: &[u8], judge: impl Fn(usize, LeafIndex, &Place) -> Judged<T> + Sync) {
        let first = self.first.0;
        let leaf = |entry: usize| LeafIndex(first.saturating_add(entry as u64));
        let entries_of_a_part = (self.places.len() * PART_BYTES / file.len().max(1)).max(1);
        let judged: Vec<Judged<T>> = self
            .places
            .par_iter()
            .enumerate()
            .with_min_len(entries_of_a_part)
            .map(|(at, place)| judge(at, leaf(at), place))
            .collect();
        for (at, (entry, fault)) in judged.into_iter().enumerate() {
            self.entries.extend(entry.map(|entry| (leaf(at), entry)));
            self.faults.extend(fault);
        }
    }

    /// The header of the group's `entry`-th leaf.
    pub(super) fn header(&self, entry: usize) -> Option<(&[u8], Hash, &Place)> {
        let place = self.places.get(entry)?;
        Some((slice(&self.head, &place.header), *self.hashes.get(entry)?, place))
    }
}

/// Memory for files, so that no page is asked of the system twice: bodies are dropped as soon as they are checked.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    fn keep(&self, mut file: Vec<u8>) {
        file.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = spare.iter().map(Vec::capacity).sum();
        if kept.saturating_add(file.capacity()) <= SPARE_BYTES_MAX {
            spare.push(file);
        }
    }
}

/// Reads and checks the group whose name says `first`.
pub(super) fn check<T: Send>(
    storage: &dyn Storage,
    first: LeafIndex,
    checks: Checks<'_, T>,
    spare: &Spare,
) -> CheckedGroup<T> {
    let mut file = spare.take();
    let mut group = CheckedGroup {
        first,
        path: group_path(first),
        bytes: 0,
        head: Vec::new(),
        places: Vec::new(),
        hashes: Vec::new(),
        faults: Vec::new(),
        entries: Vec::new(),
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
    spare.keep(file);
    group
}

/// As [`check_file`], for what is kept of a group: a body that is gone is judged by its header and the certificate
/// that it names.
fn check_kept<T: Send>(group: &mut CheckedGroup<T>, file: &[u8], checks: Checks<'_, T>) {
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
    let path = group.path.clone();
    group.judge_entries(file, |at, leaf, place| {
        let header = slice(file, &place.header);
        let (Some(gone), Some(body)) = (kept.gone.get(at), kept.bodies.get(at)) else {
            return (None, None);
        };
        match gone {
            None => check_body(&path, leaf, header, slice(file, body), place, true, checks.entry),
            Some(by) => match (checks.pruned)(leaf, header, *by) {
                Ok(entry) => (Some(entry), None),
                Err(why) => (None, Some(Fault::of(&path, Cause::Forgery, why).leaf(leaf))),
            },
        }
    });
}

fn check_file<T: Send>(group: &mut CheckedGroup<T>, file: &[u8], check_entry: CheckEntry<'_, T>) {
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
    let path = group.path.clone();
    group.judge_entries(file, |_, leaf, place| {
        let (header, body) = (slice(file, &place.header), slice(file, &place.body));
        check_body(&path, leaf, header, body, place, head_sound, check_entry)
    });
}

fn check_length<T>(group: &mut CheckedGroup<T>, expected: u64) {
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
fn check_body<T>(
    path: &str,
    leaf: LeafIndex,
    header: &[u8],
    body: &[u8],
    place: &Place,
    head_sound: bool,
    check_entry: CheckEntry<'_, T>,
) -> Judged<T> {
    let as_committed = crc32fast::hash(body) == place.body_crc;
    let (entry, why) = match check_entry(leaf, header, body) {
        Ok(entry) => (Some(entry), None),
        Err(why) => (None, Some(why)),
    };
    let (cause, what) = match (as_committed, why) {
        (true, None) => return (entry, None),
        (true, Some(why)) if head_sound => (Cause::Forgery, why),
        (true, Some(why)) => (Cause::Rot, format!("its header has rotted: {why}")),
        (false, Some(why)) => (Cause::Rot, why),
        (false, None) => (
            Cause::Rot,
            "body or its checksum in the length table has rotted".to_owned(),
        ),
    };
    let fault = Fault::of(path, cause, what)
        .at(u64::from(place.body.start))
        .leaf(leaf);
    (entry, Some(fault))
}
