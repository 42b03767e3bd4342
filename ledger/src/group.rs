//! Commit groups: the immutable objects in which entries become durable.
//!
//! A group is both the write-ahead record and the only store of bodies. Its head (counts, lengths, body
//! checksums, headers) ends in a SHA-256 of itself, so that a start reads heads alone and trusts them; each
//! body has a CRC-32 that tells rot, while its header tells forgery (`docs/adr/0007-what-covers-a-body.md`).
//! Layout: `docs/format/ledger.md`.

use std::ops::Range;

use common::{
    codec::{Reader, Short, Write},
    ids::{Hash, LeafIndex},
    limits::ENTRY_BYTES_MAX,
    tile::{index_path, parse_index},
};

/// First bytes of every group.
const MAGIC: [u8; 8] = *b"HLGROUP\n";
/// Version of the layout.
const VERSION: u16 = 1;
/// Bytes before the length table.
pub(crate) const FIXED_BYTES: usize = 36;
/// Bytes of one row of the length table.
const ROW_BYTES: usize = 12;
/// Bytes of the head's own hash.
const HASH_BYTES: usize = 32;
/// Directory of all groups.
pub const GROUPS: &str = "groups";

/// Most entries in one group.
pub const GROUP_ENTRIES_MAX: usize = 65_536;
/// Longest group in bytes, so that every offset in it fits 32 bits.
pub const GROUP_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One header with its body, as given to the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The leaf: at most [`ENTRY_BYTES_MAX`] bytes.
    pub header: &'a [u8],
    /// What lies beside it; may be empty.
    pub body: &'a [u8],
}

/// Entries that cannot form one group. The caller is at fault: split or drop them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadGroup {
    /// Nothing to commit.
    #[error("a group needs at least one entry")]
    Empty,
    /// More than [`GROUP_ENTRIES_MAX`] entries.
    #[error("a group of {0} entries exceeds {GROUP_ENTRIES_MAX}")]
    TooMany(usize),
    /// A header longer than C2SP lets an entry be.
    #[error("header {entry} of {bytes} bytes exceeds {ENTRY_BYTES_MAX}")]
    HeaderTooLong {
        /// Which entry of the group.
        entry: usize,
        /// Its header's length.
        bytes: usize,
    },
    /// More than [`GROUP_BYTES_MAX`] bytes in all.
    #[error("a group of {0} bytes exceeds {GROUP_BYTES_MAX}")]
    TooLong(u64),
}

/// Why stored bytes are not a group. The disk, or whoever wrote to it, is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupFault {
    /// The file ends too early.
    #[error("head is cut: {0}")]
    Short(#[from] Short),
    /// A field that no group has.
    #[error("{what} at offset {at} is not that of a group")]
    Field {
        /// The field.
        what: &'static str,
        /// Its offset, bytes.
        at: usize,
    },
    /// The head's bytes are not those that were written.
    #[error("head hash at offset {at} does not fit the {at} bytes before it")]
    HeadHash {
        /// Offset of the hash, bytes.
        at: usize,
    },
    /// It says it starts at another leaf than its name does.
    #[error("head says first leaf {found}, its name {expected}")]
    Misplaced {
        /// First leaf by name.
        expected: LeafIndex,
        /// First leaf by content.
        found: LeafIndex,
    },
    /// A body is not the one that was written.
    #[error("checksum of body {entry} at offset {at} does not fit")]
    Body {
        /// Which entry of the group.
        entry: usize,
        /// Offset of the body, bytes.
        at: u32,
    },
    /// Cut, or something appended.
    #[error("file has {found} bytes where its head says {expected}")]
    Length {
        /// Bytes by the head.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
}

impl GroupFault {
    /// Where in the file it is, as far as it is known.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Short(short) => Some(short.at as u64),
            Self::Field { at, .. } | Self::HeadHash { at } => Some(*at as u64),
            Self::Misplaced { .. } => Some(16),
            Self::Body { at, .. } => Some(u64::from(*at)),
            Self::Length { expected, found } => Some(*expected.min(found)),
        }
    }
}

/// Object path of the group whose first leaf is `first`.
#[must_use]
pub fn group_path(first: LeafIndex) -> String {
    format!("{GROUPS}/{}", index_path(first.0))
}

/// First leaf of the group at `path`, if that is how a group is named.
#[must_use]
pub fn parse_group_path(path: &str) -> Option<LeafIndex> {
    parse_index(path.strip_prefix(GROUPS)?.strip_prefix('/')?).map(LeafIndex)
}

/// The head of a group holding `entries` from leaf `first` on; the bodies follow it in the file.
pub fn encode_head(first: LeafIndex, entries: &[Entry<'_>]) -> Result<Vec<u8>, BadGroup> {
    if entries.is_empty() {
        return Err(BadGroup::Empty);
    }
    if entries.len() > GROUP_ENTRIES_MAX {
        return Err(BadGroup::TooMany(entries.len()));
    }
    let mut table = Vec::with_capacity(entries.len() * ROW_BYTES);
    let (mut headers_bytes, mut bodies_bytes) = (0_u64, 0_u64);
    for (at, entry) in entries.iter().enumerate() {
        let header = u16::try_from(entry.header.len()).map_err(|_| BadGroup::HeaderTooLong {
            entry: at,
            bytes: entry.header.len(),
        })?;
        let body = u32::try_from(entry.body.len()).map_err(|_| BadGroup::TooLong(entry.body.len() as u64))?;
        table.put_u32(u32::from(header));
        table.put_u32(body);
        table.put_u32(crc32fast::hash(entry.body));
        headers_bytes += u64::from(header);
        bodies_bytes += u64::from(body);
    }
    let total = (FIXED_BYTES + table.len() + HASH_BYTES) as u64 + headers_bytes + bodies_bytes;
    let (Ok(count), Ok(headers_field)) = (u32::try_from(entries.len()), u32::try_from(headers_bytes)) else {
        return Err(BadGroup::TooLong(total));
    };
    if total > GROUP_BYTES_MAX {
        return Err(BadGroup::TooLong(total));
    }
    let mut head = Vec::with_capacity(FIXED_BYTES + table.len() + HASH_BYTES + headers_field as usize);
    head.extend_from_slice(&MAGIC);
    head.put_u16(VERSION);
    head.put_u16(0);
    head.put_u32(count);
    head.put_u64(first.0);
    head.put_u32(headers_field);
    head.put_u64(bodies_bytes);
    head.extend_from_slice(&table);
    entries
        .iter()
        .for_each(|entry| head.extend_from_slice(entry.header));
    let hash = Hash::of(&head);
    head.extend_from_slice(&hash.0);
    Ok(head)
}

/// Where one entry lies in its group's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the header.
    pub header: Range<u32>,
    /// Bytes of the body.
    pub body: Range<u32>,
    /// CRC-32 (IEEE) of the body.
    pub body_crc: u32,
}

/// The fixed fields of a group, enough to know how long its head is. Not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prologue {
    /// First leaf.
    pub first: LeafIndex,
    /// Number of entries.
    pub count: u32,
    headers_bytes: u32,
    bodies_bytes: u64,
}

impl Prologue {
    /// Reads the fixed fields at the start of a group and checks them against the limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, GroupFault> {
        let mut reader = Reader::new(bytes);
        let field = |what, at, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(GroupFault::Field { what, at })
            }
        };
        field("magic", 0, reader.array("magic")? == MAGIC)?;
        field("version", 8, reader.u16("version")? == VERSION)?;
        field("reserved field", 10, reader.u16("reserved field")? == 0)?;
        let count = reader.u32("count")?;
        let first = LeafIndex(reader.u64("first leaf")?);
        let headers_bytes = reader.u32("header bytes")?;
        let bodies_bytes = reader.u64("body bytes")?;
        field(
            "count",
            12,
            (1..=GROUP_ENTRIES_MAX as u64).contains(&u64::from(count)),
        )?;
        field("first leaf", 16, first.checked_add(u64::from(count)).is_some())?;
        let prologue = Self {
            first,
            count,
            headers_bytes,
            bodies_bytes,
        };
        field(
            "body bytes",
            28,
            bodies_bytes <= GROUP_BYTES_MAX && prologue.file_bytes() <= GROUP_BYTES_MAX,
        )?;
        Ok(prologue)
    }

    /// Bytes before the bodies, the head's hash included.
    #[must_use]
    pub fn head_bytes(&self) -> u64 {
        (FIXED_BYTES + HASH_BYTES) as u64
            + u64::from(self.count) * ROW_BYTES as u64
            + u64::from(self.headers_bytes)
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.head_bytes() + self.bodies_bytes
    }
}

/// A group's head whose hash fits: it is what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// First leaf.
    pub first: LeafIndex,
    /// Bytes of the whole file.
    pub file_bytes: u64,
    /// Where each entry lies, in order.
    pub places: Vec<Place>,
}

impl Head {
    /// Reads and verifies a head; `bytes` may go on with bodies. `expected` is the first leaf by name.
    pub fn parse(bytes: &[u8], expected: LeafIndex) -> Result<Self, GroupFault> {
        let prologue = Prologue::parse(bytes)?;
        let hash_at = to_usize(prologue.head_bytes()) - HASH_BYTES;
        let mut reader = Reader::new(bytes);
        let covered = reader.take("head", hash_at)?;
        if reader.array("head hash")? != Hash::of(covered).0 {
            return Err(GroupFault::HeadHash { at: hash_at });
        }
        Self::danger_parse_unhashed(bytes, expected)
    }

    /// Reads a head whose hash may not fit, for naming what is wrong with it and nothing else.
    pub(crate) fn danger_parse_unhashed(bytes: &[u8], expected: LeafIndex) -> Result<Self, GroupFault> {
        let prologue = Prologue::parse(bytes)?;
        let hash_at = to_usize(prologue.head_bytes()) - HASH_BYTES;
        let covered = Reader::new(bytes).take("head", hash_at)?;
        if prologue.first != expected {
            return Err(GroupFault::Misplaced {
                expected,
                found: prologue.first,
            });
        }
        let mut table = Reader::new(&covered[FIXED_BYTES..]);
        // Everything below the limit of `GROUP_BYTES_MAX` fits 32 bits.
        let mut header_at = u32_of(FIXED_BYTES as u64) + prologue.count * u32_of(ROW_BYTES as u64);
        let mut body_at = u32_of(prologue.head_bytes());
        let mut places = Vec::with_capacity(to_usize(u64::from(prologue.count)));
        for _ in 0..prologue.count {
            let (header, body, body_crc) = (
                table.u32("header length")?,
                table.u32("body length")?,
                table.u32("body checksum")?,
            );
            if header as usize > ENTRY_BYTES_MAX {
                return Err(GroupFault::Field {
                    what: "length table",
                    at: FIXED_BYTES,
                });
            }
            let ends = (header_at.checked_add(header), body_at.checked_add(body));
            let (Some(header_end), Some(body_end)) = ends else {
                return Err(GroupFault::Field {
                    what: "length table",
                    at: FIXED_BYTES,
                });
            };
            places.push(Place {
                header: header_at..header_end,
                body: body_at..body_end,
                body_crc,
            });
            (header_at, body_at) = (header_end, body_end);
        }
        let sums_fit = header_at as usize == hash_at && u64::from(body_at) == prologue.file_bytes();
        if !sums_fit {
            return Err(GroupFault::Field {
                what: "length table",
                at: FIXED_BYTES,
            });
        }
        Ok(Self {
            first: prologue.first,
            file_bytes: prologue.file_bytes(),
            places,
        })
    }

    /// The leaf after the group's last.
    #[must_use]
    pub fn end(&self) -> LeafIndex {
        LeafIndex(self.first.0 + self.places.len() as u64)
    }
}

/// The bytes of `range` in `file`; empty where the file ends earlier.
#[must_use]
pub fn slice<'a>(file: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    file.get(range.start as usize..range.end as usize)
        .unwrap_or_default()
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn u32_of(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
