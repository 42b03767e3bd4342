//! Golden bytes of histories, who must have signed what, and which key counts where.

use alloc::{format, string::String, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    ids::{Hash, StatementNumber, WallNanos},
    merkle::{empty_root, leaf_hash},
    note::{self, SignerKey},
    statement::{Said, StatementChain, StatementFault, VerifiedStatement},
    text::Text,
    witness::Policy,
};

const ORIGIN: &str = "ledger.example/one";

fn signer(seed: u8) -> SignerKey {
    SignerKey::from_seed(ORIGIN, &[seed; 32]).unwrap()
}

fn offline(seed: u8) -> SignerKey {
    SignerKey::from_seed("ledger.example/one/offline", &[seed; 32]).unwrap()
}

fn root(size: u64) -> Hash {
    leaf_hash(&size.to_be_bytes())
}

/// A policy that was written while the second of three keys was in force went useless with the third: it named neither
/// the first key nor the present one, and neither collector nor agent started with it.
#[test]
fn a_policy_goes_on_through_every_change_of_key() {
    let covers = |key: &SignerKey, trust: &LedgerKeys| {
        let text = format!("log {}\nquorum none\n", key.verifier());
        Policy::parse(text.as_bytes()).unwrap().covers(trust)
    };
    for seed in 1..=3 {
        assert!(covers(&signer(seed), &history()), "key {seed}");
    }
    assert!(!covers(&signer(4), &history()) && !covers(&signer(3), &rotated()));
    assert!(!covers(&offline(9), &history()), "signs no checkpoint");
}

/// First key 1, rotated to 2 after 100 leaves, revoked after 200 for 3.
fn history() -> LedgerKeys {
    rotated()
        .revoke(&signer(3), &offline(9), 200, root(200), "disk stolen")
        .unwrap()
}

fn rotated() -> LedgerKeys {
    LedgerKeys::genesis(&signer(1), &offline(9))
        .unwrap()
        .rotate(&signer(1), &signer(2), &offline(9), 100, root(100))
        .unwrap()
}

fn checkpoint(size: u64, seed: u8) -> Vec<u8> {
    checkpoint_with(size, root(size), &[seed])
}

fn checkpoint_with(size: u64, root: Hash, seeds: &[u8]) -> Vec<u8> {
    let head = Checkpoint {
        origin: ORIGIN.into(),
        size,
        root,
        extensions: Vec::new(),
    };
    let keys: Vec<SignerKey> = seeds.iter().map(|seed| signer(*seed)).collect();
    let keys: Vec<&SignerKey> = keys.iter().collect();
    note::sign(&head.body(), &keys).unwrap().into_bytes()
}

/// The text of the last record of `keys`, signed by others.
fn resigned(keys: &LedgerKeys, signers: &[&SignerKey]) -> Vec<u8> {
    let (last, before) = keys.records.split_last().unwrap();
    let last = core::str::from_utf8(last).unwrap();
    let text = &last[..=last.find("\n\n").unwrap()];
    let mut bytes = before.concat();
    bytes.extend_from_slice(note::sign(text, signers).unwrap().as_bytes());
    bytes
}

#[test]
fn golden_history() {
    insta::assert_snapshot!(String::from_utf8(history().encode()).unwrap());
}

#[test]
fn a_checkpoint_counts_by_the_key_in_force_for_its_size() {
    let keys = history();
    for (size, seed) in [(0, 1), (100, 1), (101, 2), (200, 2), (201, 3), (9_000, 3)] {
        assert_eq!(keys.open_checkpoint(&checkpoint(size, seed)).unwrap().size, size);
    }
    let check = |size, seed, standing, from| {
        let Err(CheckpointError::OutOfForce(found)) = keys.open_checkpoint(&checkpoint(size, seed)) else {
            panic!("{size} leaves under key {seed}");
        };
        assert_eq!((found.size, found.standing, found.from), (size, standing, from));
        assert_eq!(found.signer, hex(&signer(seed).verifier().id()));
    };
    check(101, 1, Standing::Replaced, 101);
    check(201, 2, Standing::Revoked, 201);
    check(201, 1, Standing::Replaced, 101);
    check(100, 2, Standing::NotYet, 101);
    check(7, 3, Standing::NotYet, 201);
    let stranger = keys.open_checkpoint(&checkpoint(7, 8));
    assert_eq!(stranger, Err(CheckpointError::Note(NoteError::NoKnownSignature)));
}

#[test]
fn refusals_name_the_key_and_the_size() {
    let fault = history().open_checkpoint(&checkpoint(250, 2)).unwrap_err();
    let id = hex(&signer(2).verifier().id());
    assert_eq!(
        format!("{fault}"),
        format!("250 leaves are signed by key {id} that was revoked from 201 leaves on")
    );
}

#[test]
fn signatures_beside_the_one_in_force_neither_help_nor_harm() {
    let keys = history();
    let both = checkpoint_with(101, root(101), &[1, 2, 8]);
    assert_eq!(keys.open_checkpoint(&both).unwrap().size, 101);
    // Whoever knows only the first key goes on with what both have signed.
    assert_eq!(signer(1).verifier().open_checkpoint(&both).unwrap().size, 101);
    let old = checkpoint(101, 1);
    assert!(signer(1).verifier().open_checkpoint(&old).is_ok());
    assert!(keys.open_checkpoint(&old).is_err());
}

#[test]
fn another_root_than_the_recorded_one_is_refused() {
    let forked = checkpoint_with(100, root(7), &[1]);
    assert_eq!(
        history().open_checkpoint(&forked),
        Err(CheckpointError::OtherRoot {
            size: 100,
            recorded: root(100)
        })
    );
}

#[test]
fn a_rotation_takes_old_new_and_offline_key() {
    let (old, new, off) = (signer(1), signer(2), offline(9));
    let check = |signers: &[&SignerKey], by, key: &SignerKey| {
        let fault = LedgerKeys::given(&resigned(&rotated(), signers)).unwrap_err();
        let id = hex(&key.verifier().id());
        assert_eq!(fault, HistoryFault::Unsigned { number: 1, by, id });
    };
    check(&[&new, &off], Signatory::Old, &old);
    check(&[&old, &off], Signatory::New, &new);
    check(&[&old, &new], Signatory::Offline, &off);
    check(&[&old, &new, &offline(8)], Signatory::Offline, &off);
    let many = LedgerKeys::given(&resigned(&rotated(), &[&old, &new, &off, &signer(5)]));
    assert!(matches!(many, Err(HistoryFault::Malformed { number: 1, .. })));
    let turned = LedgerKeys::given(&resigned(&rotated(), &[&new, &old, &off]));
    assert!(matches!(turned, Err(HistoryFault::Malformed { number: 1, .. })));
    assert_eq!(
        LedgerKeys::given(&resigned(&rotated(), &[&old, &new, &off])),
        Ok(rotated())
    );
}

#[test]
fn a_revocation_takes_the_offline_key_and_not_the_stolen_one() {
    let (stolen, new, off) = (signer(2), signer(3), offline(9));
    let with = |signers: &[&SignerKey]| LedgerKeys::given(&resigned(&history(), signers));
    assert_eq!(with(&[&new, &off]), Ok(history()));
    for signers in [[&stolen, &new], [&new, &stolen]] {
        assert!(matches!(
            with(&signers),
            Err(HistoryFault::Unsigned {
                number: 2,
                by: Signatory::Offline,
                ..
            })
        ));
    }
}

#[test]
fn the_wrong_keys_make_no_record() {
    let keys = rotated();
    let by = |result: Result<LedgerKeys, HistoryFault>| match result {
        Err(HistoryFault::Unsigned { by, .. }) => by,
        other => panic!("{other:?}"),
    };
    let old = keys.rotate(&signer(1), &signer(3), &offline(9), 150, root(150));
    assert_eq!(by(old), Signatory::Old);
    let off = keys.rotate(&signer(2), &signer(3), &offline(8), 150, root(150));
    assert_eq!(by(off), Signatory::Offline);
    for reason in ["", "a\nb", "bell\u{7}", &"long".repeat(129)] {
        assert!(
            keys.revoke(&signer(3), &offline(9), 150, root(150), reason)
                .is_err()
        );
    }
    let bare = LedgerKeys::from(signer(1).verifier().clone());
    assert!(
        bare.rotate(&signer(1), &signer(2), &offline(9), 5, root(5))
            .is_err()
    );
}

#[test]
fn records_stand_in_one_order() {
    let keys = rotated();
    let order = |result: Result<LedgerKeys, HistoryFault>| match result {
        Err(HistoryFault::Order { number: 2, what }) => what,
        other => panic!("{other:?}"),
    };
    let same = keys.rotate(&signer(2), &signer(3), &offline(9), 100, root(100));
    assert!(order(same).contains("size"));
    let again = keys.rotate(&signer(2), &signer(1), &offline(9), 150, root(150));
    assert!(order(again).contains("before"));
    let other = SignerKey::from_seed("ledger.example/two", &[3; 32]).unwrap();
    let named = keys.rotate(&signer(2), &other, &offline(9), 150, root(150));
    assert!(order(named).contains("name"));
    let shared = LedgerKeys::genesis(&signer(1), &signer(9));
    assert!(matches!(shared, Err(HistoryFault::Order { number: 0, .. })));
    let (first, second) = (&history().records[0], &history().records[2]);
    let skipped = LedgerKeys::given(&[first.as_slice(), second].concat());
    assert!(matches!(skipped, Err(HistoryFault::Order { number: 1, .. })));
    let headless = LedgerKeys::given(&history().records[1]);
    assert!(matches!(headless, Err(HistoryFault::Order { number: 0, .. })));
    let twice = LedgerKeys::given(&[first.as_slice(), first].concat());
    assert!(matches!(twice, Err(HistoryFault::Order { number: 1, .. })));
}

#[test]
fn what_is_held_has_the_word() {
    let bare = LedgerKeys::from(signer(1).verifier().clone());
    let learnt = bare.learn(&history().encode()).unwrap().unwrap();
    assert_eq!(learnt, history());
    assert_eq!(rotated().learn(&history().encode()), Ok(Some(history())));
    assert_eq!(history().learn(&rotated().encode()), Ok(None));
    assert_eq!(history().learn(&history().encode()), Ok(None));
    let stranger = LedgerKeys::genesis(&signer(5), &offline(9)).unwrap();
    assert!(matches!(
        bare.learn(&stranger.encode()),
        Err(HistoryFault::OtherFirst { .. })
    ));
    let other = rotated()
        .rotate(&signer(2), &signer(4), &offline(9), 200, root(200))
        .unwrap();
    assert_eq!(
        history().learn(&other.encode()),
        Err(HistoryFault::Fork { number: 2 })
    );
    // The thief of the first key makes a beginning of his own: whoever holds a history is not deceived, whoever holds
    // only the key is.
    let thief = LedgerKeys::genesis(&signer(1), &offline(66)).unwrap();
    assert_eq!(
        history().learn(&thief.encode()),
        Err(HistoryFault::Fork { number: 0 })
    );
    assert_eq!(bare.learn(&thief.encode()), Ok(Some(thief)));
}

#[test]
fn a_history_has_a_bound() {
    let mut keys = LedgerKeys::genesis(&signer(0), &offline(200)).unwrap();
    for seed in 1..=u8::try_from(LEDGER_KEY_CHANGES_MAX).unwrap() {
        let size = u64::from(seed);
        keys = keys
            .rotate(&signer(seed - 1), &signer(seed), &offline(200), size, root(size))
            .unwrap();
    }
    assert_eq!(keys.changes().len(), LEDGER_KEY_CHANGES_MAX);
    let more = keys.rotate(&signer(64), &signer(65), &offline(200), 65, root(65));
    assert_eq!(more, Err(HistoryFault::Full));
    let long = std::vec![b'x'; LEDGER_KEYS_BYTES_MAX + 1];
    assert!(matches!(LedgerKeys::given(&long), Err(HistoryFault::TooLong(_))));
}

#[test]
fn either_file_is_a_trust() {
    let key = format!("{}\n", signer(1).verifier());
    let bare = read_trust(key.as_bytes()).unwrap();
    assert_eq!((bare.first(), bare.offline()), (signer(1).verifier(), None));
    assert_eq!(read_trust(&history().encode()), Ok(history()));
    assert!(read_trust(b"hostledger/ledger-keys/v1\ngenesis\n").is_err());
    assert!(read_trust(b"").is_err());
}

#[test]
fn statements_are_judged_by_the_key_at_their_leaf() {
    let keys = history();
    let said = Said::KeyChange {
        record: Text(keys.records[1].clone()),
    };
    let at = |leaf: u64, seed: u8| {
        let chain = StatementChain {
            next: StatementNumber(4),
            hash: Hash([1; 32]),
        };
        let made = chain.write(said.clone(), WallNanos(1), 2, &signer(seed)).unwrap();
        let parsed = crate::statement::UnverifiedStatement::parse(made.bytes()).unwrap();
        VerifiedStatement::at_leaf(parsed, LeafIndex(leaf), &keys)
    };
    assert!(at(99, 1).is_ok());
    assert!(at(100, 2).is_ok());
    assert!(at(200, 3).is_ok());
    let late = at(100, 1).unwrap_err();
    assert!(matches!(late, StatementFault::OutOfForce { .. }), "{late}");
    assert!(matches!(at(99, 2), Err(StatementFault::OutOfForce { .. })));
    assert!(matches!(at(99, 7), Err(StatementFault::Signature { .. })));
    assert_eq!(keys.change_at(LeafIndex(100)).unwrap().1, keys.records[1]);
    assert_eq!(keys.change_at(LeafIndex(99)), None);
}

#[test]
fn a_ledger_may_change_its_key_before_its_first_leaf() {
    let keys = LedgerKeys::genesis(&signer(1), &offline(9)).unwrap();
    let keys = keys
        .rotate(&signer(1), &signer(2), &offline(9), 0, empty_root())
        .unwrap();
    assert_eq!(keys.key_at(0), signer(1).verifier());
    assert_eq!(keys.key_at(1), signer(2).verifier());
}

proptest! {
    #[test]
    fn prop_every_flipped_bit_is_refused(at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = history().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(LedgerKeys::given(&bytes).is_err());
    }

    #[test]
    fn prop_a_cut_history_is_refused_or_an_earlier_one(at: prop::sample::Index) {
        let bytes = history().encode();
        let cut = &bytes[..at.index(bytes.len())];
        if let Ok(keys) = LedgerKeys::given(cut) {
            prop_assert_eq!(history().learn(cut), Ok(None));
            prop_assert_eq!(keys.encode(), cut);
        }
    }

    #[test]
    fn prop_one_key_counts_for_each_size(size in 0u64..400) {
        let keys = history();
        let counted = (1..=3).filter(|seed| keys.open_checkpoint(&checkpoint(size, *seed)).is_ok());
        prop_assert_eq!(counted.count(), 1);
    }

    #[test]
    fn prop_garbage_never_panics(bytes: Vec<u8>, text in "\\PC{0,200}") {
        let _ = LedgerKeys::given(&bytes);
        let _ = LedgerKeys::given(format!("hostledger/ledger-keys/v1\n{text}").as_bytes());
        let _ = read_trust(&bytes);
    }
}
