//! Histories of a ledger's keys: one spelling, and none is believed beside what is held.
#![no_main]

use common::ledger_keys::{LedgerKeys, UnverifiedHistory, UnverifiedRecord, read_trust};
use common::note::SignerKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = SignerKey::from_seed("ledger.example/fuzz", &[5; 32]).expect("a valid name");
    let held = LedgerKeys::from(key.verifier().clone());
    assert!(held.learn(bytes).is_err(), "nobody signed a history for this key");
    if let Ok(keys) = LedgerKeys::given(bytes) {
        assert_eq!(keys.encode(), bytes, "a history has one spelling");
        assert_eq!(keys.learn(bytes), Ok(None));
        assert_eq!(read_trust(bytes).as_ref(), Ok(&keys));
        assert!(UnverifiedHistory::begins(bytes));
    }
    if let Ok(record) = UnverifiedRecord::parse(bytes, 0) {
        let _ = record.claimed().map(ToString::to_string);
    }
});
