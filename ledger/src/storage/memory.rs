//! A ledger in memory, with separate live and durable images, for tests and simulations.
//!
//! The live image is what a running process sees, the durable one what a power cut leaves. Every write is a
//! numbered step that a test can make fail: undone, done but reported as failed, or the end of the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{NewObject, Storage, StorageError, Usage};

/// What happens at a numbered step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full; the step is not done.
    NoSpace,
    /// An I/O error; the step is not done.
    Error,
    /// An I/O error is reported although the step was done.
    ErrorButDone,
    /// The process dies before the step; every call fails until [`Memory::crash`].
    Kill,
    /// The process dies after the step.
    KillAfter,
}

type Image = BTreeMap<String, Arc<[u8]>>;

#[derive(Debug, Default)]
struct Inner {
    live: Image,
    durable: Image,
    /// Names whose live and durable state may differ.
    unsynced: BTreeSet<String>,
    steps: u64,
    faults: BTreeMap<u64, Fault>,
    dead: bool,
    skip_sync: bool,
}

/// Memory as [`Storage`]; clones share one store.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

impl Memory {
    /// An empty store without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the step numbered `step` (the first is 0, counted over the store's life) end in `fault`.
    pub fn fail_at(&self, step: u64, fault: Fault) {
        self.lock().faults.insert(step, fault);
    }

    /// Steps taken so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// A planted bug, to show that tests would notice: from now on nothing is synced though `Ok` is returned.
    pub fn plant_skip_sync(&self) {
        self.lock().skip_sync = true;
    }

    /// The process ends but the machine goes on: everything written so far stays visible.
    pub fn restart(&self) {
        let mut inner = self.lock();
        inner.dead = false;
        inner.faults.clear();
    }

    /// The machine loses power: of each change not yet synced, `seed` decides whether it survived.
    pub fn crash(&self, seed: u64) {
        let mut inner = self.lock();
        let mut state = seed;
        let unsynced = std::mem::take(&mut inner.unsynced);
        for path in unsynced {
            if next(&mut state) & 1 == 0 {
                match inner.live.get(&path).cloned() {
                    Some(bytes) => inner.durable.insert(path, bytes),
                    None => inner.durable.remove(&path),
                };
            }
        }
        inner.live = inner.durable.clone();
        inner.dead = false;
        inner.faults.clear();
    }

    /// An independent copy of the store as it is now, without its faults.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let inner = self.lock();
        let copy = Inner {
            live: inner.live.clone(),
            durable: inner.durable.clone(),
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(copy)),
        }
    }

    /// Sets or removes an object behind the ledger's back, in both images.
    pub fn tamper(&self, path: &str, bytes: Option<&[u8]>) {
        let mut inner = self.lock();
        for image in [false, true] {
            let image = if image {
                &mut inner.live
            } else {
                &mut inner.durable
            };
            match bytes {
                Some(bytes) => image.insert(path.to_owned(), bytes.into()),
                None => image.remove(path),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes one step that does `change`, or what the plan says instead.
    fn step(
        &mut self,
        path: &str,
        what: &'static str,
        change: impl FnOnce(&mut Self),
    ) -> Result<(), StorageError> {
        self.alive(path, what)?;
        let fault = self.faults.remove(&self.steps);
        self.steps += 1;
        if matches!(fault, None | Some(Fault::ErrorButDone | Fault::KillAfter)) {
            change(self);
        }
        self.dead = matches!(fault, Some(Fault::Kill | Fault::KillAfter));
        match fault {
            None => Ok(()),
            Some(Fault::NoSpace) => Err(StorageError::NoSpace {
                path: path.to_owned(),
                source: ErrorKind::StorageFull.into(),
            }),
            Some(_) => Err(unknown(path, what, "injected")),
        }
    }

    fn alive(&self, path: &str, what: &'static str) -> Result<(), StorageError> {
        if self.dead {
            Err(unknown(path, what, "process is dead"))
        } else {
            Ok(())
        }
    }

    fn sync(&mut self, paths: &[&str]) {
        if self.skip_sync {
            return;
        }
        for path in paths {
            match self.live.get(*path).cloned() {
                Some(bytes) => self.durable.insert((*path).to_owned(), bytes),
                None => self.durable.remove(*path),
            };
            self.unsynced.remove(*path);
        }
    }

    fn name(&mut self, path: &str, bytes: Arc<[u8]>) {
        self.live.insert(path.to_owned(), bytes);
        self.unsynced.insert(path.to_owned());
    }
}

impl Storage for Memory {
    fn create(&self, objects: &[NewObject<'_>]) -> Result<(), StorageError> {
        let mut inner = self.lock();
        for object in objects {
            // Data goes to an unnamed file and is synced there: lost without trace by any crash.
            inner.step(object.path, "write", |_| ())?;
            let bytes: Arc<[u8]> = object.parts.concat().into();
            match inner.live.get(object.path) {
                Some(existing) if *existing != bytes => {
                    return Err(StorageError::Conflict {
                        path: object.path.to_owned(),
                    });
                }
                _ => inner.step(object.path, "link", |inner| inner.name(object.path, bytes))?,
            }
        }
        let paths: Vec<&str> = objects.iter().map(|object| object.path).collect();
        let Some(last) = paths.last() else { return Ok(()) };
        // Once named, "no space" is no longer a clean refusal.
        inner
            .step(last, "sync", |inner| inner.sync(&paths))
            .map_err(|e| uncertain(e, "sync"))
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let mut inner = self.lock();
        inner.step(path, "write", |_| ())?;
        inner.step(path, "rename", |inner| inner.name(path, bytes.into()))?;
        inner
            .step(path, "sync", |inner| inner.sync(&[path]))
            .map_err(|e| uncertain(e, "sync"))
    }

    fn settle(&self, path: &str) -> Result<(), StorageError> {
        self.lock()
            .step(path, "settle", |inner| inner.sync(&[path]))
            .map_err(|e| uncertain(e, "settle"))
    }

    fn length(&self, path: &str) -> Result<Option<u64>, StorageError> {
        let inner = self.lock();
        inner.alive(path, "read")?;
        Ok(inner.live.get(path).map(|bytes| bytes.len() as u64))
    }

    fn read_range(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StorageError> {
        let inner = self.lock();
        inner.alive(path, "read")?;
        Ok(inner.live.get(path).map(|bytes| {
            let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes[begin..begin.saturating_add(length).min(bytes.len())].to_vec()
        }))
    }

    fn read_into(&self, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<bool, StorageError> {
        let inner = self.lock();
        inner.alive(path, "read")?;
        let Some(bytes) = inner.live.get(path) else {
            return Ok(false);
        };
        let length = bytes.len() as u64;
        if length > length_max {
            return Err(StorageError::TooLong {
                path: path.to_owned(),
                length,
                length_max,
            });
        }
        buffer.extend_from_slice(bytes);
        Ok(true)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let inner = self.lock();
        inner.alive(prefix, "list")?;
        let below = if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        };
        let from = inner.live.range(below.clone()..);
        Ok(from
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&below))
            .collect())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.lock().step(path, "unlink", |inner| {
            inner.live.remove(path);
            inner.unsynced.insert(path.to_owned());
        })
    }

    fn remove_durably(&self, path: &str) -> Result<(), StorageError> {
        self.remove(path)?;
        self.lock()
            .step(path, "sync", |inner| inner.sync(&[path]))
            .map_err(|e| uncertain(e, "sync"))
    }

    fn usage(&self, path: &str) -> Result<Usage, StorageError> {
        let inner = self.lock();
        inner.alive(path, "read")?;
        let below = format!("{path}/");
        let counts = |name: &str| path.is_empty() || name == path || name.starts_with(&below);
        let bytes = inner.live.iter().filter(|(name, _)| counts(name));
        let apparent = bytes.map(|(_, bytes)| bytes.len() as u64).sum();
        Ok(Usage {
            apparent,
            disk: apparent,
        })
    }
}

fn unknown(path: &str, step: &'static str, why: &str) -> StorageError {
    StorageError::Unknown {
        path: path.to_owned(),
        step,
        source: io::Error::other(why.to_owned()),
    }
}

fn uncertain(error: StorageError, step: &'static str) -> StorageError {
    match error {
        StorageError::NoSpace { path, source } => StorageError::Unknown { path, step, source },
        other => other,
    }
}

/// The next number of a SplitMix64 sequence: which changes a crash keeps must only depend on the seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
