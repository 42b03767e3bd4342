//! The bytes of a state: sorted, length-prefixed, closed by an RFC 6962 root over all of them.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{ENTITIES_MAX, End, EntityId, Entry, Mark, Run, State};
use crate::{
    codec::{Reader, Short, Write},
    ids::{BootId, BootNanos, EventIndex, Hash, HostId, WallNanos},
    limits::{EVENT_BYTES_MAX, KEY_BYTES_MAX},
    merkle::{CompactRange, leaf_hash},
};

/// First bytes of every snapshot.
const MAGIC: &[u8; 4] = b"HLST";
/// The format written today.
const FORMAT_VERSION: u16 = 1;

/// Why bytes are not a snapshot. A projection is at fault: throw it away and rebuild it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// It ends too early.
    #[error("snapshot cut short: {0}")]
    Short(#[from] Short),
    /// A field holds what it may not.
    #[error("snapshot field `{0}` holds what it may not")]
    Field(&'static str),
    /// The root at its end is not the root of what stands before it.
    #[error("snapshot was altered: its entries have root {found}, it names {named}")]
    Root {
        /// Root of the entries.
        found: Hash,
        /// Root named.
        named: Hash,
    },
}

impl State {
    /// The snapshot's bytes and its root. Same events, same bytes.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Hash) {
        let mut out = Vec::new();
        let mut leaves = CompactRange::new();
        out.extend_from_slice(MAGIC);
        out.put_u16(FORMAT_VERSION);
        out.extend_from_slice(&self.host.0);
        out.put_u64(self.next_event.0);
        out.put_u64(self.undecoded);
        put_run(self.run.as_ref(), &mut out);
        out.put_u64(self.entities.len() as u64);
        leaves.push(leaf_hash(&out));
        for (id, entry) in &self.entities {
            let at = out.len();
            put_entry(id, entry, &mut out);
            leaves.push(leaf_hash(out.get(at..).unwrap_or_default()));
        }
        let root = leaves.root();
        out.extend_from_slice(&root.0);
        (out, root)
    }

    /// Reads a snapshot back; every byte is covered by the root at its end.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadSnapshot> {
        let mut reader = Reader::new(bytes);
        let mut leaves = CompactRange::new();
        if &reader.array("magic")? != MAGIC {
            return Err(BadSnapshot::Field("magic"));
        }
        if reader.u16("format version")? != FORMAT_VERSION {
            return Err(BadSnapshot::Field("format version"));
        }
        let host = HostId(reader.array("host")?);
        let next_event = EventIndex(reader.u64("next event")?);
        let undecoded = reader.u64("undecoded")?;
        let run = read_run(&mut reader)?;
        let count = reader.u64("count")?;
        if count > ENTITIES_MAX as u64 {
            return Err(BadSnapshot::Field("count"));
        }
        leaves.push(leaf_hash(bytes.get(..reader.at()).unwrap_or_default()));
        let mut entities = BTreeMap::new();
        for _ in 0..count {
            let at = reader.at();
            let (id, entry) = read_entry(&mut reader)?;
            leaves.push(leaf_hash(bytes.get(at..reader.at()).unwrap_or_default()));
            if entities.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(BadSnapshot::Field("order"));
            }
            entities.insert(id, entry);
        }
        let named = Hash(reader.array("root")?);
        let found = leaves.root();
        if named != found {
            return Err(BadSnapshot::Root { found, named });
        }
        if !reader.rest().is_empty() {
            return Err(BadSnapshot::Field("end"));
        }
        let ended = entities
            .iter()
            .filter_map(|(id, entry): (&EntityId, &Entry)| Some((entry.ended_at()?, id.clone())))
            .collect();
        Ok(Self {
            host,
            next_event,
            run,
            undecoded,
            entities,
            ended,
        })
    }
}

fn put_run(run: Option<&Run>, out: &mut Vec<u8>) {
    let Some(run) = run else {
        out.put_u8(0);
        return;
    };
    out.put_u8(1 + u8::from(run.previous_until.is_some()));
    out.put_u64(run.first_event.0);
    out.extend_from_slice(&run.boot.0);
    out.put_u64(run.from.0);
    if let Some(until) = run.previous_until {
        out.put_u64(until.0);
    }
}

fn read_run(reader: &mut Reader<'_>) -> Result<Option<Run>, BadSnapshot> {
    let form = reader.u8("run")?;
    if form > 2 {
        return Err(BadSnapshot::Field("run"));
    }
    if form == 0 {
        return Ok(None);
    }
    Ok(Some(Run {
        first_event: EventIndex(reader.u64("run's first event")?),
        boot: BootId(reader.array("run's boot")?),
        from: WallNanos(reader.u64("run's beginning")?),
        previous_until: if form == 2 {
            Some(WallNanos(reader.u64("previous run's end")?))
        } else {
            None
        },
    }))
}

fn put_mark(mark: &Mark, out: &mut Vec<u8>) {
    out.put_u64(mark.index.0);
    out.put_u64(mark.boot_ns.0);
    out.put_u64(mark.wall_ns.0);
}

fn read_mark(reader: &mut Reader<'_>) -> Result<Mark, Short> {
    Ok(Mark {
        index: EventIndex(reader.u64("event index")?),
        boot_ns: BootNanos(reader.u64("boot time")?),
        wall_ns: WallNanos(reader.u64("wall time")?),
    })
}

/// A length that [`super::State::apply`] has bounded; a longer one would be cut and so refused on reading.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn put_entry(id: &EntityId, entry: &Entry, out: &mut Vec<u8>) {
    out.put_u16(id.kind);
    out.put_u32(length(&id.key));
    out.extend_from_slice(&id.key);
    put_mark(&entry.first, out);
    put_mark(&entry.last, out);
    match entry.end {
        None => out.put_u8(0),
        Some(End::Recorded) => out.put_u8(1),
        Some(End::Vanished {
            by,
            not_before,
            not_after,
        }) => {
            out.put_u8(2);
            out.put_u64(by.0);
            out.put_u64(not_before.0);
            out.put_u64(not_after.0);
        }
    }
    out.put_u32(length(&entry.event));
    out.extend_from_slice(&entry.event);
}

fn read_entry(reader: &mut Reader<'_>) -> Result<(EntityId, Entry), BadSnapshot> {
    let kind = reader.u16("kind")?;
    let key = bounded(reader, "key", KEY_BYTES_MAX)?;
    let first = read_mark(reader)?;
    let last = read_mark(reader)?;
    let end = match reader.u8("end")? {
        0 => None,
        1 => Some(End::Recorded),
        2 => Some(End::Vanished {
            by: EventIndex(reader.u64("vanished by")?),
            not_before: WallNanos(reader.u64("not before")?),
            not_after: WallNanos(reader.u64("not after")?),
        }),
        _ => return Err(BadSnapshot::Field("end")),
    };
    let event = bounded(reader, "event", EVENT_BYTES_MAX)?;
    Ok((
        EntityId { kind, key },
        Entry {
            first,
            last,
            end,
            event,
        },
    ))
}

fn bounded(reader: &mut Reader<'_>, what: &'static str, max: usize) -> Result<Vec<u8>, BadSnapshot> {
    let length = reader.u32(what)? as usize;
    if length > max {
        return Err(BadSnapshot::Field(what));
    }
    Ok(reader.take(what, length)?.to_vec())
}
