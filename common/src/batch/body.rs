//! The batch body: length table, leaf tags, events.
//!
//! Bytes: `u32 count`, `count × u32` event lengths, `count × 8` leaf tags, then the events end to end.

use alloc::vec::Vec;

use super::{SignedHeader, VerifiedHeader};
use crate::{
    codec::{Reader, Short, Write},
    ids::{EventIndex, Hash},
    limits::{BATCH_BODY_BYTES_MAX, BATCH_EVENTS_MAX, EVENT_BYTES_MAX},
    merkle::{leaf_hashes, root_of},
};

/// Length of a leaf tag, bytes.
const TAG_BYTES: usize = 8;
/// Bytes an event costs beside its own.
const OVERHEAD_BYTES: usize = 4 + TAG_BYTES;

/// Length of the body that holds `events` events of `event_bytes` bytes in all.
#[must_use]
pub const fn body_bytes_for(events: usize, event_bytes: usize) -> usize {
    4 + events * OVERHEAD_BYTES + event_bytes
}

/// Lays out a body and returns it with the events' root and the tag list's hash, as the header names them.
pub fn encode_body(events: &[impl AsRef<[u8]>]) -> Result<(Vec<u8>, Hash, Hash), BodyFault> {
    let total = body_bytes_for(
        events.len(),
        events.iter().map(|event| event.as_ref().len()).sum(),
    );
    if total > BATCH_BODY_BYTES_MAX || events.len() > BATCH_EVENTS_MAX {
        return Err(BodyFault::TooLong {
            bytes: total,
            events: events.len(),
        });
    }
    let too_long = |_| BodyFault::TooLong {
        bytes: total,
        events: events.len(),
    };
    let mut body = Vec::with_capacity(total);
    body.put_u32(u32::try_from(events.len()).map_err(too_long)?);
    for event in events {
        body.put_u32(u32::try_from(event.as_ref().len()).map_err(too_long)?);
    }
    let events: Vec<&[u8]> = events.iter().map(AsRef::as_ref).collect();
    let leaves = leaf_hashes(&events);
    let tags = tag_list(&leaves);
    body.extend_from_slice(&tags);
    for event in events {
        body.extend_from_slice(event);
    }
    Ok((body, root_of(&leaves), Hash::of(&tags)))
}

fn tag_list(leaves: &[Hash]) -> Vec<u8> {
    leaves
        .iter()
        .flat_map(|leaf| leaf.0[..TAG_BYTES].iter().copied())
        .collect()
}

/// A body cut into its parts, not yet held against its header.
#[derive(Debug, Clone)]
pub struct BodyView<'a> {
    tags: &'a [u8],
    events: Vec<&'a [u8]>,
}

impl<'a> BodyView<'a> {
    /// Cuts a body along its own length table.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyFault> {
        if body.len() > BATCH_BODY_BYTES_MAX {
            return Err(BodyFault::TooLong {
                bytes: body.len(),
                events: 0,
            });
        }
        let mut reader = Reader::new(body);
        let count = reader.u32("event count")? as usize;
        if count > BATCH_EVENTS_MAX {
            return Err(BodyFault::TooLong {
                bytes: body.len(),
                events: count,
            });
        }
        let lengths = reader.take("length table", count * 4)?;
        let tags = reader.take("leaf tags", count * TAG_BYTES)?;
        let mut events = Vec::with_capacity(count);
        for (at, length) in lengths.as_chunks::<4>().0.iter().enumerate() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > EVENT_BYTES_MAX {
                return Err(BodyFault::Length {
                    event: at as u64,
                    length: length as u64,
                });
            }
            events.push(reader.take("event", length).map_err(|_| BodyFault::Length {
                event: at as u64,
                length: length as u64,
            })?);
        }
        if !reader.rest().is_empty() {
            return Err(BodyFault::Trailing {
                bytes: reader.rest().len(),
            });
        }
        Ok(Self { tags, events })
    }

    /// The events' bytes, in order.
    #[must_use]
    pub fn events(&self) -> &[&'a [u8]] {
        &self.events
    }
}

/// Why a body is not the one its header signs. Event numbers are positions within the batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It ends too early.
    #[error("body cut short: {0}")]
    Short(#[from] Short),
    /// It is longer than any body may be.
    #[error("body of {bytes} bytes and {events} events is over the limit")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// Events it claims, where that far read.
        events: usize,
    },
    /// An entry of the length table points past the end or over the limit.
    #[error("event {event} of the batch is said to be {length} bytes long, which cannot be")]
    Length {
        /// Position in the batch.
        event: u64,
        /// Length the table says.
        length: u64,
    },
    /// Bytes follow the last event.
    #[error("{bytes} bytes follow the last event")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Its length or count is not what the header says.
    #[error("the header says {expected} for the body's {field}, the body has {found}")]
    Header {
        /// Which of them.
        field: &'static str,
        /// What the header says.
        expected: u64,
        /// What the body has.
        found: u64,
    },
    /// Stored bytes disagree with what a good signature covers.
    #[error("{0}")]
    Damaged(Damage),
}

/// Which part of a body disagrees with its signed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// One event: its leaf hash does not carry the tag that the header covers.
    #[error("event {event} of the batch was altered (its leaf tag does not fit)")]
    Event {
        /// Position in the batch; the first, where several are.
        event: u64,
    },
    /// The tag list: the events give the signed root, the list does not give its signed hash.
    #[error("leaf tag {event} of the batch was altered (the events are intact)")]
    Tag {
        /// Position in the batch; the first, where several are.
        event: u64,
    },
    /// Events and tags fit each other but not the header: both were replaced.
    #[error("the body as a whole is not the one the header signs")]
    Whole,
}

/// A body that is byte for byte what its signed header binds.
#[derive(Debug, Clone)]
pub struct VerifiedBody<'a> {
    first: EventIndex,
    view: BodyView<'a>,
    leaves: Vec<Hash>,
}

impl<'a> VerifiedBody<'a> {
    /// The events with their positions in the chain.
    pub fn events(&self) -> impl Iterator<Item = (EventIndex, &'a [u8])> + '_ {
        (self.first.0..)
            .map(EventIndex)
            .zip(self.view.events.iter().copied())
    }

    /// The RFC 6962 leaf hashes of the events, in order.
    #[must_use]
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }
}

impl VerifiedHeader {
    /// As [`SignedHeader::check_body`].
    ///
    /// # Errors
    /// The first thing that disagrees.
    pub fn check_body<'a>(&self, body: &'a [u8]) -> Result<VerifiedBody<'a>, BodyFault> {
        self.signed().check_body(body)
    }
}

impl SignedHeader {
    /// Holds a body against this header and names the first thing that disagrees.
    pub fn check_body<'a>(&self, body: &'a [u8]) -> Result<VerifiedBody<'a>, BodyFault> {
        let fields = self.fields();
        let view = BodyView::parse(body);
        if body.len() as u64 != u64::from(fields.body_bytes) {
            return Err(header_fault(
                "length",
                u64::from(fields.body_bytes),
                body.len() as u64,
            ));
        }
        let view = view?;
        if view.events.len() as u64 != u64::from(fields.event_count) {
            return Err(header_fault(
                "event count",
                u64::from(fields.event_count),
                view.events.len() as u64,
            ));
        }
        let leaves = leaf_hashes(&view.events);
        let tags_fit = Hash::of(view.tags) == fields.tags_hash;
        let root_fits = root_of(&leaves) == fields.events_root;
        if tags_fit && root_fits {
            return Ok(VerifiedBody {
                first: fields.first_event,
                view,
                leaves,
            });
        }
        let differs = tag_list(&leaves)
            .chunks(TAG_BYTES)
            .zip(view.tags.chunks(TAG_BYTES))
            .position(|(a, b)| a != b);
        Err(BodyFault::Damaged(match differs {
            Some(event) if root_fits => Damage::Tag { event: event as u64 },
            Some(event) if tags_fit => Damage::Event { event: event as u64 },
            _ => Damage::Whole,
        }))
    }
}

fn header_fault(field: &'static str, expected: u64, found: u64) -> BodyFault {
    BodyFault::Header {
        field,
        expected,
        found,
    }
}
