//! Audit bundles: an accepted one has one encoding, and none holds that nobody signed.
#![no_main]

use common::{
    bundle::{self, Bundle},
    ids::Hash,
    note::SignerKey,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The hash at the end would stop the fuzzer at the door.
    let mut sealed = bytes.to_vec();
    sealed.extend_from_slice(&Hash::of(bytes).0);
    if let Ok(bundle) = Bundle::decode(&sealed) {
        assert_eq!(bundle.encode().as_deref(), Ok(sealed.as_slice()));
    }
    if let Ok(key) = SignerKey::from_seed("fuzz.example/ledger", &[0x5a; 32]) {
        assert!(bundle::check(&sealed, key.verifier(), None).is_err(), "nobody signed it");
    }
});
