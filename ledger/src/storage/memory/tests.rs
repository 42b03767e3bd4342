//! The store in memory keeps what it promises, and breaks it when told to.

use super::*;

fn create(storage: &Memory, path: &str) -> Result<(), StorageError> {
    storage.create(&[NewObject { path, parts: &[b"x"] }])
}

#[test]
fn what_returned_ok_survives_and_what_failed_may_or_may_not() {
    let mut survived = [false; 2];
    for seed in 0..20 {
        let storage = Memory::new();
        create(&storage, "kept").unwrap();
        storage.fail_at(storage.steps() + 2, Fault::Error);
        assert!(matches!(
            create(&storage, "limbo"),
            Err(StorageError::Unknown { .. })
        ));
        storage.crash(seed);
        assert!(storage.length("kept").unwrap().is_some());
        survived[usize::from(storage.length("limbo").unwrap().is_some())] = true;
    }
    assert_eq!(survived, [true, true]);
}

#[test]
fn a_planted_bug_loses_what_returned_ok() {
    let storage = Memory::new();
    storage.plant_skip_sync();
    create(&storage, "a").unwrap();
    let lost = (0..20).any(|seed| {
        let copy = Memory {
            inner: Arc::new(Mutex::new(Inner::default())),
        };
        copy.plant_skip_sync();
        create(&copy, "a").unwrap();
        copy.crash(seed);
        copy.length("a").unwrap().is_none()
    });
    assert!(lost);
}

#[test]
fn a_dead_process_does_nothing_more() {
    let storage = Memory::new();
    storage.fail_at(1, Fault::KillAfter);
    assert!(create(&storage, "a").is_err());
    assert!(storage.list("").is_err());
    storage.restart();
    assert_eq!(storage.list("").unwrap(), ["a"]);
}
