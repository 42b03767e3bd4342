//! The key history in a proof file: a signed header of each key epoch before the one in question, each announcing the
//! key of the next, so that a host's id alone says whose key it is.
//!
//! Owns the `key` lines and the rules between their headers, which all proof files share (`docs/format/proof.md`).

use alloc::{boxed::Box, string::String, vec::Vec};
use core::iter::Peekable;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    batch::{BadHeader, ChainFault, HeaderFields, HostKeys, SignedHeader, UnverifiedHeader},
    ids::{KeyEpoch, Sequence},
    limits::HEADER_BYTES_MAX,
};

/// Most headers in a key history: at four epochs a day, 22 years.
pub const KEY_HISTORY_MAX: usize = 32 * 1024;
/// Longest line of a key history, bytes.
const KEY_LINE_BYTES_MAX: usize = HEADER_BYTES_MAX.div_ceil(3) * 4 + 5;
/// Longest key history, bytes.
pub const KEY_HISTORY_BYTES_MAX: usize = KEY_HISTORY_MAX * KEY_LINE_BYTES_MAX;

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

/// The keys of the host of a header, as `history` proves them up to that header's epoch. The error says at which
/// epoch, and why.
pub(crate) fn keys(of: &HeaderFields, history: &[Vec<u8>]) -> Result<HostKeys, (u64, Box<HistoryFault>)> {
    let expected = of.key_epoch.0;
    if history.len() as u64 != expected {
        let found = history.len();
        return Err((expected, Box::new(HistoryFault::Count { expected, found })));
    }
    let mut keys = HostKeys::new(of.host);
    let mut before: Option<Sequence> = None;
    for (epoch, bytes) in (0..).zip(history) {
        let at = |fault: HistoryFault| (epoch, Box::new(fault));
        let parsed = UnverifiedHeader::parse(bytes).map_err(|bad| at(bad.into()))?;
        let signed = SignedHeader::check(parsed).map_err(|fault| at(fault.into()))?;
        let fields = signed.fields();
        let behind = before.is_none_or(|before| before < fields.sequence) && fields.sequence < of.sequence;
        if fields.key_epoch != KeyEpoch(epoch) || !behind {
            let misplaced = HistoryFault::Misplaced {
                sequence: fields.sequence,
                epoch: fields.key_epoch,
            };
            return Err(at(misplaced));
        }
        before = Some(fields.sequence);
        keys.learn(&signed).map_err(|fault| at(fault.into()))?;
    }
    Ok(keys)
}

/// One line for each header.
pub(crate) fn write(history: &[Vec<u8>], text: &mut String) {
    for header in history {
        text.push_str("key ");
        STANDARD.encode_string(header, text);
        text.push('\n');
    }
}

/// The headers of the lines that come next, up to the first of another kind; the error says what is wrong.
pub(crate) fn read<'a>(
    lines: &mut Peekable<impl Iterator<Item = &'a str>>,
) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut history = Vec::new();
    while let Some(line) = lines.next_if(|line| line.starts_with("key ")) {
        if history.len() == KEY_HISTORY_MAX || line.len() > KEY_LINE_BYTES_MAX {
            return Err("too much key history");
        }
        let header = line
            .strip_prefix("key ")
            .and_then(|text| STANDARD.decode(text).ok());
        history.push(header.ok_or("a header of the key history is not base64")?);
    }
    Ok(history)
}
