//! The batch header: fixed fields, per-sensor counters, Ed25519 signature.

use alloc::vec::Vec;

use ed25519_dalek::{Signature, Signer, SigningKey};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{Reader, Short, Write},
    event::SensorId,
    ids::{BootId, BootNanos, EventIndex, Hash, HostId, KeyEpoch, Nonce, PublicKey, Sequence, WallNanos},
    limits::{BATCH_BODY_BYTES_MAX, BATCH_EVENTS_MAX, HEADER_BYTES_MAX, HEADER_SENSORS_MAX},
    signature::{self, LastKey},
};

/// First bytes of every header.
pub(crate) const MAGIC: &[u8; 4] = b"HLBH";
/// The format written today.
const FORMAT_VERSION: u16 = 1;
/// Domain separation: what is signed is this prefix followed by the header without its signature.
const SIGNING_PREFIX: &[u8] = b"hostledger/batch-header/v1\n";
/// Length of an Ed25519 signature, bytes (RFC 8032).
const SIGNATURE_BYTES: usize = 64;
/// Bytes before the per-sensor counters, plus the signature after them.
pub const HEADER_FIXED_BYTES: usize = 324 + SIGNATURE_BYTES;
/// Bytes of one sensor's counters.
pub const SENSOR_COUNTERS_BYTES: usize = 2 + 8 + 8;

/// Marks of a batch. Bits not named here must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeaderFlags {
    /// The first batch since the agent started: nothing is claimed about the time before it.
    pub first_since_start: bool,
    /// The last batch before the agent stopped in order.
    pub last_before_stop: bool,
}

impl HeaderFlags {
    /// The marks as header and index have them.
    pub(crate) fn bits(self) -> u16 {
        u16::from(self.first_since_start) | u16::from(self.last_before_stop) << 1
    }

    /// Reads them back; `None` for bits that mean nothing.
    pub(crate) fn from_bits(bits: u16) -> Option<Self> {
        (bits < 4).then_some(Self {
            first_since_start: bits & 1 != 0,
            last_before_stop: bits & 2 != 0,
        })
    }
}

/// What the kernel said of the wall clock when the batch was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ClockSource {
    /// It could not be asked.
    Unknown = 0,
    /// Nobody disciplines it: the error bound is unknown and written as `u64::MAX`.
    Unsynchronised = 1,
    /// `adjtimex` reports it synchronised, with its maximum error.
    Synchronised = 2,
}

impl ClockSource {
    /// The source of that number; `None` where there is none.
    pub(crate) fn numbered(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Unknown),
            1 => Some(Self::Unsynchronised),
            2 => Some(Self::Synchronised),
            _ => None,
        }
    }
}

/// What a sensor had counted when the batch was sealed, since the sensor was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorCounters {
    /// The sensor.
    pub sensor: SensorId,
    /// Events that happened, seen or lost.
    pub happened: u64,
    /// Events lost, each covered by a loss event.
    pub lost: u64,
}

/// The fields of a header. A batch without events is a heartbeat: it says that the host was watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderFields {
    /// Marks.
    pub flags: HeaderFlags,
    /// Whose chain.
    pub host: HostId,
    /// Which of the host's keys signs.
    pub key_epoch: KeyEpoch,
    /// That key.
    pub public_key: PublicKey,
    /// The key of the next epoch, announced under this one; zeros announce none (see [`super::KeyHead`]).
    pub next_public_key: PublicKey,
    /// Position in the chain.
    pub sequence: Sequence,
    /// Position of the first event (of the next one, where the batch has none).
    pub first_event: EventIndex,
    /// Number of events.
    pub event_count: u32,
    /// Length of the body, bytes.
    pub body_bytes: u32,
    /// SHA-256 of the previous signed header; zeros for the first.
    pub previous: Hash,
    /// RFC 6962 root of the events.
    pub events_root: Hash,
    /// SHA-256 of the list of leaf tags (first 8 bytes of each event's leaf hash).
    pub tags_hash: Hash,
    /// The boot that was watched.
    pub boot: BootId,
    /// Watched from this instant, boot clock.
    pub from_boot: BootNanos,
    /// Watched up to this instant, boot clock.
    pub until_boot: BootNanos,
    /// Watched from this instant, wall clock.
    pub from_wall: WallNanos,
    /// Watched up to this instant, wall clock.
    pub until_wall: WallNanos,
    /// Bound of the wall clock's error, nanoseconds; `u64::MAX` where unknown.
    pub clock_error_ns: u64,
    /// What vouches for that bound.
    pub clock_source: ClockSource,
    /// The collector's latest nonce; zeros before the first.
    pub nonce: Nonce,
    /// Counters, by ascending sensor.
    pub sensors: Vec<SensorCounters>,
}

/// Why bytes are not a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// It ends too early.
    #[error("header cut short: {0}")]
    Short(#[from] Short),
    /// It is longer than any header may be, or than its own fields say.
    #[error("header of {found} bytes where {expected} were expected")]
    Length {
        /// Length its fields say, or the limit.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// It does not start as headers do.
    #[error("not a batch header: it starts with {0:02x?}")]
    Magic([u8; 4]),
    /// A format this build does not know.
    #[error("batch header format {0} is unknown here; upgrade this program to read it")]
    Version(u16),
    /// A field holds what it may not.
    #[error("header field `{field}` holds {value}, which is not allowed")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

/// A header that was parsed and not verified: nothing in it may be believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedHeader {
    bytes: Vec<u8>,
    fields: HeaderFields,
}

impl UnverifiedHeader {
    /// Parses the bytes of a signed header and checks its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadHeader> {
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(BadHeader::Length {
                expected: HEADER_BYTES_MAX,
                found: bytes.len(),
            });
        }
        let mut reader = Reader::new(bytes);
        let fields = read_fields(&mut reader)?;
        reader.take("signature", SIGNATURE_BYTES)?;
        if !reader.rest().is_empty() {
            return Err(BadHeader::Length {
                expected: reader.at(),
                found: bytes.len(),
            });
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            fields,
        })
    }

    /// What the header claims.
    #[must_use]
    pub fn claimed(&self) -> &HeaderFields {
        &self.fields
    }

    /// The signed bytes as received: the ledger's entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes: what the next header names as its previous one.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }

    /// Whether the signature is of the key that the header itself names. Who that key belongs to is for
    /// [`super::ChainHead::accept`].
    #[must_use]
    pub fn signature_fits(&self) -> bool {
        self.signature_fits_by(&mut LastKey::default())
    }

    /// The same for one of many headers that one key may have signed.
    pub(crate) fn signature_fits_by(&self, last: &mut LastKey) -> bool {
        let Some((signed, signature)) = self.bytes.split_last_chunk::<SIGNATURE_BYTES>() else {
            return false;
        };
        let Some(key) = last.of(&self.fields.public_key) else {
            return false;
        };
        let message = [SIGNING_PREFIX, signed].concat();
        signature::fits(key, &message, &Signature::from_bytes(signature))
    }
}

/// Signs the fields. The caller has checked that key, sequence and previous hash continue the chain.
pub fn sign_header(fields: &HeaderFields, key: &SigningKey) -> Result<UnverifiedHeader, BadHeader> {
    let mut message = SIGNING_PREFIX.to_vec();
    put_fields(fields, &mut message)?;
    let signature = key.sign(&message).to_bytes();
    message.extend_from_slice(&signature);
    UnverifiedHeader::parse(message.get(SIGNING_PREFIX.len()..).unwrap_or_default())
}

fn put_fields(fields: &HeaderFields, out: &mut Vec<u8>) -> Result<(), BadHeader> {
    let sensors = u8::try_from(fields.sensors.len()).map_err(|_| BadHeader::Field {
        field: "sensor count",
        value: fields.sensors.len() as u64,
    })?;
    out.extend_from_slice(MAGIC);
    out.put_u16(FORMAT_VERSION);
    out.put_u16(fields.flags.bits());
    out.extend_from_slice(&fields.host.0);
    out.put_u64(fields.key_epoch.0);
    out.extend_from_slice(&fields.public_key.0);
    out.extend_from_slice(&fields.next_public_key.0);
    out.put_u64(fields.sequence.0);
    out.put_u64(fields.first_event.0);
    out.put_u32(fields.event_count);
    out.put_u32(fields.body_bytes);
    out.extend_from_slice(&fields.previous.0);
    out.extend_from_slice(&fields.events_root.0);
    out.extend_from_slice(&fields.tags_hash.0);
    out.extend_from_slice(&fields.boot.0);
    out.put_u64(fields.from_boot.0);
    out.put_u64(fields.until_boot.0);
    out.put_u64(fields.from_wall.0);
    out.put_u64(fields.until_wall.0);
    out.put_u64(fields.clock_error_ns);
    out.put_u8(fields.clock_source as u8);
    out.put_u8(sensors);
    out.put_u16(0);
    out.extend_from_slice(&fields.nonce.0);
    for counters in &fields.sensors {
        out.put_u16(counters.sensor.0);
        out.put_u64(counters.happened);
        out.put_u64(counters.lost);
    }
    Ok(())
}

fn read_fields(reader: &mut Reader<'_>) -> Result<HeaderFields, BadHeader> {
    let magic = reader.array("magic")?;
    if &magic != MAGIC {
        return Err(BadHeader::Magic(magic));
    }
    let version = reader.u16("format version")?;
    if version != FORMAT_VERSION {
        return Err(BadHeader::Version(version));
    }
    let flags = reader.u16("flags")?;
    let flags = HeaderFlags::from_bits(flags).ok_or(BadHeader::Field {
        field: "flags",
        value: u64::from(flags),
    })?;
    let mut fields = HeaderFields {
        flags,
        host: HostId(reader.array("host id")?),
        key_epoch: KeyEpoch(reader.u64("key epoch")?),
        public_key: PublicKey(reader.array("public key")?),
        next_public_key: PublicKey(reader.array("next public key")?),
        sequence: Sequence(reader.u64("sequence")?),
        first_event: EventIndex(reader.u64("first event")?),
        event_count: reader.u32("event count")?,
        body_bytes: reader.u32("body length")?,
        previous: Hash(reader.array("previous hash")?),
        events_root: Hash(reader.array("events root")?),
        tags_hash: Hash(reader.array("tags hash")?),
        boot: BootId(reader.array("boot id")?),
        from_boot: BootNanos(reader.u64("from, boot clock")?),
        until_boot: BootNanos(reader.u64("until, boot clock")?),
        from_wall: WallNanos(reader.u64("from, wall clock")?),
        until_wall: WallNanos(reader.u64("until, wall clock")?),
        clock_error_ns: reader.u64("clock error")?,
        clock_source: read_clock_source(reader.u8("clock source")?)?,
        nonce: Nonce::default(),
        sensors: Vec::new(),
    };
    let sensors = usize::from(reader.u8("sensor count")?);
    let reserved = reader.u16("reserved")?;
    fields.nonce = Nonce(reader.array("nonce")?);
    limit("reserved", u64::from(reserved), 0)?;
    limit(
        "event count",
        u64::from(fields.event_count),
        BATCH_EVENTS_MAX as u64,
    )?;
    limit(
        "body length",
        u64::from(fields.body_bytes),
        BATCH_BODY_BYTES_MAX as u64,
    )?;
    limit("sensor count", sensors as u64, HEADER_SENSORS_MAX as u64)?;
    limit("from, boot clock", fields.from_boot.0, fields.until_boot.0)?;
    for _ in 0..sensors {
        let counters = SensorCounters {
            sensor: SensorId(reader.u16("sensor")?),
            happened: reader.u64("happened")?,
            lost: reader.u64("lost")?,
        };
        if fields
            .sensors
            .last()
            .is_some_and(|before| before.sensor >= counters.sensor)
        {
            return Err(BadHeader::Field {
                field: "sensor order",
                value: u64::from(counters.sensor.0),
            });
        }
        limit("lost", counters.lost, counters.happened)?;
        fields.sensors.push(counters);
    }
    Ok(fields)
}

fn limit(field: &'static str, value: u64, max: u64) -> Result<(), BadHeader> {
    if value > max {
        Err(BadHeader::Field { field, value })
    } else {
        Ok(())
    }
}

fn read_clock_source(value: u8) -> Result<ClockSource, BadHeader> {
    ClockSource::numbered(value).ok_or(BadHeader::Field {
        field: "clock source",
        value: u64::from(value),
    })
}
