//! Keys of signed notes and their text encodings.
//!
//! A verifier key is `name+id+base64(type ‖ key)`, a signer key `PRIVATE+KEY+name+id+base64(type ‖ seed)`;
//! the id is 8 hex digits. Two types are known here, both over Ed25519: plain signatures of notes (type 1) and
//! the timestamped cosignatures of witnesses (type 4). They are two Rust types, so that a witness's key can
//! never stand where a ledger's is asked for.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::signature;

/// Type byte of plain Ed25519 signatures over the note's text.
pub const SIGNATURE_TYPE_ED25519: u8 = 1;
/// Type byte of timestamped Ed25519 cosignatures of checkpoints (C2SP tlog-cosignature).
pub const SIGNATURE_TYPE_COSIGNATURE: u8 = 4;

/// Longest key name accepted, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest encoded key accepted, in bytes: name, id, two separators, prefix and 44 characters of base64.
const ENCODED_BYTES_MAX: usize = NAME_BYTES_MAX + 80;
/// What an encoded signer key starts with.
const SIGNER_PREFIX: &str = "PRIVATE+KEY+";

/// Why a key was refused. Whoever configured the key is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, too long, or with a space, a plus or a control character.
    #[error(
        "key name is empty, longer than {NAME_BYTES_MAX} bytes, or holds a space, plus or control character"
    )]
    Name,
    /// Not the three parts an encoded key has.
    #[error("key is not of the form name+id+base64")]
    Malformed,
    /// A type other than the one needed.
    #[error(
        "key type {0} is not the one needed here: a ledger's key has type {SIGNATURE_TYPE_ED25519}, \
         a witness's {SIGNATURE_TYPE_COSIGNATURE}"
    )]
    Type(u8),
    /// The id is not the hash of name and key: one of the three was altered.
    #[error("key id does not fit name and key")]
    Id,
    /// Not a point of the curve.
    #[error("key is not a valid Ed25519 public key")]
    Point,
}

/// The public half: knows a name and checks signatures of one type made under it.
#[derive(Clone, PartialEq, Eq)]
pub struct TypedVerifier<const TYPE: u8> {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

/// Checks a ledger's signatures, and those of any plain note.
pub type VerifierKey = TypedVerifier<SIGNATURE_TYPE_ED25519>;
/// Checks a witness's cosignatures.
pub type WitnessKey = TypedVerifier<SIGNATURE_TYPE_COSIGNATURE>;

impl<const TYPE: u8> TypedVerifier<TYPE> {
    /// A key from its name and Ed25519 public key.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::Point)?;
        Self::of(name, key)
    }

    /// Reads `name+id+base64`.
    pub fn parse(encoded: &str) -> Result<Self, KeyError> {
        let (name, id, bytes) = parse_parts::<TYPE>(encoded)?;
        let found = Self::new(name, &bytes)?;
        if found.id == id {
            Ok(found)
        } else {
            Err(KeyError::Id)
        }
    }

    /// The key's name; for a ledger its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// First four bytes of SHA-256 over name, newline, type and key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether `signature` over exactly `text` was made by this key. Strict: weak keys and malleable encodings
    /// fail.
    #[must_use]
    pub(crate) fn verifies_bytes(&self, text: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| signature::fits(&self.key, text, &signature))
    }

    fn of(name: &str, key: VerifyingKey) -> Result<Self, KeyError> {
        if !valid_name(name) {
            return Err(KeyError::Name);
        }
        let mut hash = Sha256::new();
        hash.update(name);
        hash.update([b'\n', TYPE]);
        hash.update(key.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        Ok(Self {
            name: name.to_string(),
            id: [a, b, c, d],
            key,
        })
    }
}

impl VerifierKey {
    /// Whether `signature` over `text` was made by this key. Strict: weak keys and malleable encodings fail.
    #[must_use]
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        self.verifies_bytes(text, signature)
    }
}

impl<const TYPE: u8> fmt::Display for TypedVerifier<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_parts::<TYPE>(&self.name, self.id, self.key.as_bytes()))
    }
}

impl<const TYPE: u8> fmt::Debug for TypedVerifier<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The private half. Its seed is wiped from memory when dropped and never shown by `Debug`.
#[derive(Clone)]
pub struct TypedSigner<const TYPE: u8> {
    verifier: TypedVerifier<TYPE>,
    key: SigningKey,
}

/// Signs checkpoints and plain notes.
pub type SignerKey = TypedSigner<SIGNATURE_TYPE_ED25519>;
/// Cosigns checkpoints as a witness.
pub type WitnessSigner = TypedSigner<SIGNATURE_TYPE_COSIGNATURE>;

impl<const TYPE: u8> TypedSigner<TYPE> {
    /// A key from its name and the 32-byte seed of RFC 8032.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        Ok(Self {
            verifier: TypedVerifier::of(name, key.verifying_key())?,
            key,
        })
    }

    /// Reads `PRIVATE+KEY+name+id+base64`.
    pub fn parse(encoded: &str) -> Result<Self, KeyError> {
        let rest = encoded.strip_prefix(SIGNER_PREFIX).ok_or(KeyError::Malformed)?;
        let (name, id, seed) = parse_parts::<TYPE>(rest)?;
        let found = Self::from_seed(name, &seed)?;
        if found.verifier.id == id {
            Ok(found)
        } else {
            Err(KeyError::Id)
        }
    }

    /// The secret encoding; the name says what it is so that nobody logs it.
    #[must_use]
    pub fn encode_secret(&self) -> String {
        format!(
            "{SIGNER_PREFIX}{}",
            encode_parts::<TYPE>(&self.verifier.name, self.verifier.id, self.key.as_bytes())
        )
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &TypedVerifier<TYPE> {
        &self.verifier
    }

    /// Ed25519 signature over exactly `text`.
    pub(crate) fn sign_bytes(&self, text: &[u8]) -> [u8; 64] {
        self.key.sign(text).to_bytes()
    }
}

impl SignerKey {
    /// Ed25519 signature over `text`.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.sign_bytes(text)
    }
}

impl<const TYPE: u8> fmt::Debug for TypedSigner<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.verifier)
    }
}

/// Whether `name` may name a key: not empty, no Unicode space, no plus, no control character.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name
            .chars()
            .any(|c| c.is_whitespace() || c == '+' || c.is_control())
}

fn encode_parts<const TYPE: u8>(name: &str, id: [u8; 4], key: &[u8; 32]) -> String {
    let mut typed = Vec::from([TYPE]);
    typed.extend_from_slice(key);
    format!("{name}+{:08x}+{}", u32::from_be_bytes(id), STANDARD.encode(typed))
}

fn parse_parts<const TYPE: u8>(encoded: &str) -> Result<(&str, [u8; 4], [u8; 32]), KeyError> {
    if encoded.len() > ENCODED_BYTES_MAX {
        return Err(KeyError::Malformed);
    }
    // The key's base64 may hold a plus itself, so split from the left: a name cannot.
    let (name, rest) = encoded.split_once('+').ok_or(KeyError::Malformed)?;
    let (id, key) = rest.split_once('+').ok_or(KeyError::Malformed)?;
    if id.len() != 8 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(KeyError::Malformed);
    }
    let id = u32::from_str_radix(id, 16)
        .map_err(|_| KeyError::Malformed)?
        .to_be_bytes();
    let typed = STANDARD.decode(key).map_err(|_| KeyError::Malformed)?;
    match typed.split_first() {
        Some((&found, _)) if found != TYPE => Err(KeyError::Type(found)),
        Some((_, key)) => Ok((name, id, key.try_into().map_err(|_| KeyError::Malformed)?)),
        None => Err(KeyError::Malformed),
    }
}
