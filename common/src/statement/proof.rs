//! The proof file of one statement: that this ledger's key signed it and that this ledger holds it; and, of an
//! accusation, that the host's own signatures bear it out.
//!
//! Text; bytes in `docs/format/proof.md`. Only one encoding of a proof is accepted, so that no byte of a file
//! goes unchecked.

use alloc::{boxed::Box, format, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    BadStatement, Equivocation, EquivocationFault, Said, StatementFault, UnverifiedStatement,
    VerifiedStatement,
};
use crate::{
    batch::{ChainFault, SignedHeader, UnverifiedHeader},
    checkpoint::Checkpoint,
    ids::{KeyEpoch, LeafIndex},
    ledger_keys::LedgerTrust,
    limits::ENTRY_BYTES_MAX,
    proof::{HistoryFault, KEY_HISTORY_BYTES_MAX, history},
    receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptError},
};

/// What the first line of every such file begins with; the format's number follows.
const FIRST_LINE: &str = "hostledger/statement-proof/v";
/// Longest proof file accepted, in bytes: base64 of statement and key history, receipt, labels.
pub const STATEMENT_PROOF_BYTES_MAX: usize =
    ENTRY_BYTES_MAX / 3 * 4 + KEY_HISTORY_BYTES_MAX + RECEIPT_BYTES_MAX + 64;

/// Everything needed to prove one statement. Nothing is proven until [`StatementProof::check`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementProof {
    /// The statement's bytes, exactly as signed.
    pub statement: Vec<u8>,
    /// Of an equivocation: a signed header of each key epoch of the host before the one of the header held, from epoch
    /// 0 on. None where that is epoch 0, and in files that leave open whose key it is.
    pub key_history: Vec<Vec<u8>>,
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
    /// What the host's own signatures prove, where the statement accuses a host of equivocation.
    pub accusation: Option<Accusation>,
}

/// How far an accusation of equivocation needs nobody's word but the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accusation {
    /// The key epoch of the header held.
    pub key_epoch: KeyEpoch,
    /// Whether the key is proven to be the host's. Else one key is proven to have signed both headers, or to have
    /// announced the key that signed the other, and whose it is follows from the host's chain in the ledger.
    pub by_host: bool,
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
    /// An accusation that the host's signatures do not bear out, whoever signed the statement.
    #[error("the ledger holds an accusation that proves nothing: {0}")]
    Accusation(#[from] EquivocationFault),
    /// A key history where there is nothing to prove by one.
    #[error("a key history stands beside a statement that needs none")]
    NoHistoryDue,
    /// A header of the key history.
    #[error("the proof's key history, epoch {epoch}: {cause}")]
    History {
        /// The epoch it should be of.
        epoch: u64,
        /// What is wrong with it.
        cause: Box<HistoryFault>,
    },
    /// The key history does not lead to the key of the header held.
    #[error("the accusation's header held: {0}")]
    Held(Box<ChainFault>),
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
        let accusation = match &statement.fields().said {
            Said::Equivocation(equivocation) => Some(accusation(equivocation, &self.key_history)?),
            _ if self.key_history.is_empty() => None,
            _ => return Err(StatementProofFault::NoHistoryDue),
        };
        let checkpoint = self.receipt.verify(statement.bytes(), trust)?;
        Ok(ProvenStatement {
            statement,
            leaf: self.receipt.leaf,
            checkpoint,
            accusation,
        })
    }

    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let version = 1 + u8::from(!self.key_history.is_empty());
        let mut text = format!("{FIRST_LINE}{version}\nstatement ");
        STANDARD.encode_string(&self.statement, &mut text);
        text.push('\n');
        history::write(&self.key_history, &mut text);
        text.push('\n');
        let mut bytes = text.into_bytes();
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
        let mut lines = head.split('\n').peekable();
        let version = lines.next().and_then(|line| line.strip_prefix(FIRST_LINE));
        if !matches!(version, Some("1" | "2")) {
            return Err(Malformed("unknown first line"));
        }
        let statement = lines.next().and_then(|line| line.strip_prefix("statement "));
        let statement = statement.ok_or(Malformed("no statement"))?;
        let key_history = history::read(&mut lines).map_err(Malformed)?;
        if lines.next().is_some() {
            return Err(Malformed("a line too many"));
        }
        let proof = Self {
            statement: STANDARD
                .decode(statement)
                .map_err(|_| Malformed("statement is not base64"))?,
            key_history,
            receipt: Receipt::decode(receipt.as_bytes())?,
        };
        if proof.encode() == bytes {
            Ok(proof)
        } else {
            Err(Malformed("not the one encoding of this proof"))
        }
    }
}

/// What the headers in an accusation prove, with the key history of its host.
fn accusation(said: &Equivocation, key_history: &[Vec<u8>]) -> Result<Accusation, StatementProofFault> {
    said.check()?;
    let held = UnverifiedHeader::parse(&said.held).map_err(|_| EquivocationFault::Header("held"))?;
    let held = SignedHeader::check(held).map_err(|_| EquivocationFault::Signature("held"))?;
    let key_epoch = held.fields().key_epoch;
    let by_host = key_epoch == KeyEpoch(0) || !key_history.is_empty();
    if by_host {
        // Of epoch 0 the host's id says it, and there is nothing to show before.
        let keys = history::keys(held.fields(), key_history)
            .map_err(|(epoch, cause)| StatementProofFault::History { epoch, cause })?;
        keys.check(held)
            .map_err(|fault| StatementProofFault::Held(Box::new(fault)))?;
    }
    Ok(Accusation { key_epoch, by_host })
}

/// Decodes and checks a file in one step.
///
/// # Errors
/// Why it proves nothing.
pub fn check(bytes: &[u8], trust: &impl LedgerTrust) -> Result<ProvenStatement, StatementProofFault> {
    StatementProof::decode(bytes)?.check(trust)
}

#[cfg(test)]
mod tests;
