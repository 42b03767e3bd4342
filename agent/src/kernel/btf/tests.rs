//! The BTF reader against a small hand-made BTF, against damage to it, and against the running kernel's own.

use common::abi::fields::Need;
use proptest::prelude::*;

use super::*;

/// `struct outer { int a; union { struct { long b; }; }; int c:3; struct inner d; }`, `struct inner { int x; }`.
fn sample() -> Vec<u8> {
    let mut strings = vec![0u8];
    let mut name = |text: &str| {
        let at = u32::try_from(strings.len()).unwrap();
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let (outer, inner) = (name("outer"), name("inner"));
    let (a, b, c, d, x) = (name("a"), name("b"), name("c"), name("d"), name("x"));
    let mut words: Vec<u32> = Vec::new();
    let mut ty = |words_of_type: &[u32]| words.extend_from_slice(words_of_type);
    ty(&[0, 1 << 24, 4, 32]); // 1: int, 4 bytes
    ty(&[0, 1 << 24, 8, 64]); // 2: long, 8 bytes
    ty(&[0, 4 << 24 | 1, 8, b, 2, 0]); // 3: unnamed struct { long b }
    ty(&[0, 5 << 24 | 1, 8, 0, 3, 0]); // 4: unnamed union { 3 }
    ty(&[inner, 4 << 24 | 1, 4, x, 6, 0]); // 5: struct inner { const int x }
    ty(&[0, 10 << 24, 1]); // 6: const int
    ty(&[
        outer,
        1 << 31 | 4 << 24 | 4,
        32,
        a,
        1,
        0,
        0,
        4,
        64,
        c,
        1,
        3 << 24 | 128,
        d,
        5,
        160,
    ]); // 7
    let types: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let mut out = Vec::new();
    out.extend_from_slice(&0xeb9fu16.to_ne_bytes());
    out.extend_from_slice(&[1, 0]);
    let types_len = u32::try_from(types.len()).unwrap();
    for word in [24, 0, types_len, types_len, u32::try_from(strings.len()).unwrap()] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(&types);
    out.extend_from_slice(&strings);
    out
}

#[test]
fn fields_are_found_through_unnamed_unions_and_nested_structures() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.offset("outer", "a", 4), Ok(0));
    assert_eq!(btf.offset("outer", "b", 8), Ok(8));
    assert_eq!(btf.offset("outer", "d", 0), Ok(20));
    assert_eq!(btf.offset("outer", "d.x", 4), Ok(20));
    assert_eq!(btf.offset("outer", "", 0), Ok(32), "the size of the structure");
}

#[test]
fn what_cannot_be_read_is_named() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    let (structure, path) = ("outer", "c");
    assert_eq!(
        btf.offset("outer", "c", 4),
        Err(FieldError::BitField { structure, path })
    );
    assert_eq!(btf.offset("none", "c", 4), Err(FieldError::NoStructure("none")));
    assert_eq!(
        btf.offset("outer", "z", 4),
        Err(FieldError::NoMember { structure, path: "z" })
    );
    assert_eq!(
        btf.offset("outer", "b", 4),
        Err(FieldError::Width {
            structure,
            path: "b",
            needed: 4,
            found: 8
        })
    );
}

#[test]
fn every_cut_is_refused_or_harmless() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn the_running_kernel_has_every_required_field() {
    // Where the kernel has no BTF there is nothing to compare with; the agent says so at start.
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return;
    };
    let btf = Btf::parse(&bytes).unwrap();
    let offsets = btf.offsets();
    let required: Vec<_> = offsets
        .missing
        .iter()
        .filter(|(p, _)| p.need != Need::Optional)
        .collect();
    assert!(required.is_empty(), "{required:?}");
    assert_eq!(btf.tracepoint_arguments("sched_process_fork"), Some(2));
}

proptest! {
    #[test]
    fn damage_never_panics(flips in proptest::collection::vec((0usize..400, any::<u8>()), 1..8)) {
        let mut bytes = sample();
        for (at, value) in flips {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            let offsets = btf.offsets();
            prop_assert_eq!(offsets.table.iter().filter(|&&o| o == ABSENT).count(), offsets.missing.len());
            let _ = btf.offset("outer", "d.x", 4);
        }
    }
}
