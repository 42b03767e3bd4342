//! A process tree, with ends of every sort: exit 0, another code, a signal.
//!
//! The long-lived part stands while the workload is held; the short-lived part is over, and reaped,
//! before it is reported as standing.

use std::io::{self, stdin};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Helper, dying_with_us};

/// Levels below the root; each process but the last level's has two children and a sleeper.
const LEVELS: u32 = 2;
/// How many processes are started and over at once.
const SHORT_LIVED: u32 = 20;
/// The exit code of one of them.
const EXIT_CODE: i32 = 3;

/// The standing tree: its root.
#[derive(Debug)]
pub(super) struct Tree {
    root: Helper,
}

impl Tree {
    /// Starts it; returns when all of it stands and the short-lived ones are over.
    pub(super) fn start() -> Result<Self> {
        let mut root = Helper::start(&[], &["grow", "report", &LEVELS.to_string()])?;
        match root.line()?.as_str() {
            "standing" => Ok(Self { root }),
            other => bail!("the root of the process tree said {other:?}"),
        }
    }

    /// What a reader will look for.
    pub(super) fn processes(&self) -> Vec<(u32, String)> {
        vec![(self.root.id(), "root of the process tree".to_owned())]
    }

    /// Ends all of it.
    pub(super) fn stop(self) -> Result<()> {
        self.root.stop()
    }
}

/// The role of one process of the tree.
pub(super) fn grow(name: &str, levels: u32) -> Result<()> {
    let mut children = Vec::new();
    for number in 1..=2 {
        if let Some(below) = levels.checked_sub(1) {
            let mut child = Helper::start(&[], &["grow", &format!("{name}.{number}"), &below.to_string()])?;
            child.line()?;
            children.push(child);
        }
    }
    let mut sleeper = dying_with_us();
    let mut sleeper = sleeper.args(["sleep", "infinity"]).stdin(Stdio::null()).spawn()?;
    if name == "report" {
        short_lives()?;
    }
    println!("standing");
    io::copy(&mut stdin().lock(), &mut io::sink()).context("standard input")?;
    for child in children {
        child.stop()?;
    }
    sleeper.kill()?;
    sleeper.wait()?;
    Ok(())
}

/// Processes that are over before anybody could look them up: success, a code, a signal.
fn short_lives() -> Result<()> {
    for _ in 0..SHORT_LIVED {
        Command::new("true").status()?;
    }
    let code = Command::new("sh")
        .args(["-c", &format!("exit {EXIT_CODE}")])
        .status()?;
    if code.code() != Some(EXIT_CODE) {
        bail!("a shell told to exit with {EXIT_CODE} ended with {code}");
    }
    let mut killed = Command::new("sleep")
        .arg("infinity")
        .stdin(Stdio::null())
        .spawn()?;
    killed.kill()?;
    killed.wait()?;
    Ok(())
}
