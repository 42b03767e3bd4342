//! What statements come to: what is read is spelt in one way, and nothing is believed that nobody signed.
#![no_main]

use common::{note::SignerKey, watchman::UnverifiedStanding};
use libfuzzer_sys::fuzz_target;

const SIGNATURE_BYTES: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = UnverifiedStanding::parse(bytes) else {
        return;
    };
    let Ok(key) = SignerKey::from_seed("fuzz.example/ledger", &[0x5a; 32]) else {
        return;
    };
    let (ledger, standing) = read.danger_unverified();
    let ledger = *ledger;
    let again = standing.sign(&ledger, &key).ok().flatten().unwrap_or_default();
    let covered = bytes.len() - SIGNATURE_BYTES;
    assert_eq!(again.get(..covered), bytes.get(..covered));
    assert!(read.verify(&ledger, key.verifier()).is_err() || again == bytes, "nobody signed it");
});
