//! An agent and its collector as real processes in a directory of their own.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agent::status::{self, Report};
use common::{
    batch::{ChainHead, SignedHeader, UnverifiedHeader},
    entry::UnverifiedEntry,
    event::Event,
    ids::{Hash, HostId, Sequence},
    spool::{SegmentId, scan_segment},
};
use ledger::{Local, fsck};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before the test fails for good. No test asserts a duration.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A program under test: where `cargo xtask test` says it is, or built now.
pub(crate) fn program(package: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<Mutex<BTreeMap<String, PathBuf>>> = OnceLock::new();
    if let Some(directory) = std::env::var_os("HOSTLEDGER_BIN_DIR") {
        return Path::new(&directory).join(name);
    }
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    built
        .entry(name.to_owned())
        .or_insert_with(|| {
            let status = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "-p", package, "--bin", name])
                .status()
                .unwrap();
            assert!(status.success(), "{name} does not build");
            let tests = std::env::current_exe().unwrap();
            tests.ancestors().nth(2).unwrap().join(name)
        })
        .clone()
}

/// Calls `look` until it gives something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Both ends, and where they live.
pub(crate) struct World {
    dir: tempfile::TempDir,
    ports: Ports,
    agent: Option<Child>,
    collector: Option<Child>,
    /// Flags of the agent.
    pub(crate) settings: Vec<String>,
    /// Flags of the collector.
    pub(crate) collector_settings: Vec<String>,
    pub(crate) host: HostId,
}

impl World {
    /// Keys, authority and registration; nothing runs yet.
    pub(crate) fn new(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self {
            dir,
            ports: Ports::free(),
            agent: None,
            collector: None,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            collector_settings: Vec::new(),
            host: HostId::default(),
        };
        let (a, c) = (world.agent_dir(), world.collector_dir());
        let agent = program("agent", "hostledger-agent");
        let collector = program("collector", "hostledger-collector");
        ran(Command::new(&collector)
            .args(["init", "--origin", "ledger.example/test", "--dir"])
            .arg(&c));
        let made = ran(Command::new(agent)
            .args([
                "init",
                "--output",
                "json",
                "--collector",
                &world.ports.ingest(),
                "--dir",
            ])
            .arg(&a));
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        world.host = made["host"].as_str().unwrap().parse().unwrap();
        ran(Command::new(&collector)
            .args(["enrol", "--dir"])
            .arg(&c)
            .arg("--csr")
            .arg(a.join("agent.csr"))
            .arg("--out")
            .arg(&a));
        world
    }

    /// A place of that name beside agent and collector.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    pub(crate) fn collector_dir(&self) -> PathBuf {
        self.dir.path().join("collector")
    }

    pub(crate) fn start_agent(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("agent.log"))
            .unwrap();
        let child = Command::new(program("agent", "hostledger-agent"))
            .args(["run", "--dir"])
            .arg(self.agent_dir())
            .args(&self.settings)
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
        until("the agent answers", || {
            if let Some(status) = self.agent.as_mut().unwrap().try_wait().unwrap() {
                panic!("the agent ended with {status}: {}", self.agent_log());
            }
            self.status()
        });
    }

    /// Starts the agent, which must end by itself with a fault; what it said.
    pub(crate) fn refuses_to_start(&self) -> String {
        let output = Command::new(program("agent", "hostledger-agent"))
            .args(["run", "--dir"])
            .arg(self.agent_dir())
            .args(&self.settings)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn start_collector(&mut self) {
        let settings = &self.collector_settings;
        self.collector = Some(run_collector(&self.collector_dir(), &self.ports, settings));
    }

    pub(crate) fn end_agent(&mut self, signal: Signal) -> ExitStatus {
        end(self.agent.take().unwrap(), signal)
    }

    #[cfg(feature = "privileged")]
    pub(crate) fn signal_agent(&self, signal: Signal) {
        kill_process(Pid::from_child(self.agent.as_ref().unwrap()), signal).unwrap();
    }

    pub(crate) fn end_collector(&mut self, signal: Signal) -> ExitStatus {
        end(self.collector.take().unwrap(), signal)
    }

    /// What the agent says of itself; `None` where it does not answer.
    pub(crate) fn status(&self) -> Option<Report> {
        status::ask(&self.agent_dir().join("state")).ok()
    }

    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// Headers of all whole batches in the spool, by sequence.
    pub(crate) fn spooled(&self) -> BTreeMap<Sequence, Hash> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(self.agent_dir().join("spool"))
            .unwrap()
            .flatten()
        {
            let name = entry.file_name();
            if let Some(segment) = name.to_str().and_then(SegmentId::from_file_name) {
                let bytes = std::fs::read(entry.path()).unwrap();
                let scan = scan_segment(&self.host, segment, &bytes);
                found.extend(scan.records.iter().map(|record| (record.sequence, record.hash)));
            }
        }
        found
    }

    /// Waits until every batch is proven to be in the ledger.
    pub(crate) fn drain(&self) {
        until("the spool drains", || {
            let report = self.status()?;
            let proven = report.shipping.as_ref()?.proven_before;
            (report.spool.batches <= 1 && proven + 1 >= report.chain.next_sequence && proven > 0)
                .then_some(())
        });
    }

    /// The ledger's entries of this host, in order, once a full check has found nothing wrong. Nobody may be
    /// writing.
    pub(crate) fn ledger(&self) -> Vec<(UnverifiedHeader, Vec<u8>)> {
        let entries = Mutex::new(BTreeMap::new());
        let storage = Local::open_reader(&self.collector_dir().join("ledger")).unwrap();
        let report = fsck::run(&storage, &fsck::Options::default(), &|leaf, header, body| {
            let entry = UnverifiedEntry::parse(header).map_err(|error| error.to_string())?;
            let UnverifiedEntry::Batch(parsed) = entry else {
                return Ok(());
            };
            let signed = SignedHeader::check(parsed.clone()).map_err(|error| error.to_string())?;
            signed.check_body(body).map_err(|error| error.to_string())?;
            if parsed.claimed().host == self.host {
                entries.lock().unwrap().insert(leaf, (parsed, body.to_vec()));
            }
            Ok(())
        });
        assert!(report.is_sound(), "{report:?}");
        entries.into_inner().unwrap().into_values().collect()
    }

    /// Where the collector's API listens.
    #[cfg(feature = "privileged")]
    pub(crate) fn api(&self) -> String {
        format!("http://{}", self.ports.http())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for mut child in [self.agent.take(), self.collector.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("the agent said:\n{}", self.agent_log());
        }
    }
}

fn end(mut child: Child, signal: Signal) -> ExitStatus {
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap()
}

/// Insists that a process ended as asked.
pub(crate) fn ended(status: ExitStatus) {
    assert!(status.success(), "{status}");
}

/// Where a collector listens.
pub(crate) struct Ports {
    udp: SocketAddr,
    tcp: SocketAddr,
}

impl Ports {
    /// Two that nobody has now.
    pub(crate) fn free() -> Self {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Self {
            udp: UdpSocket::bind(any).unwrap().local_addr().unwrap(),
            tcp: TcpListener::bind(any).unwrap().local_addr().unwrap(),
        }
    }

    /// For agents.
    pub(crate) fn ingest(&self) -> String {
        self.udp.to_string()
    }

    /// For everybody else.
    pub(crate) fn http(&self) -> String {
        self.tcp.to_string()
    }
}

/// Runs a collector in the directory there is.
pub(crate) fn run_collector(dir: &Path, ports: &Ports, settings: &[String]) -> Child {
    Command::new(program("collector", "hostledger-collector"))
        .args(["run", "--dir"])
        .arg(dir)
        .args(["--ingest-listen", &ports.ingest()])
        .args(["--http-listen", &ports.http()])
        .args(["--publish-interval", "50ms", "--log", "error"])
        .args(settings)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that the entries are one gapless chain; returns its events.
pub(crate) fn check_chain(host: HostId, entries: &[(UnverifiedHeader, Vec<u8>)]) -> Vec<Event> {
    let mut head = ChainHead::genesis(host);
    let mut events = Vec::new();
    for (header, body) in entries {
        let verified = head.accept(header.clone()).unwrap();
        let body = verified.check_body(body).unwrap();
        events.extend(body.events().map(|(_, event)| Event::decode(event).unwrap()));
    }
    events
}

/// Short processes, until dropped.
pub(crate) struct Churn {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut children: Vec<Child> = Vec::new();
                let mut turn = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let length = ["0", "0.02", "0.1", "0.3"][turn as usize % 4];
                    children.extend(Command::new("sleep").arg(length).spawn());
                    children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
                    thread::sleep(Duration::from_millis(10));
                }
                for mut child in children {
                    let _ = child.wait();
                }
            })
        };
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
