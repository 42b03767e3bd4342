//! A ledger in a local directory.
//!
//! An object is written whole under `tmp/`, synced, linked to its name (which fails if the name is taken),
//! and its directory synced; so a name never shows half an object. Many objects take these steps together, one
//! step after the other. `lock` keeps a second writer out.

mod together;

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, IoSlice, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use self::together::together;
use super::{NewObject, Storage, StorageError, Usage};

/// File that the writer holds locked; always empty.
const LOCK: &str = "lock";
/// Directory of objects not yet named.
const TMP: &str = "tmp";
/// Unit in which the system counts a file's blocks (`stat(2)`, `st_blocks`).
const BLOCK_BYTES: u64 = 512;
/// Files open at a time while many objects are written.
const OPEN_MAX: usize = 64;
/// Directories remembered as durable. A ledger makes one for each thousand leaves.
const DIRECTORIES_MAX: usize = 512;
/// Bytes compared at a time when an object exists already.
const COMPARE_BYTES: usize = 1 << 20;

/// A directory as [`Storage`].
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    /// Held for as long as we may write; `None` for a reader.
    writer: Option<File>,
    /// Some of the directories whose own entry is known to be durable.
    durable_directories: Mutex<HashSet<PathBuf>>,
    next_tmp: AtomicU64,
}

/// Why a directory could not be opened as a ledger's storage.
#[derive(Debug, thiserror::Error)]
pub enum OpenLocalError {
    /// Another process writes this ledger. Operator: stop that one first.
    #[error("{0} is in use by another writer")]
    Locked(PathBuf),
    /// The file system grants a lock twice, so nothing would keep a second writer out. Operator: another one.
    #[error(
        "{0} is on a file system that ignores locks; put the ledger on a local one, such as ext4, XFS or Btrfs"
    )]
    LockIgnored(PathBuf),
    /// The directory cannot be made or read. Operator or disk.
    #[error("cannot open {path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Local {
    /// Opens `root` for writing, making it if need be. Takes the lock until dropped and removes what a crash
    /// left under `tmp/`: never named, so never acknowledged.
    pub fn open_writer(root: &Path) -> Result<Self, OpenLocalError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenLocalError::Io { path, source }
        };
        fs::create_dir_all(root).map_err(at(root))?;
        // Absolute, so that every directory below has a parent to sync wherever the process moves.
        let root = &fs::canonicalize(root).map_err(at(root))?;
        let lock_path = root.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenLocalError::Locked(root.to_owned()),
            TryLockError::Error(source) => OpenLocalError::Io {
                path: lock_path.clone(),
                source,
            },
        })?;
        // Some network file systems grant every lock. Another opening of the file must be refused it.
        let second = OpenOptions::new()
            .write(true)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        if second.try_lock().is_ok() {
            return Err(OpenLocalError::LockIgnored(root.to_owned()));
        }
        let tmp = root.join(TMP);
        fs::create_dir_all(&tmp).map_err(at(&tmp))?;
        for leftover in fs::read_dir(&tmp).map_err(at(&tmp))? {
            let path = leftover.map_err(at(&tmp))?.path();
            fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(Self {
            writer: Some(lock),
            ..Self::unlocked(root)
        })
    }

    /// Opens `root` for reading only; a writer may be at work meanwhile.
    pub fn open_reader(root: &Path) -> Result<Self, OpenLocalError> {
        fs::read_dir(root).map_err(|source| OpenLocalError::Io {
            path: root.to_owned(),
            source,
        })?;
        Ok(Self::unlocked(root))
    }

    fn unlocked(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            writer: None,
            durable_directories: Mutex::default(),
            next_tmp: AtomicU64::new(0),
        }
    }

    /// Writes `parts` to a new file under `tmp/`. Nothing has a name yet, so a failure or crash here leaves a file
    /// that goes with the value or that the next writer removes.
    fn stage(&self, path: &str, parts: &[&[u8]]) -> Result<(Unnamed, File), StorageError> {
        if self.writer.is_none() {
            let source = io::Error::new(ErrorKind::ReadOnlyFilesystem, "opened for reading only");
            return Err(unknown(path, "open", source));
        }
        let number = self.next_tmp.fetch_add(1, Ordering::Relaxed);
        let tmp = self.root.join(TMP).join(number.to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&tmp);
        let mut file = file.map_err(|e| classify(path, "open", e))?;
        let unnamed = Unnamed(tmp);
        write_parts(&mut file, parts).map_err(|e| classify(path, "write", e))?;
        Ok((unnamed, file))
    }

    /// Gives `tmp` its name unless that is taken; a name already taken must hold the same bytes.
    fn link(&self, tmp: &Path, path: &str) -> Result<(), StorageError> {
        let target = self.root.join(path);
        let linked = fs::hard_link(tmp, &target);
        match linked {
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                let same = same_bytes(tmp, &target).map_err(|source| read_error(path, source))?;
                if !same {
                    return Err(StorageError::Conflict {
                        path: path.to_owned(),
                    });
                }
                // It may be the name of a process that died before syncing.
                File::open(&target)
                    .and_then(|file| file.sync_data())
                    .map_err(|e| unknown(path, "fdatasync of existing object", e))
            }
            Err(source) => Err(classify(path, "link", source)),
            Ok(()) => Ok(()),
        }
    }

    /// Makes the directory of `path` with its parents. Those to be synced before `path` is durable go to `unsynced`,
    /// each with an object that needs it, those made to `made`.
    fn ensure_directory<'a>(
        &self,
        path: &'a str,
        durable: &HashSet<PathBuf>,
        made: &mut Vec<PathBuf>,
        unsynced: &mut BTreeMap<PathBuf, &'a str>,
    ) -> Result<(), StorageError> {
        let directory = self.root.join(path).parent().unwrap_or(&self.root).to_owned();
        let missing = directory
            .ancestors()
            .take_while(|ancestor| ancestor.starts_with(&self.root) && !durable.contains(*ancestor));
        let mut missing: Vec<&Path> = missing.collect();
        missing.reverse();
        for ancestor in missing {
            match fs::create_dir(ancestor) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(classify(path, "mkdir", error));
                }
                _ => {}
            }
            if let Some(parent) = ancestor.parent() {
                unsynced.insert(parent.to_owned(), path);
            }
            made.push(ancestor.to_owned());
        }
        unsynced.insert(directory, path);
        Ok(())
    }

    /// Gives flushed files their names, by `give` and in directories that are there, and makes these durable.
    fn name(
        &self,
        staged: &[(&str, Unnamed)],
        give: impl Fn(&Path, &str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (mut made, mut unsynced) = (Vec::new(), BTreeMap::new());
        // Held meanwhile, so that nobody removes a directory as empty in which a name is about to appear.
        let durable = self.durable_directories();
        for (path, Unnamed(tmp)) in staged {
            self.ensure_directory(path, &durable, &mut made, &mut unsynced)?;
            give(tmp, path)?;
        }
        drop(durable);
        // Names of one directory are synced by one call, and directories at the same time.
        let unsynced: Vec<(PathBuf, &str)> = unsynced.into_iter().collect();
        let synced = together(&unsynced, |(directory, path)| {
            sync_directory(directory).map_err(|e| unknown(path, "fsync of directory", e))
        });
        synced.into_iter().collect::<Result<(), _>>()?;
        let mut durable = self.durable_directories();
        if durable.len().saturating_add(made.len()) > DIRECTORIES_MAX {
            // Whatever is forgotten is merely synced once more when it is needed again.
            durable.clear();
        }
        durable.extend(made);
        Ok(())
    }

    fn durable_directories(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable_directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file under `tmp/`, which goes with the value.
struct Unnamed(PathBuf);

impl Drop for Unnamed {
    fn drop(&mut self) {
        // Best effort, and gone already if it was renamed: what stays is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

impl Storage for Local {
    fn create(&self, objects: &[NewObject<'_>]) -> Result<(), StorageError> {
        let mut staged = Vec::with_capacity(objects.len());
        for some in objects.chunks(OPEN_MAX) {
            let mut files = Vec::with_capacity(some.len());
            for object in some {
                let (unnamed, file) = self.stage(object.path, object.parts)?;
                staged.push((object.path, unnamed));
                files.push((object.path, file));
            }
            // Begun together, so that the file system writes and commits them together.
            let flushed = together(&files, |(path, file)| {
                file.sync_data().map_err(|e| classify(path, "fdatasync", e))
            });
            flushed.into_iter().collect::<Result<(), _>>()?;
        }
        // Commit point. A crash before it leaves nothing but files in tmp; a crash after it may or may not keep each
        // name, which is why nobody is told before the directories are synced.
        self.name(&staged, |tmp, path| self.link(tmp, path))
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let (unnamed, file) = self.stage(path, &[bytes])?;
        file.sync_data().map_err(|e| classify(path, "fdatasync", e))?;
        // A crash before or after the rename leaves the old object or the new one, both whole.
        self.name(&[(path, unnamed)], |tmp, path| {
            fs::rename(tmp, self.root.join(path)).map_err(|e| classify(path, "rename", e))
        })
    }

    fn settle(&self, path: &str) -> Result<(), StorageError> {
        let target = self.root.join(path);
        File::open(&target)
            .and_then(|file| file.sync_data())
            .map_err(|e| unknown(path, "fdatasync", e))?;
        for directory in target
            .ancestors()
            .skip(1)
            .take_while(|above| above.starts_with(&self.root))
        {
            sync_directory(directory).map_err(|e| unknown(path, "fsync of directory", e))?;
        }
        Ok(())
    }

    fn length(&self, path: &str) -> Result<Option<u64>, StorageError> {
        found(path, fs::metadata(self.root.join(path)).map(|meta| meta.len()))
    }

    fn read_range(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StorageError> {
        found(
            path,
            File::open(self.root.join(path)).and_then(|file| read_at(&file, offset, length)),
        )
    }

    fn read_into(&self, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<bool, StorageError> {
        let Some(file) = found(path, File::open(self.root.join(path)))? else {
            return Ok(false);
        };
        let failed = |source| read_error(path, source);
        let length = file.metadata().map_err(failed)?.len();
        if length > length_max {
            return Err(StorageError::TooLong {
                path: path.to_owned(),
                length,
                length_max,
            });
        }
        // One more than the length, so that the end is seen without growing the buffer.
        buffer.reserve(usize::try_from(length).unwrap_or(0).saturating_add(1));
        file.take(length_max).read_to_end(buffer).map_err(failed)?;
        Ok(true)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut paths = Vec::new();
        self.visit(prefix, &mut |path| paths.push(path))?;
        paths.sort_unstable();
        Ok(paths)
    }

    fn visit(&self, prefix: &str, each: &mut dyn FnMut(String)) -> Result<(), StorageError> {
        let mut pending = vec![prefix.to_owned()];
        while let Some(directory) = pending.pop() {
            let Some(names) = found(&directory, fs::read_dir(self.root.join(&directory)))? else {
                continue;
            };
            for entry in names {
                let read = |source| read_error(&directory, source);
                let entry = entry.map_err(read)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = match directory.as_str() {
                    "" => name,
                    _ => format!("{directory}/{name}"),
                };
                if entry.file_type().map_err(read)?.is_dir() {
                    pending.push(path);
                } else {
                    each(path);
                }
            }
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        let target = self.root.join(path);
        match fs::remove_file(&target) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unknown(path, "unlink", error)),
            _ => {}
        }
        // A directory that became empty goes as well; one that did not stays, which is no failure. The one that
        // every write begins in stays.
        let mut durable = self.durable_directories();
        let goes = |parent: &&Path| **parent != self.root.join(TMP) && fs::remove_dir(parent).is_ok();
        if let Some(parent) = target.parent().filter(goes) {
            durable.remove(parent);
        }
        Ok(())
    }

    fn remove_durably(&self, path: &str) -> Result<(), StorageError> {
        let target = self.root.join(path);
        match fs::remove_file(&target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(|e| unknown(path, "unlink", e))?,
        }
        match target.parent().map(sync_directory) {
            // Without the directory the object cannot be there either.
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                Err(unknown(path, "fsync of directory", error))
            }
            _ => Ok(()),
        }
    }

    fn usage(&self, path: &str) -> Result<Usage, StorageError> {
        Ok(found(path, usage_below(&self.root.join(path)))?.unwrap_or_default())
    }
}

fn usage_below(path: &Path) -> io::Result<Usage> {
    let meta = fs::symlink_metadata(path)?;
    let mut usage = Usage {
        apparent: meta.len(),
        disk: meta.blocks() * BLOCK_BYTES,
    };
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            match usage_below(&entry?.path()) {
                Ok(below) => usage = usage.plus(below),
                // Removed since the directory was read: by a writer at work, or a prune.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(usage)
}

fn write_parts(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts
        .iter()
        .filter(|part| !part.is_empty())
        .map(|part| IoSlice::new(part))
        .collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    // An offset or length taken from rotten bytes must not reserve memory that the file does not have.
    let have = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; length.min(usize::try_from(have).unwrap_or(usize::MAX))];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn same_bytes(left: &Path, right: &Path) -> io::Result<bool> {
    let (left, right) = (File::open(left)?, File::open(right)?);
    let mut offset = 0;
    loop {
        let (a, b) = (
            read_at(&left, offset, COMPARE_BYTES)?,
            read_at(&right, offset, COMPARE_BYTES)?,
        );
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
        offset += a.len() as u64;
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn found<T>(path: &str, result: io::Result<T>) -> Result<Option<T>, StorageError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(read_error(path, source)),
    }
}

fn read_error(path: &str, source: io::Error) -> StorageError {
    StorageError::Read {
        path: path.to_owned(),
        source,
    }
}

fn unknown(path: &str, step: &'static str, source: io::Error) -> StorageError {
    StorageError::Unknown {
        path: path.to_owned(),
        step,
        source,
    }
}

/// A full disk before the object had its name is a clean refusal; every other failure to write is not.
fn classify(path: &str, step: &'static str, source: io::Error) -> StorageError {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::NoSpace {
            path: path.to_owned(),
            source,
        },
        _ => unknown(path, step, source),
    }
}

#[cfg(test)]
mod tests;
