//! Whether a trusted authority signed a time stamp.
//!
//! Owns the rest of what [`common::timestamp`] cannot check without a crypto provider: the signature, under a
//! certificate that is for time stamping alone and that leads to a trusted authority at the stamped time. Chains and
//! signatures are `webpki`'s over ring, as in TLS. Not checked: revocation, and whether the authority itself was still
//! valid; `openssl ts -verify` has options for both.

use common::{
    ids::{Hash, WallNanos, hex},
    timestamp::{
        CertificateId, Digest, STAMP_CERTIFICATES_MAX, Scheme, StampError, UnverifiedStamp, open,
        purpose_is_time_stamping,
    },
};
use rustls_pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime, pem::PemObject,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as schemes};

/// `id-kp-timeStamping`.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
/// Longest file of authorities' certificates, bytes.
pub const AUTHORITIES_BYTES_MAX: u64 = 256 * 1024;

/// The certificate authorities whose word on times is taken.
#[derive(Debug)]
pub struct Authorities(Vec<TrustAnchor<'static>>);

/// Why a file gives no authorities. Whoever configured it is at fault.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// Not PEM.
    #[error("not a PEM file of certificates: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// A certificate that cannot be used.
    #[error("certificate {place}: {cause}")]
    Certificate {
        /// Which, from 1.
        place: usize,
        /// What is wrong.
        cause: webpki::Error,
    },
    /// Nothing in it.
    #[error("it holds no certificate")]
    Empty,
}

/// Why a stamp is nobody's word. The authority is at fault, whoever altered its answer, or the choice of authorities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampFault {
    /// It is no stamp of this.
    #[error(transparent)]
    Stamp(#[from] StampError),
    /// The signer's certificate did not come with it.
    #[error("the signer's certificate is not in the answer")]
    NoCertificate,
    /// The signer may not stamp.
    #[error("the signer's certificate is not for time stamping alone")]
    Purpose,
    /// No way from the signer to a trusted authority.
    #[error("the signer's certificate does not lead to a trusted authority: {0}")]
    Chain(webpki::Error),
    /// The signature.
    #[error("the stamp's signature does not verify: {0}")]
    Signature(webpki::Error),
}

/// A stamp under the signature of a trusted authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedStamp {
    /// The authority's time.
    pub generated: WallNanos,
    /// How far off it may be either way, nanoseconds; `None` where the authority does not say.
    pub accuracy_ns: Option<u64>,
    /// The stamp's serial number, hexadecimal.
    pub serial: String,
}

impl VerifiedStamp {
    /// The instant before which what was stamped existed, if the authority is right: the latest that its accuracy allows.
    #[must_use]
    pub fn existed_before(&self) -> WallNanos {
        WallNanos(
            self.generated
                .0
                .saturating_add(self.accuracy_ns.unwrap_or_default()),
        )
    }
}

/// The certificates of authorities in a PEM file, of which there is one at least and each can be trusted.
///
/// # Errors
/// [`AuthoritiesError`].
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let mut found = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let certificate = certificate.map_err(AuthoritiesError::Pem)?;
        if let Err(cause) = anchor_from_trusted_cert(&certificate) {
            return Err(AuthoritiesError::Certificate { place: at + 1, cause });
        }
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(AuthoritiesError::Empty);
    }
    Ok(found)
}

impl Authorities {
    /// The certificates in a PEM file. All are trusted, self-signed or not.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, AuthoritiesError> {
        let certificates = certificates(bytes)?;
        let anchors = certificates.iter().enumerate().map(|(at, certificate)| {
            let anchor = anchor_from_trusted_cert(certificate);
            let anchor = anchor.map_err(|cause| AuthoritiesError::Certificate { place: at + 1, cause })?;
            Ok(anchor.to_owned())
        });
        Ok(Self(anchors.collect::<Result<_, _>>()?))
    }

    /// Checks that `response` is a stamp of exactly `stamped` by one of these authorities, and the answer to the
    /// request with `nonce` where that is known.
    pub fn verify(
        &self,
        response: &[u8],
        stamped: &[u8],
        nonce: Option<u64>,
    ) -> Result<VerifiedStamp, StampFault> {
        let stamp = open(response, &Hash::of(stamped), nonce)?;
        let certificate = signer(&stamp).ok_or(StampFault::NoCertificate)?;
        if !purpose_is_time_stamping(certificate).unwrap_or(false) {
            return Err(StampFault::Purpose);
        }
        let others: Vec<CertificateDer<'_>> = stamp
            .certificates
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let certificate = CertificateDer::from(certificate);
        let signer = EndEntityCert::try_from(&certificate).map_err(StampFault::Chain)?;
        let since = core::time::Duration::from_nanos(stamp.generated.0);
        signer
            .verify_for_usage(
                CHAIN_SCHEMES,
                &self.0,
                &others,
                UnixTime::since_unix_epoch(since),
                KeyUsage::required_if_present(TIME_STAMPING),
                None,
                None,
            )
            .map_err(StampFault::Chain)?;
        verify_signature(&signer, &stamp).map_err(StampFault::Signature)?;
        Ok(VerifiedStamp {
            generated: stamp.generated,
            accuracy_ns: stamp.accuracy_ns,
            serial: hex(stamp.serial),
        })
    }
}

/// The certificate that the signed attributes name.
fn signer<'a>(stamp: &UnverifiedStamp<'a>) -> Option<&'a [u8]> {
    debug_assert!(stamp.certificates.len() <= STAMP_CERTIFICATES_MAX);
    let (algorithm, wanted) = match stamp.certificate {
        CertificateId::Sha1(hash) => (&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, hash),
        CertificateId::Sha2(Digest::Sha256, hash) => (&ring::digest::SHA256, hash),
        CertificateId::Sha2(Digest::Sha384, hash) => (&ring::digest::SHA384, hash),
        CertificateId::Sha2(Digest::Sha512, hash) => (&ring::digest::SHA512, hash),
    };
    let named = |der: &&&[u8]| ring::digest::digest(algorithm, der).as_ref() == wanted;
    stamp.certificates.iter().find(named).copied()
}

fn verify_signature(signer: &EndEntityCert<'_>, stamp: &UnverifiedStamp<'_>) -> Result<(), webpki::Error> {
    // One name in CMS may stand for several pairs of key and hash; the certificate's key decides.
    let candidates: &[&dyn SignatureVerificationAlgorithm] = match stamp.scheme {
        Scheme::RsaPkcs1(Digest::Sha256) => &[schemes::RSA_PKCS1_2048_8192_SHA256],
        Scheme::RsaPkcs1(Digest::Sha384) => &[schemes::RSA_PKCS1_2048_8192_SHA384],
        Scheme::RsaPkcs1(Digest::Sha512) => &[schemes::RSA_PKCS1_2048_8192_SHA512],
        Scheme::RsaPss(Digest::Sha256) => &[schemes::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        Scheme::RsaPss(Digest::Sha384) => &[schemes::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        Scheme::RsaPss(Digest::Sha512) => &[schemes::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        Scheme::Ecdsa(Digest::Sha256) => &[schemes::ECDSA_P256_SHA256, schemes::ECDSA_P384_SHA256],
        Scheme::Ecdsa(Digest::Sha384) => &[schemes::ECDSA_P256_SHA384, schemes::ECDSA_P384_SHA384],
        Scheme::Ecdsa(Digest::Sha512) => &[],
        Scheme::Ed25519 => &[schemes::ED25519],
    };
    let mut outcome = Err(webpki::Error::InvalidSignatureForPublicKey);
    for candidate in candidates {
        outcome = signer.verify_signature(*candidate, &stamp.signed, stamp.signature);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// How certificates may be signed.
const CHAIN_SCHEMES: &[&dyn SignatureVerificationAlgorithm] = &[
    schemes::ECDSA_P256_SHA256,
    schemes::ECDSA_P256_SHA384,
    schemes::ECDSA_P384_SHA256,
    schemes::ECDSA_P384_SHA384,
    schemes::ED25519,
    schemes::RSA_PKCS1_2048_8192_SHA256,
    schemes::RSA_PKCS1_2048_8192_SHA384,
    schemes::RSA_PKCS1_2048_8192_SHA512,
    schemes::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    schemes::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    schemes::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

#[cfg(test)]
mod tests;
