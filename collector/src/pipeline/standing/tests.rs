//! The file is believed where the ledger bears it out, and is otherwise read again; whatever became of it, what a start
//! takes up is what all statements come to.

use std::{collections::BTreeMap, path::Path};

use common::{
    ids::WallNanos,
    statement::{BatchPoint, Hold, Said, StatementChain},
    text::Text,
};
use ledger::{Entry, Ledger, Local, ReadError};
use proptest::{
    prelude::Rng as _,
    test_runner::{TestRng, TestRunner},
};

use super::*;
use crate::{findings::tests::spoil, pipeline::describe};

const ORIGIN: &str = "ledger.example/standing";
const MUTATIONS: u64 = 10_000;

fn key(seed: u8) -> SignerKey {
    SignerKey::from_seed(ORIGIN, &[seed; 32]).unwrap()
}

/// Hosts are enrolled, fall silent and come back; now and then there is a hold.
fn said(number: u64) -> Said {
    let host = HostId([u8::try_from(number % 40 / 2).unwrap(); 32]);
    let point = BatchPoint {
        sequence: Sequence(number),
        header: Hash([2; 32]),
    };
    match number {
        number if number % 100 == 50 => Said::Hold(Hold {
            host: Some(host),
            from: WallNanos(1),
            until: WallNanos(number),
            reason: Text(b"case".to_vec()),
        }),
        number if number < 40 && number.is_multiple_of(2) => Said::HostEnrolled {
            host,
            name: Text(b"web".to_vec()),
            enrolled_at: WallNanos(number),
        },
        number if number.is_multiple_of(2) => Said::Silent {
            host,
            last: Some(point),
            since: WallNanos(number),
            watching_since: WallNanos(0),
            threshold_ns: 1,
        },
        _ => Said::Back {
            host,
            silence: StatementNumber(number - 1),
            first: point,
            seen_at: WallNanos(number),
        },
    }
}

/// A ledger with statements, and where the file is.
struct World {
    dir: tempfile::TempDir,
    ledger: Ledger,
    chain: StatementChain,
    key: SignerKey,
}

impl World {
    fn new(seed: u8, statements: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(Local::open_writer(&dir.path().join("ledger")).unwrap());
        let (ledger, _) = Ledger::open(storage, key(seed), describe).unwrap();
        let mut world = Self {
            dir,
            ledger,
            chain: StatementChain::default(),
            key: key(seed),
        };
        world.state(0..statements);
        world
    }

    /// States some more, in groups of up to fifty.
    fn state(&mut self, numbers: std::ops::Range<u64>) {
        let numbers: Vec<u64> = numbers.collect();
        for numbers in numbers.chunks(50) {
            let mut made = Vec::new();
            for number in numbers {
                let at = WallNanos(*number);
                let statement = self.chain.write(said(*number), at, 0, &self.key).unwrap();
                self.chain.follow(&statement).unwrap();
                made.push(statement);
            }
            let entries: Vec<Entry<'_>> = made
                .iter()
                .map(|statement| Entry {
                    header: statement.bytes(),
                    body: &[],
                })
                .collect();
            self.ledger.append_group(&entries).unwrap();
        }
        self.ledger.integrate_and_publish().unwrap();
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("projections/standing")
    }

    fn file(&self) -> StandingFile {
        StandingFile::new(self.path(), self.ledger.reader(), self.key.clone())
    }

    /// What a start takes up.
    fn start(&self) -> Standing {
        self.file().take_up(&|| true).unwrap()
    }

    /// What all statements come to, whatever was kept.
    fn all(&self) -> Standing {
        let mut standing = Standing::default();
        self.file().read_on(&mut standing, &|| true).unwrap();
        standing
    }

    /// The group of the first statements is gone, and who reads one of them fails.
    fn forget_the_first(&self) {
        fs::remove_file(self.dir.path().join("ledger/groups/000")).unwrap();
    }
}

/// How many statements a file covers; `None` where there is none.
fn covers(path: &Path) -> Option<u64> {
    let bytes = fs::read(path).ok()?;
    let read = UnverifiedStanding::parse(&bytes).unwrap();
    Some(read.danger_unverified().1.count())
}

#[test]
fn a_start_reads_only_what_was_stated_behind_the_file() {
    let mut world = World::new(1, 600);
    let all = world.start();
    assert_eq!((all.count(), covers(&world.path())), (600, Some(600)));
    assert_eq!(all, world.all());
    world.state(600..700);
    let (more, whole) = (world.start(), world.all());
    assert_eq!(more, whole);
    assert_eq!(
        covers(&world.path()),
        Some(600),
        "a few more are not worth writing"
    );
    world.forget_the_first();
    assert_eq!(world.start(), whole, "they are not read again");
    fs::remove_file(world.path()).unwrap();
    let failed = world.file().take_up(&|| true);
    assert!(
        matches!(failed, Err(RecoverError::Read(ReadError::Missing { .. }))),
        "{failed:?}"
    );
}

#[test]
fn few_statements_need_no_file() {
    let world = World::new(1, 30);
    assert_eq!(world.start().count(), 30);
    assert!(!world.path().exists());
}

#[test]
fn one_that_the_ledger_does_not_bear_out_is_read_again_from_the_ledger() {
    let long = World::new(1, 900);
    long.start();
    let ahead = fs::read(long.path()).unwrap();
    let short = World::new(1, 600);
    let other = World::new(2, 900);
    other.start();
    // The same key and origin, another history: what a copied directory that went on apart would have.
    let mut apart = World::new(1, 0);
    apart.state(1..2);
    apart.state(1..600);
    apart.start();
    let history = fs::read(apart.path()).unwrap();
    let cases = [
        (ahead, "which the ledger does not have"),
        (fs::read(other.path()).unwrap(), "another ledger"),
        (history, "the ledger has another statement 599"),
        (b"nonsense".to_vec(), "magic"),
        (Vec::new(), "magic"),
    ];
    for (bytes, why) in cases {
        fs::create_dir_all(short.path().parent().unwrap()).unwrap();
        fs::write(short.path(), bytes).unwrap();
        let said = short.file().read().unwrap_err();
        assert!(said.contains(why), "{said:?} and not {why:?}");
        assert_eq!(short.start(), short.all());
        assert_eq!(covers(&short.path()), Some(600), "written anew");
        assert!(short.file().read().is_ok());
    }
}

#[test]
fn another_key_of_the_ledger_does_not_believe_what_the_one_before_signed() {
    let world = World::new(1, 600);
    world.start();
    let next = StandingFile {
        signer: key(3),
        ..world.file()
    };
    let said = next.read().unwrap_err();
    assert!(
        said.contains("not signed by the key that signs the ledger now"),
        "{said}"
    );
}

#[test]
fn where_nothing_is_stated_a_file_is_removed() {
    let world = World::new(1, 0);
    fs::create_dir_all(world.path().parent().unwrap()).unwrap();
    fs::write(world.path(), b"left by somebody").unwrap();
    assert_eq!(world.start(), Standing::default());
    assert!(!world.path().exists());
}

#[test]
fn a_statement_that_does_not_continue_the_chain_is_no_start() {
    let mut world = World::new(1, 20);
    // Signed with the ledger's key, and of another chain.
    let mut other = World::new(1, 0);
    other.state(1..21);
    let forged = other.chain.write(said(20), WallNanos(1), 0, &world.key).unwrap();
    world
        .ledger
        .append_group(&[Entry {
            header: forged.bytes(),
            body: &[],
        }])
        .unwrap();
    let failed = world.file().take_up(&|| true);
    assert!(matches!(failed, Err(RecoverError::Statements(_))), "{failed:?}");
}

#[test]
fn the_thread_keeps_what_is_stated_while_it_runs() {
    let mut world = World::new(1, 600);
    let mut file = world.file();
    file.take_up(&|| true).unwrap();
    let mut keeping = Keeping::start(file).unwrap();
    world.state(600..2000);
    (600..2000).for_each(|number| keeping.durable(StatementNumber(number)));
    // Ending waits for it; whether it was told to stop before it had read them is left to chance.
    while covers(&world.path()) != Some(2000) {
        thread::yield_now();
    }
    drop(keeping);
    world.forget_the_first();
    assert_eq!(world.start().count(), 2000);
}

#[test]
fn told_to_stop_it_keeps_what_it_has_read() {
    let world = World::new(1, 3000);
    let looks = std::cell::Cell::new(0);
    let standing = world
        .file()
        .take_up(&|| {
            looks.set(looks.get() + 1);
            looks.get() <= 8
        })
        .unwrap();
    assert_eq!(standing.count(), 8 * PLACES_AT_ONCE);
    assert_eq!(covers(&world.path()), Some(8 * PLACES_AT_ONCE));
    assert_eq!(world.start(), world.all());
}

/// Killed between a statement and the file, or while the file is written: it covers fewer, or another name has a part.
#[test]
fn whatever_a_kill_leaves_is_caught_up() {
    let mut world = World::new(1, 520);
    let mut older = vec![None];
    for until in [900_u64, 1500, 1510] {
        world.start();
        older.push(fs::read(world.path()).ok());
        let from = world.all().count();
        world.state(from..until);
    }
    let all = world.all();
    for left in older {
        match left {
            Some(bytes) => fs::write(world.path(), bytes).unwrap(),
            None => drop(fs::remove_file(world.path())),
        }
        let partial = world.path().with_extension("77.tmp");
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, b"HLSTAND\nhalf").unwrap();
        assert_eq!(world.start(), all);
    }
}

#[test]
fn ten_thousand_mutations_of_the_file_are_each_found_or_change_nothing() {
    let mut world = World::new(1, 600);
    world.start();
    let older = fs::read(world.path()).unwrap();
    world.state(600..1200);
    world.start();
    let good = fs::read(world.path()).unwrap();
    assert_ne!(good, older);
    let all = world.all();
    let mut random: TestRng = TestRunner::deterministic().new_rng();
    let (mut done, mut found, mut kinds) = (0, 0, BTreeMap::<&str, u64>::new());
    while done < MUTATIONS {
        let (kind, bad) = spoil(&mut random, &good, Some(&older));
        if bad.as_ref() == Some(&good) {
            continue;
        }
        match &bad {
            Some(bad) => fs::write(world.path(), bad).unwrap(),
            None => fs::remove_file(world.path()).unwrap(),
        }
        match world.file().read() {
            Err(why) => {
                assert!(!why.is_empty());
                found += 1;
            }
            Ok(Some(believed)) => {
                assert_eq!(kind, "older copy");
                assert!(believed.count() == 600 && !believed.holds().in_force().is_empty());
            }
            Ok(None) => assert_eq!(kind, "delete"),
        }
        // Each start comes to the same; some are run to their end, for that reads every statement.
        if random.next_u64().is_multiple_of(500) {
            assert_eq!(world.start(), all, "{done}: {kind}");
            assert!(world.file().read().is_ok());
        }
        fs::write(world.path(), &good).unwrap();
        *kinds.entry(kind).or_default() += 1;
        done += 1;
    }
    println!(
        "evidence: {done} mutations of what statements come to: {found} found and named, {} that change nothing: gone or \
         older, which the ledger's statements make good",
        done - found
    );
    for kind in ["flip", "delete", "duplicate", "reorder", "truncate", "older copy"] {
        assert!(
            kinds.get(kind).is_some_and(|count| *count > 500),
            "{kind}: {kinds:?}"
        );
    }
}
