//! Random chains against a naive fold, snapshots that rot or vanish, and what ended long ago.

use std::sync::Arc;

use collector::{projection::Projection, query::Query};
use common::{
    answer::{Absence, Moment, Verdict},
    event::{Event, Kind, process::ProcessCause},
    fold::{EntityId, State},
    ids::{EventIndex, WallNanos},
};
use ledger::Memory;
use proptest::prelude::*;
use tests::chains::{
    GOES_ON, Maker, STARTS, event, exited, ledger_of, process, process_key, run_begins, wall,
};

use super::{list, query_of};

/// A chain of short batches; each drawn number is an event: which process, and whether it ends.
fn random_chain(events: &[(u8, bool, u8)]) -> Maker {
    let mut maker = Maker::new(6);
    let mut begins = run_begins(maker.host(), "node-6", 0);
    begins.push(event(
        1,
        tests::chains::baseline(0, common::event::baseline::Phase::Complete { events: 0 }),
    ));
    maker.seal(STARTS, 0, 10, &begins);
    for (at, chunk) in events.chunks(3).enumerate() {
        let from = 10 + at as u64 * 10;
        let sealed: Vec<Event> = chunk
            .iter()
            .enumerate()
            .map(|(n, (pid, ends, late))| {
                let fact = process(
                    process_key(u32::from(*pid), 0),
                    None,
                    &[b"/bin/x"],
                    ProcessCause::Fork,
                );
                let ms = (from + n as u64).saturating_sub(u64::from(*late)).max(2);
                event(ms, if *ends { exited(fact, 1, 0) } else { fact })
            })
            .collect();
        maker.seal(GOES_ON, from, from + 10, &sealed);
    }
    maker
}

/// The fold of all events up to an instant, with no index, no snapshot and no cut.
fn naive(maker: &Maker, at: WallNanos) -> Vec<EntityId> {
    let mut state = State::new(maker.host());
    let mut index = 0;
    for (_, body) in &maker.sealed {
        let view = common::batch::BodyView::parse(body).unwrap();
        for bytes in view.events() {
            if Event::decode(bytes).unwrap().wall_ns <= at {
                state.apply(EventIndex(index), bytes).unwrap();
            }
            index += 1;
        }
    }
    state.alive(Kind::Process).map(|(id, _)| id.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn prop_snapshots_and_deltas_equal_the_naive_fold_at_any_instant(
        drawn in proptest::collection::vec((0..6_u8, any::<bool>(), 0..25_u8), 1..60),
        instants in proptest::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        let maker = random_chain(&drawn);
        let directory = tempfile::tempdir().unwrap();
        let reader = ledger_of(Arc::new(Memory::new()), &[&maker]).reader();
        let projection = || Projection::new(Arc::new(reader.clone()), Some(directory.path().to_owned())).snapshot_every(5);
        let query = Query::new(Arc::new(projection()));
        query.catch_up().unwrap();
        let last = 10 + maker.sealed.len() as u64 * 10 - 10;
        for instant in instants {
            let ms = 1 + instant.index(usize::try_from(last).unwrap()) as u64;
            let expected: Vec<String> = naive(&maker, wall(ms)).iter().map(ToString::to_string).collect();
            let answer = list(&query, Kind::Process, "node-6", Some(ms));
            let Verdict::Known { value } = &answer.hosts[0].verdict else {
                panic!("{:?}", answer.hosts[0].verdict);
            };
            let found: Vec<String> = value.iter().map(|row| row.entity.clone()).collect();
            prop_assert_eq!(found, expected, "at {} ms", ms);
        }
        let restarted = Query::new(Arc::new(projection()));
        restarted.catch_up().unwrap();
        prop_assert_eq!(
            list(&restarted, Kind::Process, "node-6", None),
            list(&query, Kind::Process, "node-6", None)
        );
    }
}

#[test]
fn snapshots_are_taken_used_and_may_rot_or_vanish() {
    let drawn: Vec<(u8, bool, u8)> = (0..40).map(|n| (n % 5, n % 3 == 0, 0)).collect();
    let maker = random_chain(&drawn);
    let directory = tempfile::tempdir().unwrap();
    let reader = ledger_of(Arc::new(Memory::new()), &[&maker]).reader();
    let ask = || {
        let projection =
            Projection::new(Arc::new(reader.clone()), Some(directory.path().to_owned())).snapshot_every(5);
        let query = Query::new(Arc::new(projection));
        query.catch_up().unwrap();
        list(&query, Kind::Process, "node-6", None)
    };
    let first = ask();
    let files: Vec<_> = std::fs::read_dir(directory.path().join("state").join(maker.host().to_string()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(ask(), first);
    for file in &files {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }
    assert_eq!(ask(), first, "rotten snapshots are passed over");
    std::fs::remove_dir_all(directory.path()).unwrap();
    assert_eq!(ask(), first, "and so are missing ones");
}

#[test]
fn what_ended_long_ago_is_still_told_from_what_never_was() {
    let mut maker = Maker::new(7);
    let complete = common::event::baseline::Phase::Complete { events: 2 };
    let (ended, vanished) = (process_key(10, 1), process_key(11, 1));
    let base = ProcessCause::Baseline;
    let mut begins = run_begins(maker.host(), "node-7", 0);
    begins.push(event(1, process(ended, None, &[b"/bin/ended"], base)));
    begins.push(event(1, process(vanished, None, &[b"/bin/vanished"], base)));
    begins.push(event(2, tests::chains::baseline(0, complete)));
    begins.push(event(
        3,
        exited(process(ended, None, &[b"/bin/ended"], base), 3, 0),
    ));
    maker.seal(STARTS, 0, 10, &begins);
    let mut begins = run_begins(maker.host(), "node-7", 20);
    begins.push(event(21, tests::chains::baseline(20, complete)));
    maker.seal(STARTS, 20, 30, &begins);
    for batch in 0..3 {
        let from = 30 + batch * 10;
        let busy = process(process_key(12, 25), None, &[b"/bin/busy"], ProcessCause::Exec);
        let events: Vec<Event> = (0..2_000).map(|_| event(from, busy.clone())).collect();
        maker.seal(GOES_ON, from, from + 10, &events);
    }
    let query = query_of(&[&maker]);
    let verdict = |key| {
        let id = EntityId::of(Kind::Process, &key).to_string();
        query.entity(&id, None, &[]).unwrap().hosts.remove(0).verdict
    };
    assert!(matches!(
        verdict(ended),
        Verdict::Absent { why: Absence::Ended { at }, last: Some(_) } if at == Moment(wall(3))
    ));
    assert!(matches!(
        verdict(vanished),
        Verdict::Absent { why: Absence::Vanished { not_before, .. }, last: Some(_) } if not_before == Moment(wall(1))
    ));
    assert!(matches!(
        verdict(process_key(13, 1)),
        Verdict::Absent {
            why: Absence::NeverSeen,
            last: None
        }
    ));
}

#[test]
fn snapshots_are_taken_ahead_of_any_question() {
    let drawn: Vec<(u8, bool, u8)> = (0..40).map(|n| (n % 5, n % 3 == 0, 0)).collect();
    let maker = random_chain(&drawn);
    let directory = tempfile::tempdir().unwrap();
    let reader = ledger_of(Arc::new(Memory::new()), &[&maker]).reader();
    let projection =
        |directory| Arc::new(Projection::new(Arc::new(reader.clone()), directory).snapshot_every(5));
    let ahead = projection(Some(directory.path().to_owned()));
    ahead.catch_up().unwrap();
    let mut steps = 0;
    while ahead.snapshot_step().unwrap() {
        steps += 1;
        assert!(steps < 100, "each step takes one snapshot");
    }
    assert!(steps > 3, "{steps}");
    let without = projection(None);
    without.catch_up().unwrap();
    assert!(!without.snapshot_step().unwrap());
    assert_eq!(
        list(&Query::new(ahead), Kind::Process, "node-6", None),
        list(&Query::new(without), Kind::Process, "node-6", None)
    );
}
