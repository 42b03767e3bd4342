//! Why a batch is turned away.

use alloc::{format, vec::Vec};

use crate::{
    batch::{KeyHead, SignedHeader, UnverifiedHeader},
    ids::Sequence,
    session::{Refusal, RefusalCode},
};

/// Why a batch was not admitted, with what an auditor needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What the agent is told.
    pub refusal: Refusal,
    /// The signed header that cannot stand beside what is held; empty where it proves nothing.
    pub offending: Vec<u8>,
    /// The signed header that it contradicts; empty where none is at hand.
    pub held: Vec<u8>,
}

pub(super) fn rejected(code: RefusalCode, sequence: Sequence, text: &str) -> Rejected {
    Rejected {
        refusal: Refusal::fatal(code, Some(sequence), text),
        offending: Vec::new(),
        held: Vec::new(),
    }
}

/// Another header under a sequence that is held. It proves that the host signed two only where the held one
/// vouches for its key: a signature by any other key is anybody's.
pub(super) fn contradiction(offered: &SignedHeader, held: &[u8]) -> Rejected {
    let (sequence, claim) = (offered.fields().sequence, offered.fields().keys());
    let vouched = UnverifiedHeader::parse(held)
        .is_ok_and(|held| KeyHead::behind(&held.claimed().keys()).vouches_for(&claim));
    if !vouched {
        let text = format!(
            "another batch {sequence} of this host is held, and key {} of epoch {} is not known to be the host's",
            claim.key, claim.epoch
        );
        return rejected(RefusalCode::Signature, sequence, &text);
    }
    let text = format!("another batch {sequence} of this host is held: the host signed two");
    Rejected {
        refusal: Refusal::fatal(RefusalCode::Equivocation, Some(sequence), &text),
        offending: offered.bytes().to_vec(),
        held: held.to_vec(),
    }
}
