//! The file of records, or memory in its place for ledgers that lie in memory.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use common::ids::{Hash, LeafIndex};

use super::{
    record::{RECORD_BYTES, Record},
    tips::Tips,
};

/// File of one record for each leaf.
const RECORDS: &str = "leaves";
/// File of [`Tips`].
const TIPS: &str = "tips";
/// Longest file of tips, bytes: some three million hosts.
const TIPS_BYTES_MAX: u64 = 128 << 20;

/// Where records lie.
#[derive(Debug)]
pub(super) enum Records {
    /// In memory: nothing to flush, nothing to find again.
    Memory(Vec<u8>),
    /// In a directory that the writer of the ledger owns.
    Local {
        /// The directory.
        directory: PathBuf,
        /// Its file of records.
        file: File,
    },
}

impl Records {
    /// The records in `directory`, whatever they hold.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(RECORDS))?;
        Ok(Self::Local {
            directory: directory.to_owned(),
            file,
        })
    }

    /// Forgets everything. The tips go first: a crash in between leaves records that nothing vouches for.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => bytes.clear(),
            Self::Local { directory, file } => {
                match fs::remove_file(directory.join(TIPS)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                file.set_len(0)?;
            }
        }
        Ok(())
    }

    /// Writes the records of `leaf` and those after it.
    pub(super) fn write(&mut self, leaf: LeafIndex, records: &[u8]) -> io::Result<()> {
        let at = offset(leaf);
        match self {
            Self::Memory(bytes) => {
                bytes.truncate(usize::try_from(at).unwrap_or(usize::MAX));
                bytes.extend_from_slice(records);
                Ok(())
            }
            Self::Local { file, .. } => file.write_all_at(records, at),
        }
    }

    /// The record of `leaf`, or what is wrong with it.
    pub(super) fn read(&self, leaf: LeafIndex) -> Result<Record, String> {
        let mut bytes = [0; RECORD_BYTES];
        match self {
            Self::Memory(all) => {
                let at = usize::try_from(offset(leaf)).unwrap_or(usize::MAX);
                let found = at.checked_add(RECORD_BYTES).and_then(|end| all.get(at..end));
                bytes.copy_from_slice(found.ok_or_else(|| format!("record of leaf {leaf} is missing"))?);
            }
            Self::Local { file, .. } => file
                .read_exact_at(&mut bytes, offset(leaf))
                .map_err(|error| format!("record of leaf {leaf}: {error}"))?,
        }
        Record::decode(leaf, &bytes).map_err(|bad| format!("record of leaf {leaf}: {bad}"))
    }

    /// The tips last saved; `None` where there are none.
    pub(super) fn tips(&self) -> Result<Option<Tips>, String> {
        let Self::Local { directory, .. } = self else {
            return Ok(None);
        };
        let path = directory.join(TIPS);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > TIPS_BYTES_MAX => {
                return Err(format!("tips have {} bytes", found.len()));
            }
            _ => {}
        }
        let bytes = fs::read(path).map_err(|error| format!("tips: {error}"))?;
        Tips::decode(&bytes)
            .map(Some)
            .map_err(|bad| format!("tips: {bad}"))
    }

    /// Flushes the records, then vouches for them. A crash in between leaves the tips before.
    pub(super) fn save(&self, tips: &Tips) -> io::Result<()> {
        let Self::Local { directory, file } = self else {
            return Ok(());
        };
        file.sync_data()?;
        let partial = directory.join(format!("{TIPS}.new"));
        let new = File::create(&partial)?;
        new.write_all_at(&tips.encode(), 0)?;
        new.sync_data()?;
        fs::rename(&partial, directory.join(TIPS))
    }

    /// What tips call the ledger of this verifier key.
    pub(super) fn name_of(verifier: &str) -> Hash {
        Hash::of(verifier.as_bytes())
    }
}

fn offset(leaf: LeafIndex) -> u64 {
    leaf.0.saturating_mul(RECORD_BYTES as u64)
}
