//! The agent's machine against a collector that is honest, absent, broken or lying.

mod keys;

use alloc::{string::ToString, vec::Vec};

use crate::{
    batch::ChainHead,
    checkpoint::Checkpoint,
    ids::{BootNanos, Hash, LeafIndex, Nonce, Sequence},
    journal::SealedBatch,
    merkle::{consistency_proof, inclusion_proof, leaf_hash, root_of},
    note::SignerKey,
    session::{
        AgentConfig, AgentEffect, AgentEvent, AgentFault, AgentSession, ConnectionId, EndReason,
        FrameDecoder, Message, PROTOCOL_VERSION, Proven, Receipts, Refusal, RefusalCode, Seen, Welcome,
        Window,
    },
    spool::{Spool, SpoolConfig},
    testing::{SECOND, batches, host, run_disk, spool_of},
};

pub(super) fn signer() -> SignerKey {
    SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
}

pub(super) fn at(now: u64) -> BootNanos {
    BootNanos(now)
}

/// A ledger of these entries, to make any receipts from, true or not.
pub(super) fn receipts(
    leaves: &[Hash],
    since: usize,
    first: u64,
    range: core::ops::Range<usize>,
    key: &SignerKey,
) -> Receipts {
    let note = Checkpoint {
        origin: key.verifier().name().to_string(),
        size: leaves.len() as u64,
        root: root_of(leaves),
        extensions: Vec::new(),
    };
    Receipts {
        checkpoint: note.sign(key).unwrap().into_bytes(),
        consistency: consistency_proof(leaves, since, leaves.len()).unwrap_or_default(),
        proven: range
            .zip(first..)
            .map(|(leaf, sequence)| Proven {
                sequence: Sequence(sequence),
                leaf: LeafIndex(leaf as u64),
                proof: inclusion_proof(leaves, leaf).unwrap(),
            })
            .collect(),
    }
}

/// An agent with `count` batches in its spool.
pub(super) struct Rig {
    pub(super) all: Vec<SealedBatch>,
    pub(super) spool: Spool,
    pub(super) session: AgentSession,
    pub(super) events: Vec<AgentEvent>,
}

impl Rig {
    pub(super) fn new(count: u64) -> Self {
        Self::with(batches(&ChainHead::genesis(host()), count, 0), Seen::nothing())
    }

    pub(super) fn with(all: Vec<SealedBatch>, seen: Seen) -> Self {
        Self::configured(all, seen, AgentConfig::new("test", signer().verifier().clone()))
    }

    pub(super) fn configured(all: Vec<SealedBatch>, seen: Seen, config: AgentConfig) -> Self {
        Self {
            spool: spool_of(SpoolConfig::default(), &all),
            all,
            session: AgentSession::new(config, seen, 1, at(0)),
            events: Vec::new(),
        }
    }

    pub(super) fn leaves(&self) -> Vec<Hash> {
        self.all
            .iter()
            .map(|batch| leaf_hash(batch.header.bytes()))
            .collect()
    }

    /// Everything asked for now; loads are answered at once.
    pub(super) fn effects(&mut self, now: u64) -> Vec<AgentEffect> {
        let mut out = Vec::new();
        while let Some(effect) = self.session.poll_effect(at(now), &self.spool) {
            if let AgentEffect::Load { sequence, .. } = effect {
                let batch = &self.all[usize::try_from(sequence.0).unwrap()];
                let (header, body) = (batch.header.bytes(), &batch.body);
                self.session
                    .handle_loaded(at(now), sequence, header, body, &self.spool);
            } else {
                out.push(effect);
            }
        }
        self.events
            .extend(core::iter::from_fn(|| self.session.poll_event()));
        out
    }

    /// Everything transmitted now, effects carried out on the way.
    pub(super) fn sent(&mut self, now: u64) -> Vec<Message> {
        let mut decoder = FrameDecoder::default();
        loop {
            self.effects(now);
            let Some((_, bytes)) = self.session.poll_transmit() else {
                break;
            };
            decoder.push(&bytes);
        }
        core::iter::from_fn(|| decoder.next_message().unwrap()).collect()
    }

    pub(super) fn connect(&mut self, now: u64) -> ConnectionId {
        let id = match self.effects(now).as_slice() {
            [AgentEffect::Connect(id)] => *id,
            other => panic!("a connection was due, not {other:?}"),
        };
        self.session.handle_connected(at(now), id, &self.spool);
        id
    }

    pub(super) fn tell(&mut self, now: u64, id: ConnectionId, message: &Message) -> Vec<AgentEffect> {
        let bytes = message.encode().unwrap();
        self.session.handle_bytes(at(now), id, &bytes, &self.spool);
        self.effects(now)
    }

    pub(super) fn welcome(&mut self, now: u64, id: ConnectionId, next: u64, head: Hash) -> Vec<AgentEffect> {
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            nonce: Nonce([5; 32]),
            next: Sequence(next),
            head,
            window: Window {
                batches: 3,
                bytes: 1 << 20,
            },
        };
        self.tell(now, id, &Message::Welcome(welcome))
    }

    /// Connected and welcomed from the first batch on.
    fn open(count: u64) -> (Self, ConnectionId) {
        let mut rig = Self::new(count);
        let id = rig.connect(0);
        rig.welcome(0, id, 0, Hash::default());
        (rig, id)
    }

    pub(super) fn fault(&self) -> &AgentFault {
        match self.events.last() {
            Some(AgentEvent::Halted(fault)) => fault,
            other => panic!("it did not halt: {other:?}"),
        }
    }

    fn end(&self) -> (&EndReason, u64) {
        match self.events.last() {
            Some(AgentEvent::Ended { reason, retry_in_ns }) => (reason, *retry_in_ns),
            other => panic!("it did not end: {other:?}"),
        }
    }
}

fn sequences(messages: &[Message]) -> Vec<u64> {
    messages
        .iter()
        .filter_map(|message| match message {
            Message::Batch { header, .. } => {
                let parsed = crate::batch::UnverifiedHeader::parse(header).unwrap();
                Some(parsed.claimed().sequence.0)
            }
            _ => None,
        })
        .collect()
}

#[test]
fn it_says_where_its_chain_stands_and_sends_from_where_it_is_told() {
    let mut rig = Rig::new(4);
    let id = rig.connect(0);
    let hello = rig.sent(0);
    assert!(matches!(hello.as_slice(), [Message::Hello(hello)]
            if hello.next == Sequence(4) && hello.oldest == Sequence(0) && hello.head == rig.all[3].header.hash()));
    let effects = rig.welcome(0, id, 2, rig.all[1].header.hash());
    assert_eq!(effects, [AgentEffect::Nonce(Nonce([5; 32]))]);
    assert_eq!(sequences(&rig.sent(0)), [2, 3]);
}

#[test]
fn the_window_holds_it_back_until_batches_are_stored() {
    let (mut rig, id) = Rig::open(8);
    assert_eq!(sequences(&rig.sent(0)), [0, 1, 2]);
    assert!(sequences(&rig.sent(0)).is_empty());
    rig.tell(0, id, &Message::Stored { through: Sequence(1) });
    assert_eq!(sequences(&rig.sent(0)), [3, 4]);
    rig.tell(0, id, &Message::Credit(Window { batches: 0, bytes: 0 }));
    rig.tell(0, id, &Message::Stored { through: Sequence(4) });
    assert!(sequences(&rig.sent(0)).is_empty());
}

#[test]
fn it_trims_only_what_is_proven_and_remembered() {
    let (mut rig, id) = Rig::open(3);
    rig.sent(0);
    assert_eq!(rig.tell(0, id, &Message::Stored { through: Sequence(2) }), []);
    let proof = receipts(&rig.leaves(), 0, 0, 0..2, &signer());
    let checkpoint = proof.checkpoint.clone();
    assert_eq!(
        rig.tell(0, id, &Message::Receipts(proof)),
        [AgentEffect::Remember { checkpoint }]
    );
    assert_eq!(rig.effects(SECOND), [], "not before the checkpoint is durable");
    rig.session.handle_remembered();
    assert_eq!(rig.effects(SECOND), [AgentEffect::Trim { through: Sequence(1) }]);
    rig.spool.trim(Sequence(1));
    run_disk(&mut rig.spool);
    // The next receipts continue from there, under the same or a later checkpoint.
    let proof = receipts(&rig.leaves(), 3, 2, 2..3, &signer());
    assert!(matches!(
        rig.tell(0, id, &Message::Receipts(proof)).as_slice(),
        [AgentEffect::Remember { .. }]
    ));
}

/// A full disk delays trimming; it must not end it, for a full spool brings no further receipts.
#[test]
fn a_checkpoint_that_could_not_be_remembered_is_remembered_later() {
    let (mut rig, id) = Rig::open(2);
    rig.sent(0);
    let proof = receipts(&rig.leaves(), 0, 0, 0..2, &signer());
    let remember = AgentEffect::Remember {
        checkpoint: proof.checkpoint.clone(),
    };
    assert_eq!(
        rig.tell(0, id, &Message::Receipts(proof)),
        core::slice::from_ref(&remember)
    );
    rig.session.handle_remember_failed(at(5));
    assert_eq!(rig.effects(5), []);
    assert_eq!(rig.session.poll_timeout(), Some(at(5 + SECOND)));
    rig.session.handle_timeout(at(5 + SECOND));
    assert_eq!(rig.effects(5 + SECOND), [remember]);
    rig.session.handle_remembered();
    assert_eq!(
        rig.effects(5 + SECOND),
        [AgentEffect::Trim { through: Sequence(1) }]
    );
    assert_eq!(rig.session.poll_timeout(), Some(at(10 * SECOND)));
}

fn distrusts(message: &Receipts) -> AgentFault {
    let mut rig = Rig::open(3).0;
    let id = ConnectionId(1);
    rig.sent(0);
    let good = receipts(&rig.leaves(), 0, 0, 0..1, &signer());
    rig.tell(0, id, &Message::Receipts(good.clone()));
    rig.session.handle_remembered();
    rig.effects(0);
    rig.spool.trim(Sequence(0));
    let effects = rig.tell(0, id, &Message::Receipts(message.clone()));
    let fault = rig.fault().clone();
    let offending = Message::Receipts(message.clone()).encode().unwrap();
    assert_eq!(
        effects,
        [
            AgentEffect::Disconnect(id),
            AgentEffect::Evidence {
                fault: fault.clone(),
                remembered: good.checkpoint,
                offending
            }
        ]
    );
    assert!(rig.session.halted());
    assert_eq!(rig.session.poll_timeout(), None);
    assert_eq!(rig.effects(u64::MAX), [], "nothing is trimmed, nothing is sent");
    fault
}

#[test]
fn a_collector_that_forks_or_lies_is_not_trusted_any_more() {
    let all = batches(&ChainHead::genesis(host()), 3, 0);
    let leaves: Vec<Hash> = all.iter().map(|batch| leaf_hash(batch.header.bytes())).collect();
    // A ledger in which another entry stands first: every proof in it is true, and it is not the ledger seen.
    let mut forked = leaves.clone();
    forked[0] = leaf_hash(b"other");
    assert!(matches!(
        distrusts(&receipts(&forked, 3, 1, 1..3, &signer())),
        AgentFault::Inconsistent { seen: 3, size: 3, .. }
    ));
    // An older copy of the ledger.
    assert!(matches!(
        distrusts(&receipts(&leaves[..2], 2, 1, 1..2, &signer())),
        AgentFault::Inconsistent { seen: 3, size: 2, .. }
    ));
    // A proof for another leaf than the batch.
    assert!(matches!(
        distrusts(&receipts(&leaves, 3, 1, 2..3, &signer())),
        AgentFault::NotIncluded {
            sequence: Sequence(1),
            ..
        }
    ));
    let other = SignerKey::from_seed("ledger.example/one", &[8; 32]).unwrap();
    assert!(matches!(
        distrusts(&receipts(&leaves, 3, 1, 1..3, &other)),
        AgentFault::Checkpoint(_)
    ));
}

/// A restart remembers what was seen: the same fork is found by the next run.
#[test]
fn a_remembered_checkpoint_binds_the_next_run() {
    let all = batches(&ChainHead::genesis(host()), 2, 0);
    let leaves: Vec<Hash> = all.iter().map(|batch| leaf_hash(batch.header.bytes())).collect();
    let note = receipts(&leaves, 0, 0, 0..0, &signer()).checkpoint;
    let seen = Seen::remembered(&note, signer().verifier()).unwrap();
    let mut rig = Rig::with(all, seen);
    let id = rig.connect(0);
    assert!(matches!(rig.sent(0).as_slice(), [Message::Hello(hello)] if hello.seen_size == 2));
    rig.welcome(0, id, 0, Hash::default());
    let forked = [leaf_hash(b"x"), leaf_hash(b"y"), leaf_hash(b"z")];
    rig.tell(
        0,
        id,
        &Message::Receipts(receipts(&forked, 2, 0, 0..0, &signer())),
    );
    assert!(matches!(
        rig.fault(),
        AgentFault::Inconsistent { seen: 2, size: 3, .. }
    ));
}

#[test]
fn chains_that_do_not_meet_are_named() {
    let welcomed = |next: u64, head: Hash| {
        let mut rig = Rig::new(3);
        rig.spool.trim(Sequence(0));
        run_disk(&mut rig.spool);
        let id = rig.connect(0);
        rig.sent(0);
        rig.welcome(0, id, next, head);
        rig.effects(0);
        rig.fault().clone()
    };
    let own = batches(&ChainHead::genesis(host()), 3, 0);
    assert!(matches!(
        welcomed(4, Hash([1; 32])),
        AgentFault::RolledBack { .. }
    ));
    assert!(matches!(
        welcomed(0, Hash::default()),
        AgentFault::CollectorLost { .. }
    ));
    assert!(matches!(
        welcomed(3, Hash([1; 32])),
        AgentFault::ChainDiffers { .. }
    ));
    // Within the chain the difference shows when the batch is read.
    let fault = welcomed(2, Hash([1; 32]));
    let ours = own[1].header.hash();
    assert_eq!(
        fault,
        AgentFault::ChainDiffers {
            next: Sequence(2),
            theirs: Hash([1; 32]),
            ours
        }
    );
}

#[test]
fn a_batch_that_is_damaged_here_is_named_when_it_is_needed() {
    let (mut rig, id) = Rig::open(5);
    rig.sent(0);
    rig.spool.handle_damaged(Sequence(3));
    rig.tell(0, id, &Message::Stored { through: Sequence(2) });
    assert_eq!(
        rig.fault(),
        &AgentFault::SpoolMissing {
            sequence: Sequence(3)
        }
    );
}

#[test]
fn failures_back_off_with_a_bound_and_a_spread() {
    let delays = |seed: u64| {
        let mut rig = Rig::new(1);
        let config = AgentConfig::new("test", signer().verifier().clone());
        rig.session = AgentSession::new(config, Seen::nothing(), seed, at(0));
        let (mut now, mut out) = (0, Vec::new());
        for _ in 0..12 {
            let id = rig.connect(now);
            rig.session.handle_disconnected(at(now), id);
            rig.effects(now);
            let (reason, wait) = rig.end();
            assert_eq!(reason, &EndReason::Lost);
            assert!(rig.effects(now + wait - 1).is_empty(), "it waits");
            now += wait;
            out.push(wait);
        }
        out
    };
    let first = delays(1);
    assert_eq!(first, delays(1));
    assert_ne!(first, delays(2));
    assert!(first[0] <= SECOND / 4 && first[0] >= SECOND / 8);
    assert!(first.iter().all(|wait| *wait <= 30 * SECOND));
    assert!(first[11] >= 15 * SECOND);
}

#[test]
fn silence_is_broken_by_pings_and_ends_the_connection() {
    let (mut rig, id) = Rig::open(0);
    rig.sent(0);
    let mut now = 0;
    let mut pings = 0;
    while !matches!(rig.events.last(), Some(AgentEvent::Ended { .. })) {
        now = rig.session.poll_timeout().unwrap().0;
        rig.session.handle_timeout(at(now));
        pings += rig
            .sent(now)
            .iter()
            .filter(|m| matches!(m, Message::Ping))
            .count();
    }
    assert_eq!((now, pings), (30 * SECOND, 2));
    assert_eq!(rig.end().0, &EndReason::Idle);
    // What still comes on the old connection is nobody's.
    rig.welcome(now, id, 0, Hash::default());
    assert!(!rig.session.shipping());
}

#[test]
fn garbage_and_messages_out_of_place_end_the_connection() {
    let after = |message: &[u8]| {
        let (mut rig, id) = Rig::open(1);
        rig.sent(0);
        rig.session.handle_bytes(at(0), id, message, &rig.spool);
        rig.effects(0);
        rig.end().0.clone()
    };
    assert!(matches!(after(b"garbage!"), EndReason::Garbage(_)));
    assert_eq!(
        after(&Message::Bye.encode().unwrap()),
        EndReason::Misplaced("bye")
    );
    let unsealed = Message::Stored { through: Sequence(1) };
    assert!(matches!(
        after(&unsealed.encode().unwrap()),
        EndReason::Misplaced(_)
    ));
    let refused = Message::Refused(Refusal::fatal(RefusalCode::Fork, None, "no"));
    assert_eq!(
        after(&refused.encode().unwrap()),
        EndReason::Refused(RefusalCode::Fork)
    );
}

#[test]
fn an_orderly_stop_ships_everything_and_says_goodbye() {
    let (mut rig, id) = Rig::open(2);
    rig.session.handle_stop();
    assert_eq!(sequences(&rig.sent(0)), [0, 1]);
    assert!(!rig.session.finished());
    rig.session.handle_bytes(
        at(0),
        id,
        &Message::Stored { through: Sequence(1) }.encode().unwrap(),
        &rig.spool,
    );
    assert_eq!(rig.effects(0), [AgentEffect::Disconnect(id)]);
    assert!(rig.session.finished());
    assert!(rig.events.contains(&AgentEvent::Finished));
}
