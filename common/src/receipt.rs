//! Receipts: the proof that one entry stands in a ledger, checkable with no network.
//!
//! A receipt is an inclusion proof and the checkpoint it leads to, encoded as C2SP `tlog-proof@v1` text so
//! that tools nobody here wrote can check it. Whoever holds one needs only the entry's bytes and the
//! ledger's verifier key.

use alloc::{format, string::String, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, parse_decimal, parse_hash},
    ids::{Hash, LeafIndex},
    ledger_keys::LedgerTrust,
    limits::NOTE_BYTES_MAX,
    merkle::{PROOF_HASHES_MAX, ProofError, leaf_hash, verify_inclusion},
};

/// First line of the text form.
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Longest receipt accepted, in bytes: first lines, proof hashes of 45 bytes, checkpoint.
pub const RECEIPT_BYTES_MAX: usize = NOTE_BYTES_MAX + PROOF_HASHES_MAX * 45 + 64;

/// Inclusion proof and checkpoint of one entry. Nothing is proven until [`Receipt::verify`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which leaf the entry is.
    pub leaf: LeafIndex,
    /// Hashes from the leaf's sibling up to the root's child.
    pub proof: Vec<Hash>,
    /// The signed note of the checkpoint, byte for byte.
    pub checkpoint: Vec<u8>,
}

/// Why a receipt proves nothing. Whoever supplied it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not the text form of a receipt.
    #[error("not a receipt: {0}")]
    Malformed(&'static str),
    /// The checkpoint inside.
    #[error("receipt's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The proof does not lead from the entry to the checkpoint.
    #[error("receipt's proof: {0}")]
    Proof(#[from] ProofError),
}

impl Receipt {
    /// Checks that the ledger of `trust` committed to `entry`, byte for byte; returns the head it did so in.
    pub fn verify(&self, entry: &[u8], trust: &impl LedgerTrust) -> Result<Checkpoint, ReceiptError> {
        let head = trust.open_checkpoint(&self.checkpoint)?;
        verify_inclusion(&leaf_hash(entry), self.leaf.0, head.size, &self.proof, &head.root)?;
        Ok(head)
    }

    /// The text form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\nindex {}\n", self.leaf.0);
        for hash in &self.proof {
            STANDARD.encode_string(hash.0, &mut text);
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads the text form. An `extra` line, which nothing authenticates, is dropped.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        use ReceiptError::Malformed;
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(Malformed("too long"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(Malformed("no blank line"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(Malformed("unknown first line"));
        }
        if let Some(extra) = lines.next_if(|line| line.starts_with("extra ")) {
            STANDARD
                .decode(&extra["extra ".len()..])
                .map_err(|_| Malformed("extra is not base64"))?;
        }
        let leaf = lines
            .next()
            .and_then(|line| parse_decimal(line.strip_prefix("index ")?))
            .ok_or(Malformed("no index"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_HASHES_MAX {
                return Err(Malformed("too many hashes"));
            }
            proof.push(parse_hash(line).ok_or(Malformed("a hash is malformed"))?);
        }
        Ok(Self {
            leaf: LeafIndex(leaf),
            proof,
            checkpoint: String::from(checkpoint).into_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        merkle::{inclusion_proof, root_of},
        note::SignerKey,
    };

    fn key() -> SignerKey {
        SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
    }

    fn receipt(size: u64, index: u64) -> Receipt {
        let leaves: Vec<Hash> = (0..size).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let head = Checkpoint {
            origin: key().verifier().name().into(),
            size,
            root: root_of(&leaves),
            extensions: Vec::new(),
        };
        Receipt {
            leaf: LeafIndex(index),
            proof: inclusion_proof(&leaves, usize::try_from(index).unwrap()).unwrap(),
            checkpoint: head.sign(&key()).unwrap().into_bytes(),
        }
    }

    #[test]
    fn golden_receipt() {
        insta::assert_snapshot!(String::from_utf8(receipt(5, 3).encode()).unwrap());
    }

    #[test]
    fn an_extra_line_is_read_over() {
        let text = String::from_utf8(receipt(5, 3).encode()).unwrap();
        let with = text.replacen("index", "extra AAAA\nindex", 1);
        assert_eq!(Receipt::decode(with.as_bytes()).unwrap(), receipt(5, 3));
        let bad = text.replacen("index", "extra ?\nindex", 1);
        assert_eq!(
            Receipt::decode(bad.as_bytes()),
            Err(ReceiptError::Malformed("extra is not base64"))
        );
    }

    #[test]
    fn another_entry_or_position_is_refused() {
        let mut held = receipt(5, 3);
        assert_eq!(
            held.verify(&3_u64.to_be_bytes(), key().verifier()).unwrap().size,
            5
        );
        assert!(matches!(
            held.verify(b"other", key().verifier()),
            Err(ReceiptError::Proof(_))
        ));
        held.leaf = LeafIndex(2);
        assert!(matches!(
            held.verify(&3_u64.to_be_bytes(), key().verifier()),
            Err(ReceiptError::Proof(_))
        ));
    }

    proptest! {
        #[test]
        fn prop_round_trip_and_every_flipped_bit_is_refused(
            size in 1u64..40, pick: prop::sample::Index, at: prop::sample::Index, bit in 0u8..8,
        ) {
            let index = pick.index(usize::try_from(size).unwrap()) as u64;
            let held = receipt(size, index);
            let mut bytes = held.encode();
            prop_assert_eq!(Receipt::decode(&bytes).unwrap(), held);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let refused = match Receipt::decode(&bytes) {
                Err(_) => true,
                Ok(read) => read.verify(&index.to_be_bytes(), key().verifier()).is_err(),
            };
            prop_assert!(refused);
        }

        #[test]
        fn prop_garbage_never_panics(bytes: Vec<u8>) {
            let _ = Receipt::decode(&bytes);
        }
    }
}
