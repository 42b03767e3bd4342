//! The anchor file: one record after the other, each whole by itself. Bytes in `docs/format/anchor.md`.
//!
//! A record names nothing outside itself, so that one that is torn or has rotted costs no other. Records are not
//! chained: that one was taken away again shows only against another copy.

use alloc::vec::Vec;

use crate::{
    codec::{Reader, Short, Write},
    ids::{Hash, WallNanos},
    limits::{NOTE_BYTES_MAX, TSA_RESPONSE_BYTES_MAX},
};

/// First bytes of a record.
const MAGIC: &[u8; 4] = b"HLAN";
/// The format written today.
const FORMAT_VERSION: u16 = 1;
/// Bytes before the check of the frame.
const FRAME_CHECKED_BYTES: usize = 24;
/// Bytes before the note.
const FRAME_BYTES: usize = FRAME_CHECKED_BYTES + 4;
/// Longest record, bytes.
pub const ANCHOR_RECORD_BYTES_MAX: usize = FRAME_BYTES + NOTE_BYTES_MAX + TSA_RESPONSE_BYTES_MAX + 32;
/// Longest anchor file read, bytes: about 40,000 time stamps, or 500,000 bare checkpoints.
pub const ANCHOR_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most stretches of damage looked beyond, so that a hostile file costs no more than reading it.
const DAMAGE_MAX: usize = 1024;

/// One anchored checkpoint. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorRecord {
    /// When it was written, by the collector's clock.
    pub at: WallNanos,
    /// The signed checkpoint, byte for byte.
    pub note: Vec<u8>,
    /// The whole answer of the time stamping authority (RFC 3161 `TimeStampResp`), where one was asked.
    pub response: Option<Vec<u8>>,
}

/// Why something cannot be an anchor record. Ours to fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a note of {note} bytes and an answer of {response} do not fit an anchor record")]
pub struct BadLengths {
    note: usize,
    response: usize,
}

impl AnchorRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, BadLengths> {
        let response = self.response.as_deref().unwrap_or_default();
        let bad = BadLengths {
            note: self.note.len(),
            response: response.len(),
        };
        let kind = u16::from(self.response.is_some());
        if !lengths_fit(kind, bad.note, bad.response) {
            return Err(bad);
        }
        let (Ok(note_bytes), Ok(response_bytes)) = (u32::try_from(bad.note), u32::try_from(bad.response))
        else {
            return Err(bad);
        };
        let mut out = Vec::with_capacity(FRAME_BYTES + bad.note + bad.response + 32);
        out.extend_from_slice(MAGIC);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(kind);
        out.put_u64(self.at.0);
        out.put_u32(note_bytes);
        out.put_u32(response_bytes);
        let check = Hash::of(&out);
        out.extend_from_slice(&check.0[..FRAME_BYTES - FRAME_CHECKED_BYTES]);
        out.extend_from_slice(&self.note);
        out.extend_from_slice(response);
        let check = Hash::of(&out);
        out.extend_from_slice(&check.0);
        Ok(out)
    }
}

/// A checkpoint alone (0), or one with its time stamp (1).
fn lengths_fit(kind: u16, note: usize, response: usize) -> bool {
    let stamped = match kind {
        0 => response == 0,
        1 => (1..=TSA_RESPONSE_BYTES_MAX).contains(&response),
        _ => false,
    };
    stamped && (1..=NOTE_BYTES_MAX).contains(&note)
}

/// A record and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedAnchor {
    /// Offset in the file, bytes.
    pub offset: u64,
    /// The record.
    pub record: AnchorRecord,
}

/// What is not a whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The beginning of a record and nothing after it: a write that was cut off.
    #[error("{bytes} bytes at offset {offset} are the beginning of a record: a write that was cut off")]
    Torn {
        /// Where, bytes.
        offset: u64,
        /// How much, bytes.
        bytes: u64,
    },
    /// Anything else.
    #[error("{bytes} bytes at offset {offset} are no record: they were altered")]
    Altered {
        /// Where, bytes.
        offset: u64,
        /// How much, bytes.
        bytes: u64,
    },
    /// Whole, and written by a later version.
    #[error("the record at offset {offset} has format {version}, unknown here: upgrade this program")]
    Version {
        /// Where, bytes.
        offset: u64,
        /// Which format.
        version: u16,
    },
    /// So much is damaged that the rest was not looked at.
    #[error("too much is damaged: nothing was read from offset {offset} on")]
    TooMuch {
        /// Where, bytes.
        offset: u64,
    },
}

/// What an anchor file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// The whole records, as they lie.
    pub records: Vec<ScannedAnchor>,
    /// Everything else.
    pub damage: Vec<Damage>,
}

/// Whether `bytes` claim to be an anchor file.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads a whole anchor file: every byte is in a record or in a named stretch of damage.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan {
    let mut found = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let offset = at as u64;
        if found.damage.len() == DAMAGE_MAX {
            found.damage.push(Damage::TooMuch { offset });
            break;
        }
        match read(rest) {
            Ok((record, length)) => {
                found.records.push(ScannedAnchor { offset, record });
                at += length;
            }
            Err(Fault::Version(version, length)) => {
                found.damage.push(Damage::Version { offset, version });
                at += length;
            }
            Err(_) => {
                let length = damaged_length(rest);
                let bytes = length as u64;
                // What lies before the next record is all that is left of this one.
                let cut = rest.get(..length).unwrap_or_default();
                found.damage.push(if is_beginning(cut) {
                    Damage::Torn { offset, bytes }
                } else {
                    Damage::Altered { offset, bytes }
                });
                at += length;
            }
        }
    }
    found
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The input ends inside the record.
    Short,
    Altered,
    /// A good frame of a later format, and the record's length.
    Version(u16, usize),
}

impl From<Short> for Fault {
    fn from(_: Short) -> Self {
        Self::Short
    }
}

fn read(bytes: &[u8]) -> Result<(AnchorRecord, usize), Fault> {
    let known = bytes.len().min(MAGIC.len());
    if bytes.get(..known) != MAGIC.get(..known) {
        return Err(Fault::Altered);
    }
    let frame = Frame::read(bytes)?;
    let mut reader = Reader::new(bytes);
    reader.take("frame", FRAME_BYTES)?;
    let note = reader.take("note", frame.note)?;
    let response = reader.take("answer", frame.response)?;
    let covered = bytes.get(..reader.at()).unwrap_or_default();
    if Hash::of(covered).0 != reader.array("check")? {
        return Err(Fault::Altered);
    }
    if frame.version != FORMAT_VERSION {
        return Err(Fault::Version(frame.version, reader.at()));
    }
    let record = AnchorRecord {
        at: frame.at,
        note: note.to_vec(),
        response: (frame.kind == 1).then(|| response.to_vec()),
    };
    Ok((record, reader.at()))
}

struct Frame {
    version: u16,
    kind: u16,
    at: WallNanos,
    note: usize,
    response: usize,
}

impl Frame {
    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take("frame", FRAME_CHECKED_BYTES)?;
        let check = reader.take("frame check", FRAME_BYTES - FRAME_CHECKED_BYTES)?;
        let mut fields = Reader::new(covered);
        if fields.take("magic", 4)? != MAGIC || Hash::of(covered).0[..check.len()] != *check {
            return Err(Fault::Altered);
        }
        let frame = Self {
            version: fields.u16("version")?,
            kind: fields.u16("kind")?,
            at: WallNanos(fields.u64("time")?),
            note: fields.u32("note length")? as usize,
            response: fields.u32("answer length")? as usize,
        };
        // A later format may add kinds; its records keep frame, lengths and check.
        let fits = if frame.version == FORMAT_VERSION {
            lengths_fit(frame.kind, frame.note, frame.response)
        } else {
            frame.note <= NOTE_BYTES_MAX && frame.response <= TSA_RESPONSE_BYTES_MAX
        };
        if fits { Ok(frame) } else { Err(Fault::Altered) }
    }
}

/// How far the damage at the front of `bytes` reaches: to the next good frame; or, where a torn write lies before
/// another one, to that one's magic.
fn damaged_length(bytes: &[u8]) -> usize {
    let whole = next_frame(bytes).unwrap_or(bytes.len());
    let stretch = bytes.get(..whole).unwrap_or_default();
    let behind = stretch.get(1..).unwrap_or_default();
    let first = behind.windows(MAGIC.len()).position(|window| window == MAGIC);
    match first.map(|at| at + 1) {
        Some(first) if !is_beginning(stretch) && bytes.get(..first).is_some_and(is_beginning) => first,
        _ => whole,
    }
}

/// Whether `bytes`, which lie before another record, are the beginning of one.
fn is_beginning(bytes: &[u8]) -> bool {
    read(bytes) == Err(Fault::Short)
}

/// The next offset after the first byte where a frame is good.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.get(1..)?;
    rest.windows(FRAME_BYTES)
        .position(|window| window.starts_with(MAGIC) && Frame::read(window).is_ok())
        .map(|at| at + 1)
}
