//! What the index keeps of one statement of the collector: 104 bytes, at its number (`docs/format/projection.md`).
//!
//! Statements that a host is silent link to the one before about the same host, so that the statement behind a
//! batch is found without reading them all. They come in the order of the batches that they follow.

use alloc::vec::Vec;

use super::{BadRecord, CHECKSUM_BYTES, Linked, Slot, links::Links, opened, seal};
use crate::{
    codec::{Reader, Write},
    ids::{HostId, LeafIndex, Sequence, WallNanos},
    statement::Kind,
};

/// Bytes of a record.
pub const STATED_RECORD_BYTES: usize = 96 + CHECKSUM_BYTES;

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatedRecord {
    /// Its place in the ledger.
    pub leaf: LeafIndex,
    /// When it was made.
    pub at: WallNanos,
    /// Its kind.
    pub kind: Kind,
    /// The host it is about, where it is about one.
    pub host: Option<HostId>,
    /// What it says of a host that had spoken and fell silent.
    pub silence: Option<Silence>,
}

/// A silence that was stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// The last batch before it.
    pub last: Sequence,
    /// Nothing came since then.
    pub since: WallNanos,
    /// Back to the silences of the same host stated before.
    pub links: Links,
}

/// No links: for statements of no silence, which nobody searches.
const UNLINKED: Links = Links {
    depth: 0,
    previous: Slot(0),
    jump: Slot(0),
    jump_depth: 0,
};

impl Linked for StatedRecord {
    fn links(&self) -> &Links {
        self.silence.as_ref().map_or(&UNLINKED, |silence| &silence.links)
    }
}

impl StatedRecord {
    /// The bytes of the record of statement number `slot`.
    #[must_use]
    pub fn encode(&self, slot: Slot) -> Vec<u8> {
        let mut out = Vec::with_capacity(STATED_RECORD_BYTES);
        out.put_u64(self.leaf.0);
        out.put_u64(self.at.0);
        out.put_u16(self.kind.0);
        out.put_u8(u8::from(self.host.is_some()));
        out.put_u8(u8::from(self.silence.is_some()));
        out.put_u32(0);
        out.extend_from_slice(&self.host.unwrap_or_default().0);
        match &self.silence {
            Some(silence) => {
                out.put_u64(silence.last.0);
                out.put_u64(silence.since.0);
                out.put_u64(silence.links.previous.0);
                out.put_u64(silence.links.jump.0);
                // Fewer silences than statements, and those number fewer than 2^32 leaves for ages: cut ones
                // would not lead back, and so be refused.
                out.put_u32(u32::try_from(silence.links.depth).unwrap_or(u32::MAX));
                out.put_u32(u32::try_from(silence.links.jump_depth).unwrap_or(u32::MAX));
            }
            None => out.resize(STATED_RECORD_BYTES - CHECKSUM_BYTES, 0),
        }
        seal(slot, &mut out);
        out
    }

    /// Reads the record of statement number `slot`.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn decode(slot: Slot, bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut reader = Reader::new(opened(slot, bytes, STATED_RECORD_BYTES)?);
        let leaf = LeafIndex(reader.u64("leaf")?);
        let at = WallNanos(reader.u64("at")?);
        let kind = Kind(reader.u16("kind")?);
        let about = reader.u8("about a host")?;
        let silent = reader.u8("silence")?;
        BadRecord::unless("about a host", about < 2)?;
        BadRecord::unless("silence", silent < 2)?;
        BadRecord::unless("reserved", reader.u32("reserved")? == 0)?;
        let host = HostId(reader.array("host")?);
        BadRecord::unless("host", about == 1 || host == HostId::default())?;
        let rest = reader.rest();
        let silence = Silence {
            last: Sequence(reader.u64("last batch")?),
            since: WallNanos(reader.u64("since")?),
            links: Links {
                previous: Slot(reader.u64("previous")?),
                jump: Slot(reader.u64("jump")?),
                depth: u64::from(reader.u32("depth")?),
                jump_depth: u64::from(reader.u32("jump depth")?),
            },
        };
        if silent == 1 {
            BadRecord::unless("links", silence.links.lead_back_from(slot))?;
        } else {
            BadRecord::unless("silence", rest.iter().all(|byte| *byte == 0))?;
        }
        Ok(Self {
            leaf,
            at,
            kind,
            host: (about == 1).then_some(host),
            silence: (silent == 1).then_some(silence),
        })
    }
}
