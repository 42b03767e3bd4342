//! Stores that keep their promises, and one that breaks a chosen one.

use super::*;
use crate::storage::{Fault, Local, Memory, Usage};

/// What a store does instead of what it promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// A name that is taken is taken again.
    Overwrites,
    /// Other bytes for a taken name are dropped without a word.
    DropsConflicts,
    /// Nothing is stored.
    StoresNothing,
    /// A replacement is not done.
    KeepsTheOld,
    /// A shorter replacement leaves the end of the longer one.
    OverwritesInPlace,
    /// What is there is not listed.
    HidesNames,
    /// Removed objects stay.
    KeepsTheRemoved,
    /// A range is read from the start.
    IgnoresOffsets,
}

const LIES: [Lie; 8] = [
    Lie::Overwrites,
    Lie::DropsConflicts,
    Lie::StoresNothing,
    Lie::KeepsTheOld,
    Lie::OverwritesInPlace,
    Lie::HidesNames,
    Lie::KeepsTheRemoved,
    Lie::IgnoresOffsets,
];

#[derive(Debug)]
struct Liar(Memory, Lie);

impl Storage for Liar {
    fn create(&self, objects: &[NewObject<'_>]) -> Result<(), StorageError> {
        let taken = self.0.create(objects);
        match (self.1, taken) {
            (Lie::StoresNothing, _) => self.0.remove(objects[0].path),
            (Lie::Overwrites, Err(StorageError::Conflict { .. })) => {
                self.0.replace(objects[0].path, &objects[0].parts.concat())
            }
            (Lie::DropsConflicts, Err(StorageError::Conflict { .. })) => Ok(()),
            (_, outcome) => outcome,
        }
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let before = self.0.read(path, 1024)?.unwrap_or_default();
        match self.1 {
            Lie::KeepsTheOld if !before.is_empty() => Ok(()),
            Lie::OverwritesInPlace => {
                let rest = before.get(bytes.len()..).unwrap_or_default();
                self.0.replace(path, &[bytes, rest].concat())
            }
            _ => self.0.replace(path, bytes),
        }
    }

    fn settle(&self, path: &str) -> Result<(), StorageError> {
        self.0.settle(path)
    }

    fn length(&self, path: &str) -> Result<Option<u64>, StorageError> {
        self.0.length(path)
    }

    fn read_range(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StorageError> {
        let offset = if self.1 == Lie::IgnoresOffsets { 0 } else { offset };
        self.0.read_range(path, offset, length)
    }

    fn read_into(&self, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<bool, StorageError> {
        self.0.read_into(path, length_max, buffer)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        if self.1 == Lie::HidesNames {
            return Ok(Vec::new());
        }
        self.0.list(prefix)
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        if self.1 == Lie::KeepsTheRemoved {
            return Ok(());
        }
        self.0.remove(path)
    }

    fn remove_durably(&self, path: &str) -> Result<(), StorageError> {
        self.0.remove_durably(path)
    }

    fn usage(&self, path: &str) -> Result<Usage, StorageError> {
        self.0.usage(path)
    }
}

#[test]
fn stores_that_keep_their_promises_are_taken_and_left_as_they_were() {
    let memory = Memory::new();
    probe(&memory).unwrap();
    probe(&memory).unwrap();
    assert_eq!(memory.list("").unwrap(), [""; 0]);
    let dir = tempfile::tempdir().unwrap();
    let local = Local::open_writer(dir.path()).unwrap();
    probe(&local).unwrap();
    // What a trial that was cut short leaves is no hindrance.
    local.replace(CREATED, b"left").unwrap();
    probe(&local).unwrap();
    assert_eq!(local.list("").unwrap(), ["lock"]);
    // The trial once took the directory with it that every object begins in.
    local.replace("after", b"works").unwrap();
    local.replace(REPLACED, b"left").unwrap();
    drop(local);
    probe(&Local::open_writer(dir.path()).unwrap()).unwrap();
}

#[test]
fn every_lie_is_found_and_the_remedy_named() {
    for lie in LIES {
        let error = probe(&Liar(Memory::new(), lie)).unwrap_err();
        assert!(matches!(error, ProbeError::Lies { .. }), "{lie:?}: {error}");
        assert!(error.to_string().contains("such as ext4"), "{lie:?}: {error}");
    }
}

#[test]
fn a_store_that_refuses_is_named_and_a_full_one_is_not_accused() {
    let steps = {
        let memory = Memory::new();
        probe(&memory).unwrap();
        memory.steps()
    };
    for step in 0..steps {
        for (fault, full) in [(Fault::Error, false), (Fault::NoSpace, true)] {
            let memory = Memory::new();
            memory.fail_at(step, fault);
            match probe(&memory).unwrap_err() {
                ProbeError::NoSpace(_) => assert!(full, "{fault:?} at step {step}"),
                // A store that is full once a name is given has an unknown outcome.
                ProbeError::Refused { .. } => {}
                lies @ ProbeError::Lies { .. } => panic!("{fault:?} at step {step}: {lies}"),
            }
        }
    }
}

#[test]
fn a_reader_may_not_write_and_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::open_reader(dir.path()).unwrap();
    let error = probe(&local).unwrap_err();
    assert!(matches!(error, ProbeError::Refused { .. }), "{error}");
}
