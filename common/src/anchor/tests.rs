//! The anchor file's bytes and its damage; when targets are due.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{
    checkpoint::Checkpoint,
    ids::{BootNanos, Hash, WallNanos, hex},
    note::SignerKey,
};

fn note(size: u64) -> Vec<u8> {
    let key = SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap();
    let head = Checkpoint {
        origin: "ledger.example/one".into(),
        size,
        root: Hash::of(&size.to_be_bytes()),
        extensions: Vec::new(),
    };
    head.sign(&key).unwrap().into_bytes()
}

fn record(size: u64, response: Option<&[u8]>) -> AnchorRecord {
    AnchorRecord {
        at: WallNanos(1_700_000_000_000_000_000 + size),
        note: note(size),
        response: response.map(<[u8]>::to_vec),
    }
}

fn file(records: &[AnchorRecord]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|record| record.encode().unwrap())
        .collect()
}

#[test]
fn golden_anchor_file() {
    let bytes = file(&[record(3, None), record(9, Some(b"a whole answer"))]);
    assert!(begins(&bytes));
    let lines: Vec<_> = bytes.chunks(32).map(hex).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_record_that_fits_no_reader_is_not_written() {
    assert!(record(1, Some(b"")).encode().is_err());
    let long = AnchorRecord {
        note: alloc::vec![b'x'; crate::limits::NOTE_BYTES_MAX + 1],
        ..record(1, None)
    };
    assert!(long.encode().is_err());
}

#[test]
fn a_write_cut_off_anywhere_costs_no_other_record() {
    let (first, second, third) = (record(1, None), record(2, Some(b"r")), record(3, None));
    let whole = second.encode().unwrap();
    for cut in 1..whole.len() {
        let torn = &whole[..cut];
        let bytes = [&first.encode().unwrap(), torn, &third.encode().unwrap()].concat();
        let found = scan(&bytes);
        assert_eq!(found.records.len(), 2, "cut at {cut}");
        assert_eq!(
            (&found.records[0].record, &found.records[1].record),
            (&first, &third)
        );
        let offset = first.encode().unwrap().len() as u64;
        assert_eq!(
            found.damage,
            [Damage::Torn {
                offset,
                bytes: cut as u64
            }],
            "cut at {cut}"
        );
        let at_end = scan(&[&first.encode().unwrap(), torn].concat());
        assert_eq!(
            at_end.damage,
            [Damage::Torn {
                offset,
                bytes: cut as u64
            }],
            "cut at {cut}"
        );
    }
}

/// A collector was killed twice while it wrote, with nothing whole in between, and both writes were called altered.
#[test]
fn torn_writes_one_behind_the_other_are_not_called_altered() {
    let whole = record(2, Some(b"r")).encode().unwrap();
    for first in [1, 4, 7, 28, 60, whole.len() - 1] {
        for second in [4, 7, 28, 60, whole.len() - 1] {
            let bytes = [&whole[..first], &whole[..second], &whole].concat();
            let found = scan(&bytes);
            // Where the second may just as well be the first one's note, the two are told as one.
            let torn: Option<u64> = found
                .damage
                .iter()
                .map(|damage| match damage {
                    Damage::Torn { bytes, .. } => Some(*bytes),
                    _ => None,
                })
                .sum();
            assert_eq!(torn, Some((first + second) as u64), "{first}, {second}");
            assert_eq!(found.records.len(), 1, "{first}, {second}");
        }
    }
}

#[test]
fn every_flipped_bit_is_told_from_a_torn_write_and_costs_one_record() {
    let records = [record(1, None), record(2, Some(b"answer")), record(3, None)];
    let bytes = file(&records);
    let begin = records[0].encode().unwrap().len();
    let end = begin + records[1].encode().unwrap().len();
    for at in begin..end {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let found = scan(&bad);
            assert_eq!(found.records.len(), 2, "byte {at}");
            let expected = Damage::Altered {
                offset: begin as u64,
                bytes: (end - begin) as u64,
            };
            assert_eq!(found.damage, [expected], "byte {at}");
        }
    }
}

#[test]
fn a_later_format_is_told_and_skipped() {
    let mut later = record(1, None).encode().unwrap();
    later[5] = 9;
    let check = Hash::of(&later[..24]);
    later[24..28].copy_from_slice(&check.0[..4]);
    let body = later.len() - 32;
    let check = Hash::of(&later[..body]);
    later[body..].copy_from_slice(&check.0);
    later.extend_from_slice(&record(2, None).encode().unwrap());
    let found = scan(&later);
    assert_eq!(
        found.damage,
        [Damage::Version {
            offset: 0,
            version: 9
        }]
    );
    assert_eq!(found.records.len(), 1);
}

#[test]
fn a_file_of_nothing_but_beginnings_is_given_up() {
    let beginning = &record(1, None).encode().unwrap()[..28];
    let found = scan(&beginning.repeat(5000));
    assert_eq!(found.damage.len(), 1025);
    assert!(matches!(found.damage.last(), Some(Damage::TooMuch { .. })));
}

const SECOND: u64 = 1_000_000_000;
const POLICY: AnchorPolicy = AnchorPolicy {
    leaves: 100,
    interval_ns: 60 * SECOND,
};

fn at(seconds: u64) -> BootNanos {
    BootNanos(seconds * SECOND)
}

#[test]
fn whichever_of_leaves_and_time_comes_first() {
    let mut schedule = Schedule::new(POLICY, 0, 0, at(5));
    assert_eq!(schedule.due(at(5), 0), Due::Idle, "nothing to anchor");
    assert_eq!(schedule.due(at(5), 1), Due::Now, "the first at once");
    schedule.succeeded(at(5), 1);
    assert_eq!(schedule.due(at(64), 1), Due::Idle, "nothing new");
    assert_eq!(schedule.due(at(6), 100), Due::At(at(65)));
    assert_eq!(schedule.due(at(6), 101), Due::Now, "enough leaves");
    assert_eq!(schedule.due(at(65), 2), Due::Now, "enough time");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let schedule = Schedule::new(POLICY, 50, 20 * SECOND, at(0));
    assert_eq!(schedule.due(at(0), 50), Due::Idle);
    assert_eq!(schedule.due(at(0), 51), Due::At(at(40)));
    assert_eq!(schedule.due(at(0), 150), Due::Now);
    let overdue = Schedule::new(POLICY, 50, 600 * SECOND, at(0));
    assert_eq!(overdue.due(at(0), 51), Due::Now);
}

#[test]
fn failures_are_tried_again_ever_later_and_a_success_forgets_them() {
    let mut schedule = Schedule::new(POLICY, 0, 0, at(0));
    let (mut now, mut waits) = (at(0), Vec::new());
    for _ in 0..12 {
        schedule.failed(now);
        let Due::At(next) = schedule.due(now, 1000) else {
            panic!("at once")
        };
        waits.push((next.0 - now.0) / SECOND);
        now = next;
        assert_eq!(schedule.due(now, 1000), Due::Now);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    schedule.succeeded(now, 1000);
    assert_eq!((schedule.failures(), schedule.due(now, 1100)), (0, Due::Now));
}

proptest! {
    #[test]
    fn prop_every_byte_is_accounted_for(
        pieces in prop::collection::vec(
            prop_oneof![
                (1_u64..9, prop::option::of(prop::collection::vec(any::<u8>(), 1..40)))
                    .prop_map(|(size, response)| record(size, response.as_deref()).encode().unwrap()),
                prop::collection::vec(any::<u8>(), 0..60),
            ],
            0..6,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes: Vec<u8> = pieces.concat();
        let bytes = &bytes[..cut.index(bytes.len() + 1)];
        let found = scan(bytes);
        let mut parts: Vec<(u64, u64)> = found
            .records
            .iter()
            .map(|found| (found.offset, found.record.encode().unwrap().len() as u64))
            .collect();
        for damage in &found.damage {
            match *damage {
                Damage::Torn { offset, bytes } | Damage::Altered { offset, bytes } => parts.push((offset, bytes)),
                other => prop_assert!(false, "{other:?}"),
            }
        }
        parts.sort_unstable();
        let end = parts.iter().try_fold(0, |at, (offset, length)| (*offset == at).then_some(at + length));
        prop_assert_eq!(end, Some(bytes.len() as u64));
    }

    #[test]
    fn prop_a_target_is_never_left_behind(
        steps in prop::collection::vec((1_u64..100, 0_u64..60, any::<bool>()), 1..60),
    ) {
        // Time passes, leaves come, attempts fail or succeed: no checkpoint waits longer than interval or leaves
        // allow unless attempts fail, and what was anchored is never anchored again.
        let mut schedule = Schedule::new(POLICY, 0, 0, at(0));
        let (mut now, mut size, mut anchored, mut anchored_at) = (0_u64, 0_u64, 0_u64, 0_u64);
        for (seconds, leaves, works) in steps {
            now += seconds;
            size += leaves;
            match schedule.due(at(now), size) {
                Due::Now if works => {
                    prop_assert!(size > anchored);
                    schedule.succeeded(at(now), size);
                    (anchored, anchored_at) = (size, now);
                }
                Due::Now => schedule.failed(at(now)),
                Due::At(then) => {
                    prop_assert!(then > at(now));
                    prop_assert!(schedule.failures() > 0 || (size - anchored < 100 && now - anchored_at < 60));
                }
                Due::Idle => prop_assert_eq!(size, anchored),
            }
        }
    }
}
