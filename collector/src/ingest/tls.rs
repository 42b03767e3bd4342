//! TLS of the ingest socket: version 1.3, both sides certified, nothing resumed, nothing early.
//!
//! Owns which certificates are accepted. Sessions are not resumed, since a resumed one is not held against the
//! certificate's validity again; and nothing is taken before the handshake is complete, since it could be
//! replayed.

use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    files::{self, FileError},
    layout::Layout,
};

/// Protocol name agreed in the handshake.
pub const ALPN: &[u8] = b"hostledger/1";
/// Longest certificate or key file read, bytes.
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// Why TLS cannot be set up. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error("{path}: {cause}")]
    Pem {
        /// The file.
        path: String,
        /// What is wrong.
        cause: rustls_pki_types::pem::Error,
    },
    /// Key and certificate do not fit, or cannot be used.
    #[error("TLS keys cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The authority cannot be used.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    /// Our own choice of algorithms is at fault.
    #[error("no cipher suite for QUIC")]
    CipherSuite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// The server's TLS settings from the files of `layout`.
pub fn server_config(layout: &Layout) -> Result<QuicServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&layout.ca_certificate())? {
        roots.add(certificate)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let key_path = layout.server_key();
    let key = PrivateKeyDer::from_pem_slice(files::read_text(&key_path, PEM_BYTES_MAX)?.as_bytes()).map_err(
        |cause| TlsError::Pem {
            path: key_path.display().to_string(),
            cause,
        },
    )?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&layout.server_certificate())?, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = files::read_text(path, PEM_BYTES_MAX)?;
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|cause| TlsError::Pem {
            path: path.display().to_string(),
            cause,
        })
}
