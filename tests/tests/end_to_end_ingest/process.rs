//! The real collector program in a directory of its own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use collector::layout::Layout;

/// How long anything here may take before the test fails for good.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `done`.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < 2 * PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program under test: where `cargo xtask test` says it is, or built now.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(directory) = std::env::var_os("HOSTLEDGER_BIN_DIR") {
            return Path::new(&directory).join("hostledger-collector");
        }
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "-p",
                "collector",
                "--bin",
                "hostledger-collector",
            ])
            .status()
            .unwrap();
        assert!(built.success());
        let tests = std::env::current_exe().unwrap();
        tests.ancestors().nth(2).unwrap().join("hostledger-collector")
    })
}

/// Runs a subcommand to its end.
pub(crate) fn command(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .env_remove("HOSTLEDGER_COLLECTOR_DIR")
        .output()
        .unwrap()
}

/// A collector's directory, and the process that runs in it.
pub(crate) struct Collector {
    pub(crate) layout: Layout,
    pub(crate) ingest: SocketAddr,
    pub(crate) http: SocketAddr,
    child: Option<Child>,
    /// A program with its arguments that runs the collector; empty for none.
    pub(crate) wrapper: Vec<String>,
    pub(crate) settings: Vec<String>,
    _dir: Option<tempfile::TempDir>,
}

impl Collector {
    /// A new collector, running, with quick timers.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further settings as flags.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = Self::start_in(&dir.path().join("c"), settings);
        collector._dir = Some(dir);
        collector
    }

    /// The same in a directory of the caller's.
    pub(crate) fn start_in(dir: &Path, settings: &[&str]) -> Self {
        let layout = Layout::new(dir);
        let made = command(&[
            "init",
            "--dir",
            dir.to_str().unwrap(),
            "--origin",
            "ledger.example/test",
        ]);
        assert!(made.status.success(), "{made:?}");
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut collector = Self {
            layout,
            ingest: nowhere,
            http: nowhere,
            child: None,
            wrapper: Vec::new(),
            settings: settings.iter().map(|&s| s.to_owned()).collect(),
            _dir: None,
        };
        collector.run();
        collector
    }

    /// A copy of another collector's directory, running.
    pub(crate) fn in_copy(dir: &Path, settings: &[&str]) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut collector = Self {
            layout: Layout::new(dir),
            ingest: nowhere,
            http: nowhere,
            child: None,
            wrapper: Vec::new(),
            settings: settings.iter().map(|&s| s.to_owned()).collect(),
            _dir: None,
        };
        collector.run();
        collector
    }

    /// Starts the process in the directory there is.
    pub(crate) fn run(&mut self) {
        let words: Vec<&OsStr> = self
            .wrapper
            .iter()
            .map(OsStr::new)
            .chain([program().as_os_str()])
            .collect();
        let name = "--publish-interval";
        let interval = if self.settings.iter().any(|word| word == name) {
            Vec::new()
        } else {
            vec![name, "50ms"]
        };
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(["run", "--dir"])
            .arg(self.layout.root())
            .args(["--ingest-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--log", "warn"])
            .args(interval)
            .args(&self.settings)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut addresses = line.split_whitespace().skip(1).map(|word| {
            let (_, address) = word.split_once('=').unwrap();
            address.parse().unwrap()
        });
        self.ingest = addresses.next().unwrap_or_else(|| panic!("it said {line:?}"));
        self.http = addresses.next().unwrap();
        self.child = Some(child);
    }

    /// The running process's number.
    #[cfg(feature = "privileged")]
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends it with a signal and waits.
    pub(crate) fn end(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap()
    }

    /// Waits until it ends by itself.
    #[cfg(feature = "privileged")]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// Exit code and report of the offline check of its ledger.
    pub(crate) fn verify(&self) -> (Option<i32>, serde_json::Value) {
        let dir = self.layout.ledger();
        let done = command(&["verify", "--json", "--dir", dir.to_str().unwrap()]);
        (done.status.code(), serde_json::from_slice(&done.stdout).unwrap())
    }

    /// Whether the process runs.
    pub(crate) fn alive(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Status and body of a GET request.
    pub(crate) fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let split = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer[split + 4..].to_vec())
    }

    /// One number of `/metrics`; 0 where it does not appear.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, body) = self.get("/metrics");
        String::from_utf8(body)
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .next()
            .unwrap_or(0)
    }

    /// How often something was refused for this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.metric(&format!("hostledger_refused_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until a refusal is counted: the peer hears of it before the counter is read.
    pub(crate) fn await_refused(&self, reason: &str) {
        let begun = Instant::now();
        while self.refused(reason) == 0 {
            assert!(begun.elapsed() < PATIENCE, "no refusal for {reason} was counted");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
