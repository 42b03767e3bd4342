//! Witnesses: parties that sign a ledger's checkpoint after seeing that it extends the one they signed before.
//!
//! Owns C2SP tlog-cosignature (type 4), tlog-policy (which witnesses are enough), and both sides of
//! tlog-witness `add-checkpoint` as pure decisions: what a witness answers ([`judge`]), what a ledger asks
//! next ([`Exchange`]). Refuses to know sockets, files and clocks: a witness's driver must write a
//! [`Cosigned`] down before it lets the cosignature leave.

mod cosignature;
mod exchange;
mod judge;
mod policy;
mod policy_file;
mod request;

pub use cosignature::{Cosignature, cosign, cosignatures, with_line};
pub use exchange::{Exchange, Next, WitnessFault};
pub use judge::{Accepted, BadRecord, Cosigned, Recorded, TrustedLog, WitnessRefusal, judge};
pub use policy::{Policy, PolicyError, PolicyWitness, Quorum};
pub use policy_file::POLICY_BYTES_MAX;
pub use request::{AddCheckpoint, BadRequest, PROOF_LINES_MAX, REQUEST_BYTES_MAX};

/// Content type of the body that names the size of the checkpoint cosigned last.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

#[cfg(test)]
mod tests;
