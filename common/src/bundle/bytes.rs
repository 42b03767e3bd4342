//! The file: fixed rules, every byte accounted for, a hash over all of them at the end.

use alloc::{string::String, vec::Vec};

use super::{BatchPart, Bundle, Contents, HostPart, Selection, StatementPart};
use crate::{
    codec::{Reader, Short, Write},
    fold::EntityId,
    ids::{EventIndex, Hash, HostId, LeafIndex, WallNanos},
    ledger_keys::LEDGER_KEYS_BYTES_MAX,
    limits::{
        BATCH_BODY_BYTES_MAX, BATCH_EVENTS_MAX, ENTRY_BYTES_MAX, EVENT_BYTES_MAX, HEADER_BYTES_MAX,
        KEY_BYTES_MAX, NOTE_BYTES_MAX,
    },
    proof::KEY_HISTORY_MAX,
};

/// First bytes of every bundle.
const MAGIC: &[u8; 8] = b"HLBUNDLE";
/// The format of a ledger whose keys were never changed.
const FORMAT_VERSION: u16 = 1;
/// The format that carries the history of the ledger's keys.
const FORMAT_VERSION_KEYS: u16 = 2;
/// Longest bundle, bytes; it is checked in memory.
pub const BUNDLE_BYTES_MAX: usize = 1 << 30;
/// Longest encoded verifier key, bytes.
const VERIFIER_KEY_BYTES_MAX: usize = 512;
/// Most hosts of a bundle.
const HOSTS_MAX: usize = 1 << 16;
/// Most events named in a selection.
const NAMED_MAX: usize = 1 << 16;
/// Most batches of one host.
const BATCHES_MAX: usize = 1 << 21;
/// Most statements.
const STATEMENTS_MAX: usize = 1 << 16;
/// Most hashes of a shared proof: bounded by the length of the file anyway.
const PATH_MAX: usize = BUNDLE_BYTES_MAX / 32;

/// Why bytes are no bundle, or parts cannot be one. Whoever supplied them is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBundle {
    /// Not one byte more may be read.
    #[error("bundle of {0} bytes is longer than {BUNDLE_BYTES_MAX}")]
    TooLong(usize),
    /// It ends too early.
    #[error("bundle cut short: {0}")]
    Short(#[from] Short),
    /// The hash at its end is not that of what comes before: altered, cut, or no bundle at all.
    #[error("the bundle was altered or cut: the hash at its end is not that of the bytes before it")]
    Digest,
    /// It does not start as bundles do.
    #[error("not a bundle")]
    Magic,
    /// A format this build does not know.
    #[error("bundle format {0} is unknown here; upgrade this program to read it")]
    Version(u16),
    /// A field holds what it may not.
    #[error("the bundle's {field} is {value}, which is not allowed")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// Something stands out of order, or twice.
    #[error("the bundle's {0} do not ascend")]
    Order(&'static str),
    /// Bytes follow the last field.
    #[error("{0} bytes too many in the bundle")]
    Trailing(usize),
}

impl Bundle {
    /// The file.
    ///
    /// # Errors
    /// [`BadBundle`] where a part is over its limit or out of order: [`Bundle::decode`] would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, BadBundle> {
        let mut out = MAGIC.to_vec();
        let keys_changed = !self.ledger_keys.is_empty();
        out.put_u16(if keys_changed {
            FORMAT_VERSION_KEYS
        } else {
            FORMAT_VERSION
        });
        out.put_u16(0);
        put(
            &mut out,
            Width::Two,
            "verifier key",
            self.verifier_key.as_bytes(),
            VERIFIER_KEY_BYTES_MAX,
        )?;
        if keys_changed {
            let (field, history) = ("history of the ledger's keys", &self.ledger_keys);
            put(&mut out, Width::Four, field, history, LEDGER_KEYS_BYTES_MAX)?;
        }
        put(
            &mut out,
            Width::Four,
            "checkpoint",
            &self.checkpoint,
            NOTE_BYTES_MAX,
        )?;
        put_selection(&mut out, &self.selection)?;
        count(&mut out, "hosts", self.hosts.len(), HOSTS_MAX)?;
        for host in &self.hosts {
            put_host(&mut out, host)?;
        }
        count(&mut out, "statements", self.statements.len(), STATEMENTS_MAX)?;
        for part in &self.statements {
            out.put_u64(part.leaf.0);
            put(
                &mut out,
                Width::Two,
                "statement",
                &part.statement,
                ENTRY_BYTES_MAX,
            )?;
        }
        put_path(&mut out, &self.path)?;
        let digest = Hash::of(&out);
        out.extend_from_slice(&digest.0);
        // What is written must read back: limits and orders are checked once, there.
        Self::decode(&out)?;
        Ok(out)
    }

    /// Reads a file. Whatever would not be written the same way is refused.
    ///
    /// # Errors
    /// [`BadBundle`], with [`BadBundle::Digest`] before all others.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBundle> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(BadBundle::TooLong(bytes.len()));
        }
        let (covered, digest) = bytes.split_last_chunk::<32>().ok_or(BadBundle::Digest)?;
        if Hash::of(covered) != Hash(*digest) {
            return Err(BadBundle::Digest);
        }
        let mut reader = Reader::new(covered);
        if &reader.array("magic")? != MAGIC {
            return Err(BadBundle::Magic);
        }
        let version = reader.u16("format version")?;
        if ![FORMAT_VERSION, FORMAT_VERSION_KEYS].contains(&version) {
            return Err(BadBundle::Version(version));
        }
        limit("reserved", u64::from(reader.u16("reserved")?), 0)?;
        let key = take(&mut reader, Width::Two, "verifier key", VERIFIER_KEY_BYTES_MAX)?;
        let verifier_key = String::from_utf8(key).map_err(|_| BadBundle::Field {
            field: "verifier key",
            value: 0,
        })?;
        let ledger_keys = if version == FORMAT_VERSION_KEYS {
            let field = "history of the ledger's keys";
            let history = take(&mut reader, Width::Four, field, LEDGER_KEYS_BYTES_MAX)?;
            if history.is_empty() {
                return Err(BadBundle::Field { field, value: 0 });
            }
            history
        } else {
            Vec::new()
        };
        let bundle = Self {
            verifier_key,
            ledger_keys,
            checkpoint: take(&mut reader, Width::Four, "checkpoint", NOTE_BYTES_MAX)?,
            selection: read_selection(&mut reader)?,
            hosts: list(&mut reader, "hosts", HOSTS_MAX, read_host)?,
            statements: list(&mut reader, "statements", STATEMENTS_MAX, read_statement)?,
            path: list(&mut reader, "path", PATH_MAX, |reader| {
                Ok(Hash(reader.array("path")?))
            })?,
        };
        ascends("hosts", bundle.hosts.iter().map(|part| part.host))?;
        ascends("statements", bundle.statements.iter().map(|part| part.leaf))?;
        match reader.rest().len() {
            0 => Ok(bundle),
            more => Err(BadBundle::Trailing(more)),
        }
    }
}

fn put_selection(out: &mut Vec<u8>, selection: &Selection) -> Result<(), BadBundle> {
    match selection {
        Selection::Interval {
            since,
            until,
            hosts,
            entity,
        } => {
            out.put_u8(1);
            out.put_u64(since.0);
            out.put_u64(until.0);
            count(out, "hosts asked for", hosts.len(), HOSTS_MAX)?;
            for host in hosts {
                out.extend_from_slice(&host.0);
            }
            out.put_u8(u8::from(entity.is_some()));
            if let Some(entity) = entity {
                out.put_u16(entity.kind);
                put(out, Width::Two, "entity key", &entity.key, KEY_BYTES_MAX)?;
            }
        }
        Selection::Events(events) => {
            out.put_u8(2);
            count(out, "events asked for", events.len(), NAMED_MAX)?;
            for (host, index) in events {
                out.extend_from_slice(&host.0);
                out.put_u64(index.0);
            }
        }
    }
    Ok(())
}

fn read_selection(reader: &mut Reader<'_>) -> Result<Selection, BadBundle> {
    match reader.u8("selection")? {
        1 => {
            let (since, until) = (reader.u64("since")?, reader.u64("until")?);
            limit("since", since, until)?;
            let hosts = list(reader, "hosts asked for", HOSTS_MAX, |reader| {
                Ok(HostId(reader.array("host")?))
            })?;
            ascends("hosts asked for", hosts.iter())?;
            let entity = match reader.u8("entity")? {
                0 => None,
                1 => Some(EntityId {
                    kind: reader.u16("entity kind")?,
                    key: take(reader, Width::Two, "entity key", KEY_BYTES_MAX)?,
                }),
                other => {
                    return Err(BadBundle::Field {
                        field: "entity",
                        value: u64::from(other),
                    });
                }
            };
            Ok(Selection::Interval {
                since: WallNanos(since),
                until: WallNanos(until),
                hosts,
                entity,
            })
        }
        2 => {
            let events = list(reader, "events asked for", NAMED_MAX, |reader| {
                Ok((HostId(reader.array("host")?), EventIndex(reader.u64("event")?)))
            })?;
            ascends("events asked for", events.iter())?;
            if events.is_empty() {
                return Err(BadBundle::Field {
                    field: "events asked for",
                    value: 0,
                });
            }
            Ok(Selection::Events(events))
        }
        other => Err(BadBundle::Field {
            field: "selection",
            value: u64::from(other),
        }),
    }
}

fn put_host(out: &mut Vec<u8>, part: &HostPart) -> Result<(), BadBundle> {
    out.extend_from_slice(&part.host.0);
    count(out, "key history", part.key_history.len(), KEY_HISTORY_MAX)?;
    for header in &part.key_history {
        put(out, Width::Two, "header", header, HEADER_BYTES_MAX)?;
    }
    count(out, "batches", part.batches.len(), BATCHES_MAX)?;
    for batch in &part.batches {
        out.put_u64(batch.leaf.0);
        put(out, Width::Two, "header", &batch.header, HEADER_BYTES_MAX)?;
        match &batch.contents {
            Contents::Header => out.put_u8(0),
            Contents::Body(body) => {
                out.put_u8(1);
                put(out, Width::Four, "body", body, BATCH_BODY_BYTES_MAX)?;
            }
            Contents::Events { events, path } => {
                out.put_u8(2);
                count(out, "events", events.len(), BATCH_EVENTS_MAX)?;
                for (position, event) in events {
                    out.put_u32(*position);
                    put(out, Width::Four, "event", event, EVENT_BYTES_MAX)?;
                }
                put_path(out, path)?;
            }
            Contents::Gone => out.put_u8(3),
        }
    }
    Ok(())
}

fn read_host(reader: &mut Reader<'_>) -> Result<HostPart, BadBundle> {
    let part = HostPart {
        host: HostId(reader.array("host")?),
        key_history: list(reader, "key history", KEY_HISTORY_MAX, |reader| {
            take(reader, Width::Two, "header", HEADER_BYTES_MAX)
        })?,
        batches: list(reader, "batches", BATCHES_MAX, |reader| {
            Ok(BatchPart {
                leaf: LeafIndex(reader.u64("leaf")?),
                header: take(reader, Width::Two, "header", HEADER_BYTES_MAX)?,
                contents: read_contents(reader)?,
            })
        })?,
    };
    if part.batches.is_empty() {
        return Err(BadBundle::Field {
            field: "batches",
            value: 0,
        });
    }
    Ok(part)
}

fn read_contents(reader: &mut Reader<'_>) -> Result<Contents, BadBundle> {
    Ok(match reader.u8("contents")? {
        0 => Contents::Header,
        1 => Contents::Body(take(reader, Width::Four, "body", BATCH_BODY_BYTES_MAX)?),
        2 => {
            let events = list(reader, "events", BATCH_EVENTS_MAX, |reader| {
                let position = reader.u32("position")?;
                Ok((position, take(reader, Width::Four, "event", EVENT_BYTES_MAX)?))
            })?;
            ascends("events", events.iter().map(|(position, _)| position))?;
            if events.is_empty() {
                return Err(BadBundle::Field {
                    field: "events",
                    value: 0,
                });
            }
            let path = list(reader, "path", BATCH_EVENTS_MAX, |reader| {
                Ok(Hash(reader.array("path")?))
            })?;
            Contents::Events { events, path }
        }
        3 => Contents::Gone,
        other => {
            return Err(BadBundle::Field {
                field: "contents",
                value: u64::from(other),
            });
        }
    })
}

fn read_statement(reader: &mut Reader<'_>) -> Result<StatementPart, BadBundle> {
    Ok(StatementPart {
        leaf: LeafIndex(reader.u64("leaf")?),
        statement: take(reader, Width::Two, "statement", ENTRY_BYTES_MAX)?,
    })
}

/// Bytes of a length.
#[derive(Clone, Copy)]
enum Width {
    Two,
    Four,
}

fn put(
    out: &mut Vec<u8>,
    width: Width,
    field: &'static str,
    bytes: &[u8],
    max: usize,
) -> Result<(), BadBundle> {
    limit(field, bytes.len() as u64, max as u64)?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(match width {
        Width::Two => &length[2..],
        Width::Four => &length,
    });
    out.extend_from_slice(bytes);
    Ok(())
}

fn take(
    reader: &mut Reader<'_>,
    width: Width,
    field: &'static str,
    max: usize,
) -> Result<Vec<u8>, BadBundle> {
    let length = match width {
        Width::Two => u32::from(reader.u16(field)?),
        Width::Four => reader.u32(field)?,
    };
    limit(field, u64::from(length), max as u64)?;
    Ok(reader.take(field, length as usize)?.to_vec())
}

fn count(out: &mut Vec<u8>, field: &'static str, items: usize, max: usize) -> Result<(), BadBundle> {
    limit(field, items as u64, max as u64)?;
    out.put_u32(u32::try_from(items).unwrap_or(u32::MAX));
    Ok(())
}

/// A count of four bytes and so many items. Nothing is reserved ahead, so that a count alone costs nothing.
fn list<T>(
    reader: &mut Reader<'_>,
    field: &'static str,
    max: usize,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, BadBundle>,
) -> Result<Vec<T>, BadBundle> {
    let items = reader.u32(field)?;
    limit(field, u64::from(items), max as u64)?;
    let mut found = Vec::new();
    for _ in 0..items {
        found.push(item(reader)?);
    }
    Ok(found)
}

fn put_path(out: &mut Vec<u8>, path: &[Hash]) -> Result<(), BadBundle> {
    count(out, "path", path.len(), PATH_MAX)?;
    for hash in path {
        out.extend_from_slice(&hash.0);
    }
    Ok(())
}

fn limit(field: &'static str, value: u64, max: u64) -> Result<(), BadBundle> {
    if value > max {
        Err(BadBundle::Field { field, value })
    } else {
        Ok(())
    }
}

fn ascends<T: PartialOrd>(what: &'static str, items: impl Iterator<Item = T>) -> Result<(), BadBundle> {
    if items.is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(BadBundle::Order(what))
    }
}
