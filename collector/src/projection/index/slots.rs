//! A file of records of one length, each at a computed place, only ever appended to; or memory in its place.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{PoisonError, RwLock},
};

use common::projection::Slot;

use super::IndexError;

/// Records of one length.
pub(super) struct Slots {
    bytes_each: usize,
    place: Place,
}

/// Where they lie.
enum Place {
    Memory(RwLock<Vec<u8>>),
    Local(File),
}

impl Slots {
    /// Records in memory.
    pub(super) fn in_memory(bytes_each: usize) -> Self {
        Self {
            bytes_each,
            place: Place::Memory(RwLock::default()),
        }
    }

    /// The records in a file, whatever it holds.
    pub(super) fn open(path: &Path, bytes_each: usize) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self {
            bytes_each,
            place: Place::Local(file),
        })
    }

    /// Forgets all.
    pub(super) fn clear(&self) -> io::Result<()> {
        match &self.place {
            Place::Memory(bytes) => {
                bytes.write().unwrap_or_else(PoisonError::into_inner).clear();
                Ok(())
            }
            Place::Local(file) => file.set_len(0),
        }
    }

    /// Writes the record at `slot`, which is the next one or was written before.
    pub(super) fn write(&self, slot: Slot, record: &[u8]) -> io::Result<()> {
        match &self.place {
            Place::Memory(bytes) => {
                let mut bytes = bytes.write().unwrap_or_else(PoisonError::into_inner);
                bytes.truncate(usize::try_from(self.offset(slot)).unwrap_or(usize::MAX));
                bytes.extend_from_slice(record);
                Ok(())
            }
            Place::Local(file) => file.write_all_at(record, self.offset(slot)),
        }
    }

    /// The bytes of `count` records from `slot` on.
    pub(super) fn read(&self, slot: Slot, count: usize) -> Result<Vec<u8>, IndexError> {
        let mut out = vec![0; self.bytes_each.saturating_mul(count)];
        let missing = || IndexError::Damaged(format!("record {} is missing", slot.0));
        match &self.place {
            Place::Memory(bytes) => {
                let bytes = bytes.read().unwrap_or_else(PoisonError::into_inner);
                let at = usize::try_from(self.offset(slot)).unwrap_or(usize::MAX);
                let found = at.checked_add(out.len()).and_then(|end| bytes.get(at..end));
                out.copy_from_slice(found.ok_or_else(missing)?);
            }
            Place::Local(file) => match file.read_exact_at(&mut out, self.offset(slot)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(missing()),
                Err(cause) => return Err(IndexError::disk("read")(cause)),
            },
        }
        Ok(out)
    }

    /// Makes all durable.
    pub(super) fn flush(&self) -> io::Result<()> {
        match &self.place {
            Place::Memory(_) => Ok(()),
            Place::Local(file) => file.sync_data(),
        }
    }

    fn offset(&self, slot: Slot) -> u64 {
        slot.0.saturating_mul(self.bytes_each as u64)
    }
}
