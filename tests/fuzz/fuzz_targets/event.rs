//! Events: every accepted one encodes again, to bytes that mean the same.
//!
//! Not to the same bytes: the record's encoding knows longer forms of a number. That is why nothing is
//! ever encoded again to be verified.
#![no_main]

use common::event::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = Event::decode(bytes) {
        let again = event.encode().expect("an event that was read can be written");
        assert_eq!(Event::decode(&again).as_ref(), Ok(&event));
    }
});
