//! The collector's own chain of statements: what the next one must be.

use alloc::{boxed::Box, string::String};

use super::{BadStatement, Said, StatementFields, UnverifiedStatement, sign_statement};
use crate::{
    ids::{Hash, LeafIndex, PublicKey, StatementNumber, WallNanos},
    ledger_keys::{LedgerTrust, OutOfForce},
    note::{SignerKey, VerifierKey},
};

/// A statement whose signature was checked with the ledger's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedStatement {
    statement: UnverifiedStatement,
    hash: Hash,
}

impl VerifiedStatement {
    /// The fields, now known to be the collector's word.
    #[must_use]
    pub fn fields(&self) -> &StatementFields {
        self.statement.claimed()
    }

    /// The signed bytes: the ledger's entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.statement.bytes()
    }

    /// SHA-256 of the signed bytes.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Checks a statement by itself: its signature. Whether others are missing before it is for whoever
    /// holds the chain.
    ///
    /// # Errors
    /// [`StatementFault::Signature`].
    pub fn alone(statement: UnverifiedStatement, key: &VerifierKey) -> Result<Self, StatementFault> {
        if statement.is_signed_by(key) {
            let hash = statement.hash();
            Ok(Self { statement, hash })
        } else {
            Err(StatementFault::Signature {
                number: statement.claimed().number,
                signer: statement.claimed().signer,
                key: String::from(key.name()),
            })
        }
    }

    /// The same for the statement at `leaf`, which only the key in force there may have signed.
    ///
    /// # Errors
    /// [`StatementFault::Signature`], [`StatementFault::OutOfForce`].
    pub fn at_leaf(
        statement: UnverifiedStatement,
        leaf: LeafIndex,
        trust: &impl LedgerTrust,
    ) -> Result<Self, StatementFault> {
        let (number, signer) = (statement.claimed().number, statement.claimed().signer);
        Self::alone(statement, trust.signer_at(leaf)).map_err(|fault| {
            match trust.out_of_force(&signer.0, leaf) {
                Some(cause) => StatementFault::OutOfForce {
                    number,
                    cause: Box::new(cause),
                },
                None => fault,
            }
        })
    }
}

/// Why a statement does not continue the collector's chain. The collector is at fault, or whoever altered
/// its ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementFault {
    /// Forged, altered since, or of another collector.
    #[error("statement {number}, said to be signed by {signer}, is not signed by the key of {key}")]
    Signature {
        /// Which statement.
        number: StatementNumber,
        /// The key it names.
        signer: PublicKey,
        /// Whose key it should be.
        key: String,
    },
    /// It names a key of this ledger that was not in force at its leaf.
    #[error("statement {number}: {cause}")]
    OutOfForce {
        /// Which statement.
        number: StatementNumber,
        /// Which key, and where it was in force.
        cause: Box<OutOfForce>,
    },
    /// Statements are missing or repeated.
    #[error("statement {found} where {expected} must follow")]
    Number {
        /// What must follow.
        expected: StatementNumber,
        /// What came.
        found: StatementNumber,
    },
    /// It continues another history.
    #[error("statement {number} names {found} as the one before it where the chain has {expected}")]
    Previous {
        /// Which statement.
        number: StatementNumber,
        /// Hash of the chain's last statement.
        expected: Hash,
        /// Hash it names.
        found: Hash,
    },
    /// The counter would wrap.
    #[error("statement {0} is the last that can be numbered")]
    Overflow(StatementNumber),
}

/// Where the chain stands: all that is needed to make or to judge the next statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatementChain {
    /// Number the next statement must have.
    pub next: StatementNumber,
    /// Hash it must name as its previous; zeros before the first.
    pub hash: Hash,
}

impl StatementChain {
    /// Where the chain stands behind this statement.
    ///
    /// # Errors
    /// [`StatementFault::Overflow`].
    pub fn after(statement: &VerifiedStatement) -> Result<Self, StatementFault> {
        let number = statement.fields().number;
        Ok(Self {
            next: number.checked_add(1).ok_or(StatementFault::Overflow(number))?,
            hash: statement.hash,
        })
    }

    /// Makes the next statement; the chain moves on when it is [followed](Self::follow).
    ///
    /// # Errors
    /// What is said does not fit a statement: ours to fix.
    pub fn write(
        &self,
        said: Said,
        at: WallNanos,
        clock_error_ns: u64,
        key: &SignerKey,
    ) -> Result<VerifiedStatement, BadStatement> {
        let fields = StatementFields {
            number: self.next,
            at,
            clock_error_ns,
            previous: self.hash,
            signer: PublicKey(*key.verifier().public()),
            said,
        };
        let statement = sign_statement(&fields, key)?;
        let hash = statement.hash();
        Ok(VerifiedStatement { statement, hash })
    }

    /// Judges the place of the next statement and moves on past it; on a fault the chain stays as it was.
    ///
    /// # Errors
    /// Why it is not the next one.
    pub fn follow(&mut self, statement: &VerifiedStatement) -> Result<(), StatementFault> {
        let fields = statement.fields();
        if fields.number != self.next {
            return Err(StatementFault::Number {
                expected: self.next,
                found: fields.number,
            });
        }
        if fields.previous != self.hash {
            return Err(StatementFault::Previous {
                number: fields.number,
                expected: self.hash,
                found: fields.previous,
            });
        }
        *self = Self::after(statement)?;
        Ok(())
    }
}
