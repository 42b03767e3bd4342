//! Tests of the decoder: what a program writes comes back, and nothing else is accepted or panics.

use std::vec::Vec;

use proptest::prelude::*;

use super::fields::{Field, PLACES};
use super::process::{ExitStatus, ProcessRaw, flag};
use super::*;

/// A process record with the given texts, built as the programs build it.
fn process_bytes(kind: Kind, texts: [&[u8]; 5]) -> Vec<u8> {
    let tail: usize = texts.iter().map(|t| t.len()).sum();
    let len = size_of::<ProcessRaw>() + tail;
    let mut out = std::vec![0u8; size_of::<ProcessRaw>()];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset_of!(Header, kind), &(kind as u16).to_ne_bytes());
    put(offset_of!(Header, version), &VERSION.to_ne_bytes());
    put(
        offset_of!(Header, record_bytes),
        &u32::try_from(len).unwrap().to_ne_bytes(),
    );
    put(offset_of!(Header, sequence), &7u64.to_ne_bytes());
    put(offset_of!(Header, flags), &flag::ARGV_CUT.to_ne_bytes());
    put(offset_of!(ProcessRaw, tgid), &42u32.to_ne_bytes());
    put(offset_of!(ProcessRaw, wait_status), &(3u32 << 8).to_ne_bytes());
    put(offset_of!(ProcessRaw, comm), b"sh\0junk");
    for (at, text) in [
        offset_of!(ProcessRaw, exe_bytes),
        offset_of!(ProcessRaw, cwd_bytes),
        offset_of!(ProcessRaw, file_bytes),
        offset_of!(ProcessRaw, interpreter_bytes),
        offset_of!(ProcessRaw, argv_bytes),
    ]
    .into_iter()
    .zip(texts)
    {
        put(at, &u16::try_from(text.len()).unwrap().to_ne_bytes());
    }
    texts.iter().for_each(|t| out.extend_from_slice(t));
    out
}

#[test]
fn a_process_record_comes_back_as_written() {
    let bytes = process_bytes(
        Kind::ProcessExit,
        [b"/bin/sh", b"/", b"./x", b"/bin/sh", b"sh\0-c\0\0"],
    );
    let record = decode(&bytes).unwrap();
    assert_eq!((record.kind, record.sequence), (Kind::ProcessExit, 7));
    let Body::Process(p) = record.body else {
        panic!("not a process: {record:?}")
    };
    assert_eq!(
        (p.key.tgid, p.comm, p.exe, p.cwd),
        (42, &b"sh"[..], &b"/bin/sh"[..], &b"/"[..])
    );
    assert_eq!((p.file, p.interpreter), (&b"./x"[..], &b"/bin/sh"[..]));
    assert_eq!(p.arguments().collect::<Vec<_>>(), [&b"sh"[..], b"-c", b""]);
    assert_eq!(
        p.exit,
        Some(ExitStatus {
            code: 3,
            signal: 0,
            core_dumped: false
        })
    );
    assert!(p.has(flag::ARGV_CUT) && !p.has(flag::ARGV_FAULT));
}

#[test]
fn only_an_exit_has_an_exit_status() {
    let bytes = process_bytes(Kind::ProcessExec, [b"", b"", b"", b"", b""]);
    let Body::Process(p) = decode(&bytes).unwrap().body else {
        panic!("not a process")
    };
    assert_eq!(p.exit, None);
    assert_eq!(p.arguments().count(), 0);
}

#[test]
fn every_shorter_prefix_is_refused() {
    let bytes = process_bytes(
        Kind::ProcessExec,
        [b"/bin/true", b"/tmp", b"true", b"", b"true\0"],
    );
    for len in 0..bytes.len() {
        assert!(
            matches!(decode(&bytes[..len]), Err(DecodeError::Short { .. })),
            "{len} bytes"
        );
    }
}

#[test]
fn a_record_that_announces_less_than_it_uses_is_refused() {
    let mut bytes = process_bytes(Kind::ProcessExec, [b"/bin/true", b"", b"", b"", b""]);
    let short = u32::try_from(bytes.len() - 1).unwrap();
    bytes[4..8].copy_from_slice(&short.to_ne_bytes());
    assert!(matches!(decode(&bytes), Err(DecodeError::Short { .. })));
    bytes[4..8].copy_from_slice(&0u32.to_ne_bytes());
    assert_eq!(decode(&bytes), Err(DecodeError::Field("record_bytes")));
}

#[test]
fn exit_status_keeps_code_and_signal_apart() {
    let check = |status, code, signal, core_dumped| {
        assert_eq!(
            ExitStatus::from_wait_status(status),
            ExitStatus {
                code,
                signal,
                core_dumped
            }
        );
    };
    check(0, 0, 0, false);
    check(255 << 8, 255, 0, false);
    check(9, 0, 9, false);
    check(11 | 0x80, 0, 11, true);
}

#[test]
fn kinds_and_fields_are_numbered_without_gaps() {
    for number in 0..=u16::MAX {
        if let Some(kind) = Kind::from_number(number) {
            assert_eq!(kind as u16, number);
            assert!(kind.index() < KINDS_MAX);
        }
    }
    for (index, place) in PLACES.iter().enumerate() {
        assert_eq!(place.field as usize, index, "{place:?}");
    }
    assert_eq!(Field::TaskPid as usize, 0);
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused_without_panic(
        kind in 0u16..14,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..512),
    ) {
        // Half-right bytes reach deeper than noise does.
        if bytes.len() >= HEADER_BYTES {
            bytes[0..2].copy_from_slice(&kind.to_ne_bytes());
            bytes[2..4].copy_from_slice(&VERSION.to_ne_bytes());
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[4..8].copy_from_slice(&len.to_ne_bytes());
        }
        if let Ok(record) = decode(&bytes) {
            prop_assert_eq!(record.kind as u16, kind);
        }
    }
}
