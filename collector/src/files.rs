//! Files of the collector's own directory: created whole, flushed, with the mode they need.
//!
//! Owns how small files (keys, certificates, registrations, evidence) reach the disk; the ledger's files are
//! the `ledger` crate's. Nothing here overwrites a file in place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Mode of whatever must stay secret.
pub const SECRET: u32 = 0o600;
/// Mode of whatever anybody may read.
pub const PUBLIC: u32 = 0o644;

/// A file that could not be read or written, with its name. The operator or the disk is at fault.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {cause}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

impl FileError {
    /// Names what was tried on which path.
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self { action, path, cause }
    }
}

/// Creates a directory and its parents, readable by this user alone when it is new.
pub fn create_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::on("create directory", path))
}

/// Writes a file that must not exist yet. A crash leaves it absent or whole: it is written under another
/// name, flushed, and then linked to its own.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let outcome = write_flushed(&temporary, bytes, mode).and_then(|()| fs::hard_link(&temporary, path));
    // Whether or not it was linked, the other name has served its purpose.
    let removed = fs::remove_file(&temporary);
    outcome
        .and(removed)
        .and_then(|()| flush_parent(path))
        .map_err(FileError::on("create", path))
}

/// Writes a file whether or not it exists; readers see the old or the new one, never a mixture.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    write_flushed(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| flush_parent(path))
        .map_err(|cause| {
            // Best effort: what matters is the error that made the temporary file useless.
            let _ = fs::remove_file(&temporary);
            FileError::on("write", path)(cause)
        })
}

/// Removes a file if it is there, durable on return.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => flush_parent(path),
    }
    .map_err(FileError::on("remove", path))
}

/// Reads a text file of at most `bytes_max` bytes.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, FileError> {
    let read = || {
        let found = fs::metadata(path)?.len();
        if found > bytes_max {
            return Err(io::Error::other(format!(
                "{found} bytes, more than the {bytes_max} such a file may have"
            )));
        }
        fs::read_to_string(path)
    };
    read().map_err(FileError::on("read", path))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn write_flushed(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn flush_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn creates_once_replaces_often_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        create(&path, b"1", SECRET).unwrap();
        assert!(create(&path, b"2", SECRET).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"1");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        replace(&path, b"3", PUBLIC).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(read_text(&path, 0).is_err());
    }
}
