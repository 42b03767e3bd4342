//! Seeded ways to spoil an agent's spool: each is found and put down to the file that was touched, or to the batches it
//! held.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use std::println;

use proptest::{
    prelude::Rng as _,
    test_runner::{TestRng, TestRunner},
};

use super::*;

const MUTATIONS: u64 = 10_000;
/// Batches in the spool; the older copy has two less.
const BATCHES: u64 = 7;

fn below(random: &mut TestRng, bound: usize) -> usize {
    usize::try_from(random.next_u64() % bound.max(1) as u64).unwrap()
}

/// A file of the spool: a segment, or the head file.
type Name = Option<SegmentId>;

fn file(files: &Files, name: Name) -> Option<&Vec<u8>> {
    match name {
        Some(segment) => files.segments.get(&segment),
        None => files.head.as_ref(),
    }
}

fn put(files: &mut Files, name: Name, bytes: Option<Vec<u8>>) {
    match (name, bytes) {
        (None, bytes) => files.head = bytes,
        (Some(segment), Some(bytes)) => {
            files.segments.insert(segment, bytes);
        }
        (Some(segment), None) => {
            files.segments.remove(&segment);
        }
    }
}

/// Two records of a segment, if it has so many, by their places.
fn records(segment: SegmentId, bytes: &[u8]) -> Vec<core::ops::Range<usize>> {
    let scan = scan_segment(&host(), segment, bytes);
    let place = |record: &ScannedRecord| {
        let from = usize::try_from(record.offset).unwrap();
        from..from + record.length as usize
    };
    scan.records.iter().map(place).collect()
}

/// One way to spoil a file: what it is called, and the bytes that are there then.
fn spoil(
    random: &mut TestRng,
    name: Name,
    good: &[u8],
    older: Option<&Vec<u8>>,
) -> (&'static str, Option<Vec<u8>>) {
    let mut bad = good.to_vec();
    let at = below(random, good.len());
    let run = 1 + below(random, (good.len() - at).min(200));
    let whole = name.map(|segment| records(segment, good)).unwrap_or_default();
    let kind = match (below(random, 8), whole.as_slice()) {
        (0, _) => {
            bad[at] ^= 1 << below(random, 8);
            "flip"
        }
        (1, _) => return ("delete", None),
        (2, _) => {
            bad.splice(at..at, good[at..at + run].to_vec());
            "duplicate"
        }
        (3, _) => {
            let run = run.min((good.len() - at) / 2);
            bad[at..at + 2 * run].rotate_left(run);
            "reorder"
        }
        (4, _) => {
            bad.truncate(at);
            "truncate"
        }
        (5, [first, .., last]) => {
            // Whole records exchanged: each of them good by itself.
            let exchanged = [&good[last.clone()], &good[first.clone()]].concat();
            bad.splice(first.start..last.end, exchanged);
            "reorder records"
        }
        (6, [.., last]) => {
            bad.extend_from_slice(&good[last.clone()]);
            "duplicate record"
        }
        _ => return ("older copy", older.cloned()),
    };
    (kind, Some(bad))
}

/// Whether a finding is about this file, or about batches that only it held.
fn is_about(finding: &Finding, name: Name, held: &BTreeSet<Sequence>) -> bool {
    match finding {
        Finding::TornTail { segment, .. }
        | Finding::Rot { segment, .. }
        | Finding::Unlinked { segment, .. }
        | Finding::OutOfOrder { segment, .. }
        | Finding::Repeated { segment, .. } => Some(*segment) == name,
        Finding::Missing { from, through } => {
            held.iter().any(|sequence| (from..=through).contains(&sequence))
        }
        Finding::HeadSlot { .. }
        | Finding::HeadLost
        | Finding::HeadLength { .. }
        | Finding::HeadStray { .. } => name.is_none(),
    }
}

#[test]
fn ten_thousand_mutations_of_a_spool_are_each_found_and_named() {
    let (good, spool) = filled(BATCHES);
    let (older, _) = filled(BATCHES - 2);
    let names: Vec<Name> = good.segments.keys().copied().map(Some).chain([None]).collect();
    let mut random = TestRunner::deterministic().new_rng();
    let (mut done, mut kinds) = (0, BTreeMap::<(&str, &str), u64>::new());
    while done < MUTATIONS {
        let name = names[below(&mut random, names.len())];
        let bytes = file(&good, name).unwrap();
        let (kind, bad) = spoil(&mut random, name, bytes, file(&older, name));
        if bad.as_ref() == Some(bytes) {
            continue;
        }
        let mut files = good.clone();
        put(&mut files, name, bad);
        let held: BTreeSet<Sequence> = name.map_or_else(BTreeSet::new, |segment| {
            let scan = scan_segment(&host(), segment, bytes);
            scan.records.iter().map(|record| record.sequence).collect()
        });
        match files.recover() {
            // The agent does not start: what the last batch or the keys say does not fit.
            Err(_) => {}
            // A head file that is behind is what a power cut leaves: the segments have the word, and nothing is lost.
            Ok(recovered) if kind == "older copy" && name.is_none() => {
                assert_eq!(recovered.spool.head(), spool.head());
                assert_eq!(recovered.spool.batches() as u64, BATCHES);
            }
            Ok(recovered) => {
                assert!(
                    recovered
                        .findings
                        .iter()
                        .any(|finding| is_about(finding, name, &held)),
                    "{done}: {kind} of {name:?}: {:?}",
                    recovered.findings
                );
                let others = recovered
                    .findings
                    .iter()
                    .find(|finding| !is_about(finding, name, &held));
                // The batch behind a gap continues one that is not there.
                assert!(others.is_none(), "{done}: {kind} of {name:?}: {others:?}");
            }
        }
        let what = if name.is_some() { "segment" } else { "head" };
        *kinds.entry((kind, what)).or_default() += 1;
        done += 1;
    }
    println!("{done} mutations of a spool, each found and named: {kinds:?}");
    for kind in ["flip", "delete", "duplicate", "reorder", "truncate", "older copy"] {
        for what in ["segment", "head"] {
            assert!(
                kinds.contains_key(&(kind, what)),
                "no {kind} of a {what}: {kinds:?}"
            );
        }
    }
}
