//! Statements: what a collector says of its hosts, signed, chained, and as leaves of the ledger.
//!
//! Bytes: `docs/format/statement.md`. Owns the envelope, the collector's own chain of them (gapless numbers,
//! each naming the hash of the one before) and what each kind says. A statement that was only parsed is
//! [`UnverifiedStatement`]; only a key makes a [`VerifiedStatement`] of it. A statement is the collector's
//! word, no more, but for what it carries that others signed: [`Equivocation::check`] needs nobody's word.
//! Refuses to decide what is to be said, and to read a clock.

mod bytes;
mod chain;
mod display;
mod kinds;
mod proof;
mod read;
mod retention;

pub(crate) use self::bytes::MAGIC;
pub use self::{
    bytes::{BadStatement, STATEMENT_FIXED_BYTES, StatementFields, UnverifiedStatement, sign_statement},
    chain::{StatementChain, StatementFault, VerifiedStatement},
    kinds::{BatchPoint, ClockAnomaly, ClockFault, Divergence, Equivocation, EquivocationFault, Kind, Said},
    proof::{
        Accusation, ProvenStatement, STATEMENT_PROOF_BYTES_MAX, StatementProof, StatementProofFault, check,
    },
    retention::{Hold, HoldLifted, LeafRange, PruneCertificate, PrunedHost},
};

#[cfg(test)]
mod tests;
