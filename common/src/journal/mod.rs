//! The journal: decides what is sealed into which batch, and when.
//!
//! Owns the chain head while the agent runs, the continuity of what was watched, and the events that wait to
//! be sealed. Refuses to seal a batch before the one before it is durable in the spool, so that one sequence
//! is never signed twice with different content: after a crash the head comes from the spool
//! ([`crate::spool::recover`]), and a batch that was signed and not durable was seen by nobody. Says when the
//! signing key's epoch is over; the driver then replaces the keys ([`crate::keyring`]) between two batches.

mod buffer;

use alloc::vec::Vec;

use self::buffer::Buffer;
pub use self::buffer::Offered;
use crate::{
    batch::{
        BadHeader, BodyFault, ChainFault, ChainHead, ClockSource, HeaderFields, HeaderFlags, KeysDiffer,
        SensorCounters, UnverifiedHeader, encode_body, sign_header,
    },
    event::{SensorId, loss::LossCause},
    ids::{BootId, BootNanos, Nonce, Sequence, WallNanos},
    keyring::{EpochPolicy, Keyring},
    limits::{BATCH_BODY_BYTES_MAX, BATCH_EVENTS_MAX, EVENT_BYTES_MAX, HEADER_SENSORS_MAX},
};

/// When and how much to seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalConfig {
    /// Events wait at most this long to be sealed, nanoseconds.
    pub seal_interval_ns: u64,
    /// Without events a batch is sealed this often, nanoseconds: it says that the host is watched.
    pub heartbeat_ns: u64,
    /// A batch is sealed once its body would grow past this, bytes; at most the format's limit.
    pub body_bytes_max: usize,
    /// A batch is sealed once it has this many events; at most the format's limit.
    pub events_max: usize,
    /// Events waiting to be sealed take at most this much, bytes; those beyond are counted as lost.
    pub buffer_bytes_max: usize,
    /// When a key epoch ends.
    pub epoch: EpochPolicy,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            seal_interval_ns: 500_000_000,
            heartbeat_ns: 5_000_000_000,
            body_bytes_max: BATCH_BODY_BYTES_MAX / 4,
            events_max: BATCH_EVENTS_MAX,
            buffer_bytes_max: 8 * 1024 * 1024,
            epoch: EpochPolicy::default(),
        }
    }
}

/// Both of the host's clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Boot clock.
    pub boot: BootNanos,
    /// Wall clock.
    pub wall: WallNanos,
    /// Bound of the wall clock's error, nanoseconds; `u64::MAX` where unknown.
    pub error_ns: u64,
    /// What vouches for that bound.
    pub source: ClockSource,
}

/// A signed batch that must become durable before anything else happens with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBatch {
    /// The signed header.
    pub header: UnverifiedHeader,
    /// The body it binds.
    pub body: Vec<u8>,
    /// Where the chain stands behind it.
    pub head: ChainHead,
}

impl SealedBatch {
    /// Its position in the chain.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.header.claimed().sequence
    }
}

/// Why the journal cannot work. All of them are ours or the operator's to fix; none is retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The keys are not those that the chain has in force. The operator is at fault.
    #[error(transparent)]
    Keys(#[from] KeysDiffer),
    /// A bound in the configuration is over the format's limit or too small to work. The operator is at fault.
    #[error("journal setting `{setting}` is {value}; {least} to {most} are possible")]
    Config {
        /// Which.
        setting: &'static str,
        /// What it holds.
        value: u64,
        /// The least that works.
        least: u64,
        /// The most that works.
        most: u64,
    },
    /// The events do not make a body. Ours to fix.
    #[error("events do not make a batch: {0}")]
    Body(#[from] BodyFault),
    /// The fields do not make a header. Ours to fix.
    #[error("fields do not make a batch header: {0}")]
    Header(#[from] BadHeader),
    /// The signed batch does not continue the chain. Ours to fix.
    #[error("the sealed batch does not continue its chain: {0}")]
    Chain(#[from] ChainFault),
}

/// The journal of one run of the agent.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    keys: Keyring,
    boot: BootId,
    head: ChainHead,
    /// The collector's latest.
    nonce: Nonce,
    /// The one in the last batch.
    echoed: Nonce,
    /// Up to here the host was watched and sealed, in this run.
    watched: (BootNanos, WallNanos),
    first: bool,
    awaiting_durable: Option<Sequence>,
    buffer: Buffer,
    stop: Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Running,
    Stopping,
    Stopped,
}

impl Journal {
    /// Starts a run whose watch begins at `from`, behind the durable `head`.
    pub fn new(
        config: JournalConfig,
        head: ChainHead,
        keys: Keyring,
        boot: BootId,
        from: ClockReading,
    ) -> Result<Self, JournalError> {
        check_config(&config)?;
        check_keys(&keys, &head)?;
        Ok(Self {
            buffer: Buffer::new(config.buffer_bytes_max, boot, from.boot),
            config,
            keys,
            boot,
            head,
            nonce: Nonce::default(),
            echoed: Nonce::default(),
            watched: (from.boot, from.wall),
            first: true,
            awaiting_durable: None,
            stop: Stop::Running,
        })
    }

    /// Echo this nonce from now on, in batches that are watched up to now or later.
    pub fn handle_nonce(&mut self, nonce: Nonce) {
        self.nonce = nonce;
    }

    /// Takes an encoded event. Where the buffer is full it is counted, and a loss event with `cause_if_full`
    /// is sealed as soon as there is room.
    pub fn offer(&mut self, event: Vec<u8>, now: ClockReading, cause_if_full: LossCause) -> Offered {
        self.buffer.offer(event, now, cause_if_full)
    }

    /// From now on seal everything that waits; the last batch is marked as such.
    pub fn handle_stop(&mut self) {
        if self.stop == Stop::Running {
            self.stop = Stop::Stopping;
        }
    }

    /// Whether the last batch of an orderly stop was sealed and is durable.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop == Stop::Stopped && self.awaiting_durable.is_none()
    }

    /// A batch became durable in the spool: the next one may be sealed.
    pub fn handle_durable(&mut self, sequence: Sequence) {
        if self.awaiting_durable == Some(sequence) {
            self.awaiting_durable = None;
        }
    }

    /// The keys in force.
    #[must_use]
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// When a key epoch ends.
    #[must_use]
    pub fn epoch_policy(&self) -> &EpochPolicy {
        &self.config.epoch
    }

    /// Whether the keys are to be replaced now: the epoch is over, it has a durable batch, and none is on its
    /// way. Answer with [`Self::handle_ratcheted`] before anything else is sealed.
    #[must_use]
    pub fn ratchet_due(&self, now: BootNanos) -> bool {
        let next = self.head.next_sequence;
        self.awaiting_durable.is_none()
            && self.stop != Stop::Stopped
            && !self.epoch_is_empty()
            && self.keys.over(&self.config.epoch, &self.boot, now, next)
    }

    /// Goes on under the keys of the next epoch, which are durable; the old private key is overwritten.
    pub fn handle_ratcheted(&mut self, keys: Keyring) -> Result<(), JournalError> {
        check_keys(&keys, &self.head)?;
        self.keys = keys;
        Ok(())
    }

    /// Whether the chain has no batch under the keys in force.
    fn epoch_is_empty(&self) -> bool {
        self.head.keys.key != Some(self.keys.held().key)
    }

    /// When [`Self::poll_seal`] has something to seal; `None` while a batch is on its way into the spool.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNanos> {
        if self.awaiting_durable.is_some() || self.stop == Stop::Stopped {
            return None;
        }
        let wait = if self.stop == Stop::Stopping || self.batch_is_full() {
            0
        } else if self.buffer.waiting() {
            self.config.seal_interval_ns
        } else {
            self.config.heartbeat_ns
        };
        let due = self.watched.0.0.saturating_add(wait);
        // An epoch that ends needs a batch of its own, if only an empty one: it announces the next key.
        let ends = if self.epoch_is_empty() {
            self.keys.ends(&self.config.epoch, &self.boot).0
        } else {
            u64::MAX
        };
        Some(BootNanos(due.min(ends.max(self.watched.0.0))))
    }

    /// Seals the next batch if one is due. Call it only while the spool is ready, then append it there.
    ///
    /// `watched` is the instant up to which every sensor was drained: the batch claims that nothing else
    /// happened before it. `sensors` are the sensors' counters, ascending; the journal's own is added.
    pub fn poll_seal(
        &mut self,
        watched: ClockReading,
        sensors: &[SensorCounters],
    ) -> Result<Option<SealedBatch>, JournalError> {
        if self.poll_timeout().is_none_or(|due| watched.boot < due) {
            return Ok(None);
        }
        let room = (self.config.events_max, self.config.body_bytes_max);
        let events = self.buffer.take_batch(room, watched);
        let last = self.stop == Stop::Stopping && !self.buffer.waiting();
        let (body, events_root, tags_hash) = encode_body(&events)?;
        let (until_boot, until_wall) = self.watched_until(watched);
        // The latest nonce may be younger than what a batch covers that leaves events for the next one; beside such a
        // watch it would say that this host's clock is behind.
        let nonce = if until_boot < watched.boot {
            self.echoed
        } else {
            self.nonce
        };
        let mut counters: Vec<SensorCounters> = sensors.to_vec();
        counters.retain(|counted| counted.sensor != SensorId::SPOOL);
        counters.push(self.buffer.counters());
        counters.sort_by_key(|counted| counted.sensor);
        counters.truncate(HEADER_SENSORS_MAX);
        let too_long = |field: &'static str, value: usize| BadHeader::Field {
            field,
            value: value as u64,
        };
        let fields = HeaderFields {
            flags: HeaderFlags {
                first_since_start: self.first,
                last_before_stop: last,
            },
            host: self.head.host,
            key_epoch: self.keys.held().epoch,
            public_key: self.keys.held().key,
            next_public_key: self.keys.held().next,
            sequence: self.head.next_sequence,
            first_event: self.head.next_event,
            event_count: u32::try_from(events.len()).map_err(|_| too_long("event count", events.len()))?,
            body_bytes: u32::try_from(body.len()).map_err(|_| too_long("body length", body.len()))?,
            previous: self.head.hash,
            events_root,
            tags_hash,
            boot: self.boot,
            from_boot: self.watched.0,
            until_boot,
            from_wall: self.watched.1,
            until_wall,
            clock_error_ns: watched.error_ns,
            clock_source: watched.source,
            nonce,
            sensors: counters,
        };
        let header = sign_header(&fields, self.keys.secret())?;
        // Checked as any reader will check it, before anybody can see it.
        let mut head = self.head.clone();
        head.accept(header.clone())?;
        self.head = head.clone();
        self.watched = (until_boot, until_wall);
        self.echoed = nonce;
        self.first = false;
        self.awaiting_durable = Some(fields.sequence);
        if last {
            self.stop = Stop::Stopped;
        }
        Ok(Some(SealedBatch { header, body, head }))
    }

    /// Where the watch of this batch ends: before the earliest event left for the next one, so that no
    /// later batch holds an event of a time already vouched for.
    fn watched_until(&self, watched: ClockReading) -> (BootNanos, WallNanos) {
        match self.buffer.earliest() {
            Some((boot, wall)) if boot < watched.boot => {
                if boot > self.watched.0 {
                    (boot, wall)
                } else {
                    self.watched
                }
            }
            _ => (watched.boot.max(self.watched.0), watched.wall),
        }
    }

    fn batch_is_full(&self) -> bool {
        self.buffer
            .fills_batch(self.config.events_max, self.config.body_bytes_max)
    }
}

fn check_keys(keys: &Keyring, head: &ChainHead) -> Result<(), KeysDiffer> {
    if keys.held().host != head.host {
        return Err(KeysDiffer::Other(keys.held().epoch));
    }
    keys.held().fits(&head.keys)
}

fn check_config(config: &JournalConfig) -> Result<(), JournalError> {
    let check = |setting, value: usize, least: usize, most: usize| {
        if (least..=most).contains(&value) {
            Ok(())
        } else {
            Err(JournalError::Config {
                setting,
                value: value as u64,
                least: least as u64,
                most: most as u64,
            })
        }
    };
    let one_event = EVENT_BYTES_MAX + 1024;
    check(
        "body_bytes_max",
        config.body_bytes_max,
        one_event,
        BATCH_BODY_BYTES_MAX,
    )?;
    check("events_max", config.events_max, 2, BATCH_EVENTS_MAX)?;
    check(
        "buffer_bytes_max",
        config.buffer_bytes_max,
        EVENT_BYTES_MAX,
        1 << 30,
    )
}

#[cfg(test)]
mod tests;
