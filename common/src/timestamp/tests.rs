//! Answers of a real authority (`openssl ts`), and what others may make of them.
//!
//! `fixtures/` holds a request for the message below, the answer of an authority with a P-256 key, the same with its
//! certificate named by SHA-1, and its answer to a request with SHA-1, which it refuses. Those with RSASSA-PSS are one
//! stamp signed anew by `openssl cms -sign -cades`, for `openssl ts` knows no other scheme of RSA than PKCS #1.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const MESSAGE: &[u8] = b"a checkpoint\n";
const NONCE: u64 = 0x0ef0_2356_8988_7503;
const REQUEST: &[u8] = include_bytes!("fixtures/request.tsq");
const GRANTED: &[u8] = include_bytes!("fixtures/granted.tsr");
const SHA1: &[u8] = include_bytes!("fixtures/sha1.tsr");
const REFUSED: &[u8] = include_bytes!("fixtures/refused.tsr");
const PSS: &[u8] = include_bytes!("fixtures/pss.tsr");
const PSS_512: &[u8] = include_bytes!("fixtures/pss-512.tsr");
const PSS_MASK: &[u8] = include_bytes!("fixtures/pss-mask.tsr");
const PSS_SALT: &[u8] = include_bytes!("fixtures/pss-salt.tsr");

fn imprint() -> Hash {
    Hash::of(MESSAGE)
}

#[test]
fn a_request_is_byte_for_byte_what_openssl_asks() {
    assert_eq!(request(&imprint(), NONCE), REQUEST);
}

#[test]
fn a_granted_answer_says_what_openssl_says_of_it() {
    let stamp = open(GRANTED, &imprint(), Some(NONCE)).unwrap();
    assert_eq!(
        stamp.generated,
        WallNanos(1_795_281_606_000_000_000),
        "Nov 21 17:20:06 2026 GMT"
    );
    assert_eq!(stamp.accuracy_ns, Some(1_500_100_000));
    assert_eq!(stamp.serial, [2]);
    assert_eq!(stamp.scheme, Scheme::Ecdsa(Digest::Sha256));
    assert_eq!(stamp.certificates.len(), 1);
    assert_eq!(purpose_is_time_stamping(stamp.certificates[0]), Ok(true));
    let own = Hash::of(stamp.certificates[0]);
    assert_eq!(stamp.certificate, CertificateId::Sha2(Digest::Sha256, &own.0));
    let old = open(SHA1, &imprint(), Some(NONCE)).unwrap();
    assert!(matches!(old.certificate, CertificateId::Sha1(hash) if hash.len() == 20));
}

#[test]
fn rsassa_pss_is_taken_with_mask_and_salt_of_its_digest_alone() {
    for (answer, digest) in [(PSS, Digest::Sha256), (PSS_512, Digest::Sha512)] {
        let stamp = open(answer, &imprint(), Some(NONCE)).unwrap();
        assert_eq!(stamp.scheme, Scheme::RsaPss(digest));
    }
    for answer in [PSS_MASK, PSS_SALT] {
        let refused = open(answer, &imprint(), Some(NONCE)).unwrap_err();
        assert!(
            matches!(refused, StampError::Unsupported(why) if why.contains("mask or salt")),
            "{refused}"
        );
    }
}

#[test]
fn an_answer_to_another_question_is_refused() {
    assert_eq!(open(GRANTED, &imprint(), Some(NONCE + 1)), Err(StampError::Nonce));
    assert_eq!(
        open(GRANTED, &Hash::of(b"another"), Some(NONCE)),
        Err(StampError::Imprint)
    );
    assert!(
        open(GRANTED, &imprint(), None).is_ok(),
        "whoever did not ask does not know the nonce"
    );
}

#[test]
fn a_refusal_says_why() {
    let refused = open(REFUSED, &imprint(), Some(NONCE)).unwrap_err();
    let said = "the authority refused with status 2: Message digest algorithm is not supported., unknown hash algorithm";
    assert_eq!(alloc::string::ToString::to_string(&refused), said);
}

#[test]
fn what_is_no_answer_is_refused() {
    for cut in 0..GRANTED.len() {
        assert!(
            matches!(
                open(&GRANTED[..cut], &imprint(), None),
                Err(StampError::Malformed(_))
            ),
            "{cut}"
        );
    }
    let long = [GRANTED, b"\0"].concat();
    assert!(matches!(
        open(&long, &imprint(), None),
        Err(StampError::Malformed(_))
    ));
    assert!(matches!(
        open(&alloc::vec![0x30; 1 << 17], &imprint(), None),
        Err(StampError::TooLong(_))
    ));
    assert!(matches!(
        open(b"<html>", &imprint(), None),
        Err(StampError::Malformed(_))
    ));
    assert_eq!(purpose_is_time_stamping(b"junk"), Err(BadDer("the certificate")));
}

#[test]
fn the_purpose_must_be_critical_and_the_only_one() {
    let stamp = open(GRANTED, &imprint(), None).unwrap();
    let certificate = stamp.certificates[0];
    let at = |needle: &[u8]| {
        certificate
            .windows(needle.len())
            .position(|window| window == needle)
            .unwrap()
    };
    // The extension's type, then `critical`, then the purposes.
    let usage = at(&[0x06, 0x03, 0x55, 0x1d, 0x25]);
    let mut lax = certificate.to_vec();
    assert_eq!(lax[usage + 5..usage + 8], [0x01, 0x01, 0xff]);
    lax[usage + 7] = 0;
    assert_eq!(purpose_is_time_stamping(&lax), Ok(false));
    let mut other = certificate.to_vec();
    let purpose = at(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08]);
    other[purpose + 7] = 1;
    assert_eq!(purpose_is_time_stamping(&other), Ok(false));
}

/// What of a stamp a reader goes by, apart from its signature.
fn said(stamp: &UnverifiedStamp<'_>) -> (WallNanos, Option<u64>, Vec<u8>) {
    (stamp.generated, stamp.accuracy_ns, stamp.serial.to_vec())
}

#[test]
fn no_flipped_bit_changes_time_accuracy_or_number_under_the_same_signed_bytes() {
    let good = open(GRANTED, &imprint(), Some(NONCE)).unwrap();
    for at in 0..GRANTED.len() {
        for bit in 0..8 {
            let mut bad = GRANTED.to_vec();
            bad[at] ^= 1 << bit;
            if let Ok(stamp) = open(&bad, &imprint(), Some(NONCE))
                && stamp.signed == good.signed
            {
                assert_eq!(said(&stamp), said(&good), "byte {at}, bit {bit}");
            }
        }
    }
}

proptest! {
    #[test]
    fn prop_a_request_carries_any_nonce(nonce: u64) {
        let bytes = request(&imprint(), nonce);
        prop_assert!(bytes.len() <= 70);
        prop_assert_eq!(usize::from(bytes[1]) + 2, bytes.len());
    }

    #[test]
    fn prop_garbage_is_no_stamp(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&bytes, &imprint(), None).is_err());
        prop_assert!(!purpose_is_time_stamping(&bytes).unwrap_or(false));
    }
}
