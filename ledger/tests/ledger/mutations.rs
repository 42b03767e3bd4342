//! Ten thousand seeded ways to spoil a ledger, over every kind of file: each is found and put down to the objects that
//! were touched, and to no other. A thousand sound ledgers raise no alarm.

use std::collections::{BTreeMap, BTreeSet};

use common::{checkpoint, ids::LeafIndex, limits::NOTE_BYTES_MAX};
use ledger::{
    Memory,
    fsck::{self, Cause, Options, Report, Seen},
    storage::Storage,
};

use crate::support::{append, body, header, key, open};

const MUTATIONS: u64 = 10_000;
const CLEAN_RUNS: u64 = 1_000;
const CHECKPOINT: &str = "log/checkpoint";

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

type Objects = BTreeMap<String, Vec<u8>>;

fn objects_of(memory: &Memory) -> Objects {
    let read = |path: String| {
        let bytes = memory.read(&path, u64::MAX).unwrap().unwrap();
        (path, bytes)
    };
    memory.list("").unwrap().into_iter().map(read).collect()
}

fn seen(memory: &Memory) -> Seen {
    let note = memory.read(CHECKPOINT, NOTE_BYTES_MAX as u64).unwrap().unwrap();
    Seen {
        at: "an agent".to_owned(),
        head: checkpoint::open(&note, key().verifier()).unwrap(),
    }
}

fn check(memory: &Memory, seen: &[Seen]) -> Report {
    let trusted = key().verifier().clone().into();
    let options = Options {
        key: Some(&trusted),
        seen,
        ..Options::default()
    };
    fsck::run(memory, &options, &|leaf: LeafIndex, found_header, found_body| {
        if found_header == header(leaf.0) && found_body == body(leaf.0) {
            Ok(())
        } else {
            Err("not as made".to_owned())
        }
    })
}

/// What a file is; files of one kind can be exchanged for one another.
fn kind(path: &str) -> &'static str {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["groups", ..] => "group",
        ["log", "tile", "entries", ..] => "bundle",
        ["log", "tile", ..] => "tile",
        ["log", "checkpoint"] => "checkpoint",
        _ => "key",
    }
}

/// Whether a reader can do without the object: a partial tile or bundle that a wider one repeats.
fn is_repeated(path: &str, objects: &Objects) -> bool {
    let Some((full, width)) = path.split_once(".p/") else {
        return false;
    };
    let width: u16 = width.parse().unwrap();
    objects.keys().any(|other| match other.split_once(".p/") {
        Some((other, wider)) => other == full && wider.parse::<u16>().unwrap() > width,
        None => other == full,
    })
}

/// One way to spoil `objects`: its name, the objects that must be named, and what they hold now (`None`: gone).
type Mutation = (&'static str, Vec<(String, Option<Vec<u8>>)>);

fn mutate(random: &mut Random, objects: &Objects, older: &Objects) -> Mutation {
    let paths: Vec<&String> = objects.keys().collect();
    let path = paths[random.below(paths.len())].clone();
    let good = &objects[&path];
    let mut bad = good.clone();
    let at = random.below(good.len());
    let run = 1 + random.below((good.len() - at).min(100));
    match random.below(7) {
        0 => {
            bad[at] ^= 1 << random.below(8);
            ("flip", vec![(path, Some(bad))])
        }
        1 => ("delete", vec![(path, None)]),
        2 => {
            bad.splice(at..at, good[at..at + run].to_vec());
            ("duplicate", vec![(path, Some(bad))])
        }
        3 => {
            // Two runs of one length, one behind the other, exchanged.
            let run = run.min((good.len() - at) / 2);
            bad[at..at + 2 * run].rotate_left(run);
            ("reorder", vec![(path, Some(bad))])
        }
        4 => {
            bad.truncate(at);
            ("truncate", vec![(path, Some(bad))])
        }
        5 => {
            let alike: Vec<&&String> = paths.iter().filter(|other| kind(other) == kind(&path)).collect();
            let other = (*alike[random.below(alike.len())]).clone();
            let theirs = objects[&other].clone();
            (
                "exchange",
                vec![(path, Some(theirs)), (other, Some(good.clone()))],
            )
        }
        _ if random.below(2) == 0 => {
            let bytes = older[CHECKPOINT].clone();
            ("older checkpoint", vec![(CHECKPOINT.to_owned(), Some(bytes))])
        }
        _ => {
            let all: BTreeSet<&String> = objects.keys().chain(older.keys()).collect();
            let changes = all
                .into_iter()
                .map(|path| (path.clone(), older.get(path).cloned()));
            ("older copy of everything", changes.collect())
        }
    }
}

#[test]
fn ten_thousand_mutations_are_each_found_and_named() {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    let (mut next, mut copies) = (0, Vec::new());
    for count in [10, 250, 600, 1, 130, 66] {
        append(&mut ledger, next, count).unwrap();
        ledger.integrate_and_publish().unwrap();
        next += count;
        copies.push(objects_of(&memory));
    }
    drop(ledger);
    let (objects, older) = (copies.pop().unwrap(), copies);
    let seen = [seen(&memory)];
    assert!(check(&memory, &seen).is_sound());

    let mut random = Random(4);
    let (mut done, mut kinds) = (0, BTreeMap::<(&'static str, &'static str), u64>::new());
    while done < MUTATIONS {
        let older = &older[random.below(older.len())];
        let (name, changes) = mutate(&mut random, &objects, older);
        let changes: Vec<_> = changes
            .into_iter()
            .filter(|(path, bytes)| bytes.as_ref() != objects.get(path))
            .collect();
        // A change that changes nothing, or that takes what a wider tile repeats, harms nobody.
        let harmless =
            |(path, bytes): &(String, Option<Vec<u8>>)| bytes.is_none() && is_repeated(path, &objects);
        if changes.iter().all(harmless) {
            continue;
        }
        for (path, bytes) in &changes {
            memory.tamper(path, bytes.as_deref());
        }
        let report = check(&memory, &seen);
        let named: BTreeSet<&str> = report.faults.iter().map(|fault| fault.object.as_str()).collect();
        let touched: BTreeSet<&str> = if name.starts_with("older") {
            BTreeSet::from([CHECKPOINT])
        } else {
            changes.iter().map(|(path, _)| path.as_str()).collect()
        };
        assert_eq!(named, touched, "{done}: {name}: {:?}", report.faults);
        if name.starts_with("older") {
            assert_eq!(report.faults[0].cause, Cause::Missing, "{:?}", report.faults);
        }
        let what = if touched.len() > 1 {
            "several"
        } else {
            kind(touched.first().unwrap())
        };
        *kinds.entry((name, what)).or_default() += 1;
        for (path, _) in &changes {
            memory.tamper(path, objects.get(path).map(Vec::as_slice));
        }
        done += 1;
    }
    assert!(check(&memory, &seen).is_sound());
    println!("{done} mutations, each found and put down to what was touched: {kinds:?}");
    for file in ["group", "bundle", "tile", "checkpoint", "key"] {
        for name in ["flip", "duplicate", "reorder", "truncate"] {
            assert!(
                kinds.contains_key(&(name, file)),
                "no {name} of a {file}: {kinds:?}"
            );
        }
    }
}

#[test]
fn a_thousand_sound_ledgers_raise_no_alarm() {
    for run in 0..CLEAN_RUNS {
        let mut random = Random(run);
        let memory = Memory::new();
        let (mut ledger, _) = open(memory.clone()).unwrap();
        let (mut next, mut heads) = (0, vec![seen(&memory)]);
        for _ in 0..random.below(8) {
            let count = 1 + random.next() % 70;
            append(&mut ledger, next, count).unwrap();
            next += count;
            if random.below(3) > 0 {
                ledger.integrate_and_publish().unwrap();
                heads.push(seen(&memory));
            }
        }
        let report = check(&memory, &heads);
        assert!(report.is_sound(), "run {run}: {:?}", report.faults);
        assert_eq!(report.counts.leaves, next, "run {run}");
    }
    println!("{CLEAN_RUNS} sound ledgers, no alarm");
}
