//! Keys and certificates: who may speak to the collector, and who it says it is.
//!
//! Owns the certificate authority, the server's certificate and the clients' ones; a client certificate binds
//! one TLS key to one host id through a URI name. Refuses to decide whether a host is still welcome: that is
//! the registration's ([`crate::registry`]). What a batch proves rests on the host's signing key alone, so that
//! a stolen authority can speak for no host's past.

mod authority;
mod identity;
mod request;

use std::time::Duration;

use common::ids::WallNanos;
use time::OffsetDateTime;

pub(crate) use self::request::REQUEST_BYTES_MAX;
pub use self::{
    authority::{Authority, Issued, ServerName, init},
    identity::{BadIdentity, HOST_URI_PREFIX, PeerIdentity, host_uri},
    request::{BadRequest, Request},
};

/// Allowance for clocks that run behind: certificates are valid from this long before they are issued.
pub const BACKDATE: Duration = Duration::from_secs(3600);
/// How long the authority's and the server's certificates are valid.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why keys or certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The operator or the disk.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    /// The directory holds a collector already; its keys are never overwritten.
    #[error("{} is already there: this directory has been initialised, and its keys are never overwritten", .0.display())]
    Exists(std::path::PathBuf),
    /// A name that no certificate can carry.
    #[error("{0:?} is neither a host name nor an IP address")]
    Name(String),
    /// A ledger origin that no checkpoint can carry.
    #[error("{0:?} cannot be a ledger's origin: {1}")]
    Origin(String, common::note::KeyError),
    /// The request.
    #[error("certificate request refused: {0}")]
    Request(#[from] BadRequest),
    /// The certificate library.
    #[error("certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// An instant outside of what certificates can say.
    #[error("a certificate cannot be valid until then: {0}")]
    Time(#[from] time::error::ComponentRange),
    /// The system gave no randomness.
    #[error("no randomness from the system: {0}")]
    Random(getrandom::Error),
}

/// A certificate's validity, whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub from: OffsetDateTime,
    /// Last instant.
    pub until: OffsetDateTime,
}

impl Validity {
    /// From `now`, less the allowance for slow clocks, for `lifetime`.
    pub fn starting(now: WallNanos, lifetime: Duration) -> Result<Self, PkiError> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.0))?.replace_nanosecond(0)?;
        Ok(Self {
            from: at - BACKDATE,
            until: at + lifetime,
        })
    }
}

/// `N` bytes nobody can guess.
pub fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(PkiError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
