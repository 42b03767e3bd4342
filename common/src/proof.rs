//! The proof file of one event, checked with no network and no trust in whoever supplied it.
//!
//! Event bytes → root in its batch's header → signature of a key proven from the host's id (by the headers in
//! which the host announced each of its later keys) → leaf of the ledger → checkpoint signed by the ledger's
//! key. Text; bytes in `docs/format/proof.md`. Only one encoding
//! of a proof is accepted, so that no byte of a file goes unchecked. Refuses to say what the event means.

use alloc::{boxed::Box, format, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    batch::{BadHeader, ChainFault, HostKeys, SignedHeader, UnverifiedHeader, VerifiedHeader},
    checkpoint::Checkpoint,
    ids::{EventIndex, Hash, HostId, KeyEpoch, LeafIndex, Sequence},
    ledger_keys::LedgerTrust,
    limits::{EVENT_BYTES_MAX, HEADER_BYTES_MAX},
    merkle::{PROOF_HASHES_MAX, ProofError, leaf_hash, verify_inclusion},
    receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptError},
};

/// First line of a file without key history, for the host's first key.
const FIRST_LINE_V1: &str = "hostledger/event-proof/v1";
/// First line of a file with key history.
const FIRST_LINE_V2: &str = "hostledger/event-proof/v2";
/// Most headers in a key history: at four epochs a day, 22 years.
pub const KEY_HISTORY_MAX: usize = 32 * 1024;
/// Longest line of a key history, bytes.
const KEY_LINE_BYTES_MAX: usize = HEADER_BYTES_MAX.div_ceil(3) * 4 + 5;
/// Longest proof file accepted, in bytes: base64 of event, header and key history, proof hashes, receipt,
/// labels.
pub const PROOF_BYTES_MAX: usize = (EVENT_BYTES_MAX + HEADER_BYTES_MAX) / 3 * 4
    + KEY_HISTORY_MAX * KEY_LINE_BYTES_MAX
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

/// Why a header of a key history proves no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryFault {
    /// It is none.
    #[error("{0}")]
    Header(#[from] BadHeader),
    /// Its signature, its key, or what it announces.
    #[error("{0}")]
    Chain(#[from] ChainFault),
    /// It is of another epoch, or does not stand between its neighbours in the chain.
    #[error("batch {sequence} of epoch {epoch} is out of place")]
    Misplaced {
        /// Which batch.
        sequence: Sequence,
        /// Its epoch.
        epoch: KeyEpoch,
    },
    /// More or fewer headers than the batch's key epoch has predecessors.
    #[error("{found} headers for the {expected} epochs before the batch's")]
    Count {
        /// Epochs before the batch's.
        expected: u64,
        /// Headers in the file.
        found: usize,
    },
}

/// The keys of `host` as a history proves them, for a header of `epoch` and `sequence`.
fn keys_of(
    host: HostId,
    epoch: KeyEpoch,
    sequence: Sequence,
    history: &[Vec<u8>],
) -> Result<HostKeys, ProofFault> {
    let at = |epoch: u64| {
        move |cause: HistoryFault| ProofFault::History {
            epoch,
            cause: Box::new(cause),
        }
    };
    if history.len() as u64 != epoch.0 {
        return Err(at(epoch.0)(HistoryFault::Count {
            expected: epoch.0,
            found: history.len(),
        }));
    }
    let mut keys = HostKeys::new(host);
    let mut before: Option<Sequence> = None;
    for (epoch, bytes) in (0..).zip(history) {
        let parsed = UnverifiedHeader::parse(bytes).map_err(|bad| at(epoch)(bad.into()))?;
        let signed = SignedHeader::check(parsed).map_err(|fault| at(epoch)(fault.into()))?;
        let fields = signed.fields();
        let behind = before.is_none_or(|before| before < fields.sequence) && fields.sequence < sequence;
        if fields.key_epoch != KeyEpoch(epoch) || !behind {
            return Err(at(epoch)(HistoryFault::Misplaced {
                sequence: fields.sequence,
                epoch: fields.key_epoch,
            }));
        }
        before = Some(fields.sequence);
        keys.learn(&signed).map_err(|fault| at(epoch)(fault.into()))?;
    }
    Ok(keys)
}

impl EventProof {
    /// Checks every link from the event to the ledger's signed head.
    pub fn check(self, trust: &impl LedgerTrust) -> Result<ProvenEvent, ProofFault> {
        let signed = SignedHeader::check(UnverifiedHeader::parse(&self.header)?)?;
        let fields = signed.fields();
        let header =
            keys_of(fields.host, fields.key_epoch, fields.sequence, &self.key_history)?.check(signed)?;
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
        for header in &self.key_history {
            text.push_str("key ");
            STANDARD.encode_string(header, &mut text);
            text.push('\n');
        }
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
        let mut key_history = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("key ")) {
            if key_history.len() == KEY_HISTORY_MAX || line.len() > KEY_LINE_BYTES_MAX {
                return Err(Malformed("too much key history"));
            }
            let header = line.strip_prefix("key ").and_then(base64);
            key_history.push(header.ok_or(Malformed("a header of the key history is not base64"))?);
        }
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
