//! Batches: consecutive events of one host under a signed, hash-chained header.
//!
//! Bytes: `docs/format/batch.md`. A header that was only parsed is [`UnverifiedHeader`]; with
//! a good signature of the key it names it is a [`SignedHeader`]; only [`ChainHead::accept`] and
//! [`HostKeys::check`] make a [`VerifiedHeader`] of it. [`SignedHeader::check_body`] makes a [`VerifiedBody`]:
//! as good as the header. Nothing is re-encoded to be verified: hashes cover the bytes as received.

mod body;
mod chain;
mod fault;
mod header;
mod held;
mod keys;

pub(crate) use self::header::MAGIC;
pub use self::{
    body::{BodyFault, BodyView, Damage, VerifiedBody, body_bytes_for, encode_body},
    chain::{ChainHead, SignedHeader, VerifiedHeader},
    fault::ChainFault,
    header::{
        BadHeader, ClockSource, HEADER_FIXED_BYTES, HeaderFields, HeaderFlags, SENSOR_COUNTERS_BYTES,
        SensorCounters, UnverifiedHeader, sign_header,
    },
    held::{HeldKeys, KeysDiffer},
    keys::{HostKeys, KeyClaim, KeyFault, KeyHead},
};

#[cfg(test)]
mod tests;
