//! Batch headers: an accepted one keeps its bytes, an unsigned one never joins a chain, and none is believed
//! whose key the host did not announce.
#![no_main]

use common::batch::{ChainHead, HostKeys, KeyHead, SignedHeader, UnverifiedHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = UnverifiedHeader::parse(bytes) {
        assert_eq!(header.bytes(), bytes);
        let fits = header.signature_fits();
        let (host, claim) = (header.claimed().host, header.claimed().keys());
        let mut head = ChainHead::genesis(host);
        if let Ok(behind) = KeyHead::default().follow(&host, &claim) {
            assert_eq!(behind.epoch, claim.epoch);
            assert!(!behind.vouches_for(&common::batch::KeyClaim { epoch: common::ids::KeyEpoch(2), ..claim }));
        }
        if let Ok(signed) = SignedHeader::check(header.clone()) {
            let mut keys = HostKeys::new(host);
            let believed = keys.check(signed.clone()).is_ok();
            assert!(!believed || claim.epoch.0 == 0, "a later key was believed without history");
            assert!(believed || keys.learn(&signed).is_err());
        }
        if head.accept(header).is_ok() {
            assert!(fits, "a header joined a chain without a signature");
        }
    }
});
