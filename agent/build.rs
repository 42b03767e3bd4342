//! Embeds the eBPF object when one has been built; without one the agent runs without kernel sensors.
//!
//! `HOSTLEDGER_EBPF_OBJECT` names the object (`cargo xtask build` sets it); otherwise the place where
//! `agent-ebpf` is built to is looked at. Plain `cargo build` thus needs no eBPF toolchain.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const VARIABLE: &str = "HOSTLEDGER_EBPF_OBJECT";
const BUILT: &str = "../target/ebpf/bpfel-unknown-none/release/agent-ebpf";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let wanted = env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    let found = match wanted {
        // An operator who names an object wants that one: its absence is an error.
        Some(path) => Some(path),
        None => Some(PathBuf::from(BUILT)).filter(|path| path.exists()),
    };
    // A path that does not exist makes cargo rerun this every time, so watch the folder instead.
    println!(
        "cargo::rerun-if-changed={}",
        found
            .as_deref()
            .unwrap_or(Path::new("../agent-ebpf/src"))
            .display()
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let source = match found {
        Some(path) => {
            fs::copy(&path, out.join("kernel.bpf.o"))
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            "Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/kernel.bpf.o\")))"
        }
        None => "None",
    };
    fs::write(out.join("kernel_object.rs"), source)
}
