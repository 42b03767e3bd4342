//! One collector and one agent in a folder, for the demo and the bench.
//!
//! Owns their keys' creation, start and stop. The folder:
//!
//! - `collector/`: authority, keys, settings, and the ledger as a plain tlog-tiles directory with its
//!   verifier key beside it (`collector/ledger/ledger.vkey`);
//! - `agent/`: keys, settings, spool;
//! - `collector.log`, `agent.log`: what the programs said;
//! - `running`: process ids while they are left running.
//!
//! Refuses to overwrite a folder that it did not make.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::build::Programs;
use crate::shell::{note, output};

/// How long a program may take to come up or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Marks a folder as ours to remove.
const MARK: &str = "made-by-xtask";
const RUNNING: &str = "running";
/// Folder, log and program of each are called after these.
const COLLECTOR: &str = "collector";
const AGENT: &str = "agent";

/// What becomes of the programs when xtask ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// They are told to stop, however xtask ends.
    Ours,
    /// They stay.
    Kept,
}

/// A collector and an agent.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The folder.
    pub(crate) folder: PathBuf,
    programs: Programs,
    lifetime: Lifetime,
    http: SocketAddr,
    collector: Child,
    agent: Child,
}

impl Fleet {
    /// Makes keys and settings in `folder`, starts both programs, and waits for the first batch in the
    /// ledger. `agent_settings` are variables of the agent's environment, which override its settings file.
    pub(crate) fn start(
        programs: &Programs,
        folder: &Path,
        lifetime: Lifetime,
        agent_settings: &[(&str, &str)],
    ) -> Result<Self> {
        empty(folder)?;
        let ingest = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        make_keys(programs, folder, ingest, http)?;
        let collector = spawn(programs, folder, lifetime, COLLECTOR, &[])?;
        let agent = spawn(programs, folder, lifetime, AGENT, agent_settings)?;
        let mut fleet = Self {
            folder: folder.to_path_buf(),
            programs: programs.clone(),
            lifetime,
            http,
            collector,
            agent,
        };
        if lifetime == Lifetime::Kept {
            let ids = format!("{}\n{}\n", fleet.agent.id(), fleet.collector.id());
            fs::write(folder.join(RUNNING), ids)?;
        }
        // The collector's statement that the host was enrolled, and the first batch.
        fleet.wait_for_leaves(2)?;
        Ok(fleet)
    }

    /// One of the three programs, by its path.
    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.programs.directory.join(name))
    }

    /// The address of the collector's API, tiles and checkpoints.
    pub(crate) fn api(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The agent's process id.
    pub(crate) fn agent(&self) -> u32 {
        self.agent.id()
    }

    /// The collector's process id.
    pub(crate) fn collector(&self) -> u32 {
        self.collector.id()
    }

    /// Where the ledger lies.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.join("collector/ledger")
    }

    /// What the agent says of itself.
    pub(crate) fn agent_status(&self) -> Result<Value> {
        let mut status = self.program("hostledger-agent");
        status
            .arg("status")
            .arg("--dir")
            .arg(self.folder.join(AGENT))
            .args(["-o", "json"]);
        serde_json::from_str(&output(&mut status)?).context("the agent's status")
    }

    /// Waits until everything the agent sealed is in the ledger.
    pub(crate) fn wait_until_drained(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let status = self.agent_status()?;
            if status["spool"]["batches"] == 0 {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "the spool still holds {} batches after {PATIENCE:?}",
                    status["spool"]["batches"]
                );
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Stops the collector alone; the agent goes on and keeps its batches.
    pub(crate) fn stop_collector(&mut self) -> Result<()> {
        end(&self.folder, COLLECTOR, &mut self.collector)
    }

    /// Starts the collector again.
    pub(crate) fn start_collector(&mut self) -> Result<()> {
        self.collector = spawn(&self.programs, &self.folder, self.lifetime, COLLECTOR, &[])?;
        Ok(())
    }

    /// Stops the agent, which seals and ships the rest, then the collector.
    pub(crate) fn stop(mut self) -> Result<()> {
        end(&self.folder, AGENT, &mut self.agent)?;
        end(&self.folder, COLLECTOR, &mut self.collector)
    }

    fn wait_for_leaves(&mut self, leaves: u64) -> Result<()> {
        let started = Instant::now();
        loop {
            for (name, child) in [(AGENT, &mut self.agent), (COLLECTOR, &mut self.collector)] {
                if let Some(status) = child.try_wait()? {
                    bail!(
                        "the {name} ended with {status}; it said:\n{}",
                        said(&self.folder, name)
                    );
                }
            }
            if self.leaves().is_ok_and(|found| found >= leaves) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let (agent, collector) = (said(&self.folder, AGENT), said(&self.folder, COLLECTOR));
                bail!(
                    "no batch reached the ledger within {PATIENCE:?}\nagent:\n{agent}\ncollector:\n{collector}"
                );
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// The size of the published ledger: the second line of its checkpoint.
    fn leaves(&self) -> Result<u64> {
        let mut connection = TcpStream::connect_timeout(&self.http, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        write!(connection, "GET /checkpoint HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.take(64 * 1024).read_to_string(&mut answer)?;
        let (_, note) = answer.split_once("\r\n\r\n").context("no answer")?;
        note.lines()
            .nth(1)
            .and_then(|size| size.parse().ok())
            .context("no checkpoint yet")
    }
}

/// Keys, settings and the agent's certificate.
fn make_keys(programs: &Programs, folder: &Path, ingest: SocketAddr, http: SocketAddr) -> Result<()> {
    let program = |name: &str| Command::new(programs.directory.join(name));
    let (collector, agent) = (folder.join(COLLECTOR), folder.join(AGENT));
    let mut init = program("hostledger-collector");
    init.arg("init")
        .arg("--dir")
        .arg(&collector)
        .args(["--origin", "hostledger.invalid/demo"]);
    init.args([
        "--ingest-listen",
        &ingest.to_string(),
        "--http-listen",
        &http.to_string(),
    ]);
    output(&mut init).context("the collector's keys")?;
    let mut init = program("hostledger-agent");
    init.arg("init")
        .arg("--dir")
        .arg(&agent)
        .args(["--collector", &ingest.to_string()]);
    output(&mut init).context("the agent's keys")?;
    let mut enrol = program("hostledger-collector");
    enrol
        .arg("enrol")
        .arg("--dir")
        .arg(&collector)
        .arg("--csr")
        .arg(agent.join("agent.csr"));
    output(enrol.arg("--out").arg(&agent)).context("the agent's certificate")?;
    Ok(())
}

/// Starts `hostledger-NAME run` in its folder, its diagnostics appended to NAME.log.
fn spawn(
    programs: &Programs,
    folder: &Path,
    lifetime: Lifetime,
    name: &str,
    settings: &[(&str, &str)],
) -> Result<Child> {
    let program = programs.directory.join(format!("hostledger-{name}"));
    let mut command = match lifetime {
        Lifetime::Kept => Command::new(program),
        Lifetime::Ours => {
            let mut command = Command::new("setpriv");
            // A clean stop: the agent seals and ships what it has.
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
    };
    // Ctrl-C in the terminal is for us; they hear of it in their order.
    command.process_group(0);
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(folder, name))?;
    command
        .arg("run")
        .arg("--dir")
        .arg(folder.join(name))
        .envs(settings.iter().copied())
        .stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    command
        .spawn()
        .with_context(|| format!("hostledger-{name} could not be started"))
}

fn end(folder: &Path, name: &str, child: &mut Child) -> Result<()> {
    terminate(child.id())?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            bail!("the {name} did not stop within {PATIENCE:?} and was killed");
        }
        sleep(Duration::from_millis(20));
    };
    if !status.success() {
        bail!("the {name} ended with {status}; it said:\n{}", said(folder, name));
    }
    Ok(())
}

fn log_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn said(folder: &Path, name: &str) -> String {
    fs::read_to_string(log_file(folder, name)).unwrap_or_default()
}

/// Stops programs that an earlier run left, if any.
pub(crate) fn stop_kept(folder: &Path) -> Result<()> {
    let list = folder.join(RUNNING);
    let Ok(text) = fs::read_to_string(&list) else {
        note("nothing was left running there");
        return Ok(());
    };
    for id in text
        .lines()
        .filter_map(|line| line.parse::<u32>().ok())
        .filter(|id| is_ours(*id))
    {
        terminate(id)?;
        let started = Instant::now();
        while is_ours(id) {
            if started.elapsed() > PATIENCE {
                bail!("process {id} does not stop");
            }
            sleep(Duration::from_millis(20));
        }
        note(&format!("stopped process {id}"));
    }
    fs::remove_file(&list)?;
    Ok(())
}

/// True if the process runs one of our programs: ids are reused, names of strangers differ.
fn is_ours(id: u32) -> bool {
    fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| {
        exe.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("hostledger-"))
    })
}

fn terminate(id: u32) -> Result<()> {
    output(Command::new("sh").args(["-c", &format!("kill -TERM {id}")])).map(drop)
}

/// Makes an empty folder, removing what an earlier run made there.
fn empty(folder: &Path) -> Result<()> {
    if folder.join(RUNNING).exists() {
        bail!(
            "a demo is still running in {0}: stop it with `cargo xtask demo --dir {0} --stop`",
            folder.display()
        );
    }
    if folder.exists() {
        let holds_nothing = fs::read_dir(folder)?.next().is_none();
        if !holds_nothing && !folder.join(MARK).is_file() {
            bail!(
                "{} exists and was not made by a demo: name another folder",
                folder.display()
            );
        }
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join(MARK),
        "This folder is made by `cargo xtask demo` and removed by its next run.\n",
    )?;
    Ok(())
}
