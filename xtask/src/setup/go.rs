//! The verifiers nobody here wrote: Tessera's fsck, and the small Go program over public libraries.
//!
//! Owns their versions. Tests find them in `target/tools/bin`, named by `HOSTLEDGER_TOOLS_BIN`.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::shell::{clean, note, output, run};

/// Programs of Tessera: the verifier of whole logs, and a log with a witness client.
const TESSERA: [(&str, &str); 2] = [
    ("fsck", "github.com/transparency-dev/tessera/cmd/fsck"),
    (
        "posix-oneshot",
        "github.com/transparency-dev/tessera/cmd/examples/posix-oneshot",
    ),
];
const TESSERA_VERSION: &str = "v1.0.4";

/// A witness that others wrote; `tests/oracle/witness/go.mod` holds the same version.
const WITNESS: &str = "github.com/transparency-dev/witness/cmd/omniwitness";
const WITNESS_VERSION: &str = "v0.0.0-20260720115447-2e1c6971d19e";

/// A peer of the benchmark: the first release whose store can flush before it answers is 2.10; Debian 12 has 2.9.
const NATS: &str = "github.com/nats-io/nats-server/v2";
const NATS_VERSION: &str = "v2.10.29";

/// Builds the NATS server where it is missing or of another version.
pub(super) fn install_nats(paths: &Paths) -> Result<()> {
    let Some(go) = paths.program("go") else {
        bail!("Go is missing, which the NATS server is built with: install Go 1.25 or later");
    };
    let program = paths.tools_bin().join("nats-server");
    let embedded = output(Command::new(&go).arg("version").arg("-m").arg(&program)).unwrap_or_default();
    if embedded.contains(NATS_VERSION) {
        note(&format!("NATS server {NATS_VERSION}, present"));
        return Ok(());
    }
    note(&format!("building NATS server {NATS_VERSION} into target/tools"));
    let mut install = Command::new(&go);
    clean(&mut install);
    install
        .arg("install")
        .arg(format!("{NATS}@{NATS_VERSION}"))
        .env("GOBIN", paths.tools_bin());
    run(&mut install).context("the NATS server could not be built: is the Go module proxy reachable?")
}

/// Builds what is missing or of another version.
pub(super) fn install(paths: &Paths) -> Result<()> {
    let Some(go) = paths.program("go") else {
        bail!(
            "Go is missing, which the third-party verifiers are written in: install Go 1.25 or later \
             from the Go project's download page (Debian 12's package is too old)"
        );
    };
    for (name, package) in TESSERA {
        let program = paths.tools_bin().join(name);
        let embedded = output(Command::new(&go).arg("version").arg("-m").arg(&program)).unwrap_or_default();
        if embedded.contains(TESSERA_VERSION) {
            note(&format!("Tessera's {name} {TESSERA_VERSION}, present"));
            continue;
        }
        note(&format!(
            "building Tessera's {name} {TESSERA_VERSION} into target/tools"
        ));
        let mut install = Command::new(&go);
        clean(&mut install);
        install
            .arg("install")
            .arg(format!("{package}@{TESSERA_VERSION}"))
            .env("GOBIN", paths.tools_bin());
        run(&mut install).with_context(|| {
            format!("Tessera's {name} could not be built: is the Go module proxy reachable?")
        })?;
    }
    let oracle = paths.root.join("tests/oracle");
    if oracle.join("go.mod").is_file() {
        // Always asked: go decides by itself, in a moment, whether anything changed.
        let program = paths.tools_bin().join("hostledger-oracle");
        let mut build = Command::new(&go);
        clean(&mut build);
        build
            .arg("build")
            .arg("-o")
            .arg(&program)
            .arg(".")
            .current_dir(&oracle);
        run(&mut build).context("the oracle in tests/oracle could not be built")?;
        note("oracle of tests/oracle, built");
        install_witness(paths, &go)?;
    }
    Ok(())
}

/// Builds the omniwitness where it is missing or of another version. The version of `merkle` that it names has no
/// release, and is not to be had everywhere: it is built with the release that the oracle uses, and with one function
/// that this lacks and that a witness without subtrees never calls.
fn install_witness(paths: &Paths, go: &Path) -> Result<()> {
    let program = paths.tools_bin().join("omniwitness");
    let embedded = output(Command::new(go).arg("version").arg("-m").arg(&program)).unwrap_or_default();
    if embedded.contains(WITNESS_VERSION) {
        note(&format!("omniwitness {WITNESS_VERSION}, present"));
        return Ok(());
    }
    note(&format!(
        "building omniwitness {WITNESS_VERSION} into target/tools"
    ));
    let (oracle, tools) = (paths.root.join("tests/oracle"), paths.tools());
    let source = oracle.join("witness");
    let mut list = Command::new(go);
    clean(&mut list);
    list.args([
        "list",
        "-m",
        "-f",
        "{{.Dir}}",
        "github.com/transparency-dev/merkle",
    ]);
    let released = output(list.current_dir(&oracle))?;
    let merkle = tools.join("merkle");
    if merkle.exists() {
        std::fs::remove_dir_all(&merkle)?;
    }
    copy_dir(Path::new(released.trim()), &merkle)?;
    std::fs::copy(source.join("subtree/subtree.go"), merkle.join("proof/subtree.go"))?;
    let modules = std::fs::read_to_string(source.join("go.mod"))?;
    let replaced = format!(
        "{modules}\nreplace github.com/transparency-dev/merkle => {}\n",
        merkle.display()
    );
    std::fs::write(tools.join("omniwitness.mod"), replaced)?;
    std::fs::copy(source.join("go.sum"), tools.join("omniwitness.sum"))?;
    let mut build = Command::new(go);
    clean(&mut build);
    build
        .arg("build")
        .arg("-modfile")
        .arg(tools.join("omniwitness.mod"))
        .arg("-o")
        .arg(&program)
        .arg(WITNESS)
        .current_dir(&source);
    run(&mut build).context("the omniwitness could not be built: is the Go module proxy reachable?")
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::write(target, std::fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
