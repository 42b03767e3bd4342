//! Policies: their text, and whom they find enough.

use alloc::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::{leaves, ledger_key, note, witness};
use crate::{
    checkpoint::Checkpoint,
    merkle::root_of,
    note::{KeyError, NoteError},
    witness::{Policy, PolicyError, PolicyWitness, cosign, with_line},
};

/// A checkpoint cosigned by these witnesses.
fn cosigned(by: &[u8]) -> String {
    let all = leaves(5, u64::MAX);
    let head = Checkpoint {
        origin: super::ORIGIN.into(),
        size: 5,
        root: root_of(&all),
        extensions: Vec::new(),
    };
    by.iter().fold(note(&all), |note, number| {
        with_line(&note, &cosign(&witness(*number), &head, 7 + u64::from(*number)))
    })
}

fn satisfied(policy: &Policy, by: &[u8]) -> bool {
    policy.judge(cosigned(by).as_bytes()).unwrap().satisfied
}

/// The shape of the example of C2SP tlog-policy: two of three X and one of three Y.
fn two_groups() -> String {
    let line = |group: &str, n: u8| format!("witness {group}{n} {}\n", witness(n).verifier());
    let mut text = format!("# ours\nlog {}\n\n", ledger_key().verifier());
    for n in 1..=3 {
        text.push_str(&line("X", n));
    }
    text.push_str("group X-witnesses 2 X1 X2 X3\n");
    for n in 4..=6 {
        text.push_str(&format!("  {}", line("Y\t", n).replace("Y\t", "Y")));
    }
    text.push_str("group Y-witnesses\tany Y4 Y5 Y6\ngroup both all X-witnesses Y-witnesses\nquorum both\n");
    text
}

#[test]
fn golden_policy_and_its_judgement() {
    let policy = Policy::parse(two_groups().as_bytes()).unwrap();
    let judged = policy.judge(cosigned(&[1, 3, 5]).as_bytes()).unwrap();
    insta::assert_snapshot!(format!("{}\n{judged:#?}", two_groups()));
}

#[test]
fn groups_of_groups_count_as_the_specification_says() {
    let policy = Policy::parse(two_groups().as_bytes()).unwrap();
    assert!(policy.covers(ledger_key().verifier()));
    assert!(satisfied(&policy, &[1, 2, 4]) && satisfied(&policy, &[2, 3, 6, 5]));
    assert!(!satisfied(&policy, &[1, 2, 3]), "no Y");
    assert!(!satisfied(&policy, &[1, 4, 5, 6]), "one X");
    assert!(!satisfied(&policy, &[1, 1, 1, 4]), "one X thrice");
    let text = two_groups().replace("quorum both", "quorum none");
    assert!(satisfied(&Policy::parse(text.as_bytes()).unwrap(), &[]));
    let text = two_groups().replace("quorum both", "quorum X2");
    let one = Policy::parse(text.as_bytes()).unwrap();
    assert!(satisfied(&one, &[2]) && !satisfied(&one, &[1, 3, 4]));
}

#[test]
fn a_cosignature_that_does_not_fit_sinks_the_note() {
    let policy = Policy::parse(two_groups().as_bytes()).unwrap();
    let altered = cosigned(&[1, 2, 4]).replacen("\n5\n", "\n6\n", 1);
    let name = String::from(witness(1).verifier().name());
    assert_eq!(
        policy.judge(altered.as_bytes()),
        Err(NoteError::BadSignature(name))
    );
}

/// At no time and beyond 2^63 - 1 nobody signed, however well the rest fits: C2SP tlog-cosignature.
#[test]
fn a_time_that_none_may_name_is_no_cosignature() {
    let policy = Policy::of(
        vec![PolicyWitness {
            key: witness(1).verifier().clone(),
            url: None,
        }],
        1,
    )
    .unwrap();
    let all = leaves(5, u64::MAX);
    let head = Checkpoint {
        origin: super::ORIGIN.into(),
        size: 5,
        root: root_of(&all),
        extensions: Vec::new(),
    };
    let judged = |time: u64| {
        let line = super::stamped(&witness(1), &head, time);
        policy.judge(with_line(&note(&all), &line).as_bytes())
    };
    for time in [1, 1_679_315_147, u64::MAX >> 1] {
        assert!(judged(time).unwrap().satisfied, "{time}");
    }
    for time in [0, 1 << 63, u64::MAX] {
        let name = String::from(witness(1).verifier().name());
        assert_eq!(judged(time), Err(NoteError::BadSignature(name)), "{time}");
    }
    // A clock that stands at zero still gives a cosignature that others accept.
    let line = cosign(&witness(1), &head, 0);
    let judged = policy.judge(with_line(&note(&all), &line).as_bytes()).unwrap();
    assert_eq!(judged.signed[0].posix_seconds, 1);
}

#[test]
fn policies_that_could_mislead_are_refused_by_line() {
    let (one, two) = (witness(1), witness(2));
    let (a, b) = (one.verifier(), two.verifier());
    let check = |text: &str, line: usize| match Policy::parse(text.as_bytes()) {
        Err(PolicyError::Line { line: found, .. } | PolicyError::Key { line: found, .. }) => {
            assert_eq!(found, line, "{text}");
        }
        other => panic!("{text}: {other:?}"),
    };
    check(&format!("witness a {a}\nwitness b {a}\nquorum a\n"), 2);
    check(&format!("witness a {a}\nwitness a {b}\nquorum a\n"), 2);
    check(&format!("witness none {a}\nquorum none\n"), 1);
    check(&format!("witness a {a}\ngroup g 2 a\nquorum g\n"), 2);
    check(&format!("witness a {a}\ngroup g 0 a\nquorum g\n"), 2);
    check(&format!("witness a {a}\ngroup g 01 a\nquorum g\n"), 2);
    check(&format!("witness a {a}\ngroup g any a a\nquorum g\n"), 2);
    check(
        &format!("witness a {a}\ngroup g any a\ngroup h any a\nquorum g\n"),
        3,
    );
    check(&format!("group g any a\nwitness a {a}\nquorum g\n"), 1);
    check(&format!("witness a {a}\ngroup g any none\nquorum g\n"), 2);
    check(&format!("quorum a\nwitness a {a}\n"), 1);
    check("quorum none\nquorum none\n", 2);
    check(&format!("witness a {a} http://x y\nquorum a\n"), 1);
    check("quorum none\r\n", 1);
    check("Quorum none\n", 1);
    assert_eq!(
        Policy::parse(b""),
        Err(PolicyError::Whole("the policy has no quorum line"))
    );
    // A ledger's key is no witness's, nor the other way round.
    let text = format!("witness a {}\nquorum a\n", ledger_key().verifier());
    let cause = KeyError::Type(1);
    assert_eq!(
        Policy::parse(text.as_bytes()),
        Err(PolicyError::Key { line: 1, cause })
    );
    check(&format!("log {a}\nquorum none\n"), 1);
}

proptest! {
    #[test]
    fn prop_k_of_n_counts_distinct_witnesses(n in 1u8..7, k in 1usize..7, by in prop::collection::vec(1u8..9, 0..9)) {
        let witnesses = (1..=n)
            .map(|number| PolicyWitness { key: witness(number).verifier().clone(), url: None })
            .collect();
        let Ok(policy) = Policy::of(witnesses, k) else {
            prop_assert!(k > usize::from(n));
            return Ok(());
        };
        let mut distinct: Vec<u8> = by.iter().copied().filter(|number| *number <= n).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let judged = policy.judge(cosigned(&by).as_bytes()).unwrap();
        prop_assert_eq!(judged.satisfied, distinct.len() >= k);
        prop_assert_eq!(judged.signed.len(), distinct.len());
        prop_assert_eq!(judged.missing.len(), usize::from(n) - distinct.len());
    }

    #[test]
    fn prop_garbage_never_panics(bytes: Vec<u8>, words in "(log|witness|group|quorum| |a|b|2|any|none|\n){0,40}") {
        let _ = Policy::parse(&bytes);
        let _ = Policy::parse(words.as_bytes());
    }
}
