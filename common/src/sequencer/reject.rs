//! Why a batch is turned away.

use alloc::{format, vec::Vec};

use crate::{
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

pub(super) fn equivocation(sequence: Sequence, offending: &[u8], held: &[u8]) -> Rejected {
    let text = format!("another batch {sequence} of this host is held: the host signed two");
    Rejected {
        refusal: Refusal::fatal(RefusalCode::Equivocation, Some(sequence), &text),
        offending: offending.to_vec(),
        held: held.to_vec(),
    }
}
