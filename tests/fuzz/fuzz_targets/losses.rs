//! Losses kept of pruned batches: what is accepted encodes to the same bytes.
#![no_main]

use common::fold::KeptLosses;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(kept) = KeptLosses::decode(bytes) {
        assert_eq!(kept.encode(), bytes);
        assert_eq!(KeptLosses::decode(&kept.encode()), Ok(kept));
    }
});
