//! Round trips, golden bytes and hostile input of the event format.

use alloc::{string::String, vec};
use core::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    event::{
        baseline::Phase,
        connection::{ConnectionCause, ConnectionState, Direction, Outcome},
        listener::ListenerCause,
        loss::LossCause,
        process::{Argv, Credentials, Namespaces, Path, ProcessCause, ProcessState},
        sensor::{SensorState, Tier},
    },
    ids::hex,
    text::Text,
};

const BOOT: BootId = BootId([7; 16]);

fn process_key() -> ProcessKey {
    ProcessKey {
        boot: BOOT,
        tgid: 4242,
        started: BootNanos(123_456_789),
    }
}

fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One event of each kind, with every field filled in a way that a changed encoding would show.
fn samples() -> Vec<Event> {
    let facts = [
        Fact::Host {
            key: HostId([1; 32]),
            record: Host {
                source: Source::Procfs,
                hostname: "node-1".into(),
                kernel_release: "6.18.0".into(),
                kernel_version: "#1 SMP".into(),
                architecture: "x86_64".into(),
                os: Field::Known("debian 12".into()),
                cpus: 2,
                memory_bytes: 1 << 34,
                clock_source: Field::Known("tsc".into()),
                clock_synchronised: Field::Unknown(Why::NotPermitted),
                agent_version: "0.1.0".into(),
            },
        },
        Fact::Boot {
            key: BOOT,
            record: Boot {
                source: Source::Procfs,
                booted: WallNanos(1),
                command_line: Field::Absent,
            },
        },
        Fact::Process {
            key: process_key(),
            record: Process {
                cause: ProcessCause::Exit,
                state: ProcessState::Exited {
                    code: 0,
                    signal: 9,
                    core_dumped: false,
                },
                source: Source::Hook,
                parent: Field::Known(ProcessKey {
                    tgid: 1,
                    ..process_key()
                }),
                comm: "sh".into(),
                exe: Field::Known(Path {
                    text: "/bin/sh".into(),
                    cut: false,
                }),
                script: Field::Absent,
                argv: Field::Known(Argv {
                    args: vec!["sh".into(), Text::from(&b"\xff\n"[..])],
                    bytes_total: 6,
                    cut: false,
                }),
                cwd: Field::Unknown(Why::Fault),
                credentials: Field::Known(Credentials {
                    uid: 1000,
                    gid: 1000,
                    euid: 0,
                    egid: 0,
                    suid: 0,
                    sgid: 0,
                    fsuid: 0,
                    fsgid: 0,
                    cap_effective: 0x1ff,
                }),
                namespaces: Field::Known(Namespaces {
                    pid: 1,
                    mnt: 2,
                    net: 3,
                    uts: 4,
                    ipc: 5,
                    cgroup: 6,
                    user: 7,
                }),
                cgroup: Field::Known(99),
                tty: Field::Known("pts0".into()),
            },
        },
        Fact::Listener {
            key: SocketKey {
                boot: BOOT,
                cookie: 5,
            },
            record: Listener {
                cause: ListenerCause::Listen,
                listening: true,
                source: Source::Hook,
                local: endpoint("[::]:8080"),
                dual_stack: Field::Known(true),
                netns: 4_026_531_840,
                owner: Field::Known(process_key()),
                backlog: Field::Known(128),
            },
        },
        Fact::Connection {
            key: SocketKey {
                boot: BOOT,
                cookie: 6,
            },
            record: Connection {
                cause: ConnectionCause::Close,
                state: ConnectionState::Closed(Outcome::Error(110)),
                source: Source::Hook,
                direction: Field::Known(Direction::Incoming),
                local: endpoint("10.0.0.1:8080"),
                remote: endpoint("10.0.0.2:40000"),
                mapped: true,
                netns: 4_026_531_840,
                owner: Field::Unknown(Why::BeforeSensor),
                bytes_sent: Field::Known(70_000),
                bytes_received: Field::Known(12),
                opened: Field::Known(BootNanos(5)),
                established: Field::Known(BootNanos(6)),
            },
        },
        Fact::Loss {
            key: LossKey {
                boot: BOOT,
                sensor: SensorId::EXEC,
                cpu: 1,
                first: 10,
            },
            record: Loss {
                last: 12,
                count: 3,
                cause: LossCause::RingFull,
                not_before: BootNanos(1),
                not_after: BootNanos(2),
            },
        },
        Fact::Sensor {
            key: SensorId::EXIT,
            record: SensorStatus {
                tier: Tier::B,
                state: SensorState::Degraded,
                probe: "tp_btf/sched_process_exit".into(),
                reason: "no group_dead in BTF".into(),
            },
        },
        Fact::Baseline {
            key: BaselineKey {
                boot: BOOT,
                began: BootNanos(77),
            },
            record: Baseline {
                phase: Phase::Complete { events: 74 },
                source: Source::Iterator,
                kinds: vec![Kind::Process, Kind::Listener, Kind::Connection],
            },
        },
    ];
    facts
        .into_iter()
        .map(|fact| Event {
            boot_ns: BootNanos(1_000),
            wall_ns: WallNanos(2_000),
            fact,
        })
        .collect()
}

#[test]
fn golden_one_event_of_each_kind() {
    let samples = samples();
    let kinds: Vec<Kind> = samples.iter().map(|event| event.fact.kind()).collect();
    assert_eq!(kinds, Kind::ALL, "every kind has a sample here");
    let text: String = samples
        .iter()
        .map(|event| {
            std::format!(
                "{}: {}\n",
                event.fact.kind().name(),
                hex(&event.encode().unwrap())
            )
        })
        .collect();
    insta::assert_snapshot!(text);
}

#[test]
fn every_kind_round_trips() {
    for event in samples() {
        let bytes = event.encode().unwrap();
        assert_eq!(Event::decode(&bytes), Ok(event.clone()));
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event, "{json}");
    }
}

#[test]
fn a_process_that_ended_unseen_says_why_instead_of_inventing_a_code() {
    let mut event = samples().remove(2);
    let Fact::Process { record, .. } = &mut event.fact else {
        panic!("the third sample is a process");
    };
    record.state = ProcessState::Gone(Why::NotObserved);
    assert_eq!(Event::decode(&event.encode().unwrap()), Ok(event.clone()));
    assert!(
        serde_json::to_string(&event)
            .unwrap()
            .contains(r#""state":{"gone":"not_observed"}"#)
    );
}

#[test]
fn cut_or_padded_events_are_refused() {
    for event in samples() {
        let bytes = event.encode().unwrap();
        for end in 0..bytes.len() {
            assert!(
                Event::decode(&bytes[..end]).is_err(),
                "{:?} cut at {end}",
                event.fact.kind()
            );
        }
        let padded = [&bytes[..], &[0]].concat();
        assert!(Event::decode(&padded).is_err(), "{:?} padded", event.fact.kind());
    }
}

#[test]
fn unknown_kind_and_version_say_so() {
    let mut bytes = samples()[0].encode().unwrap();
    bytes[2] = 9;
    assert_eq!(
        Event::decode(&bytes),
        Err(BadEvent::UnknownKind { kind: 1, version: 9 })
    );
    bytes[..2].copy_from_slice(&999_u16.to_be_bytes());
    assert_eq!(
        Event::decode(&bytes),
        Err(BadEvent::UnknownKind {
            kind: 999,
            version: 9
        })
    );
}

proptest! {
    #[test]
    fn prop_any_bytes_decode_to_an_error_or_to_what_encodes_alike(bytes: Vec<u8>) {
        if let Ok(event) = Event::decode(&bytes) {
            prop_assert_eq!(Event::decode(&event.encode().unwrap()), Ok(event));
        }
    }

    #[test]
    fn prop_flipped_samples_never_panic(which in 0..8_usize, at: prop::sample::Index, flip in 1..=255_u8) {
        let mut bytes = samples()[which].encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = Event::decode(&bytes).map(|event| event.encode());
    }
}
