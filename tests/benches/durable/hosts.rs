//! Batches as agents seal them: of processes that begin, signed.

use common::{batch::HeaderFlags, event::process::ProcessCause, session::Message};
use tests::chains::{Maker, event, process, process_key};

use super::Outcome;

/// Events of a batch.
const EVENTS: u32 = 12;

/// What the host made from `seed` seals: headers and bodies.
pub(super) fn batches(seed: u8, count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut maker = Maker::new(seed);
    for batch in (1..).take(count) {
        let at = batch * 10;
        let events: Vec<_> = (0..EVENTS)
            .map(|number| {
                let key = process_key(1000 + number, at);
                let parent = Some(process_key(1, 0));
                let argv: [&[u8]; 3] = [b"/usr/bin/env", b"--unset=SOMETHING", b"true"];
                event(at, process(key, parent, &argv, ProcessCause::Exec))
            })
            .collect();
        maker.seal(HeaderFlags::default(), at, at + 9, &events);
    }
    maker.sealed
}

/// The same as they are sent, each in one piece.
pub(super) fn payloads(seed: u8, count: usize) -> Outcome<Vec<Vec<u8>>> {
    batches(seed, count)
        .into_iter()
        .map(|(header, body)| Ok(Message::Batch { header, body }.encode()?))
        .collect()
}
