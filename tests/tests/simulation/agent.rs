//! One host: the real journal, spool and session over a simulated disk.

use std::collections::BTreeMap;

use common::{
    batch::{ClockSource, HeldKeys},
    event::{
        Event, Fact, SensorId,
        loss::{Loss, LossCause, LossKey},
    },
    ids::{BootId, BootNanos, HostId, Sequence, WallNanos},
    journal::{ClockReading, Journal, JournalConfig, Offered},
    keyring::{
        EpochBegan, EpochPolicy, KEY_FILE_BYTES, KEY_SLOT_STRIDE, KeyRecord, OtherSlot, Seed, read_key_file,
    },
    limits::{BATCH_BODY_BYTES_MAX, EVENT_BYTES_MAX},
    note::VerifierKey,
    session::{AgentConfig, AgentSession, Seen},
    spool::{Finding, SegmentId, SpoolConfig, SpoolEffect, recover, scan_segment},
    witness::Policy,
};

use crate::{disk::Disk, rng::Rng, shipper::Shipper, watch::WALL_ORIGIN};

/// A host; `shipper` is `None` while its agent is down.
pub(crate) struct Agent {
    /// The key file: written in place, a slot at a time.
    key_file: Vec<u8>,
    pub(crate) host: HostId,
    pub(crate) disk: Disk,
    pub(crate) shipper: Option<Shipper>,
    pub(crate) life: u64,
    pub(crate) disk_work: Option<SpoolEffect>,
    pub(crate) wake_at: Option<u64>,
    pub(crate) findings: BTreeMap<&'static str, u64>,
    boot: BootId,
    boot_origin: u64,
    next_event: u64,
    pub(crate) offered: u64,
}

impl Agent {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let record = KeyRecord::first(seed(rng), seed(rng), BootId::default(), BootNanos(0));
        let mut key_file = vec![0; KEY_FILE_BYTES];
        write_slot(&mut key_file, record.slot(), &record.encode());
        Self {
            host: record.host,
            key_file,
            disk: Disk::default(),
            shipper: None,
            life: 0,
            disk_work: None,
            wake_at: None,
            findings: BTreeMap::new(),
            boot: BootId::default(),
            boot_origin: 0,
            next_event: 0,
            offered: 0,
        }
    }

    /// This host's boot clock.
    pub(crate) fn local(&self, now: u64) -> BootNanos {
        BootNanos(now - self.boot_origin)
    }

    /// The simulation's time of a boot clock reading.
    pub(crate) fn global(&self, at: BootNanos) -> u64 {
        at.0.saturating_add(self.boot_origin)
    }

    pub(crate) fn clock(&self, now: u64) -> ClockReading {
        ClockReading {
            boot: self.local(now),
            wall: WallNanos(WALL_ORIGIN + now),
            error_ns: u64::MAX,
            source: ClockSource::Unsynchronised,
        }
    }

    /// The machine starts: a new boot.
    pub(crate) fn reboot(&mut self, now: u64, rng: &mut Rng) {
        self.boot_origin = now;
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&rng.next().to_be_bytes());
        self.boot = BootId(boot);
    }

    /// The agent starts, as the real one does: recover the spool, then join the machines behind it.
    /// It trims nothing before enough `witnesses` cosigned, where they are given.
    pub(crate) fn start(
        &mut self,
        now: u64,
        rng: &mut Rng,
        ledger_key: &VerifierKey,
        witnesses: Option<Policy>,
    ) -> Result<(), String> {
        self.disk.sync_segments();
        let scans: Vec<_> = self
            .disk
            .segments()
            .map(|(id, bytes)| scan_segment(&self.host, id, bytes))
            .collect();
        if let Some(last) = scans.last() {
            self.disk.write_again(last.last_written());
        }
        let config = SpoolConfig {
            segment_bytes_max: 6_000,
            spool_bytes_max: 4 * 1024 * 1024,
            batches_max: 24,
        };
        let (keys, other) = read_key_file(&self.key_file).map_err(|error| format!("key file: {error}"))?;
        if other == OtherSlot::NotErased {
            write_slot(&mut self.key_file, 1 - keys.slot(), &[0; KEY_SLOT_STRIDE]);
        }
        let recovered = recover(config, &keys.held(), self.disk.head(), scans)
            .map_err(|error| format!("spool not recovered: {error}"))?;
        for finding in recovered.findings {
            let name = match finding {
                Finding::TornTail { .. } => "torn tail",
                Finding::HeadSlot { .. } => "head slot",
                // Nothing rots in this simulation: whatever else is found was lost or made up.
                other => return Err(format!("recovery found {other}")),
            };
            *self.findings.entry(name).or_default() += 1;
        }
        let journal = Journal::new(
            JournalConfig {
                seal_interval_ns: 400_000_000,
                heartbeat_ns: 3_000_000_000,
                body_bytes_max: (EVENT_BYTES_MAX + 2048).min(BATCH_BODY_BYTES_MAX),
                events_max: 12,
                buffer_bytes_max: EVENT_BYTES_MAX,
                epoch: EpochPolicy {
                    age_ns: 6_000_000_000,
                    batches: 4,
                },
            },
            recovered.spool.head().clone(),
            keys.keyring(),
            self.boot,
            self.clock(now),
        )
        .map_err(|error| format!("journal: {error}"))?;
        let note = Some(self.disk.checkpoint()).filter(|note| !note.is_empty());
        let (seen, forgotten) = Seen::recall(note, recovered.spool.mark(), &ledger_key.clone().into())
            .map_err(|error| format!("remembered checkpoint: {error}"))?;
        if let Some(forgotten) = forgotten {
            return Err(format!("a checkpoint that nobody touched: {forgotten}"));
        }
        let mut settings = AgentConfig::new("sim", ledger_key.clone());
        settings.witnesses = witnesses;
        settings.connect_ns = 2_000_000_000;
        settings.keepalive_ns = 1_000_000_000;
        settings.idle_ns = 4_000_000_000;
        settings.backoff_min_ns = 50_000_000;
        settings.backoff_max_ns = 2_000_000_000;
        let session = AgentSession::new(settings, seen, rng.next(), self.local(now));
        self.shipper = Some(Shipper::new(journal, recovered.spool, session));
        Ok(())
    }

    /// Replaces the keys when their epoch is over. Now and then the process is killed on the way, anywhere in
    /// one of the two writes: then `false`, and whoever asked ends it.
    pub(crate) fn ratchet(&mut self, now: u64, rng: &mut Rng, calm: bool) -> Result<bool, String> {
        let (boot, local) = (self.boot, self.local(now));
        let Some(shipper) = &mut self.shipper else {
            return Ok(true);
        };
        if !shipper.journal().ratchet_due(local) {
            return Ok(true);
        }
        let (keys, _) = read_key_file(&self.key_file).map_err(|error| format!("key file: {error}"))?;
        let held: HeldKeys = *shipper.journal().keys().held();
        if keys.held() != held {
            return Err("the key file does not hold the keys in force".into());
        }
        let sequence = shipper.spool().head().next_sequence;
        let began = EpochBegan {
            sequence,
            boot,
            at: local,
        };
        let next = keys.successor(seed(rng), began).ok_or("epochs ran out")?;
        let steps: [(usize, Vec<u8>); 2] = [
            (next.slot(), next.encode().to_vec()),
            (keys.slot(), vec![0; KEY_SLOT_STRIDE]),
        ];
        let killed =
            (!calm && rng.next().is_multiple_of(12)).then(|| rng.range(0, 2 * KEY_SLOT_STRIDE as u64));
        let mut left = killed.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(0));
        for (slot, bytes) in &steps {
            let length = left.min(bytes.len());
            write_slot(&mut self.key_file, *slot, &bytes[..length]);
            left -= length;
        }
        if killed.is_some() {
            return Ok(false);
        }
        shipper
            .journal()
            .handle_ratcheted(next.keyring())
            .map_err(|error| error.to_string())?;
        Ok(true)
    }

    /// The process ends. What the disk was doing is done in part.
    pub(crate) fn die(&mut self, power: bool, rng: &mut Rng) {
        self.shipper = None;
        self.life += 1;
        self.wake_at = None;
        if let Some(effect) = self.disk_work.take() {
            self.disk.apply_part(&effect, rng);
        }
        if power {
            self.disk.power_cut(rng);
        }
    }

    /// Something happens on the host. Its number is in the event, so that the oracle can count.
    pub(crate) fn produce(&mut self, now: u64) {
        let clock = self.clock(now);
        let (boot, number) = (self.boot, self.next_event);
        let Some(shipper) = &mut self.shipper else { return };
        let event = Event {
            boot_ns: clock.boot,
            wall_ns: clock.wall,
            fact: Fact::Loss {
                key: LossKey {
                    boot,
                    sensor: SensorId::AGENT,
                    cpu: 7,
                    first: number,
                },
                record: Loss {
                    last: number,
                    count: 1,
                    cause: LossCause::RingFull,
                    not_before: clock.boot,
                    not_after: clock.boot,
                },
            },
        };
        self.next_event += 1;
        if shipper.handle_event(event.encode().unwrap(), clock) == Offered::Kept {
            self.offered += 1;
        }
    }

    /// Sequences of the batches in a segment, as it lies on the disk.
    pub(crate) fn batches_in(&self, segment: SegmentId) -> Vec<Sequence> {
        self.disk
            .segments()
            .filter(|(id, _)| *id == segment)
            .flat_map(|(id, bytes)| scan_segment(&self.host, id, bytes).records)
            .map(|record| record.sequence)
            .collect()
    }
}

fn seed(rng: &mut Rng) -> Seed {
    let bytes = rng.bytes32();
    Seed::filled(|seed| {
        *seed = bytes;
        Ok::<(), ()>(())
    })
    .unwrap()
}

fn write_slot(file: &mut [u8], slot: usize, bytes: &[u8]) {
    let at = slot * KEY_SLOT_STRIDE;
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipper::ShipperEffect;
    use common::note::SignerKey;

    /// Seals a batch, of which the disk is asked to write the record and not yet to sync it.
    fn write_unsynced(agent: &mut Agent, now: u64, rng: &mut Rng) -> SpoolEffect {
        agent.produce(now);
        let (clock, local) = (agent.clock(now), agent.local(now));
        let shipper = agent.shipper.as_mut().unwrap();
        loop {
            shipper.seal(clock, &[]).unwrap();
            match shipper.poll_effect(local).unwrap() {
                ShipperEffect::Disk(sync @ SpoolEffect::Sync { .. }) => return sync,
                ShipperEffect::Disk(effect) => {
                    agent.disk.execute(&effect, rng).unwrap();
                    shipper.handle_disk(local, Ok(()));
                }
                ShipperEffect::Session(_) => {}
            }
        }
    }

    /// An agent that ended before its first batch was synced, or by that sync, is started, and the power fails.
    fn outlasts_a_power_cut(fails: bool) {
        let ledger = SignerKey::from_seed("sim.example/ledger", &[1; 32]).unwrap();
        for seed in 0..64 {
            let mut rng = Rng::new(seed);
            let mut agent = Agent::new(&mut rng);
            agent.start(0, &mut rng, ledger.verifier(), None).unwrap();
            let sync = write_unsynced(&mut agent, 1_000_000_000, &mut rng);
            if fails {
                agent.disk.fail(&sync, &mut rng);
            }
            agent.die(false, &mut rng);
            agent
                .start(2_000_000_000, &mut rng, ledger.verifier(), None)
                .unwrap();
            let taken = agent.shipper.as_ref().unwrap().spool().head().next_sequence;
            assert_eq!(taken, Sequence(1), "the record was whole");
            agent.die(true, &mut rng);
            agent.reboot(3_000_000_000, &mut rng);
            agent
                .start(3_000_000_000, &mut rng, ledger.verifier(), None)
                .unwrap();
            let left = agent.shipper.as_ref().unwrap().spool().head().next_sequence;
            assert_eq!(left, taken, "seed {seed}: what may have been sent is gone");
        }
    }

    #[test]
    fn a_batch_found_after_a_kill_outlasts_the_power_cut_that_follows() {
        outlasts_a_power_cut(false);
    }

    /// An agent ended by a failed sync, the next one synced again, and Linux, which had marked the pages clean, wrote
    /// nothing and reported success: the batch was sent, and a power cut took it.
    #[test]
    fn a_batch_whose_sync_failed_outlasts_the_power_cut_after_the_next_start() {
        outlasts_a_power_cut(true);
    }
}
