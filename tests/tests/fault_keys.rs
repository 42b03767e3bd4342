//! The ledger's key replaced while each system call in turn fails or is the last one: the old key is in force or the
//! new one, never neither, never both; and the code that starts a collector finishes what was begun.
#![cfg(feature = "privileged")]
#![cfg(test)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use collector::{layout::Layout, pipeline::recover};
use ledger::{Local, audit, fsck::Options};

/// The program under test: where `cargo xtask test` says it is, or built now.
fn program() -> PathBuf {
    if let Some(directory) = std::env::var_os("HOSTLEDGER_BIN_DIR") {
        return Path::new(&directory).join("hostledger-collector");
    }
    let words = [
        "build",
        "--quiet",
        "-p",
        "collector",
        "--bin",
        "hostledger-collector",
    ];
    let built = Command::new(env!("CARGO")).args(words).status().unwrap();
    assert!(built.success());
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("hostledger-collector")
}

fn rotate(command: &mut Command, dir: &Path, offline: &Path) -> Output {
    command
        .args(["key", "rotate", "--dir"])
        .arg(dir)
        .arg("--offline-key")
        .arg(offline)
        .output()
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Starts as the collector does and checks what is there; how often the key was changed.
fn settle(dir: &Path, context: &str) -> usize {
    let layout = Layout::new(dir);
    let recovery = recover(&layout, false).unwrap_or_else(|error| panic!("{context}: {error}"));
    let reader = recovery.ledger.reader();
    let keys = reader.keys().clone();
    assert_eq!(keys.in_force(), recovery.signer.verifier(), "{context}");
    assert_eq!(reader.published().checkpoint.size, reader.leaves(), "{context}");
    assert!(!layout.ledger_key_next().exists(), "{context}");
    drop((reader, recovery));
    let trusted = keys.first().clone().into();
    let options = Options {
        key: Some(&trusted),
        ..Options::default()
    };
    let storage = Local::open_reader(&layout.ledger()).unwrap();
    let report = audit::run(&storage, &options).report;
    assert!(report.is_sound(), "{context}: {:?}", report.faults);
    assert!(report.notes.is_empty(), "{context}: {:?}", report.notes);
    keys.changes().len()
}

#[test]
fn a_key_is_replaced_or_not_whatever_step_is_the_last() {
    let program = program();
    let dir = tempfile::tempdir().unwrap();
    let (base, offline) = (dir.path().join("base"), dir.path().join("offline.key"));
    let made = Command::new(&program)
        .args(["init", "--origin", "ledger.example/test", "--dir"])
        .arg(&base)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::rename(Layout::new(&base).offline_key(), &offline).unwrap();
    // The first change is a leaf, so that the ledger is not empty for the next.
    let done = rotate(&mut Command::new(&program), &base, &offline);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(settle(&base, "without fault"), 1);

    let calls = [
        "write",
        "writev",
        "fdatasync",
        "fsync",
        "linkat",
        "rename",
        "unlink",
        "mkdir",
    ];
    let mut ended = BTreeMap::<&str, u32>::new();
    let mut run = |call: &str, fault: &str, when: u32| {
        let context = format!("{call} {fault} at {when}");
        let work = dir.path().join("work");
        copy(&base, &work);
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"))
            .arg("-e")
            .arg(format!("inject={call}:{fault}:when={when}"))
            .arg(&program);
        let output = rotate(&mut traced, &work, &offline);
        let changes = settle(&work, &context);
        std::fs::remove_dir_all(&work).unwrap();
        let success = output.status.success();
        assert!(
            changes == 2 || changes == 1 && !success,
            "{context}: {changes} {output:?}"
        );
        let how = match (changes, output.status.code()) {
            (1, None) => "killed, the old key",
            (1, Some(_)) => "refused, the old key",
            (_, None) => "killed, the new key",
            (_, Some(0)) => "done",
            (_, Some(_)) => "refused, the new key",
        };
        *ended.entry(how).or_default() += 1;
        success
    };
    for call in calls {
        // The first that does not kill is one more than there are.
        let end = (1..200).find(|when| run(call, "signal=KILL", *when)).unwrap();
        for fault in ["error=EIO", "error=ENOSPC"] {
            for when in 1..end {
                run(call, fault, when);
            }
        }
    }
    println!("evidence: {ended:?}");
    for expected in [
        "killed, the old key",
        "killed, the new key",
        "refused, the old key",
    ] {
        assert!(
            ended.contains_key(expected),
            "none ended with {expected}: {ended:?}"
        );
    }
}
