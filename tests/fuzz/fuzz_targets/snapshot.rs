//! State snapshots: an accepted one encodes to the same bytes.
#![no_main]

use common::fold::State;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(state) = State::decode(bytes) {
        assert_eq!(State::decode(&state.encode().0), Ok(state));
    }
});
