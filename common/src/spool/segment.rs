//! Segment files: header, records, and the scan that names what is wrong with them.

use alloc::{format, string::String, vec::Vec};
use core::{fmt, ops::Range};

use crate::{
    batch::{BadHeader, UnverifiedHeader},
    codec::{Reader, Short, Write},
    ids::{Hash, HostId, Sequence},
    limits::{BATCH_BODY_BYTES_MAX, HEADER_BYTES_MAX},
    merkle::leaf_hash,
};

/// First bytes of a segment.
const SEGMENT_MAGIC: &[u8; 4] = b"HLSG";
/// First bytes of a record.
const RECORD_MAGIC: &[u8; 4] = b"HLSR";
/// The format written today.
const FORMAT_VERSION: u16 = 1;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a record's frame: magic, lengths, sequence, check of the frame itself.
const FRAME_BYTES: usize = 24;
/// Bytes of the frame that its own check covers.
const FRAME_CHECKED_BYTES: usize = 20;
/// Bytes of the check at a record's end: the first half of a SHA-256.
const CHECK_BYTES: usize = 16;
/// Bytes a record takes beside its header and body.
pub const RECORD_OVERHEAD_BYTES: usize = FRAME_BYTES + CHECK_BYTES;

/// A segment's name: the sequence of the first batch it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The file's name: 20 digits, so that names sort as numbers.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{:020}.seg", self.0)
    }

    /// The segment of that file name; `None` for any other file.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".seg")?;
        (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse().ok().map(Self))?
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}.seg", self.0)
    }
}

/// The first bytes of a segment of `host`.
#[must_use]
pub fn encode_segment_header(host: &HostId, segment: SegmentId) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    out.extend_from_slice(SEGMENT_MAGIC);
    out.put_u16(FORMAT_VERSION);
    out.put_u16(0);
    out.extend_from_slice(&host.0);
    out.put_u64(segment.0);
    let check = Hash::of(&out);
    out.extend_from_slice(&check.0[..CHECK_BYTES]);
    out
}

/// One record: a batch as it lies in a segment.
///
/// # Errors
/// Ours to fix: lengths that no sealed batch has.
pub fn encode_record(sequence: Sequence, header: &[u8], body: &[u8]) -> Result<Vec<u8>, BadRecord> {
    let (Ok(header_bytes), Ok(body_bytes)) = (u32::try_from(header.len()), u32::try_from(body.len())) else {
        return Err(BadRecord::Lengths);
    };
    if header.len() > HEADER_BYTES_MAX || body.len() > BATCH_BODY_BYTES_MAX {
        return Err(BadRecord::Lengths);
    }
    let mut out = Vec::with_capacity(RECORD_OVERHEAD_BYTES + header.len() + body.len());
    out.extend_from_slice(RECORD_MAGIC);
    out.put_u32(header_bytes);
    out.put_u32(body_bytes);
    out.put_u64(sequence.0);
    let frame_check = Hash::of(&out);
    out.extend_from_slice(&frame_check.0[..FRAME_BYTES - FRAME_CHECKED_BYTES]);
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    let check = Hash::of(&out);
    out.extend_from_slice(&check.0[..CHECK_BYTES]);
    Ok(out)
}

/// A record read back and found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRecord<'a> {
    /// Which batch.
    pub sequence: Sequence,
    /// The signed header.
    pub header: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// Length of the record, bytes.
    pub length: usize,
}

/// Why bytes are not a record. The disk is at fault, or whoever altered the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The file ends inside it.
    #[error("record cut short: {0}")]
    Short(#[from] Short),
    /// The frame before the header is damaged.
    #[error("the record's frame is damaged")]
    Frame,
    /// Lengths that no batch has.
    #[error("the record's lengths are over the limits of a batch")]
    Lengths,
    /// Header or body are damaged.
    #[error("the bytes of batch {0} are damaged")]
    Content(Sequence),
    /// The bytes are whole and hold no batch header.
    #[error("the record of batch {sequence} holds no batch header: {cause}")]
    Header {
        /// Which batch.
        sequence: Sequence,
        /// Why not.
        cause: BadHeader,
    },
    /// The header is of another batch or host than the frame says.
    #[error("the record of batch {0} holds another batch")]
    Mislabelled(Sequence),
}

/// Reads the record at the front of `bytes` and checks every byte of it.
pub fn open_record(bytes: &[u8]) -> Result<OpenRecord<'_>, BadRecord> {
    let mut reader = Reader::new(bytes);
    let (header_bytes, body_bytes, sequence) = open_frame(&mut reader)?;
    let header = reader.take("header", header_bytes)?;
    let body = reader.take("body", body_bytes)?;
    let covered = bytes.get(..reader.at()).unwrap_or_default();
    let check = reader.take("record check", CHECK_BYTES)?;
    if Hash::of(covered).0[..CHECK_BYTES] != *check {
        return Err(BadRecord::Content(sequence));
    }
    Ok(OpenRecord {
        sequence,
        header,
        body,
        length: reader.at(),
    })
}

fn open_frame(reader: &mut Reader<'_>) -> Result<(usize, usize, Sequence), BadRecord> {
    let frame = reader.take("record frame", FRAME_BYTES)?;
    let (covered, check) = frame.split_at(FRAME_CHECKED_BYTES);
    let mut fields = Reader::new(covered);
    if fields.take("magic", 4)? != RECORD_MAGIC || Hash::of(covered).0[..check.len()] != *check {
        return Err(BadRecord::Frame);
    }
    let header_bytes = fields.u32("header length")? as usize;
    let body_bytes = fields.u32("body length")? as usize;
    let sequence = Sequence(fields.u64("sequence")?);
    if header_bytes > HEADER_BYTES_MAX || body_bytes > BATCH_BODY_BYTES_MAX {
        return Err(BadRecord::Lengths);
    }
    Ok((header_bytes, body_bytes, sequence))
}

/// What a scan found in one segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentScan {
    /// Which segment.
    pub segment: SegmentId,
    /// Length of the file, bytes.
    pub length: u64,
    /// Where the last whole record ends; 0 where even the segment's header is unusable.
    pub valid_end: u64,
    /// The whole records, as they lie.
    pub records: Vec<ScannedRecord>,
    /// The stretches that are none.
    pub damage: Vec<Damage>,
    /// The last whole record's header, parsed.
    pub last: Option<UnverifiedHeader>,
}

impl SegmentScan {
    /// What of the last segment of a spool may be in memory alone: its last whole record, or its header where it has
    /// none, as a stretch of the file. Everything before was synced, with success, before this was written.
    ///
    /// Syncing it is not enough. A system may take pages for written that it failed to write, so that after a failed
    /// sync the next one, by another process, says that all is well and writes nothing. Written again with the same
    /// bytes they are dirty again, and the sync that follows tells the truth.
    #[must_use]
    pub fn last_written(&self) -> Range<u64> {
        self.records.last().map_or(0, |record| record.offset)..self.valid_end
    }
}

/// Where a whole record lies and which batch it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedRecord {
    /// Which batch.
    pub sequence: Sequence,
    /// Where the record starts in the file.
    pub offset: u64,
    /// Length of the record, bytes.
    pub length: u32,
    /// The ledger leaf its header will be.
    pub leaf: Hash,
    /// Hash of its header.
    pub hash: Hash,
    /// The hash it names as its previous header.
    pub previous: Hash,
}

/// A stretch of a segment that holds no whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where it starts.
    pub offset: u64,
    /// Its length, bytes.
    pub length: u64,
    /// What is wrong at its start.
    pub cause: BadRecord,
    /// Whether it reaches the end of the file.
    pub at_end: bool,
}

/// Reads a whole segment file and says what is in it. Records behind damage are found again, so that one
/// flipped byte costs one batch and is named with its offset.
#[must_use]
pub fn scan_segment(host: &HostId, segment: SegmentId, bytes: &[u8]) -> SegmentScan {
    let mut scan = SegmentScan {
        segment,
        length: bytes.len() as u64,
        valid_end: 0,
        records: Vec::new(),
        damage: Vec::new(),
        last: None,
    };
    let mut at = 0;
    let head = bytes.get(..SEGMENT_HEADER_BYTES);
    if head == Some(encode_segment_header(host, segment).as_slice()) {
        at = SEGMENT_HEADER_BYTES;
        scan.valid_end = at as u64;
    } else {
        at = skip_damage(&mut scan, bytes, at, BadRecord::Frame, SEGMENT_HEADER_BYTES);
    }
    while at < bytes.len() {
        match read_record(host, bytes.get(at..).unwrap_or_default()) {
            Ok((record, header)) => {
                let record = ScannedRecord {
                    offset: at as u64,
                    ..record
                };
                at += record.length as usize;
                scan.valid_end = at as u64;
                scan.records.push(record);
                scan.last = Some(header);
            }
            Err(cause) => at = skip_damage(&mut scan, bytes, at, cause, 1),
        }
    }
    scan
}

/// Notes damage at `at` and returns where the next record may start.
fn skip_damage(scan: &mut SegmentScan, bytes: &[u8], at: usize, cause: BadRecord, least: usize) -> usize {
    let next = next_frame(bytes, at + least).unwrap_or(bytes.len());
    scan.damage.push(Damage {
        offset: at as u64,
        length: (next - at) as u64,
        cause,
        at_end: next == bytes.len(),
    });
    next
}

/// The next offset from `from` where a record's frame checks.
fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(FRAME_BYTES)
        .position(|window| window.starts_with(RECORD_MAGIC) && open_frame(&mut Reader::new(window)).is_ok())
        .map(|at| from + at)
}

fn read_record(host: &HostId, bytes: &[u8]) -> Result<(ScannedRecord, UnverifiedHeader), BadRecord> {
    let record = open_record(bytes)?;
    let sequence = record.sequence;
    let header =
        UnverifiedHeader::parse(record.header).map_err(|cause| BadRecord::Header { sequence, cause })?;
    let claimed = header.claimed();
    if claimed.sequence != sequence || claimed.host != *host {
        return Err(BadRecord::Mislabelled(sequence));
    }
    let scanned = ScannedRecord {
        sequence,
        offset: 0,
        length: u32::try_from(record.length).map_err(|_| BadRecord::Lengths)?,
        leaf: leaf_hash(record.header),
        hash: header.hash(),
        previous: claimed.previous,
    };
    Ok((scanned, header))
}
