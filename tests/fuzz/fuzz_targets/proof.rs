//! Proof files: an accepted one is the one encoding of itself.
#![no_main]

use common::proof::EventProof;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = EventProof::decode(bytes) {
        assert_eq!(proof.encode(), bytes);
    }
});
