//! C2SP tlog-cosignature, Ed25519 form: what a witness says of a checkpoint, and when it said so.
//!
//! The signed message is two lines (`cosignature/v1`, `time N`) and the checkpoint's body; the signature in
//! the note is the time as 8 big-endian bytes and 64 bytes of Ed25519. The message does not name the witness:
//! one key must serve one witness only. The time is when the cosignature was made, so zero is none: only the
//! ML-DSA form, unknown here, may leave it out. Refuses to judge times otherwise, for there is no clock here.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::ops::RangeInclusive;

use crate::{
    checkpoint::Checkpoint,
    note::{NoteError, UnverifiedNote, WitnessKey, WitnessSigner, encode_signature},
};

/// Times a cosignature may name: up to 2^63 - 1, and not zero, at which nobody signed.
const TIMES: RangeInclusive<u64> = 1..=u64::MAX >> 1;

/// A verified cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// Name of the witness's key.
    pub witness: String,
    /// When it signed, by its own clock: seconds since 1970. The checkpoint was then the largest it knew.
    pub posix_seconds: u64,
}

/// The signature line, newline included, by which `signer` cosigns `checkpoint` at `posix_seconds`; a clock that
/// shows no time that may be named is taken for the nearest that may.
#[must_use]
pub fn cosign(signer: &WitnessSigner, checkpoint: &Checkpoint, posix_seconds: u64) -> String {
    let time = posix_seconds.clamp(*TIMES.start(), *TIMES.end());
    let signature = signer.sign_bytes(message(&checkpoint.body(), time).as_bytes());
    let mut stamped = Vec::from(time.to_be_bytes());
    stamped.extend_from_slice(&signature);
    encode_signature(signer.verifier().name(), signer.verifier().id(), &stamped)
}

/// The cosignatures of `keys` on a note, in the note's order, each witness once. Lines of other keys are
/// ignored; a line of one of `keys` that does not verify sinks the note.
pub fn cosignatures(note: &UnverifiedNote<'_>, keys: &[&WitnessKey]) -> Result<Vec<Cosignature>, NoteError> {
    let mut found: Vec<Cosignature> = Vec::new();
    for line in note.signatures() {
        let known = keys
            .iter()
            .find(|key| key.name() == line.name && key.id() == line.key_id);
        let Some(key) = known else {
            continue;
        };
        let Some(posix_seconds) = time_of(key, note.danger_unverified_text(), &line.signature) else {
            return Err(NoteError::BadSignature(line.name.to_string()));
        };
        if found.iter().all(|cosignature| cosignature.witness != line.name) {
            found.push(Cosignature {
                witness: line.name.to_string(),
                posix_seconds,
            });
        }
    }
    Ok(found)
}

/// `note` with `line` (a signature line with its newline) as its last.
#[must_use]
pub fn with_line(note: &str, line: &str) -> String {
    format!("{note}{line}")
}

/// The time at which `key` signed `body`, if it did.
fn time_of(key: &WitnessKey, body: &str, stamped: &[u8]) -> Option<u64> {
    let (time, signature) = stamped.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    let good = TIMES.contains(&time) && key.verifies_bytes(message(body, time).as_bytes(), signature);
    good.then_some(time)
}

fn message(body: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{body}")
}
