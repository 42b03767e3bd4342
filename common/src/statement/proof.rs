//! The proof file of one statement: that this ledger's key signed it and that this ledger holds it.
//!
//! Text; bytes in `docs/format/proof.md`. Only one encoding of a proof is accepted, so that no byte of a file
//! goes unchecked.

use alloc::{format, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{BadStatement, StatementFault, UnverifiedStatement, VerifiedStatement};
use crate::{
    checkpoint::Checkpoint,
    ids::LeafIndex,
    ledger_keys::LedgerTrust,
    limits::ENTRY_BYTES_MAX,
    receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptError},
};

/// First line of the file.
const FIRST_LINE: &str = "hostledger/statement-proof/v1";
/// Longest proof file accepted, in bytes: base64 of the statement, receipt, labels.
pub const STATEMENT_PROOF_BYTES_MAX: usize = ENTRY_BYTES_MAX / 3 * 4 + RECEIPT_BYTES_MAX + 64;

/// Everything needed to prove one statement. Nothing is proven until [`StatementProof::check`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementProof {
    /// The statement's bytes, exactly as signed.
    pub statement: Vec<u8>,
    /// Its place in the ledger.
    pub receipt: Receipt,
}

/// What a checked proof proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenStatement {
    /// The statement.
    pub statement: VerifiedStatement,
    /// Its leaf in the ledger.
    pub leaf: LeafIndex,
    /// The ledger's head that includes it.
    pub checkpoint: Checkpoint,
}

/// Why a file proves nothing. Whoever supplied it is at fault, unless the verifier key is another ledger's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementProofFault {
    /// Not a proof file, or not in its one encoding.
    #[error("not a statement's proof file: {0}")]
    Malformed(&'static str),
    /// The statement inside.
    #[error("the proof's statement: {0}")]
    Statement(#[from] BadStatement),
    /// The statement's signature.
    #[error("the proof's statement: {0}")]
    Signature(#[from] StatementFault),
    /// The statement is not in the ledger.
    #[error("the statement is not proven to be in the ledger: {0}")]
    Ledger(#[from] ReceiptError),
}

impl StatementProof {
    /// Whether a file begins as these proofs do.
    #[must_use]
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(FIRST_LINE.as_bytes())
    }

    /// Checks the statement's signature and its place under the ledger's signed head.
    ///
    /// # Errors
    /// The link that does not hold.
    pub fn check(self, trust: &impl LedgerTrust) -> Result<ProvenStatement, StatementProofFault> {
        let parsed = UnverifiedStatement::parse(&self.statement)?;
        let statement = VerifiedStatement::at_leaf(parsed, self.receipt.leaf, trust)?;
        let checkpoint = self.receipt.verify(statement.bytes(), trust)?;
        Ok(ProvenStatement {
            statement,
            leaf: self.receipt.leaf,
            checkpoint,
        })
    }

    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let head = format!("{FIRST_LINE}\nstatement {}\n\n", STANDARD.encode(&self.statement));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.receipt.encode());
        bytes
    }

    /// Reads a file. Whatever would not be written the same way is refused.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatementProofFault> {
        use StatementProofFault::Malformed;
        if bytes.len() > STATEMENT_PROOF_BYTES_MAX {
            return Err(Malformed("too long"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8"))?;
        let (head, receipt) = text.split_once("\n\n").ok_or(Malformed("no blank line"))?;
        let statement = head
            .strip_prefix(FIRST_LINE)
            .and_then(|rest| rest.strip_prefix("\nstatement "))
            .ok_or(Malformed("unknown first lines"))?;
        let proof = Self {
            statement: STANDARD
                .decode(statement)
                .map_err(|_| Malformed("statement is not base64"))?,
            receipt: Receipt::decode(receipt.as_bytes())?,
        };
        if proof.encode() == bytes {
            Ok(proof)
        } else {
            Err(Malformed("not the one encoding of this proof"))
        }
    }
}

/// Decodes and checks a file in one step.
///
/// # Errors
/// Why it proves nothing.
pub fn check(bytes: &[u8], trust: &impl LedgerTrust) -> Result<ProvenStatement, StatementProofFault> {
    StatementProof::decode(bytes)?.check(trust)
}
