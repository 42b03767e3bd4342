//! The proof file of one event, checked with no network and no trust in whoever supplied it.
//!
//! Event bytes → root in its batch's header → signature of a key proven from the host's id (by the headers in
//! which the host announced each of its later keys) → leaf of the ledger → checkpoint signed by the ledger's
//! key. Text; bytes in `docs/format/proof.md`. Only one encoding
//! of a proof is accepted, so that no byte of a file goes unchecked. Refuses to say what the event means.

pub(crate) mod history;

use alloc::{boxed::Box, format, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

pub use self::history::{HistoryFault, KEY_HISTORY_BYTES_MAX, KEY_HISTORY_MAX};
use crate::{
    batch::{BadHeader, ChainFault, SignedHeader, UnverifiedHeader, VerifiedHeader},
    checkpoint::Checkpoint,
    ids::{EventIndex, Hash, HostId, LeafIndex},
    ledger_keys::LedgerTrust,
    limits::{EVENT_BYTES_MAX, HEADER_BYTES_MAX},
    merkle::{PROOF_HASHES_MAX, ProofError, leaf_hash, verify_inclusion},
    receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptError},
};

/// First line of a file without key history, for the host's first key.
const FIRST_LINE_V1: &str = "hostledger/event-proof/v1";
/// First line of a file with key history.
const FIRST_LINE_V2: &str = "hostledger/event-proof/v2";
/// Longest proof file accepted, in bytes: base64 of event, header and key history, proof hashes, receipt,
/// labels.
pub const PROOF_BYTES_MAX: usize = (EVENT_BYTES_MAX + HEADER_BYTES_MAX) / 3 * 4
    + KEY_HISTORY_BYTES_MAX
    + PROOF_HASHES_MAX * 45
    + RECEIPT_BYTES_MAX
    + 256;

/// Everything needed to prove one event. Nothing is proven until [`EventProof::check`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProof {
    /// The event's bytes, exactly as sealed.
    pub event: Vec<u8>,
    /// The event's position in its batch.
    pub position: u32,
    /// Hashes from the event's sibling up to the batch's events root.
    pub path: Vec<Hash>,
    /// The batch's signed header.
    pub header: Vec<u8>,
    /// A signed header of each key epoch before the batch's, from epoch 0 on: each announces the next key.
    pub key_history: Vec<Vec<u8>>,
    /// The header's place in the ledger.
    pub receipt: Receipt,
}

/// What a checked proof proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenEvent {
    /// The host that signed it.
    pub host: HostId,
    /// Its index in that host's chain.
    pub index: EventIndex,
    /// Its bytes.
    pub event: Vec<u8>,
    /// The header that covers it.
    pub header: VerifiedHeader,
    /// The header's leaf in the ledger.
    pub leaf: LeafIndex,
    /// The ledger's head that includes it.
    pub checkpoint: Checkpoint,
}

/// Why a file proves nothing. Whoever supplied it is at fault, unless the verifier key is another ledger's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// Not a proof file, or not in its one encoding.
    #[error("not a proof file: {0}")]
    Malformed(&'static str),
    /// The header inside.
    #[error("the proof's header: {0}")]
    Header(#[from] BadHeader),
    /// The header's signature or key.
    #[error("the proof's header: {0}")]
    Signature(#[from] ChainFault),
    /// A header of the key history.
    #[error("the proof's key history, epoch {epoch}: {cause}")]
    History {
        /// The epoch it should be of.
        epoch: u64,
        /// What is wrong with it.
        cause: Box<HistoryFault>,
    },
    /// The event is not in the batch.
    #[error("the event is not in the batch that the header signs: {0}")]
    Event(#[from] ProofError),
    /// The header is not in the ledger.
    #[error("the header is not proven to be in the ledger: {0}")]
    Ledger(#[from] ReceiptError),
}

impl EventProof {
    /// Checks every link from the event to the ledger's signed head.
    pub fn check(self, trust: &impl LedgerTrust) -> Result<ProvenEvent, ProofFault> {
        let signed = SignedHeader::check(UnverifiedHeader::parse(&self.header)?)?;
        let fields = signed.fields();
        let keys = history::keys(fields, &self.key_history)
            .map_err(|(epoch, cause)| ProofFault::History { epoch, cause })?;
        let header = keys.check(signed)?;
        let fields = header.fields();
        verify_inclusion(
            &leaf_hash(&self.event),
            u64::from(self.position),
            u64::from(fields.event_count),
            &self.path,
            &fields.events_root,
        )?;
        let checkpoint = self.receipt.verify(&self.header, trust)?;
        let index = fields
            .first_event
            .checked_add(u64::from(self.position))
            .ok_or(ProofFault::Malformed("event index overflows"))?;
        Ok(ProvenEvent {
            host: fields.host,
            index,
            event: self.event,
            header,
            leaf: self.receipt.leaf,
            checkpoint,
        })
    }

    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let first_line = if self.key_history.is_empty() {
            FIRST_LINE_V1
        } else {
            FIRST_LINE_V2
        };
        let mut text = format!(
            "{first_line}\nevent {}\nposition {}\nheader {}\n",
            STANDARD.encode(&self.event),
            self.position,
            STANDARD.encode(&self.header),
        );
        history::write(&self.key_history, &mut text);
        for hash in &self.path {
            STANDARD.encode_string(hash.0, &mut text);
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.receipt.encode());
        bytes
    }

    /// Reads a file. Whatever would not be written the same way is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofFault> {
        use ProofFault::Malformed;
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(Malformed("too long"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8"))?;
        let (head, receipt) = text.split_once("\n\n").ok_or(Malformed("no blank line"))?;
        let mut lines = head.split('\n');
        if !matches!(lines.next(), Some(FIRST_LINE_V1 | FIRST_LINE_V2)) {
            return Err(Malformed("unknown first line"));
        }
        let mut labelled = |label: &'static str, what: &'static str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(label)?.strip_prefix(' '))
                .ok_or(Malformed(what))
        };
        let event = labelled("event", "no event")?;
        let position = labelled("position", "no position")?;
        let header = labelled("header", "no header")?;
        let mut lines = lines.peekable();
        let key_history = history::read(&mut lines).map_err(Malformed)?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() == PROOF_HASHES_MAX {
                return Err(Malformed("too many hashes"));
            }
            let hash: [u8; 32] = base64(line)
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or(Malformed("a hash is malformed"))?;
            path.push(Hash(hash));
        }
        let proof = Self {
            event: base64(event).ok_or(Malformed("event is not base64"))?,
            position: position.parse().map_err(|_| Malformed("position is no number"))?,
            path,
            header: base64(header).ok_or(Malformed("header is not base64"))?,
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

/// Decodes and checks a file in one step.
pub fn check(bytes: &[u8], trust: &impl LedgerTrust) -> Result<ProvenEvent, ProofFault> {
    EventProof::decode(bytes)?.check(trust)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests;
