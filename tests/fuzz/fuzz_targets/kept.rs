//! What is kept of pruned groups: what is accepted encodes to the same bytes, and bodies lie end to end.
#![no_main]

use ledger::{
    group::Prologue,
    kept::{Kept, encode_kept},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(prologue) = Prologue::parse(bytes) else {
        return;
    };
    let Ok(kept) = Kept::parse(bytes, prologue.first) else {
        return;
    };
    assert_eq!(kept.gone.len(), kept.head.places.len());
    let lengths: Vec<u32> = kept
        .head
        .places
        .iter()
        .map(|place| place.body.end - place.body.start)
        .collect();
    let head = usize::try_from(prologue.head_bytes()).unwrap();
    let again = encode_kept(&bytes[..head], &lengths, &kept.gone);
    assert_eq!(again, bytes[..again.len()]);
    let mut next = u32::try_from(again.len()).unwrap();
    for ((body, gone), length) in kept.bodies.iter().zip(&kept.gone).zip(lengths) {
        assert_eq!(body.start, next);
        assert_eq!(body.end - body.start, if gone.is_some() { 0 } else { length });
        next = body.end;
    }
    assert_eq!(u64::from(next), kept.file_bytes);
});
