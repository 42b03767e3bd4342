//! An agent that demands cosignatures: what it trims, what it only remembers, and what it does not believe.

use alloc::{string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::agent::{Rig, at, receipts, signer};
use crate::{
    batch::ChainHead,
    checkpoint::{self, CheckpointError},
    ids::{Hash, Sequence},
    note::{NoteError, WitnessSigner},
    session::{AgentConfig, AgentEffect, AgentEvent, AgentFault, ConnectionId, Message, Receipts, Seen},
    testing::{batches, host, run_disk},
    witness::{Policy, PolicyWitness, cosign, with_line},
};

fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&std::format!("witness.example/w{number}"), &[100 + number; 32]).unwrap()
}

/// `quorum` of three witnesses.
fn policy(quorum: usize) -> Policy {
    let listed = |number| PolicyWitness {
        key: witness(number).verifier().clone(),
        url: None,
    };
    Policy::of((1..=3).map(listed).collect(), quorum).unwrap()
}

fn rig(count: u64, seen: Seen, quorum: usize) -> Rig {
    let mut config = AgentConfig::new("test", signer().verifier().clone());
    config.witnesses = Some(policy(quorum));
    Rig::configured(batches(&ChainHead::genesis(host()), count, 0), seen, config)
}

/// Connected and welcomed, with everything sent.
fn open(count: u64, quorum: usize) -> (Rig, ConnectionId) {
    let mut rig = rig(count, Seen::nothing(), quorum);
    let id = rig.connect(0);
    rig.welcome(0, id, 0, Hash::default());
    rig.sent(0);
    (rig, id)
}

/// Receipts whose checkpoint these witnesses cosigned.
fn cosigned(mut bare: Receipts, by: &[u8]) -> Receipts {
    let head = checkpoint::open(&bare.checkpoint, signer().verifier()).unwrap();
    let note = String::from_utf8(bare.checkpoint).unwrap();
    let cosigned = by.iter().fold(note, |note, number| {
        with_line(&note, &cosign(&witness(*number), &head, 9))
    });
    bare.checkpoint = cosigned.into_bytes();
    bare
}

/// Tells of receipts and makes their checkpoint durable; what was trimmed through.
fn prove(rig: &mut Rig, id: ConnectionId, receipts: Receipts) -> Option<Sequence> {
    let checkpoint = receipts.checkpoint.clone();
    let effects = rig.tell(0, id, &Message::Receipts(receipts));
    assert_eq!(
        effects,
        [AgentEffect::Remember { checkpoint }],
        "remembered in any case"
    );
    rig.session.handle_remembered();
    let trimmed = rig.effects(0).into_iter().find_map(|effect| match effect {
        AgentEffect::Trim { through } => Some(through),
        _ => None,
    });
    if let Some(through) = trimmed {
        rig.spool.trim(through);
        run_disk(&mut rig.spool);
    }
    trimmed
}

fn judged(rig: &Rig) -> (u64, bool, Vec<String>) {
    let last = rig.events.iter().rev().find_map(|event| match event {
        AgentEvent::Judged { size, quorum } => Some((*size, quorum.satisfied, quorum.missing.clone())),
        _ => None,
    });
    last.unwrap()
}

fn proven(rig: &Rig) -> Sequence {
    let last = rig.events.iter().rev().find_map(|event| match event {
        AgentEvent::Proven { before, .. } => Some(*before),
        _ => None,
    });
    last.unwrap()
}

#[test]
fn too_few_cosignatures_trim_nothing_and_the_next_checkpoint_with_enough_covers_all() {
    let (mut rig, id) = open(3, 2);
    let leaves = rig.leaves();
    let first = receipts(&leaves[..1], 0, 0, 0..1, &signer());
    assert_eq!(prove(&mut rig, id, cosigned(first, &[2])), None);
    let missing = vec!["witness.example/w1".into(), "witness.example/w3".into()];
    assert_eq!(judged(&rig), (1, false, missing));
    assert_eq!((proven(&rig), rig.spool.oldest()), (Sequence(0), Sequence(0)));
    assert!(!rig.session.halted() && rig.session.shipping(), "it goes on");
    // One of the other witnesses is back: what was proven before is covered by the checkpoint that extends it.
    let second = receipts(&leaves[..2], 1, 1, 1..2, &signer());
    assert_eq!(prove(&mut rig, id, cosigned(second, &[2, 3])), Some(Sequence(1)));
    assert!(judged(&rig).1);
    assert_eq!((proven(&rig), rig.spool.oldest()), (Sequence(2), Sequence(2)));
    // And gone again.
    let third = receipts(&leaves, 2, 2, 2..3, &signer());
    prove(&mut rig, id, cosigned(third, &[]));
    assert_eq!((proven(&rig), rig.spool.oldest()), (Sequence(2), Sequence(2)));
}

/// Receipts need not name a batch: the cosignatures alone may come later, for the same checkpoint.
#[test]
fn the_same_checkpoint_with_more_cosignatures_is_enough() {
    let (mut rig, id) = open(2, 3);
    let leaves = rig.leaves();
    let bare = receipts(&leaves, 0, 0, 0..2, &signer());
    assert_eq!(prove(&mut rig, id, cosigned(bare, &[1, 2])), None);
    let again = receipts(&leaves, 2, 2, 0..0, &signer());
    assert_eq!(
        prove(&mut rig, id, cosigned(again, &[3, 1, 2])),
        Some(Sequence(1))
    );
}

/// While the disk is slow, a newer checkpoint that too few cosigned replaces one that waits to be remembered:
/// what the older one allowed to trim is still trimmed, for the newer one extends it.
#[test]
fn a_newer_checkpoint_takes_nothing_back() {
    let (mut rig, id) = open(3, 1);
    let leaves = rig.leaves();
    let remember = |rig: &mut Rig, note: Receipts| rig.tell(0, id, &Message::Receipts(note));
    remember(&mut rig, receipts(&leaves[..1], 0, 0, 0..1, &signer()));
    remember(
        &mut rig,
        cosigned(receipts(&leaves[..2], 1, 1, 1..2, &signer()), &[1]),
    );
    remember(&mut rig, receipts(&leaves, 2, 2, 2..3, &signer()));
    rig.session.handle_remembered();
    let newest = receipts(&leaves, 2, 2, 2..3, &signer()).checkpoint;
    assert_eq!(rig.effects(0), [AgentEffect::Remember { checkpoint: newest }]);
    rig.session.handle_remembered();
    assert_eq!(rig.effects(0), [AgentEffect::Trim { through: Sequence(1) }]);
}

/// What nobody cosigned is followed all the same: it binds this run and the next one.
#[test]
fn an_uncosigned_view_binds_the_agent_so_that_a_fork_is_found() {
    let (mut first, id) = open(2, 1);
    let leaves = first.leaves();
    let bare = receipts(&leaves, 0, 0, 0..2, &signer());
    let note = bare.checkpoint.clone();
    assert_eq!(prove(&mut first, id, bare), None);
    let mut forked = leaves.clone();
    forked[0] = crate::merkle::leaf_hash(b"other");
    forked.push(crate::merkle::leaf_hash(b"more"));
    let fork = cosigned(receipts(&forked, 2, 2, 0..0, &signer()), &[1, 2, 3]);
    first.tell(0, id, &Message::Receipts(fork.clone()));
    assert!(matches!(
        first.fault(),
        AgentFault::Inconsistent { seen: 2, size: 3, .. }
    ));
    let seen = Seen::remembered(&note, signer().verifier()).unwrap();
    let mut next = rig(2, seen, 1);
    let id = next.connect(0);
    next.welcome(0, id, 0, Hash::default());
    next.tell(0, id, &Message::Receipts(fork));
    assert!(matches!(
        next.fault(),
        AgentFault::Inconsistent { seen: 2, size: 3, .. }
    ));
}

#[test]
fn a_cosignature_that_does_not_verify_is_no_missing_one() {
    let (mut rig, id) = open(1, 1);
    let leaves = rig.leaves();
    let mut bad = cosigned(receipts(&leaves, 0, 0, 0..1, &signer()), &[1]);
    // Cosigned for another checkpoint.
    let other = cosigned(receipts(&leaves[..0], 0, 0, 0..0, &signer()), &[2]).checkpoint;
    let line = String::from_utf8(other).unwrap();
    bad.checkpoint
        .extend_from_slice(line.lines().last().unwrap().as_bytes());
    bad.checkpoint.push(b'\n');
    rig.tell(0, id, &Message::Receipts(bad));
    let cause = CheckpointError::Note(NoteError::BadSignature("witness.example/w2".into()));
    assert_eq!(rig.fault(), &AgentFault::Checkpoint(cause));
    assert_eq!(rig.spool.oldest(), Sequence(0));
}

proptest! {
    /// Whoever cosigns what: nothing is trimmed beyond the last checkpoint that enough witnesses cosigned, and
    /// everything up to it is.
    #[test]
    fn prop_exactly_what_enough_witnesses_cover_is_trimmed(
        quorum in 1usize..=3, by in prop::collection::vec(prop::collection::btree_set(1u8..=3, 0..=3), 1..8),
    ) {
        let (mut rig, id) = open(by.len() as u64, quorum);
        // More than a window holds is sent as the collector stores it.
        let all = rig.leaves();
        let mut covered = 0;
        for (at_leaf, names) in by.iter().enumerate() {
            rig.tell(0, id, &Message::Stored { through: Sequence(at_leaf as u64) });
            rig.sent(0);
            let names: Vec<u8> = names.iter().copied().collect();
            let bare = receipts(&all[..=at_leaf], at_leaf, at_leaf as u64, at_leaf..at_leaf + 1, &signer());
            prove(&mut rig, id, cosigned(bare, &names));
            if names.len() >= quorum {
                covered = at_leaf as u64 + 1;
            }
            prop_assert_eq!(rig.spool.oldest(), Sequence(covered));
            prop_assert_eq!(proven(&rig), Sequence(covered));
        }
        prop_assert_eq!(rig.session.poll_timeout().is_some(), true, "it goes on at {:?}", at(0));
    }
}
