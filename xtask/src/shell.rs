//! Running other programs and saying what is being done.
//!
//! Owns the wording of steps and the environment that nested cargo calls get. Refuses to swallow
//! output: whatever a failing program said is part of the error.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs one named step and prints how long it took; a failing step carries its name.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {what}");
    let started = Instant::now();
    let outcome = work().with_context(|| format!("step failed: {what}"))?;
    println!("    done in {}", seconds(started.elapsed()));
    Ok(outcome)
}

/// A duration for people, to a tenth of a second.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A line that belongs to the current step.
pub(crate) fn note(text: &str) {
    println!("    {text}");
}

/// Runs a program with its output shown; anything but exit 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .status()
        .with_context(|| format!("`{shown}` could not be started"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a program and returns its standard output; its error output goes into the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{shown}` could not be started"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("`{shown}` ended with {}: {}", out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a program in silence, and shows all it said only when it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{shown}` could not be started"))?;
    if !out.status.success() {
        print!("{}", String::from_utf8_lossy(&out.stdout));
        eprint!("{}", String::from_utf8_lossy(&out.stderr));
        bail!("`{shown}` ended with {}", out.status);
    }
    Ok(())
}

/// A cargo command with the environment a user's own shell would give it.
///
/// `cargo run` adds `CARGO_PKG_*`, `CARGO_MANIFEST_*` and a library path for xtask itself. Build
/// scripts that watch those (ring's does) would rebuild on every change between shell and xtask.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    clean(&mut command);
    command
}

/// Takes out of a command's environment what `cargo run` put in.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_from_cargo_run) {
            command.env_remove(&name);
        }
    }
}

fn is_from_cargo_run(name: &str) -> bool {
    name == "LD_LIBRARY_PATH"
        || name == "CARGO_CRATE_NAME"
        || name == "CARGO_PRIMARY_PACKAGE"
        || ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// The command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// True for the super-user, whom kernel and end-to-end tests, the demo and the bench need.
pub(crate) fn is_root() -> bool {
    // The owner of our own entry in /proc is our effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// True on the machines that run `.ci/run`, where nothing optional may be left out.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let failure = output(Command::new("sh").args(["-c", "echo broken pipe dream >&2; exit 3"]));
        let text = format!("{:#}", failure.unwrap_err());
        assert!(text.contains("broken pipe dream"), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = run(&mut Command::new("no-such-program-here"));
        assert!(format!("{:#}", failure.unwrap_err()).contains("no-such-program-here"));
    }

    #[test]
    fn only_what_cargo_run_adds_is_removed() {
        assert!(is_from_cargo_run("CARGO_PKG_NAME"));
        assert!(is_from_cargo_run("CARGO_MANIFEST_DIR"));
        assert!(!is_from_cargo_run("CARGO_HOME"));
        assert!(!is_from_cargo_run("CARGO_TARGET_DIR"));
        assert!(!is_from_cargo_run("CARGO_TERM_COLOR"));
    }
}
