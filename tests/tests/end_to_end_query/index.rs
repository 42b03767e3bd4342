//! The index on disk: it finds what a list in memory finds, starts without reading the ledger again, and whatever
//! happens to its files changes no answer.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use collector::{
    projection::{BatchRecord, Entries, EntryError, Projection},
    query::{Filter, Paging, Query, QueryError},
};
use common::{
    answer::{Moment, StatedSilence},
    batch::{BodyView, HeaderFlags, UnverifiedHeader},
    bundle::Selection,
    event::{Event, Kind, SensorId, process::ProcessCause},
    ids::{EventIndex, HostId, LeafIndex, Sequence, StatementNumber, WallNanos},
    projection::{Slot, batch::BATCH_RECORD_BYTES},
    receipt::Receipt,
    statement::Said,
};
use ledger::{Memory, Reader, bundle::ExportError};
use proptest::prelude::*;
use tests::{
    chains::{Maker, STARTS, event, ledger_of, loss, process, process_key, run_begins, story, wall},
    stated::{silent, stated},
};

use crate::list_chain::ListChain;

/// A ledger that counts what is read of it.
struct Counted {
    reader: Reader,
    headers: Arc<AtomicU64>,
    bodies: Arc<AtomicU64>,
}

impl Entries for Counted {
    fn origin(&self) -> String {
        self.reader.origin()
    }
    fn size(&self) -> u64 {
        self.reader.size()
    }
    fn root(&self) -> String {
        self.reader.root()
    }
    fn verifier_key(&self) -> String {
        self.reader.verifier_key()
    }
    fn header(&self, leaf: LeafIndex) -> Result<Vec<u8>, EntryError> {
        self.headers.fetch_add(1, Ordering::Relaxed);
        Entries::header(&self.reader, leaf)
    }
    fn body(&self, leaf: LeafIndex) -> Result<Vec<u8>, EntryError> {
        self.bodies.fetch_add(1, Ordering::Relaxed);
        Entries::body(&self.reader, leaf)
    }
    fn receipt(&self, leaf: LeafIndex) -> Result<Receipt, EntryError> {
        Entries::receipt(&self.reader, leaf)
    }
    fn bundle(&self, selection: &Selection, bytes_max: usize) -> Result<Vec<u8>, ExportError> {
        self.reader.bundle(selection, bytes_max)
    }
}

/// One batch as drawn: how long after the one before it begins (less than nothing where the clock went back), how
/// long it watches, whether a run begins, and its events: how late each is, and whether it is a loss.
type Drawn = (i64, u64, bool, Vec<(u64, bool)>);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let events = proptest::collection::vec((0..60_u64, prop::bool::weighted(0.2)), 0..4);
    let gap = prop_oneof![6 => Just(0_i64), 2 => 1..40_i64, 1 => -80..0_i64];
    let batch = (gap, 0..30_u64, prop::bool::weighted(0.15), events);
    proptest::collection::vec(batch, 1..50)
}

fn made(drawn: &[Drawn]) -> Maker {
    let mut maker = Maker::new(6);
    let begins = run_begins(maker.host(), "node-6", 1_000);
    maker.seal(STARTS, 1_000, 1_010, &begins);
    let mut from = 1_010_u64;
    for (gap, long, starts, events) in drawn {
        from = from.saturating_add_signed(*gap).max(200);
        let sealed: Vec<Event> = events
            .iter()
            .zip(0..)
            .map(|((late, lost), n)| {
                let at = (from + n).saturating_sub(*late);
                let fact = if *lost {
                    loss(SensorId(1), 3, at.saturating_sub(25), at)
                } else {
                    process(process_key(7, at), None, &[b"/bin/x"], ProcessCause::Fork)
                };
                event(at, fact)
            })
            .collect();
        let flags = HeaderFlags {
            first_since_start: *starts,
            last_before_stop: from.is_multiple_of(7),
        };
        maker.seal(flags, from, from + long, &sealed);
        from += long;
    }
    maker
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn prop_the_index_finds_what_a_list_in_memory_finds(
        drawn in drawn(),
        instants in proptest::collection::vec(0..3_000_u64, 24),
    ) {
        let (maker, (other, _)) = (made(&drawn), story());
        let ledger = ledger_of(Arc::new(Memory::new()), &[&other, &maker]);
        let directory = tempfile::tempdir().unwrap();
        let reader = Arc::new(ledger.reader());
        Projection::new(reader.clone(), Some(directory.path().to_owned())).catch_up().unwrap();
        let projection = Projection::new(reader, Some(directory.path().to_owned()));
        projection.catch_up().unwrap();
        let chain = projection.chain(&maker.host()).unwrap();
        let spans = chain.records(0, usize::MAX).unwrap();
        let mut list = ListChain::default();
        for ((header, body), record) in maker.sealed.iter().zip(&spans) {
            let header = UnverifiedHeader::parse(header).unwrap();
            let view = BodyView::parse(body).ok();
            prop_assert!(list.push(record.span.leaf, &header, view.as_ref()));
        }
        prop_assert_eq!(spans.len(), maker.sealed.len());
        prop_assert_eq!((chain.runs(), chain.events()), (list.runs(), list.events()));
        for (found, expected) in spans.iter().zip(list.records()) {
            let one = (found.span, found.segment, found.latest_event, found.losses, found.loss_not_before);
            let other = (expected.span, expected.segment, expected.latest_event, expected.losses, expected.loss_not_before);
            prop_assert_eq!(one, other);
        }
        for event in 0..=list.events() {
            prop_assert_eq!(chain.batch_of(EventIndex(event)).unwrap(), list.batch_of(EventIndex(event)));
        }
        let ends = spans.iter().flat_map(|record| [record.span.from_wall, record.span.until_wall]);
        let around = ends.flat_map(|at| [at.0 - 1, at.0, at.0 + 1]).map(WallNanos);
        for at in instants.iter().map(|ms| wall(*ms)).chain(around) {
            let (cut, expected) = (chain.cut(at).unwrap(), list.cut(at));
            prop_assert_eq!(cut, expected);
            let later: Vec<_> = list.later_losses(&expected).take(64).collect();
            prop_assert_eq!(chain.later_losses(&cut, 64).unwrap(), later);
            for batches in 0..=spans.len() {
                prop_assert_eq!(chain.all_before(batches, &cut).unwrap(), list.all_before(batches, &expected));
            }
        }
        for pair in instants.windows(2) {
            let (lo, hi) = (wall(pair[0].min(pair[1])), wall(pair[0].max(pair[1])));
            prop_assert_eq!(chain.clamp(lo, hi).unwrap(), list.clamp(lo, hi));
            for most in [1, 16] {
                prop_assert_eq!(chain.gaps(lo, hi, most).unwrap(), list.gaps(lo, hi, most));
            }
        }
    }
}

/// Everything that is asked of a ledger here, in one text.
fn answers(query: &Query) -> Result<String, QueryError> {
    let mut out = format!("{:?}", query.status());
    let (filter, paging) = (Filter::default(), Paging::default());
    out += &format!("{:?}", query.hosts(&[], &paging)?);
    out += &format!(
        "{:?}",
        query.statements(&collector::query::StatementFilter::default(), &paging)?
    );
    for host in ["node-1", "node-2"] {
        out += &format!("{:?}", query.batches(host, &paging)?);
    }
    for ms in [500, 2_500, 3_900, 8_000, 11_000, 14_000] {
        out += &format!(
            "{:?}",
            query.list(Kind::Process, Some(wall(ms)), &[], &filter, &paging)?
        );
    }
    out += &format!(
        "{:?}",
        query.during(Kind::Connection, wall(0), wall(20_000), &[], &filter, &paging)?
    );
    Ok(out)
}

/// What is said of a host that fell silent after these batches of it.
fn silences(host: HostId, after: &[u64]) -> Vec<Said> {
    after
        .iter()
        .zip(0..)
        .map(|(last, ms)| silent(host, *last, ms))
        .collect()
}

/// The story's ledger, counted, as far as `batches` of each host; behind all of it, statements of silence.
fn counted(batches: usize) -> (Arc<Counted>, Arc<AtomicU64>, Arc<AtomicU64>) {
    let (mut one, mut two) = story();
    one.sealed.truncate(batches);
    two.sealed.truncate(batches);
    let statements = match batches {
        usize::MAX => silences(one.host(), &[1, 5, 5, 6]),
        _ => Vec::new(),
    };
    let counts = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counted = Counted {
        reader: stated(&[&one, &two], &statements).reader(),
        headers: Arc::clone(&counts.0),
        bodies: Arc::clone(&counts.1),
    };
    (Arc::new(counted), counts.0, counts.1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn prop_a_silence_is_found_by_the_batch_before_it(
        mut after in proptest::collection::vec(0..60_u64, 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        after.sort_unstable();
        let (one, two) = story();
        let reader = Arc::new(stated(&[&one, &two], &silences(one.host(), &after)).reader());
        let directory = tempfile::tempdir().unwrap();
        // Taken up in the middle, as after a restart.
        let some = &silences(one.host(), &after)[..cut.index(after.len() + 1)];
        let before = Projection::new(Arc::new(stated(&[&one, &two], some).reader()), Some(directory.path().to_owned()));
        before.catch_up().unwrap();
        drop(before);
        let projection = Projection::new(reader, Some(directory.path().to_owned()));
        projection.catch_up().unwrap();
        prop_assert_eq!(projection.generation(), 0);
        for batch in 0..62 {
            let expected = after.iter().position(|last| *last == batch).map(|number| StatedSilence {
                statement: StatementNumber(number as u64),
                since: Moment(wall(number as u64)),
            });
            let statements = projection.statements();
            prop_assert_eq!(statements.silence_after(&one.host(), Sequence(batch)).unwrap(), expected);
            prop_assert_eq!(statements.silence_after(&two.host(), Sequence(batch)).unwrap(), None);
        }
        let all = projection.statements().find(0, usize::MAX, |_| true).unwrap();
        prop_assert_eq!(all.len(), after.len());
    }
}

fn open(entries: &Arc<Counted>, directory: &Path) -> (Arc<Projection>, Query) {
    let entries: Arc<dyn Entries> = entries.clone();
    let projection = Arc::new(Projection::new(entries, Some(directory.to_owned())));
    (Arc::clone(&projection), Query::new(projection))
}

/// An index of the whole story, and what is answered from it.
fn indexed(directory: &Path) -> (Arc<Counted>, String) {
    let (entries, ..) = counted(usize::MAX);
    let expected = open(&entries, directory).1.ask(answers).unwrap();
    (entries, expected)
}

#[test]
fn a_start_reads_one_header_of_each_host_and_what_came_since() {
    let directory = tempfile::tempdir().unwrap();
    let (entries, ..) = counted(3);
    open(&entries, directory.path()).0.catch_up().unwrap();
    let before = entries.size();
    let (entries, headers, bodies) = counted(usize::MAX);
    let since = entries.size() - before;
    let (projection, query) = open(&entries, directory.path());
    // Leaves lie elsewhere in the longer ledger than in the shorter one after the shorter chain has ended: what
    // stands where the index does not expect it makes it start anew, and nothing else does.
    projection.catch_up().unwrap();
    assert_eq!(projection.generation(), 0);
    assert_eq!(headers.load(Ordering::Relaxed), 2 + since);
    assert!(bodies.load(Ordering::Relaxed) <= since);
    let there = query.ask(answers).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(indexed(elsewhere.path()).1, there);
}

#[test]
fn a_crash_before_the_index_was_durable_costs_nothing_but_time() {
    let directory = tempfile::tempdir().unwrap();
    let (entries, expected) = indexed(directory.path());
    let tips = directory.path().join("chains/tips");
    let durable = fs::read(&tips).unwrap();
    for torn in [0, 10, durable.len() - 1] {
        fs::write(tips.with_extension("new"), &durable[..torn]).unwrap();
        let (projection, query) = open(&entries, directory.path());
        assert_eq!(query.ask(answers).unwrap(), expected);
        assert_eq!(projection.generation(), 0, "a partial file is none");
    }
    // Killed before anything was vouched for: records are there, tips are not.
    fs::remove_file(&tips).unwrap();
    let (projection, query) = open(&entries, directory.path());
    assert_eq!(query.ask(answers).unwrap(), expected);
    assert_eq!(projection.generation(), 0);
}

#[test]
fn whatever_happens_to_its_files_changes_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (entries, expected) = indexed(directory.path());
    let files: Vec<PathBuf> = ["batches", "statements", "tips"]
        .map(|name| directory.path().join("chains").join(name))
        .into();
    let good: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let (mut tried, mut rebuilt) = (0, 0);
    let mut spoil = |file: &Path, bytes: &[u8]| {
        for (file, good) in files.iter().zip(&good) {
            fs::write(file, good).unwrap();
        }
        fs::write(file, bytes).unwrap();
        let (projection, query) = open(&entries, directory.path());
        assert_eq!(query.ask(answers).unwrap(), expected, "{}", file.display());
        tried += 1;
        rebuilt += projection.generation();
    };
    for (file, good) in files.iter().zip(&good) {
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            spoil(file, &bad);
        }
        for length in [0, good.len() / 2, good.len().saturating_sub(1)] {
            spoil(file, &good[..length]);
        }
    }
    println!("evidence: {tried} spoiled files, the index was built again {rebuilt} times, no answer changed");
    assert!(rebuilt > tried / 2, "{rebuilt} of {tried}");
}

#[test]
fn a_record_that_lies_with_a_good_checksum_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let (entries, expected) = indexed(directory.path());
    let file = directory.path().join("chains/batches");
    let good = fs::read(&file).unwrap();
    for (slot, bytes) in (0..).zip(good.chunks(BATCH_RECORD_BYTES)) {
        let mut record = BatchRecord::decode(Slot(slot), bytes).unwrap();
        record.span.until_wall.0 += 1;
        let at = usize::try_from(slot).unwrap() * BATCH_RECORD_BYTES;
        let mut bad = good.clone();
        bad[at..at + BATCH_RECORD_BYTES].copy_from_slice(&record.encode(Slot(slot)));
        fs::write(&file, &bad).unwrap();
        let (projection, query) = open(&entries, directory.path());
        assert_eq!(query.ask(answers).unwrap(), expected, "slot {slot}");
        assert_eq!(projection.generation(), 1, "slot {slot}");
    }
}

#[test]
fn an_index_ahead_of_the_ledger_or_of_another_one_is_built_again() {
    let directory = tempfile::tempdir().unwrap();
    indexed(directory.path());
    let (shorter, ..) = counted(2);
    let (projection, query) = open(&shorter, directory.path());
    projection.catch_up().unwrap();
    assert_eq!(
        (projection.generation(), projection.indexed()),
        (1, shorter.size())
    );
    assert_eq!(query.status().indexed, shorter.size());
    drop((projection, query));
    // The same size, other batches.
    let (mut one, mut two) = (Maker::new(8), Maker::new(9));
    for maker in [&mut one, &mut two] {
        let begins = run_begins(maker.host(), "node-8", 0);
        maker
            .seal(STARTS, 0, 1_000, &begins)
            .seal(STARTS, 1_000, 2_000, &[]);
    }
    let reader = ledger_of(Arc::new(Memory::new()), &[&one, &two]).reader();
    assert_eq!(Entries::size(&reader), shorter.size());
    let projection = Projection::new(Arc::new(reader), Some(directory.path().to_owned()));
    projection.catch_up().unwrap();
    assert_eq!((projection.generation(), projection.hosts().len()), (1, 2));
    assert!(projection.chain(&one.host()).is_some());
}
