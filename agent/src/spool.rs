//! The spool's disk: carries out what [`common::spool`] decides.
//!
//! Owns file handles and the translation of system errors. Refuses to decide anything: order, retries and what
//! a crash left behind are the pure index's.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use common::{
    batch::HeldKeys,
    spool::{
        DiskFault, HEAD_FILE_BYTES, Place, RecoverError, Recovered, SegmentId, SpoolConfig, SpoolEffect,
        recover, scan_segment,
    },
};

use crate::disk::sync_dir;

/// The head file's name.
const HEAD_FILE: &str = "head";

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk.
    #[error("spool {path}: {cause}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The files are there and cannot be used.
    #[error("spool: {0}")]
    Recover(#[from] RecoverError),
}

/// The spool's directory with the files in use held open.
#[derive(Debug)]
pub struct SpoolDisk {
    dir: PathBuf,
    segment: Option<(SegmentId, File)>,
    head: Option<File>,
}

impl SpoolDisk {
    /// Reads what the last run, or a crash, left in `dir`, and puts it on the disk: a process that was killed
    /// between writing a batch and syncing it, or whose sync failed, leaves one that can be read and that a power
    /// cut would take. Changes no byte: repairs are effects.
    ///
    /// # Errors
    /// [`OpenError`]; the files are left as they are.
    pub fn open(dir: &Path, config: SpoolConfig, keys: &HeldKeys) -> Result<(Self, Recovered), OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |cause| OpenError::Io { path, cause }
        };
        fs::create_dir_all(dir).map_err(at(dir))?;
        let head_path = dir.join(HEAD_FILE);
        let head_file = match fs::read(&head_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(at(&head_path))?),
        };
        let mut segments = Vec::new();
        for entry in fs::read_dir(dir).map_err(at(dir))? {
            let name = entry.map_err(at(dir))?.file_name();
            segments.extend(name.to_str().and_then(SegmentId::from_file_name));
        }
        segments.sort_unstable();
        let mut scans = Vec::new();
        let mut last = None;
        for segment in segments {
            let path = dir.join(segment.file_name());
            let bytes = read_synced(&path).map_err(at(&path))?;
            let scan = scan_segment(&keys.host, segment, &bytes);
            last = Some((path, scan.last_written(), bytes));
            scans.push(scan);
        }
        sync_dir(dir).map_err(at(dir))?;
        let recovered = recover(config, keys, head_file.as_deref(), scans)?;
        if let Some((path, stretch, bytes)) = last {
            write_again(&path, &stretch, &bytes).map_err(at(&path))?;
        }
        let disk = Self {
            dir: dir.to_owned(),
            segment: None,
            head: None,
        };
        Ok((disk, recovered))
    }

    /// Carries out one effect; returns once it is as durable as the effect demands.
    ///
    /// # Errors
    /// [`DiskFault::NoSpace`] where waiting may help, otherwise [`DiskFault::Failed`].
    pub fn execute(&mut self, effect: &SpoolEffect) -> Result<(), DiskFault> {
        self.try_execute(effect)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => DiskFault::NoSpace,
                _ => DiskFault::Failed(error.to_string()),
            })
    }

    fn try_execute(&mut self, effect: &SpoolEffect) -> io::Result<()> {
        match effect {
            SpoolEffect::Create { segment, bytes } => {
                let file = open_private(&self.path(*segment))?;
                file.set_len(0)?;
                file.write_all_at(bytes, 0)?;
                file.sync_all()?;
                self.segment = Some((*segment, file));
                sync_dir(&self.dir)
            }
            SpoolEffect::Write {
                segment,
                offset,
                bytes,
            } => self.file(*segment)?.write_all_at(bytes, *offset),
            SpoolEffect::Sync { segment } => self.file(*segment)?.sync_data(),
            SpoolEffect::Truncate { segment, length } => {
                let file = self.file(*segment)?;
                file.set_len(*length)?;
                file.sync_all()
            }
            SpoolEffect::Delete { segment } => {
                self.forget(*segment);
                fs::remove_file(self.path(*segment))?;
                // One that recovery found torn must not come back behind what is written next.
                sync_dir(&self.dir)
            }
            SpoolEffect::SetAside { segment } => {
                self.forget(*segment);
                let path = self.path(*segment);
                fs::rename(&path, path.with_extension("rot"))?;
                sync_dir(&self.dir)
            }
            SpoolEffect::WriteHead { offset, bytes, sync } => {
                let file = self.head_file()?;
                file.write_all_at(bytes, *offset)?;
                if *sync { file.sync_data() } else { Ok(()) }
            }
        }
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.dir.join(segment.file_name())
    }

    fn forget(&mut self, segment: SegmentId) {
        if self.segment.as_ref().is_some_and(|(held, _)| *held == segment) {
            self.segment = None;
        }
    }

    fn file(&mut self, segment: SegmentId) -> io::Result<&File> {
        let held = match self.segment.take() {
            Some(held) if held.0 == segment => held,
            _ => (
                segment,
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(self.path(segment))?,
            ),
        };
        Ok(&self.segment.insert(held).1)
    }

    fn head_file(&mut self) -> io::Result<&File> {
        if self.head.is_none() {
            let path = self.dir.join(HEAD_FILE);
            let file = open_private(&path)?;
            if file.metadata()?.len() < HEAD_FILE_BYTES as u64 {
                file.set_len(HEAD_FILE_BYTES as u64)?;
                file.sync_all()?;
                sync_dir(&self.dir)?;
            }
            self.head = Some(file);
        }
        self.head
            .as_ref()
            .ok_or_else(|| io::Error::other("the head file was closed"))
    }
}

/// Reads the record at `place`.
///
/// # Errors
/// What the system says; a short file is [`io::ErrorKind::UnexpectedEof`].
pub fn read_record(dir: &Path, place: &Place) -> io::Result<Vec<u8>> {
    let mut file = File::open(dir.join(place.segment.file_name()))?;
    file.seek(SeekFrom::Start(place.offset))?;
    let mut bytes = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The bytes of a file once it is synced.
fn read_synced(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.sync_data()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a stretch of a file anew, with the bytes that were read from it, and waits for the disk: where the process
/// before ended by a failed sync, the system may take them for written although they are not, and sync nothing.
fn write_again(path: &Path, stretch: &Range<u64>, bytes: &[u8]) -> io::Result<()> {
    let at = |offset| usize::try_from(offset).map_err(io::Error::other);
    let bytes = bytes.get(at(stretch.start)?..at(stretch.end)?);
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes.unwrap_or_default(), stretch.start)?;
    file.sync_data()
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use common::{
        ids::{BootId, BootNanos},
        keyring::{KeyRecord, Seed},
        spool::encode_segment_header,
    };

    use super::*;

    fn keys() -> HeldKeys {
        let seed = |byte| {
            Seed::filled(|seed| {
                *seed = [byte; 32];
                Ok::<(), ()>(())
            })
            .unwrap()
        };
        KeyRecord::first(seed(1), seed(2), BootId::default(), BootNanos(0)).held()
    }

    /// What is read and not synced would be taken for durable. `/dev/null` can be read and never synced.
    #[test]
    fn a_segment_that_cannot_be_synced_is_not_recovered_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SegmentId(0).file_name());
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let opened = SpoolDisk::open(dir.path(), SpoolConfig::default(), &keys());
        assert!(
            matches!(&opened, Err(OpenError::Io { path: at, .. }) if *at == path),
            "{opened:?}"
        );
    }

    /// After a failed sync Linux may call pages clean that it did not write: only what is written again is surely
    /// synced. That can be seen by the time of the last change.
    #[test]
    fn a_start_writes_the_last_record_and_no_other_segment_again() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys();
        for segment in [SegmentId(0), SegmentId(3)] {
            let path = dir.path().join(segment.file_name());
            fs::write(&path, encode_segment_header(&keys.host, segment)).unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        SpoolDisk::open(dir.path(), SpoolConfig::default(), &keys).unwrap();
        let written = [SegmentId(0), SegmentId(3)].map(|segment| {
            let path = dir.path().join(segment.file_name());
            assert_eq!(
                fs::read(&path).unwrap(),
                encode_segment_header(&keys.host, segment)
            );
            fs::metadata(&path).unwrap().modified().unwrap() != SystemTime::UNIX_EPOCH
        });
        assert_eq!(written, [false, true]);
    }
}
