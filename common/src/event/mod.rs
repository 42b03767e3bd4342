//! Events: self-contained facts about one entity at one instant.
//!
//! An event is an envelope (kind, version, times, entity key: fixed big-endian fields) and a body (postcard of
//! the kind's record). It carries the entity's whole record, never a delta, so that folding is last-write-wins
//! per key. Bytes: `docs/format/event.md`. One file per kind; numbers are stable and never reused.

pub mod baseline;
pub mod boot;
pub mod connection;
mod field;
pub mod host;
pub mod listener;
pub mod loss;
pub mod process;
pub mod sensor;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use self::{
    baseline::{Baseline, BaselineKey},
    boot::Boot,
    connection::{Connection, SocketKey},
    field::{Field, Source, Why},
    host::Host,
    listener::Listener,
    loss::{Loss, LossKey},
    process::{Process, ProcessKey},
    sensor::{SensorId, SensorStatus},
};
use crate::{
    codec::{Reader, Short, Write},
    ids::{BootId, BootNanos, HostId, WallNanos},
    limits::{EVENT_BYTES_MAX, KEY_BYTES_MAX},
};

/// Version written for every kind today; older versions decode for ever.
pub const VERSION: u8 = 1;

/// Bytes of the envelope before the entity key.
const ENVELOPE_FIXED_BYTES: usize = 2 + 1 + 1 + 8 + 8;

/// What an event is about. The numbers are on disk for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u16)]
pub enum Kind {
    /// The machine: kernel, operating system, processors, clock.
    Host = 1,
    /// One run of the kernel.
    Boot = 2,
    /// A process (thread group).
    Process = 3,
    /// A TCP socket that accepts connections.
    Listener = 4,
    /// A TCP connection, as one end of it.
    Connection = 5,
    /// Events that happened and were not seen.
    Loss = 6,
    /// Whether a sensor works, on which tier, and why not.
    Sensor = 7,
    /// A full snapshot taken by the agent: all that existed then is in the events between its two marks.
    Baseline = 8,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Self; 8] = [
        Self::Host,
        Self::Boot,
        Self::Process,
        Self::Listener,
        Self::Connection,
        Self::Loss,
        Self::Sensor,
        Self::Baseline,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The kind of that number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The word used in commands and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Boot => "boot",
            Self::Process => "process",
            Self::Listener => "listener",
            Self::Connection => "connection",
            Self::Loss => "loss",
            Self::Sensor => "sensor",
            Self::Baseline => "baseline",
        }
    }
}

/// One fact: when, about which entity, and the entity's whole record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, on the host's boot clock.
    pub boot_ns: BootNanos,
    /// When, on the host's wall clock; its error bound is in the batch header.
    pub wall_ns: WallNanos,
    /// The entity and its record.
    pub fact: Fact,
}

/// An entity's key with its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "entity", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the kinds are described at `Kind`, the records at their types"
)]
pub enum Fact {
    Host { key: HostId, record: Host },
    Boot { key: BootId, record: Boot },
    Process { key: ProcessKey, record: Process },
    Listener { key: SocketKey, record: Listener },
    Connection { key: SocketKey, record: Connection },
    Loss { key: LossKey, record: Loss },
    Sensor { key: SensorId, record: SensorStatus },
    Baseline { key: BaselineKey, record: Baseline },
}

impl Fact {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Host { .. } => Kind::Host,
            Self::Boot { .. } => Kind::Boot,
            Self::Process { .. } => Kind::Process,
            Self::Listener { .. } => Kind::Listener,
            Self::Connection { .. } => Kind::Connection,
            Self::Loss { .. } => Kind::Loss,
            Self::Sensor { .. } => Kind::Sensor,
            Self::Baseline { .. } => Kind::Baseline,
        }
    }
}

/// An entity key with fixed bytes, ordered as its bytes are.
pub trait Key: Sized {
    /// Appends the key's bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the key back.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short>;
}

impl Key for HostId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        reader.array("host id").map(Self)
    }
}

impl Key for BootId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        reader.array("boot id").map(Self)
    }
}

/// Why bytes are not an event. The host's agent is at fault, or whoever altered the bytes since.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    /// It ends too early.
    #[error("event cut short: {0}")]
    Short(#[from] Short),
    /// Longer than any event may be.
    #[error("event of {0} bytes is longer than the limit of {EVENT_BYTES_MAX}")]
    TooLong(usize),
    /// A kind or version this build does not know: a newer agent's. The bytes stay provable.
    #[error("event kind {kind} version {version} is unknown here; upgrade this program to read it")]
    UnknownKind {
        /// The kind's number.
        kind: u16,
        /// The version.
        version: u8,
    },
    /// The key's length does not fit the kind.
    #[error("key of {found} bytes does not fit event kind {kind}")]
    KeyLength {
        /// The kind's number.
        kind: u16,
        /// Length found, bytes.
        found: usize,
    },
    /// The record does not decode.
    #[error("record of event kind {kind} does not decode: {cause}")]
    Record {
        /// The kind's number.
        kind: u16,
        /// What postcard says.
        cause: postcard::Error,
    },
}

/// The envelope of an event, read without its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The kind's number, known or not.
    pub kind: u16,
    /// The record's version.
    pub version: u8,
    /// When, on the boot clock.
    pub boot_ns: BootNanos,
    /// When, on the wall clock.
    pub wall_ns: WallNanos,
    /// The entity key's bytes, unique together with the kind.
    pub key: &'a [u8],
    /// The record, encoded.
    pub record: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads the fixed part of an event.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadEvent> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(BadEvent::TooLong(bytes.len()));
        }
        let mut reader = Reader::new(bytes);
        let kind = reader.u16("kind")?;
        let version = reader.u8("version")?;
        let key_bytes = usize::from(reader.u8("key length")?);
        let boot_ns = BootNanos(reader.u64("boot time")?);
        let wall_ns = WallNanos(reader.u64("wall time")?);
        if key_bytes > KEY_BYTES_MAX {
            return Err(BadEvent::KeyLength {
                kind,
                found: key_bytes,
            });
        }
        let key = reader.take("entity key", key_bytes)?;
        Ok(Self {
            kind,
            version,
            boot_ns,
            wall_ns,
            key,
            record: reader.rest(),
        })
    }
}

impl Event {
    /// The bytes that are hashed, sealed and stored.
    pub fn encode(&self) -> Result<Vec<u8>, BadEvent> {
        let mut key = Vec::with_capacity(KEY_BYTES_MAX);
        let kind = self.fact.kind().number();
        let record = match &self.fact {
            Fact::Host { key: k, record } => encode_parts(k, record, &mut key),
            Fact::Boot { key: k, record } => encode_parts(k, record, &mut key),
            Fact::Process { key: k, record } => encode_parts(k, record, &mut key),
            Fact::Listener { key: k, record } => encode_parts(k, record, &mut key),
            Fact::Connection { key: k, record } => encode_parts(k, record, &mut key),
            Fact::Loss { key: k, record } => encode_parts(k, record, &mut key),
            Fact::Sensor { key: k, record } => encode_parts(k, record, &mut key),
            Fact::Baseline { key: k, record } => encode_parts(k, record, &mut key),
        }
        .map_err(|cause| BadEvent::Record { kind, cause })?;
        let key_bytes = u8::try_from(key.len()).map_err(|_| BadEvent::KeyLength {
            kind,
            found: key.len(),
        })?;
        let mut bytes = Vec::with_capacity(ENVELOPE_FIXED_BYTES + key.len() + record.len());
        bytes.put_u16(kind);
        bytes.put_u8(VERSION);
        bytes.put_u8(key_bytes);
        bytes.put_u64(self.boot_ns.0);
        bytes.put_u64(self.wall_ns.0);
        bytes.extend_from_slice(&key);
        bytes.extend_from_slice(&record);
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(BadEvent::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads an event; every byte must be accounted for.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadEvent> {
        let envelope = Envelope::parse(bytes)?;
        let kind = match (Kind::from_number(envelope.kind), envelope.version) {
            (Some(kind), VERSION) => kind,
            _ => {
                return Err(BadEvent::UnknownKind {
                    kind: envelope.kind,
                    version: envelope.version,
                });
            }
        };
        let fact = match kind {
            Kind::Host => decode_parts(&envelope).map(|(key, record)| Fact::Host { key, record }),
            Kind::Boot => decode_parts(&envelope).map(|(key, record)| Fact::Boot { key, record }),
            Kind::Process => decode_parts(&envelope).map(|(key, record)| Fact::Process { key, record }),
            Kind::Listener => decode_parts(&envelope).map(|(key, record)| Fact::Listener { key, record }),
            Kind::Connection => decode_parts(&envelope).map(|(key, record)| Fact::Connection { key, record }),
            Kind::Loss => decode_parts(&envelope).map(|(key, record)| Fact::Loss { key, record }),
            Kind::Sensor => decode_parts(&envelope).map(|(key, record)| Fact::Sensor { key, record }),
            Kind::Baseline => decode_parts(&envelope).map(|(key, record)| Fact::Baseline { key, record }),
        }?;
        Ok(Self {
            boot_ns: envelope.boot_ns,
            wall_ns: envelope.wall_ns,
            fact,
        })
    }
}

fn encode_parts<K: Key, R: Serialize>(
    key: &K,
    record: &R,
    key_out: &mut Vec<u8>,
) -> Result<Vec<u8>, postcard::Error> {
    key.put(key_out);
    postcard::to_allocvec(record)
}

fn decode_parts<'a, K: Key, R: Deserialize<'a>>(envelope: &Envelope<'a>) -> Result<(K, R), BadEvent> {
    let mut reader = Reader::new(envelope.key);
    let key = K::read(&mut reader)?;
    if !reader.rest().is_empty() {
        return Err(BadEvent::KeyLength {
            kind: envelope.kind,
            found: envelope.key.len(),
        });
    }
    match postcard::take_from_bytes(envelope.record) {
        Ok((record, [])) => Ok((key, record)),
        Ok(_) => Err(BadEvent::Record {
            kind: envelope.kind,
            cause: postcard::Error::DeserializeBadEncoding,
        }),
        Err(cause) => Err(BadEvent::Record {
            kind: envelope.kind,
            cause,
        }),
    }
}

#[cfg(test)]
mod tests;
