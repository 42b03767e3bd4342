//! Instants, coverage and completeness, case by case.

use alloc::{string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::{HeaderFields, HeaderFlags, SensorCounters},
    event::{
        BaselineKey, Event, Fact, Kind, Loss, LossKey, SensorId, SensorStatus, Source,
        baseline::{Baseline, Phase},
        loss::LossCause,
        sensor::{SensorState, Tier},
    },
    fold::{Run, State},
    ids::{
        BootId, BootNanos, EventIndex, Hash, HostId, KeyEpoch, LeafIndex, Nonce, PublicKey, Sequence,
        StatementNumber, WallNanos,
    },
};

const BOOT: BootId = BootId([7; 16]);

fn header(from: u64, until: u64) -> HeaderFields {
    HeaderFields {
        flags: HeaderFlags::default(),
        host: HostId([1; 32]),
        key_epoch: KeyEpoch(0),
        public_key: PublicKey::default(),
        next_public_key: PublicKey::default(),
        sequence: Sequence(0),
        first_event: EventIndex(0),
        event_count: 0,
        body_bytes: 4,
        previous: Hash::default(),
        events_root: Hash::default(),
        tags_hash: Hash::default(),
        boot: BOOT,
        from_boot: BootNanos(from),
        until_boot: BootNanos(until),
        from_wall: WallNanos(1_000 + from),
        until_wall: WallNanos(1_000 + until),
        clock_error_ns: u64::MAX,
        clock_source: ClockSource::Unsynchronised,
        nonce: Nonce::default(),
        sensors: Vec::new(),
    }
}

fn span(from: u64, until: u64) -> Span {
    Span::of(LeafIndex(0), &header(from, until))
}

fn at(boot: u64) -> WallNanos {
    WallNanos(1_000 + boot)
}

#[test]
fn instants_are_shown_in_rfc_3339() {
    let check = |ns: u64, text: &str| {
        assert_eq!(Moment(WallNanos(ns)).to_string(), text);
        assert_eq!(text.parse(), Ok(Moment(WallNanos(ns))));
    };
    check(0, "1970-01-01T00:00:00.000000000Z");
    check(951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z");
    check(1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z");
    check(4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z");
    for bad in [
        "2023-02-29T00:00:00.000000000Z",
        "2024-02-29T24:00:00.000000000Z",
        "2024-02-29T00:00:00Z",
        "1969-12-31T23:59:59.000000000Z",
        "",
        "é024-02-29T00:00:00.000000000Z",
        // Day zero of the month that years are counted from once was subtracted from nothing.
        "2024-03-00T00:00:00.000000000Z",
        "2024-00-00T00:00:00.000000000Z",
    ] {
        assert!(bad.parse::<Moment>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn prop_instants_read_back(ns: u64) {
        let text = Moment(WallNanos(ns)).to_string();
        prop_assert_eq!(text.parse(), Ok(Moment(WallNanos(ns))));
    }

    #[test]
    fn prop_hostile_instants_never_panic(text: alloc::string::String) {
        let _ = text.parse::<Moment>();
    }
}

#[test]
fn coverage_names_why_nothing_watched() {
    let (first, mut second) = (span(10, 20), span(30, 40));
    assert_eq!(watched(at(5), None, None), Err(Unknown::NoBatches));
    assert_eq!(
        watched(at(5), None, Some(&first)),
        Err(Unknown::BeforeFirst {
            first: Moment(at(10))
        })
    );
    assert_eq!(watched(at(10), Some(&first), Some(&second)), Ok(()));
    assert_eq!(watched(at(20), Some(&first), Some(&second)), Ok(()));
    let gap = |ended, rebooted| {
        Err(Unknown::Gap {
            from: Moment(at(20)),
            until: Moment(at(30)),
            ended,
            rebooted,
            silence: None,
        })
    };
    assert_eq!(
        watched(at(21), Some(&first), Some(&second)),
        gap(RunEnd::Unclaimed, false)
    );
    second.flags.first_since_start = true;
    second.boot = BootId([8; 16]);
    assert_eq!(
        watched(at(21), Some(&first), Some(&second)),
        gap(RunEnd::Broken, true)
    );
    let stopped = Span {
        flags: HeaderFlags {
            last_before_stop: true,
            ..first.flags
        },
        ..first
    };
    assert_eq!(
        watched(at(21), Some(&stopped), Some(&second)),
        gap(RunEnd::Stopped, true)
    );
    assert_eq!(
        watched(at(21), Some(&stopped), None),
        Err(Unknown::AfterLast {
            until: Moment(at(20)),
            stopped: true,
            silence: None,
            end: None,
        })
    );
}

#[test]
fn a_declared_end_is_named_wherever_nothing_follows_and_nowhere_else() {
    let end = StatedEnd {
        statement: StatementNumber(7),
        at: Moment(at(30)),
        reason: "scrapped\u{1b}[2J".into(),
    };
    let last = Unknown::AfterLast {
        until: Moment(at(20)),
        stopped: true,
        silence: None,
        end: None,
    };
    let json = serde_json::to_string(&last).unwrap();
    assert!(
        !json.contains("end"),
        "answers without an end are as they were: {json}"
    );
    let said = last.with_end(Some(end.clone()));
    let shown = said.to_string();
    assert!(
        shown.contains("end was declared at") && shown.contains("statement 7") && shown.contains("scrapped"),
        "{shown}"
    );
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let json = serde_json::to_string(&said).unwrap();
    assert_eq!(serde_json::from_str::<Unknown>(&json).unwrap(), said);
    let before = Unknown::BeforeFirst { first: Moment(at(1)) };
    assert_eq!(before.clone().with_end(Some(end)), before);
}

fn state(facts: Vec<Fact>) -> State {
    let mut state = State::new(HostId([1; 32]));
    state.begin_run(Run {
        first_event: EventIndex(0),
        boot: BOOT,
        from: at(0),
        previous_until: None,
    });
    for (index, fact) in facts.into_iter().enumerate() {
        let event = Event {
            boot_ns: BootNanos(index as u64),
            wall_ns: at(index as u64),
            fact,
        };
        state
            .apply(EventIndex(index as u64), &event.encode().unwrap())
            .unwrap();
    }
    state
}

fn sensor(key: SensorId, tier: Tier, state: SensorState) -> Fact {
    Fact::Sensor {
        key,
        record: SensorStatus {
            tier,
            state,
            probe: "x".into(),
            reason: "because".into(),
        },
    }
}

fn baseline() -> Fact {
    Fact::Baseline {
        key: BaselineKey {
            boot: BOOT,
            began: BootNanos(0),
        },
        record: Baseline {
            phase: Phase::Complete { events: 0 },
            source: Source::Iterator,
            kinds: vec![Kind::Listener],
        },
    }
}

fn loss() -> (LossKey, Loss) {
    (
        LossKey {
            boot: BOOT,
            sensor: SensorId::LISTEN,
            cpu: 0,
            first: 4,
        },
        Loss {
            last: 6,
            count: 3,
            cause: LossCause::RingFull,
            not_before: BootNanos(12),
            not_after: BootNanos(14),
        },
    )
}

#[test]
fn a_clean_run_is_complete() {
    let state = state(vec![
        baseline(),
        sensor(SensorId::LISTEN, Tier::B, SensorState::Active),
        sensor(SensorId::UNLISTEN, Tier::B, SensorState::Active),
    ]);
    let header = header(10, 20);
    let found = caveats(Kind::Listener, at(15), &state, &span(10, 20), &header, &[]);
    assert!(Completeness::of(found).complete);
}

#[test]
fn whatever_may_be_missing_is_said() {
    let state = state(vec![sensor(
        SensorId::LISTEN,
        Tier::Procfs,
        SensorState::Degraded,
    )]);
    let mut header = header(10, 20);
    header.sensors = vec![SensorCounters {
        sensor: SensorId::LISTEN,
        happened: 9,
        lost: 5,
    }];
    let found = caveats(Kind::Listener, at(13), &state, &span(10, 20), &header, &[loss()]);
    assert_eq!(
        found,
        [
            Caveat::NotInBaseline {
                kind: "listener".into()
            },
            Caveat::Lost {
                sensor: "listen".into(),
                count: 5,
                around: 3,
                bounds: vec![LossBounds {
                    count: 3,
                    not_before: Moment(at(12)),
                    not_after: Moment(at(14)),
                }],
            },
            Caveat::Sensor {
                sensor: "listen".into(),
                tier: Tier::Procfs,
                state: SensorState::Degraded,
                reason: "because".into(),
            },
            Caveat::SensorUnreported {
                sensor: "unlisten".into()
            },
        ]
    );
    let processes = caveats(Kind::Process, at(13), &state, &span(10, 20), &header, &[loss()]);
    assert!(
        processes
            .iter()
            .all(|caveat| !matches!(caveat, Caveat::Lost { .. })),
        "a lost listener hides no process: {processes:?}"
    );
}

#[test]
fn a_loss_elsewhere_in_time_is_counted_but_not_around() {
    let (key, record) = loss();
    let state = state(vec![
        baseline(),
        sensor(SensorId::LISTEN, Tier::B, SensorState::Active),
        sensor(SensorId::UNLISTEN, Tier::B, SensorState::Active),
        Fact::Loss { key, record },
    ]);
    let found = caveats(
        Kind::Listener,
        at(18),
        &state,
        &span(10, 20),
        &header(10, 20),
        &[],
    );
    assert!(
        matches!(
            &found[..],
            [Caveat::Lost {
                count: 3,
                around: 0,
                ..
            }]
        ),
        "{found:?}"
    );
}

#[test]
fn answers_read_back_from_json() {
    let answer = Answer {
        at: Some(Moment(at(15))),
        ledger: LedgerPosition {
            origin: "ledger.example/one".into(),
            size: 3,
        },
        order: ORDER_STATEMENT.into(),
        hosts: vec![HostAnswer::<u32> {
            host: HostId([1; 32]),
            hostname: Some("node".into()),
            at: Some(Moment(at(15))),
            batch: None,
            clock: Some(Clock::of(&span(10, 20))),
            verdict: Verdict::Unknown {
                why: Unknown::BeforeFirst {
                    first: Moment(at(10)),
                },
            },
            completeness: Completeness::default(),
        }],
        next: None,
    };
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(
        serde_json::from_str::<Answer<u32>>(&json).unwrap(),
        answer,
        "{json}"
    );
}
