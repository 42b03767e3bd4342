//! What a witness signed last, durable before anybody hears of it.
//!
//! One file for each origin holds the whole cosigned note; it is also what monitors read. Requests for one
//! origin are served one after the other: its lock is held from the decision until the record is durable. A
//! crash in between leaves the old record or the new one, and a cosignature that nobody received binds
//! nobody. Kept beside, bounded: checkpoints under a good signature that contradict what was cosigned.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use common::{
    ids::{Hash, hex},
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
    /// The record is older than the last one that was written, or gone.
    #[error(
        "{}: {found}, and this witness had cosigned {size} leaves of {origin:?} ({}): an older copy was put back, or \
         the record removed. Put back the one of {size} leaves",
        path.display(),
        mark.display()
    )]
    Older {
        /// The record.
        path: PathBuf,
        /// What tells.
        mark: PathBuf,
        /// Whose.
        origin: String,
        /// What is there.
        found: String,
        /// Leaves cosigned.
        size: u64,
    },
    /// The mark is not what was written.
    #[error(
        "{}: it was altered. Make sure that the record beside it, {}, is of the largest checkpoint this witness \
         cosigned, and remove it",
        path.display(),
        record.display()
    )]
    Mark {
        /// Which file.
        path: PathBuf,
        /// The record it tells of.
        record: PathBuf,
    },
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
        files::create_dir(&store.place.mark(""))?;
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
            let mark = place.mark(&hash);
            // First the mark: a witness that runs replaces the record before it.
            let told = read_mark(&mark, &path)?;
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
            if let Some((size, root)) = told
                && last
                    .as_ref()
                    .is_none_or(|last| last.size < size || last.size == size && last.root != root)
            {
                let found = last.map_or_else(
                    || "there is none".to_owned(),
                    |last| format!("it is of {} leaves", last.size),
                );
                let origin = log.origin.clone();
                return Err(StoreError::Older {
                    path,
                    mark,
                    origin,
                    found,
                    size,
                });
            }
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
        let mark = mark_text(cosigned.record.size, &cosigned.record.root);
        *last = Some(cosigned.record);
        // After the record, so that it never tells of more than that: a crash in between leaves it behind.
        files::replace(&self.place.mark(&followed.hash), mark.as_bytes(), PUBLIC)?;
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

/// Size and root, and the hash of both.
fn mark_text(size: u64, root: &Hash) -> String {
    let told = format!("{size} {root}");
    format!("{told} {}\n", Hash::of(told.as_bytes()))
}

/// Size and root in the mark at `path`; `None` where there is none, as before the first cosignature.
fn read_mark(path: &Path, record: &Path) -> Result<Option<(u64, Hash)>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read_text(path, FILE_BYTES_MAX).unwrap_or_default();
    let mut words = text.split(' ');
    let size = words.next().and_then(|size| size.parse().ok());
    let root = words.next().and_then(|root| root.parse().ok());
    match size.zip(root) {
        Some((size, root)) if mark_text(size, &root) == text => Ok(Some((size, root))),
        _ => Err(StoreError::Mark {
            path: path.to_path_buf(),
            record: record.to_path_buf(),
        }),
    }
}
