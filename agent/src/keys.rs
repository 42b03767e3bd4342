//! The key file on the disk: opened, and replaced step by step.
//!
//! Owns `signing.keys`: what is written to it, in which order, and that the private key of an epoch that is over
//! is overwritten where it lay. Refuses to sign on while old keys lie there, and to continue with keys that are
//! not the ones in force.
//!
//! What is promised is what the file system does with a write in place: ext4 and XFS write the same blocks
//! again. Copy-on-write file systems (btrfs, ZFS, most overlay and snapshot layers) and the flash under any of
//! them keep the old bytes somewhere until they are recycled; there, disk encryption with a key that is lost
//! with the disk is the answer. Swap and hibernation images are the operator's as well.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

use common::{
    batch::HeldKeys,
    keyring::{
        EpochBegan, KEY_FILE_BYTES, KEY_SLOT_STRIDE, KeyFileFinding, KeyRecord, Keyring, OtherSlot,
        SecretBytes, Seed, key_file_findings, read_key_file,
    },
};
use zeroize::Zeroize;

use crate::{disk, identity::IdentityError};

/// How deep the stack is overwritten by [`scrub_stack`], bytes.
const SCRUB_BYTES: usize = 256 * 1024;

/// The key file.
#[derive(Debug)]
pub struct KeyStore {
    path: PathBuf,
}

impl KeyStore {
    /// The store in that file, which may not exist yet.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the file. Complete or absent, whatever happens.
    ///
    /// # Errors
    /// What the disk gives.
    pub fn create(&self, record: &KeyRecord) -> Result<(), IdentityError> {
        let mut image: SecretBytes = vec![0; KEY_FILE_BYTES].into();
        let at = record.slot() * KEY_SLOT_STRIDE;
        if let Some(slot) = image.get_mut(at..at + KEY_SLOT_STRIDE) {
            slot.copy_from_slice(&record.encode());
        }
        disk::replace(&self.path, &image, 0o600).map_err(|cause| self.io(cause))
    }

    /// Reads the keys in force and changes nothing.
    ///
    /// # Errors
    /// Names the file, what is wrong and what to do.
    pub fn read(&self) -> Result<(KeyRecord, OtherSlot), IdentityError> {
        self.parse(&self.bytes()?)
    }

    /// What is not in order in the file, although it gives keys; changes nothing.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn examine(&self) -> Result<Vec<KeyFileFinding>, IdentityError> {
        let bytes = self.bytes()?;
        let (record, _) = self.parse(&bytes)?;
        Ok(key_file_findings(&bytes, &record))
    }

    /// Reads the keys in force, and finishes a replacement that a crash cut short: keys of an epoch that is
    /// over are overwritten before anything is signed. So is whatever else is found beside the keys in force. Where
    /// nothing is found, zeros are written over zeros: after a sync that failed they may be in memory alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn open(&self) -> Result<(Keyring, Vec<KeyFileFinding>), IdentityError> {
        let bytes = self.bytes()?;
        let (record, other) = self.parse(&bytes)?;
        let findings = key_file_findings(&bytes, &record);
        if other == OtherSlot::NotErased {
            // A process that was killed, or whose sync failed, may have left the keys in force in the system's memory
            // alone: they become durable before anything else of the file changes. Written, not merely synced, for the
            // system may take for written what it failed to write.
            self.write(record.slot(), &record.encode())?;
        }
        self.write(1 - record.slot(), &[0; KEY_SLOT_STRIDE])?;
        let leftover = |found: &KeyFileFinding| matches!(found, KeyFileFinding::Leftover { .. });
        if !findings.iter().all(leftover) {
            // Zeros behind the keys and the file's length; the keys themselves are written as they stand.
            self.write(record.slot(), &record.encode())?;
            let file = open_private(&self.path, true)?;
            file.set_len(KEY_FILE_BYTES as u64)
                .and_then(|()| file.sync_all())
                .map_err(|cause| self.io(cause))?;
        }
        let keyring = record.keyring();
        drop(record);
        scrub_stack();
        Ok((keyring, findings))
    }

    /// The file, and one byte of what is behind its end where there is more: never grows, so that no copy is left.
    fn bytes(&self) -> Result<SecretBytes, IdentityError> {
        let file = open_private(&self.path, false)?;
        let mut bytes: SecretBytes = Vec::with_capacity(KEY_FILE_BYTES + 64).into();
        file.take(KEY_FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|cause| self.io(cause))?;
        Ok(bytes)
    }

    fn parse(&self, bytes: &[u8]) -> Result<(KeyRecord, OtherSlot), IdentityError> {
        read_key_file(bytes).map_err(|fault| IdentityError::Keys {
            path: self.path.clone(),
            fault,
        })
    }

    /// Replaces the keys that `held` names by the next ones, with a fresh key to be announced.
    ///
    /// A crash before the first step's sync leaves the old keys in force, perhaps with half a slot of new ones
    /// that nothing announced. Between the two steps both pairs lie there: the new ones are in force, and
    /// [`Self::open`] repeats the second step. The chain may stand at the last batch of the old epoch all the
    /// while: it announced the key that is now in force.
    ///
    /// # Errors
    /// Where the file is gone, or holds other keys than those in force; where the disk fails. The process must
    /// end: the next start goes on from what the file really holds.
    pub fn ratchet(&self, held: &HeldKeys, began: EpochBegan) -> Result<Keyring, IdentityError> {
        let (record, _) = self.read()?;
        if record.held() != *held {
            return Err(IdentityError::Replaced(self.path.clone()));
        }
        let next = record
            .successor(fresh_seed()?, began)
            .ok_or_else(|| IdentityError::Replaced(self.path.clone()))?;
        self.write(next.slot(), &next.encode())?;
        self.write(record.slot(), &[0; KEY_SLOT_STRIDE])?;
        Ok(next.keyring())
    }

    /// Writes a slot in place and waits for the disk.
    fn write(&self, slot: usize, bytes: &[u8]) -> Result<(), IdentityError> {
        let file = open_private(&self.path, true)?;
        file.write_all_at(bytes, (slot * KEY_SLOT_STRIDE) as u64)
            .and_then(|()| file.sync_data())
            .map_err(|cause| self.io(cause))
    }

    fn io(&self, cause: io::Error) -> IdentityError {
        IdentityError::Io {
            path: self.path.clone(),
            cause,
        }
    }
}

/// A key of the system's randomness.
///
/// # Errors
/// [`IdentityError::Randomness`].
pub fn fresh_seed() -> Result<Seed, IdentityError> {
    Seed::filled(|seed| getrandom::fill(seed)).map_err(IdentityError::Randomness)
}

/// Overwrites a file with zeros where it lies, and removes it.
///
/// # Errors
/// What the system says.
pub fn erase_file(path: &Path) -> Result<(), IdentityError> {
    let fault = |cause| IdentityError::Io {
        path: path.to_owned(),
        cause,
    };
    let file = open_private(path, true)?;
    let length = file.metadata().map_err(fault)?.len();
    let zeros = vec![0; usize::try_from(length).unwrap_or_default()];
    file.write_all_at(&zeros, 0)
        .and_then(|()| file.sync_data())
        .and_then(|()| std::fs::remove_file(path))
        .and_then(|()| disk::sync_dir(path.parent().unwrap_or(Path::new("."))))
        .map_err(fault)
}

/// Overwrites what the calls made so far left below this point of the stack: signing and key derivation put
/// copies of a private key there that no destructor reaches. Call it from the frame that made those calls.
#[inline(never)]
pub fn scrub_stack() {
    let mut deep = [0_u8; SCRUB_BYTES];
    deep.zeroize();
    std::hint::black_box(&deep);
}

/// Opens a file that only its owner may read.
///
/// # Errors
/// [`IdentityError::Missing`], [`IdentityError::Exposed`], [`IdentityError::Io`].
pub fn open_private(path: &Path, write: bool) -> Result<File, IdentityError> {
    let io_error = |cause| IdentityError::Io {
        path: path.to_owned(),
        cause,
    };
    let file = match OpenOptions::new().read(true).write(write).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::Missing(path.to_owned()));
        }
        other => other.map_err(io_error)?,
    };
    let mode = file.metadata().map_err(io_error)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.display().to_string(),
            mode,
        });
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
