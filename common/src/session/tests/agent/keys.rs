//! An agent learns that the ledger's key was changed: by proof alone, durably first, and from one history only.

use alloc::vec::Vec;

use super::*;
use crate::{
    ledger_keys::{HistoryFault, LedgerKeys},
    session::{Forgotten, RecallFault},
    spool::LedgerMark,
};

fn named(name: &str, seed: u8) -> SignerKey {
    SignerKey::from_seed(name, &[seed; 32]).unwrap()
}

fn new_key() -> SignerKey {
    named("ledger.example/one", 8)
}

fn offline() -> SignerKey {
    named("offline.example", 9)
}

fn genesis() -> LedgerKeys {
    LedgerKeys::genesis(&signer(), &offline()).unwrap()
}

/// After two leaves another key signs.
fn rotated(leaves: &[Hash]) -> LedgerKeys {
    genesis()
        .rotate(&signer(), &new_key(), &offline(), 2, root_of(&leaves[..2]))
        .unwrap()
}

fn revoked(leaves: &[Hash]) -> LedgerKeys {
    genesis()
        .revoke(&new_key(), &offline(), 2, root_of(&leaves[..2]), "stolen")
        .unwrap()
}

fn keys(history: &LedgerKeys) -> Message {
    Message::Keys(history.encode())
}

#[test]
fn receipts_of_a_new_key_count_once_its_history_is_written_down() {
    let (mut rig, id) = Rig::open(3);
    rig.sent(0);
    let history = rotated(&rig.leaves());
    let proof = receipts(&rig.leaves(), 0, 0, 0..3, &new_key());
    let checkpoint = proof.checkpoint.clone();
    let write = AgentEffect::RememberKeys {
        history: history.encode(),
    };
    let mut bytes = keys(&history).encode().unwrap();
    bytes.extend(Message::Receipts(proof).encode().unwrap());
    rig.session.handle_bytes(at(0), id, &bytes, &rig.spool);
    assert_eq!(rig.effects(0), core::slice::from_ref(&write), "keys first");
    assert!(
        rig.events
            .iter()
            .any(|event| matches!(event, AgentEvent::KeyChanged(change) if change.after == 2))
    );
    // The disk refuses: nothing that rests on the key is written before it.
    rig.session.handle_remember_failed(at(5));
    assert_eq!(rig.effects(5), []);
    rig.session.handle_timeout(at(5 + SECOND));
    assert_eq!(rig.effects(5 + SECOND), [write]);
    rig.session.handle_remembered();
    assert_eq!(rig.effects(5 + SECOND), [AgentEffect::Remember { checkpoint }]);
    rig.session.handle_remembered();
    assert_eq!(
        rig.effects(5 + SECOND),
        [AgentEffect::Trim { through: Sequence(2) }]
    );
}

#[test]
fn without_the_history_a_new_key_is_a_strangers() {
    let (mut rig, id) = Rig::open(3);
    rig.sent(0);
    let proof = receipts(&rig.leaves(), 0, 0, 0..3, &new_key());
    rig.tell(0, id, &Message::Receipts(proof));
    assert!(matches!(rig.fault(), AgentFault::Checkpoint(_)));
}

#[test]
fn what_a_revoked_key_signs_beyond_its_leaves_is_refused_by_name() {
    let (mut rig, id) = Rig::open(3);
    rig.sent(0);
    let history = revoked(&rig.leaves());
    rig.tell(0, id, &keys(&history));
    rig.session.handle_remembered();
    rig.effects(0);
    let stolen = receipts(&rig.leaves(), 0, 0, 0..3, &signer());
    rig.tell(0, id, &Message::Receipts(stolen));
    let fault = rig.fault().to_string();
    let key = crate::ids::hex(&signer().verifier().id());
    let named = alloc::format!("key {key} that was revoked from 3 leaves on");
    assert!(fault.contains(&named), "{fault}");
    assert!(rig.session.halted());
}

#[test]
fn another_history_than_the_one_held_is_refused_and_kept() {
    let refused = |offer: &dyn Fn(&[Hash]) -> Vec<u8>| {
        let (mut rig, id) = Rig::open(3);
        rig.sent(0);
        let held = rotated(&rig.leaves()).encode();
        rig.tell(0, id, &Message::Keys(held.clone()));
        rig.session.handle_remembered();
        rig.effects(0);
        let offered = offer(&rig.leaves());
        let effects = rig.tell(0, id, &Message::Keys(offered.clone()));
        assert!(rig.session.halted());
        let fault = rig.fault().clone();
        let kept = AgentEffect::Evidence {
            fault: fault.clone(),
            remembered: held,
            offending: Message::Keys(offered).encode().unwrap(),
        };
        assert_eq!(effects, [AgentEffect::Disconnect(id), kept]);
        match fault {
            AgentFault::Keys(fault) => fault,
            other => panic!("{other}"),
        }
    };
    // The thief of the offline key, or an operator who tells two stories.
    let fork = refused(&|leaves| revoked(leaves).encode());
    assert_eq!(fork, HistoryFault::Fork { number: 1 });
    // The thief of the first key with an offline key of his own: whoever saw the beginning is not deceived.
    let thief = refused(&|_| {
        let own = named("offline.example", 66);
        LedgerKeys::genesis(&signer(), &own).unwrap().encode()
    });
    assert_eq!(thief, HistoryFault::Fork { number: 0 });
    let unsigned = refused(&|leaves| {
        let mut bytes = rotated(leaves).encode();
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
        bytes
    });
    assert!(!matches!(unsigned, HistoryFault::Fork { .. }));
}

#[test]
fn the_same_history_and_an_older_one_say_nothing_new() {
    let (mut rig, id) = Rig::open(3);
    rig.sent(0);
    let history = rotated(&rig.leaves());
    rig.tell(0, id, &keys(&history));
    rig.session.handle_remembered();
    rig.effects(0);
    assert_eq!(rig.tell(0, id, &keys(&history)), []);
    assert_eq!(rig.tell(0, id, &keys(&genesis())), []);
    assert!(!rig.session.halted());
}

#[test]
fn a_restart_judges_what_it_remembers_by_the_keys_it_remembers() {
    let all = batches(&ChainHead::genesis(host()), 3, 0);
    let leaves: Vec<Hash> = all.iter().map(|batch| leaf_hash(batch.header.bytes())).collect();
    let note = receipts(&leaves, 0, 0, 0..0, &new_key()).checkpoint;
    assert!(Seen::remembered(&note, signer().verifier()).is_err());
    let seen = Seen::remembered(&note, &rotated(&leaves)).unwrap();
    assert_eq!(seen.size, 3);
    let early = receipts(&leaves[..2], 0, 0, 0..0, &signer()).checkpoint;
    assert_eq!(Seen::remembered(&early, &rotated(&leaves)).unwrap().size, 2);
}

/// The mark never says more than is durable, and what the files have lost against it is told.
#[test]
fn a_restart_holds_its_files_against_the_mark_of_what_it_wrote_down() {
    let (mut rig, id) = Rig::open(3);
    rig.sent(0);
    let nothing = rig.session.mark();
    assert_eq!((nothing.size, nothing.history_bytes), (0, 0));
    let history = rotated(&rig.leaves());
    let proof = receipts(&rig.leaves(), 0, 0, 0..3, &new_key());
    rig.tell(0, id, &keys(&history));
    rig.tell(0, id, &Message::Receipts(proof.clone()));
    assert_eq!(rig.session.mark(), nothing, "nothing is written down yet");
    rig.session.handle_remembered();
    assert_eq!(rig.session.mark().history_bytes, history.encode().len() as u64);
    assert_eq!(rig.session.mark().size, 0);
    rig.effects(0);
    rig.session.handle_remembered();
    let mark = rig.session.mark();
    assert_eq!((mark.size, mark.root), (3, root_of(&rig.leaves())));

    let recall = |note: Option<&[u8]>, mark, keys: &LedgerKeys| Seen::recall(note, Some(mark), keys);
    let note = proof.checkpoint.as_slice();
    let whole = Seen::remembered(note, &history).unwrap();
    assert_eq!(recall(Some(note), &mark, &history), Ok((whole.clone(), None)));
    assert_eq!(
        recall(Some(note), &nothing, &history),
        Ok((whole, None)),
        "the head may be behind"
    );
    let (seen, forgotten) = recall(None, &mark, &history).unwrap();
    assert_eq!((seen.size, seen.root, seen.note.len()), (3, mark.root, 0));
    assert_eq!(forgotten, Some(Forgotten::Gone { size: 3 }));
    let (seen, forgotten) = recall(Some(b"rot"), &mark, &history).unwrap();
    assert_eq!(seen.size, 3);
    assert!(matches!(forgotten, Some(Forgotten::Altered { size: 3, .. })));
    assert!(matches!(
        recall(Some(b"rot"), &nothing, &history),
        Err(RecallFault::Checkpoint(_))
    ));
    let early = receipts(&rig.leaves()[..2], 0, 0, 0..0, &signer()).checkpoint;
    let (seen, forgotten) = recall(Some(&early), &mark, &history).unwrap();
    assert_eq!(
        (seen.size, forgotten),
        (3, Some(Forgotten::Older { found: 2, size: 3 }))
    );
    let other_root = LedgerMark {
        root: root_of(&[]),
        ..mark
    };
    assert_eq!(
        recall(Some(note), &other_root, &history),
        Err(RecallFault::RootsDiffer { size: 3 })
    );
    for known in [
        LedgerKeys::from(signer().verifier().clone()),
        genesis(),
        revoked(&rig.leaves()),
    ] {
        assert!(matches!(
            recall(None, &mark, &known),
            Err(RecallFault::Keys { .. })
        ));
    }
    let elsewhere = LedgerKeys::from(new_key().verifier().clone());
    let (seen, forgotten) = recall(None, &mark, &elsewhere).unwrap();
    assert_eq!(
        (seen, forgotten),
        (Seen::nothing(), Some(Forgotten::OtherLedger { size: 3 }))
    );
}
