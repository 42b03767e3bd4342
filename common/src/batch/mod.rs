//! Batches: consecutive events of one host under a signed, hash-chained header.
//!
//! Bytes: `docs/format/batch.md`. A header that was only parsed is [`UnverifiedHeader`]; only
//! [`ChainHead::accept`] makes a [`VerifiedHeader`] of it, and only [`VerifiedHeader::check_body`] a
//! [`VerifiedBody`]. Nothing is re-encoded to be verified: hashes cover the bytes as received.

mod body;
mod chain;
mod header;

pub(crate) use self::header::MAGIC;
pub use self::{
    body::{BodyFault, BodyView, Damage, VerifiedBody, body_bytes_for, encode_body},
    chain::{ChainFault, ChainHead, VerifiedHeader},
    header::{
        BadHeader, ClockSource, HEADER_FIXED_BYTES, HeaderFields, HeaderFlags, SENSOR_COUNTERS_BYTES,
        SensorCounters, UnverifiedHeader, sign_header,
    },
};

#[cfg(test)]
mod tests;
