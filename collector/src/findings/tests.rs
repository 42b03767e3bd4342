//! Seeded ways to spoil what a collector and a witness keep beside the ledger: each is found and put down to the file that
//! was touched, or is shown to change nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use common::{
    anchor::{AnchorRecord, scan},
    checkpoint::Checkpoint,
    ids::{Hash, HostId, Sequence, WallNanos},
    merkle::{consistency_proof, leaf_hash, root_of},
    note::{SignerKey, WitnessSigner},
    witness::{AddCheckpoint, TrustedLog},
};
use proptest::{
    prelude::Rng as _,
    test_runner::{TestRng, TestRunner},
};

use super::*;
use crate::{
    evidence::{Evidence, EvidenceStore, Item},
    metrics::Metrics,
    pki::{Issued, Validity},
    witness::{Place, Settings, Store},
};

const MUTATIONS: u64 = 10_000;
const CLEAN_RUNS: u64 = 1_000;
const ORIGIN: &str = "ledger.example/one";

/// Every file that the two layouts name, and where it is spoilt.
const COLLECTOR: &[(&str, &str)] = &[
    ("root", "the directory itself"),
    (
        "config",
        "the operator's: config::tests refuse what is no setting",
    ),
    (
        "ca_certificate",
        "read by rustls and rcgen at each use, which refuse what does not parse; no suite of mutations",
    ),
    ("ca_key", "the same"),
    ("server_certificate", "the same; agents refuse another one"),
    ("server_key", "the same; it must fit the certificate"),
    (
        "ledger_key",
        "its text has a key id over name and public key, and must fit ledger.vkey",
    ),
    (
        "ledger_key_next",
        "the same, while keys are changed: tests/fault_keys",
    ),
    ("offline_key", "the same"),
    (
        "projections",
        "derived: tests/end_to_end_query whatever_happens_to_its_files_changes_no_answer",
    ),
    (
        "ledger_index",
        "derived: ledger/tests an_index_deleted_cut_or_flipped_is_built_again_and_never_wrong",
    ),
    (
        "standing",
        "derived: pipeline::standing::tests ten_thousand_mutations_of_the_file_are_each_found_or_change_nothing",
    ),
    ("ledger", "ledger/tests mutations, tests/fault_prune spoiled"),
    ("ledger_verifier", "the same"),
    ("ledger_keys", "the same"),
    ("checkpoint", "the same"),
    ("hosts", HERE),
    ("host", HERE),
    ("evidence", HERE),
    ("witnesses", "derived: shown by status, written anew by each run"),
    ("control", "a socket"),
    (
        "anchors",
        "derived: without it each target is served at once and the anchor file's length is said to be unknown, anchor/board",
    ),
    ("running", "derived: written anew by each run"),
];
const WITNESS: &[(&str, &str)] = &[
    ("root", "the directory itself"),
    ("settings", "the operator's"),
    ("key", "its text has a key id over name and public key"),
    ("verifier", "a copy for others: nothing here reads it"),
    ("lock", "empty"),
    ("running", "derived: written anew by each run"),
    ("record", HERE),
    ("mark", HERE),
    (
        "contradictions",
        "requests as they came, named by their hash: who reads them verifies their signatures",
    ),
];
const HERE: &str = "here";

#[test]
fn every_file_kind_beside_the_ledger_has_a_suite_or_a_reason() {
    let layouts = [
        (include_str!("../layout.rs"), COLLECTOR),
        (include_str!("../witness/mod.rs"), WITNESS),
    ];
    for (source, table) in layouts {
        let methods = source.split("pub fn ").skip(1);
        let named: BTreeSet<&str> = methods
            .filter(|text| {
                let head = text.split('{').next().unwrap_or_default();
                head.contains("&self") && head.contains("Path")
            })
            .filter_map(|text| text.split('(').next())
            .collect();
        let known: BTreeSet<&str> = table.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, known, "a file that nobody spoils");
    }
}

fn log_key() -> SignerKey {
    SignerKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn leaves(count: u8) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&[number])).collect()
}

fn note(size: u8) -> Vec<u8> {
    let head = Checkpoint {
        origin: ORIGIN.into(),
        size: u64::from(size),
        root: root_of(&leaves(size)),
        extensions: Vec::new(),
    };
    head.sign(&log_key()).unwrap().into_bytes()
}

fn request(old: u8, size: u8) -> Vec<u8> {
    let (from, to) = (usize::from(old), usize::from(size));
    let proof = if old == 0 {
        Vec::new()
    } else {
        consistency_proof(&leaves(size), from, to).unwrap()
    };
    let old = u64::from(old);
    AddCheckpoint {
        old,
        proof,
        note: note(size),
    }
    .encode()
}

/// What is kept, and what an older copy of each file would be.
struct World {
    dir: tempfile::TempDir,
    layout: Layout,
    settings: Settings,
    files: Vec<PathBuf>,
    good: BTreeMap<PathBuf, Vec<u8>>,
    older: BTreeMap<PathBuf, Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("c"));
        crate::files::create_dir(&layout.hosts()).unwrap();
        let host = HostId([3; 32]);
        let register = |serial: &str, name| {
            let validity = Validity::starting(WallNanos(1 << 60), Duration::from_secs(9)).unwrap();
            let issued = Issued {
                host,
                pem: String::new(),
                der: Vec::new(),
                serial: serial.to_owned(),
                validity,
            };
            registry::register(
                &layout,
                &issued,
                name,
                "2026-01-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            )
            .unwrap();
        };
        let mut older = BTreeMap::new();
        register("4a01", Some("n"));
        older.insert(layout.host(&host), fs::read(layout.host(&host)).unwrap());
        register("4a02", None);

        let store = EvidenceStore::open(layout.clone(), 1 << 20, Arc::new(Metrics::default())).unwrap();
        for (number, offered) in [(1, b"offered"), (2, b"another")] {
            let evidence = Evidence {
                reason: "equivocation",
                text: format!("two batches under sequence {number}"),
                host,
                sequence: Some(Sequence(number)),
                peer: "127.0.0.1:1".to_owned(),
                at: "2026-01-01T00:00:00Z".to_owned(),
                files: vec![
                    ("offered.header", offered.to_vec()),
                    ("stored.header", vec![9; 300]),
                ],
            };
            store.keep(&evidence).unwrap();
        }
        let kept = layout.evidence().join(host.to_string());
        let mut items: Vec<PathBuf> = fs::read_dir(&kept)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        items.sort();
        let (first, second) = items.split_at(items.len() / 2);
        for (one, other) in first.iter().zip(second) {
            older.insert(one.clone(), fs::read(other).unwrap());
        }

        let place = Place::new(dir.path().join("w"));
        crate::files::create_dir(place.root()).unwrap();
        let key = WitnessSigner::from_seed("witness.example/w", &[5; 32]).unwrap();
        fs::write(place.key(), key.encode_secret()).unwrap();
        let log = TrustedLog {
            origin: ORIGIN.to_owned(),
            keys: vec![log_key().verifier().clone()],
        };
        let mut settings = Settings::parse("").unwrap();
        settings.logs = vec![log];
        let witness = Store::open(place.clone(), &settings).unwrap();
        let hash = witness.logs().next().unwrap().hash.clone();
        witness.add_checkpoint(&request(0, 4), 5).unwrap();
        for path in [place.record(&hash), place.mark(&hash)] {
            older.insert(path.clone(), fs::read(path).unwrap());
        }
        witness.add_checkpoint(&request(4, 9), 6).unwrap();
        drop(witness);

        let mut files: Vec<PathBuf> = first.to_vec();
        files.extend([layout.host(&host), place.record(&hash), place.mark(&hash)]);
        let good = files
            .iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        Self {
            dir,
            layout,
            settings,
            files,
            good,
            older,
        }
    }

    fn witness(&self) -> Result<Store, crate::witness::StoreError> {
        Store::read(Place::new(self.dir.path().join("w")), &self.settings)
    }

    /// Everything that anybody says.
    fn said(&self) -> Vec<String> {
        let mut said: Vec<String> = examine(&self.layout).iter().map(Finding::to_string).collect();
        said.extend(self.witness().err().map(|error| error.to_string()));
        said
    }

    /// Why nobody could tell, and nothing wrong follows.
    fn harmless(&self, kind: &str, path: &Path) -> Option<&'static str> {
        let registration = path.starts_with(self.layout.hosts());
        let mark = path.starts_with(self.dir.path().join("w/marks"));
        if path.starts_with(self.dir.path().join("w/cosigned")) {
            // It opened, so the witness's own cosignature fits it: what it says is what was cosigned.
            let record = self.witness().unwrap().logs().next().unwrap().last().unwrap();
            let same = (record.size, record.root) == (9, root_of(&leaves(9)));
            return same.then_some(
                "lines of other signatures in a witness's record, which whoever reads it verifies",
            );
        }
        match kind {
            "delete" if registration => Some(
                "a registration that is gone: the host is refused by name; what an operator does to refuse one",
            ),
            "older copy" if registration => Some(
                "an older registration: newer certificates are refused by name, and an end that was declared stands in the ledger",
            ),
            // The record has the word, and is the one cosigned last.
            "delete" | "older copy" if mark => {
                let size = self
                    .witness()
                    .unwrap()
                    .logs()
                    .next()
                    .unwrap()
                    .last()
                    .unwrap()
                    .size;
                (size == 9)
                    .then_some("a mark that is gone or behind, as a crash leaves it: the record has the word")
            }
            _ => None,
        }
    }
}

fn below(random: &mut TestRng, bound: usize) -> usize {
    usize::try_from(random.next_u64() % bound.max(1) as u64).unwrap()
}

/// One way to spoil these bytes: how, and what is left of them.
pub(crate) fn spoil(
    random: &mut TestRng,
    good: &[u8],
    older: Option<&Vec<u8>>,
) -> (&'static str, Option<Vec<u8>>) {
    let mut bad = good.to_vec();
    let at = below(random, good.len());
    let run = 1 + below(random, (good.len() - at).min(200));
    let kind = match below(random, 6) {
        0 => {
            bad[at] ^= 1 << below(random, 8);
            "flip"
        }
        1 => return ("delete", None),
        2 => {
            bad.splice(at..at, good[at..at + run].to_vec());
            "duplicate"
        }
        3 => {
            let run = run.min((good.len() - at) / 2);
            bad[at..at + 2 * run].rotate_left(run);
            "reorder"
        }
        4 => {
            bad.truncate(at);
            "truncate"
        }
        _ => {
            bad = older.unwrap_or(&bad).clone();
            "older copy"
        }
    };
    (kind, Some(bad))
}

fn put(path: &Path, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn ten_thousand_mutations_beside_the_ledger_are_each_found_and_named() {
    let world = World::new();
    assert_eq!(world.said(), Vec::<String>::new());
    let mut random = TestRunner::deterministic().new_rng();
    let (mut done, mut kinds) = (0, BTreeMap::<(&str, String), u64>::new());
    let mut harmless = BTreeMap::<(&str, &str), u64>::new();
    while done < MUTATIONS {
        let path = &world.files[below(&mut random, world.files.len())];
        let good = &world.good[path];
        let (kind, bad) = spoil(&mut random, good, world.older.get(path));
        if bad.as_ref() == Some(good) {
            continue;
        }
        put(path, bad.as_deref());
        let said = world.said();
        let name = path.file_name().unwrap().to_str().unwrap();
        // The description and the sums of one item may each be the one that was altered.
        let sums = path.extension().is_some_and(|extension| extension == "sha256");
        let beside = path.with_extension("json");
        let about = |said: &String| {
            said.contains(name) || sums && said.contains(beside.to_str().unwrap()) && said.contains(".sha256")
        };
        let other = said.iter().find(|said| !about(said));
        assert!(other.is_none(), "{done}: {kind} of {name}: {other:?}");
        if said.is_empty() {
            let reason = world.harmless(kind, path);
            let reason =
                reason.unwrap_or_else(|| panic!("{done}: {kind} of {} was not noticed", path.display()));
            *harmless.entry((kind, reason)).or_default() += 1;
        }
        put(path, Some(good));
        let what = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let role = path.extension().unwrap_or_default().to_str().unwrap();
        *kinds.entry((kind, format!("{what:.8} {role}"))).or_default() += 1;
        done += 1;
    }
    let unnoticed: u64 = harmless.values().sum();
    println!(
        "evidence: {done} mutations beside the ledger: {} found and named, {unnoticed} that change nothing: {harmless:?}",
        done - unnoticed
    );
    println!("{kinds:?}");
    assert_eq!(world.said(), Vec::<String>::new());
    for kind in ["flip", "delete", "duplicate", "reorder", "truncate", "older copy"] {
        assert!(
            kinds.keys().filter(|(found, _)| *found == kind).count() >= 6,
            "{kind}: {kinds:?}"
        );
    }
}

#[test]
fn a_thousand_clean_looks_beside_the_ledger_raise_no_alarm() {
    let world = World::new();
    let mut random = TestRunner::deterministic().new_rng();
    let mark = world.files.last().unwrap();
    for run in 0..CLEAN_RUNS {
        // What a crash leaves: a file under another name, and a mark behind its record.
        let path = &world.files[below(&mut random, world.files.len())];
        let left = format!("{}.7.tmp", path.display());
        put(Path::new(&left), Some(b"half a fi"));
        if random.next_u64().is_multiple_of(3) {
            put(mark, Some(&world.older[mark]));
        }
        assert_eq!(world.said(), Vec::<String>::new(), "run {run}");
        put(mark, Some(&world.good[mark]));
        fs::remove_file(left).unwrap();
    }
    println!("evidence: {CLEAN_RUNS} clean looks beside the ledger, no alarm");
}

/// Records are whole by themselves and not chained: what is taken away at the file's end shows by its length alone.
#[test]
fn ten_thousand_mutations_of_an_anchor_file_are_each_found() {
    let mut bytes = Vec::new();
    let mut ends = vec![0];
    for size in 1..=6 {
        let record = AnchorRecord {
            at: WallNanos(u64::from(size)),
            note: note(size),
            response: None,
        };
        bytes.extend(record.encode().unwrap());
        ends.push(bytes.len());
    }
    let mut random = TestRunner::deterministic().new_rng();
    let (mut done, mut shorter) = (0, 0);
    assert_eq!(scan(&bytes).damage, []);
    while done < MUTATIONS {
        let older = bytes[..ends[below(&mut random, ends.len())]].to_vec();
        let (kind, bad) = spoil(&mut random, &bytes, Some(&older));
        let bad = bad.unwrap_or_default();
        if bad == bytes {
            continue;
        }
        let found = scan(&bad);
        // The next start's first record is held against the length that was left.
        let missed = crate::anchor::missed(bytes.len() as u64, bad.len() as u64);
        assert!(
            !found.damage.is_empty() || missed,
            "{done}: {kind}, {} bytes of {}",
            bad.len(),
            bytes.len()
        );
        shorter += u64::from(found.damage.is_empty());
        done += 1;
    }
    println!(
        "evidence: {done} mutations of an anchor file, each found; {shorter} of them by its length alone"
    );
}

/// What `sha256sum --check` is told covers the description too, which nothing else did.
#[test]
fn sums_cover_every_file_of_an_item() {
    let world = World::new();
    let sums = world
        .files
        .iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "sha256"))
        .unwrap();
    let json = sums.with_extension("json");
    let text = fs::read_to_string(sums).unwrap();
    let item: Item = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(text.lines().count(), item.files.len() + 1);
    for line in text.lines() {
        let (hash, name) = line.split_once("  ").unwrap();
        assert_eq!(
            Hash::of(&fs::read(sums.with_file_name(name)).unwrap()).to_string(),
            hash
        );
    }
    assert!(text.contains(json.file_name().unwrap().to_str().unwrap()));
}
