//! Seeded ways to spoil a ledger of batches, statements, holds and pruned groups: whatever is touched is named.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    checkpoint,
    ids::WallNanos,
    limits::NOTE_BYTES_MAX,
    statement::{Hold, Said},
    text::Text,
};
use ledger::{
    Memory, audit,
    fsck::{Options, Report, Seen},
    kept::parse_kept_path,
    storage::Storage,
};
use proptest::{
    prelude::Rng as _,
    test_runner::{TestRng, TestRunner},
};
use tests::{chains::wall, pruning};

use crate::{GROUPS, key, ledger_of, open, policy};

const MUTATIONS: u64 = 10_000;
const CHECKPOINT: &str = "log/checkpoint";

type Objects = BTreeMap<String, Vec<u8>>;

fn objects_of(storage: &Memory) -> Objects {
    let read = |path: String| {
        let bytes = storage.read(&path, u64::MAX).unwrap().unwrap();
        (path, bytes)
    };
    storage.list("").unwrap().into_iter().map(read).collect()
}

fn check(storage: &Memory, seen: &[Seen]) -> Report {
    let trusted = key().verifier().clone().into();
    let options = Options {
        key: Some(&trusted),
        seen,
        ..Options::default()
    };
    audit::run(storage, &options).report
}

fn kind(path: &str) -> &'static str {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["groups", ..] if parse_kept_path(path).is_some() => "kept",
        ["groups", ..] => "group",
        ["log", "tile", "entries", ..] => "bundle",
        ["log", "tile", ..] => "tile",
        ["log", "checkpoint"] => "checkpoint",
        _ => "key",
    }
}

/// Whether a reader can do without a partial tile or bundle: a wider one repeats it.
fn is_repeated(path: &str, objects: &Objects) -> bool {
    let width = |path: &str| {
        let (full, width) = path.split_once(".p/")?;
        Some((full.to_owned(), width.parse::<u16>().ok()?))
    };
    let Some((full, narrow)) = width(path) else {
        return false;
    };
    let wider = |other: &String| width(other).is_some_and(|(of, wide)| of == full && wide > narrow);
    objects.keys().any(wider)
}

fn below(random: &mut TestRng, bound: usize) -> usize {
    usize::try_from(random.next_u64() % bound.max(1) as u64).unwrap()
}

/// One way to spoil `objects`: its name, and what they hold then (`None`: gone).
fn mutate(random: &mut TestRng, objects: &Objects, older: &Objects) -> (&'static str, Objects, Vec<String>) {
    let paths: Vec<&String> = objects.keys().collect();
    // Objects of what is new here come up as often as all others together.
    let (new, all): (Vec<&String>, Vec<&String>) = (
        paths
            .iter()
            .copied()
            .filter(|path| path.starts_with("groups/"))
            .collect(),
        paths,
    );
    let from = if below(random, 2) == 0 { &new } else { &all };
    let path = from[below(random, from.len())].clone();
    let good = &objects[&path];
    let mut spoiled = objects.clone();
    let mut bad = good.clone();
    let at = below(random, good.len());
    let run = 1 + below(random, (good.len() - at).min(100));
    let name = match below(random, 6) {
        0 => {
            bad[at] ^= 1 << below(random, 8);
            "flip"
        }
        1 if is_repeated(&path, objects) => return ("none", spoiled, Vec::new()),
        1 => {
            spoiled.remove(&path);
            return ("delete", spoiled, vec![path]);
        }
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
        _ => match older.get(&path) {
            Some(before) => {
                bad.clone_from(before);
                "older copy"
            }
            None => {
                // It was another object then: the body is back, and what is kept beside it.
                let group = path.trim_end_matches(".kept").to_owned();
                let Some(before) = older.get(&group).filter(|_| path.ends_with(".kept")) else {
                    return ("none", spoiled, Vec::new());
                };
                spoiled.remove(&path);
                spoiled.insert(group.clone(), before.clone());
                return ("bodies put back", spoiled, vec![group]);
            }
        },
    };
    spoiled.insert(path.clone(), bad);
    (name, spoiled, vec![path])
}

#[test]
fn whatever_is_spoiled_of_statements_and_pruned_groups_is_named() {
    let before = ledger_of(&GROUPS);
    let storage = before.storage.snapshot();
    let mut ledger = open(&storage).unwrap();
    let hold = Said::Hold(Hold {
        host: None,
        from: wall(20),
        until: wall(29),
        reason: Text(b"case 7".to_vec()),
    });
    pruning::state(&mut ledger, &key(), hold, WallNanos(3)).unwrap();
    ledger.integrate_and_publish().unwrap();
    let older = objects_of(&storage);
    let report = pruning::prune(&mut ledger, &key(), &policy(80), WallNanos(5), &mut |_, _| true).unwrap();
    assert!(report.bodies() > 4);
    drop(ledger);
    let objects = objects_of(&storage);
    let note = storage.read(CHECKPOINT, NOTE_BYTES_MAX as u64).unwrap().unwrap();
    let seen = [Seen {
        at: "an agent".to_owned(),
        head: checkpoint::open(&note, key().verifier()).unwrap(),
    }];
    assert!(check(&storage, &seen).is_sound());

    let mut random = TestRunner::deterministic().new_rng();
    let (mut done, mut kinds) = (0, BTreeMap::<(&'static str, &'static str), u64>::new());
    while done < MUTATIONS {
        let (name, spoiled, touched) = mutate(&mut random, &objects, &older);
        if spoiled == objects || touched.is_empty() {
            continue;
        }
        let all: BTreeSet<&String> = objects.keys().chain(spoiled.keys()).collect();
        let changed: Vec<&&String> = all
            .iter()
            .filter(|path| objects.get(**path) != spoiled.get(**path))
            .collect();
        for path in &changed {
            storage.tamper(path, spoiled.get(**path).map(Vec::as_slice));
        }
        let report = check(&storage, &seen);
        // A group whose head cannot be read is missing under its own name as well, for nothing says any more that only
        // part of it was kept.
        let group = |object: &str| object.trim_end_matches(".kept").to_owned();
        let named: BTreeSet<String> = report.faults.iter().map(|fault| group(&fault.object)).collect();
        let mut expected: BTreeSet<String> = touched.iter().map(|object| group(object)).collect();
        if name == "bodies put back" {
            // They are what was signed, so nothing is wrong with them; that they should be gone is said.
            expected.clear();
            let said = report.notes.iter().any(|note| note.contains("still there"));
            assert!(said, "{done}: {:?}", report.notes);
        }
        assert_eq!(named, expected, "{done}: {name}: {:?}", report.faults);
        *kinds.entry((name, kind(&touched[0]))).or_default() += 1;
        for path in &changed {
            storage.tamper(path, objects.get(**path).map(Vec::as_slice));
        }
        done += 1;
    }
    assert!(check(&storage, &seen).is_sound());
    println!("{done} mutations of statements and pruned groups, each found and named: {kinds:?}");
    for file in ["group", "kept", "bundle", "tile", "checkpoint", "key"] {
        for name in ["flip", "duplicate", "reorder", "truncate"] {
            assert!(
                kinds.contains_key(&(name, file)),
                "no {name} of a {file}: {kinds:?}"
            );
        }
    }
}
