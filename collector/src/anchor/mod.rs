//! Anchoring: the newest signed checkpoint to a file, a time stamping authority and an HTTP sink.
//!
//! Owns one thread. Publishing rings a bell and goes on; the thread takes the newest checkpoint there is, so nothing
//! ever queues up. When a target is due is decided by [`common::anchor::Schedule`], each target by itself; a failure is
//! counted, shown with its remedy and tried again. Where targets stand is kept in `anchors.json`, so that a restart
//! goes on. Refuses to hold anything up: a checkpoint is published whether or not it can be anchored.

mod board;
mod file;
mod remote;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    anchor::{AnchorPolicy, AnchorRecord, Due, Schedule},
    ids::{BootNanos, Hash, WallNanos},
    limits::TSA_RESPONSE_BYTES_MAX,
    timestamp,
};
use ledger::{
    Published, Reader,
    anchor::stamp::{AUTHORITIES_BYTES_MAX, Authorities, AuthoritiesError, StampFault},
};

#[cfg(test)]
pub(crate) use self::board::missed;
pub use self::board::{AnchorRow, AnchorsFile, Board, FileLength};
use self::{
    file::{AnchorFile, Appended},
    remote::Remote,
};
use crate::{
    config::{AnchorTargets, Config},
    files::{self, FileError},
    https::{Https, HttpsError},
    layout::Layout,
};

/// Longest sleep of the thread: a bound on what a wrong estimate costs.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Why the collector does not start with these targets. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsError {
    /// The authorities' certificates.
    #[error(transparent)]
    File(#[from] FileError),
    /// Their contents.
    #[error("{}: {cause}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: AuthoritiesError,
    },
    /// The authorities for HTTPS.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The thread.
    #[error("cannot start the anchoring thread: {0}")]
    Start(io::Error),
}

/// Why a checkpoint was not anchored at one target.
#[derive(Debug, thiserror::Error)]
pub enum AnchorFault {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk is full.
    #[error("{} takes no more: {cause}", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another process appends to the file at this moment.
    #[error("{} is being written by another process", .0.display())]
    Shared(PathBuf),
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// An answer that says no.
    #[error("it answered with status {0}")]
    Status(u16),
    /// An answer that is no stamp by a trusted authority.
    #[error("its answer is no time stamp: {0}")]
    Stamp(#[from] StampFault),
    /// Randomness for the request.
    #[error("no random number for the request: {0}")]
    Random(getrandom::Error),
    /// Ours to fix: what was to be kept does not fit a record.
    #[error("it does not fit a record: {0}")]
    Record(String),
}

impl AnchorFault {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File(_) => "see that its directory exists, is mounted and may be written (anchor_file)",
            Self::NoSpace { .. } => "make room on that disk; nothing else depends on it",
            Self::Shared(_) => "give each collector an anchor file of its own (anchor_file)",
            Self::Unreachable(_) => "see that it is up and that its address is right",
            Self::Status(_) => "see what it logged; it must answer 200 to 299",
            Self::Stamp(StampFault::Chain(_)) => {
                "put the certificate of the authority that you trust into anchor_tsa_ca"
            }
            Self::Stamp(_) => "ask whoever runs the authority; an answer that does not verify is not kept",
            Self::Random(_) | Self::Record(_) => "report this",
        }
    }
}

/// Wakes the thread; dropping it ends the thread.
#[derive(Debug, Clone)]
pub struct Bell(SyncSender<()>);

impl Bell {
    /// A checkpoint was published. Never blocks: one ring that was not heard yet is as good as two.
    pub fn ring(&self) {
        let _ = self.0.try_send(());
    }
}

/// Reads what the configuration names; `None` where it names no target.
pub fn load(layout: &Layout, config: &Config) -> Result<Option<Targets>, AnchorsError> {
    let Some(told) = &config.anchors else {
        return Ok(None);
    };
    let AnchorTargets { file, tsa, http, .. } = told;
    let https = Https::load(layout, config)?;
    let mut targets = Vec::new();
    let file = file
        .as_ref()
        .map(|file| AnchorFile::new(layout.root().join(file)));
    if let Some(file) = &file {
        targets.push(Target::File(file.clone()));
    }
    if let (Some((url, authorities)), Some(file)) = (tsa, file) {
        let path = layout.root().join(authorities);
        let pem = files::read_text(&path, AUTHORITIES_BYTES_MAX)?;
        let authorities = Authorities::from_pem(pem.as_bytes());
        let authorities = authorities.map_err(|cause| AnchorsError::Authorities { path, cause })?;
        let remote = Remote::new(url, told.timeout, &https);
        targets.push(Target::Authority {
            remote,
            authorities,
            file,
        });
    }
    if let Some(url) = http {
        targets.push(Target::Sink(Remote::new(url, told.timeout, &https)));
    }
    let policy = AnchorPolicy {
        leaves: told.leaves,
        interval_ns: u64::try_from(told.interval.as_nanos()).unwrap_or(u64::MAX),
    };
    Ok(Some(Targets { targets, policy }))
}

/// Where checkpoints go, and how often.
#[derive(Debug)]
pub struct Targets {
    targets: Vec<Target>,
    policy: AnchorPolicy,
}

#[derive(Debug)]
enum Target {
    /// Each checkpoint as it is.
    File(AnchorFile),
    /// Each with a time stamp, kept in the file.
    Authority {
        remote: Remote,
        authorities: Authorities,
        file: AnchorFile,
    },
    /// Each as it is, to somebody else.
    Sink(Remote),
}

impl Target {
    /// The word for it in reports.
    fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => board::FILE,
            Self::Authority { .. } => "tsa",
            Self::Sink(_) => "http",
        }
    }

    fn place(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Authority { remote, .. } | Self::Sink(remote) => remote.shown(),
        }
    }

    /// Anchors; of a file it tells how long it was and is.
    fn anchor(&self, note: &[u8]) -> Result<Option<Appended>, AnchorFault> {
        match self {
            Self::File(file) => append(file, note, None).map(Some),
            Self::Sink(remote) => {
                // The answer's text means nothing to us.
                remote.post("text/plain; charset=utf-8", note, 0).map(|_| None)
            }
            Self::Authority {
                remote,
                authorities,
                file,
            } => {
                let nonce = getrandom::u64().map_err(AnchorFault::Random)?;
                let request = timestamp::request(&Hash::of(note), nonce);
                let response = remote.post(timestamp::REQUEST_TYPE, &request, TSA_RESPONSE_BYTES_MAX)?;
                // Nothing is kept that does not verify: what is in the file can be relied on later.
                authorities.verify(&response, note, Some(nonce))?;
                append(file, note, Some(response)).map(Some)
            }
        }
    }
}

fn append(file: &AnchorFile, note: &[u8], response: Option<Vec<u8>>) -> Result<Appended, AnchorFault> {
    let record = AnchorRecord {
        at: wall_clock(),
        note: note.to_vec(),
        response,
    };
    let bytes = record
        .encode()
        .map_err(|error| AnchorFault::Record(error.to_string()))?;
    file.append(&bytes)
}

fn wall_clock() -> WallNanos {
    let now = jiff::Timestamp::now().as_nanosecond();
    WallNanos(u64::try_from(now).unwrap_or_default())
}

/// The board for `targets`, with what `anchors.json` remembers of them.
#[must_use]
pub fn board(layout: &Layout, targets: &Targets) -> Board {
    let named = targets
        .targets
        .iter()
        .map(|target| (target.kind(), target.place()));
    Board::recall(layout.anchors(), named)
}

/// Starts the thread over the ledger behind `reader`.
pub fn start(targets: Targets, reader: Reader, board: Arc<Board>) -> Result<Bell, AnchorsError> {
    let (bell, rings) = mpsc::sync_channel(1);
    let worker = Worker::new(targets, reader, board);
    thread::Builder::new()
        .name("anchors".to_owned())
        .spawn(move || worker.run(&rings))
        .map_err(AnchorsError::Start)?;
    Ok(Bell(bell))
}

struct Worker {
    targets: Vec<(Target, Schedule)>,
    reader: Reader,
    board: Arc<Board>,
    begun: Instant,
}

impl Worker {
    fn new(targets: Targets, reader: Reader, board: Arc<Board>) -> Self {
        let stored = reader.stored_size();
        let scheduled = |(place, target): (usize, Target)| {
            let (size, age) = board.last(place, stored, wall_clock());
            let schedule = Schedule::new(targets.policy, size, age, BootNanos(0));
            (target, schedule)
        };
        let targets = targets.targets.into_iter().enumerate().map(scheduled).collect();
        Self {
            targets,
            reader,
            board,
            begun: Instant::now(),
        }
    }

    fn run(mut self, rings: &Receiver<()>) {
        loop {
            let wait = self.round();
            match rings.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Serves every target that is due, and says how long none is.
    fn round(&mut self) -> Duration {
        let mut wait = SLEEP_MAX;
        for place in 0..self.targets.len() {
            // Asked for anew each time: a target before may have taken its time.
            let head = self.reader.stored();
            if let Some(due_in) = self.serve(place, &head) {
                wait = wait.min(due_in);
            }
        }
        wait
    }

    /// Serves one target if it is due, and says how long it is not.
    fn serve(&mut self, place: usize, head: &Published) -> Option<Duration> {
        let now = self.now();
        let (target, schedule) = self.targets.get_mut(place)?;
        let size = head.checkpoint.size;
        if schedule.due(now, size) == Due::Now {
            let outcome = target.anchor(&head.note);
            let now = BootNanos(nanos(self.begun));
            match &outcome {
                Ok(_) => schedule.succeeded(now, size),
                Err(_) => schedule.failed(now),
            }
            self.board.record(place, size, &outcome);
        }
        match schedule.due(BootNanos(nanos(self.begun)), size) {
            Due::Now => Some(Duration::ZERO),
            Due::At(at) => Some(Duration::from_nanos(at.0.saturating_sub(nanos(self.begun)))),
            Due::Idle => None,
        }
    }

    fn now(&self) -> BootNanos {
        BootNanos(nanos(self.begun))
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
