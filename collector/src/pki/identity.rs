//! Which host a certificate names.

use common::ids::{Hash, HostId, hex};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

/// What the URI name of a host's certificate starts with; the host id in hex follows.
pub const HOST_URI_PREFIX: &str = "hostledger:host:";

/// The URI name of `host`.
#[must_use]
pub fn host_uri(host: &HostId) -> String {
    format!("{HOST_URI_PREFIX}{host}")
}

/// Who a certificate says its holder is. Only meaningful once TLS has verified the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The host.
    pub host: HostId,
    /// The certificate's serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 of the certificate.
    pub fingerprint: Hash,
    /// Last second of its validity, since 1970.
    pub not_after: i64,
}

/// Why a certificate names no host. Whoever issued it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// Not a certificate.
    #[error("not an X.509 certificate")]
    Malformed,
    /// None or several URI names.
    #[error("certificate carries {0} names of the form {HOST_URI_PREFIX}<id>, exactly one is needed")]
    Names(usize),
    /// The name is no host id.
    #[error("certificate names {0:?}, which is no host id")]
    Id(String),
}

impl PeerIdentity {
    /// Reads a certificate in DER.
    pub fn of_certificate(der: &[u8]) -> Result<Self, BadIdentity> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| BadIdentity::Malformed)?;
        let host = host_of_extensions(
            certificate
                .extensions()
                .iter()
                .map(x509_parser::extensions::X509Extension::parsed_extension),
        )?;
        Ok(Self {
            host,
            serial: hex(certificate.raw_serial()),
            fingerprint: Hash::of(der),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// The one host named by the alternative names among `extensions`.
pub(super) fn host_of_extensions<'a>(
    extensions: impl Iterator<Item = &'a ParsedExtension<'a>>,
) -> Result<HostId, BadIdentity> {
    let mut found: Vec<&str> = Vec::new();
    for extension in extensions {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        found.extend(names.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(HOST_URI_PREFIX),
            _ => None,
        }));
    }
    match found.as_slice() {
        [one] => one
            .parse()
            .map_err(|_| BadIdentity::Id((*one).chars().take(80).collect())),
        several => Err(BadIdentity::Names(several.len())),
    }
}
