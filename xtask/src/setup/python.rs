//! The second verifier of audit bundles: a Python environment of its own with the one package that it needs.
//!
//! Owns the environment under `target/tools/python`; the package's version is pinned in
//! `tests/verifier/requirements.txt`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::shell::{clean, note, output, run};

/// Makes the environment where it is missing or holds another version.
pub(super) fn install(paths: &Paths) -> Result<()> {
    let list = paths.root.join("tests/verifier/requirements.txt");
    let wanted = fs::read_to_string(&list).with_context(|| format!("{} cannot be read", list.display()))?;
    let wanted = wanted.trim();
    let environment = paths.tools().join("python");
    let python = environment.join("bin/python");
    let asked = "from importlib.metadata import version; print('cryptography==' + version('cryptography'))";
    let found = output(Command::new(&python).args(["-c", asked])).unwrap_or_default();
    if found.trim() == wanted {
        note(&format!("Python with {wanted}, present"));
        return Ok(());
    }
    let Some(system) = paths.program("python3") else {
        bail!(
            "python3 is missing, which the second verifier of audit bundles is written in: install Python 3.11 or later"
        );
    };
    note(&format!(
        "making a Python environment with {wanted} in target/tools"
    ));
    let mut make = Command::new(system);
    clean(&mut make);
    make.args(["-m", "venv", "--clear"]).arg(&environment);
    run(&mut make).context("no Python environment could be made: is python3-venv installed?")?;
    let mut install = Command::new(&python);
    clean(&mut install);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&list);
    run(&mut install)
        .with_context(|| format!("{wanted} could not be installed: is the package index reachable?"))
}
