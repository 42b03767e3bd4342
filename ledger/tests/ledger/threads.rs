//! Many threads: what a check finds, and in which order, is what one thread finds, and none waits for ever.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
    time::Duration,
};

use common::{checkpoint::Checkpoint, ids::LeafIndex};
use ledger::{
    Entry, Memory,
    fsck::{self, Cause, Checks, Counts, Fault, Options},
    group::encode_head,
    storage::Storage,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::support::{append, body, header, open};

/// How long a check may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);
/// Entries of the group that threads share.
const LARGE: std::ops::Range<u64> = 40..60;

/// As [`body`], but large for the group that threads share.
fn made(leaf: u64) -> Vec<u8> {
    if LARGE.contains(&leaf) {
        vec![leaf.to_le_bytes()[0]; 150_000 + 10_000 * usize::try_from(leaf % 7).unwrap()]
    } else {
        body(leaf)
    }
}

/// Groups of a few leaves, one of 3.6 MB, and then many of one leaf each.
fn ledger_of_many_groups() -> Memory {
    let memory = Memory::new();
    let (mut ledger, _) = open(memory.clone()).unwrap();
    for from in (0..40).step_by(10) {
        append(&mut ledger, from, 10).unwrap();
    }
    let large: Vec<(Vec<u8>, Vec<u8>)> = LARGE.map(|leaf| (header(leaf), made(leaf))).collect();
    let entries: Vec<Entry<'_>> = large
        .iter()
        .map(|(header, body)| Entry { header, body })
        .collect();
    ledger.append_group(&entries).unwrap();
    ledger.integrate_and_publish().unwrap();
    for from in 60..300 {
        append(&mut ledger, from, 1).unwrap();
    }
    ledger.integrate_and_publish().unwrap();
    memory
}

/// All that a check says, and the leaves that it handed on, in its order.
#[derive(Debug, PartialEq)]
struct Said {
    faults: Vec<Fault>,
    notes: Vec<String>,
    counts: Counts,
    checkpoint: Option<Checkpoint>,
    handed_on: Vec<LeafIndex>,
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

fn check(memory: &Memory, pool: &ThreadPool) -> Said {
    let entry = |leaf: LeafIndex, found_header: &[u8], found_body: &[u8]| {
        let sound = found_header == header(leaf.0) && found_body == made(leaf.0);
        sound.then_some(leaf).ok_or_else(|| "not as made".to_owned())
    };
    let checks = Checks {
        entry: &entry,
        pruned: &|_, _, _| Err("nothing was pruned".to_owned()),
    };
    let mut handed_on = Vec::new();
    let report = pool.install(|| {
        fsck::run_in_order(memory, &Options::default(), checks, &mut |entries, _| {
            assert!(entries.iter().all(|(leaf, made)| leaf == made));
            handed_on.extend(entries.into_iter().map(|(leaf, _)| leaf));
        })
    });
    Said {
        faults: report.faults,
        notes: report.notes,
        counts: report.counts,
        checkpoint: report.checkpoint,
        handed_on,
    }
}

/// The `seed`-th way to spoil some objects: their names with what they hold then.
fn spoil(memory: &Memory, seed: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let paths = memory.list("").unwrap();
    let spoiled: BTreeSet<&String> = (0..1 + seed % 6)
        .map(|which| &paths[(seed * 31 + which * 97) % paths.len()])
        .collect();
    let large = "groups/040".to_owned();
    let all = spoiled
        .into_iter()
        .chain(seed.is_multiple_of(3).then_some(&large));
    let damage = |(which, path): (usize, &String)| {
        let mut bytes = memory.read(path, u64::MAX).unwrap().unwrap();
        let at = (seed * 7919 + which * 104_729) % bytes.len();
        match (seed + which) % 4 {
            0 => return (path.clone(), None),
            1 => bytes.truncate(at),
            2 => bytes[at] ^= 1 << (seed % 8),
            // In several entries at once, where it is a large group.
            _ => (at..bytes.len())
                .step_by(400_000)
                .for_each(|at| bytes[at] ^= 0x20),
        }
        (path.clone(), Some(bytes))
    };
    all.enumerate().map(damage).collect()
}

fn tamper(memory: &Memory, objects: &[(String, Option<Vec<u8>>)]) {
    objects
        .iter()
        .for_each(|(path, bytes)| memory.tamper(path, bytes.as_deref()));
}

#[test]
fn findings_are_the_same_and_in_one_order_on_one_thread_two_and_eight() {
    let sound = ledger_of_many_groups();
    let pools = [1, 2, 8].map(pool);
    let alone = check(&sound, &pools[0]);
    assert!(alone.faults.is_empty(), "{:?}", alone.faults);
    assert_eq!(alone.handed_on, (0..300).map(LeafIndex).collect::<Vec<_>>());
    let (mut faults, mut most) = (0, 0);
    for seed in 0..120 {
        let memory = sound.snapshot();
        tamper(&memory, &spoil(&sound, seed));
        let alone = check(&memory, &pools[0]);
        assert!(!alone.faults.is_empty(), "seed {seed}");
        assert!(alone.handed_on.is_sorted(), "seed {seed}");
        for pool in &pools[1..] {
            let threads = pool.current_num_threads();
            assert_eq!(check(&memory, pool), alone, "seed {seed}, {threads} threads");
        }
        faults += alone.faults.len();
        most = most.max(alone.faults.len());
    }
    assert!(most > 5, "no case has many faults to be put in order: {most}");
    println!("evidence: 120 damaged ledgers, {faults} faults, the same on 1, 2 and 8 threads");
}

#[test]
fn five_hundred_checks_on_eight_threads_end() {
    let (say, hear) = mpsc::channel();
    thread::spawn(move || {
        let (alone, eight) = (pool(1), pool(8));
        let sound = ledger_of_many_groups();
        let ledgers: Vec<Memory> = (0..5)
            .map(|seed| {
                let memory = sound.snapshot();
                if seed > 0 {
                    tamper(&memory, &spoil(&sound, seed));
                }
                memory
            })
            .collect();
        let expected: Vec<Said> = ledgers.iter().map(|memory| check(memory, &alone)).collect();
        for repeat in 0..100 {
            for (memory, expected) in ledgers.iter().zip(&expected) {
                assert_eq!(check(memory, &eight), *expected, "repeat {repeat}");
                say.send(()).unwrap();
            }
        }
    });
    let ended = std::iter::from_fn(|| hear.recv_timeout(PATIENCE).ok()).count();
    assert_eq!(ended, 500);
    println!("evidence: {ended} checks on 8 threads, each ended");
}

#[test]
fn a_panic_in_a_check_reaches_whoever_asked_for_it() {
    let memory = ledger_of_many_groups();
    for leaf in [0, 45, 299] {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool(8).install(|| {
                fsck::run(&memory, &Options::default(), &|found: LeafIndex, _, _| {
                    assert!(found.0 != leaf, "at leaf {leaf}");
                    Ok(())
                })
            })
        }));
        let message = caught.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(*message, format!("at leaf {leaf}"));
    }
}

#[test]
fn nothing_is_made_of_a_group_that_overlaps_those_before_it() {
    let memory = ledger_of_many_groups();
    let alone = pool(1);
    let before = check(&memory, &alone);
    // Whole in itself, at leaves that other groups hold.
    let entries: Vec<(Vec<u8>, Vec<u8>)> = (35..40).map(|leaf| (header(leaf), made(leaf))).collect();
    let entries: Vec<Entry<'_>> = entries
        .iter()
        .map(|(header, body)| Entry { header, body })
        .collect();
    let mut file = encode_head(LeafIndex(35), &entries).unwrap();
    entries
        .iter()
        .for_each(|entry| file.extend_from_slice(entry.body));
    memory.tamper("groups/035", Some(&file));
    let said = check(&memory, &alone);
    assert_eq!(said.handed_on, before.handed_on);
    let named: Vec<(&str, Cause)> = said
        .faults
        .iter()
        .map(|fault| (fault.object.as_str(), fault.cause))
        .collect();
    assert_eq!(named, [("groups/035", Cause::Stray)]);
}
