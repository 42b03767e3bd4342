//! The collector: real sessions, sequencer and ledger over storage that crashes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use common::{
    entry::UnverifiedEntry,
    ids::{BootNanos, HostId, LeafIndex, Sequence, WallNanos},
    note::SignerKey,
    sequencer::{Group, Sequencer, SequencerConfig, Step, StepError},
    session::{CollectorConfig, Proven, Receipts, Window},
    statement::{Said, StatementChain, UnverifiedStatement, VerifiedStatement},
    text::Text,
};
use ledger::{
    AppendError, Candidate, Entry, EntryFacts, Ledger, Memory, PublishError, Published, last_header,
    storage::{NewObject, Storage, StorageError, Usage},
};

use crate::{
    intake::Intake,
    watch::{Deceived, Watch},
    witnesses::Witnesses,
};

/// The collector; nothing is `running` while it is down.
pub(crate) struct Collector {
    pub(crate) storage: Memory,
    pub(crate) signer: SignerKey,
    pub(crate) running: Option<(Intake, Ledger, Watch)>,
    pub(crate) life: u64,
    /// Steps under way, in order: commits go on between a checkpoint's signing and its publication.
    pub(crate) work: VecDeque<Work>,
    pub(crate) wake_at: Option<u64>,
    pub(crate) checkpoint_first: bool,
    /// Whether checkpoints are shown before they are stored, as where no witness is asked.
    pub(crate) shows_first: bool,
    /// Whether storing one is under way, where they are shown first.
    pub(crate) storing: bool,
    /// Who is asked before one is shown, if anybody is.
    pub(crate) witnesses: Option<Witnesses>,
    /// Where the ledger's index lies: witnesses are asked only by a collector that has one on disk.
    index: tempfile::TempDir,
}

/// Reads what the ledger's index keeps.
fn describe(entry: &[u8]) -> Option<EntryFacts> {
    let header = match UnverifiedEntry::parse(entry).ok()? {
        UnverifiedEntry::Batch(header) => header,
        UnverifiedEntry::Statement(statement) => {
            return Some(EntryFacts {
                host: HostId::COLLECTOR,
                sequence: Sequence(statement.claimed().number.0),
            });
        }
    };
    let fields = header.claimed();
    Some(EntryFacts {
        host: fields.host,
        sequence: fields.sequence,
    })
}

impl Collector {
    pub(crate) fn new(seed: [u8; 32], checkpoint_first: bool) -> Self {
        Self {
            storage: Memory::new(),
            signer: SignerKey::from_seed("sim.example/ledger", &seed).unwrap(),
            running: None,
            life: 0,
            work: VecDeque::new(),
            wake_at: None,
            checkpoint_first,
            // The planted bug shows where a checkpoint is seen when it is stored.
            shows_first: !checkpoint_first && seed[0].is_multiple_of(2),
            storing: false,
            witnesses: (!checkpoint_first && seed[0] % 4 == 1)
                .then(|| Witnesses::new(&seed, seed[1].is_multiple_of(2))),
            index: tempfile::tempdir().unwrap(),
        }
    }

    /// Recovers the ledger, restores every chain from it, publishes what was not.
    pub(crate) fn start(
        &mut self,
        now: u64,
        registered: &[HostId],
        deceived: Deceived,
    ) -> Result<(), String> {
        let storage: Arc<dyn Storage> = if self.checkpoint_first {
            Arc::new(CheckpointFirst::over(self.storage.clone()))
        } else {
            Arc::new(self.storage.clone())
        };
        let ledger = self.open(storage)?;
        let published = ledger.reader().published().checkpoint.size;
        let config = SequencerConfig {
            group_bytes: 64 * 1024,
            group_batches: 8,
            group_wait_ns: 5_000_000,
            publish_ns: 300_000_000,
            waiting_bytes_max: 1024 * 1024,
            retry_ns: 500_000_000,
        };
        let mut sequencer = Sequencer::new(config, published, BootNanos(now));
        let reader = ledger.reader();
        for host in reader.hosts() {
            let header = last_header(&reader, &host).map_err(|e| e.to_string())?;
            let header = header.ok_or("a host without head")?;
            sequencer.restore(&header).map_err(|e| e.to_string())?;
        }
        if let Some(last) = reader.host_head(&HostId::COLLECTOR).map_err(|e| e.to_string())? {
            let last = reader.header(last.leaf).map_err(|e| e.to_string())?;
            let last = UnverifiedStatement::parse(&last).map_err(|e| e.to_string())?;
            let last = VerifiedStatement::alone(last, self.signer.verifier()).map_err(|e| e.to_string())?;
            sequencer.restore_statement(&last).map_err(|e| e.to_string())?;
        }
        for leaf in (published..reader.leaves()).map(LeafIndex) {
            let facts = describe(&reader.header(leaf).map_err(|e| e.to_string())?);
            let batch = facts.filter(|facts| facts.host != HostId::COLLECTOR);
            sequencer.restore_unpublished(leaf, batch.map(|facts| (facts.host, facts.sequence)));
        }
        // Each life says something, so that statements meet every fault that batches meet.
        let said = self.statement(sequencer.statements(), now)?;
        sequencer
            .admit_statement(BootNanos(now), said)
            .map_err(|e| e.to_string())?;
        const SECOND: u64 = 1_000_000_000;
        let sessions = CollectorConfig {
            window: Window {
                batches: 4,
                bytes: 256 * 1024,
            },
            hello_ns: 2 * SECOND,
            idle_ns: 4 * SECOND,
            nonce_ns: 2 * SECOND,
            key_history: Vec::new(),
        };
        let watch = Watch::recover(&reader, &self.signer, registered, now, deceived)?;
        self.running = Some((Intake::new(sessions, sequencer), ledger, watch));
        Ok(())
    }

    /// Recovers the ledger; what no checkpoint covers is published at once, unless witnesses are to be asked first.
    fn open(&self, storage: Arc<dyn Storage>) -> Result<Ledger, String> {
        let failed = |error| format!("ledger not opened: {error}");
        if self.witnesses.is_some() {
            let (index, tell) = (self.index.path(), Box::new(|_| ()));
            let opened = Ledger::open_held(storage, self.signer.clone(), describe, index, tell);
            return opened.map(|(ledger, _)| ledger).map_err(failed);
        }
        let (mut ledger, _) = Ledger::open(storage, self.signer.clone(), describe).map_err(failed)?;
        match ledger.integrate_and_publish() {
            Ok(_) => Ok(ledger),
            Err(error) => Err(format!("not published at start: {error}")),
        }
    }

    fn statement(&self, chain: &StatementChain, now: u64) -> Result<VerifiedStatement, String> {
        let said = Said::HostEnrolled {
            host: HostId([1; 32]),
            name: Text(format!("life {}", self.life).into_bytes()),
            enrolled_at: WallNanos(now),
        };
        chain
            .write(said, WallNanos(now), u64::MAX, &self.signer)
            .map_err(|e| e.to_string())
    }

    /// Carries out a step on the ledger.
    pub(crate) fn carry_out(ledger: &mut Ledger, work: Work, shows_first: bool) -> Outcome {
        let failed = |error| {
            Outcome::Publish(Err(match error {
                PublishError::NoSpace(_) => StepError::NoSpace,
                PublishError::Fatal(cause) => StepError::Unknown(cause),
            }))
        };
        match work {
            Work::Step(Step::Commit(group)) => Outcome::Commit(commit(ledger, group)),
            Work::Step(Step::Publish) if shows_first => match ledger.show() {
                Ok(shown) => Outcome::Publish(Ok(shown.checkpoint.size)),
                Err(error) => failed(error),
            },
            Work::Step(Step::Publish) => match ledger.integrate() {
                Ok(Some(candidate)) => Outcome::Integrated(candidate),
                Ok(None) => Outcome::Publish(Ok(ledger.reader().published().checkpoint.size)),
                Err(error) => failed(error),
            },
            Work::Reveal(candidate, cosignatures) => match ledger.publish(candidate, &cosignatures) {
                Ok(published) => Outcome::Publish(Ok(published.checkpoint.size)),
                Err(error) => failed(error),
            },
            // As the pipeline does: it stores what is shown, which the sequencer knows of, and nothing newer.
            Work::Store if ledger.reader().leaves() > ledger.reader().published().checkpoint.size => {
                Outcome::Stored(Ok(None))
            }
            Work::Store => Outcome::Stored(ledger.integrate()),
            Work::Note(candidate) => Outcome::Noted(ledger.publish(candidate, "")),
        }
    }

    /// The process ends; with `power` the machine does.
    pub(crate) fn die(&mut self, power: Option<u64>) {
        self.running = None;
        self.work.clear();
        self.storing = false;
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.forget();
        }
        self.wake_at = None;
        self.life += 1;
        match power {
            Some(seed) => self.storage.crash(seed),
            None => self.storage.restart(),
        }
    }
}

/// Something under way.
pub(crate) enum Work {
    /// What the sequencer asked for.
    Step(Step),
    /// A signed head that is to be published, and who cosigned it.
    Reveal(Candidate, String),
    /// What is shown already is to be stored: its tiles.
    Store,
    /// And then its note.
    Note(Candidate),
}

/// How it ended.
pub(crate) enum Outcome {
    Integrated(Candidate),
    Commit(Result<LeafIndex, (StepError, Group)>),
    Publish(Result<u64, StepError>),
    Stored(Result<Option<Candidate>, PublishError>),
    Noted(Result<Published, PublishError>),
}

fn commit(ledger: &mut Ledger, group: Group) -> Result<LeafIndex, (StepError, Group)> {
    let entries: Vec<Entry<'_>> = group
        .entries
        .iter()
        .map(|entry| Entry {
            header: entry.entry(),
            body: entry.body(),
        })
        .collect();
    match ledger.append_group(&entries) {
        Ok(first) => Ok(first),
        Err(AppendError::NoSpace(_) | AppendError::Backlog(_)) => Err((StepError::NoSpace, group)),
        Err(error) => Err((StepError::Unknown(error.to_string()), group)),
    }
}

/// Receipts under the published checkpoint, as the collector's ingest makes them.
pub(crate) fn receipts(
    ledger: &Ledger,
    host: &HostId,
    from: Sequence,
    through: Sequence,
    since_size: u64,
) -> Option<(Receipts, u64)> {
    let reader = ledger.reader();
    let head = reader.published();
    let size = head.checkpoint.size;
    let mut proven = Vec::new();
    for sequence in (from.0..=through.0).map(Sequence) {
        let leaf = reader.find(host, sequence).ok()??.leaf;
        let receipt = reader.receipt_in(leaf, &head).ok()?;
        proven.push(Proven {
            sequence,
            leaf,
            proof: receipt.proof,
        });
    }
    let receipts = Receipts {
        checkpoint: head.note.to_vec(),
        consistency: reader.consistency(since_size, size).ok()?,
        proven,
    };
    Some((receipts, size))
}

/// A planted bug: the checkpoint is published before the tiles it commits to are written.
#[derive(Debug)]
struct CheckpointFirst {
    storage: Memory,
    held_back: Mutex<Vec<(String, Vec<u8>)>>,
}

impl CheckpointFirst {
    fn over(storage: Memory) -> Self {
        Self {
            storage,
            held_back: Mutex::new(Vec::new()),
        }
    }
}

impl Storage for CheckpointFirst {
    fn create(&self, objects: &[NewObject<'_>]) -> Result<(), StorageError> {
        let mut held_back = self.held_back.lock().unwrap();
        let mut now = Vec::new();
        for object in objects {
            if object.path.starts_with("log/tile") {
                held_back.push((object.path.to_owned(), object.parts.concat()));
            } else {
                now.push(*object);
            }
        }
        self.storage.create(&now)
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.replace(path, bytes)?;
        for (path, bytes) in self.held_back.lock().unwrap().drain(..) {
            self.storage.create(&[NewObject {
                path: &path,
                parts: &[&bytes],
            }])?;
        }
        Ok(())
    }

    fn settle(&self, path: &str) -> Result<(), StorageError> {
        self.storage.settle(path)
    }

    fn length(&self, path: &str) -> Result<Option<u64>, StorageError> {
        self.storage.length(path)
    }

    fn read_range(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StorageError> {
        self.storage.read_range(path, offset, length)
    }

    fn read_into(&self, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<bool, StorageError> {
        self.storage.read_into(path, length_max, buffer)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.storage.list(prefix)
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.storage.remove(path)
    }

    fn remove_durably(&self, path: &str) -> Result<(), StorageError> {
        self.storage.remove_durably(path)
    }

    fn usage(&self, path: &str) -> Result<Usage, StorageError> {
        self.storage.usage(path)
    }
}
