//! Another user of the collector's machine at its control socket.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::process::{Collector, program};

/// Nobody's user id on Debian and elsewhere; it owns nothing here.
const OTHER: &str = "--reuid=65534";

fn open_up(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Asks for a legal hold as the user of `as_whom`, by a copy of the program that anybody may run.
fn ask(as_whom: &[&str], copy: &Path, collector: &Collector) -> Output {
    Command::new("setpriv")
        .args(as_whom)
        .arg(copy)
        .args(["hold", "add", "--reason", "not theirs to say", "--dir"])
        .arg(collector.layout.root())
        .env_remove("HOSTLEDGER_COLLECTOR_DIR")
        .output()
        .unwrap()
}

/// The socket's mode keeps others away; where an operator opened it, or its file system knows no modes, the kernel's word
/// on who is there does.
#[tokio::test]
async fn another_user_is_turned_away_by_mode_and_by_user_id() {
    let dir = tempfile::tempdir().unwrap();
    open_up(dir.path(), 0o755);
    let copy = dir.path().join("program");
    fs::copy(program(), &copy).unwrap();
    open_up(&copy, 0o755);
    let mut collector = Collector::start_in(&dir.path().join("c"), &[]);
    open_up(collector.layout.root(), 0o755);
    let other = [OTHER, "--regid=65534", "--clear-groups"];
    let words = |out: &Output| String::from_utf8_lossy(&out.stderr).into_owned();

    let closed = ask(&other, &copy, &collector);
    assert!(
        !closed.status.success() && words(&closed).contains("Permission denied"),
        "{closed:?}"
    );

    open_up(&collector.layout.control(), 0o666);
    let refused = ask(&other, &copy, &collector);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        words(&refused).contains("only the collector's own user and root may tell it what to do"),
        "{refused:?}"
    );
    // The group alone makes nobody an operator, and nobody else's hold was set.
    let with_group = ask(&[OTHER, "--keep-groups"], &copy, &collector);
    assert_eq!(with_group.status.code(), Some(1), "{with_group:?}");
    assert_eq!(collector.metric("hostledger_legal_holds"), 0);

    // The same words from this user are taken.
    let taken = ask(&["--keep-groups"], &copy, &collector);
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(collector.metric("hostledger_legal_holds"), 1);
    assert!(collector.alive());
}
