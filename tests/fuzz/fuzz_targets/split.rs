//! Split-view proofs: one spelling, and no accusation without two good signatures.
#![no_main]

use common::note::SignerKey;
use common::split::{SplitProof, checkpoint_at_end};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = SignerKey::from_seed("ledger.example/fuzz", &[5; 32]).expect("a valid name");
    if let Ok(proof) = SplitProof::decode(bytes) {
        assert_eq!(proof.encode(), bytes, "a proof has one spelling");
        assert!(proof.check(key.verifier()).is_err(), "believed without a signature");
    }
    if let Some(note) = checkpoint_at_end(bytes) {
        assert!(bytes.ends_with(note));
    }
});
