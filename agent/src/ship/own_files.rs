//! Seeded ways to spoil an agent's own files beside its spool: each is found and put down to the file that was touched,
//! or is shown to change nothing.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use common::{
    batch::KeyHead,
    ids::{Hash, KeyEpoch},
    ledger_keys::LedgerKeys,
    merkle::root_of,
    spool::LedgerMark,
};
use proptest::{
    prelude::Rng as _,
    test_runner::{TestRng, TestRunner},
};

use self::world::{World, mark, signer};
use super::remembered;
use crate::files::{Finding, examine};

const MUTATIONS: u64 = 10_000;
const CLEAN_RUNS: u64 = 1_000;

/// Every file of [`Layout`], and where it is spoilt. What is no file of its own is a directory of such.
const KINDS: &[(&str, Suite)] = &[
    (
        "config",
        Suite::Elsewhere("the operator's: config::tests refuse what is no setting"),
    ),
    ("signing_keys", Suite::Here),
    (
        "signing_key",
        Suite::Elsewhere("of agents before key epochs, erased at the first start: identity::tests"),
    ),
    ("tls_key", Suite::Here),
    ("csr", Suite::Here),
    ("tls_certificate", Suite::Here),
    ("ca_certificate", Suite::Here),
    ("ledger_key", Suite::Here),
    ("learnt_keys", Suite::Here),
    ("ledger_keys", Suite::Here),
    ("checkpoint", Suite::Here),
    ("evidence", Suite::Here),
    ("spool", Suite::Elsewhere("common::spool::tests::mutations")),
    (
        "state",
        Suite::Elsewhere("the directory of three of these, of the lock and the socket, which hold nothing"),
    ),
];

#[derive(PartialEq)]
enum Suite {
    Here,
    Elsewhere(&'static str),
}

#[test]
fn every_file_kind_of_an_agent_has_a_suite() {
    let source = include_str!("../config.rs");
    let methods = source.split("pub fn ").skip(1);
    let named: BTreeSet<&str> = methods
        .filter_map(|text| text.split_once("(&self) -> PathBuf").map(|(name, _)| name))
        .filter(|name| !name.contains('('))
        .collect();
    let known: BTreeSet<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, known, "a file of the agent that nobody spoils");
    for (name, suite) in KINDS {
        if let Suite::Elsewhere(place) = suite {
            println!("{name}: {place}");
        }
    }
}

fn below(random: &mut TestRng, bound: usize) -> usize {
    usize::try_from(random.next_u64() % bound.max(1) as u64).unwrap()
}

/// One way to spoil a file: what it is called, and the bytes that are there then.
fn spoil(random: &mut TestRng, good: &[u8], older: Option<&Vec<u8>>) -> (&'static str, Option<Vec<u8>>) {
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
        Some(bytes) => {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        None => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn ten_thousand_mutations_of_an_agents_own_files_are_each_found_and_named() {
    let world = World::new();
    let mut random = TestRunner::deterministic().new_rng();
    let (mut done, mut kinds) = (0, BTreeMap::<(&str, String), u64>::new());
    let mut harmless = BTreeMap::<(&str, &str), u64>::new();
    while done < MUTATIONS {
        let (path, good) = &world.files[below(&mut random, world.files.len())];
        let (kind, bad) = spoil(&mut random, good, world.older.get(path));
        if bad.as_ref() == Some(good) {
            continue;
        }
        // The chain may stand at the last batch of the epoch before: then nothing was sealed under the keys in force.
        let behind = random.next_u64().is_multiple_of(2);
        let older_keys = &world.older[&world.layout.signing_keys()];
        let before = common::keyring::read_key_file(older_keys).unwrap().0.held();
        let chain = if behind {
            KeyHead {
                epoch: before.epoch,
                key: Some(before.key),
                announced: Some(before.next),
            }
        } else {
            world.chain
        };
        put(path, bad.as_deref());
        let mut findings = world.examine();
        if path == &world.layout.signing_keys()
            && let Ok((record, _)) = common::keyring::read_key_file(bad.as_deref().unwrap_or_default())
            && let Err(differ) = record.held().fits(&chain)
        {
            // The spool does not open: the agent ends, and signs nothing.
            findings.push(Finding::new(path.clone(), differ.to_string()));
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let other = findings
            .iter()
            .find(|found| found.path != *path && !found.what.contains(name));
        assert!(other.is_none(), "{done}: {kind} of {name}: {other:?}");
        if findings.is_empty() {
            let reason = world.harmless(path, good, bad.as_deref(), &chain);
            let reason = reason.unwrap_or_else(|| {
                let same = good
                    .iter()
                    .zip(bad.iter().flatten())
                    .take_while(|(good, bad)| good == bad);
                panic!(
                    "{done}: {kind} of {name} from byte {} on was not noticed",
                    same.count()
                )
            });
            *harmless.entry((kind, reason)).or_default() += 1;
        }
        put(path, Some(good.as_slice()));
        let role = path.extension().unwrap_or_default().to_str().unwrap();
        let what = match path.parent() {
            Some(dir) if dir == world.layout.evidence() => format!("evidence {role}"),
            Some(dir) if dir == world.layout.state() => format!("state/{name}"),
            _ => name.to_owned(),
        };
        *kinds.entry((kind, what)).or_default() += 1;
        done += 1;
    }
    let unnoticed: u64 = harmless.values().sum();
    println!(
        "evidence: {done} mutations of an agent's own files: {} found and named, {unnoticed} that change nothing: {harmless:?}",
        done - unnoticed
    );
    println!("{kinds:?}");
    assert_eq!(world.examine(), []);
    for kind in ["flip", "delete", "duplicate", "reorder", "truncate"] {
        assert_eq!(
            kinds.keys().filter(|(found, _)| *found == kind).count(),
            world.files.len(),
            "{kind}"
        );
    }
}

/// States that an orderly life, a crash or an upgrade leaves: none of them is a finding.
#[test]
fn a_thousand_clean_looks_at_an_agents_files_raise_no_alarm() {
    let world = World::new();
    let layout = &world.layout;
    let mut random = TestRunner::deterministic().new_rng();
    let keys = remembered::keys_of(layout).unwrap();
    let older = &world.older[&layout.checkpoint()];
    let no_history = LedgerKeys::from(signer(1).verifier().clone());
    let marks = [
        // Before the head had a mark, before the last checkpoint, before any, before any history.
        None,
        Some(mark(&keys, older)),
        Some(LedgerMark {
            size: 0,
            root: root_of(&[]),
            ..world.mark
        }),
        Some(LedgerMark {
            history_bytes: 0,
            history: Hash::of(&no_history.encode()),
            ..world.mark
        }),
        Some(world.mark),
    ];
    let item = &world.files[9].0;
    for run in 0..CLEAN_RUNS {
        let mark = marks[below(&mut random, marks.len())];
        // A crash leaves files under another name.
        let left = [layout.checkpoint(), layout.learnt_keys(), item.clone()];
        let left = &left[below(&mut random, left.len())];
        let mut name = left.as_os_str().to_owned();
        name.push(".new");
        put(Path::new(&name), Some(b"half a fi"));
        let unenrolled = random.next_u64().is_multiple_of(4);
        let hidden = [layout.tls_certificate(), layout.ca_certificate()];
        if unenrolled {
            hidden
                .iter()
                .for_each(|path| fs::rename(path, path.with_extension("away")).unwrap());
        }
        assert_eq!(examine(layout, &world.host, mark.as_ref()), [], "run {run}");
        if unenrolled {
            hidden
                .iter()
                .for_each(|path| fs::rename(path.with_extension("away"), path).unwrap());
        }
        fs::remove_file(name).unwrap();
    }
    println!("evidence: {CLEAN_RUNS} clean looks at an agent's files, no alarm");
}

/// The checkpoint is what exposes a ledger that was rolled back: without it, or with an older one, this agent asks for
/// no less than before.
#[test]
fn a_checkpoint_that_is_gone_or_older_is_said_and_forgets_nothing() {
    let world = World::new();
    let layout = &world.layout;
    let before = remembered::read(layout, Some(&world.mark)).unwrap().seen;
    put(&layout.checkpoint(), None);
    let gone = remembered::read(layout, Some(&world.mark)).unwrap();
    assert_eq!((gone.seen.size, gone.seen.root), (before.size, before.root));
    assert!(
        gone.forgotten
            .unwrap()
            .to_string()
            .contains("of 9 leaves, is gone")
    );
    put(&layout.checkpoint(), Some(&world.older[&layout.checkpoint()]));
    let older = remembered::read(layout, Some(&world.mark)).unwrap();
    assert_eq!((older.seen.size, older.seen.root), (before.size, before.root));
    let said = older.forgotten.unwrap();
    assert!(
        said.to_string().contains("has 5 leaves, this agent had seen 9"),
        "{said}"
    );
    remembered::set_aside(layout, &said);
    assert!(layout.checkpoint().with_extension("rot").exists() && !layout.checkpoint().exists());
    // Keys have no stand-in: whoever stole a revoked key would be believed.
    put(&layout.checkpoint(), Some(&before.note));
    put(&layout.learnt_keys(), None);
    let refused = remembered::read(layout, Some(&world.mark))
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("state/ledger.keys") && refused.contains("revoked"),
        "{refused}"
    );
    assert_eq!(KeyEpoch(2), world.chain.epoch);
}
