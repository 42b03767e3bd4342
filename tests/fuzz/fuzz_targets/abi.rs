//! Kernel records: the agent decodes whatever lies in the ring buffer and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = common::abi::decode(bytes) {
        // What was decoded was announced: the header alone must agree.
        let header = common::abi::header(bytes).expect("a decoded record has a header");
        assert_eq!(header.sequence, record.sequence);
    }
});
