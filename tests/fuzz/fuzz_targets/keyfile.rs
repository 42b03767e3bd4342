//! The agent's key file: what is accepted lies in its own slot in its one spelling, and no other slot goes unnoticed.
#![no_main]

use common::keyring::{KEY_SLOT_STRIDE, OtherSlot, read_key_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((record, other)) = read_key_file(bytes) else {
        return;
    };
    let slot = record.slot();
    let at = slot * KEY_SLOT_STRIDE;
    let spelled = record.encode();
    let covered = 184 + 32;
    let mut stored = bytes[at..at + covered].to_vec();
    // Reserved bytes are not read, and the check that covers them with the rest differs then.
    if stored[6..8] == [0, 0] && (record.previous.is_some() || stored[120..152] == [0; 32]) {
        assert_eq!(stored, spelled[..covered]);
    }
    stored.clear();
    let rest = (1 - slot) * KEY_SLOT_STRIDE;
    let clean = bytes
        .get(rest..)
        .unwrap_or_default()
        .iter()
        .take(KEY_SLOT_STRIDE)
        .all(|byte| *byte == 0);
    assert_eq!(other == OtherSlot::Erased, clean);
    let _ = record.held();
});
