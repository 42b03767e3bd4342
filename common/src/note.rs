//! C2SP signed notes: text that keys have signed, readable by people and by tools nobody here wrote.
//!
//! Owns the envelope: where the text ends, which lines are signatures, which of them count. Signatures of
//! keys we were not given are ignored; one of a key we were given that does not verify sinks the whole note.
//! Refuses to say what the text means (see [`crate::checkpoint`]) and to make keys from anything but a seed
//! it is handed.

mod key;

pub use key::{
    KeyError, SIGNATURE_TYPE_COSIGNATURE, SIGNATURE_TYPE_ED25519, SignerKey, TypedSigner, TypedVerifier,
    VerifierKey, WitnessKey, WitnessSigner, valid_name,
};

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::limits::NOTE_BYTES_MAX;

/// Most signature lines accepted in one note (C2SP demands at least 16).
pub const NOTE_SIGNATURES_MAX: usize = 64;

/// What each signature line starts with: an em dash (U+2014) and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a note was refused. Whoever supplied the note is at fault, unless we were given the wrong keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`NOTE_BYTES_MAX`].
    #[error("note of {0} bytes exceeds {NOTE_BYTES_MAX}")]
    TooLong(usize),
    /// Not UTF-8, or holds a control character other than newline.
    #[error("note holds a byte at offset {0} that is not allowed in text")]
    NotText(usize),
    /// No blank line between text and signatures, or no newline at the end.
    #[error("note has no signatures after a blank line")]
    NoSignatures,
    /// More than [`NOTE_SIGNATURES_MAX`] lines.
    #[error("note has more than {NOTE_SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// A signature line that is not `— name base64`.
    #[error("signature line {0} is malformed")]
    MalformedSignature(usize),
    /// A key we know signed something else.
    #[error("signature of known key {0:?} does not fit the text")]
    BadSignature(String),
    /// None of our keys signed it: wrong keys given, or not a note of this origin.
    #[error("no signature by a known key")]
    NoKnownSignature,
    /// The text to sign is empty, lacks its final newline or holds a control character.
    #[error("text cannot be signed as a note")]
    UnsignableText,
}

/// One signature line, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine<'a> {
    /// Name of the key said to have signed.
    pub name: &'a str,
    /// Id of that key: the first four bytes of the decoded signature.
    pub key_id: [u8; 4],
    /// What follows the id; its form depends on the key's type.
    pub signature: Vec<u8>,
}

impl SignatureLine<'_> {
    /// The line as it stands in a note, with its newline.
    #[must_use]
    pub fn encode(&self) -> String {
        encode_signature(self.name, self.key_id, &self.signature)
    }
}

/// A note taken apart, nothing verified yet: its text must not be used before [`open`] accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedNote<'a> {
    /// The text with its final newline.
    text: &'a str,
    /// The signature lines in order.
    signatures: Vec<SignatureLine<'a>>,
}

impl<'a> UnverifiedNote<'a> {
    /// Takes `bytes` apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let note = core::str::from_utf8(bytes).map_err(|error| NoteError::NotText(error.valid_up_to()))?;
        if let Some(at) = note.bytes().position(is_control) {
            return Err(NoteError::NotText(at));
        }
        // The last blank line separates: the text may hold blank lines of its own.
        let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, rest) = (&note[..=split], &note[split + 2..]);
        let lines = rest.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (at, line) in lines.split('\n').enumerate() {
            if at == NOTE_SIGNATURES_MAX {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(parse_signature(line).ok_or(NoteError::MalformedSignature(at))?);
        }
        Ok(Self { text, signatures })
    }

    /// The signature lines in order, for whoever verifies other types than this module knows.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureLine<'a>] {
        &self.signatures
    }

    /// The text although nobody vouches for it: only for saying what an altered note claims.
    #[must_use]
    pub fn danger_unverified_text(&self) -> &'a str {
        self.text
    }

    /// The text, if at least one of `keys` signed it and none of them is belied by its line.
    pub fn verify(&self, keys: &[&VerifierKey]) -> Result<&'a str, NoteError> {
        let mut known = 0_usize;
        for line in &self.signatures {
            let Some(key) = keys
                .iter()
                .find(|key| key.name() == line.name && key.id() == line.key_id)
            else {
                continue;
            };
            if !key.verifies(self.text.as_bytes(), &line.signature) {
                return Err(NoteError::BadSignature(line.name.to_string()));
            }
            known += 1;
        }
        if known == 0 {
            Err(NoteError::NoKnownSignature)
        } else {
            Ok(self.text)
        }
    }
}

/// The text of `note`, verified with `keys`.
pub fn open<'a>(note: &'a [u8], keys: &[&VerifierKey]) -> Result<&'a str, NoteError> {
    UnverifiedNote::parse(note)?.verify(keys)
}

/// The note holding `text` signed by `keys` in that order.
pub fn sign(text: &str, keys: &[&SignerKey]) -> Result<String, NoteError> {
    if !text.ends_with('\n') || text.bytes().any(is_control) || keys.is_empty() {
        return Err(NoteError::UnsignableText);
    }
    let mut note = String::from(text);
    note.push('\n');
    for key in keys {
        let verifier = key.verifier();
        note.push_str(&encode_signature(
            verifier.name(),
            verifier.id(),
            &key.sign(text.as_bytes()),
        ));
    }
    if note.len() > NOTE_BYTES_MAX {
        Err(NoteError::TooLong(note.len()))
    } else {
        Ok(note)
    }
}

/// A signature line with its newline.
pub(crate) fn encode_signature(name: &str, key_id: [u8; 4], signature: &[u8]) -> String {
    let mut blob = Vec::from(key_id);
    blob.extend_from_slice(signature);
    let mut line = String::from(SIGNATURE_PREFIX);
    line.push_str(name);
    line.push(' ');
    STANDARD.encode_string(blob, &mut line);
    line.push('\n');
    line
}

fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\n'
}

fn parse_signature(line: &str) -> Option<SignatureLine<'_>> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    if !valid_name(name) {
        return None;
    }
    let blob = STANDARD.decode(encoded).ok()?;
    let (key_id, signature) = blob.split_first_chunk::<4>()?;
    if signature.is_empty() {
        return None;
    }
    Some(SignatureLine {
        name,
        key_id: *key_id,
        signature: signature.to_vec(),
    })
}

#[cfg(test)]
mod tests;
