//! Audit bundles of every shape, for whoever judges them.

use std::sync::Arc;

use common::{
    bundle::{self, Bundle, Selection},
    checkpoint,
    fold::EntityId,
    ids::{EventIndex, HostId, LeafIndex, StatementNumber, WallNanos},
    ledger_keys::LedgerKeys,
    note::{SignerKey, VerifierKey, WitnessSigner},
    retention,
    statement::{Said, StatementChain},
    text::Text,
    witness::{cosign, with_line},
};
use ledger::{Entry, Ledger, Memory, Reader, storage::Storage};
use tests::{
    chains::{
        self, EPOCH, GOES_ON, LEDGER_KEY_SEED, Maker, STARTS, STOPS, ledger_of, process_key, run_begins,
        story, wall,
    },
    pruning,
};

pub(crate) fn ledger_key() -> VerifierKey {
    SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED)
        .unwrap()
        .verifier()
        .clone()
}

pub(crate) fn witness(seed: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.example/{seed}"), &[seed; 32]).unwrap()
}

/// A host that changes its key three times in twelve seconds, loses events and stops.
fn many_epochs() -> Maker {
    let mut maker = Maker::new(9);
    let events = run_begins(maker.host(), "node-9", 10);
    maker.seal(STARTS, 0, 1_000, &events);
    for second in 1..12 {
        if second % 3 == 0 {
            maker.ratchet();
        }
        let at = second * 1_000;
        let process = chains::process(
            process_key(500, at),
            None,
            &[b"/bin/true"],
            common::event::process::ProcessCause::Exec,
        );
        let event = chains::event(at + 5, process);
        let flags = if second == 11 { STOPS } else { GOES_ON };
        maker.seal(
            flags,
            at,
            at + 1_000,
            if second % 4 == 0 {
                &[]
            } else {
                std::slice::from_ref(&event)
            },
        );
    }
    maker
}

/// The story of two hosts and [`many_epochs`], with statements of the collector about them behind.
pub(crate) fn world(storage: Arc<dyn Storage>) -> (Ledger, Vec<HostId>) {
    let ((one, two), three) = (story(), many_epochs());
    let hosts = vec![one.host(), two.host(), three.host()];
    let mut ledger = ledger_of(storage, &[&one, &two, &three]);
    let signer = SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap();
    let mut chain = StatementChain::default();
    for host in &hosts {
        for said in [
            Said::HostEnrolled {
                host: *host,
                name: Text(b"node".to_vec()),
                enrolled_at: WallNanos(EPOCH),
            },
            Said::Silent {
                host: *host,
                last: None,
                since: WallNanos(EPOCH),
                watching_since: WallNanos(EPOCH),
                threshold_ns: 5,
            },
            Said::HostEnded {
                host: *host,
                ended_at: WallNanos(EPOCH),
                reason: Text(b"gone".to_vec()),
                last: None,
            },
        ] {
            let statement = chain.write(said, WallNanos(EPOCH + 1), 2, &signer).unwrap();
            chain.follow(&statement).unwrap();
            ledger
                .append_group(&[Entry {
                    header: statement.bytes(),
                    body: &[],
                }])
                .unwrap();
        }
    }
    ledger.integrate_and_publish().unwrap();
    (ledger, hosts)
}

pub(crate) fn interval(since: u64, until: u64, hosts: &[HostId], entity: Option<EntityId>) -> Selection {
    let mut hosts = hosts.to_vec();
    hosts.sort_unstable();
    Selection::Interval {
        since: wall(since),
        until: wall(until),
        hosts,
        entity,
    }
}

pub(crate) fn export(reader: &Reader, selection: &Selection) -> Vec<u8> {
    ledger::bundle::export(reader, selection, usize::MAX).unwrap().0
}

/// The same bundle with cosignatures of witnesses 1 and 2 and of one that nobody knows.
fn cosigned(bytes: &[u8]) -> Vec<u8> {
    let mut bundle = Bundle::decode(bytes).unwrap();
    let head = checkpoint::open(&bundle.checkpoint, &ledger_key()).unwrap();
    let mut note = String::from_utf8(bundle.checkpoint).unwrap();
    for seed in [1, 9, 2] {
        note = with_line(
            &note,
            &cosign(&witness(seed), &head, 1_767_323_000 + u64::from(seed)),
        );
    }
    bundle.checkpoint = note.into_bytes();
    bundle.encode().unwrap()
}

/// Bundles of every shape, with names.
pub(crate) fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let (mut ledger, hosts) = world(Arc::new(Memory::new()));
    let reader = ledger.reader();
    let [one, two, three] = hosts[..] else {
        panic!("three hosts")
    };
    let entity = EntityId::of(common::event::Kind::Process, &process_key(200, 1_200));
    let mut several = vec![
        (one, EventIndex(3)),
        (three, EventIndex(14)),
        (three, EventIndex(12)),
    ];
    several.sort_unstable();
    let shapes = [
        ("one event", Selection::Events(vec![(three, EventIndex(17))])),
        ("events of two hosts", Selection::Events(several)),
        ("several key epochs", interval(0, 11_500, &[three], None)),
        ("the last key epoch", interval(10_500, 11_000, &[three], None)),
        ("two hosts", interval(1_000, 12_000, &[one, two], None)),
        ("all hosts", interval(2_500, 3_000, &[], None)),
        ("one entity", interval(0, 6_000, &[one], Some(entity))),
        ("a gap", interval(7_000, 8_000, &[one], None)),
        (
            "before everything",
            Selection::Interval {
                since: WallNanos(1),
                until: WallNanos(2),
                hosts: vec![two],
                entity: None,
            },
        ),
        ("a host unknown", interval(0, 6_000, &[HostId([1; 32])], None)),
    ];
    let mut made: Vec<_> = shapes
        .iter()
        .map(|(name, selection)| (*name, export(&reader, selection)))
        .collect();
    made.push(("with cosignatures", cosigned(&made[3].1)));
    made.push(("without its bodies", without_bodies(&made[2].1)));
    prune_all_but_three(&mut ledger, three);
    made.push((
        "pruned",
        export(&ledger.reader(), &interval(0, 11_500, &[three], None)),
    ));
    made.push((
        "one pruned event",
        export(&ledger.reader(), &Selection::Events(vec![(three, EventIndex(3))])),
    ));
    made.push(("under a changed key", under_a_changed_key()));
    made
}

/// One host's events in a ledger whose key was replaced behind them.
fn under_a_changed_key() -> Vec<u8> {
    let storage = Memory::new();
    let (mut ledger, hosts) = world(Arc::new(storage.clone()));
    let head = ledger.reader().published().checkpoint;
    let named = |name: &str, seed: [u8; 32]| SignerKey::from_seed(name, &seed).unwrap();
    let old = named("ledger.example/test", LEDGER_KEY_SEED);
    let new = named("ledger.example/test", [0x61; 32]);
    let offline = named("offline.example/test", [0x62; 32]);
    let keys = LedgerKeys::genesis(&old, &offline)
        .and_then(|keys| keys.rotate(&old, &new, &offline, head.size, head.root))
        .unwrap();
    let statements = ledger::prune::statements_from(&ledger.reader(), StatementNumber(0)).unwrap();
    let chain = StatementChain::after(statements.last().unwrap()).unwrap();
    ledger.replace_history(&keys).unwrap();
    drop(ledger);
    let (mut ledger, _) = Ledger::open(Arc::new(storage), new.clone(), ledger::audit::describe).unwrap();
    let record = Text(keys.change_at(LeafIndex(head.size)).unwrap().1.to_vec());
    let said = Said::KeyChange { record };
    let statement = chain.write(said, WallNanos(EPOCH + 3), 2, &new).unwrap();
    let entry = Entry {
        header: statement.bytes(),
        body: &[],
    };
    ledger.append_group(&[entry]).unwrap();
    ledger.integrate_and_publish().unwrap();
    export(&ledger.reader(), &interval(1_000, 3_000, &hosts[..1], None))
}

fn prune_all_but_three(ledger: &mut Ledger, host: HostId) {
    let policy = retention::Policy {
        keep_batches: Some(3),
        host: Some(host),
        ..retention::Policy::default()
    };
    let signer = SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap();
    let report = pruning::prune(ledger, &signer, &policy, WallNanos(EPOCH + 2), &mut |_, _| true).unwrap();
    assert!(report.bodies() > 3, "{} bodies", report.bodies());
}

/// As if retention had freed some bodies.
fn without_bodies(bytes: &[u8]) -> Vec<u8> {
    let mut bundle = Bundle::decode(bytes).unwrap();
    for batch in bundle.hosts[0].batches.iter_mut().step_by(2) {
        batch.contents = bundle::Contents::Gone;
    }
    bundle.encode().unwrap()
}
