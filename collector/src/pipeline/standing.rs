//! What the collector's statements come to, kept in a file so that a start reads only the newest of them.
//!
//! Owns that file and the thread that brings it up to date now and then. Refuses to take it at its word: it must be
//! signed with the ledger's key and end at a statement that the ledger has; else it is thrown away, said, and every
//! statement read again (`docs/format/standing.md`, ADR 0022).

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use common::{
    ids::{Hash, HostId, LeafIndex, Sequence, StatementNumber},
    note::SignerKey,
    statement::UnverifiedStatement,
    watchman::{Standing, UnverifiedStanding},
};
use ledger::{BatchRecord, Reader};

use super::RecoverError;
use crate::files::{self, FileError, PUBLIC};

/// The file is written anew once so many statements came, so that a start reads no more than those and what a crash
/// left.
const KEEP_EVERY: u64 = 1024;
/// Statements whose places are looked up together: the ledger's writer waits meanwhile.
const PLACES_AT_ONCE: u64 = 128;
/// Longest file read, bytes: some eight million hosts.
const BYTES_MAX: u64 = 512 << 20;
/// Added to the thread's nice value.
const POLITE: i32 = 10;

/// The file, and the ledger that it is held against.
#[derive(Debug)]
pub struct StandingFile {
    path: PathBuf,
    reader: Reader,
    /// SHA-256 of the ledger's first verifier key.
    ledger: Hash,
    signer: SignerKey,
    /// Statements that the file on disk covers.
    kept: u64,
}

impl StandingFile {
    pub(super) fn new(path: PathBuf, reader: Reader, signer: SignerKey) -> Self {
        let ledger = Hash::of(reader.keys().first().to_string().as_bytes());
        Self {
            path,
            reader,
            ledger,
            signer,
            kept: 0,
        }
    }

    /// What all durable statements come to: as the file has it, where it may be believed, then the statements behind
    /// that. Ends early where `go_on` says so, and has then read fewer. Keeps what it found where that is new enough;
    /// a disk that refuses is said: the next start reads more.
    pub(super) fn take_up(&mut self, go_on: &dyn Fn() -> bool) -> Result<Standing, RecoverError> {
        let read = self.read();
        let believed = read.is_ok();
        let mut standing = read.map(Option::unwrap_or_default).unwrap_or_else(|why| {
            let path = self.path.display();
            tracing::warn!(%path, why, "what statements come to is thrown away and read again from the ledger");
            Standing::default()
        });
        self.kept = standing.count();
        self.read_on(&mut standing, go_on)?;
        // Fewer are read again in no time.
        if !believed || standing.count() > self.kept.saturating_add(KEEP_EVERY / 2) {
            self.keep(&standing);
        }
        Ok(standing)
    }

    /// What the file says, where ledger and key vouch for it; `None` where there is none; else why it is not believed.
    fn read(&self) -> Result<Option<Standing>, String> {
        let bytes = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > BYTES_MAX => {
                return Err(format!("it has {} bytes, more than it may", found.len()));
            }
            _ => fs::read(&self.path).map_err(|error| error.to_string())?,
        };
        let read = UnverifiedStanding::parse(&bytes)
            .and_then(|read| read.verify(&self.ledger, self.signer.verifier()));
        let standing = read.map_err(|bad| bad.to_string())?;
        let last = standing.last().ok_or("it ends at no statement")?;
        // The key vouches that this ledger had these statements once; that it has them now is seen at the last one,
        // which names all before it.
        let found = self.reader.find(&HostId::COLLECTOR, Sequence(last.number.0));
        let Some(found) = found.map_err(|error| error.to_string())? else {
            return Err(format!(
                "it goes up to statement {}, which the ledger does not have",
                last.number
            ));
        };
        let header = self
            .reader
            .header(found.leaf)
            .map_err(|error| error.to_string())?;
        if (found.leaf, Hash::of(&header)) == (last.leaf, last.hash) {
            Ok(Some(standing))
        } else {
            Err(format!("the ledger has another statement {}", last.number))
        }
    }

    /// Takes in the statements behind `standing`, in order.
    fn read_on(&self, standing: &mut Standing, go_on: &dyn Fn() -> bool) -> Result<(), RecoverError> {
        let last = self.reader.host_head(&HostId::COLLECTOR)?;
        let end = last.map_or(0, |last| last.sequence.0.saturating_add(1));
        while standing.count() < end && go_on() {
            let first = standing.count();
            let past = end.min(first.saturating_add(PLACES_AT_ONCE));
            let places = self
                .reader
                .run(&HostId::COLLECTOR, Sequence(first), Sequence(past - 1))?;
            for place in places {
                let (leaf, statement) = self.statement(&place)?;
                standing.follow(leaf, &statement)?;
            }
        }
        Ok(())
    }

    /// The statement at that place, or where it is instead if the ledger's index was wrong.
    fn statement(&self, place: &BatchRecord) -> Result<(LeafIndex, UnverifiedStatement), RecoverError> {
        let parsed = UnverifiedStatement::parse(&self.reader.header(place.leaf)?);
        match parsed {
            Ok(statement) if statement.claimed().number.0 == place.sequence.0 => Ok((place.leaf, statement)),
            parsed => {
                // Asked for one alone, the ledger holds its index against the leaf and mends it.
                let found = self.reader.find(&HostId::COLLECTOR, place.sequence)?;
                let Some(found) = found.filter(|found| found.leaf != place.leaf) else {
                    return Ok((place.leaf, parsed?));
                };
                let statement = UnverifiedStatement::parse(&self.reader.header(found.leaf)?)?;
                Ok((found.leaf, statement))
            }
        }
    }

    fn keep(&mut self, standing: &Standing) {
        let written = || -> Result<(), String> {
            match standing.sign(&self.ledger, &self.signer) {
                Err(bad) => Err(bad.to_string()),
                Ok(None) => files::remove(&self.path).map_err(|error| error.to_string()),
                Ok(Some(bytes)) => {
                    let directory = self.path.parent().unwrap_or(&self.path);
                    fs::create_dir_all(directory)
                        .map_err(FileError::on("create directory", directory))
                        // A crash before the rename leaves the file before, which covers fewer of the same statements.
                        .and_then(|()| files::replace(&self.path, &bytes, PUBLIC))
                        .map_err(|error| error.to_string())
                }
            }
        };
        match written() {
            Ok(()) => self.kept = standing.count(),
            Err(error) => {
                tracing::warn!(
                    error,
                    "what statements come to is not kept; the next start reads more of them"
                );
            }
        }
    }
}

/// The thread that keeps it, and who wakes it. Ends when this is dropped, which waits for what it is at.
pub(super) struct Keeping {
    /// The statement at which it is woken next.
    due: u64,
    wake: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeping {
    pub(super) fn start(mut file: StandingFile) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (due, stopped) = (file.kept.saturating_add(KEEP_EVERY), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("standing".to_owned())
            .spawn(move || {
                // Nobody waits for it. Where the system refuses, it is only less polite.
                let _ = rustix::process::nice(POLITE);
                while let Ok(()) = woken.recv() {
                    if let Err(error) = file.take_up(&|| !stopped.load(Relaxed)) {
                        tracing::error!(%error, "what statements come to cannot be kept");
                    }
                }
            })?;
        Ok(Self {
            due,
            wake: Some(wake),
            stop,
            thread: Some(thread),
        })
    }

    /// That statement is durable. Never blocks.
    pub(super) fn durable(&mut self, number: StatementNumber) {
        if number.0 < self.due {
            return;
        }
        self.due = number.0.saturating_add(KEEP_EVERY);
        // Full: it is about to look anyway.
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // It panicked at worst, which has been told.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
