//! Anchor files: every byte lies in a whole record or in a named stretch of damage, and a record has one spelling.
#![no_main]

use common::anchor::{Damage, scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let found = scan(bytes);
    for scanned in &found.records {
        let at = usize::try_from(scanned.offset).unwrap();
        let again = scanned.record.encode().expect("it was read");
        assert_eq!(&bytes[at..at + again.len()], again);
    }
    let named: u64 = found
        .damage
        .iter()
        .map(|damage| match damage {
            Damage::Torn { bytes, .. } | Damage::Altered { bytes, .. } => *bytes,
            Damage::Version { .. } | Damage::TooMuch { .. } => 0,
        })
        .sum();
    let whole: u64 = found
        .records
        .iter()
        .map(|found| found.record.encode().unwrap().len() as u64)
        .sum();
    let skipped = found
        .damage
        .iter()
        .any(|damage| matches!(damage, Damage::Version { .. } | Damage::TooMuch { .. }));
    assert!(skipped || named + whole == bytes.len() as u64);
});
