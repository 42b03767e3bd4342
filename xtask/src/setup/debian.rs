//! System programs: found, or installed as Debian packages, or named in an error.
//!
//! Owns the table of programs and the packages that bring them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Purpose, ebpf};
use crate::paths::Paths;
use crate::shell::{is_root, note, run};

/// One thing the system must have.
struct Requirement {
    /// What is missed, as in a message.
    what: &'static str,
    /// Why it is needed.
    why: &'static str,
    /// The commands from which on it is needed.
    from: Purpose,
    /// Whether it is there.
    present: fn(&Paths) -> bool,
    /// Debian packages that bring it.
    packages: &'static [&'static str],
    /// What to do elsewhere.
    elsewhere: &'static str,
}

const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        what: "a C compiler (cc)",
        why: "links every program and compiles the TLS provider",
        from: Purpose::Demo,
        present: |paths| paths.program("cc").is_some(),
        packages: &["gcc", "libc6-dev"],
        elsewhere: "install gcc or clang with the C library's headers",
    },
    Requirement {
        what: "ip",
        why: "the demo's workload runs in two network namespaces",
        from: Purpose::Demo,
        present: |paths| paths.program("ip").is_some(),
        packages: &["iproute2"],
        elsewhere: "install iproute2",
    },
    Requirement {
        what: "a compiler for eBPF with the sources of core",
        why: "compiles the kernel programs",
        from: Purpose::Demo,
        present: |_| ebpf::Compiler::find().is_some(),
        packages: &["rustc-web", "rust-web-src", "cargo-web"],
        elsewhere: "rustup toolchain install nightly --component rust-src",
    },
    Requirement {
        what: "LLVM 22 for bpf-linker",
        why: "links the kernel programs",
        from: Purpose::Demo,
        present: |paths| ebpf::linker(paths).is_some() || ebpf::llvm_is_there(),
        packages: &["llvm-22-dev", "libpolly-22-dev", "g++"],
        elsewhere: "cargo install --locked bpf-linker --version 0.13.0 (brings its own LLVM for nightly compilers)",
    },
    Requirement {
        what: "strace",
        why: "injects disk faults and kills at chosen calls into the real programs",
        from: Purpose::Test,
        present: |paths| paths.program("strace").is_some(),
        packages: &["strace"],
        elsewhere: "install strace",
    },
    Requirement {
        what: "nft",
        why: "drops packets between the agent and the collector",
        from: Purpose::Test,
        present: |paths| paths.program("nft").is_some(),
        packages: &["nftables"],
        elsewhere: "install nftables",
    },
    Requirement {
        what: "faketime",
        why: "shows that bundles are verified alike ten years on",
        from: Purpose::Test,
        present: |paths| paths.program("faketime").is_some(),
        packages: &["faketime"],
        elsewhere: "install libfaketime",
    },
    Requirement {
        what: "openssl",
        why: "is the time stamp authority that checkpoints are anchored with, and the second judge of its stamps",
        from: Purpose::Test,
        present: |paths| paths.program("openssl").is_some(),
        packages: &["openssl"],
        elsewhere: "install OpenSSL's command",
    },
    Requirement {
        what: "python3 that makes environments (venv)",
        why: "runs the second verifier of audit bundles",
        from: Purpose::Test,
        present: |paths| {
            let asked = |python| {
                Command::new(python)
                    .args(["-c", "import venv, ensurepip"])
                    .output()
            };
            paths
                .program("python3")
                .is_some_and(|python| asked(python).is_ok_and(|out| out.status.success()))
        },
        packages: &["python3", "python3-venv"],
        elsewhere: "install Python 3.11 or later with venv and pip",
    },
    Requirement {
        what: "auditd",
        why: "is what the benchmark compares with",
        from: Purpose::Bench,
        present: |paths| paths.program("auditd").is_some() && paths.program("auditctl").is_some(),
        packages: &["auditd"],
        elsewhere: "install the audit daemon and auditctl",
    },
    Requirement {
        what: "postgresql",
        why: "is what the benchmark compares with",
        from: Purpose::Bench,
        present: |_| std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut found| found.next().is_some()),
        packages: &["postgresql"],
        elsewhere: "install PostgreSQL's server and pgbench",
    },
];

/// Installs what is missing, or fails naming each missing thing, its reason and its remedy.
pub(super) fn install(paths: &Paths, purpose: Purpose) -> Result<()> {
    let missing = missing(paths, purpose);
    if missing.is_empty() {
        note("all present");
        return Ok(());
    }
    for requirement in &missing {
        note(&format!("missing: {} ({})", requirement.what, requirement.why));
    }
    if !is_debian() || !is_root() {
        bail!("{}", by_hand(&missing));
    }
    let packages: Vec<&str> = missing.iter().flat_map(|r| r.packages).copied().collect();
    note(&format!("installing Debian packages: {}", packages.join(" ")));
    run(apt().args(["-q", "update"])).context("the package lists could not be fetched: check the network")?;
    run(apt()
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(&packages))
    .with_context(|| by_hand(&missing))?;
    let still = self::missing(paths, purpose);
    if !still.is_empty() {
        bail!(
            "the packages were installed, yet something is missing\n{}",
            by_hand(&still)
        );
    }
    Ok(())
}

fn missing(paths: &Paths, purpose: Purpose) -> Vec<&'static Requirement> {
    REQUIREMENTS
        .iter()
        .filter(|r| r.from <= purpose && !(r.present)(paths))
        .collect()
}

fn by_hand(missing: &[&Requirement]) -> String {
    let mut text = String::from("install these, then run the command again:");
    for requirement in missing {
        text.push_str(&format!(
            "\n  {}\n    Debian 12 or later, as root: apt-get install {}\n    elsewhere: {}",
            requirement.what,
            requirement.packages.join(" "),
            requirement.elsewhere,
        ));
    }
    text
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // Nobody is there to answer a package's questions.
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| {
        text.lines()
            .any(|line| line == "ID=debian" || line == "ID_LIKE=debian")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_thing_is_named_with_both_remedies() {
        let all: Vec<&Requirement> = REQUIREMENTS.iter().collect();
        let text = by_hand(&all);
        for requirement in REQUIREMENTS {
            assert!(text.contains(requirement.what), "{text}");
            assert!(text.contains(requirement.elsewhere), "{text}");
            assert!(text.contains(&requirement.packages.join(" ")), "{text}");
        }
    }

    #[test]
    fn the_demo_asks_for_less_than_the_tests() {
        let demo = REQUIREMENTS.iter().filter(|r| r.from <= Purpose::Demo).count();
        let test = REQUIREMENTS.iter().filter(|r| r.from <= Purpose::Test).count();
        let bench = REQUIREMENTS.iter().filter(|r| r.from <= Purpose::Bench).count();
        assert!(demo < test && test < bench);
    }
}
