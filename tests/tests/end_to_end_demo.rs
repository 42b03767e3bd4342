//! The demo as a stranger runs it: it ends well, its ledger convinces others, and nothing is left behind.
//!
//! Owns no check of single answers; those are the demo's own, and of the tests beside this one.
#![cfg(test)]
#![cfg(feature = "privileged")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A program named by a variable that `cargo xtask test` sets.
fn named(variable: &str) -> PathBuf {
    env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`"))
        .into()
}

fn demo(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(named("HOSTLEDGER_XTASK"));
    command.arg("demo").arg("--dir").arg(folder).args(more);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Processes whose command line names the folder.
fn left_running(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines
        .filter(|line| line.contains(folder.to_str().unwrap()))
        .collect()
}

/// Tessera's fsck over the ledger as it lies on disk.
fn fsck(folder: &Path) -> Output {
    let ledger = folder.join("collector/ledger");
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(named("HOSTLEDGER_TOOLS_BIN").join("fsck"))
        .arg("--ui=false");
    command
        .arg("--storage_url")
        .arg(format!("file://{}/", ledger.join("log").display()));
    command
        .arg("--public_key")
        .arg(ledger.join("ledger.vkey"))
        .output()
        .unwrap()
}

#[test]
fn the_demo_ends_well_and_tesseras_fsck_accepts_its_ledger() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("demo");
    let ran = demo(&folder, &[]);
    let said = text(&ran);
    assert!(ran.status.success(), "{said}");
    for part in [
        "proven: ",
        "\nsound",
        "owner and bytes are right",
        "nothing is left running",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    assert_eq!(left_running(&folder), Vec::<String>::new());
    let judged = fsck(&folder);
    // Its exit status is 0 whatever it found (tests/oracle/README.md).
    let accepted = text(&judged).contains("Successfully fsck'd log with size");
    assert!(judged.status.success() && accepted, "{}", text(&judged));
    println!("evidence: the demo ended well, and Tessera's fsck accepted its ledger after the stop");
}

#[test]
fn a_kept_demo_answers_on_until_it_is_stopped() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("demo");
    let ran = demo(&folder, &["--keep"]);
    let said = text(&ran);
    let again = demo(&folder, &[]);
    let url = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("export HOSTLEDGER_COLLECTOR="));
    let asked = url.map(|url| {
        let mut status = Command::new(named("HOSTLEDGER_BIN_DIR").join("hostledger"));
        status.args(["--collector", url, "status"]).output().unwrap()
    });
    // Stopped before anything is judged, so that a failure leaves nothing running.
    let stopped = demo(&folder, &["--stop"]);
    assert!(ran.status.success(), "{said}");
    assert!(asked.is_some_and(|asked| asked.status.success()), "{said}");
    assert!(
        !again.status.success(),
        "a second demo took over a running one's folder"
    );
    assert!(text(&again).contains("--stop"), "{}", text(&again));
    assert!(stopped.status.success(), "{}", text(&stopped));
    assert_eq!(left_running(&folder), Vec::<String>::new());
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let precious = place.path().join("precious");
    fs::write(&precious, "mine").unwrap();
    let ran = demo(place.path(), &[]);
    assert!(!ran.status.success());
    assert!(text(&ran).contains("was not made by a demo"), "{}", text(&ran));
    assert_eq!(fs::read_to_string(precious).unwrap(), "mine");
}
