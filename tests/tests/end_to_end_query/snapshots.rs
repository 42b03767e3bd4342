//! What a question folds: however long the chain is, no more than a stretch that is stated.

use std::{fs, sync::Arc};

use collector::{projection::Projection, query::Query};
use common::{
    event::{Kind, process::ProcessCause},
    projection::thinning::SHARE,
};
use ledger::Memory;
use tests::chains::{
    GOES_ON, Maker, STARTS, baseline, event, exited, ledger_of, process, process_key, run_begins,
};

use super::list;

/// Batches, and events in each.
const BATCHES: u64 = 3_000;
const EVENTS: u64 = 4;
/// Work between two snapshots: events, and ten for each batch.
const WORK: u64 = 140;
const WORK_A_BATCH: u64 = EVENTS + 10;

fn long_chain() -> Maker {
    let mut maker = Maker::new(6);
    let mut begins = run_begins(maker.host(), "node-6", 0);
    begins.push(event(
        5,
        baseline(0, common::event::baseline::Phase::Complete { events: 0 }),
    ));
    maker.seal(STARTS, 0, 10, &begins);
    for at in 1..BATCHES {
        let from = at * 10;
        let program = |began: u64| {
            let pid = u32::try_from(began % 1_000).unwrap();
            process(process_key(pid, began), None, &[b"/bin/x"], ProcessCause::Exec)
        };
        let gone = at.saturating_sub(5) * 10;
        let events = [
            event(from, program(from)),
            event(from + 1, program(gone)),
            event(from + 2, exited(program(gone), 0, 0)),
            event(from + 3, program(from)),
        ];
        maker.seal(GOES_ON, from, from + 10, &events);
    }
    maker
}

#[test]
fn the_first_question_folds_a_bounded_stretch_of_a_long_chain() {
    let maker = long_chain();
    let directory = tempfile::tempdir().unwrap();
    let reader = ledger_of(Arc::new(Memory::new()), &[&maker]).reader();
    let projection = |directory| {
        let projection = Arc::new(Projection::new(Arc::new(reader.clone()), directory).snapshot_every(WORK));
        projection.catch_up().unwrap();
        projection
    };
    let following = projection(Some(directory.path().to_owned()));
    while following.snapshot_step().unwrap() {}
    drop(following);
    let state = directory.path().join("state").join(maker.host().to_string());
    let files = || fs::read_dir(&state).unwrap().count();
    let taken = files();
    // Of 300 that were taken; sixteen at full density, then two for each eighth that age grows.
    assert!((20..90).contains(&taken), "{taken}");

    let without = projection(None);
    let (mut most, mut all) = (0, 0);
    for at in (50..BATCHES).step_by(97) {
        // Started anew for each, so that each question is the first one.
        let first = projection(Some(directory.path().to_owned()));
        let ms = Some(at * 10 + 5);
        let answer = list(&Query::new(first.clone()), Kind::Process, "node-6", ms);
        let (batches, events) = first.folded_so_far();
        let since = (BATCHES - at) * WORK_A_BATCH;
        let bound = WORK.max(since / SHARE) + 2 * WORK_A_BATCH;
        assert!(
            batches * 10 + events <= bound,
            "{events} events in {batches} batches at {at}: more than {bound}"
        );
        most = most.max(events);
        let (_, before) = without.folded_so_far();
        assert_eq!(
            answer,
            list(&Query::new(without.clone()), Kind::Process, "node-6", ms)
        );
        all = all.max(without.folded_so_far().1 - before);
    }
    assert_eq!(files(), taken, "asking leaves no files behind");
    println!(
        "evidence: {taken} snapshots; a first question folded at most {most} events, without snapshots {all}"
    );
    assert!(most * 5 < all, "{most} of {all}");
}

#[test]
fn a_state_kept_for_pruning_is_never_thinned_out() {
    let maker = long_chain();
    let directory = tempfile::tempdir().unwrap();
    let reader = ledger_of(Arc::new(Memory::new()), &[&maker]).reader();
    let projection =
        Projection::new(Arc::new(reader), Some(directory.path().to_owned())).snapshot_every(WORK);
    projection.catch_up().unwrap();
    for batches in [7, 20, 33] {
        assert!(projection.keep_state(&maker.host(), batches).unwrap());
    }
    while projection.snapshot_step().unwrap() {}
    let state = directory.path().join("state").join(maker.host().to_string());
    let mut kept: Vec<String> = fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".kept.state"))
        .map(|name| name[..12].to_owned())
        .collect();
    kept.sort();
    assert_eq!(kept, ["000000000007", "000000000020", "000000000033"]);
}
