//! Enrolment: a certificate issued, its host registered, and the files an agent needs handed out.
//!
//! Owns the order: the registration is durable before the certificate leaves, so that no agent holds one that
//! is refused. Repeating it is harmless; each time one more certificate is accepted.

use std::path::Path;

use common::ledger_keys::LEDGER_KEYS_BYTES_MAX;

use crate::{
    files::{self, PUBLIC},
    layout::Layout,
    pki::{Issued, PkiError},
    registry::{self, Registration, RegistryError},
};

/// Longest file handed out, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the host may be called.
pub struct Names<'a> {
    /// By the operator.
    pub given: Option<&'a str>,
    /// By the request; counts only the first time.
    pub requested: Option<&'a str>,
}

/// Why a host could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The registration.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Files handed out.
    #[error(transparent)]
    File(#[from] files::FileError),
}

/// Registers the host of `issued` and writes `tls.crt`, `ca.crt`, `ledger.vkey` and, where the ledger has one, the
/// history of its keys to `out`. `at` and
/// `not_after` are RFC 3339.
pub fn enrol(
    layout: &Layout,
    issued: &Issued,
    names: &Names<'_>,
    at: &str,
    not_after: &str,
    out: &Path,
) -> Result<Registration, EnrolError> {
    let ca = files::read_text(&layout.ca_certificate(), FILE_BYTES_MAX)?;
    let vkey = files::read_text(&layout.ledger_verifier(), FILE_BYTES_MAX)?;
    let known = registry::read(layout, &issued.host)?.is_some();
    let history = layout.ledger_keys();
    let history = match history.exists() {
        true => Some(files::read_text(&history, LEDGER_KEYS_BYTES_MAX as u64)?),
        false => None,
    };
    let name = names.given.or(if known { None } else { names.requested });
    let registration = registry::register(layout, issued, name, at, not_after)?;
    files::create_dir(out)?;
    files::replace(&out.join("ca.crt"), ca.as_bytes(), PUBLIC)?;
    files::replace(&out.join("ledger.vkey"), vkey.as_bytes(), PUBLIC)?;
    if let Some(history) = history {
        files::replace(&out.join("ledger.keys"), history.as_bytes(), PUBLIC)?;
    }
    files::replace(&out.join("tls.crt"), issued.pem.as_bytes(), PUBLIC)?;
    Ok(registration)
}
