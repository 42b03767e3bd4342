//! The journal thread: seals what is due and makes it durable.
//!
//! Owns the loop that drives [`common::journal`] and [`common::spool`] with a real disk. Order at each batch:
//! seal and sign, write, `fdatasync`, and only then is it anybody's to see. A crash anywhere before that leaves
//! a batch that nobody has seen; recovery cuts it off or takes it whole. Between two batches it replaces the
//! signing keys when their epoch is over.

use std::time::Duration;

use common::{
    event::{
        SensorId, SensorStatus,
        sensor::{SensorState, Tier},
    },
    journal::{JournalError, SealedBatch},
    keyring::EpochBegan,
    spool::{AppendRefused, SpoolFailed},
};

use crate::{
    clock::{Clock, boot_now},
    identity::IdentityError,
    keys::{KeyStore, scrub_stack},
    pipeline::{Pipeline, State},
    spool::SpoolDisk,
};

/// Longest sleep: a bound, not a period, for every change wakes the thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Why the agent must end: what it signed or wrote last has an unknown fate, and only recovery tells.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Sealing.
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
    /// The spool took no batch though it was ready. Ours to fix.
    #[error("spool: {0}")]
    Append(#[from] AppendRefused),
    /// The signing keys could not be replaced, or it is unknown which of them the disk holds.
    #[error("signing keys: {0}")]
    Keys(#[from] IdentityError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] SpoolFailed),
}

/// Runs until everything that was offered before the stop is sealed and durable.
///
/// # Errors
/// [`Fatal`]: end the process; the next start recovers.
pub fn run(pipeline: &Pipeline, disk: &mut SpoolDisk, keys: &KeyStore) -> Result<(), Fatal> {
    let mut clock = Clock::sample();
    let mut under_way: Option<SealedBatch> = None;
    let mut guard = pipeline.lock();
    loop {
        let now = boot_now();
        let state = &mut *guard;
        if state.journal.ratchet_due(now) {
            let held = *state.journal.keys().held();
            let began = EpochBegan {
                sequence: state.spool.head().next_sequence,
                boot: state.boot,
                at: now,
            };
            drop(guard);
            let next = keys.ratchet(&held, began)?;
            tracing::info!(
                epoch = next.held().epoch.0,
                "the signing key was replaced, the old one erased"
            );
            guard = pipeline.lock();
            guard.journal.handle_ratcheted(next)?;
            // What was signed so far was signed below this frame.
            scrub_stack();
            continue;
        }
        if state.spool.ready()
            && let Some(batch) = state.journal.poll_seal(state.watched, &state.counters)?
        {
            clock = Clock::sample();
            state.spool.append(&batch)?;
            under_way = Some(batch);
        }
        if let Some(effect) = state.spool.poll_effect(now) {
            drop(guard);
            let outcome = disk.execute(&effect);
            guard = pipeline.lock();
            match outcome {
                Ok(()) => guard.spool.handle_done(),
                Err(fault) => guard.spool.handle_failed(boot_now(), fault),
            }
            while let Some(sequence) = guard.spool.poll_durable() {
                guard.journal.handle_durable(sequence);
                if let Some(batch) = under_way.take() {
                    let header_bytes = batch.header.bytes().len();
                    guard.lag.durable(sequence, header_bytes, &batch.body, boot_now());
                }
                pipeline.durable.notify_one();
            }
            state_health(&mut guard, &clock);
            continue;
        }
        if let Some(failed) = state.spool.failed() {
            return Err(failed.clone().into());
        }
        state_health(state, &clock);
        if state.sensors_ended {
            state.journal.handle_stop();
            if state.journal.stopped() {
                pipeline.durable.notify_one();
                if state.shipping_ended && state.spool.idle() {
                    return Ok(());
                }
            } else if state.seal_is_due() && state.spool.ready() {
                continue;
            }
        }
        let wait = state.spool.poll_timeout().map_or(SLEEP_MAX, |at| {
            Duration::from_nanos(at.0.saturating_sub(now.0)).min(SLEEP_MAX)
        });
        guard = pipeline.wait(guard, wait);
    }
}

/// States in the chain whether the spool takes batches.
fn state_health(state: &mut State, clock: &Clock) {
    let (health, reason) = if state.spool.no_space() {
        (
            SensorState::Degraded,
            "no space on the spool's file system; sealing resumes when there is",
        )
    } else if state.spool.full() {
        (
            SensorState::Degraded,
            "spool.bytes_max is reached; sealing resumes when the collector has taken batches",
        )
    } else {
        (SensorState::Active, "")
    };
    let tier = state
        .sensors
        .iter()
        .find(|(sensor, _)| *sensor == SensorId::AGENT)
        .map_or(Tier::Procfs, |(_, status)| status.tier);
    if health != SensorState::Active
        && !state
            .sensors
            .iter()
            .any(|(sensor, status)| *sensor == SensorId::SPOOL && status.state == health)
    {
        tracing::error!(
            reason,
            "the spool takes no batches: new events wait, then are counted as lost"
        );
    }
    state.set_sensor(
        clock,
        SensorId::SPOOL,
        SensorStatus {
            tier,
            state: health,
            probe: "spool/".into(),
            reason: reason.into(),
        },
    );
}
