//! Key, request, certificate and authorities of the connection, held against each other: which of them was altered.
//!
//! Owns the verdict for `doctor` and for the start. Refuses nothing: rustls and the collector decide whether a connection
//! stands, and an operator who changes authorities may for a while have a certificate that none in `ca.crt` has signed.

use std::path::PathBuf;

use common::ids::HostId;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate, X509Extension},
};

use super::tls::certificates;
use crate::{
    config::Layout,
    files::Finding,
    identity::{host_uri, read_private},
};

/// What one file says of the key: its public key as it stands in certificates, DER.
type Told = Result<Vec<u8>, String>;

/// What is not in order of them; of certificates nothing before there are any.
pub(crate) fn examine(layout: &Layout, host: &HostId) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = vec![
        (layout.tls_key(), key(layout)),
        (layout.csr(), request(layout, host)),
    ];
    let enrolled = [layout.tls_certificate(), layout.ca_certificate()];
    if enrolled.iter().any(|path| path.exists()) {
        match authorities(layout) {
            Ok(authorities) => {
                let issued = certificate(layout, host, &authorities);
                told.push((layout.tls_certificate(), issued));
            }
            Err(what) => findings.push(Finding::new(layout.ca_certificate(), what)),
        }
    }
    findings.extend(disagreements(told));
    findings
}

/// Each file that could not be read, and of the others the one that names another key than the rest.
fn disagreements(told: Vec<(PathBuf, Told)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut keys = Vec::new();
    for (path, told) in told {
        match told {
            Ok(key) => keys.push((path, key)),
            Err(what) => findings.push(Finding::new(path, what)),
        }
    }
    let votes = |key: &[u8]| keys.iter().filter(|(_, other)| other == key).count();
    let most = keys.iter().map(|(_, key)| votes(key)).max().unwrap_or_default();
    let split = keys.iter().any(|(_, key)| votes(key) < most) || (most == 1 && keys.len() > 1);
    for (path, key) in &keys {
        // Two against one names the one; one against one names both.
        if split && (votes(key) < most || most == 1) {
            let what = "it is of another key than tls.key, agent.csr and tls.crt have otherwise: one of them was \
                        exchanged. Restore it, or make a request for tls.key and enrol again";
            findings.push(Finding::new(path.clone(), what.to_owned()));
        }
    }
    findings
}

fn key(layout: &Layout) -> Told {
    let pem = read_private(&layout.tls_key()).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&pem).map_err(|_| "it is no PEM text".to_owned())?;
    let pair = rcgen::KeyPair::from_pem(text)
        .map_err(|error| format!("it holds no private key ({error}): restore it, or enrol with a new one"))?;
    Ok(rcgen::PublicKeyData::subject_public_key_info(&pair))
}

fn request(layout: &Layout, host: &HostId) -> Told {
    let bad = |what: &str| {
        format!(
            "it is no certificate request of this host: {what}; the one that was enrolled stands in tls.crt"
        )
    };
    let der = CertificateSigningRequestDer::from_pem_file(layout.csr());
    let der = der.map_err(|error| bad(&error.to_string()))?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|error| bad(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(bad("bytes follow it"));
    }
    if request.signature_value.unused_bits != 0 {
        return Err(bad("its signature is no whole number of bytes"));
    }
    request
        .verify_signature()
        .map_err(|_| bad("its signature does not fit"))?;
    let mut extensions = request.requested_extensions().into_iter().flatten();
    if !extensions.any(|extension| names_host(extension, host)) {
        return Err(bad("it names another host"));
    }
    Ok(request.certification_request_info.subject_pki.raw.to_vec())
}

fn certificate(layout: &Layout, host: &HostId, authorities: &[CertificateDer<'static>]) -> Told {
    let all = certificates(layout.tls_certificate()).map_err(|error| error.to_string())?;
    let leaf = all.first().ok_or("it holds no certificate")?;
    let parsed = parse(leaf)?;
    let signed = |authority: &CertificateDer<'_>| {
        parse(authority).is_ok_and(|authority| parsed.verify_signature(Some(authority.public_key())).is_ok())
    };
    if !authorities.iter().any(signed) {
        return Err(
            "no authority in ca.crt has signed it: it was altered, or one of the two was exchanged. Restore \
                    it, or enrol again with agent.csr"
                .to_owned(),
        );
    }
    let named = |extension: &X509Extension<'_>| names_host(extension.parsed_extension(), host);
    if !parsed.extensions().iter().any(named) {
        return Err("it is of another host than signing.keys: restore the one, or the other".to_owned());
    }
    Ok(parsed.public_key().raw.to_vec())
}

/// The authorities, each of which has signed itself.
fn authorities(layout: &Layout) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = certificates(layout.ca_certificate()).map_err(|error| error.to_string())?;
    for (number, one) in all.iter().enumerate() {
        let parsed = parse(one)?;
        if parsed.verify_signature(None).is_err() {
            return Err(format!(
                "certificate {number} in it is not signed by itself: it was altered; copy ca.crt from the collector"
            ));
        }
    }
    Ok(all)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("bytes follow a certificate in it".to_owned()),
        Err(error) => Err(format!("it is no X.509 certificate: {error}")),
    }
}

fn names_host(extension: &ParsedExtension<'_>, host: &HostId) -> bool {
    let uri = host_uri(host);
    match extension {
        ParsedExtension::SubjectAlternativeName(names) => names
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::URI(found) if *found == uri)),
        _ => false,
    }
}
