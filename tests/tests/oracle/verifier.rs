//! The Python verifier of audit bundles (`tests/verifier`), many files in one process.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::tools::tool;

/// The interpreter that `cargo xtask setup` prepared.
pub(crate) fn python() -> PathBuf {
    tool("../python/bin/python")
}

/// The program.
pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier/verify_bundle.py")
}

/// The verifier, one bundle a line.
pub(crate) struct Verifier {
    child: Child,
    paths: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
    directory: tempfile::TempDir,
}

impl Verifier {
    /// For bundles of the ledger with this key, with further arguments.
    pub(crate) fn start(key: &str, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let vkey = directory.path().join("ledger.vkey");
        fs::write(&vkey, key).unwrap();
        let mut child = Command::new(python())
            .arg(script())
            .arg("--vkey")
            .arg(&vkey)
            .args(args)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (paths, reports) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self {
            child,
            paths,
            reports,
            directory,
        }
    }

    /// Its report on a bundle.
    pub(crate) fn judge(&mut self, bundle: &[u8]) -> Value {
        let path = self.directory.path().join("bundle");
        fs::write(&path, bundle).unwrap();
        writeln!(self.paths.as_mut().unwrap(), "{}", path.display()).unwrap();
        let mut line = String::new();
        self.reports.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "the verifier in Python ended: see what it wrote above"
        );
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        drop(self.paths.take());
        let _ = self.child.wait();
    }
}
