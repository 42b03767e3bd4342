//! The body of `add-checkpoint`: the size the witness is thought to have, a consistency proof, a checkpoint.

use alloc::{format, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, parse_decimal, parse_hash},
    ids::Hash,
    limits::NOTE_BYTES_MAX,
    note::UnverifiedNote,
};

/// Most proof lines a request may have (C2SP tlog-witness).
pub const PROOF_LINES_MAX: usize = 63;
/// Longest request body accepted, bytes: old size line, proof lines of 45 bytes, empty line, note.
pub const REQUEST_BYTES_MAX: usize = 25 + PROOF_LINES_MAX * 45 + 1 + NOTE_BYTES_MAX;

/// What a ledger asks a witness. Nothing is believed until [`super::judge`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness is thought to have cosigned last; 0 for none.
    pub old: u64,
    /// RFC 6962 consistency proof from there.
    pub proof: Vec<Hash>,
    /// The signed note, byte for byte.
    pub note: Vec<u8>,
}

/// Why a body is no request. The client is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not the lines of a request.
    #[error("not an add-checkpoint request: {0}")]
    Lines(&'static str),
    /// What follows the empty line is no checkpoint.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
}

impl AddCheckpoint {
    /// The body to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            STANDARD.encode_string(hash.0, &mut text);
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.note);
        bytes
    }

    /// Reads a body. That the note is a checkpoint is checked here; who signed it is not.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRequest> {
        use BadRequest::Lines;
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Lines("too long"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| Lines("not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(Lines("no empty line"))?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| parse_decimal(line.strip_prefix("old ")?))
            .ok_or(Lines("no old size in the first line"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_LINES_MAX {
                return Err(Lines("more than 63 proof lines"));
            }
            proof.push(parse_hash(line).ok_or(Lines("a proof line is no hash"))?);
        }
        let request = Self {
            old,
            proof,
            note: Vec::from(note.as_bytes()),
        };
        request.claimed()?;
        Ok(request)
    }

    /// The checkpoint as the note claims it, verified by nobody: for finding whose it would be.
    pub fn claimed(&self) -> Result<Checkpoint, BadRequest> {
        let note = UnverifiedNote::parse(&self.note).map_err(CheckpointError::Note)?;
        Ok(Checkpoint::parse_body(note.danger_unverified_text())?)
    }
}
