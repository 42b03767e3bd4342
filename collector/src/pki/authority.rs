//! The certificate authority: made once by `init`, used by `enrol`.

use std::{net::IpAddr, path::Path, time::Duration};

use common::{
    ids::{HostId, WallNanos, hex},
    note::SignerKey,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};

use super::{AUTHORITY_LIFETIME, PkiError, Request, Validity, host_uri, random};
use crate::{
    files::{self, PUBLIC, SECRET},
    layout::Layout,
};

/// Longest key or certificate file read, bytes.
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// A name or address that agents dial, carried by the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl std::str::FromStr for ServerName {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        rustls_pki_types::DnsName::try_from(text)
            .map(|name| Self::Dns(name.as_ref().to_owned()))
            .map_err(|_| PkiError::Name(text.to_owned()))
    }
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl ServerName {
    fn to_san(&self) -> Result<SanType, PkiError> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Ip(address) => SanType::IpAddress(*address),
        })
    }
}

/// Makes the keys of a new collector: authority, server, ledger. Existing ones are never overwritten.
///
/// A crash in between leaves some of the files; `init` then refuses and the operator removes the directory,
/// which nothing depends on yet.
pub fn init(layout: &Layout, origin: &str, names: &[ServerName], now: WallNanos) -> Result<(), PkiError> {
    for path in [layout.ca_key(), layout.ledger_key(), layout.config()] {
        if path.exists() {
            return Err(PkiError::Exists(path));
        }
    }
    let signer = SignerKey::from_seed(origin, &random()?)
        .map_err(|error| PkiError::Origin(origin.to_owned(), error))?;
    for dir in [
        layout.root().to_path_buf(),
        layout.root().join("pki"),
        layout.ledger(),
        layout.hosts(),
        layout.evidence(),
    ] {
        files::create_dir(&dir)?;
    }
    let validity = Validity::starting(now, AUTHORITY_LIFETIME)?;

    let ca_key = KeyPair::generate()?;
    let ca = authority_params(origin, validity)?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::from_params(&ca, &ca_key);

    let server_key = KeyPair::generate()?;
    let server = server_params(names, validity)?.signed_by(&server_key, &issuer)?;

    files::create(&layout.ca_key(), ca_key.serialize_pem().as_bytes(), SECRET)?;
    files::create(&layout.ca_certificate(), ca_certificate.pem().as_bytes(), PUBLIC)?;
    files::create(
        &layout.server_key(),
        server_key.serialize_pem().as_bytes(),
        SECRET,
    )?;
    files::create(&layout.server_certificate(), server.pem().as_bytes(), PUBLIC)?;
    let line = |text: String| format!("{text}\n").into_bytes();
    files::create(&layout.ledger_key(), &line(signer.encode_secret()), SECRET)?;
    files::create(
        &layout.ledger_verifier(),
        &line(signer.verifier().to_string()),
        PUBLIC,
    )
    .map_err(PkiError::from)
}

/// A client certificate just issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Whose.
    pub host: HostId,
    /// The certificate in PEM.
    pub pem: String,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// Its validity.
    pub validity: Validity,
}

/// The authority of one collector, its key in memory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority's key and certificate.
    pub fn open(layout: &Layout) -> Result<Self, PkiError> {
        let read = |path: &Path| files::read_text(path, PEM_BYTES_MAX);
        let key = KeyPair::from_pem(&read(&layout.ca_key())?)?;
        let issuer = Issuer::from_ca_cert_pem(&read(&layout.ca_certificate())?, key)?;
        Ok(Self { issuer })
    }

    /// Certifies the key of `request` for its host, valid from `now` for `lifetime`.
    pub fn issue(&self, request: &Request, now: WallNanos, lifetime: Duration) -> Result<Issued, PkiError> {
        let validity = Validity::starting(now, lifetime)?;
        let mut params = leaf_params(&request.host.short(), validity)?;
        params.subject_alt_names = vec![SanType::URI(host_uri(&request.host).as_str().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = params
            .serial_number
            .as_ref()
            .map(|serial| hex(serial.as_ref()))
            .unwrap_or_default();
        let certificate = params.signed_by(&request.key, &self.issuer)?;
        Ok(Issued {
            host: request.host,
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            serial,
            validity,
        })
    }
}

fn authority_params(origin: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = base_params(&format!("Hostledger authority of {origin}"), validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn server_params(names: &[ServerName], validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = leaf_params("Hostledger collector", validity)?;
    params.subject_alt_names = names.iter().map(ServerName::to_san).collect::<Result<_, _>>()?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn leaf_params(name: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = base_params(name, validity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn base_params(name: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = validity.from;
    params.not_after = validity.until;
    let mut serial = random::<16>()?;
    // DER integers are signed and shortest: keep the number positive and its first byte in use.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}
