//! The collector as an HTTP client: of witnesses, time stamping authorities and sinks.
//!
//! Owns what all of them share: a time limit, no redirects (a checkpoint goes where the operator said and nowhere
//! else), and whose certificates count under `https://`: those of the public authorities, or of the ones in `https_ca`
//! and then of no other. Refuses to go on without verifying them; there is no setting for that.

use std::{path::PathBuf, sync::Arc, time::Duration};

use common::certificate;
use ledger::anchor::stamp::{AUTHORITIES_BYTES_MAX, AuthoritiesError, certificates};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{
    config::Config,
    files::{self, FileError},
    layout::Layout,
};

/// Why the authorities cannot be used. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its contents.
    #[error("{} (https_ca): {cause}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: AuthoritiesError,
    },
}

/// Whose certificates count.
#[derive(Debug, Clone)]
pub struct Https(RootCerts);

impl Https {
    /// Reads the authorities that the configuration names.
    ///
    /// # Errors
    /// [`HttpsError`].
    pub fn load(layout: &Layout, config: &Config) -> Result<Self, HttpsError> {
        let Some(file) = &config.https_ca else {
            return Ok(Self::public());
        };
        let path = layout.root().join(file);
        let pem = files::read_text(&path, AUTHORITIES_BYTES_MAX)?;
        let found = match certificates(pem.as_bytes()) {
            Ok(found) => found,
            Err(cause) => return Err(HttpsError::Authorities { path, cause }),
        };
        let owned = found.iter().map(|der| Certificate::from_der(der).to_owned());
        Ok(Self(RootCerts::Specific(Arc::new(owned.collect()))))
    }

    /// The public authorities.
    #[must_use]
    pub fn public() -> Self {
        Self(RootCerts::WebPki)
    }

    /// A client whose every request takes at most `timeout`.
    pub(crate) fn client(&self, timeout: Duration) -> ureq::Agent {
        let tls = TlsConfig::builder().root_certs(self.0.clone()).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls)
            .user_agent(concat!("hostledger-collector/", env!("CARGO_PKG_VERSION")))
            .build();
        config.into()
    }
}

/// What a client reports, with the remedy where a certificate was refused.
pub(crate) fn in_words(error: &dyn std::fmt::Display) -> String {
    certificate::in_words(&error.to_string(), "https_ca")
}
