//! Commit groups: a head that is accepted was written by us, or its writer knew SHA-256 of it.
#![no_main]

use common::ids::LeafIndex;
use ledger::group::{Head, Prologue, slice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(prologue) = Prologue::parse(bytes) else {
        return;
    };
    if let Ok(head) = Head::parse(bytes, prologue.first) {
        assert_eq!(head.places.len() as u64, u64::from(prologue.count));
        assert_eq!(
            head.end(),
            LeafIndex(prologue.first.0 + u64::from(prologue.count))
        );
        for place in &head.places {
            assert_eq!(
                slice(bytes, &place.header).len(),
                place.header.len(),
                "a header lies in the head"
            );
        }
    }
});
