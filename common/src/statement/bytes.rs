//! The envelope: fixed fields, payload, Ed25519 signature.

use alloc::vec::Vec;

use crate::{
    codec::{Reader, Short, Write},
    ids::{Hash, PublicKey, StatementNumber, WallNanos},
    limits::ENTRY_BYTES_MAX,
    note::{SignerKey, VerifierKey},
};

use super::kinds::{Kind, Said};

/// First bytes of every statement.
pub(crate) const MAGIC: &[u8; 4] = b"HLST";
/// The format written today.
const FORMAT_VERSION: u16 = 1;
/// Domain separation: what is signed is this prefix followed by the statement without its signature. The
/// same key signs checkpoints; no text of those goes on with these bytes (`docs/format/statement.md`).
const SIGNING_PREFIX: &[u8] = b"hostledger/statement/v1\n";
/// Length of an Ed25519 signature, bytes (RFC 8032).
const SIGNATURE_BYTES: usize = 64;
/// Bytes before the payload, plus the signature after it.
pub const STATEMENT_FIXED_BYTES: usize = 100 + SIGNATURE_BYTES;

/// What a statement holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementFields {
    /// Position in the collector's chain.
    pub number: StatementNumber,
    /// When it was made, by the collector's wall clock.
    pub at: WallNanos,
    /// Bound of that clock's error, nanoseconds; `u64::MAX` where unknown.
    pub clock_error_ns: u64,
    /// SHA-256 of the statement before; zeros for the first.
    pub previous: Hash,
    /// The key that signs.
    pub signer: PublicKey,
    /// What is said.
    pub said: Said,
}

/// Why bytes are not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStatement {
    /// It ends too early.
    #[error("statement cut short: {0}")]
    Short(#[from] Short),
    /// It is longer than any entry may be, or than its own fields say.
    #[error("statement of {found} bytes where {expected} were expected")]
    Length {
        /// Length its fields say, or the limit.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// It does not start as statements do.
    #[error("not a statement: it starts with {0:02x?}")]
    Magic([u8; 4]),
    /// A format this build does not know.
    #[error("statement format {0} is unknown here; upgrade this program to read it")]
    Version(u16),
    /// A field holds what it may not.
    #[error("statement field `{field}` holds {value}, which is not allowed")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

/// A statement that was parsed and not verified: nothing in it may be believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedStatement {
    bytes: Vec<u8>,
    fields: StatementFields,
}

impl UnverifiedStatement {
    /// Parses the bytes of a signed statement and checks its bounds. A kind that this build does not know is
    /// kept as [`Said::Other`]: it may be verified and chained, not understood.
    ///
    /// # Errors
    /// What is wrong; whoever made the bytes is at fault, or whoever altered them.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadStatement> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(BadStatement::Length {
                expected: ENTRY_BYTES_MAX,
                found: bytes.len(),
            });
        }
        let mut reader = Reader::new(bytes);
        let magic = reader.array("magic")?;
        if &magic != MAGIC {
            return Err(BadStatement::Magic(magic));
        }
        let version = reader.u16("format version")?;
        if version != FORMAT_VERSION {
            return Err(BadStatement::Version(version));
        }
        let kind = Kind(reader.u16("kind")?);
        let number = StatementNumber(reader.u64("number")?);
        let at = WallNanos(reader.u64("wall clock")?);
        let clock_error_ns = reader.u64("clock error")?;
        let previous = Hash(reader.array("previous hash")?);
        let signer = PublicKey(reader.array("signer")?);
        let length = reader.u32("payload length")?;
        // Longer than memory can index is longer than the statement, which the next field says.
        let payload = reader.take("payload", usize::try_from(length).unwrap_or(usize::MAX))?;
        reader.take("signature", SIGNATURE_BYTES)?;
        if !reader.rest().is_empty() {
            return Err(BadStatement::Length {
                expected: reader.at(),
                found: bytes.len(),
            });
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            fields: StatementFields {
                number,
                at,
                clock_error_ns,
                previous,
                signer,
                said: Said::read(kind, payload)?,
            },
        })
    }

    /// What the statement claims.
    #[must_use]
    pub fn claimed(&self) -> &StatementFields {
        &self.fields
    }

    /// The signed bytes as received: the ledger's entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes: what the next statement names as its previous one.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }

    /// Whether the statement names `key` as its signer and its signature is of that key.
    #[must_use]
    pub fn is_signed_by(&self, key: &VerifierKey) -> bool {
        let Some((signed, signature)) = self.bytes.split_last_chunk::<SIGNATURE_BYTES>() else {
            return false;
        };
        *key.public() == self.fields.signer.0 && key.verifies(&[SIGNING_PREFIX, signed].concat(), signature)
    }
}

/// Signs the fields with `key`, which must be the one they name.
///
/// # Errors
/// Ours to fix: a payload that is too long, or another key.
pub fn sign_statement(
    fields: &StatementFields,
    key: &SignerKey,
) -> Result<UnverifiedStatement, BadStatement> {
    if *key.verifier().public() != fields.signer.0 {
        return Err(BadStatement::Field {
            field: "signer",
            value: 0,
        });
    }
    let mut payload = Vec::new();
    fields.said.write(&mut payload)?;
    let length = u32::try_from(payload.len()).map_err(|_| BadStatement::Length {
        expected: ENTRY_BYTES_MAX,
        found: payload.len(),
    })?;
    let mut message = SIGNING_PREFIX.to_vec();
    message.extend_from_slice(MAGIC);
    message.put_u16(FORMAT_VERSION);
    message.put_u16(fields.said.kind().0);
    message.put_u64(fields.number.0);
    message.put_u64(fields.at.0);
    message.put_u64(fields.clock_error_ns);
    message.extend_from_slice(&fields.previous.0);
    message.extend_from_slice(&fields.signer.0);
    message.put_u32(length);
    message.extend_from_slice(&payload);
    let signature = key.sign(&message);
    message.extend_from_slice(&signature);
    UnverifiedStatement::parse(message.get(SIGNING_PREFIX.len()..).unwrap_or_default())
}
