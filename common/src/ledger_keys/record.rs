//! One record of a key history: a signed note whose text has fixed lines.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use core::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{HistoryFault, LEDGER_KEY_RECORD_BYTES_MAX, Signatory};
use crate::{
    checkpoint::{parse_decimal, parse_hash},
    ids::{Hash, hex},
    limits::STATEMENT_TEXT_BYTES_MAX,
    note::{UnverifiedNote, VerifierKey},
    text::Text,
};

/// First line of every record. No checkpoint has such a text: its second line is no number.
pub(super) const FIRST_LINE: &str = "hostledger/ledger-keys/v1";

/// Why a key ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its time was over: it signed this itself.
    Rotated,
    /// It is not to be believed any more: the offline key says so, whoever holds it.
    Revoked {
        /// Why, in the operator's words; no control characters.
        reason: String,
    },
}

/// One key ends, another begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Which change, from 1.
    pub number: u32,
    /// SHA-256 of the record before, signatures included.
    pub previous: Hash,
    /// The key that ends.
    pub ends: VerifierKey,
    /// The key that begins.
    pub key: VerifierKey,
    /// The old key signs checkpoints of at most so many leaves, the new one those of more.
    pub after: u64,
    /// The ledger's root over these leaves.
    pub root: Hash,
    /// Why.
    pub why: Why,
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = (hex(&self.ends.id()), hex(&self.key.id()));
        let after = self.after;
        match &self.why {
            Why::Rotated => write!(f, "key {new} replaces key {old} after {after} leaves"),
            Why::Revoked { reason } => write!(
                f,
                "key {old} is revoked after {after} leaves and key {new} follows it: {}",
                Text::from(reason.as_str())
            ),
        }
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Where a history begins.
    Genesis {
        /// The ledger's first key.
        key: VerifierKey,
        /// The offline key.
        offline: VerifierKey,
    },
    Change(KeyChange),
}

impl Body {
    /// The text that is signed.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Genesis { key, offline } => {
                format!("{FIRST_LINE}\ngenesis\nkey {key}\noffline {offline}\n")
            }
            Self::Change(change) => {
                let (word, reason) = match &change.why {
                    Why::Rotated => ("rotate", String::new()),
                    Why::Revoked { reason } => ("revoke", format!("reason {reason}\n")),
                };
                format!(
                    "{FIRST_LINE}\n{word} {}\nprevious {}\nends {}\nkey {}\nafter {}\nroot {}\n{reason}",
                    change.number,
                    STANDARD.encode(change.previous.0),
                    change.ends,
                    change.key,
                    change.after,
                    STANDARD.encode(change.root.0),
                )
            }
        }
    }
}

/// A record that was parsed and not verified: nothing in it may be believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedRecord {
    pub(super) bytes: Vec<u8>,
    pub(super) body: Body,
}

impl UnverifiedRecord {
    /// Parses the bytes of record `number`; whatever would not be written the same way is refused.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8], number: usize) -> Result<Self, HistoryFault> {
        let malformed = |what| HistoryFault::Malformed { number, what };
        if bytes.len() > LEDGER_KEY_RECORD_BYTES_MAX {
            let bytes = bytes.len();
            return Err(HistoryFault::RecordLength { number, bytes });
        }
        let note = UnverifiedNote::parse(bytes).map_err(|_| malformed("it is no signed note"))?;
        let text = note.danger_unverified_text();
        let body = read(text, number)?;
        let spelt: String = note.signatures().iter().map(|line| line.encode()).collect();
        if body.text() != text || format!("{text}\n{spelt}").as_bytes() != bytes {
            return Err(malformed("it is not in its one spelling"));
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            body,
        })
    }

    /// What the record claims; `None` for the first of a history, which changes nothing.
    #[must_use]
    pub fn claimed(&self) -> Option<&KeyChange> {
        match &self.body {
            Body::Change(change) => Some(change),
            Body::Genesis { .. } => None,
        }
    }

    /// SHA-256 of the bytes: what the next record names as the one before it.
    pub(super) fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }

    /// Checks that exactly these keys have signed, in this order.
    pub(super) fn check_signatures(
        &self,
        number: usize,
        demanded: &[(Signatory, &VerifierKey)],
    ) -> Result<(), HistoryFault> {
        let malformed = |what| HistoryFault::Malformed { number, what };
        let note = UnverifiedNote::parse(&self.bytes).map_err(|_| malformed("it is no signed note"))?;
        let text = note.danger_unverified_text().as_bytes();
        let lines = note.signatures();
        for (by, key) in demanded {
            let (by, id) = (*by, hex(&key.id()));
            let line = lines
                .iter()
                .find(|line| line.name == key.name() && line.key_id == key.id());
            match line {
                None => return Err(HistoryFault::Unsigned { number, by, id }),
                Some(line) if !key.verifies(text, &line.signature) => {
                    return Err(HistoryFault::BadSignature { number, by, id });
                }
                Some(_) => {}
            }
        }
        let in_order = lines
            .iter()
            .zip(demanded)
            .all(|(line, (_, key))| line.name == key.name() && line.key_id == key.id());
        if in_order && lines.len() == demanded.len() {
            Ok(())
        } else {
            Err(malformed("its signatures are out of order, or one too many"))
        }
    }
}

fn read(text: &str, number: usize) -> Result<Body, HistoryFault> {
    let malformed = |what| HistoryFault::Malformed { number, what };
    let mut lines = text.strip_suffix('\n').unwrap_or_default().split('\n');
    if lines.next() != Some(FIRST_LINE) {
        return Err(malformed("unknown first line"));
    }
    let what = lines.next().ok_or(malformed("it says nothing"))?;
    let mut field = |label: &'static str, missing: &'static str| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(label)?.strip_prefix(' '))
            .ok_or(malformed(missing))
    };
    let key = |text: &str| VerifierKey::parse(text).map_err(|cause| HistoryFault::Key { number, cause });
    let hash = |text: &str| parse_hash(text).ok_or(malformed("a hash is malformed"));
    if what == "genesis" {
        let (first, offline) = (field("key", "no key")?, field("offline", "no offline key")?);
        return Ok(Body::Genesis {
            key: key(first)?,
            offline: key(offline)?,
        });
    }
    let (word, count) = what.split_once(' ').ok_or(malformed("unknown kind"))?;
    let count = parse_decimal(count).and_then(|count| u32::try_from(count).ok());
    let change = KeyChange {
        number: count.ok_or(malformed("its number is none"))?,
        previous: hash(field("previous", "no hash of the record before")?)?,
        ends: key(field("ends", "no key that ends")?)?,
        key: key(field("key", "no key")?)?,
        after: parse_decimal(field("after", "no size")?).ok_or(malformed("bad size"))?,
        root: hash(field("root", "no root")?)?,
        why: match word {
            "rotate" => Why::Rotated,
            "revoke" => Why::Revoked {
                reason: field("reason", "no reason")?.to_string(),
            },
            _ => return Err(malformed("unknown kind")),
        },
    };
    match &change.why {
        Why::Revoked { reason } if reason.is_empty() || reason.len() > STATEMENT_TEXT_BYTES_MAX => {
            Err(malformed("its reason is empty or longer than 512 bytes"))
        }
        _ => Ok(Body::Change(change)),
    }
}
