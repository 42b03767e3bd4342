//! Entries: which kind of leaf some bytes are. The one place that tells them apart.
//!
//! Every leaf of the ledger starts with four bytes that name its kind. Owns that dispatch and nothing else;
//! refuses to guess: bytes that start otherwise are a named fault.

use crate::{
    batch::{BadHeader, UnverifiedHeader},
    statement::{self, BadStatement, UnverifiedStatement},
};

/// A leaf that was parsed and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnverifiedEntry {
    /// A host's signed batch header; its body lies beside the leaf.
    Batch(UnverifiedHeader),
    /// A statement of the collector; nothing lies beside it.
    Statement(UnverifiedStatement),
}

/// Why bytes are no leaf of this ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// They start as a batch header does.
    #[error(transparent)]
    Batch(#[from] BadHeader),
    /// They start as a statement does.
    #[error(transparent)]
    Statement(#[from] BadStatement),
    /// Neither, or too short to say.
    #[error(
        "neither a batch header nor a statement: it starts with {0:02x?}; if a newer program wrote it, upgrade"
    )]
    Magic([u8; 4]),
}

impl UnverifiedEntry {
    /// Parses the bytes of a leaf.
    ///
    /// # Errors
    /// Why they are none; whoever wrote the ledger is at fault, or whoever altered it.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadEntry> {
        let magic = bytes.first_chunk::<4>().copied().unwrap_or_default();
        if magic == *crate::batch::MAGIC {
            Ok(Self::Batch(UnverifiedHeader::parse(bytes)?))
        } else if magic == *statement::MAGIC {
            Ok(Self::Statement(UnverifiedStatement::parse(bytes)?))
        } else {
            Err(BadEntry::Magic(magic))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_beginnings_are_named() {
        assert_eq!(
            UnverifiedEntry::parse(b"HLXX....."),
            Err(BadEntry::Magic(*b"HLXX"))
        );
        assert_eq!(UnverifiedEntry::parse(b""), Err(BadEntry::Magic([0; 4])));
        assert!(matches!(UnverifiedEntry::parse(b"HLBH"), Err(BadEntry::Batch(_))));
        assert!(matches!(
            UnverifiedEntry::parse(b"HLST"),
            Err(BadEntry::Statement(_))
        ));
    }
}
