//! Certificate requests: what an agent asks for, checked before anything is signed.

use common::{ids::HostId, text::Text};
use rcgen::{CertificateSigningRequestParams, PublicKey};
use x509_parser::{certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer};

use super::identity::{BadIdentity, host_of_extensions};

/// Longest request accepted, bytes of PEM.
pub(crate) const REQUEST_BYTES_MAX: u64 = 16 * 1024;

/// Longest name kept of a request, characters.
const NAME_CHARS_MAX: usize = 64;

/// A request whose signature proves that its sender holds the key, naming one host.
pub struct Request {
    /// The host.
    pub host: HostId,
    /// The common name it gives itself, escaped and cut: for people only.
    pub name: Option<String>,
    /// The key to certify.
    pub(super) key: PublicKey,
}

/// Why a request was refused. Whoever made it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not a request in PEM.
    #[error("not a PKCS #10 request in PEM")]
    Malformed,
    /// Its signature is not of the key it asks a certificate for.
    #[error("its signature does not prove possession of the key")]
    Proof,
    /// It asks for something this authority does not give.
    #[error("it cannot be used: {0}")]
    Unsupported(String),
    /// It names no host.
    #[error("{0}")]
    Identity(#[from] BadIdentity),
}

impl Request {
    /// Reads and checks a request in PEM. Whatever it asks for beside the host's name is ignored: the
    /// authority alone decides what a certificate may be used for.
    pub fn parse(pem: &str) -> Result<Self, BadRequest> {
        let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| BadRequest::Malformed)?;
        let (_, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|_| BadRequest::Malformed)?;
        let extensions: Vec<_> = request.requested_extensions().into_iter().flatten().collect();
        let host = host_of_extensions(extensions.into_iter())?;
        let checked = CertificateSigningRequestParams::from_der(&block.contents.as_slice().into()).map_err(
            |error| match error {
                rcgen::Error::InvalidCertificationRequestSignature => BadRequest::Proof,
                rcgen::Error::CouldNotParseCertificationRequest => BadRequest::Malformed,
                other => BadRequest::Unsupported(other.to_string()),
            },
        )?;
        let name = request
            .certification_request_info
            .subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(|name| {
                Text::from(name)
                    .to_string()
                    .chars()
                    .take(NAME_CHARS_MAX)
                    .collect()
            });
        Ok(Self {
            host,
            name,
            key: checked.public_key,
        })
    }
}
