//! What comes in at the control socket: no question, or one that reads back as itself.
#![no_main]

#[path = "../../../collector/src/control/question.rs"]
mod question;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.len().min(question::QUESTION_BYTES_MAX as usize);
    let Ok(read) = question::Question::read(&bytes[..cut]) else {
        return;
    };
    let line = read.line().expect("what was read can be asked");
    assert_eq!(question::Question::read(&line).expect("it is a question"), read);
});
