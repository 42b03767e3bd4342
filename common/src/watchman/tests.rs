//! What is said, when, once; and that nothing is said of hosts that is the collector's own doing.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::{ChainHead, HeaderFields, SignedHeader, UnverifiedHeader, sign_header},
    ids::{LeafIndex, WallNanos},
    note::SignerKey,
    statement::{ClockFault, Kind, StatementChain, UnverifiedStatement, VerifiedStatement},
    testing::{SECOND, batches, host, key},
};

const CONFIG: WatchmanConfig = WatchmanConfig {
    silence_ns: 10 * SECOND,
    tolerance_ns: SECOND,
    clock_every_ns: 60 * SECOND,
};
/// Wall clock of the collector when its monotonic clock is at zero; hosts' batches lie just behind it.
const WALL: u64 = 1_700_000_000 * SECOND;

fn at(ms: u64) -> Now {
    Now {
        monotonic: BootNanos(ms * 1_000_000),
        wall: WallNanos(WALL + ms * 1_000_000),
        error_ns: 0,
    }
}

/// A batch of the host's chain, whose fields `change` may alter.
fn batch(sequence: u64, ms: u64, change: impl FnOnce(&mut HeaderFields)) -> SignedHeader {
    let made = batches(&ChainHead::genesis(host()), 1, 0).remove(0);
    let mut fields = UnverifiedHeader::parse(made.header.bytes())
        .unwrap()
        .claimed()
        .clone();
    fields.sequence = Sequence(sequence);
    fields.from_wall = at(ms).wall;
    fields.until_wall = at(ms).wall;
    change(&mut fields);
    SignedHeader::check(sign_header(&fields, &key()).unwrap()).unwrap()
}

fn signer() -> SignerKey {
    SignerKey::from_seed("ledger.example/watched", &[7; 32]).unwrap()
}

fn register() -> Vec<Registered> {
    vec![Registered {
        host: host(),
        name: Text(b"web-1".to_vec()),
        enrolled_at: at(0).wall,
        ended: None,
    }]
}

/// The driver: gives numbers to what is said, and keeps it as the ledger would.
struct Driver {
    watchman: Watchman,
    ledger: Vec<Said>,
    statements: Vec<VerifiedStatement>,
    batches: Vec<SignedHeader>,
}

impl Driver {
    fn new(now: Now) -> Self {
        let mut driver = Self {
            watchman: Watchman::new(CONFIG, now),
            ledger: Vec::new(),
            statements: Vec::new(),
            batches: Vec::new(),
        };
        driver.watchman.handle_register(now, &register());
        driver.take(now);
        driver
    }

    /// Takes everything that is said.
    fn take(&mut self, now: Now) -> Vec<Kind> {
        let mut kinds = Vec::new();
        while let Some(said) = self.watchman.poll_said() {
            let number = StatementNumber(self.ledger.len() as u64);
            self.watchman.note(now, number, &said);
            kinds.push(said.kind());
            let before = self.statements.last().map(StatementChain::after);
            let chain = before.transpose().unwrap().unwrap_or_default();
            let statement = chain.write(said.clone(), now.wall, 0, &signer()).unwrap();
            self.statements.push(statement);
            self.ledger.push(said);
        }
        kinds
    }

    fn wait(&mut self, now: Now) -> Vec<Kind> {
        // As the driver does it: every tick between.
        while self.watchman.poll_timeout() < now.monotonic {
            let due = self.watchman.poll_timeout().0 / 1_000_000 + 1;
            self.watchman.handle_timeout(at(due));
        }
        self.watchman.handle_timeout(now);
        self.take(now)
    }

    fn batch(&mut self, now: Now, batch: SignedHeader) -> Vec<Kind> {
        self.watchman.handle_batch(now, batch.fields(), batch.hash());
        self.batches.push(batch);
        self.take(now)
    }

    /// What the ledger's statements come to: some as they were kept, the rest as they stand there.
    fn standing(&self) -> Standing {
        let (ledger, key) = (Hash::of(b"ledger"), signer());
        let mut standing = Standing::default();
        for (leaf, statement) in (0..).zip(&self.statements) {
            let statement = UnverifiedStatement::parse(statement.bytes()).unwrap();
            standing.follow(LeafIndex(leaf), &statement).unwrap();
            if standing.count() * 2 <= self.statements.len() as u64 {
                let kept = standing.sign(&ledger, &key).unwrap().unwrap();
                let read = UnverifiedStanding::parse(&kept).unwrap();
                standing = read.verify(&ledger, key.verifier()).unwrap();
            }
        }
        standing
    }

    /// The collector ends and starts again `now`.
    fn restart(&mut self, now: Now) {
        self.watchman = Watchman::new(CONFIG, now);
        self.watchman.take_up(now, &self.standing());
        if let Some(last) = self.batches.last()
            && let Some(first) = self.watchman.restore(last.fields(), last.hash())
        {
            let found = self.batches.iter().find(|batch| batch.fields().sequence == first);
            let point = host::point_of(found.unwrap().fields(), found.unwrap().hash());
            self.watchman.restore_return(now, super::tests::host(), point);
        }
        self.watchman.handle_register(now, &register());
    }
}

#[test]
fn an_enrolment_is_stated_once() {
    let mut driver = Driver::new(at(0));
    assert_eq!(driver.ledger.len(), 1);
    assert_eq!(driver.ledger[0].kind(), Kind::HOST_ENROLLED);
    driver.watchman.handle_register(at(1), &register());
    driver.restart(at(2));
    assert_eq!(driver.take(at(3)), []);
}

#[test]
fn silence_and_return_are_stated_once_each() {
    let mut driver = Driver::new(at(0));
    assert_eq!(driver.batch(at(1_000), batch(0, 1_000, |_| {})), []);
    assert_eq!(driver.wait(at(10_900)), []);
    assert_eq!(driver.wait(at(12_000)), [Kind::SILENT]);
    let Said::Silent {
        last,
        since,
        watching_since,
        threshold_ns,
        ..
    } = &driver.ledger[1]
    else {
        panic!("{:?}", driver.ledger);
    };
    assert_eq!(last.unwrap().sequence, Sequence(0));
    assert_eq!((*since, *watching_since), (at(1_000).wall, at(0).wall));
    assert_eq!(*threshold_ns, CONFIG.silence_ns);
    assert_eq!(driver.watchman.silent(), 1);
    assert_eq!(driver.wait(at(60_000)), []);
    assert_eq!(driver.batch(at(61_000), batch(1, 61_000, |_| {})), [Kind::BACK]);
    assert!(matches!(
        &driver.ledger[2],
        Said::Back { silence: StatementNumber(1), first, .. } if first.sequence == Sequence(1)
    ));
    assert_eq!(driver.watchman.silent(), 0);
    assert_eq!(driver.wait(at(73_000)), [Kind::SILENT]);
}

#[test]
fn a_host_that_never_spoke_is_silent_since_its_enrolment() {
    let mut driver = Driver::new(at(0));
    assert_eq!(driver.wait(at(12_000)), [Kind::SILENT]);
    assert!(matches!(driver.ledger[1], Said::Silent { last: None, since, .. } if since == at(0).wall));
    assert_eq!(driver.batch(at(13_000), batch(0, 13_000, |_| {})), [Kind::BACK]);
}

#[test]
fn an_orderly_stop_is_no_silence_and_neither_is_an_end_or_a_removal() {
    let mut driver = Driver::new(at(0));
    let last = batch(0, 1_000, |fields| fields.flags.last_before_stop = true);
    driver.batch(at(1_000), last);
    assert_eq!(driver.wait(at(60_000)), []);
    driver.restart(at(61_000));
    assert_eq!(driver.wait(at(90_000)), []);
    assert_eq!(driver.batch(at(91_000), batch(1, 91_000, |_| {})), []);

    let mut ended = register();
    ended[0].ended = Some((at(92_000).wall, Text(b"scrapped".to_vec())));
    driver.watchman.handle_register(at(92_000), &ended);
    assert!(driver.watchman.has_ended(&host()));
    assert_eq!(driver.take(at(92_000)), [Kind::HOST_ENDED]);
    assert_eq!(driver.wait(at(150_000)), []);

    let mut removed = Driver::new(at(0));
    removed.watchman.handle_register(at(1), &[]);
    assert_eq!(removed.wait(at(60_000)), []);
}

#[test]
fn the_collectors_own_downtime_is_nobodys_silence() {
    let mut driver = Driver::new(at(0));
    driver.batch(at(1_000), batch(0, 1_000, |_| {}));
    driver.restart(at(100_000));
    assert_eq!(driver.wait(at(109_000)), [], "a new watch, a new wait");
    assert_eq!(driver.wait(at(111_000)), [Kind::SILENT]);
    let said = driver.ledger.last().unwrap();
    assert!(
        matches!(said, Said::Silent { since, watching_since, .. }
            if (*since, *watching_since) == (at(100_000).wall, at(100_000).wall)),
        "{said:?}"
    );
    // Nor is it when the collector stands still, or turns batches away.
    let mut stalled = Driver::new(at(0));
    stalled.watchman.handle_timeout(at(30_000));
    assert_eq!(stalled.take(at(30_000)), []);
    assert_eq!(stalled.wait(at(39_000)), []);
    stalled.watchman.handle_deaf(at(39_500));
    assert_eq!(stalled.wait(at(49_000)), []);
    assert_eq!(stalled.wait(at(51_000)), [Kind::SILENT]);
}

#[test]
fn a_restart_neither_repeats_a_silence_nor_forgets_its_end() {
    let mut driver = Driver::new(at(0));
    driver.batch(at(1_000), batch(0, 1_000, |_| {}));
    driver.wait(at(12_000));
    driver.restart(at(20_000));
    assert_eq!(driver.watchman.silent(), 1);
    assert_eq!(driver.wait(at(60_000)), [], "it was said already");
    // The batch became durable, the statement about it did not.
    driver.batches.push(batch(1, 61_000, |_| {}));
    driver.batches.push(batch(2, 62_000, |_| {}));
    driver.restart(at(63_000));
    assert_eq!(driver.take(at(63_000)), [Kind::BACK]);
    assert!(matches!(driver.ledger.last(), Some(Said::Back { first, .. }) if first.sequence == Sequence(1)));
}

#[test]
fn a_silence_that_ends_before_it_could_be_said_is_not_said() {
    let mut driver = Driver::new(at(0));
    driver.batch(at(1_000), batch(0, 1_000, |_| {}));
    while driver.watchman.poll_timeout() < at(12_000).monotonic {
        let due = driver.watchman.poll_timeout().0 / 1_000_000 + 1;
        driver.watchman.handle_timeout(at(due));
    }
    assert_eq!(driver.batch(at(12_500), batch(1, 12_500, |_| {})), []);
}

#[test]
fn a_rollback_is_stated_once_until_the_ledger_takes_a_batch_again() {
    let mut driver = Driver::new(at(0));
    let hashes: Vec<Hash> = (0..6_u8).map(|n| Hash([n; 32])).collect();
    let held = (Sequence(5), hashes[5]);
    let open = |driver: &mut Driver, agent: (Sequence, Hash), shared: Option<Hash>| {
        driver.watchman.handle_opening(host(), agent, held, shared);
        driver.take(at(1))
    };
    assert_eq!(open(&mut driver, held, Some(held.1)), []);
    assert_eq!(open(&mut driver, (Sequence(9), hashes[0]), None), [], "ahead");
    let behind = (Sequence(3), hashes[3]);
    assert_eq!(open(&mut driver, behind, Some(hashes[3])), [Kind::ROLLBACK]);
    assert!(matches!(driver.ledger.last(), Some(Said::Rollback(found)) if !found.differs));
    assert_eq!(open(&mut driver, behind, Some(hashes[3])), []);
    driver.restart(at(2));
    assert_eq!(open(&mut driver, behind, Some(hashes[3])), []);
    driver.batch(at(3), batch(5, 3, |_| {}));
    assert_eq!(
        open(&mut driver, (Sequence(5), hashes[1]), Some(hashes[5])),
        [Kind::ROLLBACK]
    );
    assert!(matches!(driver.ledger.last(), Some(Said::Rollback(found)) if found.differs));
}

#[test]
fn an_equivocation_is_stated_once_if_it_proves_something_and_seldom() {
    let mut driver = Driver::new(at(0));
    let held = batch(0, 1, |_| {});
    let offer = |driver: &mut Driver, offered: &SignedHeader| {
        let (held, offered) = (held.bytes(), offered.bytes());
        driver.watchman.handle_contradiction(host(), held, offered);
        driver.take(at(1))
    };
    let other = |n: u64| batch(0, 100 + n, |_| {});
    assert_eq!(offer(&mut driver, &held.clone()), [], "no contradiction");
    assert_eq!(offer(&mut driver, &other(0)), [Kind::EQUIVOCATION]);
    assert_eq!(offer(&mut driver, &other(0)), []);
    driver.restart(at(2));
    assert_eq!(offer(&mut driver, &other(0)), [], "it stands in the ledger");
    let said: Vec<Kind> = (1..50).flat_map(|n| offer(&mut driver, &other(n))).collect();
    assert_eq!(said.len(), EQUIVOCATIONS_MAX - 1);
    assert_eq!(driver.watchman.unsaid(), 50 - EQUIVOCATIONS_MAX as u64);
}

#[test]
fn each_clock_fault_is_stated_and_a_flood_of_them_counted() {
    let mut driver = Driver::new(at(0));
    let ahead = |sequence, ms| batch(sequence, ms + 5_000, |_| {});
    assert_eq!(driver.batch(at(1_000), ahead(0, 1_000)), [Kind::CLOCK_ANOMALY]);
    for sequence in 1..9 {
        let ms = 1_000 + sequence * 1_000;
        assert_eq!(driver.batch(at(ms), ahead(sequence, ms)), []);
    }
    assert_eq!(driver.batch(at(70_000), ahead(9, 70_000)), [Kind::CLOCK_ANOMALY]);
    let Some(Said::ClockAnomaly(last)) = driver.ledger.last() else {
        panic!("{:?}", driver.ledger);
    };
    assert_eq!((last.fault, last.unstated), (ClockFault::Ahead, 8));

    // Set back by five seconds against the batch before it.
    assert_eq!(
        driver.batch(at(70_001), batch(10, 70_001, |_| {})),
        [Kind::CLOCK_ANOMALY]
    );
    // Sealed after the nonce was given out, yet it says that it ended before.
    driver.watchman.handle_nonce(at(80_000), host(), Nonce([8; 32]));
    let behind = batch(11, 71_000, |fields| fields.nonce = Nonce([8; 32]));
    assert_eq!(driver.batch(at(81_000), behind), [Kind::CLOCK_ANOMALY]);
    let faults: Vec<ClockFault> = driver
        .ledger
        .iter()
        .filter_map(|said| match said {
            Said::ClockAnomaly(anomaly) => Some(anomaly.fault),
            _ => None,
        })
        .collect();
    assert_eq!(
        faults,
        [
            ClockFault::Ahead,
            ClockFault::Ahead,
            ClockFault::SetBack,
            ClockFault::Behind
        ]
    );
}

#[test]
fn a_late_batch_and_one_within_its_error_bound_are_no_anomaly() {
    let mut driver = Driver::new(at(0));
    let unsure = batch(0, 9_000, |fields| fields.clock_error_ns = 8 * SECOND);
    assert_eq!(driver.batch(at(1_000), unsure), []);
    let late = batch(1, 9_000, |fields| fields.nonce = Nonce([1; 32]));
    assert_eq!(driver.batch(at(500_000), late), [Kind::BACK; 0]);
}

#[derive(Debug, Clone)]
enum Happens {
    Batch { stops: bool },
    Wait(u64),
    Restart { down: u64 },
    Deaf,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => any::<bool>().prop_map(|stops| Happens::Batch { stops }),
        6 => (1_u64..30_000).prop_map(Happens::Wait),
        2 => (1_u64..30_000).prop_map(|down| Happens::Restart { down }),
        1 => Just(Happens::Deaf),
    ]
}

proptest! {
    /// Of one host: silence and return alternate, whatever happens in between; a silence is stated only
    /// when nothing came for the threshold while the collector listened.
    #[test]
    fn prop_never_two_silences_without_a_return(story in proptest::collection::vec(happens(), 1..60)) {
        let mut driver = Driver::new(at(0));
        let (mut ms, mut sequence) = (0, 0);
        let (mut heard, mut listening) = (0, 0);
        for step in story {
            let before = driver.ledger.len();
            match step {
                Happens::Batch { stops } => {
                    let made = batch(sequence, ms, |fields| fields.flags.last_before_stop = stops);
                    driver.batch(at(ms), made);
                    (sequence, heard) = (sequence + 1, ms);
                }
                Happens::Wait(by) => {
                    ms += by;
                    driver.wait(at(ms));
                }
                Happens::Restart { down } => {
                    ms += down;
                    driver.restart(at(ms));
                    driver.take(at(ms));
                    listening = ms;
                }
                Happens::Deaf => {
                    driver.watchman.handle_deaf(at(ms));
                    listening = ms;
                }
            }
            for said in &driver.ledger[before..] {
                if said.kind() == Kind::SILENT {
                    prop_assert!(ms - u64::max(heard, listening) >= 10_000, "{said:?} at {ms}");
                }
            }
        }
        let mut open = BTreeMap::new();
        for (number, said) in (0..).zip(&driver.ledger) {
            match said {
                Said::Silent { host, .. } => prop_assert!(open.insert(*host, number).is_none()),
                Said::Back { host, silence, .. } => prop_assert_eq!(open.remove(host), Some(silence.0)),
                _ => {}
            }
        }
    }
}
