//! The line of jobs: its order, its bound, that nobody waits for the slowest, and that a panic ends it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rayon::ThreadPoolBuilder;

use super::*;

/// How long a job waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);
const WIDE: Room = Room {
    bytes: u64::MAX,
    jobs: 64,
};

fn on<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(work)
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain for {what}");
        thread::yield_now();
    }
}

#[test]
fn results_are_taken_in_order_whatever_the_threads_and_the_room() {
    for threads in [1, 2, 8] {
        for jobs in [1, 2, 7, 64] {
            for bytes in [0, 10, 1000] {
                let mut taken = Vec::new();
                let given = (0..500_u64).map(|job| (job, job % 17));
                on(threads, || {
                    run(
                        Room { bytes, jobs },
                        given,
                        |job| {
                            (0..job % 5).for_each(|_| thread::yield_now());
                            job * 3
                        },
                        |result| taken.push(result),
                    );
                });
                let expected: Vec<u64> = (0..500).map(|job| job * 3).collect();
                assert_eq!(taken, expected, "{threads} threads, {jobs} jobs, {bytes} bytes");
            }
        }
    }
    let mut none: Vec<u64> = Vec::new();
    run(
        WIDE,
        std::iter::empty(),
        |job: u64| job,
        |result| none.push(result),
    );
    assert!(none.is_empty());
}

/// Job 0 holds all others up until there is no more room; how many bytes and jobs were under way at most.
fn most_under_way(room: Room, of_each: u64, fitting: u64) -> (u64, u64) {
    let (bytes, jobs) = (AtomicU64::new(0), AtomicU64::new(0));
    let (bytes_most, jobs_most) = (AtomicU64::new(0), AtomicU64::new(0));
    let ended = AtomicU64::new(0);
    on(2, || {
        run(
            room,
            (0..100_u64).map(|job| (job, of_each)),
            |job| {
                let now = bytes.fetch_add(of_each, Ordering::SeqCst) + of_each;
                bytes_most.fetch_max(now, Ordering::SeqCst);
                jobs_most.fetch_max(jobs.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if job == 0 {
                    wait_until("the jobs that there is room for", || {
                        ended.load(Ordering::SeqCst) + 1 >= fitting
                    });
                    // Time for those that must not begin.
                    thread::sleep(Duration::from_millis(20));
                }
                ended.fetch_add(1, Ordering::SeqCst);
            },
            |()| {
                bytes.fetch_sub(of_each, Ordering::SeqCst);
                jobs.fetch_sub(1, Ordering::SeqCst);
            },
        );
    });
    (bytes_most.into_inner(), jobs_most.into_inner())
}

#[test]
fn no_more_is_under_way_than_there_is_room_for() {
    let of_bytes = Room { bytes: 75, jobs: 64 };
    assert_eq!(most_under_way(of_bytes, 10, 7), (70, 7));
    let of_jobs = Room { bytes: 1000, jobs: 5 };
    assert_eq!(most_under_way(of_jobs, 10, 5), (50, 5));
    // One larger than all the room is alone.
    assert_eq!(most_under_way(of_bytes, 100, 1), (100, 1));
}

/// Each job ends only once the next was begun, which with jobs in lots that wait for their slowest never happens.
#[test]
fn the_next_job_begins_though_the_one_before_goes_on() {
    let begun = AtomicU64::new(0);
    let two = Room { bytes: 2, jobs: 2 };
    let mut taken = 0;
    on(2, || {
        run(
            two,
            (1..=200_u64).map(|job| (job, 1)),
            |job| {
                begun.fetch_max(job, Ordering::SeqCst);
                wait_until("the next job", || {
                    begun.load(Ordering::SeqCst) >= (job + 1).min(200)
                });
            },
            |()| taken += 1,
        );
    });
    assert_eq!(taken, 200);
}

#[test]
fn a_panic_reaches_the_caller_and_nothing_hangs() {
    for threads in [1, 2, 8] {
        for at in [0_u64, 1, 63, 64, 99] {
            let mut taken = 0_u64;
            let at_work = catch_unwind(AssertUnwindSafe(|| {
                on(threads, || {
                    let work = |job| {
                        assert!(job != at, "at work on {job}");
                    };
                    run(WIDE, (0..100_u64).map(|job| (job, 1)), work, |()| taken += 1);
                });
            }));
            let message = at_work.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(*message, format!("at work on {at}"));
            assert!(taken <= at, "{taken} taken, though job {at} was never done");

            let taking = catch_unwind(AssertUnwindSafe(|| {
                on(threads, || {
                    let take = |job| assert!(job != at, "taking {job}");
                    run(WIDE, (0..100_u64).map(|job| (job, 1)), |job| job, take);
                });
            }));
            let message = taking.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(*message, format!("taking {at}"));
        }
    }
}
