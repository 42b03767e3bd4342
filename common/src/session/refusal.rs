//! Why a collector refuses something, as it crosses the wire.

use alloc::string::String;

use crate::{ids::Sequence, limits::REFUSAL_TEXT_BYTES_MAX};

/// A refusal with its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused ({}): {text}", code.name())]
pub struct Refusal {
    /// The reason, for programs.
    pub code: RefusalCode,
    /// Whether the collector closes the connection.
    pub fatal: bool,
    /// The batch concerned; `None` where it concerns the connection.
    pub sequence: Option<Sequence>,
    /// The reason, for people.
    pub text: String,
}

impl Refusal {
    /// A refusal that ends the connection; the text is cut to what the wire carries.
    #[must_use]
    pub fn fatal(code: RefusalCode, sequence: Option<Sequence>, text: &str) -> Self {
        Self {
            code,
            fatal: true,
            sequence,
            text: cut(text),
        }
    }

    /// A notice after which the session goes on.
    #[must_use]
    pub fn notice(code: RefusalCode, sequence: Option<Sequence>, text: &str) -> Self {
        Self {
            fatal: false,
            ..Self::fatal(code, sequence, text)
        }
    }
}

/// The first bytes of `text` that fit, whole characters only.
fn cut(text: &str) -> String {
    let mut end = text.len().min(REFUSAL_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    String::from(&text[..end])
}

/// The reasons; the numbers are on the wire for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalCode {
    /// The protocol version is not spoken here.
    Version,
    /// The host is not the one the certificate names.
    Host,
    /// Bytes that are no message, or a message out of place.
    Protocol,
    /// A header or body that does not parse.
    Malformed,
    /// A signature, or the key it was made with, does not fit.
    Signature,
    /// A batch that does not follow the last one.
    Gap,
    /// A batch that continues another history than the one stored.
    Fork,
    /// A different batch than the one stored under the same sequence.
    Equivocation,
    /// The body is not the one its header signs.
    Body,
    /// More was sent than the window allows.
    Window,
    /// No space is left to store batches; they are kept waiting.
    NoSpace,
    /// The ledger here is smaller than the one the agent saw.
    LedgerBehind,
    /// Another connection of the same host took over.
    Replaced,
    /// The collector stops or restarts.
    Stopping,
    /// The collector failed; it restarts through recovery.
    Internal,
    /// Too much waits to be stored; try again.
    Busy,
    /// An operator declared that the host has ended.
    Ended,
    /// A reason this build does not know.
    Other(u16),
}

impl RefusalCode {
    const NUMBERED: [(Self, u16, &'static str); 17] = [
        (Self::Version, 1, "version"),
        (Self::Host, 2, "host"),
        (Self::Protocol, 3, "protocol"),
        (Self::Malformed, 4, "malformed"),
        (Self::Signature, 5, "signature"),
        (Self::Gap, 6, "gap"),
        (Self::Fork, 7, "fork"),
        (Self::Equivocation, 8, "equivocation"),
        (Self::Body, 9, "body"),
        (Self::Window, 10, "window"),
        (Self::NoSpace, 11, "no space"),
        (Self::LedgerBehind, 12, "ledger behind"),
        (Self::Replaced, 13, "replaced"),
        (Self::Stopping, 14, "stopping"),
        (Self::Internal, 15, "internal"),
        (Self::Busy, 16, "busy"),
        (Self::Ended, 17, "ended"),
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Other(number) => number,
            known => Self::NUMBERED
                .iter()
                .find(|row| row.0 == known)
                .map_or(u16::MAX, |row| row.1),
        }
    }

    /// The reason of that number.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        Self::NUMBERED
            .iter()
            .find(|row| row.1 == number)
            .map_or(Self::Other(number), |row| row.0)
    }

    /// Whether it passes by itself, so that trying again soon makes sense.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Self::NoSpace | Self::Busy | Self::Stopping | Self::Internal)
    }

    /// The word in diagnostics and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NUMBERED
            .iter()
            .find(|row| row.0 == self)
            .map_or("other", |row| row.2)
    }
}
