//! What can be checked of a batch by itself, in parallel with others.

use alloc::{string::ToString, vec::Vec};

use crate::{
    batch::{ChainFault, SignedHeader, UnverifiedHeader},
    ids::{HostId, Sequence},
    session::{Refusal, RefusalCode},
    signature::LastKey,
};

/// A batch whose header is signed by its host's key and binds its body; its place in the chain is not known
/// yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBatch {
    header: SignedHeader,
    body: Vec<u8>,
}

impl CheckedBatch {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &SignedHeader {
        &self.header
    }

    /// The body, byte for byte what the header signs.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of header and body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.header.bytes().len() + self.body.len()) as u64
    }
}

/// Checks form, owner, signature and body of a batch that came from `host`. Pure and expensive: run it on as
/// many cores as there are, then admit the batches of one connection in order. `last` goes from one batch of a host to
/// its next.
pub fn check_batch(
    host: &HostId,
    header: &[u8],
    body: Vec<u8>,
    last: &mut LastKey,
) -> Result<CheckedBatch, Refusal> {
    let parsed = UnverifiedHeader::parse(header)
        .map_err(|bad| Refusal::fatal(RefusalCode::Malformed, None, &bad.to_string()))?;
    let claimed = parsed.claimed();
    let sequence = claimed.sequence;
    if claimed.host != *host {
        let fault = ChainFault::Host {
            expected: *host,
            found: claimed.host,
        };
        return Err(refusal_of(&fault, sequence));
    }
    let header = SignedHeader::check_by(parsed, last).map_err(|fault| refusal_of(&fault, sequence))?;
    header
        .check_body(&body)
        .map_err(|fault| Refusal::fatal(RefusalCode::Body, Some(sequence), &fault.to_string()))?;
    Ok(CheckedBatch { header, body })
}

/// What an agent is told of a fault in its chain.
#[must_use]
pub fn refusal_of(fault: &ChainFault, sequence: Sequence) -> Refusal {
    let code = match fault {
        ChainFault::Host { .. } => RefusalCode::Host,
        ChainFault::Keys { .. } | ChainFault::Signature { .. } => RefusalCode::Signature,
        ChainFault::Sequence { .. } | ChainFault::Overflow(_) => RefusalCode::Gap,
        ChainFault::EventIndex { .. } | ChainFault::Previous { .. } => RefusalCode::Fork,
    };
    Refusal::fatal(code, Some(sequence), &fault.to_string())
}
