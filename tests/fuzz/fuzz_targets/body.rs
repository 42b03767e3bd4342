//! Batch bodies: an accepted one is cut into parts that lie in it, in order, and nothing is left over.
#![no_main]

use common::batch::BodyView;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(body) = BodyView::parse(bytes) {
        let events: usize = body.events().iter().map(|event| event.len()).sum();
        // Count, and for each event its length and its tag.
        assert_eq!(4 + body.events().len() * (4 + 8) + events, bytes.len());
    }
});
