//! The local directory: create-only, atomic, one writer.

use super::*;

fn create(storage: &Local, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
    storage.create(&[NewObject {
        path,
        parts: &[bytes],
    }])
}

#[test]
fn objects_are_created_once_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Local::open_writer(dir.path()).unwrap();
    storage
        .create(&[NewObject {
            path: "a/b/c",
            parts: &[b"he", b"", b"llo"],
        }])
        .unwrap();
    assert_eq!(storage.read("a/b/c", 5).unwrap().unwrap(), b"hello");
    assert!(matches!(
        storage.read("a/b/c", 4),
        Err(StorageError::TooLong { .. })
    ));
    assert_eq!(storage.read_range("a/b/c", 3, 100).unwrap().unwrap(), b"lo");
    assert_eq!(
        storage
            .read_range("a/b/c", u64::MAX - 1, usize::MAX)
            .unwrap()
            .unwrap(),
        b""
    );
    assert_eq!(storage.read("a/b/d", 9).unwrap(), None);
    assert_eq!(storage.read("a/b/c/d", 9).unwrap(), None);
    create(&storage, "a/b/c", b"hello").unwrap();
    assert!(matches!(
        create(&storage, "a/b/c", b"other"),
        Err(StorageError::Conflict { .. })
    ));
    storage.replace("checkpoint", b"1").unwrap();
    storage.replace("checkpoint", b"2").unwrap();
    assert_eq!(storage.read("checkpoint", 9).unwrap().unwrap(), b"2");
    assert_eq!(storage.list("").unwrap(), ["a/b/c", "checkpoint", "lock"]);
    assert_eq!(storage.list("a").unwrap(), ["a/b/c"]);
    storage.remove("a/b/c").unwrap();
    storage.remove("a/b/c").unwrap();
    assert!(storage.list("a").unwrap().is_empty());
}

#[test]
fn a_second_writer_is_kept_out_and_leftovers_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = Local::open_writer(dir.path()).unwrap();
    assert!(matches!(
        Local::open_writer(dir.path()),
        Err(OpenLocalError::Locked(_))
    ));
    let reader = Local::open_reader(dir.path()).unwrap();
    assert!(matches!(
        create(&reader, "x", b""),
        Err(StorageError::Unknown { .. })
    ));
    drop(first);
    fs::write(dir.path().join("tmp/7"), b"torn").unwrap();
    let second = Local::open_writer(dir.path()).unwrap();
    assert_eq!(second.list("").unwrap(), ["lock"]);
}

/// The trial of a store at start removes its last object under `tmp/`, and the first checkpoint could then not
/// be written: a new collector did not start.
#[test]
fn a_writer_goes_on_after_the_last_temporary_object_went() {
    let directory = tempfile::tempdir().unwrap();
    let local = Local::open_writer(directory.path()).unwrap();
    super::super::probe(&local).unwrap();
    local.replace("log/checkpoint", b"note").unwrap();
    assert_eq!(local.read("log/checkpoint", 10).unwrap().unwrap(), b"note");
}

/// A writer remembered every directory that it ever made: some 140 bytes for each thousand leaves, until it stopped.
#[test]
fn a_writer_remembers_a_bounded_number_of_directories() {
    let directory = tempfile::tempdir().unwrap();
    let local = Local::open_writer(directory.path()).unwrap();
    let paths: Vec<String> = (0..2 * DIRECTORIES_MAX + 7)
        .map(|at| format!("groups/x{}/x{at}/000", at % 10))
        .collect();
    for some in paths.chunks(100) {
        let objects: Vec<NewObject<'_>> = some
            .iter()
            .map(|path| NewObject { path, parts: &[b"1"] })
            .collect();
        local.create(&objects).unwrap();
        assert!(local.durable_directories().len() <= DIRECTORIES_MAX);
    }
    // What was forgotten takes new objects as before, and what is remembered is there.
    create(&local, "groups/x0/x0/001", b"2").unwrap();
    assert_eq!(local.read("groups/x0/x0/001", 1).unwrap().unwrap(), b"2");
    assert!(
        local
            .durable_directories()
            .iter()
            .all(|directory| directory.is_dir())
    );
    assert_eq!(local.list("groups").unwrap().len(), paths.len() + 1);
}
