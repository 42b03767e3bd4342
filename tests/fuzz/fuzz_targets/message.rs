//! Session messages: whatever decodes encodes to a frame that decodes alike, however the stream is cut.
#![no_main]

use common::session::{FrameDecoder, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = messages(bytes, bytes.len().max(1));
    assert_eq!(whole, messages(bytes, 1 + bytes.len() % 7));
    for message in whole {
        let frame = message.encode().expect("what was decoded is within the limits");
        assert_eq!(messages(&frame, frame.len()), [message]);
    }
});

/// The messages of a stream that comes in chunks of `chunk` bytes, up to the first that is none.
fn messages(bytes: &[u8], chunk: usize) -> Vec<Message> {
    let mut decoder = FrameDecoder::default();
    let mut found = Vec::new();
    for part in bytes.chunks(chunk) {
        decoder.push(part);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}
