//! The words under which session refusals are counted and kept.

use common::session::RefusalCode;

/// The counter's word of a refusal: its name in the session, without spaces.
#[must_use]
pub fn word(code: RefusalCode) -> &'static str {
    match code.name() {
        "no space" => "no_space",
        "ledger behind" => "ledger_behind",
        other => other,
    }
}

/// Whether a refusal says something about a host's chain, so that what caused it is kept as evidence.
#[must_use]
pub fn concerns_chain(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::Host
            | RefusalCode::Malformed
            | RefusalCode::Signature
            | RefusalCode::Gap
            | RefusalCode::Fork
            | RefusalCode::Equivocation
            | RefusalCode::Body
    )
}
