//! `cargo xtask setup`: installs what is missing, says what it does, and can be run again.
//!
//! Owns the order of installation and the wording of remedies. Refuses to skip a needed tool in
//! silence: what cannot be installed is an error that names what to do by hand. Debian packages are
//! installed only as root; everything else goes under `target/tools`.

mod debian;
pub(crate) mod ebpf;
mod go;
mod python;
mod quality;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::paths::Paths;
use crate::shell::step;

/// Which command the tools are for; each needs more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    /// The eBPF toolchain and network namespaces.
    Demo,
    /// Also fault injection, packet filters and the third-party verifiers.
    Test,
    /// Also the tools that the benchmark compares with.
    Bench,
}

/// Options of `cargo xtask setup`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Install only what this command needs.
    #[arg(long = "for", value_enum, default_value = "test")]
    purpose: Purpose,
}

/// What the build needs to know about the installed tools.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The compiler and linker of the kernel side.
    pub(crate) ebpf: ebpf::Toolchain,
}

/// The command: set up and say that it is done.
pub(crate) fn command(paths: &Paths, options: &Options) -> Result<()> {
    setup(paths, options.purpose)?;
    println!("setup is complete");
    Ok(())
}

/// Installs what `purpose` needs and is not there.
pub(crate) fn setup(paths: &Paths, purpose: Purpose) -> Result<Tools> {
    std::fs::create_dir_all(paths.tools_bin())?;
    step("setup: system programs and packages", || {
        debian::install(paths, purpose)
    })?;
    let ebpf = step("setup: eBPF compiler and linker", || ebpf::install(paths))?;
    if purpose == Purpose::Test {
        step("setup: third-party verifiers (Go)", || go::install(paths))?;
        step("setup: second verifier of bundles (Python)", || {
            python::install(paths)
        })?;
        step("setup: dependency and fuzzing checks", || quality::install(paths))?;
    }
    if purpose == Purpose::Bench {
        step("setup: NATS server (Go)", || go::install_nats(paths))?;
    }
    Ok(Tools { ebpf })
}
