//! The proof that a ledger showed two views: two checkpoints under its own signature that cannot both be true.
//!
//! The larger checkpoint's tree gives the smaller size a root, which a consistency proof pins down; if that is
//! not the root which the smaller checkpoint signs, the ledger's operator (or whoever holds its key) signed two
//! histories. Checked with the verifier key alone. Text; bytes in `docs/format/split.md`. Only one encoding is
//! accepted. Refuses to say which of the two views is the true one.

use alloc::{format, string::String, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, parse_hash},
    ids::Hash,
    ledger_keys::LedgerTrust,
    limits::NOTE_BYTES_MAX,
    merkle::{PROOF_HASHES_MAX, ProofError, verify_consistency},
};

/// First line of the file.
const FIRST_LINE: &str = "hostledger/split-view/v1";
/// Longest proof file accepted, in bytes: two notes in base64, hashes of 45 bytes, labels.
pub const SPLIT_BYTES_MAX: usize = 2 * (NOTE_BYTES_MAX / 3 + 1) * 4 + (PROOF_HASHES_MAX + 1) * 45 + 128;

/// Everything needed to prove a split view. Nothing is proven until [`SplitProof::check`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitProof {
    /// The signed note of the checkpoint with fewer (or as many) leaves.
    pub smaller: Vec<u8>,
    /// The signed note of the other one.
    pub larger: Vec<u8>,
    /// The root that the larger one's tree has at the smaller size.
    pub root: Hash,
    /// RFC 6962 consistency proof from that size and root to the larger checkpoint.
    pub proof: Vec<Hash>,
}

/// What a checked proof proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenSplit {
    /// The view with fewer leaves.
    pub smaller: Checkpoint,
    /// The other one.
    pub larger: Checkpoint,
    /// The root that the other one has at the smaller size.
    pub root: Hash,
}

/// Why a file proves nothing. Whoever supplied it is at fault, unless the verifier key is another ledger's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitFault {
    /// Not a proof file, or not in its one encoding.
    #[error("not a split-view proof: {0}")]
    Malformed(&'static str),
    /// One of the checkpoints.
    #[error("a checkpoint of the proof: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The root is not the larger tree's.
    #[error("the larger checkpoint is not proven to have that root at the smaller size: {0}")]
    Proof(#[from] ProofError),
    /// The two agree.
    #[error("the two checkpoints agree: no split view")]
    Consistent,
}

impl SplitProof {
    /// Checks that the ledger signed both and that they cannot both be true.
    pub fn check(&self, trust: &impl LedgerTrust) -> Result<ProvenSplit, SplitFault> {
        let smaller = trust.open_checkpoint(&self.smaller)?;
        let larger = trust.open_checkpoint(&self.larger)?;
        verify_consistency(smaller.size, &self.root, larger.size, &larger.root, &self.proof)?;
        if self.root == smaller.root {
            return Err(SplitFault::Consistent);
        }
        Ok(ProvenSplit {
            smaller,
            larger,
            root: self.root,
        })
    }

    /// The proof that follows from a checkpoint, a larger one, and the consistency proof that came with it and does
    /// not hold: where it leads to the larger root, it also tells which root that tree had at the smaller size.
    /// `None` where nothing is proven: the two agree, the proof leads nowhere, or it does not tell, since the smaller
    /// size is a power of two and such a proof starts from the very root in question.
    #[must_use]
    pub fn from_consistency(
        smaller: &[u8],
        larger: &[u8],
        consistency: &[Hash],
        trust: &impl LedgerTrust,
    ) -> Option<Self> {
        let (first, second) = (
            trust.open_checkpoint(smaller).ok()?,
            trust.open_checkpoint(larger).ok()?,
        );
        let root = if first.size == second.size {
            second.root
        } else {
            match verify_consistency(first.size, &first.root, second.size, &second.root, consistency) {
                Err(ProofError::Root { computed, .. }) => computed,
                _ => return None,
            }
        };
        let proof = if first.size == second.size {
            Vec::new()
        } else {
            consistency.to_vec()
        };
        let found = Self {
            smaller: smaller.to_vec(),
            larger: larger.to_vec(),
            root,
            proof,
        };
        found.check(trust).is_ok().then_some(found)
    }

    /// Whether `bytes` claim to be such a file.
    #[must_use]
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(FIRST_LINE.as_bytes())
    }

    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!(
            "{FIRST_LINE}\nsmaller {}\nlarger {}\nroot {}\n",
            STANDARD.encode(&self.smaller),
            STANDARD.encode(&self.larger),
            STANDARD.encode(self.root.0),
        );
        for hash in &self.proof {
            STANDARD.encode_string(hash.0, &mut text);
            text.push('\n');
        }
        text.into_bytes()
    }

    /// Reads a file. Whatever would not be written the same way is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, SplitFault> {
        use SplitFault::Malformed;
        if bytes.len() > SPLIT_BYTES_MAX {
            return Err(Malformed("too long"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8"))?;
        let mut lines = text.strip_suffix('\n').unwrap_or_default().split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(Malformed("unknown first line"));
        }
        let mut labelled = |label: &'static str, what: &'static str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(label)?.strip_prefix(' '))
                .ok_or(Malformed(what))
        };
        let smaller = labelled("smaller", "no smaller checkpoint")?;
        let larger = labelled("larger", "no larger checkpoint")?;
        let root = labelled("root", "no root")?;
        let note = |text: &str| {
            STANDARD
                .decode(text)
                .map_err(|_| Malformed("a checkpoint is not base64"))
        };
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_HASHES_MAX {
                return Err(Malformed("too many hashes"));
            }
            proof.push(parse_hash(line).ok_or(Malformed("a hash is malformed"))?);
        }
        let read = Self {
            smaller: note(smaller)?,
            larger: note(larger)?,
            root: parse_hash(root).ok_or(Malformed("the root is malformed"))?,
            proof,
        };
        if read.encode() == bytes {
            Ok(read)
        } else {
            Err(Malformed("not the one encoding of this proof"))
        }
    }
}

/// The signed checkpoint at the end of a file: a bare note, a witness's record, a receipt, a proof file, a
/// request to a witness. Nothing is verified; `None` where no two paragraphs end the file.
#[must_use]
pub fn checkpoint_at_end(bytes: &[u8]) -> Option<&[u8]> {
    let text = core::str::from_utf8(bytes).ok()?;
    let (before, _) = text.rsplit_once("\n\n")?;
    let begin = before.rfind("\n\n").map_or(0, |at| at + 2);
    bytes.get(begin..)
}

/// Both views in words.
impl core::fmt::Display for ProvenSplit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            smaller,
            larger,
            root,
        } = self;
        let origin: String = smaller.origin.escape_default().collect();
        write!(
            f,
            "ledger {origin} signed two histories: {} leaves with root {}, and {} leaves with root {} whose first \
             {} have root {root}",
            smaller.size, smaller.root, larger.size, larger.root, smaller.size
        )
    }
}

#[cfg(test)]
mod tests;
