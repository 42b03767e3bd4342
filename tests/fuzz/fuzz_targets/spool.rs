//! Spool files: every byte of a segment lies in its header, in a whole record or in a named stretch of damage.
#![no_main]

use common::{
    ids::HostId,
    spool::{SEGMENT_HEADER_BYTES, SegmentId, read_head_file, scan_segment},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_head_file(bytes);
    let host = bytes
        .get(8..40)
        .and_then(|id| id.try_into().ok())
        .map_or_else(HostId::default, HostId);
    let scan = scan_segment(&host, SegmentId(0), bytes);
    assert_eq!(scan.length, bytes.len() as u64);
    let records = scan
        .records
        .iter()
        .map(|record| (record.offset, u64::from(record.length)));
    let damage = scan.damage.iter().map(|damage| (damage.offset, damage.length));
    let mut parts: Vec<(u64, u64)> = records.chain(damage).collect();
    parts.sort_unstable();
    let mut at = parts.first().map_or(scan.length, |part| part.0);
    assert!(at == 0 || at == SEGMENT_HEADER_BYTES as u64 || parts.is_empty());
    for (offset, length) in parts {
        assert_eq!(offset, at);
        at += length;
    }
    assert_eq!(at, scan.length);
});
