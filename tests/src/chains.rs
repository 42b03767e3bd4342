//! Hand-made hosts: chains sealed by the real code, with the times and events a test chooses.
//!
//! Times are milliseconds since [`EPOCH`] on the wall clock; the boot clock stands [`BOOT_AHEAD`] further.

mod maker;

use common::{
    batch::{HeaderFlags, SensorCounters},
    event::{
        Baseline, BaselineKey, Boot, Connection, Event, Fact, Field, Host, Kind, Listener, Loss, LossKey,
        Process, ProcessKey, SensorId, SensorStatus, SocketKey, Source, Why,
        baseline::Phase,
        connection::{ConnectionCause, ConnectionState, Direction, Outcome},
        listener::ListenerCause,
        loss::LossCause,
        process::{Argv, Credentials, Path, ProcessCause, ProcessState},
        sensor::{SensorState, Tier},
    },
    ids::{BootId, BootNanos, HostId, WallNanos},
    text::Text,
};

pub use self::maker::Maker;

/// 2026-01-02T03:04:00Z.
pub const EPOCH: u64 = 1_767_323_040_000_000_000;
/// The boot clock at [`EPOCH`], nanoseconds.
pub const BOOT_AHEAD: u64 = 1_000_000_000_000;
/// The boot of a maker that was not told another.
pub const BOOT: BootId = BootId([7; 16]);

/// The wall clock at `ms`.
#[must_use]
pub fn wall(ms: u64) -> WallNanos {
    WallNanos(EPOCH + ms * 1_000_000)
}

/// The boot clock at `ms`.
#[must_use]
pub fn boot(ms: u64) -> BootNanos {
    BootNanos(BOOT_AHEAD + ms * 1_000_000)
}

/// An event at `ms`.
#[must_use]
pub fn event(ms: u64, fact: Fact) -> Event {
    Event {
        boot_ns: boot(ms),
        wall_ns: wall(ms),
        fact,
    }
}

/// Marks of the first batch of a run.
pub const STARTS: HeaderFlags = HeaderFlags {
    first_since_start: true,
    last_before_stop: false,
};
/// Marks of a batch like most.
pub const GOES_ON: HeaderFlags = HeaderFlags {
    first_since_start: false,
    last_before_stop: false,
};
/// Marks of the last batch before a stop in order.
pub const STOPS: HeaderFlags = HeaderFlags {
    first_since_start: false,
    last_before_stop: true,
};

/// The key of the process `pid` that started at `ms`.
#[must_use]
pub fn process_key(pid: u32, ms: u64) -> ProcessKey {
    ProcessKey {
        boot: BOOT,
        tgid: pid,
        started: boot(ms),
    }
}

/// A process as tests need it.
#[must_use]
pub fn process(key: ProcessKey, parent: Option<ProcessKey>, argv: &[&[u8]], cause: ProcessCause) -> Fact {
    let exe = argv.first().copied().unwrap_or_default();
    let name = exe.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    Fact::Process {
        key,
        record: Process {
            cause,
            state: ProcessState::Running,
            source: if cause == ProcessCause::Baseline {
                Source::Iterator
            } else {
                Source::Hook
            },
            parent: parent.into(),
            comm: Text::from(name.get(..15).unwrap_or(name)),
            exe: Field::Known(Path {
                text: Text::from(exe),
                cut: false,
            }),
            script: Field::Absent,
            argv: Field::Known(Argv {
                args: argv.iter().map(|arg| Text::from(*arg)).collect(),
                bytes_total: u32::try_from(argv.iter().map(|arg| arg.len() + 1).sum::<usize>())
                    .unwrap_or(u32::MAX),
                cut: false,
            }),
            cwd: Field::Unknown(Why::NotObserved),
            credentials: Field::Known(Credentials {
                uid: 1000,
                gid: 1000,
                euid: 1000,
                egid: 1000,
                suid: 1000,
                sgid: 1000,
                fsuid: 1000,
                fsgid: 1000,
                cap_effective: 0,
            }),
            namespaces: Field::Unknown(Why::NotObserved),
            cgroup: Field::Unknown(Why::NotObserved),
            tty: Field::Absent,
        },
    }
}

/// The same process, ended.
#[must_use]
pub fn exited(fact: Fact, exit_code: u8, by_signal: u8) -> Fact {
    match fact {
        Fact::Process { key, mut record } => {
            record.cause = ProcessCause::Exit;
            record.state = ProcessState::Exited {
                code: exit_code,
                signal: by_signal,
                core_dumped: false,
            };
            Fact::Process { key, record }
        }
        other => other,
    }
}

/// A listener.
#[must_use]
#[expect(clippy::unwrap_used, reason = "test support: a wrong address fails the test")]
pub fn listener(cookie: u64, local: &str, owner: ProcessKey, cause: ListenerCause) -> Fact {
    Fact::Listener {
        key: SocketKey { boot: BOOT, cookie },
        record: Listener {
            cause,
            listening: cause != ListenerCause::Close,
            source: Source::Hook,
            local: local.parse().unwrap(),
            dual_stack: Field::Known(false),
            netns: 4_026_531_840,
            owner: Field::Known(owner),
            backlog: Field::Known(128),
        },
    }
}

/// A connection that was opened at `opened` (milliseconds); `closed` with bytes sent and received.
#[must_use]
#[expect(clippy::unwrap_used, reason = "test support: a wrong address fails the test")]
pub fn connection(
    cookie: u64,
    ends: (&str, &str),
    owner: ProcessKey,
    opened: u64,
    closed: Option<(u64, u64)>,
) -> Fact {
    Fact::Connection {
        key: SocketKey { boot: BOOT, cookie },
        record: Connection {
            cause: if closed.is_some() {
                ConnectionCause::Close
            } else {
                ConnectionCause::Established
            },
            state: if closed.is_some() {
                ConnectionState::Closed(Outcome::Finished)
            } else {
                ConnectionState::Established
            },
            source: Source::Hook,
            direction: Field::Known(Direction::Outgoing),
            local: ends.0.parse().unwrap(),
            remote: ends.1.parse().unwrap(),
            mapped: false,
            netns: 4_026_531_840,
            owner: Field::Known(owner),
            bytes_sent: closed.map_or(Field::Unknown(Why::NotObserved), |(sent, _)| Field::Known(sent)),
            bytes_received: closed.map_or(Field::Unknown(Why::NotObserved), |(_, received)| {
                Field::Known(received)
            }),
            opened: Field::Known(boot(opened)),
            established: Field::Known(boot(opened + 1)),
        },
    }
}

/// A loss between two instants (milliseconds).
#[must_use]
pub fn loss(sensor: SensorId, count: u64, not_before: u64, not_after: u64) -> Fact {
    Fact::Loss {
        key: LossKey {
            boot: BOOT,
            sensor,
            cpu: 0,
            first: 10,
        },
        record: Loss {
            last: 9 + count,
            count,
            cause: LossCause::RingFull,
            not_before: boot(not_before),
            not_after: boot(not_after),
        },
    }
}

/// The beginning of a run at `ms`: host, boot, sensors all at work, a baseline begun.
#[must_use]
pub fn run_begins(host: HostId, name: &str, ms: u64) -> Vec<Event> {
    let mut facts = vec![
        Fact::Host {
            key: host,
            record: Host {
                source: Source::Procfs,
                hostname: name.into(),
                kernel_release: "6.18.0".into(),
                kernel_version: "#1 SMP".into(),
                architecture: "x86_64".into(),
                os: Field::Known("debian 12".into()),
                cpus: 2,
                memory_bytes: 1 << 34,
                clock_source: Field::Known("tsc".into()),
                clock_synchronised: Field::Known(true),
                agent_version: "0.1.0".into(),
            },
        },
        Fact::Boot {
            key: BOOT,
            record: Boot {
                source: Source::Procfs,
                booted: WallNanos(EPOCH - BOOT_AHEAD),
                command_line: Field::Absent,
            },
        },
    ];
    facts.extend(
        (1..=10)
            .filter(|n| !matches!(n, 6 | 7))
            .map(|sensor| Fact::Sensor {
                key: SensorId(sensor),
                record: SensorStatus {
                    tier: Tier::B,
                    state: SensorState::Active,
                    probe: "tp_btf/test".into(),
                    reason: Text::default(),
                },
            }),
    );
    facts.push(baseline(ms, Phase::Begun));
    facts.into_iter().map(|fact| event(ms, fact)).collect()
}

/// A mark of the baseline that began at `ms`.
#[must_use]
pub fn baseline(ms: u64, phase: Phase) -> Fact {
    Fact::Baseline {
        key: BaselineKey {
            boot: BOOT,
            began: boot(ms),
        },
        record: Baseline {
            phase,
            source: Source::Iterator,
            kinds: vec![Kind::Process, Kind::Listener, Kind::Connection],
        },
    }
}

/// The seed of the key that signs test ledgers.
pub const LEDGER_KEY_SEED: [u8; 32] = [5; 32];

/// A ledger in `storage` holding what the makers sealed, one batch of each in turn.
///
/// # Panics
/// Where it cannot be written.
#[must_use]
#[expect(
    clippy::unwrap_used,
    reason = "test support: a ledger that cannot be written fails the test"
)]
pub fn ledger_of(storage: std::sync::Arc<dyn ledger::storage::Storage>, makers: &[&Maker]) -> ledger::Ledger {
    let signer = common::note::SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap();
    let describe = collector::pipeline::describe;
    let (mut ledger, _) = ledger::Ledger::open(storage, signer, describe).unwrap();
    let longest = makers
        .iter()
        .map(|maker| maker.sealed.len())
        .max()
        .unwrap_or_default();
    for at in 0..longest {
        for (header, body) in makers.iter().filter_map(|maker| maker.sealed.get(at)) {
            ledger.append_group(&[ledger::Entry { header, body }]).unwrap();
        }
    }
    ledger.integrate_and_publish().unwrap();
    ledger
}

/// The story that queries are tested on; returns `node-1` and `node-2`.
///
/// node-1: 0–6 s a run that breaks off; 10–13 s a second one that stops in order. Processes 1 and 100 and a
/// listener exist from the start; 200 runs from 1.2 to 3.5 s and connects; 300 starts at 3.9 s but is sealed a
/// batch late; 400 (a hostile name) starts at 5.5 s and ends in the gap, as does 300. In the second run three
/// exec events are lost around 11 s, which is reported at 11.9 s. node-2: 2–4 s, nothing but a baseline.
#[must_use]
pub fn story() -> (Maker, Maker) {
    let (init, sshd) = (process_key(1, 0), process_key(100, 0));
    let base = ProcessCause::Baseline;
    let existing = |ms| {
        [
            event(ms, process(init, None, &[b"/sbin/init"], base)),
            event(
                ms + 1,
                process(sshd, Some(init), &[b"/usr/sbin/sshd", b"-D"], base),
            ),
            event(ms + 2, listener(1, "0.0.0.0:22", sshd, ListenerCause::Baseline)),
        ]
    };
    let mut one = Maker::new(1);
    let mut events = run_begins(one.host(), "node-1", 100);
    events.extend(existing(200));
    events.push(event(500, baseline(100, Phase::Complete { events: 3 })));
    one.seal(STARTS, 0, 1_000, &events);

    let curl = process_key(200, 1_200);
    let argv: &[&[u8]] = &[b"/usr/bin/curl", b"http://10.0.0.2:8080/a b"];
    let ran = process(curl, Some(sshd), argv, ProcessCause::Exec);
    let ends = ("10.0.0.1:40000", "10.0.0.2:8080");
    one.seal(
        GOES_ON,
        1_000,
        2_000,
        &[
            event(
                1_200,
                process(curl, Some(sshd), &[b"/usr/sbin/sshd", b"-D"], ProcessCause::Fork),
            ),
            event(1_300, ran.clone()),
            event(1_500, connection(7, ends, curl, 1_500, None)),
        ],
    );
    one.seal(GOES_ON, 2_000, 3_000, &[]);
    one.seal(
        GOES_ON,
        3_000,
        4_000,
        &[
            event(3_200, connection(7, ends, curl, 1_500, Some((70_000, 12)))),
            event(3_500, exited(ran, 0, 0)),
        ],
    );
    let late = process(
        process_key(300, 3_900),
        Some(init),
        &[b"/bin/late"],
        ProcessCause::Fork,
    );
    one.seal(GOES_ON, 4_000, 5_000, &[event(3_900, late)]);
    let hostile: &[&[u8]] = &[b"/tmp/\x1b[31mred\nname\xff", b"\xe2\x80\xaetxt.exe"];
    let evil = process(process_key(400, 5_500), Some(sshd), hostile, ProcessCause::Exec);
    one.seal(GOES_ON, 5_000, 6_000, &[event(5_500, evil)]);

    let mut events = run_begins(one.host(), "node-1", 10_100);
    events.extend(existing(10_200));
    events.push(event(10_600, baseline(10_100, Phase::Complete { events: 3 })));
    one.seal(STARTS, 10_000, 11_000, &events);
    one.sensors = vec![SensorCounters {
        sensor: SensorId::EXEC,
        happened: 40,
        lost: 3,
    }];
    one.seal(
        GOES_ON,
        11_000,
        12_000,
        &[event(11_900, loss(SensorId::EXEC, 3, 10_800, 11_200))],
    );
    one.seal(STOPS, 12_000, 13_000, &[]);

    let mut two = Maker::new(2);
    let mut events = run_begins(two.host(), "node-2", 2_100);
    events.push(event(
        2_200,
        process(process_key(1, 0), None, &[b"/sbin/init"], base),
    ));
    events.push(event(2_300, baseline(2_100, Phase::Complete { events: 1 })));
    two.seal(STARTS, 2_000, 3_000, &events);
    two.seal(GOES_ON, 3_000, 4_000, &[]);
    (one, two)
}
