//! Test programs: built once by cargo, then run one by one, counted by name.
//!
//! Running them here instead of through `cargo test` gives each its kind, its time limit and its
//! log, and lets a crash of the test program itself be counted as what it is. What ran is taken from
//! the program's own list and summary, not from its mixed output; where the two disagree the run
//! fails.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::kinds::Kind;
use super::tally::Tally;
use crate::build::{OBJECT_VARIABLE, Programs};
use crate::paths::Paths;
use crate::shell::{cargo, clean, note, output, seconds};

/// One test program may run this long; then it is taken for hung.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How a test says what it proved: its output's lines with this start are shown in the report.
const EVIDENCE: &str = "evidence: ";

/// A compiled test program.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    package: String,
    target: String,
    /// A target of its own under the package's `tests` folder, rather than beside the code.
    apart: bool,
    program: PathBuf,
    directory: PathBuf,
}

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// These kinds.
    pub(crate) kinds: Vec<Kind>,
    /// Only names that contain this.
    pub(crate) name: Option<String>,
}

/// Variables for the test programs.
pub(crate) type Environment = Vec<(&'static str, OsString)>;

/// Where tests find what was built for them.
pub(crate) fn environment(paths: &Paths, object: &Path, programs: Option<&Programs>) -> Environment {
    let mut environment: Environment = vec![
        (OBJECT_VARIABLE, object.into()),
        ("HOSTLEDGER_TOOLS_BIN", paths.tools_bin().into()),
    ];
    environment.extend(
        std::env::current_exe()
            .ok()
            .map(|xtask| ("HOSTLEDGER_XTASK", xtask.into())),
    );
    environment.extend(programs.map(|programs| ("HOSTLEDGER_BIN_DIR", programs.directory.clone().into())));
    environment
}

/// Compiles every test of the workspace with all kinds switched on.
pub(crate) fn build(paths: &Paths, object: &Path) -> Result<Vec<Binary>> {
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args([
            "test",
            "--locked",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .args(["--features", "tests/privileged,tests/oracles"])
        .arg("--quiet")
        .env(OBJECT_VARIABLE, object)
        .stderr(Stdio::inherit());
    let out = command.output().context("cargo could not be started")?;
    if !out.status.success() {
        bail!("the tests do not compile");
    }
    let mut binaries: Vec<Binary> = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(parse_artifact)
        .collect();
    // Quick kinds first: what fails early is known early.
    binaries.sort_by_key(|b| {
        (
            Kind::of_target(&b.package, &b.target),
            b.package.clone(),
            b.target.clone(),
        )
    });
    if binaries.is_empty() {
        bail!("cargo built no test program");
    }
    Ok(binaries)
}

/// Reads one line of cargo's messages; only test programs matter.
fn parse_artifact(line: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let directory = manifest.parent()?.to_path_buf();
    Some(Binary {
        package: directory.file_name()?.to_str()?.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        apart: message["target"]["kind"][0] == "test",
        program: message["executable"].as_str()?.into(),
        directory,
    })
}

/// Runs one test program and counts its tests.
pub(crate) fn run(
    paths: &Paths,
    binary: &Binary,
    selection: &Selection,
    environment: &Environment,
    tally: &mut Tally,
) -> Result<()> {
    let kind_of = |name: &str| Kind::of(&binary.package, &binary.target, name);
    let listed = list(binary, environment, &[])?;
    let ignored: BTreeSet<String> = list(binary, environment, &["--ignored"])?.into_iter().collect();
    let chosen: Vec<String> = listed
        .into_iter()
        .filter(|name| selection.kinds.contains(&kind_of(name)))
        .filter(|name| selection.name.as_ref().is_none_or(|part| name.contains(part)))
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let (ignored, chosen): (Vec<String>, Vec<String>) =
        chosen.into_iter().partition(|name| ignored.contains(name));
    for name in &ignored {
        tally.ignored(&format!("{}::{name}", binary.target));
    }
    if chosen.is_empty() {
        return Ok(());
    }
    let label = match binary.apart {
        true => format!("{} tests/{}", binary.package, binary.target),
        false => format!("{} src ({})", binary.package, binary.target),
    };
    println!("==> test {label}");
    let mut command = prepared(binary, environment);
    command.args(["--exact", "--show-output"]).args(&chosen);
    if Kind::one_at_a_time(&binary.package, &binary.target) {
        command.arg("--test-threads=1");
    }
    let log = paths
        .logs()
        .join(format!("{}-{}.log", binary.package, binary.target));
    let started = Instant::now();
    let ended = run_into(&mut command, &log)?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let outcome = judge(&text, &chosen, ended);
    for name in &chosen {
        let passed = !outcome.failed.contains(name);
        tally.test(kind_of(name), &format!("{label} {name}"), passed);
    }
    for line in text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(EVIDENCE))
    {
        note(line);
    }
    let passed = chosen.len() - outcome.failed.len();
    note(&format!(
        "{passed} passed, {} failed in {}",
        outcome.failed.len(),
        seconds(started.elapsed())
    ));
    if !outcome.failed.is_empty() {
        println!("{text}");
        if let Some(reason) = outcome.reason {
            note(&format!("{label}: {reason}; its output is above"));
        }
    }
    Ok(())
}

fn prepared(binary: &Binary, environment: &Environment) -> Command {
    let mut command = Command::new(&binary.program);
    clean(&mut command);
    command
        .current_dir(&binary.directory)
        .env("CARGO_MANIFEST_DIR", &binary.directory);
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    command
}

fn list(binary: &Binary, environment: &Environment, more: &[&str]) -> Result<Vec<String>> {
    let mut command = prepared(binary, environment);
    let text = output(command.args(["--list", "--format", "terse"]).args(more))?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// How a test program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    Badly,
    Hung,
}

fn run_into(command: &mut Command, log: &Path) -> Result<Ended> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("a test program could not be started")?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() {
                Ended::Well
            } else {
                Ended::Badly
            });
        }
        if started.elapsed() > PROGRAM_TIME_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Hung);
        }
        sleep(Duration::from_millis(20));
    }
}

/// What a program's output and end say about the chosen tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    failed: BTreeSet<String>,
    reason: Option<String>,
}

fn judge(text: &str, chosen: &[String], ended: Ended) -> Outcome {
    let all = || chosen.iter().cloned().collect();
    let summary = text.lines().rev().find_map(parse_summary);
    let Some((passed, failed)) = summary else {
        let reason = match ended {
            Ended::Hung => format!("took more than {} and was killed", seconds(PROGRAM_TIME_MAX)),
            Ended::Well | Ended::Badly => "ended without a summary, so none of its tests counts".to_owned(),
        };
        return Outcome {
            failed: all(),
            reason: Some(reason),
        };
    };
    let named = failed_names(text, chosen);
    if passed + failed != chosen.len() || named.len() != failed || (ended == Ended::Well) != (failed == 0) {
        let reason = format!(
            "its summary ({passed} passed, {failed} failed) does not agree with the {} tests asked for, the {} \
             failures named, or its exit",
            chosen.len(),
            named.len()
        );
        return Outcome {
            failed: all(),
            reason: Some(reason),
        };
    }
    Outcome {
        failed: named,
        reason: None,
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; ..`.
fn parse_summary(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |what: &str| {
        let part = rest.split("; ").find_map(|part| part.trim().strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some((number("passed")?, number("failed")?))
}

/// The names in the last `failures:` list.
fn failed_names(text: &str, chosen: &[String]) -> BTreeSet<String> {
    let Some(at) = text.rfind("\nfailures:\n") else {
        return BTreeSet::new();
    };
    let listed = text[at..].lines().filter_map(|line| line.strip_prefix("    "));
    listed
        .filter(|name| chosen.iter().any(|c| c == name))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_clean_run_is_read() {
        let text = "running 2 tests\ntest a ... ok\ntest b ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.0s\n";
        assert_eq!(judge(text, &names(&["a", "b"]), Ended::Well), Outcome::default());
    }

    #[test]
    fn failures_are_named_even_when_output_is_mixed_into_the_lines() {
        let text = "test a ... noise\nok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nboom\n\nfailures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let outcome = judge(text, &names(&["a", "b"]), Ended::Badly);
        assert_eq!(outcome.failed, BTreeSet::from(["b".to_owned()]));
        assert_eq!(outcome.reason, None);
    }

    #[test]
    fn a_program_that_dies_or_hangs_fails_all_its_tests() {
        let chosen = names(&["a", "b"]);
        assert_eq!(judge("test a ... ok\n", &chosen, Ended::Badly).failed.len(), 2);
        assert_eq!(judge("test a ... ok\n", &chosen, Ended::Hung).failed.len(), 2);
        assert_eq!(judge("", &chosen, Ended::Well).failed.len(), 2);
    }

    #[test]
    fn a_summary_that_does_not_add_up_fails_the_program() {
        let text = "test result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(judge(text, &names(&["a", "b"]), Ended::Well).failed.len(), 2);
        assert_eq!(judge(text, &names(&["a"]), Ended::Badly).failed.len(), 1);
        assert_eq!(judge(text, &names(&["a"]), Ended::Well).failed.len(), 0);
    }

    #[test]
    fn only_test_programs_are_taken_from_cargos_messages() {
        let test = r#"{"reason":"compiler-artifact","manifest_path":"/x/common/Cargo.toml","target":{"name":"common"},"profile":{"test":true},"executable":"/x/t/common-1"}"#;
        let binary = parse_artifact(test).unwrap();
        assert_eq!(
            (binary.package.as_str(), binary.target.as_str()),
            ("common", "common")
        );
        assert!(parse_artifact(&test.replace("\"test\":true", "\"test\":false")).is_none());
        assert!(parse_artifact("not json").is_none());
    }
}
