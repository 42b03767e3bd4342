//! Names for what ends a connection before a session begins: for the peer, the counters and the diagnostics.

use quinn::{Connection, ConnectionError, VarInt};

use crate::{metrics::Metrics, pki::BadIdentity, registry::NotWelcome};

/// Codes of QUIC application closes made before a session; a session closes with its refusal's own number,
/// which is below these.
pub mod close {
    /// In order.
    pub const DONE: u32 = 0;
    /// The certificate names no host.
    pub const IDENTITY: u32 = 0x1_0001;
    /// The host is not registered.
    pub const UNREGISTERED: u32 = 0x1_0002;
    /// The registration does not list the certificate.
    pub const CERTIFICATE: u32 = 0x1_0003;
    /// The registration cannot be read.
    pub const REGISTRY: u32 = 0x1_0004;
    /// No session stream was opened in time.
    pub const NO_STREAM: u32 = 0x1_0005;
    /// The collector stops.
    pub const STOPPING: u32 = 0x1_0006;
    /// The host was declared to have ended.
    pub const ENDED: u32 = 0x1_0007;
}

/// TLS alerts come as these QUIC codes (RFC 9001 §4.8): base plus the alert's number.
const CRYPTO_BASE: u64 = 0x100;

/// Alerts (RFC 8446 §6) that our verification of a client's certificate raises, with the counter's word.
const ALERTS: [(u64, &str); 8] = [
    (40, "tls_handshake_failure"),
    (42, "tls_bad_certificate"),
    (45, "tls_certificate_expired"),
    (48, "tls_unknown_authority"),
    (49, "tls_access_denied"),
    (51, "tls_bad_signature"),
    (116, "tls_certificate_required"),
    (120, "tls_no_application_protocol"),
];

/// Why a certified peer is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwelcome {
    /// Its certificate.
    #[error(transparent)]
    Identity(#[from] BadIdentity),
    /// Its registration.
    #[error(transparent)]
    Registration(#[from] NotWelcome),
    /// It opened no stream in time.
    #[error("no session stream was opened in time")]
    NoStream,
}

impl Unwelcome {
    /// Tells the peer and counts.
    pub(super) fn refuse(&self, connection: &Connection, metrics: &Metrics) {
        let (code, word) = match self {
            Self::Identity(_) => (close::IDENTITY, "bad_identity"),
            Self::Registration(NotWelcome::Unregistered(_)) => (close::UNREGISTERED, "unregistered_host"),
            Self::Registration(NotWelcome::Certificate { .. }) => {
                (close::CERTIFICATE, "unregistered_certificate")
            }
            Self::Registration(NotWelcome::Ended { .. }) => (close::ENDED, "ended_host"),
            Self::Registration(NotWelcome::Registry(_)) => (close::REGISTRY, "unreadable_registration"),
            Self::NoStream => (close::NO_STREAM, "no_stream"),
        };
        metrics.refuse(word);
        // What is wrong with our own files is for our operator alone.
        let text = match self {
            Self::Registration(NotWelcome::Registry(_)) => "the registration cannot be read".to_owned(),
            other => other.to_string(),
        };
        connection.close(VarInt::from_u32(code), text.as_bytes());
    }
}

/// The counter's word for a handshake that failed.
pub(super) fn handshake_word(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::TransportError(fault) => u64::from(fault.code)
            .checked_sub(CRYPTO_BASE)
            .and_then(|alert| ALERTS.iter().find(|row| row.0 == alert))
            .map_or("handshake", |row| row.1),
        ConnectionError::VersionMismatch => "quic_version",
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => "peer_declined",
        ConnectionError::TimedOut => "handshake_timeout",
        ConnectionError::Reset | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            "handshake"
        }
    }
}
