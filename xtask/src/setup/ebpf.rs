//! The toolchain of the kernel side: a compiler that can build `core` for BPF, and bpf-linker.
//!
//! Two compilers are supported. Debian's rustc-web with its sources comes first, because its LLVM
//! and the Debian LLVM that bpf-linker is built against are one version. Otherwise a nightly
//! toolchain with rust-src is used. Whichever it is gets said.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::shell::{cargo, clean, note, output, run};

/// The linker version this tree is tested with.
const LINKER_VERSION: &str = "0.13.0";
/// Where Debian puts the LLVM that bpf-linker is built against.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// The compiler and the linker, found.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) compiler: Compiler,
    /// The bpf-linker program.
    pub(crate) linker: PathBuf,
}

/// A compiler that can build `core` from source.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    /// The rustc program.
    pub(crate) rustc: PathBuf,
    /// What to call it in messages.
    pub(crate) name: String,
}

impl Compiler {
    /// Debian's compiler, else a nightly of rustup; each only if it has the sources of `core`.
    pub(crate) fn find() -> Option<Self> {
        Self::debian().or_else(Self::nightly)
    }

    fn debian() -> Option<Self> {
        let rustc = Path::new("/usr/bin/rustc");
        // Older Debian compilers share this path; their LLVM does not fit the linker.
        let version = probe(Command::new(rustc).arg("-vV"))?;
        let fits = version.lines().any(|line| line.starts_with("LLVM version: 22."));
        (fits && has_sources(rustc)).then(|| Self {
            rustc: rustc.to_path_buf(),
            name: format!("Debian's {}", version.lines().next().unwrap_or("rustc")),
        })
    }

    fn nightly() -> Option<Self> {
        let rustc = probe(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]))?;
        let rustc = PathBuf::from(rustc.trim());
        let version = probe(Command::new(&rustc).arg("-V"))?;
        has_sources(&rustc).then(|| Self {
            rustc,
            name: format!("rustup's {}", version.trim()),
        })
    }
}

/// True if `core` can be built from source with this compiler.
fn has_sources(rustc: &Path) -> bool {
    probe(Command::new(rustc).args(["--print", "sysroot"])).is_some_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .is_file()
    })
}

/// A program's output, or nothing where it is not there or does not work.
fn probe(command: &mut Command) -> Option<String> {
    clean(command);
    output(command).ok()
}

/// True where bpf-linker can be built against Debian's LLVM.
pub(super) fn llvm_is_there() -> bool {
    Path::new(LLVM_PREFIX).join("bin/llvm-config").is_file()
        && Path::new(LLVM_PREFIX).join("lib/libPolly.a").is_file()
}

/// A bpf-linker of the right version.
pub(super) fn linker(paths: &Paths) -> Option<PathBuf> {
    let program = paths.program("bpf-linker")?;
    let version = probe(Command::new(&program).arg("--version"))?;
    (version.trim() == format!("bpf-linker {LINKER_VERSION}")).then_some(program)
}

/// Finds the compiler, and finds or builds the linker.
pub(super) fn install(paths: &Paths) -> Result<Toolchain> {
    let compiler = Compiler::find().context(
        "no compiler for eBPF: as root on Debian install rustc-web and rust-web-src, \
         elsewhere `rustup toolchain install nightly --component rust-src`",
    )?;
    note(&format!("compiler: {}", compiler.name));
    if let Some(linker) = linker(paths) {
        note(&format!("linker: bpf-linker {LINKER_VERSION}, present"));
        return Ok(Toolchain { compiler, linker });
    }
    note(&format!(
        "building bpf-linker {LINKER_VERSION} into target/tools (about a minute on two cores)"
    ));
    let mut install = cargo();
    install
        .args([
            "install",
            "--quiet",
            "--locked",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
        ])
        .args(["--no-default-features", "--features", "llvm-22"])
        .arg("--root")
        .arg(paths.tools())
        .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX)
        .env("PATH", path_with(&Path::new(LLVM_PREFIX).join("bin"))?);
    run(&mut install).context("bpf-linker could not be built: the output above says why")?;
    match linker(paths) {
        Some(linker) => Ok(Toolchain { compiler, linker }),
        None => bail!("bpf-linker was installed, yet does not answer `--version` with {LINKER_VERSION}"),
    }
}

/// The search path with one directory put before it.
fn path_with(first: &Path) -> Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&rest));
    std::env::join_paths(all).context("the search path cannot be extended")
}
