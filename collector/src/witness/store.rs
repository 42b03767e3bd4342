//! What a witness signed last, durable before anybody hears of it.
//!
//! One file for each origin holds the whole cosigned note; it is also what monitors read. Requests for one
//! origin are served one after the other: its lock is held from the decision until the record is durable. A
//! crash in between leaves the old record or the new one, and a cosignature that nobody received binds
//! nobody. Kept beside, bounded: checkpoints under a good signature that contradict what was cosigned.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use common::{
    ids::hex,
    note::{KeyError, WitnessSigner},
    witness::{AddCheckpoint, BadRecord, Recorded, TrustedLog, WitnessRefusal, judge},
};
use sha2::{Digest, Sha256};

use super::{Place, settings::Settings};
use crate::files::{self, FileError, PUBLIC};

/// Longest key or record file read, bytes.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// Contradictions kept for each origin; one proves all there is to prove.
const CONTRADICTIONS_MAX: usize = 16;

/// Why a witness cannot work in its directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the operator.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key file. The operator.
    #[error("{}: {cause}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        cause: KeyError,
    },
    /// Another witness runs here. The operator.
    #[error("a witness runs in {} already; two could sign two views", .0.display())]
    Locked(PathBuf),
    /// A record is not what was written. Disk or tampering; signing without it could sign a second view.
    #[error(
        "{}: {cause}; put back the record of the largest checkpoint this witness cosigned for {origin:?}",
        path.display()
    )]
    Record {
        /// Which file.
        path: PathBuf,
        /// Whose.
        origin: String,
        /// What is wrong.
        cause: BadRecord,
    },
}

/// Why a request was not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The decision.
    #[error(transparent)]
    Witness(#[from] WitnessRefusal),
    /// Our disk did not take the record, so nothing was signed.
    #[error("the record could not be made durable: {0}")]
    Storage(#[from] FileError),
}

/// A log and what was cosigned of it.
#[derive(Debug)]
pub struct Followed {
    /// Whom to believe.
    pub log: TrustedLog,
    /// SHA-256 of the origin in hex: its name in URLs and of its files.
    pub hash: String,
    last: Mutex<Option<Recorded>>,
}

impl Followed {
    /// What was cosigned last.
    pub fn last(&self) -> Option<Recorded> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The open directory of a witness.
#[derive(Debug)]
pub struct Store {
    place: Place,
    signer: WitnessSigner,
    logs: BTreeMap<String, Followed>,
    _lock: Option<File>,
}

impl Store {
    /// Opens the directory to sign in it; it stays locked until the store is dropped.
    pub fn open(place: Place, settings: &Settings) -> Result<Self, StoreError> {
        let path = place.lock();
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(FileError::on("open", &path))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => StoreError::Locked(place.root().to_path_buf()),
            fs::TryLockError::Error(cause) => FileError::on("lock", &path)(cause).into(),
        })?;
        let mut store = Self::read(place, settings)?;
        store._lock = Some(lock);
        files::create_dir(&store.place.record(""))?;
        Ok(store)
    }

    /// Reads the directory, to say what it holds; another witness may run in it.
    pub fn read(place: Place, settings: &Settings) -> Result<Self, StoreError> {
        let path = place.key();
        let text = files::read_text(&path, FILE_BYTES_MAX)?;
        let signer = WitnessSigner::parse(text.trim()).map_err(|cause| StoreError::Key { path, cause })?;
        let mut logs = BTreeMap::new();
        for log in &settings.logs {
            let digest: [u8; 32] = Sha256::digest(log.origin.as_bytes()).into();
            let hash = hex(&digest);
            let path = place.record(&hash);
            let last = match fs::read(&path) {
                Ok(bytes) => match Recorded::open(&bytes, &log.origin, signer.verifier()) {
                    Ok(record) => Some(record),
                    Err(cause) => {
                        let origin = log.origin.clone();
                        return Err(StoreError::Record { path, origin, cause });
                    }
                },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(FileError::on("read", &path)(error).into()),
            };
            let followed = Followed {
                log: log.clone(),
                hash,
                last: Mutex::new(last),
            };
            logs.insert(log.origin.clone(), followed);
        }
        Ok(Self {
            place,
            signer,
            logs,
            _lock: None,
        })
    }

    /// The key that cosigns.
    #[must_use]
    pub fn signer(&self) -> &WitnessSigner {
        &self.signer
    }

    /// The logs followed, by origin.
    pub fn logs(&self) -> impl Iterator<Item = &Followed> {
        self.logs.values()
    }

    /// Decides on a request body; `Ok` is the signature line, whose checkpoint is durably recorded.
    pub fn add_checkpoint(&self, body: &[u8], posix_seconds: u64) -> Result<String, Refused> {
        let request = AddCheckpoint::decode(body).map_err(WitnessRefusal::BadRequest)?;
        let claimed = request.claimed().map_err(WitnessRefusal::BadRequest)?;
        let followed = self
            .logs
            .get(&claimed.origin)
            .ok_or(WitnessRefusal::UnknownOrigin(claimed.origin))?;
        let mut last = followed.last.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = match judge(&request, &followed.log, last.as_ref()) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                if refusal.is_signed_contradiction() {
                    self.keep_contradiction(followed, body);
                }
                return Err(refusal.into());
            }
        };
        let cosigned = accepted.cosign(&self.signer, posix_seconds);
        // Commit point. A crash or failure in here leaves the old record or the new one; the cosignature has
        // not left, so both are right.
        files::replace(
            &self.place.record(&followed.hash),
            cosigned.record.note.as_bytes(),
            PUBLIC,
        )?;
        *last = Some(cosigned.record);
        Ok(cosigned.line)
    }

    /// Best effort: the refusal stands whether or not its evidence finds a place.
    fn keep_contradiction(&self, followed: &Followed, body: &[u8]) {
        let dir = self.place.contradictions(&followed.hash);
        let digest: [u8; 32] = Sha256::digest(body).into();
        let path = dir.join(hex(digest.get(..16).unwrap_or_default()));
        let kept = files::create_dir(&dir).and_then(|()| {
            let there = fs::read_dir(&dir).map_or(0, Iterator::count);
            if there >= CONTRADICTIONS_MAX || path.exists() {
                return Ok(());
            }
            files::create(&path, body, PUBLIC)
        });
        match kept {
            Ok(()) => tracing::error!(origin = followed.log.origin, file = %path.display(),
                "a signed checkpoint contradicts what was cosigned: this log shows two views"),
            Err(error) => tracing::error!(%error, "a contradiction could not be kept"),
        }
    }
}
