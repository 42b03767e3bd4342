//! C2SP tlog-checkpoint: the signed head of a ledger.
//!
//! Owns the body's lines (origin, size, root, extensions); the envelope is [`crate::note`]'s. A
//! [`Checkpoint`] read by [`open`] has been verified, so holding one means that its key signed it.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    ids::Hash,
    ledger_keys::OutOfForce,
    note::{self, NoteError, SignerKey, VerifierKey},
};

/// A ledger's head: how many leaves it has and what their root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which ledger: the name of the key that signs it.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash,
    /// Further lines, opaque; we write none.
    pub extensions: Vec<String>,
}

/// Why a checkpoint was refused. Whoever supplied it is at fault, unless the key configured is the wrong one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The envelope or a signature.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The signed text has not the lines of a checkpoint.
    #[error("signed text is not a checkpoint: {0}")]
    Body(&'static str),
    /// A good signature over another ledger's head.
    #[error("checkpoint is of {found:?}, not of {expected:?}")]
    Origin {
        /// Origin asked for.
        expected: String,
        /// Origin in the text.
        found: String,
    },
    /// Signed by a key of this ledger that may not sign for so many leaves: whoever made it holds a key that was
    /// replaced or stolen.
    #[error("{0}")]
    OutOfForce(Box<OutOfForce>),
    /// The ledger's key history holds another root for this size: two views were signed.
    #[error("a checkpoint of {size} leaves has another root than {recorded}, which the key history records")]
    OtherRoot {
        /// Leaves.
        size: u64,
        /// The root that the key history records.
        recorded: Hash,
    },
}

impl Checkpoint {
    /// The text that is signed, final newline included.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root.0)
        );
        for line in &self.extensions {
            body.push_str(line);
            body.push('\n');
        }
        body
    }

    /// Reads a signed text whose signature the caller has checked.
    pub fn parse_body(body: &str) -> Result<Self, CheckpointError> {
        let lines = body
            .strip_suffix('\n')
            .ok_or(CheckpointError::Body("no final newline"))?;
        let mut lines = lines.split('\n');
        let mut line = |what| {
            lines
                .next()
                .filter(|line| !line.is_empty())
                .ok_or(CheckpointError::Body(what))
        };
        let origin = String::from(line("no origin")?);
        let size = parse_decimal(line("no tree size")?).ok_or(CheckpointError::Body("bad tree size"))?;
        let root = parse_hash(line("no root")?).ok_or(CheckpointError::Body("bad root"))?;
        let extensions: Vec<String> = lines.map(String::from).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Body("empty extension line"));
        }
        Ok(Self {
            origin,
            size,
            root,
            extensions,
        })
    }

    /// The signed note.
    ///
    /// # Errors
    /// Ours to fix: an origin or extension that cannot stand in a checkpoint.
    pub fn sign(&self, key: &SignerKey) -> Result<String, CheckpointError> {
        let body = self.body();
        // A line break in a field would sign a different checkpoint than the one described here.
        if Self::parse_body(&body)? != *self {
            return Err(CheckpointError::Body("a field holds a line break"));
        }
        Ok(note::sign(&body, &[key])?)
    }
}

/// Opens a checkpoint signed by `key`, whose name must be its origin.
pub fn open(bytes: &[u8], key: &VerifierKey) -> Result<Checkpoint, CheckpointError> {
    let checkpoint = Checkpoint::parse_body(note::open(bytes, &[key])?)?;
    if checkpoint.origin == key.name() {
        Ok(checkpoint)
    } else {
        Err(CheckpointError::Origin {
            expected: key.name().into(),
            found: checkpoint.origin,
        })
    }
}

/// A decimal number without sign or leading zeroes.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// A hash in padded standard base64.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SignerKey {
        SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint {
            origin: "ledger.example/one".into(),
            size,
            root: crate::merkle::leaf_hash(&size.to_be_bytes()),
            extensions: Vec::new(),
        }
    }

    #[test]
    fn golden_checkpoint() {
        insta::assert_snapshot!(checkpoint(70_000).sign(&key()).unwrap());
    }

    #[test]
    fn malformed_bodies_are_named() {
        let root = STANDARD.encode([0; 32]);
        let check =
            |body: &str, what| assert_eq!(Checkpoint::parse_body(body), Err(CheckpointError::Body(what)));
        check("", "no final newline");
        check("\n", "no origin");
        check("o\n", "no tree size");
        check("o\n1\n", "no root");
        for size in ["01", "+1", "-1", "1 ", "18446744073709551616", "0x1"] {
            check(&format!("o\n{size}\n{root}\n"), "bad tree size");
        }
        check("o\n1\nAAAA\n", "bad root");
        check(&format!("o\n1\n{}\n", root.trim_end_matches('=')), "bad root");
        check(&format!("o\n1\n{root}\n\n"), "empty extension line");
    }

    #[test]
    fn another_ledgers_head_is_not_ours() {
        let mut other = checkpoint(3);
        other.origin = "ledger.example/two".into();
        let note = other.sign(&key()).unwrap();
        assert!(matches!(
            open(note.as_bytes(), key().verifier()),
            Err(CheckpointError::Origin { .. })
        ));
    }

    #[test]
    fn fields_that_would_frame_another_checkpoint_are_not_signed() {
        let mut evil = checkpoint(3);
        evil.origin = format!("ledger.example/one\n9\n{}", STANDARD.encode([0; 32]));
        assert!(evil.sign(&key()).is_err());
        let mut evil = checkpoint(3);
        evil.extensions.push("a\nb".into());
        assert!(evil.sign(&key()).is_err());
    }

    proptest! {
        #[test]
        fn prop_round_trip(size: u64, extensions in prop::collection::vec("[!-~]{1,20}", 0..3)) {
            let mut head = checkpoint(size);
            head.extensions = extensions;
            let note = head.sign(&key()).unwrap();
            prop_assert_eq!(open(note.as_bytes(), key().verifier()).unwrap(), head);
        }
    }
}
