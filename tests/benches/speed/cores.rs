//! Verifying and plain SHA-256 over the same batches on one CPU, on two, and so on.
//!
//! Two CPUs may be one core's, and then nothing doubles: so each is compared with what plain SHA-256 gains from them.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::ids::{Hash, LeafIndex};
use ledger::fsck::{self, Options};
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Outcome, check, read, repeated};

/// One turn is repeated for at least this long.
const TURN: Duration = Duration::from_secs(1);
/// Turns of each; odd, for the median.
const TURNS: usize = 5;

pub(super) fn measure(folder: &Path) -> Outcome {
    let (storage, batches) = read(folder)?;
    println!("batches {}", batches.len());
    println!(
        "event_bytes {}",
        batches.iter().map(|batch| batch.body.len()).sum::<usize>()
    );
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    println!("cpus {}", cpus.len());
    let counts: Vec<usize> = (0..)
        .map(|power| 1 << power)
        .take_while(|count| *count <= cpus.len())
        .collect();
    let pools = counts
        .iter()
        .map(|count| pinned(&cpus[..*count]))
        .collect::<Result<Vec<_>, _>>()?;
    let mut turns = vec![(Vec::new(), Vec::new()); pools.len()];
    for _ in 0..TURNS {
        for (pool, (plain, verify)) in pools.iter().zip(&mut turns) {
            let hash = || {
                batches.par_iter().for_each(|batch| {
                    black_box(Hash::of(&batch.body));
                });
            };
            plain.push(wall(pool, hash)?);
            let whole = || {
                let entry = |_: LeafIndex, header: &[u8], body: &[u8]| check(header, body);
                black_box(fsck::run(&storage, &Options::default(), &entry));
            };
            verify.push(wall(pool, whole)?);
        }
    }
    for (count, (mut plain, mut verify)) in counts.iter().zip(turns) {
        println!("sha256_on_{count}_ns {}", median(&mut plain).as_nanos());
        println!("verify_on_{count}_ns {}", median(&mut verify).as_nanos());
    }
    Ok(())
}

fn wall(pool: &ThreadPool, work: impl Fn() + Sync) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let took = repeated(TURN, || {
        pool.install(&work);
        Ok(())
    })?;
    Ok(took.wall)
}

/// A thread on each of these CPUs.
fn pinned(cpus: &[usize]) -> Result<ThreadPool, Box<dyn Error + Send + Sync>> {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    let before = HELD.load(Ordering::SeqCst);
    let hold = cpus.to_vec();
    let pool = ThreadPoolBuilder::new()
        .num_threads(cpus.len())
        .start_handler(move |thread| {
            let mut only = CpuSet::new();
            only.set(hold[thread]);
            if sched_setaffinity(None, &only).is_ok() {
                HELD.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()?;
    pool.broadcast(|_| ());
    if HELD.load(Ordering::SeqCst) - before != cpus.len() {
        return Err("a thread cannot be held to a CPU".into());
    }
    Ok(pool)
}

fn median(turns: &mut [Duration]) -> Duration {
    turns.sort_unstable();
    turns[turns.len() / 2]
}
