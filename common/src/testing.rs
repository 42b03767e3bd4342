//! What the tests of journal, spool, session and sequencer share: one host and its batches.

use alloc::{vec, vec::Vec};

use ed25519_dalek::SigningKey;

use crate::{
    batch::{ChainHead, ClockSource, HeldKeys},
    event::{
        Event, Fact, SensorId,
        loss::{Loss, LossCause, LossKey},
    },
    ids::{BootId, BootNanos, HostId, PublicKey, Sequence, WallNanos},
    journal::{ClockReading, Journal, JournalConfig, SealedBatch},
    keyring::{EpochBegan, KeyRecord, Keyring, Seed},
    spool::{Spool, SpoolConfig, SpoolEffect, recover},
};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const BOOT: BootId = BootId([3; 16]);

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

pub(crate) fn public() -> PublicKey {
    PublicKey(key().verifying_key().to_bytes())
}

fn seed(byte: u8) -> Seed {
    Seed::filled(|seed| {
        *seed = [byte; 32];
        Ok::<(), ()>(())
    })
    .unwrap()
}

/// The keys of epoch 0, in force since the test's boot began.
pub(crate) fn record() -> KeyRecord {
    KeyRecord::first(seed(42), seed(43), BOOT, BootNanos(0))
}

pub(crate) fn keyring() -> Keyring {
    record().keyring()
}

/// The keys after `record`'s.
pub(crate) fn ratcheted(record: &KeyRecord, sequence: u64, at: u64) -> KeyRecord {
    let fresh = seed(44 + record.epoch.0.to_le_bytes()[0]);
    let began = EpochBegan {
        sequence: Sequence(sequence),
        boot: BOOT,
        at: BootNanos(at),
    };
    record.successor(fresh, began).unwrap()
}

pub(crate) fn held() -> HeldKeys {
    record().held()
}

pub(crate) fn host() -> HostId {
    HostId::of_genesis_key(&public())
}

pub(crate) fn clock(boot: u64) -> ClockReading {
    ClockReading {
        boot: BootNanos(boot),
        wall: WallNanos(1_700_000_000 * SECOND + boot),
        error_ns: u64::MAX,
        source: ClockSource::Unsynchronised,
    }
}

pub(crate) fn event(boot: u64, number: u64) -> Vec<u8> {
    let event = Event {
        boot_ns: BootNanos(boot),
        wall_ns: clock(boot).wall,
        fact: Fact::Loss {
            key: LossKey {
                boot: BOOT,
                sensor: SensorId::AGENT,
                cpu: 0,
                first: number,
            },
            record: Loss {
                last: number,
                count: 1,
                cause: LossCause::RingFull,
                not_before: BootNanos(boot),
                not_after: BootNanos(boot),
            },
        },
    };
    event.encode().unwrap()
}

pub(crate) fn journal(head: &ChainHead, from: u64) -> Journal {
    Journal::new(
        JournalConfig::default(),
        head.clone(),
        keyring(),
        BOOT,
        clock(from),
    )
    .unwrap()
}

/// `count` batches of one event each, behind `head`. `salt` makes other events of the same sequences.
pub(crate) fn batches(head: &ChainHead, count: u64, salt: u64) -> Vec<SealedBatch> {
    let mut journal = journal(head, 0);
    (1..=count)
        .map(|number| {
            let at = number * SECOND;
            journal.offer(event(at, number + salt * 1000), clock(at), LossCause::QueueFull);
            let batch = journal.poll_seal(clock(at), &[]).unwrap().unwrap();
            journal.handle_durable(batch.sequence());
            batch
        })
        .collect()
}

pub(crate) fn empty_spool(config: SpoolConfig) -> Spool {
    recover(config, &held(), None, vec![]).unwrap().spool
}

/// Carries out every effect at once and says what they were.
pub(crate) fn run_disk(spool: &mut Spool) -> Vec<SpoolEffect> {
    let mut done = Vec::new();
    while let Some(effect) = spool.poll_effect(BootNanos(0)) {
        done.push(effect);
        spool.handle_done();
    }
    done
}

/// A spool that holds these batches durably.
pub(crate) fn spool_of(config: SpoolConfig, batches: &[SealedBatch]) -> Spool {
    let mut spool = empty_spool(config);
    run_disk(&mut spool);
    for batch in batches {
        spool.append(batch).unwrap();
        run_disk(&mut spool);
        assert_eq!(spool.poll_durable(), Some(batch.sequence()));
    }
    spool
}
