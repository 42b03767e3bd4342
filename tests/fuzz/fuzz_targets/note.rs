//! Signed notes, checkpoints and keys: a parsed one is never believed without its signature.
#![no_main]

use common::checkpoint::Checkpoint;
use common::note::{UnverifiedNote, VerifierKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(note) = UnverifiedNote::parse(bytes) {
        assert!(note.verify(&[]).is_err(), "a note was believed without a key");
    }
    if let Ok(text) = core::str::from_utf8(bytes) {
        if let Ok(checkpoint) = Checkpoint::parse_body(text) {
            assert_eq!(checkpoint.body(), text, "a checkpoint has one spelling");
        }
        if let Ok(key) = VerifierKey::parse(text) {
            assert_eq!(key.to_string(), text, "a key has one spelling");
        }
    }
});
