//! Whether an Ed25519 signature counts (RFC 8032): strictly, so that all who check one agree.
//!
//! Refuses what `VerifyingKey::verify_strict` refuses, weak keys and points of small order as R, and decompresses no R
//! for that: the R of a signature that verifies has the one encoding of its point, and of eight points that is known.

use ed25519_dalek::{Signature, Verifier, VerifyingKey};

use crate::ids::PublicKey;

/// The encodings of the eight points whose order divides the cofactor, but for their last bit, which is a sign.
const SMALL_ORDER: [[u8; 32]; 5] = [
    // The neutral element; the point of order two; both of order four.
    point(b"0100000000000000000000000000000000000000000000000000000000000000"),
    point(b"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    point(b"0000000000000000000000000000000000000000000000000000000000000000"),
    // Those of order eight.
    point(b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    point(b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
];

/// The key that signed last, ready for use: reading a key takes a sixth of what a signature takes, and a host signs many
/// batches with one.
#[derive(Debug, Clone, Default)]
pub struct LastKey(Option<VerifyingKey>);

impl LastKey {
    /// The key of those bytes; `None` where they are no point.
    pub(crate) fn of(&mut self, key: &PublicKey) -> Option<&VerifyingKey> {
        if self.0.as_ref().is_none_or(|last| *last.as_bytes() != key.0) {
            self.0 = VerifyingKey::from_bytes(&key.0).ok();
        }
        self.0.as_ref()
    }
}

/// Whether `signature` over `message` is of `key`. Malleable encodings, weak keys and points of small order fail.
pub(crate) fn fits(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
    let mut r = *signature.r_bytes();
    r[31] &= 0x7f;
    !SMALL_ORDER.contains(&r) && !key.is_weak() && key.verify(message, signature).is_ok()
}

const fn point(hex: &[u8; 64]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = digit(hex[2 * at]) << 4 | digit(hex[2 * at + 1]);
        at += 1;
    }
    bytes
}

const fn digit(ascii: u8) -> u8 {
    match ascii {
        b'a'..=b'f' => ascii - b'a' + 10,
        _ => ascii - b'0',
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use curve25519_dalek::{
        Scalar,
        constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    };
    use ed25519_dalek::{Signer, SigningKey};
    use sha2::{Digest, Sha512};

    use super::*;

    #[test]
    fn the_table_is_of_the_points_of_small_order_and_of_no_others() {
        let mut all: Vec<_> = EIGHT_TORSION
            .iter()
            .map(|point| {
                let mut bytes = point.compress().to_bytes();
                bytes[31] &= 0x7f;
                bytes
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        let mut table = SMALL_ORDER;
        table.sort_unstable();
        assert_eq!(all, table);
    }

    /// Signatures that whoever holds the key can make of every mixture of small orders in key and R. Many verify
    /// by the equation alone.
    #[test]
    fn small_orders_are_judged_as_strict_verification_judges_them() {
        let secret = Scalar::from_bytes_mod_order([77; 32]);
        let (mut loose, mut good) = (0, 0);
        for (in_key, in_r) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
            for (nonce, whole) in [(0_u8, secret), (5, secret), (0, Scalar::ZERO)] {
                let nonce = Scalar::from(nonce);
                let point = ED25519_BASEPOINT_POINT * whole + EIGHT_TORSION[in_key];
                let key = VerifyingKey::from_bytes(&point.compress().0).unwrap();
                let r = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[in_r])
                    .compress()
                    .0;
                for message in 0..16_u8 {
                    let mut hash = Sha512::new();
                    hash.update(r);
                    hash.update(key.as_bytes());
                    hash.update([message]);
                    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
                    let signature = Signature::from_components(r, (nonce + k * whole).to_bytes());
                    let strict = key.verify_strict(&[message], &signature).is_ok();
                    assert_eq!(
                        fits(&key, &[message], &signature),
                        strict,
                        "{in_key} {in_r} {message}"
                    );
                    loose += u32::from(key.verify(&[message], &signature).is_ok() && !strict);
                    good += u32::from(strict);
                }
            }
        }
        assert!(loose > 100 && good > 10, "{loose} {good}");
    }

    #[test]
    fn the_last_key_is_the_one_asked_for() {
        let key = |seed| PublicKey(SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes());
        let no_point = PublicKey([2; 32]);
        let mut last = LastKey::default();
        for asked in [key(1), key(1), key(2), no_point, key(2), key(1)] {
            let found = last.of(&asked).map(|found| found.to_bytes());
            assert_eq!(found, (asked != no_point).then_some(asked.0));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused_as_strict_verification_refuses_it() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let public = key.verifying_key();
        let signature = key.sign(b"message");
        assert!(fits(&public, b"message", &signature));
        assert!(!fits(&public, b"massage", &signature));
        for bit in 0..512 {
            let mut bytes = signature.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = Signature::from_bytes(&bytes);
            assert!(!fits(&public, b"message", &flipped), "bit {bit}");
            assert!(public.verify_strict(b"message", &flipped).is_err(), "bit {bit}");
        }
    }
}
