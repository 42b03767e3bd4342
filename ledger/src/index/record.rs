//! One leaf's record in the index: 64 bytes, the same for every leaf (`docs/format/index.md`).
//!
//! A batch's record links to the batch before it in its host's chain and, further back, to a second one, such
//! that any batch is reached from the newest in a number of steps that grows with the logarithm of the chain
//! (Myers, "An applicative random-access stack", 1983). So the file is only ever appended to.

use common::{
    codec::{Reader, Short, Write},
    ids::{HostId, LeafIndex, Sequence},
};

use super::{EntryFacts, Location};
use crate::group::Place;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 64;
/// Bytes under the checksum.
const COVERED_BYTES: usize = RECORD_BYTES - 4;

/// A record that is not the one written for its leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It ends early.
    #[error(transparent)]
    Short(#[from] Short),
    /// Its bytes are not those written for this leaf.
    #[error("checksum does not fit")]
    Checksum,
    /// Its fields contradict each other or the leaf's number.
    #[error("{0} contradicts the leaf's number")]
    Field(&'static str),
}

/// What the index keeps of one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Position in its group.
    pub entry: u16,
    /// Length of the header, bytes.
    pub header_bytes: u16,
    /// Offset of the header in the group.
    pub header_at: u32,
    /// Offset of the body in the group.
    pub body_at: u32,
    /// Length of the body, bytes.
    pub body_bytes: u32,
    /// CRC-32 (IEEE) of the body.
    pub body_crc: u32,
    /// Its place in a host's chain; `None` for what is no host's batch or continues no chain.
    pub link: Option<Link>,
}

/// A batch's place in its host's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// First bytes of the host's id: enough to notice a link into another chain.
    pub host: [u8; 8],
    /// The batch's sequence.
    pub sequence: Sequence,
    /// How many batches of the chain are indexed up to here, this one included.
    pub depth: u32,
    /// Leaf of the batch before; the batch's own for the first.
    pub previous: LeafIndex,
    /// Leaf of a batch further back; the batch's own for the first.
    pub jump: LeafIndex,
    /// Depth of that one.
    pub jump_depth: u32,
}

impl Link {
    /// The first batch of a chain.
    pub(super) fn first(facts: &EntryFacts, leaf: LeafIndex) -> Self {
        Self {
            host: host_tag(&facts.host),
            sequence: facts.sequence,
            depth: 1,
            previous: leaf,
            jump: leaf,
            jump_depth: 1,
        }
    }

    /// The batch after `before`, which lies at `at`; `beyond` is the one that `before` jumps to.
    pub(super) fn after(facts: &EntryFacts, before: &Self, at: LeafIndex, beyond: &Self) -> Self {
        let spans_alike = before.depth.saturating_sub(before.jump_depth)
            == before.jump_depth.saturating_sub(beyond.jump_depth);
        let (jump, jump_depth) = if spans_alike {
            (beyond.jump, beyond.jump_depth)
        } else {
            (at, before.depth)
        };
        Self {
            host: before.host,
            sequence: facts.sequence,
            depth: before.depth.saturating_add(1),
            previous: at,
            jump,
            jump_depth,
        }
    }
}

/// What a record keeps of a host's id.
pub(super) fn host_tag(host: &HostId) -> [u8; 8] {
    let mut tag = [0; 8];
    tag.copy_from_slice(&host.0[..8]);
    tag
}

impl Record {
    /// The bytes of the record of `leaf`.
    pub fn encode(&self, leaf: LeafIndex, out: &mut Vec<u8>) {
        let begin = out.len();
        out.put_u16(self.entry);
        out.put_u16(self.header_bytes);
        out.put_u32(self.header_at);
        out.put_u32(self.body_at);
        out.put_u32(self.body_bytes);
        out.put_u32(self.body_crc);
        match &self.link {
            Some(link) => {
                out.put_u32(link.depth);
                out.put_u64(link.sequence.0);
                out.put_u64(link.previous.0);
                out.put_u64(link.jump.0);
                out.extend_from_slice(&link.host);
                out.put_u32(link.jump_depth);
            }
            None => out.resize(begin + COVERED_BYTES, 0),
        }
        let crc = checksum(leaf, &out[begin..]);
        out.put_u32(crc);
    }

    /// Reads the record of `leaf`.
    pub fn decode(leaf: LeafIndex, bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take("record", COVERED_BYTES)?;
        if reader.u32("checksum")? != checksum(leaf, covered) {
            return Err(BadRecord::Checksum);
        }
        let mut reader = Reader::new(covered);
        let mut record = Self {
            entry: reader.u16("entry")?,
            header_bytes: reader.u16("header length")?,
            header_at: reader.u32("header offset")?,
            body_at: reader.u32("body offset")?,
            body_bytes: reader.u32("body length")?,
            body_crc: reader.u32("body checksum")?,
            link: None,
        };
        let depth = reader.u32("depth")?;
        let link = Link {
            depth,
            sequence: Sequence(reader.u64("sequence")?),
            previous: LeafIndex(reader.u64("previous")?),
            jump: LeafIndex(reader.u64("jump")?),
            host: reader.array("host")?,
            jump_depth: reader.u32("jump depth")?,
        };
        let field = |what, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(BadRecord::Field(what))
            }
        };
        field("entry", u64::from(record.entry) <= leaf.0)?;
        field(
            "header offset",
            record
                .header_at
                .checked_add(u32::from(record.header_bytes))
                .is_some(),
        )?;
        field(
            "body offset",
            record.body_at.checked_add(record.body_bytes).is_some(),
        )?;
        if depth == 0 {
            let empty = covered
                .get(20..)
                .is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
            field("link", empty)?;
            return Ok(record);
        }
        // Links lead backwards, so that following them ends.
        let first = depth == 1;
        field(
            "previous",
            (link.previous < leaf) != first && link.previous <= leaf,
        )?;
        field("jump", link.jump <= link.previous)?;
        field(
            "jump depth",
            link.jump_depth < depth || (first && link.jump_depth == 1),
        )?;
        record.link = Some(link);
        Ok(record)
    }

    /// Where the bytes of `leaf` lie.
    #[must_use]
    pub fn location(&self, leaf: LeafIndex) -> Location {
        Location {
            group: LeafIndex(leaf.0.saturating_sub(u64::from(self.entry))),
            place: Place {
                header: self.header_at..self.header_at.saturating_add(u32::from(self.header_bytes)),
                body: self.body_at..self.body_at.saturating_add(self.body_bytes),
                body_crc: self.body_crc,
            },
        }
    }
}

/// Covers the leaf's number too: a record read from another's place does not fit.
fn checksum(leaf: LeafIndex, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&leaf.0.to_be_bytes());
    hasher.update(covered);
    hasher.finalize()
}
