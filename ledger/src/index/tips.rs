//! How far the index is known to be durable, and every chain's newest batch there (`docs/format/index.md`).
//!
//! Written after the records it speaks for are flushed, so a start trusts those and takes up the rest from
//! the groups. Whatever does not fit is no index: it is built again.

use common::{
    codec::{Reader, Short, Write},
    ids::{Hash, HostId, LeafIndex},
};

const MAGIC: [u8; 8] = *b"HLTIPS\n\0";
const VERSION: u16 = 1;
const HASH_BYTES: usize = 32;
/// Bytes before the first host.
const FIXED_BYTES: usize = 56;
/// Bytes of a host.
const HOST_BYTES: usize = 40;

/// Bytes that are not a table of tips.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTips {
    /// It ends early.
    #[error(transparent)]
    Short(#[from] Short),
    /// Another version, or none of ours.
    #[error("{0} is not that of a table of tips")]
    Field(&'static str),
    /// Its bytes are not those that were written.
    #[error("hash does not fit")]
    Hash,
}

/// Newest indexed batch of every host among the first `leaves` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tips {
    /// SHA-256 of the ledger's verifier key.
    pub ledger: Hash,
    /// Leaves whose records are durable.
    pub leaves: u64,
    /// Every host's newest batch, by host.
    pub hosts: Vec<(HostId, LeafIndex)>,
}

impl Tips {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.hosts.len() * HOST_BYTES + HASH_BYTES);
        out.extend_from_slice(&MAGIC);
        out.put_u16(VERSION);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.ledger.0);
        out.put_u64(self.leaves);
        for (host, leaf) in &self.hosts {
            out.extend_from_slice(&host.0);
            out.put_u64(leaf.0);
        }
        let hash = Hash::of(&out);
        out.extend_from_slice(&hash.0);
        out
    }

    /// Reads the bytes back; accepts what [`Tips::encode`] makes and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadTips> {
        let field = |what, holds: bool| if holds { Ok(()) } else { Err(BadTips::Field(what)) };
        let mut reader = Reader::new(bytes);
        field("magic", reader.array("magic")? == MAGIC)?;
        field("version", reader.u16("version")? == VERSION)?;
        field("reserved field", reader.array::<6>("reserved field")? == [0; 6])?;
        let ledger = Hash(reader.array("ledger")?);
        let leaves = reader.u64("leaves")?;
        let rest = reader.rest();
        let table = rest
            .len()
            .checked_sub(HASH_BYTES)
            .filter(|table| table % HOST_BYTES == 0);
        let table = reader.take("hosts", table.ok_or(BadTips::Field("length"))?)?;
        let covered = bytes.get(..reader.at()).unwrap_or_default();
        if reader.array("hash")? != Hash::of(covered).0 {
            return Err(BadTips::Hash);
        }
        let mut hosts: Vec<(HostId, LeafIndex)> = Vec::with_capacity(table.len() / HOST_BYTES);
        let mut rows = Reader::new(table);
        while !rows.rest().is_empty() {
            let row = (HostId(rows.array("host")?), LeafIndex(rows.u64("leaf")?));
            field("order of hosts", hosts.last().is_none_or(|last| last.0 < row.0))?;
            field("leaf", row.1.0 < leaves)?;
            hosts.push(row);
        }
        Ok(Self {
            ledger,
            leaves,
            hosts,
        })
    }
}
