//! Recovery at every truncation and every flipped byte, bounds, and the order of what is written.

mod mutations;

use alloc::{collections::BTreeMap, format, vec, vec::Vec};

use super::*;
use crate::{
    batch::{ChainHead, HeldKeys},
    ids::{BootNanos, Hash, Sequence, hex},
    testing::{batches, empty_spool, held, host, run_disk, spool_of},
};

/// The files that a run of effects leaves.
#[derive(Default, Clone)]
struct Files {
    segments: BTreeMap<SegmentId, Vec<u8>>,
    head: Option<Vec<u8>>,
}

impl Files {
    fn apply(&mut self, effect: &SpoolEffect) {
        match effect {
            SpoolEffect::Create { segment, bytes } => {
                self.segments.insert(*segment, bytes.clone());
            }
            SpoolEffect::Write {
                segment,
                offset,
                bytes,
            } => {
                let file = self.segments.get_mut(segment).unwrap();
                assert_eq!(file.len() as u64, *offset, "segments are appended to");
                file.extend_from_slice(bytes);
            }
            SpoolEffect::Truncate { segment, length } => {
                self.segments
                    .get_mut(segment)
                    .unwrap()
                    .truncate(usize::try_from(*length).unwrap());
            }
            SpoolEffect::Delete { segment } | SpoolEffect::SetAside { segment } => {
                self.segments.remove(segment);
            }
            SpoolEffect::WriteHead { offset, bytes, .. } => {
                let file = self.head.get_or_insert_with(|| vec![0; HEAD_FILE_BYTES]);
                let at = usize::try_from(*offset).unwrap();
                file[at..at + bytes.len()].copy_from_slice(bytes);
            }
            SpoolEffect::Sync { .. } => {}
        }
    }

    fn run(&mut self, spool: &mut Spool) {
        for effect in run_disk(spool) {
            self.apply(&effect);
        }
    }

    fn recover(&self) -> Result<Recovered, RecoverError> {
        let scans = self
            .segments
            .iter()
            .map(|(id, bytes)| scan_segment(&host(), *id, bytes))
            .collect();
        recover(small(), &held(), self.head.as_deref(), scans)
    }
}

fn small() -> SpoolConfig {
    SpoolConfig {
        segment_bytes_max: 1_300,
        ..SpoolConfig::default()
    }
}

/// A spool of `count` batches with its files: two batches in each segment.
fn filled(count: u64) -> (Files, Spool) {
    let mut files = Files::default();
    let mut spool = empty_spool(small());
    files.run(&mut spool);
    for batch in batches(&ChainHead::genesis(host()), count, 0) {
        spool.append(&batch).unwrap();
        files.run(&mut spool);
    }
    (files, spool)
}

#[test]
fn golden_segment_and_head() {
    let (files, _) = filled(1);
    let head = &files.head.unwrap()[..2 * HEAD_SLOT_STRIDE];
    insta::assert_snapshot!(format!(
        "segment: {}\nslot 0: {}\nslot 1: {}\n",
        hex(&files.segments[&SegmentId(0)]),
        hex(&head[..320]),
        hex(&head[HEAD_SLOT_STRIDE..HEAD_SLOT_STRIDE + 320]),
    ));
}

/// Synced alone it would stay in memory, where a sync before had failed; and the other slot may be the only one that the
/// disk has.
#[test]
fn a_start_writes_the_head_in_force_again_before_the_other_slot() {
    let (files, _) = filled(3);
    let image = files.head.clone().unwrap();
    let (in_force, _) = read_head_file(&image).0.unwrap();
    let mut spool = files.recover().unwrap().spool;
    for (nth, slot) in [in_force, 1 - in_force].into_iter().enumerate() {
        let at = slot * HEAD_SLOT_STRIDE;
        match spool.poll_effect(BootNanos(0)) {
            Some(SpoolEffect::WriteHead { offset, bytes, sync }) => {
                assert_eq!((offset, sync), (at as u64, true));
                assert_eq!(bytes == image[at..at + bytes.len()], nth == 0);
            }
            other => panic!("{other:?}"),
        }
        spool.handle_done();
    }
}

/// A slot of format 2 ends before the ledger's mark, one of format 1 has no announced key either.
#[test]
fn head_files_of_earlier_formats_are_read_and_have_no_mark() {
    let (mut files, spool) = filled(3);
    let at = HEAD_SLOT_STRIDE;
    let whole = files.head.clone().unwrap();
    for (version, covered) in [(2, [0..176, 0..0]), (1, [0..136, 168..176])] {
        let mut slot = whole[at..at + 320].to_vec();
        slot[5] = version;
        let mut slot = covered.map(|part| slot[part].to_vec()).concat();
        let check = Hash::of(&slot);
        slot.extend_from_slice(&check.0);
        slot.resize(HEAD_SLOT_STRIDE, 0);
        files.head.as_mut().unwrap()[at..].copy_from_slice(&slot);
        let (held, faults) = read_head_file(files.head.as_ref().unwrap());
        assert_eq!(faults, [None, None], "format {version}");
        let (slot, held) = held.unwrap();
        assert_eq!((slot, held.mark), (1, None), "format {version}");
        assert_eq!(held.head.hash, spool.head().hash);
        assert_eq!(held.head.keys.announced.is_some(), version == 2);
    }
}

#[test]
fn what_was_written_is_recovered_without_findings() {
    let (files, spool) = filled(5);
    assert_eq!(files.segments.len(), 3);
    let recovered = files.recover().unwrap();
    assert_eq!(recovered.findings, []);
    assert_eq!(recovered.spool.head(), spool.head());
    assert_eq!(recovered.spool.batches(), 5);
    for sequence in (0..5).map(Sequence) {
        assert_eq!(recovered.spool.entry(sequence), spool.entry(sequence));
    }
}

/// The batch under way when the machine stopped is cut off; those before it stay; the chain goes on.
#[test]
fn every_truncation_of_the_unclaimed_tail_is_a_torn_write() {
    let (before, _) = filled(2);
    let (after, _) = filled(3);
    let last = SegmentId(2);
    let whole = after.segments[&last].clone();
    for length in 0..whole.len() {
        let mut files = before.clone();
        files.segments.insert(last, whole[..length].to_vec());
        let mut recovered = files.recover().unwrap();
        let expected = if length < SEGMENT_HEADER_BYTES {
            0
        } else {
            SEGMENT_HEADER_BYTES as u64
        };
        let torn = Finding::TornTail {
            segment: last,
            offset: expected,
            bytes: length as u64 - expected,
            sequence: Sequence(2),
        };
        // A bare header is what creating a segment leaves: nothing is torn.
        let clean = length == SEGMENT_HEADER_BYTES;
        assert_eq!(
            recovered.findings,
            if clean { vec![] } else { vec![torn] },
            "cut at {length}"
        );
        assert_eq!(recovered.spool.head().next_sequence, Sequence(2));
        files.run(&mut recovered.spool);
        let next = batches(recovered.spool.head(), 1, 7);
        recovered.spool.append(&next[0]).unwrap();
        files.run(&mut recovered.spool);
        let again = files.recover().unwrap();
        assert_eq!(again.findings, [], "cut at {length}");
        assert_eq!(again.spool.head().next_sequence, Sequence(3));
    }
}

/// A flipped byte of what was durable is never mistaken for a torn write, and costs one batch.
#[test]
fn every_flipped_byte_of_a_segment_is_named() {
    let (files, spool) = filled(5);
    for (id, bytes) in &files.segments {
        for at in 0..bytes.len() {
            let mut files = files.clone();
            files.segments.get_mut(id).unwrap()[at] ^= 1 << (at % 8);
            let recovered = files.recover().unwrap();
            let named = recovered.findings.iter().any(|finding| {
                matches!(finding, Finding::Rot { segment, offset, bytes, .. }
                    if segment == id && (*offset..offset + bytes).contains(&(at as u64)))
            });
            assert!(named, "{id} byte {at}: {:?}", recovered.findings);
            assert_eq!(recovered.spool.head(), spool.head(), "{id} byte {at}");
            let lost = 5 - recovered.spool.batches();
            assert_eq!(lost, usize::from(at >= SEGMENT_HEADER_BYTES), "{id} byte {at}");
            let missing = recovered
                .findings
                .iter()
                .filter(|finding| matches!(finding, Finding::Missing { .. }));
            assert_eq!(missing.count(), lost, "{id} byte {at}");
        }
    }
}

#[test]
fn every_flipped_byte_of_the_head_file_leaves_the_other_slot_or_the_segments() {
    let (files, spool) = filled(3);
    let head = files.head.clone().unwrap();
    for at in (0..320).chain(HEAD_SLOT_STRIDE..HEAD_SLOT_STRIDE + 320) {
        let mut files = files.clone();
        files.head.as_mut().unwrap()[at] ^= 0x10;
        let recovered = files.recover().unwrap();
        let slot = at / HEAD_SLOT_STRIDE;
        let fault = SlotFault::Damaged;
        assert_eq!(
            recovered.findings,
            [Finding::HeadSlot { slot, fault }],
            "byte {at}"
        );
        assert_eq!(recovered.spool.head(), spool.head());
        assert_eq!(recovered.spool.oldest(), spool.oldest());
    }
    let mut ruined = files;
    for at in [0, HEAD_SLOT_STRIDE] {
        ruined.head.as_mut().unwrap()[at] ^= 1;
    }
    let recovered = ruined.recover().unwrap();
    assert!(recovered.findings.contains(&Finding::HeadLost));
    assert_eq!(recovered.spool.head(), spool.head());
    ruined.segments.clear();
    assert_eq!(ruined.recover().unwrap_err(), RecoverError::HeadUnusable);
    ruined.head = Some(head);
    let missing = ruined.recover().unwrap();
    assert_eq!(
        missing.findings,
        [Finding::Missing {
            from: Sequence(0),
            through: Sequence(2)
        }]
    );
}

#[test]
fn files_of_another_host_or_another_history_are_refused() {
    let (files, _) = filled(3);
    let other = crate::ids::HostId([9; 32]);
    assert!(matches!(
        recover(
            small(),
            &HeldKeys {
                host: other,
                ..held()
            },
            files.head.as_deref(),
            vec![]
        ),
        Err(RecoverError::OtherHost { .. })
    ));
    // The segments of another history of the same length: one of them was put back from a copy.
    let fork = spool_files(7);
    let mixed = Files {
        head: files.head,
        segments: fork.segments,
    };
    assert_eq!(
        mixed.recover().unwrap_err(),
        RecoverError::HeadsDiffer(Sequence(3))
    );
}

fn spool_files(salt: u64) -> Files {
    let mut files = Files::default();
    let mut spool = empty_spool(small());
    files.run(&mut spool);
    for batch in batches(&ChainHead::genesis(host()), 3, salt) {
        spool.append(&batch).unwrap();
        files.run(&mut spool);
    }
    files
}

#[test]
fn segments_go_only_behind_a_synced_head_and_the_chain_outlives_them() {
    let (mut files, mut spool) = filled(5);
    spool.trim(Sequence(3));
    let effects = run_disk(&mut spool);
    assert!(
        matches!(
            effects.as_slice(),
            [
                SpoolEffect::WriteHead { sync: true, .. },
                SpoolEffect::Delete {
                    segment: SegmentId(0)
                },
                SpoolEffect::Delete {
                    segment: SegmentId(2)
                },
            ]
        ),
        "{effects:?}"
    );
    effects.iter().for_each(|effect| files.apply(effect));
    let recovered = files.recover().unwrap();
    assert_eq!(recovered.findings, []);
    assert_eq!(recovered.spool.oldest(), Sequence(4));
    assert_eq!(recovered.spool.batches(), 1);
    // Even with no segment left the head file tells where the chain stands.
    spool.trim(Sequence(4));
    files.run(&mut spool);
    files.segments.clear();
    assert_eq!(files.recover().unwrap().spool.head(), spool.head());
}

/// The slot that was synced last is never written before the other one was synced as well.
#[test]
fn the_safe_slot_is_left_alone() {
    let (_, mut spool) = filled(1);
    let mut slots = Vec::new();
    for batch in batches(&spool.head().clone(), 3, 1) {
        spool.append(&batch).unwrap();
        slots.extend(
            run_disk(&mut spool)
                .into_iter()
                .filter_map(|effect| match effect {
                    SpoolEffect::WriteHead { offset, sync, .. } => Some((offset, sync)),
                    _ => None,
                }),
        );
    }
    let other = HEAD_SLOT_STRIDE as u64;
    assert_eq!(slots, [(other, false); 3]);
    spool.trim(Sequence(2));
    let after = run_disk(&mut spool);
    assert!(matches!(after[0], SpoolEffect::WriteHead { sync: true, offset, .. } if offset == other));
    spool.trim(Sequence(3));
    assert!(matches!(
        run_disk(&mut spool)[0],
        SpoolEffect::WriteHead { offset: 0, .. }
    ));
}

#[test]
fn the_bound_refuses_and_keeps_the_oldest() {
    let config = SpoolConfig {
        batches_max: 2,
        ..small()
    };
    let all = batches(&ChainHead::genesis(host()), 3, 0);
    let mut spool = spool_of(config, &all[..2]);
    assert!(spool.full() && !spool.ready());
    assert!(matches!(
        spool.append(&all[2]),
        Err(AppendRefused::Full { batches: 2, .. })
    ));
    assert!(spool.entry(Sequence(0)).is_some());
    spool.trim(Sequence(0));
    run_disk(&mut spool);
    assert!(spool.ready());
    assert!(matches!(
        spool.append(&all[0]),
        Err(AppendRefused::Misplaced { .. })
    ));
    spool.append(&all[2]).unwrap();
}

#[test]
fn no_space_is_waited_out_and_leaves_no_torn_record() {
    let all = batches(&ChainHead::genesis(host()), 2, 0);
    let mut spool = spool_of(small(), &all[..1]);
    spool.append(&all[1]).unwrap();
    let write = spool.poll_effect(BootNanos(5)).unwrap();
    assert!(matches!(write, SpoolEffect::Write { .. }));
    spool.handle_failed(BootNanos(5), DiskFault::NoSpace);
    assert!(spool.no_space());
    assert_eq!(spool.poll_effect(BootNanos(6)), None);
    let at = spool.poll_timeout().unwrap();
    assert!(matches!(
        spool.poll_effect(at),
        Some(SpoolEffect::Truncate { .. })
    ));
    // While the disk works there is nothing to wake up for.
    assert_eq!(spool.poll_timeout(), None);
    spool.handle_done();
    assert_eq!(spool.poll_effect(at), Some(write));
    spool.handle_done();
    run_disk(&mut spool);
    assert_eq!(spool.poll_durable(), Some(Sequence(1)));
}

#[test]
fn a_failed_sync_ends_everything() {
    let all = batches(&ChainHead::genesis(host()), 2, 0);
    let mut spool = spool_of(small(), &all[..1]);
    spool.append(&all[1]).unwrap();
    while !matches!(spool.poll_effect(BootNanos(0)), Some(SpoolEffect::Sync { .. })) {
        spool.handle_done();
    }
    spool.handle_failed(BootNanos(0), DiskFault::NoSpace);
    assert_eq!(spool.failed().unwrap().step, "sync");
    assert_eq!(spool.poll_durable(), None);
    assert_eq!(spool.poll_effect(BootNanos(u64::MAX)), None);
    assert!(matches!(spool.append(&all[1]), Err(AppendRefused::Failed(_))));
}

proptest::proptest! {
    #[test]
    fn prop_garbage_is_scanned_without_panic(bytes: Vec<u8>, at in 0usize..1500, junk: Vec<u8>) {
        let _ = scan_segment(&host(), SegmentId(0), &bytes);
        let (files, _) = filled(2);
        let mut segment = files.segments[&SegmentId(0)].clone();
        let at = at.min(segment.len());
        segment.splice(at..at, junk.iter().copied());
        let scan = scan_segment(&host(), SegmentId(0), &segment);
        proptest::prop_assert!(junk.is_empty() || !scan.damage.is_empty());
        let covered: u64 = scan.records.iter().map(|r| u64::from(r.length)).sum::<u64>()
            + scan.damage.iter().map(|d| d.length).sum::<u64>();
        let header = if scan.damage.first().is_some_and(|d| d.offset == 0) { 0 } else { SEGMENT_HEADER_BYTES as u64 };
        proptest::prop_assert_eq!(covered + header, segment.len() as u64, "every byte is accounted for");
        let _ = read_head_file(&bytes);
        let _ = open_record(&bytes);
    }
}
