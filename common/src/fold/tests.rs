//! The fold against a model, snapshots against full folds, restarts, bounds and damage.

use alloc::{collections::BTreeMap, format, string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    event::{
        BaselineKey, Field, Listener, Process, ProcessKey, SocketKey, Source, Why, baseline::Baseline,
        listener::ListenerCause, process::ProcessCause,
    },
    ids::{BootId, BootNanos},
};

const BOOT: BootId = BootId([7; 16]);
const HOST: HostId = HostId([1; 32]);

fn event(at: u64, fact: Fact) -> Vec<u8> {
    Event {
        boot_ns: BootNanos(at),
        wall_ns: WallNanos(1_000 + at),
        fact,
    }
    .encode()
    .unwrap()
}

fn process_key(tgid: u32) -> ProcessKey {
    ProcessKey {
        boot: BOOT,
        tgid,
        started: BootNanos(u64::from(tgid)),
    }
}

fn process(at: u64, tgid: u32, running: bool) -> Vec<u8> {
    let unknown = || Why::NotObserved;
    event(
        at,
        Fact::Process {
            key: process_key(tgid),
            record: Process {
                cause: ProcessCause::Fork,
                state: if running {
                    ProcessState::Running
                } else {
                    ProcessState::Exited {
                        code: 1,
                        signal: 0,
                        core_dumped: false,
                    }
                },
                source: Source::Hook,
                parent: Field::Absent,
                comm: format!("p{tgid}").as_str().into(),
                exe: Field::Unknown(unknown()),
                script: Field::Absent,
                argv: Field::Unknown(unknown()),
                cwd: Field::Unknown(unknown()),
                credentials: Field::Unknown(unknown()),
                namespaces: Field::Unknown(unknown()),
                cgroup: Field::Unknown(unknown()),
                tty: Field::Absent,
            },
        },
    )
}

fn listener(at: u64, cookie: u64, listening: bool) -> Vec<u8> {
    event(
        at,
        Fact::Listener {
            key: SocketKey { boot: BOOT, cookie },
            record: Listener {
                cause: ListenerCause::Listen,
                listening,
                source: Source::Hook,
                local: "[::]:80".parse().unwrap(),
                dual_stack: Field::Known(true),
                netns: 1,
                owner: Field::Absent,
                backlog: Field::Absent,
            },
        },
    )
}

fn baseline(at: u64, began: u64, phase: Phase) -> Vec<u8> {
    event(
        at,
        Fact::Baseline {
            key: BaselineKey {
                boot: BOOT,
                began: BootNanos(began),
            },
            record: Baseline {
                phase,
                source: Source::Procfs,
                kinds: vec![Kind::Process],
            },
        },
    )
}

fn run(first_event: u64, previous_until: Option<u64>) -> Run {
    Run {
        first_event: EventIndex(first_event),
        boot: BOOT,
        from: WallNanos(first_event),
        previous_until: previous_until.map(WallNanos),
    }
}

fn fold(state: &mut State, from: usize, events: &[Vec<u8>]) {
    for (at, bytes) in events.iter().enumerate() {
        state.apply(EventIndex((from + at) as u64), bytes).unwrap();
    }
}

fn alive_pids(state: &State) -> Vec<u32> {
    state
        .alive(Kind::Process)
        .map(|(id, _)| id.typed::<ProcessKey>().unwrap().tgid)
        .collect()
}

/// Events as a property test draws them: which entity, and whether its record says that it goes on.
fn drawn() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = (0..4_u8, 0..12_u32, any::<bool>());
    proptest::collection::vec(one, 0..200).prop_map(|list| {
        list.into_iter()
            .enumerate()
            .map(|(at, (kind, which, lives))| match kind {
                0 | 1 => process(at as u64, which, lives),
                2 => listener(at as u64, u64::from(which), lives),
                _ if lives => baseline(at as u64, u64::from(which), Phase::Begun),
                _ => baseline(at as u64, u64::from(which), Phase::Complete { events: 0 }),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn prop_snapshot_and_deltas_equal_the_full_fold(events in drawn(), cut: prop::sample::Index) {
        let cut = cut.index(events.len() + 1);
        let mut full = State::new(HOST);
        full.begin_run(run(0, None));
        fold(&mut full, 0, &events[..cut]);
        let (bytes, _) = full.encode();
        let mut resumed = State::decode(&bytes).unwrap();
        prop_assert_eq!(&resumed, &full);
        fold(&mut full, cut, &events[cut..]);
        fold(&mut resumed, cut, &events[cut..]);
        prop_assert_eq!(&resumed, &full);
        prop_assert_eq!(resumed.encode(), full.encode());
    }

    #[test]
    fn prop_listeners_are_last_write_wins(events in drawn()) {
        let mut state = State::new(HOST);
        fold(&mut state, 0, &events);
        let mut model = BTreeMap::new();
        for bytes in &events {
            if let Fact::Listener { key, record } = Event::decode(bytes).unwrap().fact {
                model.insert(key, (record.listening, bytes.clone()));
            }
        }
        let expected: Vec<_> = model.into_values().filter(|(on, _)| *on).map(|(_, bytes)| bytes).collect();
        let found: Vec<_> = state.alive(Kind::Listener).map(|(_, entry)| entry.event.clone()).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn prop_hostile_snapshots_never_panic(bytes: Vec<u8>) {
        prop_assert!(State::decode(&bytes).is_err());
    }
}

#[test]
fn what_a_complete_baseline_does_not_list_vanished_in_the_gap() {
    let mut state = State::new(HOST);
    state.begin_run(run(0, None));
    let first_run = [
        baseline(0, 0, Phase::Begun),
        process(1, 10, true),
        process(2, 11, true),
        baseline(3, 0, Phase::Complete { events: 2 }),
        process(4, 12, true),
    ];
    fold(&mut state, 0, &first_run);
    assert_eq!(alive_pids(&state), [10, 11, 12]);
    state.begin_run(run(5, Some(1_050)));
    assert_eq!(state.baseline(Kind::Process), None, "the new run has none yet");
    let second_run = [
        baseline(100, 100, Phase::Begun),
        process(101, 10, true),
        process(102, 13, true),
    ];
    fold(&mut state, 5, &second_run);
    assert_eq!(
        alive_pids(&state),
        [10, 11, 12, 13],
        "nothing is ruled out before it is complete"
    );
    fold(
        &mut state,
        8,
        &[baseline(103, 100, Phase::Complete { events: 2 })],
    );
    assert_eq!(alive_pids(&state), [10, 13]);
    assert!(state.baseline(Kind::Process).is_some());
    assert_eq!(state.baseline(Kind::Listener), None, "listeners are not covered");
    let gone = state.get(&EntityId::of(Kind::Process, &process_key(11))).unwrap();
    assert_eq!(
        gone.end,
        Some(End::Vanished {
            by: EventIndex(8),
            not_before: WallNanos(1_050),
            not_after: WallNanos(1_100),
        })
    );
}

#[test]
fn an_ended_entity_is_remembered_for_a_while_and_then_forgotten() {
    let mut state = State::new(HOST);
    let id = EntityId::of(Kind::Process, &process_key(1));
    fold(&mut state, 0, &[process(0, 1, true), process(1, 1, false)]);
    for at in 0..ENDED_KEPT_EVENTS - 1 {
        state.apply(EventIndex(2 + at), &process(at, 2, true)).unwrap();
    }
    assert_eq!(state.get(&id).unwrap().end, Some(End::Recorded));
    state
        .apply(EventIndex(1 + ENDED_KEPT_EVENTS), &process(0, 2, true))
        .unwrap();
    assert_eq!(state.get(&id), None);
    assert_eq!(alive_pids(&state), [2]);
}

#[test]
fn an_entity_that_goes_on_after_its_end_is_not_forgotten() {
    let mut state = State::new(HOST);
    fold(&mut state, 0, &[process(0, 1, false), process(1, 1, true)]);
    state
        .apply(EventIndex(ENDED_KEPT_EVENTS + 9), &process(2, 2, true))
        .unwrap();
    assert_eq!(alive_pids(&state), [1, 2]);
}

#[test]
fn events_out_of_order_are_refused_and_change_nothing() {
    let mut state = State::new(HOST);
    fold(&mut state, 5, &[process(0, 1, true)]);
    let before = state.clone();
    assert_eq!(
        state.apply(EventIndex(5), &process(0, 2, true)),
        Err(FoldFault::Order {
            next: EventIndex(6),
            found: EventIndex(5)
        })
    );
    assert!(matches!(
        state.apply(EventIndex(6), b"x"),
        Err(FoldFault::Event { .. })
    ));
    assert_eq!(state, before);
}

#[test]
fn events_of_a_newer_format_are_kept_and_counted() {
    let mut state = State::new(HOST);
    let mut newer = process(0, 1, true);
    newer[2] = 200;
    state.apply(EventIndex(0), &newer).unwrap();
    assert_eq!(state.undecoded(), 1);
    assert_eq!(state.alive(Kind::Process).count(), 1);
}

#[test]
fn every_flipped_snapshot_byte_is_refused() {
    let mut state = State::new(HOST);
    state.begin_run(run(0, Some(3)));
    fold(
        &mut state,
        0,
        &[
            process(0, 1, false),
            process(1, 2, true),
            baseline(2, 2, Phase::Begun),
            baseline(3, 3, Phase::Complete { events: 0 }),
        ],
    );
    let (bytes, _) = state.encode();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(State::decode(&bad).is_err(), "byte {at}");
        assert!(State::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn addresses_read_back_and_bad_ones_say_what_is_expected() {
    let ids = [
        EntityId::of(Kind::Process, &process_key(4)),
        EntityId::of(
            Kind::Listener,
            &SocketKey {
                boot: BOOT,
                cookie: 9,
            },
        ),
        EntityId::of(Kind::Host, &HOST),
        EntityId::of(Kind::Boot, &BOOT),
        EntityId::of(Kind::Sensor, &crate::event::SensorId::EXIT),
        EntityId::of(
            Kind::Baseline,
            &BaselineKey {
                boot: BOOT,
                began: BootNanos(5),
            },
        ),
    ];
    for id in ids {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    for bad in [
        "",
        "process",
        "process:1",
        "process:aa/1/2",
        "tree:1",
        "sensor:01",
        "sensor:1/2",
    ] {
        assert!(bad.parse::<EntityId>().is_err(), "{bad}");
    }
    let fault = "process:1".parse::<EntityId>().unwrap_err().to_string();
    assert!(fault.contains("process:<boot>/<pid>"), "{fault}");
}
