//! Comparing one stored tile or bundle with what it must be.

use common::{
    ids::LeafIndex,
    tile::{Kind, TILE_WIDTH, TilePath, entries},
};

use super::{Cause, Fault, Report, read};
use crate::{
    storage::Storage,
    tiles::{BUNDLE_BYTES_MAX, TILE_BYTES_MAX, object_path},
};

/// Compares a stored tile or bundle with the bytes it must have, and names the first place that differs.
pub(super) fn stored(storage: &dyn Storage, path: TilePath, expected: &[u8], report: &mut Report) {
    let object = object_path(path);
    let found = match read(storage, &object, length_max(path.kind)) {
        Ok(found) => found,
        // A writer at work removes a partial form once the full one is there.
        Err(fault) if fault.cause == Cause::Missing && has_full(storage, path) => return,
        Err(fault) => return report.fault(fault),
    };
    report.counts.resources += 1;
    report.counts.bytes += found.len() as u64;
    if found == expected {
        return;
    }
    let at = first_difference(&found, expected);
    let (what, leaf) = place_of(path, expected, at, found.len());
    let cause = if found.len() < expected.len() {
        Cause::Missing
    } else {
        Cause::Rot
    };
    let mut fault = Fault::of(&object, cause, what).at(at);
    fault.leaf = leaf;
    report.fault(fault);
}

fn has_full(storage: &dyn Storage, path: TilePath) -> bool {
    let full = storage.length(&object_path(path.full()));
    !path.is_full() && full.is_ok_and(|length| length.is_some())
}

/// Longest resource of this kind, bytes.
pub(super) fn length_max(kind: Kind) -> u64 {
    match kind {
        Kind::Hashes(_) => TILE_BYTES_MAX,
        Kind::Entries => BUNDLE_BYTES_MAX,
    }
}

/// What stands at offset `at` of a resource, and the leaf it concerns.
fn place_of(path: TilePath, expected: &[u8], at: u64, found: usize) -> (String, Option<LeafIndex>) {
    let begin = path.index.saturating_mul(u64::from(TILE_WIDTH));
    if at >= expected.len() as u64 {
        return (format!("has {found} bytes where {} belong", expected.len()), None);
    }
    let verb = if found < expected.len() {
        "is cut in"
    } else {
        "differs from the groups in"
    };
    match path.kind {
        Kind::Hashes(0) => (
            format!("{verb} the hash of a leaf"),
            Some(LeafIndex(begin + at / 32)),
        ),
        Kind::Hashes(level) => (format!("{verb} hash {} of level {level}", begin + at / 32), None),
        Kind::Entries => {
            let entry = entries(expected)
                .map_while(Result::ok)
                .take_while(|(start, _)| *start as u64 <= at)
                .count()
                .saturating_sub(1);
            (
                format!("{verb} entry {entry}"),
                Some(LeafIndex(begin + entry as u64)),
            )
        }
    }
}

/// Offset of the first byte in which the two differ, the shorter one's length if it is a prefix.
pub(super) fn first_difference(left: &[u8], right: &[u8]) -> u64 {
    left.iter().zip(right).take_while(|(a, b)| a == b).count() as u64
}
