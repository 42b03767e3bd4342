//! Both sides of `add-checkpoint`, and the bytes of requests and cosignatures.

use alloc::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::{ORIGIN, leaves, ledger_key, note, proof, witness};
use crate::{
    checkpoint::Checkpoint,
    merkle::root_of,
    note::{NoteError, SignerKey, UnverifiedNote},
    witness::{
        AddCheckpoint, Exchange, Next, PROOF_LINES_MAX, Recorded, TrustedLog, WitnessFault, WitnessRefusal,
        cosign, cosignatures, judge, with_line,
    },
};

const TIME: u64 = 1_679_315_147;

fn log() -> TrustedLog {
    TrustedLog {
        origin: ORIGIN.into(),
        keys: vec![ledger_key().verifier().clone()],
    }
}

fn request(old: u64, size: u64, fork: u64) -> AddCheckpoint {
    let all = leaves(size, fork);
    AddCheckpoint {
        old,
        proof: if old <= size { proof(&all, old) } else { Vec::new() },
        note: note(&all).into_bytes(),
    }
}

/// What a witness holds after it cosigned `size` leaves of the true history.
fn recorded(size: u64) -> Recorded {
    let accepted = judge(&request(0, size, u64::MAX), &log(), None).unwrap();
    accepted.cosign(&witness(1), TIME).record
}

fn refusal(request: &AddCheckpoint, last: Option<u64>) -> WitnessRefusal {
    judge(request, &log(), last.map(recorded).as_ref()).unwrap_err()
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        size,
        root: root_of(&leaves(size, u64::MAX)),
        extensions: Vec::new(),
    }
}

#[test]
fn golden_cosignature_and_request() {
    let signer = witness(1);
    let request = request(3, 7, u64::MAX);
    let line = cosign(&signer, &checkpoint(7), TIME);
    insta::assert_snapshot!(format!(
        "{}\n{}\n{line}{}",
        signer.encode_secret(),
        signer.verifier(),
        String::from_utf8(request.encode()).unwrap()
    ));
}

#[test]
fn a_growing_log_is_cosigned_step_by_step_and_a_repeated_request_again() {
    let mut last: Option<Recorded> = None;
    for size in [0, 1, 1, 2, 3, 8, 9, 300, 300] {
        let old = last.as_ref().map_or(0, |last| last.size);
        let accepted = judge(&request(old, size, u64::MAX), &log(), last.as_ref()).unwrap();
        let cosigned = accepted.cosign(&witness(1), TIME + size);
        let own = witness(1);
        let opened = Recorded::open(cosigned.record.note.as_bytes(), ORIGIN, own.verifier()).unwrap();
        assert_eq!(opened, cosigned.record);
        assert!(cosigned.record.note.ends_with(&cosigned.line));
        last = Some(opened);
    }
}

#[test]
fn each_refusal_has_the_status_of_the_specification() {
    let status = |request: &AddCheckpoint, last| refusal(request, last).status();
    // Old size beyond the checkpoint, whatever is recorded.
    assert_eq!(status(&request(9, 7, u64::MAX), Some(9)), 400);
    // Another origin than any followed, though the key is known.
    let mut other = checkpoint(3);
    other.origin = "ledger.example/two".into();
    let foreign = AddCheckpoint {
        old: 0,
        proof: Vec::new(),
        note: other.sign(&ledger_key()).unwrap().into_bytes(),
    };
    assert_eq!(status(&foreign, None), 404);
    // An unknown key of the right name; a known key's line that does not fit.
    let impostor = SignerKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    let mut wrong = request(0, 3, u64::MAX);
    wrong.note = checkpoint(3).sign(&impostor).unwrap().into_bytes();
    assert_eq!(
        refusal(&wrong, None),
        WitnessRefusal::Signature(NoteError::NoKnownSignature)
    );
    assert_eq!(status(&wrong, None), 403);
    let altered = note(&leaves(3, u64::MAX)).replacen("\n3\n", "\n4\n", 1);
    wrong.note = altered.into_bytes();
    assert_eq!(status(&wrong, None), 403);
    // Replayed, and from the future.
    assert_eq!(
        refusal(&request(0, 3, u64::MAX), Some(3)),
        WitnessRefusal::Conflict { old: 0, recorded: 3 }
    );
    assert_eq!(status(&request(5, 9, u64::MAX), Some(3)), 409);
    assert_eq!(status(&request(2, 3, u64::MAX), None), 409);
    // Forks: before, at and behind the recorded size.
    assert_eq!(status(&request(5, 9, 2), Some(5)), 422);
    assert_eq!(status(&request(5, 5, 2), Some(5)), 422);
    assert!(refusal(&request(5, 5, 2), Some(5)).is_signed_contradiction());
    // A proof where none may be, one too short, one too long.
    for (old, size, last) in [(0, 5, None), (5, 5, Some(5)), (3, 7, Some(3))] {
        let mut padded = request(old, size, u64::MAX);
        padded.proof.push(root_of(&[]));
        assert_eq!(status(&padded, last), 422, "{old} {size}");
    }
    let mut short = request(3, 7, u64::MAX);
    short.proof.pop();
    assert_eq!(status(&short, Some(3)), 422);
    // An empty tree with a root.
    let mut empty = checkpoint(0);
    empty.root = root_of(&leaves(1, u64::MAX));
    let empty = AddCheckpoint {
        old: 0,
        proof: Vec::new(),
        note: empty.sign(&ledger_key()).unwrap().into_bytes(),
    };
    assert_eq!(refusal(&empty, None), WitnessRefusal::EmptyRoot);
    assert_eq!(status(&empty, None), 422);
}

#[test]
fn what_is_no_request_is_refused_before_anything_is_looked_up() {
    let good = String::from_utf8(request(3, 7, u64::MAX).encode()).unwrap();
    assert!(AddCheckpoint::decode(good.as_bytes()).is_ok());
    let hash = good.lines().nth(1).unwrap();
    let lines = |count: usize| format!("{}\n", hash).repeat(count);
    let tail = good.split_once("\n\n").unwrap().1;
    let most = format!("old 3\n{}\n{tail}", lines(PROOF_LINES_MAX));
    assert!(AddCheckpoint::decode(most.as_bytes()).is_ok());
    let bad = [
        String::new(),
        good.replacen("old 3", "old 03", 1),
        good.replacen("old 3", "old -3", 1),
        good.replacen("old 3", "Old 3", 1),
        good.replacen("old 3", "old  3", 1),
        good.replacen("old 3", "old 18446744073709551616", 1),
        good.replacen("old 3\n", "", 1),
        good.replacen(hash, "AAAA", 1),
        good.replacen(hash, &hash[1..], 1),
        good.replacen("\n\n", "\n", 1),
        good.replace('\n', "\r\n"),
        good.trim_end().into(),
        format!("old 3\n{}\n{tail}", lines(PROOF_LINES_MAX + 1)),
        good.split_once(ORIGIN).unwrap().0.into(),
        good.replacen("\n7\n", "\n07\n", 1),
    ];
    for body in &bad {
        assert!(AddCheckpoint::decode(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn a_record_that_is_not_ours_is_not_continued() {
    let record = recorded(5).note;
    let open = |note: &str, origin| Recorded::open(note.as_bytes(), origin, witness(1).verifier());
    assert!(open(&record, ORIGIN).is_ok());
    assert!(open(&record, "ledger.example/two").is_err());
    assert!(
        open(&note(&leaves(5, u64::MAX)), ORIGIN).is_err(),
        "nobody cosigned it"
    );
    assert!(Recorded::open(record.as_bytes(), ORIGIN, witness(2).verifier()).is_err());
    assert!(open(&record.replacen("\n5\n", "\n4\n", 1), ORIGIN).is_err());
}

#[test]
fn two_keys_of_one_log_are_both_kept_in_the_record() {
    let second = SignerKey::from_seed(ORIGIN, &[9; 32]).unwrap();
    let stranger = SignerKey::from_seed(ORIGIN, &[10; 32]).unwrap();
    let mut log = log();
    log.keys.push(second.verifier().clone());
    let keys = [&ledger_key(), &stranger, &second];
    let mut request = request(0, 4, u64::MAX);
    request.note = crate::note::sign(&checkpoint(4).body(), &keys)
        .unwrap()
        .into_bytes();
    let record = judge(&request, &log, None)
        .unwrap()
        .cosign(&witness(1), TIME)
        .record;
    let parsed = UnverifiedNote::parse(record.note.as_bytes()).unwrap();
    let ids: Vec<[u8; 4]> = parsed.signatures().iter().map(|line| line.key_id).collect();
    let wanted = [
        ledger_key().verifier().id(),
        second.verifier().id(),
        witness(1).verifier().id(),
    ];
    assert_eq!(ids, wanted, "signatures of unknown keys are ignored");
}

#[test]
fn the_client_follows_a_named_size_and_keeps_only_a_good_cosignature() {
    let all = leaves(7, u64::MAX);
    let note = note(&all);
    let signer = witness(1);
    let mut exchange = Exchange::new(signer.verifier(), &note, 7, 0);
    assert_eq!(exchange.old(), 0);
    assert_eq!(exchange.handle(409, b"5\n"), Ok(Next::Ask));
    assert_eq!(exchange.old(), 5);
    let line = cosign(&signer, &checkpoint(7), TIME);
    let others = cosign(&witness(2), &checkpoint(7), TIME);
    let answer = exchange.handle(200, format!("{others}{line}").as_bytes());
    let posix_seconds = TIME;
    assert_eq!(
        answer,
        Ok(Next::Cosigned {
            line: line.clone(),
            posix_seconds
        })
    );
    let fresh = || Exchange::new(signer.verifier(), &note, 7, 9);
    assert_eq!(
        fresh().old(),
        7,
        "a remembered size beyond the checkpoint is no place to start"
    );
    let recorded = |n| WitnessFault::Ahead { recorded: n, size: 7 };
    assert_eq!(fresh().handle(409, b"8\n"), Err(recorded(8)));
    for garbage in [&b"8"[..], b"", b"08\n", b"x\n", b"\xff\n"] {
        assert!(matches!(
            fresh().handle(409, garbage),
            Err(WitnessFault::Garbage { .. })
        ));
    }
    assert!(
        matches!(fresh().handle(422, b"no\x1b[2J"), Err(WitnessFault::Contradicts { words }) if words == "no [2J")
    );
    assert!(matches!(
        fresh().handle(403, b"no key"),
        Err(WitnessFault::Untrusted { words }) if words == "no key"
    ));
    assert!(matches!(
        fresh().handle(503, b""),
        Err(WitnessFault::Refused { status: 503, .. })
    ));
    let bad = cosign(&signer, &checkpoint(6), TIME);
    assert!(matches!(
        fresh().handle(200, bad.as_bytes()),
        Err(WitnessFault::Signature(_))
    ));
    assert!(matches!(
        fresh().handle(200, others.as_bytes()),
        Err(WitnessFault::Garbage { .. })
    ));
    assert!(matches!(
        fresh().handle(200, b"hello\n"),
        Err(WitnessFault::Garbage { .. })
    ));
    let timeless = super::stamped(&signer, &checkpoint(7), 0);
    assert!(matches!(
        fresh().handle(200, timeless.as_bytes()),
        Err(WitnessFault::Signature(_))
    ));
    let mut restless = fresh();
    assert_eq!(restless.handle(409, b"1\n"), Ok(Next::Ask));
    assert_eq!(restless.handle(409, b"2\n"), Ok(Next::Ask));
    assert_eq!(restless.handle(409, b"3\n"), Err(WitnessFault::Restless(3)));
}

proptest! {
    #[test]
    fn prop_a_request_round_trips(old in 0u64..40, more in 0u64..40) {
        let request = request(old, old + more, u64::MAX);
        prop_assert_eq!(AddCheckpoint::decode(&request.encode()).unwrap(), request);
    }

    /// Whatever is asked, a witness never holds two histories: what it signs extends what it signed.
    #[test]
    fn prop_no_two_views_are_cosigned(
        asked in prop::collection::vec((0u64..12, 0u64..12, 0u64..12), 1..20),
    ) {
        let mut last: Option<Recorded> = None;
        for (old, size, fork) in asked {
            let Ok(accepted) = judge(&request(old, size, fork), &log(), last.as_ref()) else { continue };
            let next = accepted.cosign(&witness(1), TIME).record;
            if let Some(last) = &last {
                prop_assert!(next.size >= last.size);
                let now = leaves(next.size, fork);
                prop_assert_eq!(root_of(&now), next.root);
                let before = usize::try_from(last.size).unwrap();
                prop_assert_eq!(root_of(&now[..before]), last.root, "history was rewritten");
            }
            last = Some(next);
        }
    }

    #[test]
    fn prop_every_flipped_bit_of_a_cosigned_note_is_refused(at: prop::sample::Index, bit in 0u8..8) {
        let signer = witness(1);
        let cosigned = with_line(&note(&leaves(7, u64::MAX)), &cosign(&signer, &checkpoint(7), TIME));
        let mut bytes = cosigned.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let good = UnverifiedNote::parse(&bytes).ok().is_some_and(|note| {
            note.verify(&[ledger_key().verifier()]).is_ok()
                && cosignatures(&note, &[signer.verifier()]).is_ok_and(|found| found.len() == 1)
        });
        prop_assert!(!good);
    }

    #[test]
    fn prop_garbage_never_panics(bytes: Vec<u8>, status: u16) {
        let _ = AddCheckpoint::decode(&bytes);
        let note = note(&leaves(2, u64::MAX));
        let signer = witness(1);
        let _ = Exchange::new(signer.verifier(), &note, 2, 1).handle(status, &bytes);
    }
}
