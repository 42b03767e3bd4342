//! Snapshots: everything that is there now, read through BPF iterators with the same fields as the live hooks.
//!
//! Take them after the live hooks are attached. A record's time says when it was read: a live record with a
//! later time supersedes it, and one of an end supersedes it whatever its time.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;

use aya::programs::Iter;
use aya::programs::iter::IterLink;
use common::abi::{self, Body, DecodeError, RECORD_BYTES_MAX, Record};

use super::start::Hooks;

/// Why a snapshot could not be taken or completed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The iterator did not load at start; its report says why.
    #[error("iterator {0} is not available; the sensor report says why")]
    NotLoaded(&'static str),
    /// The kernel refused to open the iterator.
    #[error("iterator {iterator} cannot be opened: {reason}")]
    Open {
        /// Which iterator.
        iterator: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// Reading failed half way; what was read is incomplete.
    #[error("iterator {iterator} broke off: {source}")]
    Read {
        /// Which iterator.
        iterator: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The iterator wrote something that is no record of ours.
    #[error("iterator {iterator}: {source}")]
    Malformed {
        /// Which iterator.
        iterator: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl Hooks {
    /// Every process there is, each once; yields how many.
    ///
    /// # Errors
    /// [`SnapshotError`]; records handed out before it remain true.
    pub fn snapshot_processes(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> Result<usize, SnapshotError> {
        let mut told = HashSet::new();
        let mut records = 0;
        self.snapshot("iter_task", &mut |record| {
            // A process whose leading thread has ended is told by each thread that lives on.
            if let Body::Process(process) = record.body
                && told.insert(process.key)
            {
                records += 1;
                sink(record);
            }
        })?;
        Ok(records)
    }

    /// Every TCP socket, connected or listening, each once, and for each descriptor of one the process that
    /// holds it; yields how many records.
    ///
    /// Sockets that processes hold are told in all network namespaces, with their first holder as owner; those
    /// that none holds (closing ones, the kernel's own) in this process's namespace only.
    ///
    /// The kernel side remembers those owners: connections that a listener older than the agent accepts later,
    /// and the close of connections older than the agent, carry them too.
    ///
    /// # Errors
    /// [`SnapshotError`]; records handed out before it remain true.
    pub fn snapshot_sockets(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> Result<usize, SnapshotError> {
        let mut told = HashSet::new();
        let mut records = 0;
        let mut once = |record: Record<'_>| {
            if let Body::Tcp(tcp) = record.body
                && !told.insert(tcp.cookie)
            {
                return;
            }
            records += 1;
            sink(record);
        };
        // A kernel that refuses to tell holders still tells the sockets, without owners.
        match self.snapshot("iter_task_file", &mut once) {
            Err(SnapshotError::NotLoaded(_)) => 0,
            other => other?,
        };
        self.snapshot("iter_tcp", &mut once)?;
        Ok(records)
    }

    fn snapshot(
        &mut self,
        iterator: &'static str,
        sink: &mut dyn FnMut(Record<'_>),
    ) -> Result<usize, SnapshotError> {
        let file = self.open_iterator(iterator)?;
        read_records(iterator, file, sink)
    }

    fn open_iterator(&mut self, iterator: &'static str) -> Result<File, SnapshotError> {
        let open = |error: &dyn std::error::Error| SnapshotError::Open {
            iterator,
            reason: error.to_string(),
        };
        let program = self
            .ebpf
            .program_mut(iterator)
            .ok_or(SnapshotError::NotLoaded(iterator))?;
        let program: &mut Iter = program
            .try_into()
            .map_err(|_| SnapshotError::NotLoaded(iterator))?;
        program.fd().map_err(|_| SnapshotError::NotLoaded(iterator))?;
        let id = program.attach().map_err(|e| open(&e))?;
        let link: IterLink = program.take_link(id).map_err(|e| open(&e))?;
        link.into_file().map_err(|e| open(&e))
    }
}

/// Reads records to the end. A record never spans more than the buffer, which grows no further.
fn read_records(
    iterator: &'static str,
    mut file: impl Read,
    sink: &mut dyn FnMut(Record<'_>),
) -> Result<usize, SnapshotError> {
    let mut buffer = vec![0u8; 4 * RECORD_BYTES_MAX.max(16 << 10)];
    let (mut filled, mut records) = (0, 0);
    loop {
        let space = buffer.get_mut(filled..).unwrap_or_default();
        let read = match file.read(space) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(SnapshotError::Read { iterator, source }),
        };
        filled += read;
        let bytes = buffer.get(..filled).unwrap_or_default();
        let (used, found) = hand_out(iterator, bytes, sink)?;
        records += found;
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if read == 0 {
            return match filled {
                0 => Ok(records),
                found => Err(SnapshotError::Malformed {
                    iterator,
                    source: DecodeError::Short {
                        needed: found + 1,
                        found,
                    },
                }),
            };
        }
    }
}

/// Hands out the whole records at the start of `bytes`; yields the bytes used and the records found.
fn hand_out(
    iterator: &'static str,
    bytes: &[u8],
    sink: &mut dyn FnMut(Record<'_>),
) -> Result<(usize, usize), SnapshotError> {
    let (mut at, mut records) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let malformed = |source| SnapshotError::Malformed { iterator, source };
        let header = match abi::header(rest) {
            // The rest of it comes with the next read, unless it could never fit.
            Err(DecodeError::Short { needed, .. }) if needed <= RECORD_BYTES_MAX => break,
            Err(error) => return Err(malformed(error)),
            Ok(header) => header,
        };
        sink(abi::decode(rest).map_err(malformed)?);
        at += usize::try_from(header.record_bytes).unwrap_or(usize::MAX);
        records += 1;
    }
    Ok((at, records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cut_by_a_read_is_put_together() {
        // A file that gives one byte at a time.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                let take = self.0.len().min(1).min(out.len());
                out[..take].copy_from_slice(&self.0[..take]);
                self.0 = &self.0[take..];
                Ok(take)
            }
        }
        let mut record = vec![0u8; size_of::<abi::tcp::SocketOwnerRaw>()];
        record[0..2].copy_from_slice(&11u16.to_ne_bytes());
        record[2..4].copy_from_slice(&abi::VERSION.to_ne_bytes());
        let len = u32::try_from(record.len()).unwrap();
        record[4..8].copy_from_slice(&len.to_ne_bytes());
        let twice = [record.clone(), record.clone()].concat();
        let mut kinds = Vec::new();
        let count = read_records("test", Slow(&twice), &mut |r| kinds.push(r.kind)).unwrap();
        assert_eq!((count, kinds), (2, vec![abi::Kind::SocketOwner; 2]));
        let cut = &twice[..twice.len() - 1];
        let broken = read_records("test", Slow(cut), &mut |_| {});
        assert!(
            matches!(broken, Err(SnapshotError::Malformed { .. })),
            "{broken:?}"
        );
    }
}
