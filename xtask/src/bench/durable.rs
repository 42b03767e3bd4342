//! Leaves durable and under a checkpoint, beside NATS JetStream and PostgreSQL storing the same bytes.
//!
//! Owns the peers: started here in folders of their own on the same disk, told to flush before they answer, and
//! ended. Our collector is the real program, with its settings as installed. All take turns within one run.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::ingest::parse;
use super::report::Report;
use crate::paths::Paths;
use crate::shell::{cargo, note, output, quiet};

/// Where the peers listen; nothing of ours does.
const NATS_PORT: u16 = 14_222;
const POSTGRES_PORT: u16 = 15_432;
/// Connections of every contestant.
const CLIENTS: &str = "64";
/// How long PostgreSQL is measured, seconds.
const SECONDS: &str = "10";
/// How long a peer may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// One contestant's figures.
struct Figures {
    each_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Measures and adds the report's section. `collector` is the program.
pub(super) fn measure(paths: &Paths, collector: &Path, folder: &Path, report: &mut Report) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let ours = bench(paths, &["ours", &text(collector), &text(&folder.join("ours"))])?;
    let (stored, receipt) = (figures(&ours, "stored")?, figures(&ours, "receipt")?);
    line("ours, durable", &stored);
    line("ours, durable and under a checkpoint", &receipt);
    let nats = nats(paths, &folder.join("nats"))?;
    line("NATS JetStream", &nats);
    let payload = output(&mut bench_command(paths, &["payload"]))?;
    let payload = payload.trim();
    let postgres = Postgres::start(&folder.join("postgres"))?.measure(payload)?;
    line("PostgreSQL", &postgres);
    report
        .sections
        .push(("Durable and under a checkpoint".to_owned(), {
            let row = |name: &str, figures: &Figures| {
                format!(
                    "| {name} | {:.0} | {:.2} | {:.1} | {:.1} |\n",
                    figures.each_second,
                    receipt.each_second / figures.each_second,
                    figures.p50_ms,
                    figures.p99_ms
                )
            };
            format!(
                "{} batches of {} bytes (header and body) from {CLIENTS} hosts, each with 8 under way before they are \
                 durable; the same bytes from as many publishers with as many under way; and one insert a \
                 transaction, with the bytes in the statement, from {CLIENTS} clients for {SECONDS} s. Nobody answers \
                 before the flush: JetStream with `sync_interval: always`, PostgreSQL as installed. The wait is from \
                 sending to the answer.\n\n\
                 | | a second | ours under a checkpoint against it | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- |\n\
                 {}{}{}{}\n\
                 Goal: ahead of both, ratios above 1.",
                ours.get("receipt_count").copied().unwrap_or_default(),
                payload.len() / 2,
                row("hostledger, durable and under a checkpoint", &receipt),
                row("hostledger, durable", &stored),
                row("NATS JetStream", &nats),
                row("PostgreSQL", &postgres),
            )
        }));
    Ok(())
}

fn line(who: &str, figures: &Figures) {
    note(&format!(
        "{who}: {:.0} a second, p50 {:.1} ms, p99 {:.1} ms",
        figures.each_second, figures.p50_ms, figures.p99_ms
    ));
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn bench_command(paths: &Paths, words: &[&str]) -> Command {
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args([
            "bench", "--quiet", "--locked", "-p", "tests", "--bench", "durable",
        ])
        .arg("--")
        .args(words);
    command
}

fn bench(paths: &Paths, words: &[&str]) -> Result<BTreeMap<String, f64>> {
    Ok(parse(&output(&mut bench_command(paths, words))?))
}

fn figures(values: &BTreeMap<String, f64>, name: &str) -> Result<Figures> {
    let value = |what: &str| {
        let key = format!("{name}_{what}");
        values
            .get(&key)
            .copied()
            .with_context(|| format!("the measurement has no {key}"))
    };
    Ok(Figures {
        each_second: value("each_second")?,
        p50_ms: value("p50_us")? / 1e3,
        p99_ms: value("p99_us")? / 1e3,
    })
}

/// Ends a program whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nats(paths: &Paths, folder: &Path) -> Result<Figures> {
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
            text(folder)
        ),
    )?;
    let child = Command::new(program)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let running = Running(child);
    wait_for(NATS_PORT)?;
    let measured = bench(paths, &["nats", &format!("127.0.0.1:{NATS_PORT}")])?;
    drop(running);
    figures(&measured, "nats")
}

fn wait_for(port: u16) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > PATIENCE {
            bail!("nothing listens on port {port}");
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A PostgreSQL of our own. It refuses to run as root.
struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
}

impl Postgres {
    fn start(folder: &Path) -> Result<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").context("Debian's `postgresql` is missing")?;
        let newest = versions.flatten().map(|entry| entry.path().join("bin")).max();
        let id = |flag| -> Result<u32> {
            Ok(output(Command::new("id").args([flag, "postgres"]))?
                .trim()
                .parse()?)
        };
        fs::create_dir_all(folder)?;
        chown(folder, Some(id("-u")?), Some(id("-g")?))?;
        let postgres = Self {
            programs: newest.context("Debian's `postgresql` has no programs")?,
            folder: folder.to_owned(),
        };
        let data = text(&folder.join("data"));
        quiet(postgres.program("initdb").args(["--auth=trust", "-D", &data]))?;
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={POSTGRES_PORT} -c unix_socket_directories={}",
            text(folder)
        );
        let log = text(&folder.join("log"));
        quiet(
            postgres
                .program("pg_ctl")
                .args(["start", "-w", "-D", &data, "-l", &log, "-o", &options]),
        )?;
        Ok(postgres)
    }

    /// A program of PostgreSQL as its user, in its folder.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("runuser");
        command
            .args(["-u", "postgres", "--"])
            .arg(self.programs.join(name))
            .current_dir(&self.folder);
        command
    }

    fn measure(&self, payload: &str) -> Result<Figures> {
        let port = POSTGRES_PORT.to_string();
        let at = ["-h", "127.0.0.1", "-p", &port];
        let table = "CREATE TABLE leaves (leaf bigserial PRIMARY KEY, host int, bytes bytea)";
        quiet(
            self.program("psql")
                .args(at)
                .args(["-d", "postgres", "-c", table]),
        )?;
        let script = self.folder.join("insert.sql");
        fs::write(
            &script,
            format!("INSERT INTO leaves (host, bytes) VALUES (:client_id, '\\x{payload}');\n"),
        )?;
        let log = text(&self.folder.join("wait"));
        let said = output(
            self.program("pgbench")
                .args(at)
                .args([
                    "-n", "-M", "simple", "-c", CLIENTS, "-j", "2", "-T", SECONDS, "-l",
                ])
                .arg(format!("--log-prefix={log}"))
                .arg("-f")
                .arg(&script)
                .arg("postgres"),
        )?;
        let rate = said.lines().find_map(|line| {
            let rest = line.trim().strip_prefix("tps = ")?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        });
        let waits = waits(&self.folder)?;
        let at = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default() / 1e3;
        Ok(Figures {
            each_second: rate.with_context(|| format!("pgbench said no rate: {said}"))?,
            p50_ms: at(50),
            p99_ms: at(99),
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = text(&self.folder.join("data"));
        let _ = quiet(
            self.program("pg_ctl")
                .args(["stop", "-m", "immediate", "-D", &data]),
        );
    }
}

/// Microseconds of every transaction that pgbench logged, sorted: the third word of a line.
fn waits(folder: &Path) -> Result<Vec<f64>> {
    let mut found: Vec<f64> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("wait.") {
            let text = fs::read_to_string(entry.path())?;
            let words = text.lines().filter_map(|line| line.split_whitespace().nth(2));
            found.extend(words.filter_map(|word| word.parse::<f64>().ok()));
        }
    }
    if found.is_empty() {
        bail!("pgbench logged no transaction in {}", folder.display());
    }
    found.sort_unstable_by(f64::total_cmp);
    Ok(found)
}
