//! Work that all threads share, with results taken in the order of the jobs.
//!
//! Threads begin jobs one after the other as they get free, and whoever finishes the one whose turn it is takes it and all
//! that follow it, while the others go on. Owns the bound: a job is under way from its begin until its result was taken, and
//! no more of them are than there is [`Room`] for. No thread ever waits for another, so nothing can hang: where a job
//! panics, those under way end, nothing after it is taken, and the caller has the panic.

use std::{
    collections::BTreeMap,
    iter::Peekable,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rayon::ScopeFifo;

/// What may be under way at a time. One job always may, however large.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes of all of them.
    pub(super) bytes: u64,
    /// Their number.
    pub(super) jobs: usize,
}

/// Does `work` on every job of `jobs`, each given with the bytes it takes, and hands the results to `take` in the order of
/// the jobs, one at a time.
pub(super) fn run<J: Send, R: Send>(
    room: Room,
    jobs: impl Iterator<Item = (J, u64)> + Send,
    work: impl Fn(J) -> R + Sync,
    take: impl FnMut(R) + Send,
) {
    let line = Line {
        room,
        work,
        state: Mutex::new(State {
            jobs: jobs.peekable(),
            begun: 0,
            taken: 0,
            bytes: 0,
            done: BTreeMap::new(),
            take: Some(take),
        }),
    };
    rayon::scope_fifo(|scope| line.begin(scope));
}

struct Line<I: Iterator, R, W, T> {
    room: Room,
    work: W,
    state: Mutex<State<I, R, T>>,
}

struct State<I: Iterator, R, T> {
    jobs: Peekable<I>,
    /// How many were begun, which is the number of the next.
    begun: u64,
    /// How many results were taken.
    taken: u64,
    /// Bytes of what is under way.
    bytes: u64,
    /// Results whose turn has not come, by the number of their job, each with its bytes.
    done: BTreeMap<u64, (R, u64)>,
    /// Who takes results; gone while somebody is at it.
    take: Option<T>,
}

impl<J, I, R, W, T> Line<I, R, W, T>
where
    J: Send,
    I: Iterator<Item = (J, u64)> + Send,
    R: Send,
    W: Fn(J) -> R + Sync,
    T: FnMut(R) + Send,
{
    /// Begins as many jobs as there is room for.
    fn begin<'s>(&'s self, scope: &ScopeFifo<'s>)
    where
        J: 's,
    {
        loop {
            let next = self.lock().next(self.room);
            let Some((number, job, bytes)) = next else { break };
            scope.spawn_fifo(move |scope| {
                let result = (self.work)(job);
                self.done(number, result, bytes, scope);
                self.begin(scope);
            });
        }
    }

    /// Puts a result where it belongs and takes all whose turn has come, unless somebody is at it and will.
    fn done<'s>(&'s self, number: u64, result: R, bytes: u64, scope: &ScopeFifo<'s>)
    where
        J: 's,
    {
        let mut state = self.lock();
        state.done.insert(number, (result, bytes));
        let Some(mut take) = state.take.take() else { return };
        loop {
            let turn = state.taken;
            let Some((result, bytes)) = state.done.remove(&turn) else {
                break;
            };
            drop(state);
            take(result);
            state = self.lock();
            state.taken += 1;
            state.bytes -= bytes;
            drop(state);
            self.begin(scope);
            state = self.lock();
        }
        state.take = Some(take);
    }

    fn lock(&self) -> MutexGuard<'_, State<I, R, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J, I: Iterator<Item = (J, u64)>, R, T> State<I, R, T> {
    /// The next job with its number and bytes, where there is room for it.
    fn next(&mut self, room: Room) -> Option<(u64, J, u64)> {
        let under_way = self.begun - self.taken;
        let (bytes_now, idle) = (self.bytes, under_way == 0);
        let fits = |bytes: u64| {
            idle || under_way < room.jobs as u64 && bytes_now.saturating_add(bytes) <= room.bytes
        };
        let (job, bytes) = self.jobs.next_if(|(_, bytes)| fits(*bytes))?;
        let number = self.begun;
        self.begun += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        Some((number, job, bytes))
    }
}

#[cfg(test)]
mod tests;
