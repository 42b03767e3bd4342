//! The collector's machine against an agent that is honest, silent, greedy or broken.

use alloc::{vec, vec::Vec};

use crate::{
    batch::ChainHead,
    ids::{BootNanos, Hash, HostId, LeafIndex, Nonce, Sequence},
    limits::RECEIPTS_MAX,
    session::{
        CloseReason, CollectorConfig, CollectorEffect, CollectorSession, FrameDecoder, Hello, Message,
        Opening, PROTOCOL_VERSION, Proven, Receipts, RefusalCode, Window,
    },
    testing::{SECOND, batches, host},
};

fn at(now: u64) -> BootNanos {
    BootNanos(now)
}

fn hello() -> Hello {
    Hello {
        version: PROTOCOL_VERSION,
        host: host(),
        agent_version: "test".into(),
        next: Sequence(1000),
        head: Hash([1; 32]),
        oldest: Sequence(2),
        seen_size: 40,
        seen_root: Hash([2; 32]),
    }
}

fn opening() -> Opening {
    Opening {
        next: Sequence(700),
        head: Hash([3; 32]),
        published_before: Sequence(600),
        published_size: 50,
        nonce: Nonce([4; 32]),
    }
}

fn session() -> CollectorSession {
    let config = CollectorConfig {
        window: Window {
            batches: 2,
            bytes: 1 << 20,
        },
        ..CollectorConfig::default()
    };
    CollectorSession::new(config, host(), at(0))
}

fn tell(session: &mut CollectorSession, message: &Message) -> Vec<CollectorEffect> {
    session.handle_bytes(at(0), &message.encode().unwrap());
    effects(session)
}

fn effects(session: &mut CollectorSession) -> Vec<CollectorEffect> {
    core::iter::from_fn(|| session.poll_effect()).collect()
}

fn sent(session: &mut CollectorSession) -> Vec<Message> {
    let mut decoder = FrameDecoder::default();
    while let Some(bytes) = session.poll_transmit() {
        decoder.push(&bytes);
    }
    core::iter::from_fn(|| decoder.next_message().unwrap()).collect()
}

/// Opened, with the first receipts asked for.
fn open() -> CollectorSession {
    let mut session = session();
    assert_eq!(
        tell(&mut session, &Message::Hello(hello())),
        [CollectorEffect::Open(hello())]
    );
    session.handle_opening(at(0), &opening());
    session
}

fn refused_for(session: &mut CollectorSession) -> RefusalCode {
    assert!(session.closed());
    match sent(session).as_slice() {
        [.., Message::Refused(refusal)] if refusal.fatal => refusal.code,
        other => panic!("nothing was refused: {other:?}"),
    }
}

#[test]
fn it_welcomes_with_what_it_holds_and_asks_for_receipts_in_pieces() {
    let mut session = open();
    assert!(
        matches!(sent(&mut session).as_slice(), [Message::Welcome(welcome)]
        if welcome.next == Sequence(700) && welcome.head == Hash([3; 32]) && welcome.nonce == Nonce([4; 32]))
    );
    let mut from = 2;
    let mut size = 40;
    for through in [257, 513, 599] {
        let prove = CollectorEffect::Prove {
            from: Sequence(from),
            through: Sequence(through),
            since_size: size,
        };
        assert_eq!(effects(&mut session), [prove]);
        assert!(through - from < RECEIPTS_MAX as u64);
        let proven = (from..=through).map(|sequence| Proven {
            sequence: Sequence(sequence),
            leaf: LeafIndex(sequence),
            proof: vec![],
        });
        let receipts = Receipts {
            checkpoint: b"note".to_vec(),
            consistency: vec![],
            proven: proven.collect(),
        };
        size += 10;
        session.handle_receipts(Some((receipts, size)));
        assert!(matches!(sent(&mut session).as_slice(), [Message::Receipts(_)]));
        from = through + 1;
    }
    assert_eq!(effects(&mut session), []);
    session.handle_published(Sequence(601));
    assert_eq!(
        effects(&mut session),
        [CollectorEffect::Prove {
            from: Sequence(600),
            through: Sequence(600),
            since_size: 70
        }]
    );
    // Receipts that cannot be made now are asked for again with the next checkpoint.
    session.handle_receipts(None);
    assert_eq!(effects(&mut session), []);
    session.handle_published(Sequence(602));
    assert!(matches!(
        effects(&mut session).as_slice(),
        [CollectorEffect::Prove {
            from: Sequence(600),
            ..
        }]
    ));
}

#[test]
fn strangers_old_ledgers_and_other_protocols_are_refused_by_name() {
    let greeted = |hello: Hello| {
        let mut session = session();
        tell(&mut session, &Message::Hello(hello));
        session.handle_opening(at(0), &opening());
        refused_for(&mut session)
    };
    let stranger = Hello {
        host: HostId([9; 32]),
        ..hello()
    };
    assert_eq!(greeted(stranger), RefusalCode::Host);
    let newer = Hello {
        version: PROTOCOL_VERSION + 1,
        ..hello()
    };
    assert_eq!(greeted(newer), RefusalCode::Version);
    let ahead = Hello {
        seen_size: 51,
        ..hello()
    };
    assert_eq!(greeted(ahead), RefusalCode::LedgerBehind);
}

#[test]
fn the_key_history_is_sent_before_receipts_to_whoever_can_read_it() {
    let greeted = |version, history: &[u8]| {
        let config = CollectorConfig {
            key_history: history.to_vec(),
            ..CollectorConfig::default()
        };
        let mut session = CollectorSession::new(config, host(), at(0));
        let hello = Hello { version, ..hello() };
        tell(&mut session, &Message::Hello(hello));
        session.handle_opening(at(0), &opening());
        sent(&mut session)
    };
    assert!(matches!(
        greeted(PROTOCOL_VERSION, b"history").as_slice(),
        [Message::Welcome(welcome), Message::Keys(history)]
            if history == b"history" && welcome.version == PROTOCOL_VERSION
    ));
    assert!(matches!(
        greeted(1, b"history").as_slice(),
        [Message::Welcome(welcome)] if welcome.version == 1
    ));
    assert!(matches!(
        greeted(PROTOCOL_VERSION, b"").as_slice(),
        [Message::Welcome(_)]
    ));
}

#[test]
fn the_window_is_enforced_and_freed_by_storing() {
    let all = batches(&ChainHead::genesis(host()), 4, 0);
    let message = |n: usize| Message::Batch {
        header: all[n].header.bytes().to_vec(),
        body: all[n].body.clone(),
    };
    let mut session = open();
    effects(&mut session);
    for n in 0..2 {
        assert!(matches!(
            tell(&mut session, &message(n)).as_slice(),
            [CollectorEffect::Submit { .. }]
        ));
    }
    session.handle_stored(Sequence(0));
    assert!(matches!(
        tell(&mut session, &message(2)).as_slice(),
        [CollectorEffect::Submit { .. }]
    ));
    tell(&mut session, &message(3));
    assert_eq!(refused_for(&mut session), RefusalCode::Window);
}

#[test]
fn garbage_and_messages_out_of_place_are_refused() {
    let mut fresh = session();
    fresh.handle_bytes(at(0), b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(refused_for(&mut fresh), RefusalCode::Protocol);
    assert!(matches!(
        effects(&mut fresh).as_slice(),
        [CollectorEffect::Close(CloseReason::Garbage(_))]
    ));
    for message in [Message::Ping, Message::Stored { through: Sequence(1) }] {
        let mut session = session();
        tell(&mut session, &message);
        assert_eq!(refused_for(&mut session), RefusalCode::Protocol);
    }
    let mut twice = open();
    tell(&mut twice, &Message::Hello(hello()));
    assert_eq!(refused_for(&mut twice), RefusalCode::Protocol);
}

#[test]
fn silence_ends_it_before_and_after_hello_and_nonces_are_renewed() {
    let mut mute = session();
    assert_eq!(mute.poll_timeout(), Some(at(10 * SECOND)));
    mute.handle_timeout(at(10 * SECOND));
    assert_eq!(effects(&mut mute), [CollectorEffect::Close(CloseReason::Idle)]);
    let mut session = open();
    effects(&mut session);
    sent(&mut session);
    session.handle_timeout(at(10 * SECOND));
    assert_eq!(effects(&mut session), [CollectorEffect::DrawNonce]);
    session.handle_nonce(Nonce([8; 32]));
    assert_eq!(sent(&mut session), [Message::Nonce(Nonce([8; 32]))]);
    session.handle_timeout(at(30 * SECOND));
    assert_eq!(effects(&mut session), [CollectorEffect::Close(CloseReason::Idle)]);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn goodbye_closes_in_order() {
    let mut session = open();
    effects(&mut session);
    assert_eq!(
        tell(&mut session, &Message::Bye),
        [CollectorEffect::Close(CloseReason::Left)]
    );
}
