//! A real workload to watch: a process tree, and HTTP over loopback and between two network
//! namespaces, by IPv4 and IPv6.
//!
//! Owns everything it starts. Nothing outlives it: each process dies with its parent, namespaces are
//! anonymous and vanish with their last process, the virtual link vanishes with its namespaces. So
//! Ctrl-C or a crash leaves nothing behind, without any clean-up having to run.

mod http;
mod network;
mod tree;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

pub(crate) use http::Exchange;
use network::Namespaces;
use tree::Tree;

/// How many bytes each client asks for: distinct, so that an answer can be told from another.
const LOOPBACK_BYTES: [u64; 2] = [10_007, 20_011];
const NAMESPACE_BYTES: [u64; 2] = [300_007, 400_009];

/// Options of `cargo xtask workload`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The whole workload, held for some seconds.
    Run {
        /// How long it is held once everything is up, in seconds.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// One process of the tree, with its children below it, until its standard input ends.
    Grow {
        /// Its name, for whoever reads the process list.
        name: String,
        /// How many levels stand below it.
        levels: u32,
    },
    /// One HTTP server: answers `GET /N` with N bytes until its standard input ends.
    Serve {
        /// Addresses to listen on; port 0 lets the kernel choose.
        addresses: Vec<std::net::SocketAddr>,
    },
    /// One HTTP client: asks once, then holds the connection until its standard input ends.
    Fetch {
        /// The server.
        address: std::net::SocketAddr,
        /// How many bytes to ask for.
        bytes: u64,
    },
}

/// The command: one role.
pub(crate) fn command(options: &Options) -> Result<()> {
    match &options.role {
        Role::Run { seconds } => {
            let workload = Workload::start()?;
            for (process, role) in &workload.processes {
                println!("process {process}: {role}");
            }
            for exchange in &workload.exchanges {
                println!("{exchange}");
            }
            sleep(Duration::from_secs(*seconds));
            workload.stop()
        }
        Role::Grow { name, levels } => tree::grow(name, *levels),
        Role::Serve { addresses } => http::serve(addresses),
        Role::Fetch { address, bytes } => http::fetch(*address, *bytes),
    }
}

/// A running workload: servers up, clients answered, connections held open.
#[derive(Debug)]
pub(crate) struct Workload {
    /// What each client exchanged with its server.
    pub(crate) exchanges: Vec<Exchange>,
    /// Process ids with what they are, for the reader of a report.
    pub(crate) processes: Vec<(u32, String)>,
    // Stopped in this order: clients, servers, tree, and with the last process the namespaces.
    clients: Vec<Helper>,
    servers: Vec<Helper>,
    tree: Tree,
    namespaces: Namespaces,
}

impl Workload {
    /// Starts all of it; returns when every client has its answer.
    pub(crate) fn start() -> Result<Self> {
        let namespaces = Namespaces::make().context("two network namespaces with a link between them")?;
        let tree = Tree::start().context("the process tree")?;
        let mut servers = Vec::new();
        let mut clients = Vec::new();
        let mut exchanges = Vec::new();
        let mut processes = tree.processes();

        let mut loopback = Helper::start(&[], &["serve", "127.0.0.1:0", "[::1]:0"])?;
        let mut remote = Helper::start(&namespaces.enter_server(), &namespaces.serve_arguments())?;
        processes.push((loopback.id(), "HTTP server on loopback".to_owned()));
        processes.push((
            remote.id(),
            "HTTP server in the second network namespace".to_owned(),
        ));
        let plan = [
            (&mut loopback, LOOPBACK_BYTES, Vec::new(), "loopback"),
            (
                &mut remote,
                NAMESPACE_BYTES,
                namespaces.enter_client(),
                "between network namespaces",
            ),
        ];
        for (server, sizes, enter, place) in plan {
            for bytes in sizes {
                let address = server.line()?.strip_prefix("listening ").map(str::to_owned);
                let address = address.context("the server did not say where it listens")?;
                let mut client = Helper::start(&enter, &["fetch", &address, &bytes.to_string()])?;
                let ids = [client.id(), server.id()];
                exchanges.push(Exchange::read(&client.line()?, ids, place)?);
                processes.push((client.id(), format!("HTTP client, {place}")));
                clients.push(client);
            }
        }
        servers.extend([loopback, remote]);
        Ok(Self {
            exchanges,
            processes,
            clients,
            servers,
            tree,
            namespaces,
        })
    }

    /// Stops all of it, clients first, and waits for each process.
    pub(crate) fn stop(self) -> Result<()> {
        for helper in self.clients.into_iter().chain(self.servers) {
            helper.stop()?;
        }
        self.tree.stop()?;
        self.namespaces.remove()
    }
}

/// A process of ours in another role; it ends when its standard input does.
#[derive(Debug)]
struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Helper {
    fn start(enter: &[String], role: &[&str]) -> Result<Self> {
        let own = std::env::current_exe().context("our own program cannot be found")?;
        let mut command = dying_with_us();
        command.args(enter).arg(own).arg("workload").args(role);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("`setpriv` (of util-linux) could not be started")?;
        let input = child.stdin.take();
        let Some(out) = child.stdout.take() else {
            bail!("a helper without output")
        };
        Ok(Self {
            child,
            input,
            lines: BufReader::new(out),
        })
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("a helper of the workload ended early: {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }

    fn stop(mut self) -> Result<()> {
        if let Some(mut input) = self.input.take() {
            // It may have ended by itself; then there is nobody to tell.
            let _ = input.flush();
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("a helper of the workload ended with {status}");
        }
        Ok(())
    }
}

/// The start of a command whose process is killed when we die, however we die.
fn dying_with_us() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}
