//! When batches are sealed, what they claim to have watched, and what overflow leaves behind.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::BodyView,
    event::{Event, Fact, loss::Loss},
    ids::EventIndex,
    testing::{BOOT, SECOND, batches, clock, event, host, journal, keyring, ratcheted, record},
};

fn genesis() -> ChainHead {
    ChainHead::genesis(host())
}

fn with(config: JournalConfig) -> Journal {
    Journal::new(config, genesis(), keyring(), BOOT, clock(0)).unwrap()
}

fn events_of(batch: &SealedBatch) -> Vec<Vec<u8>> {
    let view = BodyView::parse(&batch.body).unwrap();
    view.events().iter().map(|event| event.to_vec()).collect()
}

fn seal(journal: &mut Journal, at: u64) -> SealedBatch {
    let batch = journal
        .poll_seal(clock(at), &[])
        .unwrap()
        .expect("a batch is due");
    journal.handle_durable(batch.sequence());
    batch
}

#[test]
fn events_wait_for_the_interval_and_idleness_for_the_heartbeat() {
    let mut journal = journal(&genesis(), 0);
    assert_eq!(journal.poll_timeout(), Some(BootNanos(5 * SECOND)));
    journal.offer(event(7, 0), clock(7), LossCause::QueueFull);
    assert_eq!(journal.poll_timeout(), Some(BootNanos(SECOND / 2)));
    assert_eq!(journal.poll_seal(clock(SECOND / 2 - 1), &[]), Ok(None));
    assert_eq!(events_of(&seal(&mut journal, SECOND / 2)).len(), 1);
    let heartbeat = seal(&mut journal, SECOND / 2 + 5 * SECOND);
    assert_eq!(heartbeat.header.claimed().event_count, 0);
    assert_eq!(heartbeat.header.claimed().first_event, EventIndex(1));
}

#[test]
fn a_full_batch_does_not_wait() {
    let mut journal = with(JournalConfig {
        events_max: 4,
        ..JournalConfig::default()
    });
    for number in 0..4 {
        journal.offer(event(number, number), clock(number), LossCause::QueueFull);
    }
    assert_eq!(journal.poll_timeout(), Some(BootNanos(0)));
}

#[test]
fn nothing_is_sealed_before_the_batch_before_is_durable() {
    let mut journal = journal(&genesis(), 0);
    let batch = journal.poll_seal(clock(5 * SECOND), &[]).unwrap().unwrap();
    assert_eq!(journal.poll_timeout(), None);
    assert_eq!(journal.poll_seal(clock(50 * SECOND), &[]), Ok(None));
    journal.handle_durable(Sequence(batch.sequence().0 + 1));
    assert_eq!(journal.poll_seal(clock(50 * SECOND), &[]), Ok(None));
    journal.handle_durable(batch.sequence());
    assert!(journal.poll_seal(clock(50 * SECOND), &[]).unwrap().is_some());
}

/// A host whose spool was full for a while seals what waited batch by batch, the first of them watched up to long ago.
/// Beside the nonce of a moment ago that read as a clock far behind, and the collector stated it of an honest host.
#[test]
fn a_batch_that_leaves_events_behind_echoes_no_nonce_younger_than_its_watch() {
    let mut journal = with(JournalConfig {
        events_max: 4,
        ..JournalConfig::default()
    });
    let [first, second] = [Nonce([1; 32]), Nonce([2; 32])];
    journal.handle_nonce(first);
    journal.offer(event(0, 0), clock(0), LossCause::QueueFull);
    let echoed = |batch: &SealedBatch| batch.header.claimed().nonce;
    assert_eq!(echoed(&seal(&mut journal, SECOND)), first);
    for number in 1..=5 {
        journal.offer(
            event(2 * SECOND + number, number),
            clock(2 * SECOND + number),
            LossCause::QueueFull,
        );
    }
    journal.handle_nonce(second);
    let now = 60 * SECOND;
    let early = seal(&mut journal, now);
    assert!(early.header.claimed().until_boot < BootNanos(now));
    assert_eq!(echoed(&early), first, "given before that batch's watch ended");
    let rest = seal(&mut journal, now);
    assert_eq!(
        (rest.header.claimed().until_boot, echoed(&rest)),
        (BootNanos(now), second)
    );
}

/// What is left for the next batch must not lie in the time that this one vouches for.
#[test]
fn the_watch_is_continuous_and_ends_before_the_earliest_event_left() {
    let mut journal = with(JournalConfig {
        events_max: 3,
        ..JournalConfig::default()
    });
    for (number, at) in [100, 200, 900, 700].into_iter().enumerate() {
        journal.offer(event(at, number as u64), clock(at), LossCause::QueueFull);
    }
    let first = seal(&mut journal, 1000);
    assert_eq!(events_of(&first).len(), 2);
    let fields = first.header.claimed().clone();
    assert!(fields.flags.first_since_start);
    assert_eq!(
        (fields.from_boot, fields.until_boot),
        (BootNanos(0), BootNanos(700))
    );
    let second = seal(&mut journal, SECOND);
    let later = second.header.claimed();
    assert!(!later.flags.first_since_start);
    assert_eq!(later.from_boot, fields.until_boot);
    assert_eq!(later.from_wall, fields.until_wall);
    assert_eq!(later.until_boot, BootNanos(SECOND));
}

#[test]
fn a_second_run_claims_nothing_about_the_time_between() {
    let before = batches(&genesis(), 2, 0);
    let mut journal = journal(&before[1].head, 60 * SECOND);
    let batch = seal(&mut journal, 66 * SECOND);
    let fields = batch.header.claimed();
    assert!(fields.flags.first_since_start);
    assert_eq!(fields.sequence, Sequence(2));
    assert_eq!(fields.from_boot, BootNanos(60 * SECOND));
    assert_eq!(fields.previous, before[1].header.hash());
}

#[test]
fn an_orderly_stop_seals_everything_and_marks_the_last_batch() {
    let mut journal = with(JournalConfig {
        events_max: 3,
        ..JournalConfig::default()
    });
    for number in 0..5 {
        journal.offer(event(number, number), clock(number), LossCause::QueueFull);
    }
    journal.handle_stop();
    let mut flags = vec![];
    let mut count = 0;
    while !journal.stopped() {
        let batch = seal(&mut journal, 10);
        count += batch.header.claimed().event_count;
        flags.push(batch.header.claimed().flags.last_before_stop);
    }
    assert_eq!((count, flags), (5, vec![false, false, true]));
    assert_eq!(journal.poll_seal(clock(100 * SECOND), &[]), Ok(None));
}

fn losses(batches: &[SealedBatch]) -> Vec<(u64, Loss)> {
    let events = batches.iter().flat_map(events_of);
    events
        .filter_map(|bytes| match Event::decode(&bytes).unwrap().fact {
            Fact::Loss { key, record } if key.sensor == SensorId::SPOOL => Some((key.first, record)),
            _ => None,
        })
        .collect()
}

#[test]
fn overflow_becomes_one_loss_event_and_the_counters_balance() {
    let mut journal = with(JournalConfig {
        buffer_bytes_max: EVENT_BYTES_MAX,
        ..JournalConfig::default()
    });
    let mut kept = 0;
    for number in 0..1000 {
        if journal.offer(event(number, number), clock(number), LossCause::SpoolFull) == Offered::Kept {
            kept += 1;
        }
    }
    assert!(kept > 100 && kept < 1000);
    let batch = seal(&mut journal, SECOND);
    let found = losses(core::slice::from_ref(&batch));
    assert_eq!(found.len(), 1);
    let (first, loss) = &found[0];
    assert_eq!((*first, loss.last, loss.count), (kept, 999, 1000 - kept));
    assert_eq!(loss.cause, LossCause::SpoolFull);
    assert_eq!(
        (loss.not_before, loss.not_after),
        (BootNanos(kept), BootNanos(999))
    );
    let counters = batch.header.claimed().sensors[0];
    assert_eq!((counters.happened, counters.lost), (1000, 1000 - kept));
}

#[test]
fn a_malformed_event_is_counted_and_takes_no_other_along() {
    let mut journal = journal(&genesis(), 9);
    assert_eq!(
        journal.offer(vec![1], clock(10), LossCause::QueueFull),
        Offered::Lost
    );
    assert_eq!(
        journal.offer(event(11, 1), clock(11), LossCause::QueueFull),
        Offered::Kept
    );
    let batch = seal(&mut journal, SECOND);
    let found = losses(core::slice::from_ref(&batch));
    assert_eq!(found[0].1.cause, LossCause::Malformed);
    // Numbered from the start of the run, so that another run of the same boot has other keys.
    assert_eq!((found[0].0, found[0].1.count), (9, 1));
    assert_eq!(events_of(&batch).len(), 2);
}

#[test]
fn a_foreign_key_and_impossible_settings_are_refused() {
    let elsewhere = ChainHead::genesis(crate::ids::HostId([1; 32]));
    let refused = Journal::new(JournalConfig::default(), elsewhere, keyring(), BOOT, clock(0));
    assert!(matches!(refused, Err(JournalError::Keys(KeysDiffer::Other(_)))));
    let later = ratcheted(&record(), 0, 0).keyring();
    let refused = Journal::new(JournalConfig::default(), genesis(), later, BOOT, clock(0));
    assert!(matches!(
        refused,
        Err(JournalError::Keys(KeysDiffer::SpoolOlder { .. }))
    ));
    let config = JournalConfig {
        events_max: BATCH_EVENTS_MAX + 1,
        ..JournalConfig::default()
    };
    let refused = Journal::new(config, genesis(), keyring(), BOOT, clock(0));
    assert!(matches!(
        refused,
        Err(JournalError::Config {
            setting: "events_max",
            ..
        })
    ));
}

/// Keys are replaced between two durable batches, never in an epoch without one.
#[test]
fn keys_are_replaced_once_the_epoch_is_over_and_has_a_durable_batch() {
    let config = JournalConfig {
        epoch: EpochPolicy {
            age_ns: 20 * SECOND,
            batches: 3,
        },
        ..JournalConfig::default()
    };
    let mut journal = with(config);
    assert!(
        !journal.ratchet_due(BootNanos(99 * SECOND)),
        "nothing announced the next key"
    );
    let batch = journal.poll_seal(clock(5 * SECOND), &[]).unwrap().unwrap();
    assert_eq!(batch.header.claimed().next_public_key, record().held().next);
    assert!(
        !journal.ratchet_due(BootNanos(99 * SECOND)),
        "it is on its way to the disk"
    );
    journal.handle_durable(batch.sequence());
    assert!(!journal.ratchet_due(BootNanos(19 * SECOND)) && journal.ratchet_due(BootNanos(20 * SECOND)));
    // By count as well.
    seal(&mut journal, 10 * SECOND);
    assert!(!journal.ratchet_due(BootNanos(15 * SECOND)));
    seal(&mut journal, 15 * SECOND);
    assert!(journal.ratchet_due(BootNanos(15 * SECOND)));
    let next = ratcheted(&record(), 3, 15 * SECOND);
    let skipping = ratcheted(&next, 3, 15 * SECOND).keyring();
    assert!(journal.handle_ratcheted(skipping).is_err());
    journal.handle_ratcheted(next.keyring()).unwrap();
    assert!(!journal.ratchet_due(BootNanos(99 * SECOND)));
    let first = seal(&mut journal, 20 * SECOND).header;
    let fields = first.claimed();
    assert_eq!((fields.key_epoch.0, fields.public_key), (1, record().held().next));
    assert_eq!(fields.next_public_key, next.held().next);
}

/// Where nothing happens an empty batch is sealed under a key before it goes, though no heartbeat is due.
#[test]
fn an_epoch_that_would_stay_empty_gets_a_heartbeat_of_its_own() {
    let config = JournalConfig {
        epoch: EpochPolicy {
            age_ns: SECOND,
            batches: 100,
        },
        ..JournalConfig::default()
    };
    let mut journal = with(config);
    assert_eq!(journal.poll_timeout(), Some(BootNanos(SECOND)));
    assert_eq!(seal(&mut journal, SECOND).header.claimed().event_count, 0);
    assert!(journal.ratchet_due(BootNanos(SECOND)));
    assert_eq!(
        journal.poll_timeout(),
        Some(BootNanos(6 * SECOND)),
        "it is not empty any more"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn prop_every_event_is_sealed_once_or_counted_as_lost(
        offers in prop::collection::vec((0u64..300_000_000, 0u8..10), 1..200), events_max in 2usize..20,
    ) {
        let mut journal = with(JournalConfig {
            events_max,
            buffer_bytes_max: EVENT_BYTES_MAX,
            ..JournalConfig::default()
        });
        let (mut now, mut sealed, mut kept) = (0, Vec::new(), Vec::new());
        for (number, (gap, what)) in offers.iter().enumerate() {
            now += gap;
            let bytes = event(now, number as u64);
            let offered = if *what == 0 { vec![0; 3] } else { bytes.clone() };
            if journal.offer(offered, clock(now), LossCause::QueueFull) == Offered::Kept {
                kept.push(bytes);
            }
            if *what < 7 && let Some(batch) = journal.poll_seal(clock(now), &[]).unwrap() {
                prop_assert!(batch.header.claimed().event_count as usize <= events_max);
                journal.handle_durable(batch.sequence());
                sealed.push(batch);
            }
        }
        journal.handle_stop();
        while !journal.stopped() {
            let batch = journal.poll_seal(clock(now + SECOND), &[]).unwrap().unwrap();
            journal.handle_durable(batch.sequence());
            sealed.push(batch);
        }
        let mut chain = genesis();
        let mut watched = BootNanos(0);
        for batch in &sealed {
            let header = chain.accept(batch.header.clone()).unwrap();
            prop_assert!(header.check_body(&batch.body).is_ok());
            prop_assert_eq!(header.fields().from_boot, watched);
            watched = header.fields().until_boot;
        }
        let lost: u64 = losses(&sealed).iter().map(|(_, loss)| loss.count).sum();
        prop_assert_eq!(lost + kept.len() as u64, offers.len() as u64);
        let own: Vec<Vec<u8>> = sealed.iter().flat_map(events_of).filter(|bytes| kept.contains(bytes)).collect();
        prop_assert_eq!(own, kept);
    }
}
