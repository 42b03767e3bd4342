//! How far a projection's index is known to be durable, and what it knows of every host there
//! (`docs/format/projection.md`).
//!
//! Written after the records it speaks for are flushed, so that a start trusts those and takes up the rest from the
//! ledger. Whatever does not fit is no index: it is built again.

use alloc::vec::Vec;

use super::{BadRecord, Slot};
use crate::{
    codec::{Reader, Write},
    ids::{EventIndex, Hash, HostId},
    limits::EVENT_BYTES_MAX,
    text::Text,
};

const MAGIC: [u8; 8] = *b"HLPROJ\n\0";
const VERSION: u16 = 2;
const HASH_BYTES: usize = 32;
/// Stands for a slot or length that there is not.
const NONE_64: u64 = u64::MAX;
const NONE_32: u32 = u32::MAX;

/// What the index knows of one host beside its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTip {
    /// Its newest batch's record; `None` where none continued a chain.
    pub newest: Option<Slot>,
    /// Hash of that batch's header.
    pub head: Hash,
    /// The event after its last one.
    pub next_event: EventIndex,
    /// Runs of its agent.
    pub runs: u64,
    /// Headers that do not continue its chain.
    pub misplaced: u64,
    /// Longest time by which an event's own time lay before its batch, nanoseconds.
    pub late_ns: u64,
    /// Longest time between a loss and the end of the batch that reports it, nanoseconds.
    pub loss_late_ns: u64,
    /// The last statement that it fell silent.
    pub silence: Option<Slot>,
    /// The statement that its end was declared.
    pub end: Option<Slot>,
    /// Its name, as it last gave it.
    pub hostname: Option<Text>,
}

/// How far records are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tips {
    /// SHA-256 of the ledger's verifier key.
    pub ledger: Hash,
    /// Leaves indexed.
    pub leaves: u64,
    /// Records of batches.
    pub batches: u64,
    /// Records of statements.
    pub statements: u64,
    /// Hash of the last statement.
    pub head: Hash,
    /// Every host, by id.
    pub hosts: Vec<(HostId, HostTip)>,
}

impl Tips {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.put_u16(VERSION);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.ledger.0);
        out.put_u64(self.leaves);
        out.put_u64(self.batches);
        out.put_u64(self.statements);
        out.extend_from_slice(&self.head.0);
        out.put_u64(self.hosts.len() as u64);
        for (host, tip) in &self.hosts {
            out.extend_from_slice(&host.0);
            out.put_u64(tip.newest.map_or(NONE_64, |slot| slot.0));
            out.extend_from_slice(&tip.head.0);
            out.put_u64(tip.next_event.0);
            out.put_u64(tip.runs);
            out.put_u64(tip.misplaced);
            out.put_u64(tip.late_ns);
            out.put_u64(tip.loss_late_ns);
            out.put_u64(tip.silence.map_or(NONE_64, |slot| slot.0));
            out.put_u64(tip.end.map_or(NONE_64, |slot| slot.0));
            match &tip.hostname {
                None => out.put_u32(NONE_32),
                Some(name) => {
                    out.put_u32(u32::try_from(name.0.len()).unwrap_or(NONE_32));
                    out.extend_from_slice(&name.0);
                }
            }
        }
        let hash = Hash::of(&out);
        out.extend_from_slice(&hash.0);
        out
    }

    /// Reads the bytes back; accepts what [`Tips::encode`] makes and nothing else.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let covered = bytes.len().saturating_sub(HASH_BYTES);
        let mut whole = Reader::new(bytes);
        let covered = whole.take("tips", covered)?;
        if Hash(whole.array("hash")?) != Hash::of(covered) {
            return Err(BadRecord::Checksum);
        }
        let mut reader = Reader::new(covered);
        BadRecord::unless("magic", reader.array("magic")? == MAGIC)?;
        BadRecord::unless("version", reader.u16("version")? == VERSION)?;
        BadRecord::unless("reserved", reader.array::<6>("reserved")? == [0; 6])?;
        let mut tips = Self {
            ledger: Hash(reader.array("ledger")?),
            leaves: reader.u64("leaves")?,
            batches: reader.u64("batches")?,
            statements: reader.u64("statements")?,
            head: Hash(reader.array("head")?),
            hosts: Vec::new(),
        };
        let indexed = tips.batches.checked_add(tips.statements);
        BadRecord::unless("batches", indexed.is_some_and(|indexed| indexed <= tips.leaves))?;
        let count = reader.u64("hosts")?;
        for _ in 0..count {
            let host = HostId(reader.array("host")?);
            let tip = read_tip(&mut reader, tips.batches, tips.statements)?;
            BadRecord::unless(
                "order of hosts",
                tips.hosts.last().is_none_or(|last| last.0 < host),
            )?;
            tips.hosts.push((host, tip));
        }
        BadRecord::unless("end", reader.rest().is_empty())?;
        Ok(tips)
    }
}

fn read_tip(reader: &mut Reader<'_>, batches: u64, statements: u64) -> Result<HostTip, BadRecord> {
    let slot = |what, slot: u64, below: u64| match slot {
        NONE_64 => Ok(None),
        slot if slot < below => Ok(Some(Slot(slot))),
        _ => Err(BadRecord::Field(what)),
    };
    Ok(HostTip {
        newest: slot("newest batch", reader.u64("newest batch")?, batches)?,
        head: Hash(reader.array("head")?),
        next_event: EventIndex(reader.u64("next event")?),
        runs: reader.u64("runs")?,
        misplaced: reader.u64("misplaced")?,
        late_ns: reader.u64("lateness")?,
        loss_late_ns: reader.u64("lateness of losses")?,
        silence: slot("silence", reader.u64("silence")?, statements)?,
        end: slot("end", reader.u64("end")?, statements)?,
        hostname: match reader.u32("hostname")? {
            NONE_32 => None,
            length if length as usize <= EVENT_BYTES_MAX => {
                Some(Text(reader.take("hostname", length as usize)?.to_vec()))
            }
            _ => return Err(BadRecord::Field("hostname")),
        },
    })
}
