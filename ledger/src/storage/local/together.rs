//! One blocking call for each of many files, all of them waiting at a time.
//!
//! A journalling file system commits once for everybody who waits, so flushes that begin together take little
//! longer than one (`docs/adr/0018-publishing-beside-commits.md`). Owns the bound on threads; refuses to order
//! anything: who needs an order calls twice.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Calls that wait for the disk at a time, the caller's own included.
const WAITING_MAX: usize = 8;

/// Does `work` for every one of `items`, whatever comes of the others; results in their order.
pub(super) fn together<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else {
                return done;
            };
            done.push((at, work(item)));
        }
    };
    let mut done = thread::scope(|scope| {
        // Where the system grants no thread, those that there are do it all.
        let helpers: Vec<_> = (1..items.len().min(WAITING_MAX))
            .map_while(|_| {
                let builder = thread::Builder::new().name("flush".to_owned());
                builder.spawn_scoped(scope, take).ok()
            })
            .collect();
        let mut done = take();
        for helper in helpers {
            match helper.join() {
                Ok(more) => done.extend(more),
                Err(panic) => resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    #[test]
    fn each_is_done_once_and_results_keep_their_order() {
        for count in [0, 1, 2, 7, 8, 9, 100] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(together(&items, |item| *item), items);
        }
    }

    /// Each waits until all have begun: one after the other this would never end.
    #[test]
    fn they_wait_at_the_same_time() {
        let (begun, all) = (Mutex::new(0), Condvar::new());
        let results = together(&[(); WAITING_MAX], |()| {
            let mut count = begun.lock().unwrap();
            *count += 1;
            all.notify_all();
            drop(all.wait_while(count, |count| *count < WAITING_MAX).unwrap());
        });
        assert_eq!(results.len(), WAITING_MAX);
    }
}
