//! The ledger's index: what is accepted encodes to the same bytes, and links lead backwards only.
#![no_main]

use common::ids::LeafIndex;
use ledger::index::{record::Record, tips::Tips};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tips) = Tips::decode(bytes) {
        assert_eq!(tips.encode(), bytes);
    }
    for leaf in [0, 1, 1_000_000].map(LeafIndex) {
        let Ok(record) = Record::decode(leaf, bytes) else {
            continue;
        };
        let mut again = Vec::new();
        record.encode(leaf, &mut again);
        assert_eq!(again, bytes[..again.len()]);
        assert!(record.location(leaf).group <= leaf);
        if let Some(link) = record.link {
            assert!(link.previous < leaf || link.depth == 1, "a chain is walked to its end");
        }
    }
});
