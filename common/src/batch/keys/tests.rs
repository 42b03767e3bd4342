//! Chains over several key epochs, and every way to break their succession by its name.

use alloc::{format, string::String, vec::Vec};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::{
    batch::{ChainHead, ClockSource, HeaderFlags, UnverifiedHeader, encode_body, sign_header},
    ids::{BootId, BootNanos, Nonce, WallNanos},
};

/// The key of an epoch.
fn key(epoch: u64) -> SigningKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&epoch.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn host() -> HostId {
    HostId::of_genesis_key(&public(&key(0)))
}

/// Fields of an empty batch behind `head`, of `epoch` and its keys.
fn fields(head: &ChainHead, epoch: u64) -> HeaderFields {
    let (body, events_root, tags_hash) = encode_body(&[] as &[Vec<u8>]).unwrap();
    HeaderFields {
        flags: HeaderFlags::default(),
        host: head.host,
        key_epoch: KeyEpoch(epoch),
        public_key: public(&key(epoch)),
        next_public_key: public(&key(epoch + 1)),
        sequence: head.next_sequence,
        first_event: head.next_event,
        event_count: 0,
        body_bytes: u32::try_from(body.len()).unwrap(),
        previous: head.hash,
        events_root,
        tags_hash,
        boot: BootId([3; 16]),
        from_boot: BootNanos(1),
        until_boot: BootNanos(2),
        from_wall: WallNanos(1),
        until_wall: WallNanos(2),
        clock_error_ns: 0,
        clock_source: ClockSource::Synchronised,
        nonce: Nonce::default(),
        sensors: Vec::new(),
    }
}

fn signed(fields: &HeaderFields, key: &SigningKey) -> UnverifiedHeader {
    sign_header(fields, key).unwrap()
}

/// The chain of `lengths[e]` batches in each epoch `e`: its headers with their epochs.
fn chain(lengths: &[u64]) -> Vec<(u64, UnverifiedHeader)> {
    let mut head = ChainHead::genesis(host());
    let mut headers = Vec::new();
    for (epoch, length) in (0..).zip(lengths) {
        for _ in 0..*length {
            let header = signed(&fields(&head, epoch), &key(epoch));
            head.accept(header.clone()).unwrap();
            headers.push((epoch, header));
        }
    }
    headers
}

fn head_before(headers: &[(u64, UnverifiedHeader)], at: usize) -> ChainHead {
    let mut head = ChainHead::genesis(host());
    for (_, header) in &headers[..at] {
        head.accept(header.clone()).unwrap();
    }
    head
}

fn fault_of(head: &mut ChainHead, header: UnverifiedHeader) -> KeyFault {
    let before = head.clone();
    let fault = head.accept(header).unwrap_err();
    assert_eq!(*head, before, "a fault leaves the head alone");
    match fault {
        ChainFault::Keys { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn epochs_follow_one_another_under_the_keys_announced() {
    for (epoch, header) in chain(&[1, 2, 1, 3]) {
        assert_eq!(header.claimed().key_epoch, KeyEpoch(epoch));
    }
}

/// Hosts that run older agents announce nothing; an upgrade begins to, and cannot be undone.
#[test]
fn announcing_may_begin_late_and_never_ends() {
    let mut head = ChainHead::genesis(host());
    let mut silent = fields(&head, 0);
    silent.next_public_key = PublicKey::default();
    head.accept(signed(&silent, &key(0))).unwrap();
    let early = fault_of(&mut head.clone(), signed(&fields(&head, 1), &key(1)));
    assert_eq!(early, KeyFault::Unannounced(KeyEpoch(1)));
    head.accept(signed(&fields(&head, 0), &key(0))).unwrap();
    silent = fields(&head, 0);
    silent.next_public_key = PublicKey::default();
    let fault = fault_of(&mut head.clone(), signed(&silent, &key(0)));
    assert_eq!(fault, KeyFault::AnnouncementMissing(KeyEpoch(0)));
    head.accept(signed(&fields(&head, 1), &key(1))).unwrap();
}

#[test]
fn keys_are_learnt_one_header_an_epoch_and_no_epoch_is_passed_over() {
    let headers = chain(&[2, 1, 2, 1]);
    let signed = |at: usize| SignedHeader::check(headers[at].1.clone()).unwrap();
    let mut keys = HostKeys::new(host());
    assert!(keys.check(signed(0)).is_ok() && keys.check(signed(1)).is_ok());
    let unknown = |result: Result<VerifiedHeader, ChainFault>| {
        matches!(
            result,
            Err(ChainFault::Keys {
                fault: KeyFault::Unannounced(_),
                ..
            })
        )
    };
    assert!(unknown(keys.check(signed(2))));
    assert!(keys.learn(&signed(2)).is_err());
    for (at, latest) in [(1, 1), (0, 1), (2, 2), (4, 3)] {
        keys.learn(&signed(at)).unwrap();
        assert_eq!(keys.latest(), KeyEpoch(latest));
    }
    for (at, (_, header)) in headers.iter().enumerate() {
        assert_eq!(keys.check(signed(at)).unwrap().bytes(), header.bytes());
    }
    let other = HostKeys::new(HostId([1; 32]));
    assert!(matches!(other.check(signed(0)), Err(ChainFault::Host { .. })));
}

/// What was planted in a header, and the name that it must be given.
fn planted(
    kind: u8,
    head: &ChainHead,
    good: &HeaderFields,
) -> Option<(HeaderFields, SigningKey, &'static str)> {
    let (in_force, epoch) = (head.keys.epoch.0, good.key_epoch.0);
    let (begins, first) = (epoch > in_force, head.next_sequence.0 == 0);
    let thief = key(1_000_000);
    let mut bad = good.clone();
    let name = match kind {
        0 => {
            bad.public_key = public(&thief);
            let name = match (first, begins) {
                (true, _) => "Genesis",
                (_, true) => "Successor",
                _ => "Key",
            };
            return Some((bad, thief, name));
        }
        1 if !begins && !first => {
            bad.next_public_key = public(&thief);
            "AnnouncementChanged"
        }
        2 if !first => {
            bad.next_public_key = PublicKey::default();
            "AnnouncementMissing"
        }
        3 => {
            bad.next_public_key = bad.public_key;
            "AnnouncementRepeats"
        }
        4 => {
            let found = in_force + if first { 1 } else { 2 };
            return Some((fields(head, found), key(found), "EpochSkipped"));
        }
        5 if in_force > 0 => return Some((fields(head, in_force - 1), key(in_force - 1), "EpochBack")),
        _ => return None,
    };
    Some((bad, key(epoch), name))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn prop_planted_succession_faults_are_each_named(
        lengths in proptest::collection::vec(1_u64..4, 1..5),
        at in any::<prop::sample::Index>(),
    ) {
        let headers = chain(&lengths);
        let at = at.index(headers.len());
        let head = head_before(&headers, at);
        let good = headers[at].1.claimed();
        let mut found = 0;
        for kind in 0..6 {
            let Some((bad, key, name)) = planted(kind, &head, good) else { continue };
            let fault = fault_of(&mut head.clone(), signed(&bad, &key));
            let shown: String = format!("{fault:?}");
            prop_assert!(shown.starts_with(name), "{name} was called {shown}");
            prop_assert_eq!(fault.is_the_hosts(), name.starts_with("Announcement"));
            found += 1;
        }
        prop_assert!(found >= 3);
        prop_assert!(head.clone().accept(headers[at].1.clone()).is_ok());
    }
}
