//! Notes: the published vector, round trips, what is ignored and what is refused.

use proptest::prelude::*;

use super::*;

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey::from_seed(name, &[seed; 32]).unwrap()
}

/// The example of the Go package `golang.org/x/mod/sumdb/note`.
const GO_VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn a_note_that_others_signed_opens() {
    let key = VerifierKey::parse(GO_VERIFIER).unwrap();
    assert_eq!(key.to_string(), GO_VERIFIER);
    let text = open(GO_NOTE.as_bytes(), &[&key]).unwrap();
    assert!(text.starts_with("If you think") && text.ends_with("is.\n"));
}

#[test]
fn golden_note() {
    let key = signer("ledger.example/one", 7);
    insta::assert_snapshot!(std::format!(
        "{}\n{}\n{}",
        key.encode_secret(),
        key.verifier(),
        sign("a\n\nb\n", &[&key]).unwrap()
    ));
}

#[test]
fn unknown_keys_are_ignored_and_a_failing_known_key_sinks_the_note() {
    let (ours, other) = (signer("ours", 1), signer("other", 2));
    let note = sign("text\n", &[&other, &ours]).unwrap();
    assert_eq!(open(note.as_bytes(), &[ours.verifier()]), Ok("text\n"));
    assert_eq!(
        open(note.as_bytes(), &[signer("third", 3).verifier()]),
        Err(NoteError::NoKnownSignature)
    );
    // Same name, another key: unknown. Same key under another name: unknown as well.
    assert_eq!(
        open(note.as_bytes(), &[signer("ours", 9).verifier()]),
        Err(NoteError::NoKnownSignature)
    );
    assert_eq!(
        open(note.as_bytes(), &[signer("theirs", 1).verifier()]),
        Err(NoteError::NoKnownSignature)
    );
    let altered = note.replacen("text", "tExt", 1);
    assert_eq!(
        open(altered.as_bytes(), &[ours.verifier()]),
        Err(NoteError::BadSignature("ours".into()))
    );
    // One good and one bad signature of known keys: refused.
    let (good, bad) = (
        sign("text\n", &[&ours]).unwrap(),
        sign("else\n", &[&other]).unwrap(),
    );
    let mixed = std::format!("{good}{}", bad.rsplit_once("\n\n").unwrap().1);
    assert_eq!(open(mixed.as_bytes(), &[ours.verifier()]), Ok("text\n"));
    assert_eq!(
        open(mixed.as_bytes(), &[ours.verifier(), other.verifier()]),
        Err(NoteError::BadSignature("other".into()))
    );
}

#[test]
fn malformed_notes_are_named() {
    let key = signer("k", 1);
    let good = sign("t\n", &[&key]).unwrap();
    let check = |note: &[u8], expect: NoteError| {
        assert_eq!(
            open(note, &[key.verifier()]),
            Err(expect),
            "{:?}",
            std::string::String::from_utf8_lossy(note)
        );
    };
    check(b"", NoteError::NoSignatures);
    check(b"t\n\n", NoteError::NoSignatures);
    check(good.trim_end().as_bytes(), NoteError::NoSignatures);
    check(b"t\r\n\n", NoteError::NotText(1));
    check(b"t\xff\n\n", NoteError::NotText(1));
    check(
        good.replace('\u{2014}', "-").as_bytes(),
        NoteError::MalformedSignature(0),
    );
    check(
        good.replace("= ", " ").replace("=\n", "\n").as_bytes(),
        NoteError::MalformedSignature(0),
    );
    check(
        "t\n\n\u{2014} k AAAA\n".as_bytes(),
        NoteError::MalformedSignature(0),
    );
    let line = good.rsplit_once("\n\n").unwrap().1;
    check(
        std::format!("t\n\n{}", line.repeat(NOTE_SIGNATURES_MAX + 1)).as_bytes(),
        NoteError::TooManySignatures,
    );
    check(
        &std::vec![b'a'; NOTE_BYTES_MAX + 1],
        NoteError::TooLong(NOTE_BYTES_MAX + 1),
    );
    assert_eq!(sign("no newline", &[&key]), Err(NoteError::UnsignableText));
    assert_eq!(sign("tab\t\n", &[&key]), Err(NoteError::UnsignableText));
    assert_eq!(sign("unsigned\n", &[]), Err(NoteError::UnsignableText));
}

#[test]
fn keys_of_other_types_and_altered_keys_are_refused() {
    assert_eq!(VerifierKey::parse("a+b"), Err(KeyError::Malformed));
    assert_eq!(VerifierKey::parse("n+00000000+AA=="), Err(KeyError::Type(0)));
    assert_eq!(SignerKey::parse(GO_VERIFIER).unwrap_err(), KeyError::Malformed);
    for name in ["", "a b", "a+b", "a\u{a0}b", "a\nb"] {
        assert_eq!(
            SignerKey::from_seed(name, &[0; 32]).unwrap_err(),
            KeyError::Name,
            "{name:?}"
        );
    }
    let good = GO_VERIFIER.as_bytes();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            let parsed = core::str::from_utf8(&bad).ok().map(VerifierKey::parse);
            assert!(!matches!(parsed, Some(Ok(_))), "flip of bit {bit} at {at} passed");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    let key = signer("k", 5);
    assert!(!std::format!("{key:?}").contains("PRIVATE"));
    assert_eq!(
        SignerKey::parse(&key.encode_secret()).unwrap().verifier(),
        key.verifier()
    );
}

proptest! {
    #[test]
    fn prop_every_flipped_bit_of_a_note_is_refused(at: prop::sample::Index, bit in 0u8..8, seed: u8) {
        let key = signer("ledger.example/log", seed);
        let mut note = sign("ledger.example/log\n12\nroot\n", &[&key]).unwrap().into_bytes();
        let at = at.index(note.len());
        note[at] ^= 1 << bit;
        prop_assert!(open(&note, &[key.verifier()]).is_err());
    }

    #[test]
    fn prop_any_text_round_trips(lines in prop::collection::vec("[^\\x00-\\x1f]{0,40}", 1..8)) {
        let key = signer("k", 1);
        let text = std::format!("{}\n", lines.join("\n"));
        let note = sign(&text, &[&key]).unwrap();
        prop_assert_eq!(open(note.as_bytes(), &[key.verifier()]), Ok(text.as_str()));
    }

    #[test]
    fn prop_garbage_never_panics(bytes: Vec<u8>, text in "\\PC{0,200}") {
        let _ = UnverifiedNote::parse(&bytes);
        let _ = UnverifiedNote::parse(text.as_bytes());
        let _ = VerifierKey::parse(&text);
    }
}
