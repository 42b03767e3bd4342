//! A projection's index: what is accepted encodes to the same bytes, and links lead backwards only.
#![no_main]

use common::projection::{BatchRecord, Linked, Slot, StatedRecord, Tips};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tips) = Tips::decode(bytes) {
        assert_eq!(tips.encode(), bytes);
    }
    for slot in [0, 1, 4, 1_000_000].map(Slot) {
        if let Ok(record) = BatchRecord::decode(slot, bytes) {
            let again = record.encode(slot);
            assert_eq!(again, bytes[..again.len()]);
            let links = record.links();
            assert!(links.previous < slot || links.depth == 0, "a chain is walked to its end");
        }
        if let Ok(record) = StatedRecord::decode(slot, bytes) {
            let again = record.encode(slot);
            assert_eq!(again, bytes[..again.len()]);
            assert!(record.silence.is_none_or(|silence| silence.links.lead_back_from(slot)));
        }
    }
});
