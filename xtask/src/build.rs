//! Building: the eBPF object with its own compiler, then the programs that embed it.
//!
//! The object's path reaches the agent's build script in `HOSTLEDGER_EBPF_OBJECT`; without it the
//! agent is built without kernel sensors and says so.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::setup::Tools;
use crate::shell::{cargo, note, run};

/// The variable that names the eBPF object to the agent's build script.
pub(crate) const OBJECT_VARIABLE: &str = "HOSTLEDGER_EBPF_OBJECT";

/// How the programs are optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build; for tests and the demo.
    Dev,
    /// For measuring.
    Release,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// The three programs, built.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The directory they lie in.
    pub(crate) directory: PathBuf,
}

/// Compiles the kernel side and returns the object's path.
pub(crate) fn build_ebpf(paths: &Paths, tools: &Tools) -> Result<PathBuf> {
    // Target, flags and `build-std` are in that folder's own cargo configuration.
    let target = paths.target.join("ebpf");
    let mut command = cargo();
    command
        .current_dir(paths.root.join("agent-ebpf"))
        .args(["build", "--quiet", "--locked", "--release", "--target-dir"])
        .arg(&target)
        .env("RUSTC", &tools.ebpf.compiler.rustc)
        // `build-std` is unstable; this lets a released compiler do it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.ebpf.linker)
        // Flags and wrappers meant for the host's compiler.
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER");
    run(&mut command)?;
    let object = target.join("bpfel-unknown-none/release/agent-ebpf");
    if !object.is_file() {
        bail!("the eBPF build made no {}", object.display());
    }
    note(&format!("eBPF object: {}", shown(paths, &object)));
    Ok(object)
}

/// Compiles `hostledger-collector` alone, optimised.
pub(crate) fn build_collector(paths: &Paths) -> Result<Programs> {
    let mut command = cargo();
    command.current_dir(&paths.root);
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "collector",
        "--bins",
    ]);
    run(&mut command)?;
    Ok(Programs {
        directory: paths.target.join(Profile::Release.directory()),
    })
}

/// Compiles `hostledger-agent` (with the kernel sensors), `hostledger-collector` and `hostledger`.
pub(crate) fn build_programs(paths: &Paths, object: &Path, profile: Profile) -> Result<Programs> {
    let mut command = cargo();
    command.current_dir(&paths.root);
    command.args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "agent",
        "-p",
        "collector",
        "-p",
        "cli",
        "--bins",
    ]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    run(command.env(OBJECT_VARIABLE, object))?;
    let directory = paths.target.join(profile.directory());
    for program in ["hostledger-agent", "hostledger-collector", "hostledger"] {
        if !directory.join(program).is_file() {
            bail!("the build made no {program} in {}", shown(paths, &directory));
        }
    }
    Ok(Programs { directory })
}

/// A path as seen from the checkout, which is shorter and the same on every machine.
pub(crate) fn shown(paths: &Paths, path: &Path) -> String {
    path.strip_prefix(&paths.root)
        .unwrap_or(path)
        .display()
        .to_string()
}
