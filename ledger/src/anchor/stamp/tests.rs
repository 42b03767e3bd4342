//! Answers of a real authority (`openssl ts`), under the right and the wrong authority, and with every bit flipped.

use super::*;

const MESSAGE: &[u8] = b"a checkpoint\n";
const NONCE: u64 = 0x0ef0_2356_8988_7503;
const GRANTED: &[u8] = include_bytes!("../../../../common/src/timestamp/fixtures/granted.tsr");
const SHA1: &[u8] = include_bytes!("../../../../common/src/timestamp/fixtures/sha1.tsr");
const CA: &[u8] = include_bytes!("../../../../common/src/timestamp/fixtures/ca.crt");
const OTHER_CA: &[u8] = include_bytes!("../../../../common/src/timestamp/fixtures/other-ca.crt");

const PSS: &[u8] = include_bytes!("../../../../common/src/timestamp/fixtures/pss.tsr");
const PSS_512: &[u8] = include_bytes!("../../../../common/src/timestamp/fixtures/pss-512.tsr");
const PSS_CA: &[u8] = include_bytes!("../../../../common/src/timestamp/fixtures/pss-ca.crt");

fn authority() -> Authorities {
    Authorities::from_pem(CA).unwrap()
}

#[test]
fn a_stamp_bounds_the_time_from_above() {
    let with_pss = Authorities::from_pem(PSS_CA).unwrap();
    let plain = authority();
    for (authority, response) in [
        (&plain, GRANTED),
        (&plain, SHA1),
        (&with_pss, PSS),
        (&with_pss, PSS_512),
    ] {
        let stamp = authority.verify(response, MESSAGE, Some(NONCE)).unwrap();
        assert_eq!(stamp.existed_before().0, stamp.generated.0 + 1_500_100_000);
    }
}

#[test]
fn another_authority_of_the_same_name_is_not_believed() {
    let other = Authorities::from_pem(OTHER_CA).unwrap();
    let refused = other.verify(GRANTED, MESSAGE, Some(NONCE)).unwrap_err();
    assert!(matches!(refused, StampFault::Chain(_)), "{refused}");
    let both = Authorities::from_pem(&[OTHER_CA, CA].concat()).unwrap();
    assert!(both.verify(GRANTED, MESSAGE, Some(NONCE)).is_ok());
}

#[test]
fn files_that_are_no_authorities_are_refused() {
    assert!(matches!(Authorities::from_pem(b""), Err(AuthoritiesError::Empty)));
    let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        Authorities::from_pem(junk),
        Err(AuthoritiesError::Certificate { place: 1, .. })
    ));
}

/// Bits that nothing signs may flip (a version, a status that is granted all the same); what is said of the time may
/// not.
#[test]
fn every_bit_flipped_in_a_stamp_is_refused_or_changes_nothing() {
    every_bit(&authority(), GRANTED);
    every_bit(&Authorities::from_pem(PSS_CA).unwrap(), PSS);
}

fn every_bit(authority: &Authorities, response: &[u8]) {
    let good = authority.verify(response, MESSAGE, Some(NONCE)).unwrap();
    let (mut refused, mut same) = (0, 0);
    for at in 0..response.len() {
        for bit in 0..8 {
            let mut bad = response.to_vec();
            bad[at] ^= 1 << bit;
            match authority.verify(&bad, MESSAGE, Some(NONCE)) {
                Ok(found) => {
                    assert_eq!(found, good, "byte {at}, bit {bit}");
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{refused} flips refused, {same} that nothing signs changed nothing");
    assert!(refused > 20 * same);
}
