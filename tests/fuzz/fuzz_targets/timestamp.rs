//! Answers of time stamping authorities: nothing that was not signed by the one trusted is believed, whatever it says.
#![no_main]

use common::{
    ids::Hash,
    timestamp::{open, purpose_is_time_stamping},
};
use ledger::anchor::stamp::Authorities;
use libfuzzer_sys::fuzz_target;

const MESSAGE: &[u8] = b"a checkpoint\n";
const CA: &[u8] = include_bytes!("../../../common/src/timestamp/fixtures/ca.crt");
const GRANTED: &[u8] = include_bytes!("../../../common/src/timestamp/fixtures/granted.tsr");
const SHA1: &[u8] = include_bytes!("../../../common/src/timestamp/fixtures/sha1.tsr");

fuzz_target!(|bytes: &[u8]| {
    let _ = purpose_is_time_stamping(bytes);
    if let Ok(stamp) = open(bytes, &Hash::of(MESSAGE), None) {
        assert!(!stamp.signed.is_empty());
        let _ = stamp.certificates.iter().map(|der| purpose_is_time_stamping(der)).count();
    }
    let authority = Authorities::from_pem(CA).expect("a good certificate");
    if let Ok(stamp) = authority.verify(bytes, MESSAGE, None) {
        // The two that it really signed.
        let known = [GRANTED, SHA1].map(|good| authority.verify(good, MESSAGE, None).expect("signed"));
        assert!(known.contains(&stamp), "a time that nobody signed");
    }
});
