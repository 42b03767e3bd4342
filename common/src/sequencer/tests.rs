//! Admission, grouping, and what is announced when.

use alloc::{vec, vec::Vec};

use super::*;
use crate::{
    batch::{HostKeys, SignedHeader, UnverifiedHeader},
    ids::WallNanos,
    journal::SealedBatch,
    note::SignerKey,
    signature::LastKey,
    statement::{Said, StatementFault},
    testing::{batches, host},
    text::Text,
};

fn genesis() -> ChainHead {
    ChainHead::genesis(host())
}

fn checked(batch: &SealedBatch) -> CheckedBatch {
    check_batch(
        &host(),
        batch.header.bytes(),
        batch.body.clone(),
        &mut LastKey::default(),
    )
    .unwrap()
}

fn config() -> SequencerConfig {
    SequencerConfig {
        group_batches: 2,
        group_wait_ns: 10,
        publish_ns: 100,
        retry_ns: 50,
        ..SequencerConfig::default()
    }
}

fn sequencer() -> Sequencer {
    Sequencer::new(config(), 0, BootNanos(0))
}

fn at(now: u64) -> BootNanos {
    BootNanos(now)
}

fn group(step: Option<Step>) -> Group {
    match step {
        Some(Step::Commit(group)) => group,
        other => panic!("a commit was due, not {other:?}"),
    }
}

#[test]
fn a_group_waits_for_its_time_or_its_size() {
    let all = batches(&genesis(), 3, 0);
    let mut sequencer = sequencer();
    assert_eq!(sequencer.admit(at(5), checked(&all[0])), Ok(Admission::Accepted));
    assert!(sequencer.poll_step(at(9)).is_none());
    assert_eq!(sequencer.poll_timeout(), Some(at(10)));
    assert_eq!(sequencer.admit(at(6), checked(&all[1])), Ok(Admission::Accepted));
    // Full: no waiting. One step at a time.
    assert_eq!(group(sequencer.poll_step(at(6))).entries.len(), 2);
    assert_eq!(sequencer.admit(at(6), checked(&all[2])), Ok(Admission::Accepted));
    assert!(sequencer.poll_step(at(100)).is_none());
    assert_eq!(
        sequencer.poll_stored(),
        None,
        "nothing is stored before it is durable"
    );
    sequencer.handle_commit(at(100), Ok(LeafIndex(0)));
    assert_eq!(sequencer.poll_stored(), Some((host(), Sequence(1))));
    assert_eq!(sequencer.position(&host()).0, Sequence(2));
}

#[test]
fn a_group_is_committed_at_once_after_a_pause_and_shares_its_flush_under_load() {
    let all = batches(&genesis(), 3, 0);
    let mut sequencer = sequencer();
    sequencer.admit(at(1000), checked(&all[0])).unwrap();
    group(sequencer.poll_step(at(1000)));
    // Came while the disk was busy: others may join it, until it has waited its time.
    sequencer.admit(at(1003), checked(&all[1])).unwrap();
    sequencer.handle_commit(at(1008), Ok(LeafIndex(0)));
    assert!(matches!(sequencer.poll_step(at(1008)), Some(Step::Publish)));
    assert!(sequencer.poll_step(at(1012)).is_none());
    assert_eq!(sequencer.poll_timeout(), Some(at(1013)));
    group(sequencer.poll_step(at(1013)));
    sequencer.handle_commit(at(1015), Ok(LeafIndex(1)));
    // Came soon after: so much after the last commit, not after itself.
    sequencer.admit(at(1020), checked(&all[2])).unwrap();
    assert_eq!(sequencer.poll_timeout(), Some(at(1025)));
    group(sequencer.poll_step(at(1025)));
}

#[test]
fn publishing_comes_first_when_due_and_names_what_it_covers() {
    let all = batches(&genesis(), 3, 0);
    let mut sequencer = sequencer();
    for batch in &all[..2] {
        sequencer.admit(at(0), checked(batch)).unwrap();
    }
    group(sequencer.poll_step(at(0)));
    sequencer.handle_commit(at(1), Ok(LeafIndex(7)));
    sequencer.admit(at(1), checked(&all[2])).unwrap();
    assert!(matches!(sequencer.poll_step(at(100)), Some(Step::Publish)));
    assert_eq!(sequencer.poll_published(), None);
    // The checkpoint ends between the two leaves.
    sequencer.handle_publish(at(101), Ok(8));
    assert_eq!(sequencer.poll_published(), Some((host(), Sequence(1))));
    assert_eq!(sequencer.position(&host()).2, Sequence(1));
    assert_eq!(sequencer.published_size(), 8);
    group(sequencer.poll_step(at(102)));
}

#[test]
fn the_same_batch_again_is_no_error_and_another_one_is_equivocation() {
    let all = batches(&genesis(), 2, 0);
    let other = batches(&genesis(), 2, 9);
    let mut sequencer = sequencer();
    sequencer.admit(at(0), checked(&all[0])).unwrap();
    let check = |sequencer: &mut Sequencer| {
        assert_eq!(sequencer.admit(at(1), checked(&all[0])), Ok(Admission::Waiting));
        let rejected = sequencer.admit(at(1), checked(&other[0])).unwrap_err();
        assert_eq!(rejected.refusal.code, RefusalCode::Equivocation);
        assert_eq!(rejected.offending, other[0].header.bytes());
        assert_eq!(rejected.held, all[0].header.bytes());
    };
    check(&mut sequencer);
    group(sequencer.poll_step(at(20)));
    // Under way is held as well.
    check(&mut sequencer);
    sequencer.handle_commit(at(21), Ok(LeafIndex(0)));
    let Ok(Admission::Lookup(again)) = sequencer.admit(at(22), checked(&other[0])) else {
        panic!("a durable sequence is looked up");
    };
    let rejected = Sequencer::judge_stored(&again, all[0].header.bytes()).unwrap_err();
    assert_eq!(rejected.refusal.code, RefusalCode::Equivocation);
    assert_eq!(Sequencer::judge_stored(&again, other[0].header.bytes()), Ok(()));
}

#[test]
fn misplaced_batches_are_named_and_move_nothing() {
    let all = batches(&genesis(), 3, 0);
    let fork = batches(&genesis(), 3, 9);
    let mut sequencer = sequencer();
    let mut code = |batch: &SealedBatch| match sequencer.admit(at(0), checked(batch)) {
        Ok(admission) => panic!("{admission:?}"),
        Err(rejected) => (rejected.refusal.code, rejected.offending.is_empty()),
    };
    assert_eq!(code(&all[1]), (RefusalCode::Gap, true));
    sequencer.admit(at(0), checked(&all[0])).unwrap();
    let rejected = sequencer.admit(at(0), checked(&fork[1])).unwrap_err();
    assert_eq!(rejected.refusal.code, RefusalCode::Fork);
    assert_eq!(
        rejected.offending,
        fork[1].header.bytes(),
        "a fork is kept as evidence"
    );
    assert_eq!(sequencer.admit(at(0), checked(&all[1])), Ok(Admission::Accepted));
}

#[test]
fn checks_name_what_is_wrong_with_a_batch_by_itself() {
    let batch = &batches(&genesis(), 1, 0)[0];
    let code = |header: &[u8], body: &[u8]| {
        check_batch(&host(), header, body.to_vec(), &mut LastKey::default())
            .unwrap_err()
            .code
    };
    let header = batch.header.bytes();
    assert_eq!(code(b"nonsense", &batch.body), RefusalCode::Malformed);
    let mut forged = header.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(code(&forged, &batch.body), RefusalCode::Signature);
    let mut body = batch.body.clone();
    *body.last_mut().unwrap() ^= 1;
    assert_eq!(code(header, &body), RefusalCode::Body);
    let stranger = HostId([7; 32]);
    let refusal = check_batch(&stranger, header, batch.body.clone(), &mut LastKey::default()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Host);
}

#[test]
fn no_space_keeps_the_group_in_order_and_tries_again() {
    let all = batches(&genesis(), 3, 0);
    let mut sequencer = sequencer();
    for batch in &all[..2] {
        sequencer.admit(at(0), checked(batch)).unwrap();
    }
    let first = group(sequencer.poll_step(at(0)));
    sequencer.admit(at(0), checked(&all[2])).unwrap();
    sequencer.handle_commit(at(1), Err((StepError::NoSpace, first)));
    assert!(sequencer.no_space());
    assert!(sequencer.poll_step(at(50)).is_none());
    assert_eq!(sequencer.poll_timeout(), Some(at(51)));
    let again = group(sequencer.poll_step(at(51)));
    let order: Vec<u64> = again.batches().map(|b| b.header().fields().sequence.0).collect();
    assert_eq!(order, vec![0, 1]);
    sequencer.handle_commit(at(52), Ok(LeafIndex(0)));
    assert!(!sequencer.no_space());
}

#[test]
fn an_unknown_outcome_is_the_end() {
    let all = batches(&genesis(), 2, 0);
    let mut sequencer = sequencer();
    sequencer.admit(at(0), checked(&all[0])).unwrap();
    let lost = group(sequencer.poll_step(at(20)));
    sequencer.handle_commit(at(21), Err((StepError::Unknown("I/O error".into()), lost)));
    assert_eq!(sequencer.failed().unwrap().step, "commit");
    assert_eq!(sequencer.poll_stored(), None);
    assert!(sequencer.poll_step(at(1000)).is_none());
    assert_eq!(sequencer.poll_timeout(), None);
    let rejected = sequencer.admit(at(22), checked(&all[1])).unwrap_err();
    assert_eq!(rejected.refusal.code, RefusalCode::Internal);
}

#[test]
fn what_waits_is_bounded() {
    let all = batches(&genesis(), 2, 0);
    let mut sequencer = Sequencer::new(
        SequencerConfig {
            waiting_bytes_max: checked(&all[0]).bytes() + 1,
            ..config()
        },
        0,
        at(0),
    );
    sequencer.admit(at(0), checked(&all[0])).unwrap();
    let rejected = sequencer.admit(at(0), checked(&all[1])).unwrap_err();
    assert_eq!(rejected.refusal.code, RefusalCode::Busy);
    group(sequencer.poll_step(at(20)));
    assert_eq!(sequencer.admit(at(20), checked(&all[1])), Ok(Admission::Accepted));
}

#[test]
fn a_restored_chain_continues_where_the_ledger_left_it() {
    let all = batches(&genesis(), 3, 0);
    let mut sequencer = Sequencer::new(config(), 2, at(0));
    let last = SignedHeader::check(UnverifiedHeader::parse(all[1].header.bytes()).unwrap()).unwrap();
    let last = HostKeys::new(host()).check(last).unwrap();
    sequencer.restore(&last).unwrap();
    assert_eq!(
        sequencer.position(&host()),
        (Sequence(2), all[1].header.hash(), Sequence(2))
    );
    assert!(matches!(
        sequencer.admit(at(0), checked(&all[1])),
        Ok(Admission::Lookup(_))
    ));
    assert_eq!(sequencer.admit(at(0), checked(&all[2])), Ok(Admission::Accepted));
}

fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
}

fn statement(sequencer: &Sequencer) -> VerifiedStatement {
    let said = Said::HostEnrolled {
        host: host(),
        name: Text(b"web-1".to_vec()),
        enrolled_at: WallNanos(1),
    };
    sequencer
        .statements()
        .write(said, WallNanos(2), 3, &key())
        .unwrap()
}

#[test]
fn statements_and_batches_share_a_group_in_the_order_they_came() {
    let all = batches(&genesis(), 1, 0);
    let mut sequencer = sequencer();
    let first = statement(&sequencer);
    sequencer.admit_statement(at(0), first.clone()).unwrap();
    sequencer.admit(at(0), checked(&all[0])).unwrap();
    let committed = group(sequencer.poll_step(at(0)));
    let entries: Vec<&[u8]> = committed.entries.iter().map(Admitted::entry).collect();
    assert_eq!(entries, [first.bytes(), all[0].header.bytes()]);
    assert_eq!(
        sequencer.poll_stated(),
        None,
        "nothing is stated before it is durable"
    );
    sequencer.handle_commit(at(1), Ok(LeafIndex(0)));
    assert_eq!(sequencer.poll_stated(), Some(StatementNumber(0)));
    assert_eq!(sequencer.poll_stored(), Some((host(), Sequence(0))));
    assert!(matches!(sequencer.poll_step(at(200)), Some(Step::Publish)));
    sequencer.handle_publish(at(200), Ok(2));
    assert_eq!(sequencer.poll_published(), Some((host(), Sequence(1))));
}

#[test]
fn statements_alone_are_committed_and_published() {
    let mut sequencer = sequencer();
    let first = statement(&sequencer);
    sequencer.admit_statement(at(0), first.clone()).unwrap();
    assert!(matches!(
        sequencer.admit_statement(at(0), first.clone()),
        Err(StatementFault::Number { .. })
    ));
    assert_eq!(sequencer.poll_timeout(), Some(at(10)));
    let full = group(sequencer.poll_step(at(10)));
    sequencer.handle_commit(at(11), Err((StepError::NoSpace, full)));
    let second = statement(&sequencer);
    sequencer.admit_statement(at(12), second.clone()).unwrap();
    let again = group(sequencer.poll_step(at(100)));
    let entries: Vec<&[u8]> = again.entries.iter().map(Admitted::entry).collect();
    assert_eq!(
        entries,
        [first.bytes(), second.bytes()],
        "a full disk keeps the order"
    );
    sequencer.handle_commit(at(101), Ok(LeafIndex(0)));
    assert!(matches!(sequencer.poll_step(at(200)), Some(Step::Publish)));
}

#[test]
fn restored_statements_continue_where_the_ledger_left_them() {
    let mut before = sequencer();
    let first = statement(&before);
    before.admit_statement(at(0), first.clone()).unwrap();
    let mut restored = Sequencer::new(config(), 1, at(0));
    restored.restore_statement(&first).unwrap();
    assert_eq!(restored.statements(), before.statements());
    let next = statement(&restored);
    assert_eq!(next.fields().number, StatementNumber(1));
    assert_eq!(next.fields().previous, first.hash());
}

#[test]
fn commits_go_on_while_a_checkpoint_waits_for_its_witnesses() {
    let mut sequencer = sequencer();
    let all = batches(&genesis(), 4, 0);
    let mut all = all.iter().map(checked);
    let mut next = |sequencer: &mut Sequencer| {
        sequencer.admit(at(200), all.next().unwrap()).unwrap();
        let Some(Step::Commit(_)) = sequencer.poll_step(at(1000)) else {
            panic!("no commit beside the publication");
        };
    };
    next(&mut sequencer);
    sequencer.handle_commit(at(200), Ok(LeafIndex(0)));
    assert!(matches!(sequencer.poll_step(at(1000)), Some(Step::Publish)));
    next(&mut sequencer);
    sequencer.handle_commit(at(1000), Ok(LeafIndex(1)));
    assert!(
        sequencer.poll_step(at(5000)).is_none(),
        "one publication at a time"
    );
    // Withheld: nobody is paused, it is tried again after a while.
    sequencer.handle_publish(at(1000), Err(StepError::Withheld));
    assert!(!sequencer.no_space() && sequencer.poll_published().is_none());
    next(&mut sequencer);
    sequencer.handle_commit(at(1000), Ok(LeafIndex(2)));
    let due = sequencer.poll_timeout().unwrap();
    assert!(due > at(1000));
    assert!(matches!(sequencer.poll_step(due), Some(Step::Publish)));
    next(&mut sequencer);
    sequencer.handle_commit(due, Ok(LeafIndex(3)));
    // It covers what was durable when it was made, not what came since.
    sequencer.handle_publish(due, Ok(3));
    assert_eq!(sequencer.poll_published(), Some((host(), Sequence(3))));
    assert_eq!(sequencer.poll_published(), None);
}

#[test]
fn what_a_recovered_ledger_has_not_published_is_published_first() {
    let mut sequencer = Sequencer::new(config(), 1, at(0));
    let all = batches(&genesis(), 3, 0);
    let last = SignedHeader::check(UnverifiedHeader::parse(all[2].header.bytes()).unwrap()).unwrap();
    let last = HostKeys::new(host()).check(last).unwrap();
    sequencer.restore(&last).unwrap();
    for leaf in 1..3 {
        sequencer.restore_unpublished(LeafIndex(leaf), Some((host(), Sequence(leaf))));
    }
    assert_eq!(
        sequencer.position(&host()).2,
        Sequence(1),
        "receipts are owed from here on"
    );
    assert!(matches!(sequencer.poll_step(at(1000)), Some(Step::Publish)));
    sequencer.handle_publish(at(1000), Ok(3));
    assert_eq!(sequencer.poll_published(), Some((host(), Sequence(3))));
}
