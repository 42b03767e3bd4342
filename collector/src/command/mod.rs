//! The `hostledger-collector` command line: what can be asked for, and its exit codes.
//!
//! Owns arguments and the mapping of errors to exit codes (0 fine, 1 failure, 2 usage, 4 tampered, 78 bad
//! configuration). Refuses to hold logic: each subcommand calls the library.

mod enrol;
mod hold;
mod host;
mod init;
mod key;
mod prune;
mod run;
mod settings;
mod status;
mod verify;
mod witness;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use clap::{Parser, Subcommand};
use common::ids::WallNanos;

use crate::{
    config::{self, Config, ConfigError},
    control::{self, Answer, Question},
    layout::Layout,
    retention::{Stopped, Told},
    witness::BadSettings,
};

/// Exit code for a failure.
const FAILURE: u8 = 1;
/// Exit code for a ledger that is not what was signed.
const TAMPERED: u8 = 4;
/// Exit code for a configuration that cannot be used.
const BAD_CONFIG: u8 = 78;

/// Receives what agents saw, merges it into one verifiable ledger, and answers from it.
#[derive(Parser)]
#[command(name = "hostledger-collector", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Dir {
    /// The collector's directory.
    #[arg(long, value_name = "DIR", env = "HOSTLEDGER_COLLECTOR_DIR")]
    dir: PathBuf,
}

impl Dir {
    fn layout(&self) -> Layout {
        Layout::new(&self.dir)
    }
}

/// Asks the collector that runs in the directory, or does the same over its ledger where none runs.
fn ask_or_do(
    dir: &Dir,
    question: &Question,
    stopped: impl FnOnce(&Stopped) -> anyhow::Result<Told>,
) -> anyhow::Result<Told> {
    let layout = dir.layout();
    let answer = control::ask(&layout, question, &mut |words| eprintln!("waiting: {words}"))?;
    match answer {
        Some(Answer::Told(told)) => Ok(told),
        Some(_) => anyhow::bail!("the collector answers what was not asked; use the program that runs"),
        None => {
            let config = Config::load(&layout.config(), std::env::vars(), &config::Raw::default())?;
            let opened = Stopped::open(&layout, &config)?;
            let told = stopped(&opened);
            opened.close()?;
            told
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make a new collector: authority, server certificate, ledger key, configuration.
    Init(init::Init),
    /// Certify an agent's key and register its host.
    Enrol(enrol::Enrol),
    /// Replace or revoke the key that signs the ledger, on a stopped collector; list its history.
    Key(key::KeyCommand),
    /// Declare what no host says of itself.
    Host(host::Host),
    /// Serve agents and readers until SIGTERM or SIGINT.
    Run(run::Run),
    /// Say what the directory holds and whether a collector runs in it.
    Status(status::Status),
    /// Check every byte of a ledger, offline; exit code 4 when it is not sound.
    #[command(visible_alias = "fsck")]
    Verify(verify::Verify),
    /// Remove the bodies of old batches, whether or not the collector runs; headers, proofs and receipts stay.
    Prune(prune::Prune),
    /// Legal holds: what no retention policy may remove.
    Hold(hold::HoldCommand),
    /// Be a witness of other ledgers: cosign their checkpoints over HTTP (C2SP tlog-witness).
    Witness(witness::Witness),
}

/// What a subcommand printed, or why it failed.
type Outcome = anyhow::Result<ExitCode>;

impl Cli {
    /// Runs the subcommand and says why where it fails.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Init(command) => command.run(),
            Command::Enrol(command) => command.run(),
            Command::Key(command) => command.run(),
            Command::Host(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Prune(command) => command.run(),
            Command::Hold(command) => command.run(),
            Command::Witness(command) => command.run(),
        };
        outcome.unwrap_or_else(|error| {
            eprintln!("hostledger-collector: {}", in_words(&error));
            let config = error.downcast_ref::<ConfigError>().is_some()
                || error.downcast_ref::<BadSettings>().is_some();
            ExitCode::from(if config { BAD_CONFIG } else { FAILURE })
        })
    }
}

/// An error with its causes, each said once: many of ours say theirs already.
fn in_words(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |words, cause| {
        let cause = cause.to_string();
        match words.as_str() {
            "" => cause,
            said if said.contains(&cause) => words,
            said => format!("{said}: {cause}"),
        }
    })
}

/// The wall clock. The only place of this program, beside the drivers of the machines, that asks it.
fn now() -> WallNanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    WallNanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// An instant in RFC 3339, whole seconds.
fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |at| at.to_string())
}

/// Prints one JSON value for programs, or lines for people.
fn print(json: bool, value: &serde_json::Value, people: impl FnOnce() -> String) -> io::Result<()> {
    let text = if json { format!("{value:#}") } else { people() };
    say(text.trim_end())
}

/// Writes a line to standard output. A reader that went away (`| head`) has what it wanted: no fault.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
