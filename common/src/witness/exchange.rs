//! One ledger asking one witness: from which size, and what its answer means.
//!
//! Pure: the driver sends what [`Exchange::old`] says and hands the answer to [`Exchange::handle`].

use alloc::{string::String, vec::Vec};

use super::cosignature::cosignatures;
use crate::{
    checkpoint::parse_decimal,
    limits::NOTE_BYTES_MAX,
    note::{NoteError, UnverifiedNote, WitnessKey},
};

/// Requests to one witness for one checkpoint: the size that is remembered, the one it names, and once more
/// where another client of this ledger came in between.
const ASKED_MAX: u8 = 3;
/// Longest explanation of a refusal that is kept, in characters.
const WORDS_MAX: usize = 200;

/// Why a witness did not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessFault {
    /// It cosigned a larger checkpoint of this origin than there is here. This ledger is an older copy, or
    /// somebody else signs with its key.
    #[error(
        "it cosigned {recorded} leaves of this ledger, which has {size}: this ledger is an older copy, \
         or another one signs with its key"
    )]
    Ahead {
        /// Leaves of the checkpoint it cosigned.
        recorded: u64,
        /// Leaves of ours.
        size: u64,
    },
    /// It holds another history of this origin (status 422).
    #[error("it cosigned another history of this ledger, which does not lead to ours: {words}")]
    Contradicts {
        /// What it said.
        words: String,
    },
    /// It trusts no key that signed the checkpoint (status 403): after a change of the ledger's key it was not told.
    #[error(
        "it does not trust the key that signs this ledger (status 403: {words}): give its operator the key in force, \
         which `key list` shows"
    )]
    Untrusted {
        /// What it said.
        words: String,
    },
    /// It refused for another reason.
    #[error("it refused with status {status}: {words}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        words: String,
    },
    /// Its answer is no answer. The witness is at fault.
    #[error("it answered with status {status} and {what}")]
    Garbage {
        /// HTTP status.
        status: u16,
        /// What is wrong.
        what: &'static str,
    },
    /// Its cosignature does not verify. The witness, or the key configured for it.
    #[error("its cosignature does not verify: {0}")]
    Signature(NoteError),
    /// It names another size each time it is asked.
    #[error("it names another size each time it is asked, last {0}")]
    Restless(u64),
    /// It could not be asked, or the way to it broke.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer in time, or is at an earlier question still.
    #[error("{0}")]
    Late(String),
}

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask again, with a proof from [`Exchange::old`].
    Ask,
    /// The witness's verified signature line, newline included, and its time in seconds since 1970.
    Cosigned {
        /// The line.
        line: String,
        /// The time.
        posix_seconds: u64,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Exchange<'a> {
    key: &'a WitnessKey,
    note: &'a str,
    size: u64,
    old: u64,
    asked: u8,
}

impl<'a> Exchange<'a> {
    /// For the checkpoint in `note` of `size` leaves; `old` is the size the witness is remembered to have.
    #[must_use]
    pub fn new(key: &'a WitnessKey, note: &'a str, size: u64, old: u64) -> Self {
        Self {
            key,
            note,
            size,
            old: old.min(size),
            asked: 0,
        }
    }

    /// The size to start the consistency proof from.
    #[must_use]
    pub fn old(&self) -> u64 {
        self.old
    }

    /// Takes an answer: HTTP status and body.
    pub fn handle(&mut self, status: u16, body: &[u8]) -> Result<Next, WitnessFault> {
        self.asked = self.asked.saturating_add(1);
        match status {
            200 => self.cosigned(body),
            409 => self.conflict(body),
            422 => Err(WitnessFault::Contradicts { words: words(body) }),
            403 => Err(WitnessFault::Untrusted { words: words(body) }),
            _ => Err(WitnessFault::Refused {
                status,
                words: words(body),
            }),
        }
    }

    fn conflict(&mut self, body: &[u8]) -> Result<Next, WitnessFault> {
        let garbage = WitnessFault::Garbage {
            status: 409,
            what: "no tree size",
        };
        let recorded = core::str::from_utf8(body)
            .ok()
            .and_then(|text| parse_decimal(text.strip_suffix('\n')?))
            .ok_or(garbage)?;
        if recorded > self.size {
            return Err(WitnessFault::Ahead {
                recorded,
                size: self.size,
            });
        }
        self.old = recorded;
        if self.asked < ASKED_MAX {
            Ok(Next::Ask)
        } else {
            Err(WitnessFault::Restless(recorded))
        }
    }

    fn cosigned(&self, body: &[u8]) -> Result<Next, WitnessFault> {
        let garbage = |what| WitnessFault::Garbage { status: 200, what };
        if body.len() > NOTE_BYTES_MAX {
            return Err(garbage("too many bytes"));
        }
        let (text, _) = self.note.rsplit_once("\n\n").unwrap_or((self.note, ""));
        let mut joined = Vec::from(text.as_bytes());
        joined.extend_from_slice(b"\n\n");
        joined.extend_from_slice(body);
        let note = UnverifiedNote::parse(&joined).map_err(|_| garbage("no signature lines"))?;
        let found = cosignatures(&note, &[self.key]).map_err(WitnessFault::Signature)?;
        let Some(cosignature) = found.first() else {
            return Err(garbage("no signature by its key"));
        };
        let line = note
            .signatures()
            .iter()
            .find(|line| line.name == self.key.name() && line.key_id == self.key.id())
            .map(super::super::note::SignatureLine::encode)
            .ok_or(garbage("no signature by its key"))?;
        Ok(Next::Cosigned {
            line,
            posix_seconds: cosignature.posix_seconds,
        })
    }
}

/// The beginning of what a witness said, on one line and free of what a terminal would obey.
fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORDS_MAX)
        .collect()
}
