//! The stages of a test run that are no test programs: style, documentation examples, dependencies,
//! fuzzing.
//!
//! Each prints its step and counts as one check; what is left to CI is said.

use std::fs;

use anyhow::{Context, Result, bail};

use super::kinds::Kind;
use super::tally::Tally;
use super::tidy_stage;
use crate::build::OBJECT_VARIABLE;
use crate::paths::Paths;
use crate::shell::{cargo, is_ci, note, quiet, run, step};

/// One fuzz target runs this long in a smoke run, in seconds.
const FUZZ_SECONDS: u32 = 10;

/// Tidy, formatting and lints.
pub(super) fn style(paths: &Paths, tally: &mut Tally) -> Result<()> {
    let outcome = step("tidy: the rules of the house", || tidy_stage(paths));
    tally.check("tidy", &outcome);
    let outcome = step("format: rustfmt", || {
        run(cargo().current_dir(&paths.root).args(["fmt", "--all", "--check"]))?;
        let ebpf = paths.root.join("agent-ebpf");
        if ebpf.join("Cargo.toml").is_file() {
            run(cargo().current_dir(ebpf).args(["fmt", "--check"]))?;
        }
        Ok(())
    });
    tally.check("format", &outcome);
    let outcome = step("lints: clippy, warnings are errors", || {
        let mut clippy = cargo();
        clippy.current_dir(&paths.root).args([
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
        ]);
        clippy.args([
            "--features",
            "tests/privileged,tests/oracles",
            "--",
            "-D",
            "warnings",
        ]);
        run(&mut clippy)
    });
    tally.check("lints", &outcome);
    Ok(())
}

/// Examples in documentation, which cargo compiles and runs itself. They count as unit tests.
pub(super) fn documentation_examples(
    paths: &Paths,
    object: &std::path::Path,
    tally: &mut Tally,
) -> Result<()> {
    let outcome = step("test: documentation examples", || {
        let mut command = cargo();
        command
            .current_dir(&paths.root)
            .args(["test", "--quiet", "--locked", "--workspace", "--doc"]);
        quiet(command.env(OBJECT_VARIABLE, object))
    });
    if let Err(error) = &outcome {
        note(&format!("FAILED: {error:#}"));
        tally.test(Kind::Unit, "documentation examples", false);
    }
    Ok(())
}

/// Licences, sources, bans and advisories of everything we depend on.
pub(super) fn dependencies(paths: &Paths, tally: &mut Tally) -> Result<()> {
    let Some(deny) = paths.program("cargo-deny") else {
        return left_to_ci("dependency check", "cargo-deny");
    };
    let outcome = step("dependencies: licences, sources, bans", || {
        let mut command = std::process::Command::new(&deny);
        crate::shell::clean(&mut command);
        command
            .current_dir(&paths.root)
            .args(["--log-level", "error", "--locked", "check"]);
        run(command.args(["--hide-inclusion-graph", "bans", "licenses", "sources"]))
    });
    tally.check("dependencies", &outcome);
    let mut reachable = true;
    let outcome = step("dependencies: advisories", || {
        let mut command = std::process::Command::new(&deny);
        crate::shell::clean(&mut command);
        command
            .current_dir(&paths.root)
            .args(["--log-level", "error", "check", "advisories"]);
        let out = command.output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        // Reachability of a third party is no property of this tree.
        reachable = !said.contains("failed to fetch advisory database");
        if !out.status.success() && reachable {
            bail!("{said}");
        }
        Ok(())
    });
    if reachable {
        tally.check("advisories", &outcome);
    } else {
        tally.not_checked(
            "advisories",
            "the advisory database cannot be fetched from this machine",
        );
    }
    Ok(())
}

/// Each fuzz target for a few seconds over its corpus.
pub(super) fn fuzz_smoke(paths: &Paths, tally: &mut Tally) -> Result<()> {
    let targets = paths.root.join("tests/fuzz/fuzz_targets");
    if !targets.is_dir() {
        return Ok(());
    }
    let Some(fuzz) = paths.program("cargo-fuzz") else {
        return left_to_ci("fuzz smoke run", "cargo-fuzz");
    };
    let mut names: Vec<String> = fs::read_dir(&targets)?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    for name in names {
        let outcome = step(&format!("fuzz: {name} for {FUZZ_SECONDS} s"), || {
            // What the run finds goes into a folder of its own: the kept corpus grows by choice.
            let found = paths.target.join("fuzz-corpus").join(&name);
            let kept = paths.root.join("tests/fuzz/corpus").join(&name);
            fs::create_dir_all(&found)?;
            let mut command = std::process::Command::new(&fuzz);
            crate::shell::clean(&mut command);
            command
                .current_dir(paths.root.join("tests"))
                // cargo-fuzz wants coverage flags, which a released compiler has behind this switch.
                .env("RUSTC_BOOTSTRAP", "1")
                // The parsers are safe Rust: there is nothing for an address sanitizer to find.
                .args(["run", "--sanitizer", "none", "--fuzz-dir", "fuzz", "--target-dir"])
                .arg(paths.target.join("fuzz"))
                .arg(&name)
                .arg(&found);
            if kept.is_dir() {
                command.arg(&kept);
            }
            command.arg("--").arg(format!("-max_total_time={FUZZ_SECONDS}"));
            quiet(&mut command).with_context(|| format!("target {name}"))
        });
        tally.check(&format!("fuzz {name}"), &outcome);
    }
    Ok(())
}

/// Says that a check waits for CI; on CI itself that is an error.
fn left_to_ci(what: &str, tool: &str) -> Result<()> {
    if is_ci() {
        bail!("{tool} is missing, and CI leaves nothing out: run `cargo xtask setup`");
    }
    println!("==> {what}: NOT RUN here, {tool} is not installed; CI runs it");
    Ok(())
}
