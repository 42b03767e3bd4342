//! Golden bytes, chain rules and named damage of batches.

use alloc::{format, string::String, vec, vec::Vec};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::{
    event::SensorId,
    ids::{
        BootId, BootNanos, EventIndex, Hash, HostId, KeyEpoch, Nonce, PublicKey, Sequence, WallNanos, hex,
    },
};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

fn fields_for(head: &ChainHead, events: &[Vec<u8>]) -> (HeaderFields, Vec<u8>) {
    let (body, events_root, tags_hash) = encode_body(events).unwrap();
    let fields = HeaderFields {
        flags: HeaderFlags {
            first_since_start: head.next_sequence.0 == 0,
            last_before_stop: false,
        },
        host: head.host,
        key_epoch: KeyEpoch(0),
        public_key: PublicKey(key().verifying_key().to_bytes()),
        next_public_key: PublicKey::default(),
        sequence: head.next_sequence,
        first_event: head.next_event,
        event_count: u32::try_from(events.len()).unwrap(),
        body_bytes: u32::try_from(body.len()).unwrap(),
        previous: head.hash,
        events_root,
        tags_hash,
        boot: BootId([3; 16]),
        from_boot: BootNanos(10),
        until_boot: BootNanos(20),
        from_wall: WallNanos(1_000_000_010),
        until_wall: WallNanos(1_000_000_020),
        clock_error_ns: u64::MAX,
        clock_source: ClockSource::Unsynchronised,
        nonce: Nonce([9; 32]),
        sensors: vec![
            SensorCounters {
                sensor: SensorId::FORK,
                happened: 5,
                lost: 0,
            },
            SensorCounters {
                sensor: SensorId::EXEC,
                happened: 7,
                lost: 2,
            },
        ],
    };
    (fields, body)
}

fn host() -> HostId {
    HostId::of_genesis_key(&PublicKey(key().verifying_key().to_bytes()))
}

fn batch(head: &ChainHead, events: &[Vec<u8>]) -> (UnverifiedHeader, Vec<u8>) {
    let (fields, body) = fields_for(head, events);
    (sign_header(&fields, &key()).unwrap(), body)
}

fn events(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| vec![n; usize::from(n) + 1]).collect()
}

#[test]
fn golden_header_and_body() {
    let (header, body) = batch(&ChainHead::genesis(host()), &events(3));
    insta::assert_snapshot!(format!("header: {}\nbody: {}\n", hex(header.bytes()), hex(&body)));
}

#[test]
fn a_chain_of_batches_is_accepted_heartbeats_included() {
    let mut head = ChainHead::genesis(host());
    for count in [3, 0, 1] {
        let (header, body) = batch(&head, &events(count));
        let verified = head.accept(header).unwrap();
        let body = verified.check_body(&body).unwrap();
        assert_eq!(body.events().count(), usize::from(count));
    }
    assert_eq!(
        (head.next_sequence, head.next_event),
        (Sequence(3), EventIndex(4))
    );
}

#[test]
fn each_break_of_the_chain_is_named_and_leaves_the_head_alone() {
    let mut head = ChainHead::genesis(host());
    head.accept(batch(&ChainHead::genesis(host()), &events(2)).0)
        .unwrap();
    let (good, _) = fields_for(&head, &events(1));
    let sign = |fields: &HeaderFields| sign_header(fields, &key()).unwrap();
    let before = head.clone();
    let cases: Vec<(&str, HeaderFields)> = vec![
        (
            "Host",
            HeaderFields {
                host: HostId([0; 32]),
                ..good.clone()
            },
        ),
        (
            "Sequence",
            HeaderFields {
                sequence: Sequence(0),
                ..good.clone()
            },
        ),
        (
            "Sequence",
            HeaderFields {
                sequence: Sequence(9),
                ..good.clone()
            },
        ),
        (
            "EventIndex",
            HeaderFields {
                first_event: EventIndex(1),
                ..good.clone()
            },
        ),
        (
            "Previous",
            HeaderFields {
                previous: Hash([1; 32]),
                ..good.clone()
            },
        ),
        (
            "Keys",
            HeaderFields {
                key_epoch: KeyEpoch(1),
                ..good.clone()
            },
        ),
        (
            "Keys",
            HeaderFields {
                public_key: PublicKey([1; 32]),
                ..good.clone()
            },
        ),
    ];
    for (name, fields) in cases {
        let fault = head.accept(sign(&fields)).unwrap_err();
        assert!(format!("{fault:?}").starts_with(name), "{name}: {fault:?}");
        assert_eq!(head, before);
    }
    let forged = sign_header(&good, &SigningKey::from_bytes(&[1; 32])).unwrap();
    assert!(matches!(head.accept(forged), Err(ChainFault::Signature { .. })));
    let mut other_genesis = ChainHead::genesis(HostId([5; 32]));
    let (fields, _) = fields_for(&other_genesis, &events(1));
    assert!(matches!(
        other_genesis.accept(sign(&fields)),
        Err(ChainFault::Keys {
            fault: KeyFault::Genesis,
            ..
        })
    ));
    head.accept(sign(&good)).unwrap();
}

#[test]
fn every_flipped_body_byte_is_found_and_its_event_named() {
    let events = events(5);
    let mut head = ChainHead::genesis(host());
    let (header, body) = batch(&head, &events);
    let verified = head.accept(header).unwrap();
    let first_event_at = 4 + events.len() * 12;
    let mut starts: Vec<usize> = vec![first_event_at];
    for event in &events {
        starts.push(starts.last().unwrap() + event.len());
    }
    for at in 0..body.len() {
        let mut bad = body.clone();
        bad[at] ^= 0x40;
        let fault = verified.check_body(&bad).unwrap_err();
        if at >= first_event_at {
            let event = starts.iter().rposition(|start| *start <= at).unwrap() as u64;
            assert_eq!(fault, BodyFault::Damaged(Damage::Event { event }), "byte {at}");
        } else if at >= 4 + events.len() * 4 {
            let event = (at - 4 - events.len() * 4) as u64 / 8;
            assert_eq!(fault, BodyFault::Damaged(Damage::Tag { event }), "byte {at}");
        }
    }
}

#[test]
fn every_flipped_header_byte_is_refused() {
    let (header, _) = batch(&ChainHead::genesis(host()), &events(2));
    for at in 0..header.bytes().len() {
        let mut bad = header.bytes().to_vec();
        bad[at] ^= 1;
        let refused = match UnverifiedHeader::parse(&bad) {
            Err(_) => true,
            Ok(parsed) => ChainHead::genesis(host()).accept(parsed).is_err(),
        };
        assert!(refused, "byte {at}");
    }
}

#[test]
fn cut_headers_name_the_field() {
    let (header, _) = batch(&ChainHead::genesis(host()), &events(1));
    let bytes = header.bytes();
    for end in 0..bytes.len() {
        let fault: String = format!("{}", UnverifiedHeader::parse(&bytes[..end]).unwrap_err());
        assert!(fault.contains("cut short"), "{end}: {fault}");
    }
    let long = [bytes, &[0]].concat();
    assert!(matches!(
        UnverifiedHeader::parse(&long),
        Err(BadHeader::Length { .. })
    ));
}

proptest! {
    #[test]
    fn prop_hostile_bytes_never_panic(bytes: Vec<u8>) {
        let _ = UnverifiedHeader::parse(&bytes);
        let _ = BodyView::parse(&bytes).map(|view| view.events().len());
    }

    #[test]
    fn prop_bodies_round_trip(events: Vec<Vec<u8>>) {
        let (body, _, _) = encode_body(&events).unwrap();
        let view = BodyView::parse(&body).unwrap();
        prop_assert_eq!(view.events().iter().map(|event| event.to_vec()).collect::<Vec<_>>(), events.clone());
        let bytes: usize = events.iter().map(Vec::len).sum();
        prop_assert_eq!(body.len(), body_bytes_for(events.len(), bytes));
    }
}
