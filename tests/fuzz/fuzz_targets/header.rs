//! Batch headers: an accepted one keeps its bytes, and an unsigned one never joins a chain.
#![no_main]

use common::batch::{ChainHead, UnverifiedHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = UnverifiedHeader::parse(bytes) {
        assert_eq!(header.bytes(), bytes);
        let fits = header.signature_fits();
        let mut head = ChainHead::genesis(header.claimed().host);
        if head.accept(header).is_ok() {
            assert!(fits, "a header joined a chain without a signature");
        }
    }
});
