//! Reading an answer (RFC 3161 §2.4.2) and the CMS signed data in it (RFC 5652 §5), and what of a certificate
//! (RFC 5280 §4) a time stamp rests on.

use alloc::{string::String, vec::Vec};

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{CertificateId, Digest, STAMP_CERTIFICATES_MAX, Scheme, StampError, UnverifiedStamp, time};
use crate::{
    der::{BadDer, Element, Elements, integer, tag, unsigned},
    ids::{Hash, WallNanos},
    limits::TSA_RESPONSE_BYTES_MAX,
};

pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SIGNING_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c];
const SIGNING_CERTIFICATE_V2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f];
/// What the object identifiers of RSA with PKCS #1 v1.5 begin with; the last byte follows.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// The same of ECDSA.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// `id-kp-timeStamping`, tag and length included.
const TIME_STAMPING: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// Longest text of an authority that is repeated, characters.
const TEXT_MAX: usize = 200;

/// Reads an answer and checks all that needs no key: that it was granted, that it stamps `imprint`, that it answers
/// the request with `nonce` (where that is known), and that its signed attributes cover it.
pub fn open<'a>(
    response: &'a [u8],
    imprint: &Hash,
    nonce: Option<u64>,
) -> Result<UnverifiedStamp<'a>, StampError> {
    if response.len() > TSA_RESPONSE_BYTES_MAX {
        return Err(StampError::TooLong(response.len()));
    }
    let mut outer = Elements::new(response);
    let mut answer = outer.inside(tag::SEQUENCE, "the answer")?;
    outer.end("the answer's end")?;
    granted(answer.inside(tag::SEQUENCE, "the status")?)?;
    let mut content = answer.inside(tag::SEQUENCE, "the token")?;
    answer.end("the answer's end")?;
    if content.value(tag::OID, "the token's type")? != SIGNED_DATA {
        return Err(StampError::Unsupported("a token that is no signed data"));
    }
    let mut explicit = content.inside(tag::context(0), "the signed data")?;
    let mut data = explicit.inside(tag::SEQUENCE, "the signed data")?;

    data.value(tag::INTEGER, "the signed data's version")?;
    data.value(tag::SET, "the digest algorithms")?;
    let info = encapsulated(data.inside(tag::SEQUENCE, "the content")?)?;
    let mut certificates = Vec::new();
    if let Some(set) = data.optional(tag::context(0), "the certificates")? {
        let mut set = Elements::new(set.value);
        while !set.is_empty() && certificates.len() < STAMP_CERTIFICATES_MAX {
            let element = set.any("a certificate")?;
            if element.tag == tag::SEQUENCE {
                certificates.push(element.whole);
            }
        }
    }
    data.optional(tag::context(1), "the revocation lists")?;
    let mut signers = data.inside(tag::SET, "the signers")?;
    let signer = Signer::read(signers.inside(tag::SEQUENCE, "the signer")?, info)?;
    if !signers.is_empty() {
        return Err(StampError::Unsupported("a stamp with several signers"));
    }

    let said = TstInfo::read(info)?;
    if said.imprint != imprint.0 {
        return Err(StampError::Imprint);
    }
    if nonce.is_some_and(|nonce| said.nonce != Some(integer(nonce).as_slice())) {
        return Err(StampError::Nonce);
    }
    Ok(UnverifiedStamp {
        generated: said.generated,
        accuracy_ns: said.accuracy_ns,
        serial: said.serial,
        certificates,
        certificate: signer.certificate,
        scheme: signer.scheme,
        signed: signer.signed,
        signature: signer.signature,
    })
}

fn granted(mut status: Elements<'_>) -> Result<(), StampError> {
    let number = unsigned(status.value(tag::INTEGER, "the status")?).ok_or(BadDer("the status"))?;
    if number <= 1 {
        return Ok(());
    }
    let mut text = String::new();
    if let Some(lines) = status.optional(tag::SEQUENCE, "the status text")? {
        let line = Elements::new(lines.value).value(tag::UTF8_STRING, "the status text")?;
        let shown = String::from_utf8_lossy(line);
        text = shown
            .chars()
            .take(TEXT_MAX)
            .flat_map(char::escape_default)
            .collect();
    }
    let failure = match status.optional(tag::BIT_STRING, "the failure")? {
        Some(bits) => failure(bits.value),
        None => "",
    };
    Err(StampError::Refused {
        status: number,
        text,
        failure,
    })
}

/// The first bit that is set, in words (RFC 3161 §2.4.2).
fn failure(bits: &[u8]) -> &'static str {
    let set = |bit: usize| {
        bits.get(1 + bit / 8)
            .is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0)
    };
    const NAMES: [(usize, &str); 8] = [
        (0, "unknown hash algorithm"),
        (2, "transaction not permitted"),
        (5, "data in the wrong format"),
        (14, "its time source is not available"),
        (15, "policy not supported"),
        (16, "extension not supported"),
        (17, "additional information not available"),
        (25, "system failure"),
    ];
    NAMES
        .iter()
        .find(|(bit, _)| set(*bit))
        .map_or("", |(_, name)| name)
}

/// The bytes of the `TSTInfo`.
fn encapsulated(mut content: Elements<'_>) -> Result<&[u8], StampError> {
    if content.value(tag::OID, "the content's type")? != TST_INFO {
        return Err(StampError::Unsupported("signed data that is no time stamp"));
    }
    let mut explicit = content.inside(tag::context(0), "the time stamp")?;
    Ok(explicit.value(tag::OCTET_STRING, "the time stamp")?)
}

struct TstInfo<'a> {
    imprint: &'a [u8],
    serial: &'a [u8],
    generated: WallNanos,
    accuracy_ns: Option<u64>,
    nonce: Option<&'a [u8]>,
}

impl<'a> TstInfo<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, StampError> {
        let mut outer = Elements::new(bytes);
        let mut info = outer.inside(tag::SEQUENCE, "the time stamp")?;
        outer.end("the time stamp's end")?;
        if info.value(tag::INTEGER, "the time stamp's version")? != [1] {
            return Err(StampError::Unsupported("the time stamp's version"));
        }
        info.value(tag::OID, "the policy")?;
        let mut message = info.inside(tag::SEQUENCE, "the imprint")?;
        if digest_of(message.inside(tag::SEQUENCE, "the imprint's algorithm")?)? != Digest::Sha256 {
            return Err(StampError::Imprint);
        }
        let imprint = message.value(tag::OCTET_STRING, "the imprint")?;
        let serial = info.value(tag::INTEGER, "the serial number")?;
        let time = info.value(tag::GENERALIZED_TIME, "the time")?;
        let generated = time::generalized(time).ok_or(BadDer("the time"))?;
        let accuracy_ns = match info.optional(tag::SEQUENCE, "the accuracy")? {
            Some(accuracy) => Some(accuracy_of(Elements::new(accuracy.value))?),
            None => None,
        };
        info.optional(tag::BOOLEAN, "the ordering")?;
        let nonce = info.optional(tag::INTEGER, "the nonce")?;
        info.optional(tag::context(0), "the authority's name")?;
        info.optional(tag::context(1), "the extensions")?;
        info.end("the time stamp's end")?;
        Ok(Self {
            imprint,
            serial,
            generated,
            accuracy_ns,
            nonce: nonce.map(|nonce| nonce.value),
        })
    }
}

fn accuracy_of(mut fields: Elements<'_>) -> Result<u64, StampError> {
    let parts = [
        (tag::INTEGER, 1_000_000_000),
        (tag::context_primitive(0), 1_000_000),
        (tag::context_primitive(1), 1_000),
    ];
    let mut sum = 0_u64;
    for (tag, unit) in parts {
        if let Some(part) = fields.optional(tag, "the accuracy")? {
            let part = unsigned(part.value).and_then(|part| part.checked_mul(unit));
            sum = part
                .and_then(|part| sum.checked_add(part))
                .ok_or(BadDer("the accuracy"))?;
        }
    }
    fields.end("the accuracy's end")?;
    Ok(sum)
}

struct Signer<'a> {
    certificate: CertificateId<'a>,
    scheme: Scheme,
    signed: Vec<u8>,
    signature: &'a [u8],
}

impl<'a> Signer<'a> {
    /// `content` is what was signed, by way of the attributes.
    fn read(mut fields: Elements<'a>, content: &[u8]) -> Result<Self, StampError> {
        fields.value(tag::INTEGER, "the signer's version")?;
        // By name or by key; the signed attributes name the certificate itself.
        fields.any("the signer's name")?;
        let digest = digest_of(fields.inside(tag::SEQUENCE, "the signer's digest")?)?;
        let attributes = fields
            .optional(tag::context(0), "the signed attributes")?
            .ok_or(StampError::NotCovered("it has no signed attributes"))?;
        let certificate = covered(attributes, content, digest)?;
        let scheme = scheme_of(fields.inside(tag::SEQUENCE, "the signature's algorithm")?, digest)?;
        let signature = fields.value(tag::OCTET_STRING, "the signature")?;
        // RFC 5652 §5.4: what is signed has the tag of a set in place of the context's.
        let mut signed = attributes.whole.to_vec();
        if let Some(first) = signed.first_mut() {
            *first = tag::SET;
        }
        Ok(Self {
            certificate,
            scheme,
            signed,
            signature,
        })
    }
}

/// Checks that the attributes speak of `content`, and returns the certificate that they name.
fn covered<'a>(
    attributes: Element<'a>,
    content: &[u8],
    digest: Digest,
) -> Result<CertificateId<'a>, StampError> {
    use StampError::NotCovered;
    let (mut typed, mut digested, mut sha1, mut sha2) = (false, false, None, None);
    let mut set = Elements::new(attributes.value);
    while !set.is_empty() {
        let mut attribute = set.inside(tag::SEQUENCE, "a signed attribute")?;
        let kind = attribute.value(tag::OID, "an attribute's type")?;
        let mut values = attribute.inside(tag::SET, "an attribute's values")?;
        let twice = |said: bool| match said {
            true => Err(NotCovered("an attribute comes twice")),
            false => Ok(()),
        };
        match kind {
            CONTENT_TYPE => {
                twice(core::mem::replace(&mut typed, true))?;
                if values.value(tag::OID, "the signed type")? != TST_INFO {
                    return Err(NotCovered("it signs another type of content"));
                }
            }
            MESSAGE_DIGEST => {
                twice(core::mem::replace(&mut digested, true))?;
                if values.value(tag::OCTET_STRING, "the signed digest")? != hash(digest, content) {
                    return Err(NotCovered("it signs other content"));
                }
            }
            SIGNING_CERTIFICATE => {
                twice(sha1.is_some())?;
                let mut first = first_certificate(values)?;
                sha1 = Some(CertificateId::Sha1(
                    first.value(tag::OCTET_STRING, "a certificate's hash")?,
                ));
            }
            SIGNING_CERTIFICATE_V2 => {
                twice(sha2.is_some())?;
                let mut first = first_certificate(values)?;
                let function = match first.optional(tag::SEQUENCE, "a certificate's hash")? {
                    Some(algorithm) => digest_of(Elements::new(algorithm.value))?,
                    None => Digest::Sha256,
                };
                let hash = first.value(tag::OCTET_STRING, "a certificate's hash")?;
                sha2 = Some(CertificateId::Sha2(function, hash));
            }
            _ => {}
        }
    }
    if !typed || !digested {
        return Err(NotCovered(
            "the signed attributes lack type or digest of the content",
        ));
    }
    sha2.or(sha1).ok_or(NotCovered(
        "the signed attributes do not name the signer's certificate",
    ))
}

/// The first of the certificates that a `SigningCertificate` lists: the signer's.
fn first_certificate(mut values: Elements<'_>) -> Result<Elements<'_>, BadDer> {
    let mut value = values.inside(tag::SEQUENCE, "the signing certificate")?;
    let mut list = value.inside(tag::SEQUENCE, "the signing certificates")?;
    list.inside(tag::SEQUENCE, "the signing certificate")
}

fn digest_of(mut algorithm: Elements<'_>) -> Result<Digest, StampError> {
    match algorithm.value(tag::OID, "a digest algorithm")? {
        SHA256 => Ok(Digest::Sha256),
        SHA384 => Ok(Digest::Sha384),
        SHA512 => Ok(Digest::Sha512),
        _ => Err(StampError::Unsupported(
            "a digest that is none of SHA-256, SHA-384 and SHA-512",
        )),
    }
}

fn scheme_of(mut algorithm: Elements<'_>, digest: Digest) -> Result<Scheme, StampError> {
    let oid = algorithm.value(tag::OID, "the signature's algorithm")?;
    let rsa = oid.strip_prefix(RSA);
    let ecdsa = oid.strip_prefix(ECDSA);
    match (rsa, ecdsa) {
        (Some([1]), _) => Ok(Scheme::RsaPkcs1(digest)),
        (Some([10]), _) => pss(algorithm, digest),
        (Some([11]), _) => Ok(Scheme::RsaPkcs1(Digest::Sha256)),
        (Some([12]), _) => Ok(Scheme::RsaPkcs1(Digest::Sha384)),
        (Some([13]), _) => Ok(Scheme::RsaPkcs1(Digest::Sha512)),
        (_, Some([2])) => Ok(Scheme::Ecdsa(Digest::Sha256)),
        (_, Some([3])) => Ok(Scheme::Ecdsa(Digest::Sha384)),
        _ if oid == ED25519 => Ok(Scheme::Ed25519),
        _ => Err(StampError::Unsupported(
            "a signature that is none of RSA PKCS #1, RSASSA-PSS, ECDSA with SHA-256 or SHA-384, and Ed25519",
        )),
    }
}

/// RSASSA-PSS (RFC 4055 §3.1) as CMS demands it and everybody signs: with the digest of the content, and mask and salt of
/// that digest. What is left out stands for SHA-1.
fn pss(mut algorithm: Elements<'_>, digest: Digest) -> Result<Scheme, StampError> {
    let other = StampError::Unsupported(
        "RSASSA-PSS with another digest, mask or salt than those of the content's digest",
    );
    let what = "the signature's parameters";
    let mut parameters = algorithm.inside(tag::SEQUENCE, what)?;
    let (hash, mask, salt) = (
        parameters.optional(tag::context(0), what)?,
        parameters.optional(tag::context(1), what)?,
        parameters.optional(tag::context(2), what)?,
    );
    let (Some(hash), Some(mask), Some(salt)) = (hash, mask, salt) else {
        return Err(other);
    };
    let hash = digest_of(Elements::new(hash.value).inside(tag::SEQUENCE, what)?)?;
    let mut mask = Elements::new(mask.value).inside(tag::SEQUENCE, what)?;
    let is_mgf1 = mask.value(tag::OID, what)?.strip_prefix(RSA) == Some(&[8]);
    let masked = digest_of(mask.inside(tag::SEQUENCE, what)?)?;
    let salt = unsigned(Elements::new(salt.value).value(tag::INTEGER, what)?);
    let bytes = match digest {
        Digest::Sha256 => 32,
        Digest::Sha384 => 48,
        Digest::Sha512 => 64,
    };
    let plain = parameters.is_empty() && is_mgf1;
    if plain && hash == digest && masked == digest && salt == Some(bytes) {
        Ok(Scheme::RsaPss(digest))
    } else {
        Err(other)
    }
}

fn hash(digest: Digest, bytes: &[u8]) -> Vec<u8> {
    match digest {
        Digest::Sha256 => Sha256::digest(bytes).to_vec(),
        Digest::Sha384 => Sha384::digest(bytes).to_vec(),
        Digest::Sha512 => Sha512::digest(bytes).to_vec(),
    }
}

/// Whether a certificate is for time stamping and nothing else, as RFC 3161 §2.3 demands: one critical extended key
/// usage. Nothing else of the certificate is looked at.
pub fn purpose_is_time_stamping(certificate: &[u8]) -> Result<bool, BadDer> {
    let mut outer = Elements::new(certificate);
    let mut signed = outer.inside(tag::SEQUENCE, "the certificate")?;
    let mut fields = signed.inside(tag::SEQUENCE, "the certificate")?;
    fields.optional(tag::context(0), "the certificate's version")?;
    for what in [
        "serial number",
        "algorithm",
        "issuer",
        "validity",
        "subject",
        "public key",
    ] {
        fields.any(what)?;
    }
    while !fields.is_empty() {
        let element = fields.any("the certificate's extensions")?;
        if element.tag != tag::context(3) {
            continue;
        }
        let mut list = Elements::new(element.value).inside(tag::SEQUENCE, "the certificate's extensions")?;
        while !list.is_empty() {
            let mut extension = list.inside(tag::SEQUENCE, "an extension")?;
            let kind = extension.value(tag::OID, "an extension's type")?;
            let critical = extension.optional(tag::BOOLEAN, "whether it is critical")?;
            let value = extension.value(tag::OCTET_STRING, "an extension's value")?;
            if kind == EXTENDED_KEY_USAGE {
                let critical = critical.is_some_and(|critical| critical.value == [0xff]);
                let purposes = Elements::new(value).value(tag::SEQUENCE, "the extended key usage")?;
                return Ok(critical && purposes == TIME_STAMPING);
            }
        }
    }
    Ok(false)
}
