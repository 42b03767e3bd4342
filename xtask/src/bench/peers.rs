//! NATS JetStream and PostgreSQL as peers of the collector: started in folders of their own, told to flush before
//! they answer, and ended however xtask ends.
//!
//! Owns their settings, which are those as installed but for what is said here. What is measured of them, and when,
//! is [`super::durable`]'s.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::shell::{output, quiet};

/// Where the peers listen; nothing of ours does.
const NATS_PORT: u16 = 14_222;
const POSTGRES_PORT: u16 = 15_432;
/// PostgreSQL refuses to run as root.
const POSTGRES_USER: &str = "postgres";
/// How long a peer may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one run of a contestant came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub(super) each_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// A program that hears this signal when xtask dies, whatever it dies of.
pub(super) fn bound_to_us(signal: &str, options: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(options).args(["--pdeathsig", signal, "--"]);
    command
}

/// A server, ended in order when dropped.
struct Running {
    child: Child,
    signal: &'static str,
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.child.id();
        let _ = quiet(Command::new("sh").args(["-c", &format!("kill -{} {id}", self.signal)]));
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Running {
    fn start(command: &mut Command, signal: &'static str, log: &Path, port: u16) -> Result<Self> {
        let file = fs::File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let mut running = Self {
            child: command.spawn().context("a peer could not be started")?,
            signal,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = running.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("nothing listens on port {port}; the peer said:\n{said}");
            }
            sleep(Duration::from_millis(50));
        }
        Ok(running)
    }
}

/// A JetStream server with an empty store.
pub(super) struct Nats {
    _running: Running,
}

impl Nats {
    pub(super) fn start(paths: &Paths, folder: &Path) -> Result<Self> {
        // Debian 12's 2.9 cannot flush before it answers; the one that setup builds can.
        let program = paths.tools_bin().join("nats-server");
        if !program.is_file() {
            bail!("nats-server is missing: run `cargo xtask setup --for bench`");
        }
        fs::create_dir_all(folder)?;
        let config = folder.join("nats.conf");
        fs::write(
            &config,
            format!(
                "listen: \"127.0.0.1:{NATS_PORT}\"\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
                folder.to_string_lossy()
            ),
        )?;
        let mut command = bound_to_us("TERM", &[]);
        command.arg(program).arg("-c").arg(&config);
        Ok(Self {
            _running: Running::start(&mut command, "TERM", &folder.join("log"), NATS_PORT)?,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{NATS_PORT}")
    }
}

/// A PostgreSQL with one table.
pub(super) struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    _running: Running,
}

impl Postgres {
    /// Starts one that `clients` can connect to.
    pub(super) fn start(folder: &Path, clients: usize) -> Result<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").context("Debian's `postgresql` is missing")?;
        let newest = versions.flatten().map(|entry| entry.path().join("bin")).max();
        let programs = newest.context("Debian's `postgresql` has no programs")?;
        let id = |flag| -> Result<u32> {
            Ok(output(Command::new("id").args([flag, POSTGRES_USER]))?
                .trim()
                .parse()?)
        };
        fs::create_dir_all(folder)?;
        chown(folder, Some(id("-u")?), Some(id("-g")?))?;
        let data = folder.join("data");
        let mut initdb = as_postgres(&programs, folder, "initdb");
        quiet(initdb.args(["--auth=trust", "-D"]).arg(&data))?;
        let mut server = as_postgres(&programs, folder, "postgres");
        server.arg("-D").arg(&data);
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={POSTGRES_PORT}"),
            format!("unix_socket_directories={}", folder.display()),
            // And those that it reserves for others.
            format!("max_connections={}", clients + 10),
        ] {
            server.arg("-c").arg(setting);
        }
        // SIGINT ends it at once and in order.
        let running = Running::start(&mut server, "INT", &folder.join("log"), POSTGRES_PORT)?;
        let postgres = Self {
            programs,
            folder: folder.to_owned(),
            _running: running,
        };
        let table = "CREATE TABLE leaves (leaf bigserial PRIMARY KEY, host int, bytes bytea)";
        let begun = Instant::now();
        // It listens before it lets anybody in.
        while let Err(error) = output(postgres.client("psql").args(["-d", "postgres", "-c", table])) {
            if begun.elapsed() > PATIENCE {
                return Err(error);
            }
            sleep(Duration::from_millis(50));
        }
        Ok(postgres)
    }

    fn client(&self, name: &str) -> Command {
        let mut command = as_postgres(&self.programs, &self.folder, name);
        command.args(["-h", "127.0.0.1", "-p", &POSTGRES_PORT.to_string()]);
        command
    }

    /// One insert of `payload` a transaction, from `clients` for so long.
    pub(super) fn measure(&self, payload: &str, clients: usize, seconds: u32) -> Result<Figures> {
        let script = self.folder.join("insert.sql");
        fs::write(
            &script,
            format!("INSERT INTO leaves (host, bytes) VALUES (:client_id, '\\x{payload}');\n"),
        )?;
        let mut pgbench = self.client("pgbench");
        pgbench
            .args(["-n", "-M", "simple", "-j", "2", "-l"])
            .args(["-c", &clients.to_string(), "-T", &seconds.to_string()])
            .arg(format!("--log-prefix={}", self.folder.join("wait").display()))
            .arg("-f")
            .arg(&script)
            .arg("postgres");
        let said = output(&mut pgbench)?;
        let rate = said.lines().find_map(|line| {
            let rest = line.trim().strip_prefix("tps = ")?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        });
        let waits = take_waits(&self.folder)?;
        let at = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default() / 1e3;
        Ok(Figures {
            each_second: rate.with_context(|| format!("pgbench said no rate: {said}"))?,
            p50_ms: at(50),
            p99_ms: at(99),
        })
    }
}

/// A program of PostgreSQL as its user, in its folder.
fn as_postgres(programs: &Path, folder: &Path, name: &str) -> Command {
    let user = [
        "--reuid",
        POSTGRES_USER,
        "--regid",
        POSTGRES_USER,
        "--init-groups",
    ];
    let mut command = bound_to_us("INT", &user);
    command.arg(programs.join(name)).current_dir(folder);
    command
}

/// Microseconds of every transaction that pgbench logged, sorted: the third word of a line. The logs go.
fn take_waits(folder: &Path) -> Result<Vec<f64>> {
    let mut found: Vec<f64> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("wait.") {
            let text = fs::read_to_string(entry.path())?;
            let words = text.lines().filter_map(|line| line.split_whitespace().nth(2));
            found.extend(words.filter_map(|word| word.parse::<f64>().ok()));
            fs::remove_file(entry.path())?;
        }
    }
    if found.is_empty() {
        bail!("pgbench logged no transaction in {}", folder.display());
    }
    found.sort_unstable_by(f64::total_cmp);
    Ok(found)
}
