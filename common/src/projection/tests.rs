//! Records that read back and nothing else does; searches against a plain list; what thinning leaves.

use std::vec::Vec;

use proptest::prelude::*;

use super::{
    batch::BATCH_RECORD_BYTES,
    links::{Links, search},
    stated::{STATED_RECORD_BYTES, Silence},
    thinning::{SHARE, superfluous},
    tips::HostTip,
    *,
};
use crate::{
    answer::Span,
    batch::{ClockSource, HeaderFlags},
    ids::{BootId, BootNanos, EventIndex, Hash, HostId, KeyEpoch, LeafIndex, Sequence, WallNanos, hex},
    statement::Kind,
};

fn batch(sequence: u64, slot: Slot, links: Links) -> BatchRecord {
    BatchRecord {
        span: Span {
            leaf: LeafIndex(slot.0 + 3),
            sequence: Sequence(sequence),
            first_event: EventIndex(sequence * 5),
            event_count: 5,
            flags: HeaderFlags {
                first_since_start: sequence == 0,
                last_before_stop: false,
            },
            boot: BootId([7; 16]),
            from_boot: BootNanos(1_000 * sequence),
            until_boot: BootNanos(1_000 * sequence + 999),
            from_wall: WallNanos(5_000 + 1_000 * sequence),
            until_wall: WallNanos(5_999 + 1_000 * sequence),
            clock_error_ns: 1_500_000,
            clock_source: ClockSource::Synchronised,
        },
        host: [9; 8],
        epoch: KeyEpoch(2),
        segment: 1,
        latest_event: WallNanos(5_500),
        losses: 1,
        loss_not_before: BootNanos(77),
        links,
        segment_start: Slot(0),
        epoch_start: Slot(0),
    }
}

fn silence(slot: Slot, links: Links) -> StatedRecord {
    StatedRecord {
        leaf: LeafIndex(slot.0 + 100),
        at: WallNanos(12),
        kind: Kind::SILENT,
        host: Some(HostId([3; 32])),
        silence: Some(Silence {
            last: Sequence(links.depth * 2),
            since: WallNanos(11),
            links,
        }),
    }
}

fn tips() -> Tips {
    let tip = HostTip {
        newest: Some(Slot(1)),
        head: Hash::of(b"header"),
        next_event: EventIndex(10),
        runs: 1,
        misplaced: 2,
        late_ns: 3,
        loss_late_ns: 4,
        silence: Some(Slot(0)),
        end: Some(Slot(0)),
        hostname: Some("node-1".into()),
    };
    let silent = HostTip {
        newest: None,
        end: None,
        hostname: None,
        ..tip.clone()
    };
    Tips {
        ledger: Hash::of(b"key"),
        leaves: 7,
        batches: 2,
        statements: 1,
        head: Hash::of(b"statement"),
        hosts: [(HostId([1; 32]), tip), (HostId([2; 32]), silent)].into(),
    }
}

/// A chain of records whose places leave room for other chains between them.
fn chain(places: &[u64]) -> Vec<(Slot, BatchRecord)> {
    let mut made: Vec<(Slot, BatchRecord)> = Vec::new();
    let mut slot = 0;
    for (sequence, gap) in (0..).zip(places) {
        slot += gap;
        let at = Slot(slot);
        let links = match made.last() {
            None => Links::first(at),
            Some((before_at, before)) => {
                let (_, beyond) = made.iter().find(|(at, _)| *at == before.links.jump).unwrap();
                Links::after(&before.links, *before_at, &beyond.links)
            }
        };
        made.push((at, batch(sequence, at, links)));
    }
    made
}

#[test]
fn a_long_chain_is_searched_in_few_steps() {
    let made = chain(&[1; 20_000]);
    let mut most = 0;
    for sought in (0..20_000_u64).step_by(331) {
        let steps = core::cell::Cell::new(0);
        let read = |slot: Slot| {
            steps.set(steps.get() + 1);
            made.get(usize::try_from(slot.0 - 1).unwrap())
                .map(|(_, record)| *record)
                .ok_or(())
        };
        let newest = made.last().unwrap().1;
        let found = search(newest, |record| record.span.sequence.0 > sought, read, |_| ()).unwrap();
        assert_eq!(found.before.unwrap().span.sequence, Sequence(sought));
        most = most.max(steps.get());
    }
    // Three times the logarithm, twice since a jump that leads too far is read as well.
    assert!(most <= 90, "{most}");
}

#[test]
fn golden_projection_index() {
    let made = chain(&[1, 2]);
    let (one, two) = (Slot(4), Slot(9));
    let first = silence(one, Links::first(one));
    let second = silence(two, Links::after(first.links(), one, first.links()));
    let plain = StatedRecord {
        silence: None,
        host: None,
        kind: Kind::PRUNE,
        ..first
    };
    let rows = [
        hex(&made[0].1.encode(made[0].0)),
        hex(&made[1].1.encode(made[1].0)),
        hex(&first.encode(one)),
        hex(&second.encode(two)),
        hex(&plain.encode(Slot(5))),
        hex(&tips().encode()),
    ];
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let at = Slot(4);
    let record = batch(0, at, Links::first(at)).encode(at);
    let stated = silence(at, Links::first(at)).encode(at);
    let tips = tips().encode();
    for bit in 0..8 * tips.len() {
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            bytes
        };
        if bit < 8 * record.len() {
            assert!(BatchRecord::decode(at, &flipped(&record)).is_err(), "bit {bit}");
        }
        if bit < 8 * stated.len() {
            assert!(StatedRecord::decode(at, &flipped(&stated)).is_err(), "bit {bit}");
        }
        assert!(Tips::decode(&flipped(&tips)).is_err(), "bit {bit}");
    }
    assert!(BatchRecord::decode(Slot(5), &record).is_err(), "of another place");
    assert_eq!(record.len(), BATCH_RECORD_BYTES);
    assert_eq!(stated.len(), STATED_RECORD_BYTES);
}

proptest! {
    #[test]
    fn prop_records_read_back(places in proptest::collection::vec(1..5_u64, 1..80)) {
        for (at, record) in chain(&places) {
            prop_assert_eq!(BatchRecord::decode(at, &record.encode(at)), Ok(record));
            let stated = silence(at, record.links);
            prop_assert_eq!(StatedRecord::decode(at, &stated.encode(at)), Ok(stated));
        }
        let tips = tips();
        prop_assert_eq!(Tips::decode(&tips.encode()), Ok(tips));
    }

    #[test]
    fn prop_other_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), slot in any::<u64>()) {
        prop_assert!(BatchRecord::decode(Slot(slot), &bytes).is_err());
        prop_assert!(StatedRecord::decode(Slot(slot), &bytes).is_err());
        prop_assert!(Tips::decode(&bytes).is_err());
    }

    #[test]
    fn prop_a_search_finds_what_a_list_does(places in proptest::collection::vec(1..5_u64, 1..200), past in 0..250_u64) {
        let made = chain(&places);
        let read = |slot: Slot| made.iter().find(|(at, _)| *at == slot).map(|(_, record)| *record).ok_or(());
        let found = search(made.last().unwrap().1, |record| record.span.sequence.0 >= past, read, |_| ()).unwrap();
        let sequence = |record: Option<BatchRecord>| record.map(|record| record.span.sequence.0);
        let last = places.len() as u64 - 1;
        prop_assert_eq!(sequence(found.before), past.checked_sub(1).map(|before| before.min(last)));
        prop_assert_eq!(sequence(found.past), Some(past).filter(|past| *past <= last));
    }

    #[test]
    fn prop_what_stays_leaves_no_gap_beyond_its_share(
        steps in proptest::collection::vec(1..40_u64, 1..600),
        needed in proptest::collection::btree_set(0..600_u64, 0..4),
    ) {
        let (mut head, mut taken): (u64, Vec<u64>) = (0, Vec::new());
        let kept = |position: u64| needed.contains(&(position % 600));
        for step in steps {
            head += 100 + step;
            taken.push(head);
            let gone = superfluous(&taken, head, SHARE, |at| kept(taken[at]));
            let mut at = 0;
            taken.retain(|position| {
                at += 1;
                let stays = !gone.contains(&(at - 1));
                assert!(stays || !kept(*position), "what is needed stays");
                stays
            });
            prop_assert_eq!(taken.last(), Some(&head), "the newest stays");
            let from = core::iter::once(&0).chain(&taken);
            for (before, after) in from.zip(&taken) {
                let allowed = ((head - after) / SHARE).max(140);
                prop_assert!(after - before <= allowed, "{before}..{after} of {head}");
            }
        }
        // Few stay of many: sixteen at full density, then two for each eighth that age grows.
        let most = needed.len() * 200 + 20 + usize::try_from(17 * u64::from((head / 1_600 + 1).ilog2())).unwrap();
        prop_assert!(taken.len() <= most, "{} of {head}", taken.len());
    }
}

#[test]
fn a_chain_of_a_billion_events_keeps_few_snapshots() {
    let (mut taken, mut head, mut most) = (Vec::new(), 0_u64, 0);
    while head < 1_000_000_000 {
        head += 20_000;
        taken.push(head);
        let gone = superfluous(&taken, head, SHARE, |_| false);
        let mut at = 0;
        taken.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
        most = most.max(taken.len());
    }
    assert!(most < 180, "{most}");
}
