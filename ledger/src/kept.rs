//! What is left of a commit group once bodies were pruned: its head as it was, and the bodies that stay.
//!
//! Lies beside the group's place as `groups/<I>.kept`; while both are there, the prune is under way and the group
//! has the word. Begins with the group's head byte for byte, so that headers lie where they lay, and everything
//! that the head's checksums said of a body still holds. Says of each missing body which certificate names it.
//! Layout: `docs/format/ledger.md`.

use std::ops::Range;

use common::{
    codec::{Reader, Write},
    ids::{Hash, LeafIndex, StatementNumber},
};

use crate::{
    group::{FIXED_BYTES, GROUP_BYTES_MAX, GroupFault, Head, Prologue, group_path, parse_group_path},
    storage::{Storage, StorageError},
};

/// Ends the path of every kept object.
const SUFFIX: &str = ".kept";
/// First bytes behind the head.
const MAGIC: [u8; 8] = *b"HLKEPT\n\0";
const VERSION: u16 = 1;
/// Bytes between head and marks.
const FIXED: usize = 24;
/// Bytes of one mark.
const MARK_BYTES: usize = 8;
/// Marks a body that is there.
const THERE: u64 = u64::MAX;
const HASH_BYTES: usize = 32;

/// Longest kept object: a group whose bodies all stay, and the marks.
pub const KEPT_BYTES_MAX: u64 =
    GROUP_BYTES_MAX + (FIXED + MARK_BYTES * crate::group::GROUP_ENTRIES_MAX + HASH_BYTES) as u64;

/// Object path of what is kept of the group whose first leaf is `first`.
#[must_use]
pub fn kept_path(first: LeafIndex) -> String {
    format!("{}{SUFFIX}", group_path(first))
}

/// First leaf of the group that the object at `path` is kept of, if that is how one is named.
#[must_use]
pub fn parse_kept_path(path: &str) -> Option<LeafIndex> {
    parse_group_path(path.strip_suffix(SUFFIX)?)
}

/// The part of a kept object before the bodies; both its hashes fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The group's head: its places of bodies are those in the group.
    pub head: Head,
    /// By which certificate each body went; `None` where it is there.
    pub gone: Vec<Option<StatementNumber>>,
    /// Where each body lies in this object; empty where it is gone.
    pub bodies: Vec<Range<u32>>,
    /// Bytes of the whole object.
    pub file_bytes: u64,
}

impl Kept {
    /// Reads the part before the bodies; `bytes` may go on with them. `expected` is the first leaf by name.
    pub fn parse(bytes: &[u8], expected: LeafIndex) -> Result<Self, GroupFault> {
        let head = Head::parse(bytes, expected)?;
        let at = before_bodies(&Prologue::parse(bytes)?);
        let mut reader = Reader::new(bytes);
        reader.take("head", at.head)?;
        let field = |what, at, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(GroupFault::Field { what, at })
            }
        };
        field("magic of the kept part", at.head, reader.array("magic")? == MAGIC)?;
        field(
            "version of the kept part",
            at.head + 8,
            reader.u16("version")? == VERSION,
        )?;
        field(
            "reserved field of the kept part",
            at.head + 10,
            reader.u16("reserved field")? == 0,
        )?;
        let count = reader.u32("count of the kept part")?;
        field(
            "count of the kept part",
            at.head + 12,
            count as usize == head.places.len(),
        )?;
        let bodies_bytes = reader.u64("body bytes kept")?;
        let mut gone = Vec::with_capacity(head.places.len());
        let mut bodies = Vec::with_capacity(head.places.len());
        let first_body = u32::try_from(at.end).unwrap_or(u32::MAX);
        let mut next = first_body;
        for place in &head.places {
            let mark = reader.u64("mark")?;
            let there = mark == THERE;
            let length = if there {
                place.body.end - place.body.start
            } else {
                0
            };
            let end = next.checked_add(length);
            field(
                "mark of a body that never was",
                at.head + FIXED,
                there || !place.body.is_empty(),
            )?;
            let end = end.ok_or(GroupFault::Field {
                what: "body bytes kept",
                at: at.head + 16,
            })?;
            gone.push((!there).then_some(StatementNumber(mark)));
            bodies.push(next..end);
            next = end;
        }
        field(
            "body bytes kept",
            at.head + 16,
            u64::from(next - first_body) == bodies_bytes,
        )?;
        let covered = Reader::new(bytes).take("kept part", at.end - HASH_BYTES)?;
        if reader.array("hash of the kept part")? != Hash::of(covered).0 {
            return Err(GroupFault::HeadHash {
                at: at.end - HASH_BYTES,
            });
        }
        Ok(Self {
            head,
            gone,
            bodies,
            file_bytes: u64::from(next),
        })
    }

    /// Reads the part before the bodies of what is kept of that group; `None` where there is no such object.
    pub(crate) fn read(
        storage: &dyn Storage,
        first: LeafIndex,
    ) -> Result<Option<Result<Self, GroupFault>>, StorageError> {
        let path = kept_path(first);
        let Some(fixed) = storage.read_range(&path, 0, FIXED_BYTES)? else {
            return Ok(None);
        };
        let length = match Prologue::parse(&fixed) {
            Ok(prologue) => before_bodies(&prologue).end,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        let bytes = storage.read_range(&path, 0, length)?;
        Ok(bytes.map(|bytes| Self::parse(&bytes, first)))
    }
}

/// Offsets in a kept object.
struct Offsets {
    /// Where the group's head ends.
    head: usize,
    /// Where the bodies begin.
    end: usize,
}

fn before_bodies(prologue: &Prologue) -> Offsets {
    let head = usize::try_from(prologue.head_bytes()).unwrap_or(usize::MAX);
    let marks = MARK_BYTES * prologue.count as usize;
    Offsets {
        head,
        end: head.saturating_add(FIXED + marks + HASH_BYTES),
    }
}

/// The part before the bodies of a kept object: `head` is the group's, byte for byte, `lengths` those of all its
/// bodies, and `gone` says by which certificate each went.
#[must_use]
pub fn encode_kept(head: &[u8], lengths: &[u32], gone: &[Option<StatementNumber>]) -> Vec<u8> {
    let mut out = head.to_vec();
    out.extend_from_slice(&MAGIC);
    out.put_u16(VERSION);
    out.put_u16(0);
    out.put_u32(u32::try_from(gone.len()).unwrap_or(u32::MAX));
    let there = lengths.iter().zip(gone).filter(|(_, gone)| gone.is_none());
    out.put_u64(there.map(|(length, _)| u64::from(*length)).sum());
    for mark in gone {
        out.put_u64(mark.map_or(THERE, |by| by.0));
    }
    let hash = Hash::of(&out);
    out.extend_from_slice(&hash.0);
    out
}

#[cfg(test)]
mod tests;
