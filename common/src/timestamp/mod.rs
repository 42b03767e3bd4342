//! RFC 3161 time stamps: what is asked of an authority, and what its answer says.
//!
//! Owns bytes and the checks that need no key: the status, that the answer is about what was asked, and that the
//! signed attributes cover it. Whether a trusted authority signed it is `ledger::anchor`'s, which has the crypto
//! provider: an [`UnverifiedStamp`] is nobody's word yet. The bytes that were signed are handed out as they came.

mod parse;
mod time;

use alloc::{string::String, vec::Vec};

use crate::{
    der::{self, BadDer, tag},
    ids::{Hash, WallNanos},
};

pub use self::parse::{open, purpose_is_time_stamping};

/// `Content-Type` of a request.
pub const REQUEST_TYPE: &str = "application/timestamp-query";
/// `Content-Type` of an answer.
pub const RESPONSE_TYPE: &str = "application/timestamp-reply";
/// Most certificates looked at in an answer.
pub const STAMP_CERTIFICATES_MAX: usize = 16;

/// The request to stamp what has this SHA-256: version 1, the authority's default policy, certificates wanted.
#[must_use]
pub fn request(imprint: &Hash, nonce: u64) -> Vec<u8> {
    let (mut algorithm, mut message, mut fields) = (Vec::new(), Vec::new(), Vec::new());
    let mut sha256 = Vec::new();
    der::put(&mut sha256, tag::OID, &[parse::SHA256]);
    der::put(&mut sha256, tag::NULL, &[]);
    der::put(&mut algorithm, tag::SEQUENCE, &[&sha256]);
    der::put(&mut algorithm, tag::OCTET_STRING, &[&imprint.0]);
    der::put(&mut message, tag::SEQUENCE, &[&algorithm]);
    der::put(&mut fields, tag::INTEGER, &[&[1]]);
    fields.extend_from_slice(&message);
    der::put(&mut fields, tag::INTEGER, &[&der::integer(nonce)]);
    der::put(&mut fields, tag::BOOLEAN, &[&[0xff]]);
    let mut out = Vec::new();
    der::put(&mut out, tag::SEQUENCE, &[&fields]);
    out
}

/// What an answer says. Nobody vouches for it before its signature was checked under a trusted certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedStamp<'a> {
    /// The authority's time.
    pub generated: WallNanos,
    /// How far off it may be either way, nanoseconds; `None` where the authority does not say.
    pub accuracy_ns: Option<u64>,
    /// The stamp's serial number, big-endian as encoded.
    pub serial: &'a [u8],
    /// The certificates that came with it, in order.
    pub certificates: Vec<&'a [u8]>,
    /// Which of them the signed attributes name as the signer's.
    pub certificate: CertificateId<'a>,
    /// How it was signed.
    pub scheme: Scheme,
    /// The bytes that were signed.
    pub signed: Vec<u8>,
    /// The signature over them.
    pub signature: &'a [u8],
}

/// How the signer's certificate is named: a hash of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateId<'a> {
    /// RFC 2634 `signingCertificate`.
    Sha1(&'a [u8]),
    /// RFC 5035 `signingCertificateV2`.
    Sha2(Digest, &'a [u8]),
}

/// A hash function of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

/// How an answer may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scheme {
    RsaPkcs1(Digest),
    /// Mask and salt of the same digest.
    RsaPss(Digest),
    Ecdsa(Digest),
    Ed25519,
}

/// Why an answer is no stamp of what was asked. The authority is at fault, or whoever altered its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// Longer than any answer may be.
    #[error("{0} bytes are more than an answer may have")]
    TooLong(usize),
    /// Not an answer.
    #[error("not an RFC 3161 answer: {0}")]
    Malformed(#[from] BadDer),
    /// The authority refused.
    #[error("the authority refused with status {status}{}{text}{}{failure}", if text.is_empty() { "" } else { ": " }, if failure.is_empty() { "" } else { ", " })]
    Refused {
        /// `PKIStatus`.
        status: u64,
        /// What it said, escaped.
        text: String,
        /// `PKIFailureInfo`, in words.
        failure: &'static str,
    },
    /// It stamps something else.
    #[error("the stamp is of other bytes")]
    Imprint,
    /// It answers another request: an old answer played again.
    #[error("the stamp carries another nonce: it answers another request")]
    Nonce,
    /// Something that is not spoken here.
    #[error("{0} is not supported here")]
    Unsupported(&'static str),
    /// What is signed does not cover the stamp.
    #[error("the signature does not cover the stamp: {0}")]
    NotCovered(&'static str),
}

#[cfg(test)]
mod tests;
