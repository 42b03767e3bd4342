//! TLS of the connection to the collector: version 1.3, both sides certified, nothing resumed, nothing early.

use std::{path::PathBuf, sync::Arc};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::{RootCertStore, client::Resumption};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    config::Layout,
    identity::{IdentityError, read_private},
};

/// The protocol both ends name in the handshake.
pub(super) const ALPN: &[u8] = b"hostledger/1";

/// Why TLS cannot be set up from the files. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The private key.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// A PEM file.
    #[error("{path}: {cause}; enrol with `hostledger-collector enrol --csr agent.csr --out DIR`")]
    Pem {
        path: PathBuf,
        cause: rustls_pki_types::pem::Error,
    },
    /// A PEM file without what it is for.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// Key and certificate do not fit each other, or rustls refuses them.
    #[error("tls.key, tls.crt and ca.crt: {0}")]
    Refused(#[from] rustls::Error),
    /// Ours to fix.
    #[error("TLS without a cipher for QUIC: {0}")]
    Cipher(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// The client's side as the files have it now.
pub(crate) fn client(layout: &Layout) -> Result<quinn::ClientConfig, TlsError> {
    let key_path = layout.tls_key();
    let key = PrivateKeyDer::from_pem_slice(&read_private(&key_path)?).map_err(|cause| TlsError::Pem {
        path: key_path,
        cause,
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(layout.ca_certificate())? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(layout.tls_certificate())?, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // A replayed first flight must never append anything.
    tls.enable_early_data = false;
    tls.resumption = Resumption::disabled();
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(
        tls,
    )?)))
}

/// The certificates of a PEM file.
pub(crate) fn certificates(path: PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(&path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(found) if found.is_empty() => Err(TlsError::Empty(path)),
        Ok(found) => Ok(found),
        Err(cause) => Err(TlsError::Pem { path, cause }),
    }
}

/// What the files are worth, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFiles {
    /// They fit each other and the certificate is in force.
    Usable {
        /// Until when.
        not_after: String,
    },
    /// The certificate is out of force.
    Expired {
        /// Since when.
        not_after: String,
    },
    /// They cannot be used.
    Unusable(String),
}

/// Looks at the files as a connection would.
#[must_use]
pub fn tls_files(layout: &Layout) -> TlsFiles {
    if let Err(error) = client(layout) {
        return TlsFiles::Unusable(error.to_string());
    }
    let found = certificates(layout.tls_certificate()).unwrap_or_default();
    let parsed = found
        .first()
        .map(|certificate| x509_parser::parse_x509_certificate(certificate));
    match parsed {
        Some(Ok((_, certificate))) => {
            let validity = certificate.validity();
            let not_after = validity.not_after.to_string();
            if validity.is_valid() {
                TlsFiles::Usable { not_after }
            } else {
                TlsFiles::Expired { not_after }
            }
        }
        _ => TlsFiles::Unusable("tls.crt is no X.509 certificate".to_owned()),
    }
}
